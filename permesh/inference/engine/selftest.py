"""Whether a model gives the same answer split as whole, before it is served to anybody.

Owns the comparison. One architecture is known to split without an error and compute something
else (iquestloopcoder), so that a model runs is no proof: the numbers are compared.

Where the model does not fit, it is streamed: each layer is read, used once and forgotten, in a
fresh copy for each pass. So a member may test a model of which it can only hold a few layers.
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import psutil
from mlx_lm.models.cache import make_prompt_cache

from permesh.errors import PermeshError
from permesh.inference import catalogue
from permesh.inference.engine.loader import LoadedModel, check_span, on_cpu, prepare
from permesh.inference.engine.split import Layer, Stage, install

# Two prefills and two single tokens: chunks after the first and decoding take other masks.
PASSES = (5, 3, 1, 1)
# Equal shapes give equal bits on a CPU; on a GPU a kernel may be chosen otherwise. What is wrong
# is wrong by its whole size.
TOLERANCE = 1e-3
# Held whole where that takes less than this share of the free memory, streamed otherwise.
WHOLE_SHARE = 0.3


def self_test(folder: Path, first: int, last: int) -> None:
    """Compare split at ``first`` and ``last`` with whole; raises ``PermeshError``.

    Codes: ``model.changed`` (hashes), ``model.cannot_split``, and those of loading.
    """
    info = catalogue.read_card(folder)
    catalogue.verify_hashes(info)
    layers = LoadedModel.open(folder).layers
    check_span(first, last, layers)
    cuts = sorted({0, first, last, layers})
    try:
        _compare(folder, list(itertools.pairwise(cuts)))
    except PermeshError:
        raise
    except Exception as error:
        # mlx-lm's models raise whatever their own code runs into when it is run in parts.
        raise _failed(info.name, f"it fails in parts ({error})") from error
    finally:
        mx.clear_cache()


def _compare(folder: Path, spans: list[tuple[int, int]]) -> None:
    copies = _Copies(folder)
    whole_caches: list[Any] = []
    caches: list[list[Any]] = []
    position = 0
    for positions in PASSES:
        tokens = mx.array([[2 + number % 13 for number in range(position, position + positions)]])
        position += positions
        loaded = copies.next()
        whole_caches = whole_caches or make_prompt_cache(loaded.model)
        whole = loaded.model(tokens, cache=whole_caches)
        mx.eval(whole)
        loaded = copies.next()
        stages = [Stage(loaded.model, loaded.examine(), *span) for span in spans]
        caches = caches or [stage.make_caches()[0] for stage in stages]
        value: Any = None
        for stage, cache in zip(stages, caches, strict=True):
            value = stage.run(cache, tokens=None if stage.first else tokens, value=value)
        _check_equal(folder, whole, value)


def _check_equal(folder: Path, whole: mx.array, split: mx.array) -> None:
    if whole.shape != split.shape:
        raise _failed(folder.name, "its parts give another shape than the whole")
    scale = mx.maximum(mx.abs(whole).max(), 1e-6)
    difference = float(mx.abs(whole - split).max() / scale)
    if not difference <= TOLERANCE:  # so that NaN fails too
        raise _failed(folder.name, f"its parts give another answer than the whole ({difference:g})")


class _Copies:
    """A model to run once: the same one each time if it fits, else a fresh one that forgets."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._loaded = LoadedModel.open(folder)
        needed = self._loaded.bytes_when_whole()
        self.streamed = needed > WHOLE_SHARE * psutil.virtual_memory().available
        if not self.streamed:
            self._loaded.hold(0, self._loaded.layers, True)

    def next(self) -> LoadedModel:
        if not self.streamed:
            return self._loaded
        loaded = LoadedModel.open(self._folder)
        anatomy = loaded.examine()
        loaded.hold(0, 0, True)
        once = tuple(_Once(layer) for layer in anatomy.layers)
        loaded.use_anatomy(replace(anatomy, layers=once))
        install(anatomy.places, list(once))
        return loaded


class _Once:
    """A layer that is read when it is called, and forgotten after."""

    def __init__(self, layer: Layer) -> None:
        self._layer = layer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._layer, name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        prepare(self._layer, dense=on_cpu())
        out = self._layer(*args, **kwargs)
        given = (*args, *kwargs.values())
        mx.eval(out, [cache.state for cache in given if hasattr(cache, "state")])
        self._layer.apply(lambda _: mx.zeros((1,)))
        mx.clear_cache()
        return out


def _failed(name: str, why: str) -> PermeshError:
    return PermeshError(
        "model.cannot_split",
        f"The model '{name}' cannot be split by layers: {why}.",
        "Run it whole on one member, or choose another model.",
    )
