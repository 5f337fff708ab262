"""A member holds what it serves and no more."""

from __future__ import annotations

from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import pytest
from mlx.utils import tree_flatten

from permesh.errors import PermeshError
from permesh.inference.catalogue import ModelInfo
from permesh.inference.engine.loader import LoadedModel, prepare

from . import tiny

LAYER_BYTES = 4 * (2 * 32 * 32 + 2 * 16 * 32 + 3 * 32 * 64 + 2 * 32)
EMBEDDING_BYTES = 4 * tiny.VOCABULARY * 32


@pytest.fixture(scope="module")
def info(tmp_path_factory: pytest.TempPathFactory) -> ModelInfo:
    return tiny.make(tmp_path_factory.mktemp("models"))


def test_only_the_held_layers_are_read(info: ModelInfo) -> None:
    before = mx.get_active_memory()
    loaded = LoadedModel.open(info.path)
    loaded.hold(2, 4, False)
    held = mx.get_active_memory() - before
    assert loaded.needed_bytes() == 2 * LAYER_BYTES
    assert held <= 1.1 * loaded.needed_bytes()
    assert loaded.weight_bytes <= 1.1 * loaded.needed_bytes()


def test_what_is_held_grows_and_is_counted_once(info: ModelInfo) -> None:
    loaded = LoadedModel.open(info.path)
    loaded.hold(0, 2, True)
    assert loaded.needed_bytes() == 2 * LAYER_BYTES + EMBEDDING_BYTES + 4 * 32
    loaded.hold(5, 6, True)
    loaded.hold(1, 2, False)
    assert loaded.spans() == [[0, 2], [5, 6]]
    assert loaded.needed_bytes() == 3 * LAYER_BYTES + EMBEDDING_BYTES + 4 * 32
    loaded.hold(2, 5, False)
    loaded.check_whole()
    assert loaded.spans() == [[0, 6]]


def test_stored_halves_become_float32_on_a_cpu() -> None:
    model = tiny.build("llama")
    model.set_dtype(mx.bfloat16)
    layer = model.layers[0]
    prepare(layer, dense=True)
    assert {array.dtype for _, array in tree_flatten(layer.parameters())} == {mx.float32}
    assert model.layers[1].mlp.up_proj.weight.dtype == mx.bfloat16


@pytest.mark.parametrize("dense", [True, False])
def test_packed_weights(*, dense: bool) -> None:
    model = tiny.build("qwen3_moe")
    nn.quantize(model, group_size=32, bits=4)
    layer = model.layers[0]
    given = mx.random.normal((1, 3, 32))
    packed = layer(given, None, None)
    prepare(layer, dense=dense)
    kinds = {type(part).__name__ for _, part in layer.named_modules()}
    assert any(kind.startswith("Quantized") for kind in kinds) != dense
    assert mx.allclose(packed, layer(given, None, None), atol=1e-4)


def test_layers_that_are_not_held_cannot_be_run(info: ModelInfo) -> None:
    loaded = LoadedModel.open(info.path)
    loaded.hold(2, 4, False)
    for first, last in ((1, 3), (3, 5), (0, 6)):
        with pytest.raises(PermeshError) as refused:
            loaded.stage(first, last)
        assert refused.value.code == "layers.not_held"
    with pytest.raises(PermeshError) as refused:
        loaded.check_whole()
    assert refused.value.code == "layers.not_held"


@pytest.mark.parametrize(("first", "last"), [(0, 7), (-1, 2), (3, 3), (4, 2), (0, 2**70), ("0", 1)])
def test_layers_out_of_range(info: ModelInfo, first: int, last: int) -> None:
    loaded = LoadedModel.open(info.path)
    with pytest.raises(PermeshError) as refused:
        loaded.hold(first, last, False)
    assert refused.value.code == "layers.out_of_range"


def test_weights_that_vanish_are_an_error_and_not_a_crash(tmp_path: Path) -> None:
    info = tiny.make(tmp_path)
    loaded = LoadedModel.open(info.path)
    with (info.path / "model.safetensors").open("r+b") as file:
        file.truncate(5000)
    with pytest.raises(PermeshError) as refused:
        loaded.hold(0, 6, True)
    assert refused.value.code == "model.unreadable"


def test_a_model_that_does_not_fit_is_refused(
    info: ModelInfo, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full:
        available = 1000

    monkeypatch.setattr("psutil.virtual_memory", Full)
    with pytest.raises(PermeshError) as refused:
        LoadedModel.open(info.path).hold(0, 2, True)
    assert refused.value.code == "model.too_large"


def test_what_cannot_be_split_can_be_held_whole(tmp_path: Path) -> None:
    info = tiny.make(tmp_path, "iquestloopcoder")
    loaded = LoadedModel.open(info.path)
    with pytest.raises(PermeshError) as refused:
        loaded.hold(2, 4, False)
    assert refused.value.code == "model.cannot_split"
    loaded.hold(0, 6, True)
    loaded.check_whole()
