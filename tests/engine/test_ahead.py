"""What is built before its input is there gives what would have been built with it, bit for bit."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from permesh.inference.engine import stage as stage_module
from permesh.inference.engine.ahead import Blanks, writes_arrive
from permesh.inference.engine.split import Stage, examine
from permesh.inference.engine.stage import Leg

from . import tiny

WIDTH = 32


def make_leg(kind: str, **changes: Any) -> Leg:
    model = tiny.build(kind, **changes)
    return Leg(Stage(model, examine(model), 2, 4), 64)


def values(count: int, positions: int = 1) -> list[mx.array]:
    return list(mx.random.normal((count, 1, positions, WIDTH), key=mx.random.key(7)))


def step(leg: Leg, value: mx.array, *, ahead: bool) -> np.ndarray:
    out = leg.run(value.shape[1], value=value)
    mx.eval(out)
    if ahead:
        leg.prepare()
    return np.array(out)


@pytest.mark.parametrize("dtype", [mx.float32, mx.float16, mx.bfloat16, mx.int32])
def test_blanks_are_read_when_the_computation_runs(dtype: mx.Dtype) -> None:
    blanks = Blanks([mx.zeros((1, 3), dtype)])
    later = blanks.parts[0] + blanks.parts[0]
    blanks.fill([mx.array([[1, 2, 3]]).astype(dtype)])
    assert later.dtype == dtype
    assert later.astype(mx.float32).tolist() == [[2, 4, 6]]


def test_a_value_of_another_type_is_never_squeezed_in() -> None:
    blanks = Blanks([mx.zeros((2,), mx.int32)])
    with pytest.raises(TypeError):
        blanks.fill([mx.array([0.5, 1.5])])


def test_this_backend_takes_what_is_written_afterwards() -> None:
    assert writes_arrive()


# gemma3_text: windows of 4 positions, over which its caches rotate; mamba: no way back at all.
@pytest.mark.parametrize("kind", ["llama", "gemma2", "gemma3_text", "qwen3_moe", "mamba"])
def test_building_ahead_changes_no_bit(kind: str) -> None:
    plain, ahead = make_leg(kind), make_leg(kind)
    prompt = values(1, 5)[0]
    for leg in (plain, ahead):
        step(leg, prompt, ahead=False)
    for value in values(12):
        want = step(plain, value, ahead=False)
        assert np.array_equal(step(ahead, value, ahead=True), want)


def test_a_step_that_was_built_is_not_built_again(monkeypatch: pytest.MonkeyPatch) -> None:
    leg = make_leg("llama")
    first, second = values(2)
    step(leg, first, ahead=True)

    def build(*_: Any, **__: Any) -> None:
        raise AssertionError("built again")

    monkeypatch.setattr(leg.stage, "run", build)
    step(leg, second, ahead=False)


def test_what_comes_instead_of_the_next_position_finds_the_caches_as_they_were() -> None:
    plain, ahead = make_leg("llama"), make_leg("llama")
    for leg, early in ((plain, False), (ahead, True)):
        for value in values(4):
            step(leg, value, ahead=early)
    chunk, single = values(1, 3)[0], values(1)[0]
    # Three positions at once, then back to an earlier one, then back to the start.
    for start, value in ((4, chunk), (2, single), (3, chunk), (0, chunk), (3, single)):
        results = []
        for leg, early in ((plain, False), (ahead, True)):
            leg.seek(start, value.shape[1])
            results.append(step(leg, value, ahead=early))
        assert np.array_equal(*results)


def test_nothing_is_built_beyond_the_session() -> None:
    leg = make_leg("llama")
    leg.limit = 2
    for value in values(2):
        step(leg, value, ahead=True)
    assert leg.prepare() is None


def test_nothing_is_built_where_writes_do_not_arrive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage_module, "writes_arrive", lambda: False)
    leg = make_leg("llama")
    step(leg, values(1)[0], ahead=False)
    assert leg.prepare() is None


@pytest.mark.parametrize("kind", ["mamba", "qwen3_next"])
def test_nothing_is_built_where_caches_cannot_go_back(kind: str) -> None:
    leg = make_leg(kind)
    step(leg, values(1)[0], ahead=False)
    assert leg.prepare() is None
