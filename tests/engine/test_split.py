"""Every architecture, split in three, computes what it computes whole; or says that it cannot."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import pytest
from mlx_lm.models.cache import make_prompt_cache

from permesh.errors import PermeshError
from permesh.inference.engine.split import Stage, examine

from . import tiny

# A prefill, a second chunk of another length, then decoding past the sliding windows of 4.
PASSES = (5, 3, 1, 1)
SPANS = ((0, 2), (2, 5), (5, 6))


def tokens(start: int, count: int) -> mx.array:
    return mx.array([[2 + 7 * number % 250 for number in range(start, start + count)]])


@pytest.mark.parametrize("kind", tiny.CONFIGS)
def test_three_stages_equal_the_whole_bit_for_bit(kind: str) -> None:
    model = tiny.build(kind)
    anatomy = examine(model)
    stages = [Stage(model, anatomy, *span) for span in SPANS]
    caches = [stage.make_caches()[0] for stage in stages]
    whole_caches = make_prompt_cache(model)
    position = 0
    for count in PASSES:
        given = tokens(position, count)
        position += count
        whole = model(given, cache=whole_caches)
        value: Any = None
        for stage, cache in zip(stages, caches, strict=True):
            value = stage.run(cache, tokens=None if stage.first else given, value=value)
        assert mx.array_equal(whole, value), f"{kind} differs at {position}"


@pytest.mark.parametrize("kind", ["llama", "gemma3_text", "qwen3_next"])
def test_a_stage_without_its_neighbours_cache_kinds_still_gets_its_masks(kind: str) -> None:
    # One layer at a time: most stages then lack the slots that masks are made from.
    model = tiny.build(kind)
    anatomy = examine(model)
    stages = [Stage(model, anatomy, layer, layer + 1) for layer in range(6)]
    caches = [stage.make_caches()[0] for stage in stages]
    whole_caches = make_prompt_cache(model)
    position = 0
    for count in PASSES:
        given = tokens(position, count)
        position += count
        whole = model(given, cache=whole_caches)
        value: Any = None
        for stage, cache in zip(stages, caches, strict=True):
            value = stage.run(cache, tokens=None if stage.first else given, value=value)
        assert mx.array_equal(whole, value)


@pytest.mark.parametrize("kind", tiny.UNSPLITTABLE)
def test_what_cannot_be_split_says_so_before_anything_is_computed(kind: str) -> None:
    model = tiny.build(kind)
    with pytest.raises(PermeshError) as refused:
        examine(model)
    assert refused.value.code == "model.cannot_split"
    assert kind.removesuffix("_text") in refused.value.message


def test_a_value_of_two_arrays_keeps_its_form() -> None:
    model = tiny.build("rwkv7")
    template = examine(model).templates[0]
    assert len(template.parts(template.build(template.parts((mx.ones(3), mx.zeros(2)))))) == 2


def test_the_model_is_as_it_was_after_a_stage_has_failed() -> None:
    model = tiny.build("llama")
    anatomy = examine(model)
    stage = Stage(model, anatomy, 2, 4)
    caches, _ = stage.make_caches()
    with pytest.raises(ValueError, match="rms_norm"):
        stage.run(caches, value=mx.zeros((1, 3, 31)))  # a width that no weight fits
    assert all(a is b for a, b in zip(model.layers, anatomy.layers, strict=True))


def test_stages_outside_the_model_are_refused() -> None:
    model = tiny.build("llama")
    anatomy = examine(model)
    for first, last in ((-1, 3), (3, 3), (4, 2), (2, 7)):
        with pytest.raises(ValueError, match="no layers"):
            Stage(model, anatomy, first, last)
