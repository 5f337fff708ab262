"""Folders that are not what they say are refused, with the reason."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from permesh.errors import NotFound, PermeshError
from permesh.inference import catalogue
from permesh.inference.engine.loader import LoadedModel

from . import tiny


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make(tmp_path_factory.mktemp("models")).path


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "tiny"))


def code_of(folder: Path) -> str:
    with pytest.raises(PermeshError) as refused:
        LoadedModel.open(folder)
    assert folder.name in refused.value.message or "tiny" in refused.value.message
    return refused.value.code


def test_models_are_found_by_name(folder: Path) -> None:
    models = folder.parent
    info = catalogue.find(models, "tiny")
    assert (info.name, info.layers, info.path) == ("tiny", 6, folder)
    assert catalogue.list_models(models) == [info]
    assert info.bytes == sum(file.stat().st_size for file in catalogue.model_files(folder))
    catalogue.verify_hashes(info)


def test_the_revision_is_of_the_files_alone(folder: Path) -> None:
    again = catalogue.write_card(folder, "other", 6, "elsewhere", lambda *_: None)
    assert again.revision == catalogue.read_card(folder).revision
    (folder / "config.json").write_text("{}")
    changed = catalogue.write_card(folder, "other", 6, "elsewhere", lambda *_: None)
    assert changed.revision != again.revision


@pytest.mark.parametrize("name", ["nope", "org/nope"])
def test_an_unknown_model_says_how_to_fetch_it(tmp_path: Path, name: str) -> None:
    with pytest.raises(NotFound, match="permesh model fetch") as refused:
        catalogue.find(tmp_path, name)
    assert refused.value.code == "model.unknown"


@pytest.mark.parametrize("name", ["", "../x", "a/b/c", "a/..", ".hidden", "a" * 200, "a b", "é"])
def test_names_that_are_no_names(tmp_path: Path, name: str) -> None:
    with pytest.raises(NotFound):
        catalogue.find(tmp_path, name)


@pytest.mark.parametrize("cut", [0, 4, 8, 100, -1])
def test_truncated_weights(folder: Path, cut: int) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:cut])
    assert code_of(folder) == "model.truncated"


def test_weights_that_are_too_long(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes() + b"\0")
    assert code_of(folder) == "model.truncated"


@pytest.mark.parametrize(
    "header", [b"\xff" * 40, b"[]", b'{"x": {}}', b'{"x": {"data_offsets": [5, 1]}}', b"[" * 4000]
)
def test_weights_with_a_broken_header(folder: Path, header: bytes) -> None:
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    assert code_of(folder) == "model.config"


def test_a_header_longer_than_any(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes((2**63).to_bytes(8, "little") + b"{}")
    assert code_of(folder) == "model.truncated"


def test_missing_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    assert code_of(folder) == "model.truncated"


@pytest.mark.parametrize(
    "weight_map", [{"a": "model-00002-of-00002.safetensors"}, {"nothing": "model.safetensors"}]
)
def test_an_index_that_names_what_is_not_there(folder: Path, weight_map: Any) -> None:
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": weight_map}))
    assert code_of(folder) == "model.truncated"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("not json", "model.config"),
        ("[]", "model.config"),
        ("{}", "model.config"),
        ('{"model_type": "../../evil"}', "model.config"),
        ('{"model_type": "no_such_architecture"}', "model.config"),
        ('{"model_type": "base"}', "model.config"),
        ('{"model_type": "llama"}', "model.config"),
        ('{"model_type": "llama", "auto_map": {}}', "model.custom_code"),
        ('{"model_type": "llama", "model_file": "run_me.py"}', "model.custom_code"),
        ("[" * 100_000, "model.config"),
    ],
)
def test_configs_that_are_refused(folder: Path, text: str, code: str) -> None:
    (folder / "config.json").write_text(text)
    assert code_of(folder) == code


def test_weights_that_do_not_fit_the_config(folder: Path) -> None:
    path = folder / "config.json"
    path.write_text(path.read_text().replace('"hidden_size": 32', '"hidden_size": 64'))
    assert code_of(folder) == "model.config"


def test_a_tokenizer_with_code_of_its_own_is_not_run(folder: Path, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    (folder / "evil.py").write_text(f"open({str(marker)!r}, 'w')\nclass Evil: pass")
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "Evil", "auto_map": {"AutoTokenizer": ["evil.Evil", None]}})
    )
    loaded = LoadedModel.open(folder)
    with pytest.raises(PermeshError) as refused:
        loaded.read_tokenizer()
    assert refused.value.code == "model.config"
    assert not marker.exists()


@pytest.mark.parametrize(
    "card",
    ["", "{}", '{"name": 3}', '{"name":"a","revision":"x","source":"s","layers":1,"bytes":1}'],
)
def test_a_broken_card_is_no_model(folder: Path, card: str) -> None:
    (folder / catalogue.CARD).write_text(card)
    assert catalogue.list_models(folder.parent) == []
    with pytest.raises(PermeshError) as refused:
        catalogue.find(folder.parent, "tiny")
    assert refused.value.code == "model.config"


def test_no_folder_at_all(tmp_path: Path) -> None:
    with pytest.raises(PermeshError):
        LoadedModel.open(tmp_path / "tiny")
