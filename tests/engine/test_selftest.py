"""The self-test passes what splits, and catches what splits without an error and is wrong."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from mlx_lm.models import llama

from permesh.errors import PermeshError
from permesh.inference.engine import selftest
from permesh.inference.engine.split import Stage, examine

from . import tiny


class ForgetfulModel(llama.LlamaModel):
    """Adds the token's embedding again after its layers: stubs hide nothing, and it is wrong.

    A middle stage sees no tokens, but the last one computes with those it does not have.
    """

    def __call__(self, inputs: mx.array, cache: Any = None, *_: Any) -> mx.array:
        return super().__call__(inputs, cache) + self.embed_tokens(inputs)


class Model(llama.Model):
    def __init__(self, args: llama.ModelArgs) -> None:
        super().__init__(args)
        self.model = ForgetfulModel(args)


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> str:
    """An architecture that examining finds nothing wrong with."""
    module = types.ModuleType("mlx_lm.models.forgetful")
    module.Model, module.ModelArgs = Model, llama.ModelArgs  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(tiny.CONFIGS, "forgetful", tiny.CONFIGS["llama"])
    return "forgetful"


@pytest.mark.parametrize("streamed", [False, True])
def test_what_splits_passes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, streamed: bool
) -> None:
    monkeypatch.setattr(selftest, "WHOLE_SHARE", 0.0 if streamed else 1.0)
    info = tiny.make(tmp_path, "gemma3_text")
    selftest.self_test(info.path, 2, 4)


@pytest.mark.parametrize("streamed", [False, True])
def test_a_silent_failure_is_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, silent: str, *, streamed: bool
) -> None:
    monkeypatch.setattr(selftest, "WHOLE_SHARE", 0.0 if streamed else 1.0)
    model = tiny.build(silent)
    anatomy = examine(model)
    Stage(model, anatomy, 2, 4)  # no error so far: that is what makes it dangerous
    info = tiny.make(tmp_path, silent)
    with pytest.raises(PermeshError) as refused:
        selftest.self_test(info.path, 2, 4)
    assert refused.value.code == "model.cannot_split"
    assert "another answer" in refused.value.message


@pytest.mark.parametrize("kind", tiny.UNSPLITTABLE)
def test_what_cannot_be_split_is_refused(tmp_path: Path, kind: str) -> None:
    info = tiny.make(tmp_path, kind)
    with pytest.raises(PermeshError) as refused:
        selftest.self_test(info.path, 2, 4)
    assert refused.value.code == "model.cannot_split"


def test_streaming_holds_one_layer_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(selftest, "WHOLE_SHARE", 0.0)
    info = tiny.make(tmp_path, intermediate_size=2048)
    layer = 4 * 3 * 32 * 2048
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    selftest.self_test(info.path, 2, 4)
    # Six layers would be held at once; beside the one there are the ends and the caches.
    assert mx.get_peak_memory() - before < 3 * layer


def test_changed_weights_are_caught(tmp_path: Path) -> None:
    info = tiny.make(tmp_path)
    path = info.path / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(PermeshError) as refused:
        selftest.self_test(info.path, 2, 4)
    assert refused.value.code == "model.changed"
    assert "model.safetensors" in refused.value.message


def test_layers_out_of_range(tmp_path: Path) -> None:
    info = tiny.make(tmp_path)
    with pytest.raises(PermeshError) as refused:
        selftest.self_test(info.path, 2, 9)
    assert refused.value.code == "layers.out_of_range"
