"""Run some of a model's layers by mlx-lm's own forward pass, for every architecture alike.

Owns the trick: while a stage runs, the layers before it are stubs that return the value which was
received, and its last layer is a tap that runs and raises its output out, so that norm and head
never run. MLX is lazy, so what the stubs leave out (the embedding, masks for other layers) is
never computed nor even read from disk. Must never know sessions, bytes or where a value came from.

An architecture is first examined: one forward pass is built, never computed, with every layer
watched. That tells which cache slots each layer uses and the shape of what passes between layers,
and refuses loudly whatever does not call its layers once each, in order. Masks read offsets from
fixed slots that may belong to layers not held; those point at a live cache of the same kind.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
from mlx.nn.layers.base import Module
from mlx_lm.models.cache import CacheList, make_prompt_cache

from permesh.errors import PermeshError

Layer = Any  # an mlx.nn.Module, whose own annotations end at the class
Place = tuple[Layer, str]  # a module and its key for the list of layers
Value = (
    Any  # what one layer hands to the next: an array, or a flat tuple or list of arrays and None
)
MILESTONE = 2  # layers from one to the next
SEQUENCE = -1  # in a template's shape: this dimension is the number of positions


def kind_of(model: Layer) -> str:
    """The architecture's name, as in its config."""
    return str(getattr(model, "model_type", type(model).__module__.rpartition(".")[2]))


def cannot_split(kind: str, why: str) -> PermeshError:
    return PermeshError(
        "model.cannot_split",
        f"The architecture '{kind}' cannot be split by layers: {why}.",
        "Run it whole on one member, or choose another model.",
    )


@dataclass(frozen=True, slots=True)
class Template:
    """The form of a value between two layers; ``shapes`` have ``SEQUENCE`` where positions go."""

    kind: type  # mx.array, tuple or list
    shapes: tuple[tuple[int, ...] | None, ...]  # None where the value holds None
    dtypes: tuple[mx.Dtype | None, ...]

    def parts(self, value: Value) -> list[mx.array]:
        """The value's arrays, in order, without the Nones."""
        items = [value] if self.kind is mx.array else value
        return [item for item in items if item is not None]

    def build(self, parts: list[mx.array]) -> Value:
        """A value from its arrays, the inverse of `parts`."""
        if self.kind is mx.array:
            return parts[0]
        rest = iter(parts)
        return self.kind([None if shape is None else next(rest) for shape in self.shapes])

    def array_shapes(self) -> list[tuple[int, ...]]:
        return [shape for shape in self.shapes if shape is not None]

    def array_dtypes(self) -> list[mx.Dtype]:
        return [dtype for dtype in self.dtypes if dtype is not None]


@dataclass(frozen=True, slots=True)
class Anatomy:
    """What examining a model told: its layers, where their list is, and what each one uses."""

    layers: tuple[Layer, ...]
    places: tuple[Place, ...]
    slots: tuple[frozenset[int], ...]  # of each layer, in the model's list of caches
    templates: tuple[Template, ...]  # [i]: what leaves layer i


def list_places(model: Layer, layers: Sequence[Layer]) -> tuple[Place, ...]:
    """Where a model keeps the list of its layers."""
    return tuple(
        (module, key)
        for _, module in model.named_modules()
        for key, value in module.items()
        if isinstance(value, list) and _same_items(value, layers)
    )


def install(places: Sequence[Place], layers: list[Any]) -> None:
    """Let the model run these instead of its own layers."""
    for module, key in places:
        dict.__setitem__(module, key, layers)


def examine(model: Layer) -> Anatomy:
    """Watch a forward pass being built; raises ``model.cannot_split``. Computes nothing."""
    layers = tuple(model.layers)
    places = list_places(model, layers)
    if not layers or not places:
        raise cannot_split(kind_of(model), "its layers are not one list")
    # Two lengths, to tell the dimensions that count positions from those that do not.
    short = _watch(model, layers, places, 2)
    long = _watch(model, layers, places, 3)
    templates = []
    for (_, out_short), (_, out_long) in zip(short, long, strict=True):
        templates.append(_template(model, out_short, out_long))
    return Anatomy(layers, places, tuple(slots for slots, _ in short), tuple(templates))


def _same_items(value: list[Any], layers: Sequence[Layer]) -> bool:
    return len(value) == len(layers) and all(a is b for a, b in zip(value, layers, strict=True))


def _watch(
    model: Layer,
    layers: tuple[Layer, ...],
    places: tuple[Place, ...],
    positions: int,
) -> list[tuple[frozenset[int], Value]]:
    """For each layer, the cache slots it was given and what it returned."""
    caches = make_prompt_cache(model)
    slot_of = {id(part): slot for slot, cache in enumerate(caches) for part in _nested(cache)}
    log: list[tuple[int, frozenset[int], Value]] = []
    kind = kind_of(model)
    watchers = [_Watcher(layer, kind, number, slot_of, log) for number, layer in enumerate(layers)]
    install(places, list(watchers))
    try:
        model(mx.zeros((1, positions), mx.int32), cache=caches)
    except PermeshError:
        raise
    except Exception as error:
        raise cannot_split(
            kind_of(model), f"its forward pass fails when watched ({error})"
        ) from error
    finally:
        install(places, list(layers))
    if [number for number, _, _ in log] != list(range(len(layers))):
        raise cannot_split(kind_of(model), "it does not run its layers once each, in order")
    used = [slot for _, slots, _ in log for slot in slots]
    if len(used) != len(set(used)):
        raise cannot_split(kind_of(model), "its layers share their caches")
    return [(slots, out) for _, slots, out in log]


def _nested(cache: Any) -> list[Any]:
    if isinstance(cache, CacheList):
        return [cache, *(inner for part in cache.caches for inner in _nested(part))]
    return [cache]


def _template(model: Layer, short: Value, long: Value) -> Template:
    kind = mx.array if isinstance(short, mx.array) else type(short)
    if kind not in (mx.array, tuple, list) or type(short) is not type(long):
        raise cannot_split(kind_of(model), f"its layers pass a {kind.__name__} on")
    pairs = [(short, long)] if kind is mx.array else list(zip(short, long, strict=True))
    shapes: list[tuple[int, ...] | None] = []
    dtypes: list[mx.Dtype | None] = []
    for one, other in pairs:
        if one is None and other is None:
            shapes.append(None)
            dtypes.append(None)
            continue
        if not isinstance(one, mx.array) or not isinstance(other, mx.array):
            raise cannot_split(kind_of(model), f"its layers pass a {type(one).__name__} on")
        shape = tuple(
            a if a == b else SEQUENCE for a, b in zip(one.shape, other.shape, strict=True)
        )
        if any(a != b and (a, b) != (2, 3) for a, b in zip(one.shape, other.shape, strict=True)):
            raise cannot_split(
                kind_of(model), "what passes between its layers grows with the context"
            )
        shapes.append(shape)
        dtypes.append(one.dtype)
    if not any(shape is not None and SEQUENCE in shape for shape in shapes):
        raise cannot_split(kind_of(model), "what passes between its layers has no positions")
    return Template(kind, tuple(shapes), tuple(dtypes))


class _Proxy:
    """Stands for a layer: shows its plain attributes, and never lets its weights be used.

    Models choose masks by attributes of their layers (`use_sliding`, `is_linear`). One that takes
    a layer apart instead of calling it would compute with layers that are not held, silently.
    """

    def __init__(self, module: Layer, kind: str) -> None:
        self._module = module
        self._kind = kind

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._module, name)
        if isinstance(value, Module):
            return _Proxy(value, self._kind)
        if isinstance(value, mx.array) or callable(value):
            raise cannot_split(self._kind, f"its forward pass takes layers apart ('{name}')")
        self.__dict__[name] = value  # asked again at each step
        return value

    def __call__(self, *_: Any, **__: Any) -> Any:
        raise cannot_split(self._kind, "its forward pass takes layers apart")


class _Watcher(_Proxy):
    def __init__(
        self,
        layer: Layer,
        kind: str,
        number: int,
        slot_of: dict[int, int],
        log: list[tuple[int, frozenset[int], Value]],
    ) -> None:
        super().__init__(layer, kind)
        self._number = number
        self._slot_of = slot_of
        self._log = log

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        out = self._module(*args, **kwargs)
        given = (*args, *kwargs.values())
        slots = frozenset(self._slot_of[id(arg)] for arg in given if id(arg) in self._slot_of)
        self._log.append((self._number, slots, out))
        return out


class _Received:
    """The value that the stubs of one stage return."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: Value = None


class _Stub(_Proxy):
    """A layer before the stage."""

    def __init__(self, layer: Layer, kind: str, received: _Received) -> None:
        super().__init__(layer, kind)
        self._received = received

    def __call__(self, *_: Any, **__: Any) -> Any:
        return self._received.value


class _Tapped(Exception):
    def __init__(self, value: Value) -> None:
        self.value = value


class _Tap(_Proxy):
    """The stage's last layer, where it is not the model's last."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        raise _Tapped(self._module(*args, **kwargs))


class _Milestone(_Proxy):
    """A held layer whose output is noted: computing can start there (`take_milestones`)."""

    def __init__(self, layer: Layer, kind: str, noted: list[Value]) -> None:
        super().__init__(layer, kind)
        self._noted = noted

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        out = self._module(*args, **kwargs)
        self._noted.append(out)
        return out


class Stage:
    """Layers ``[first, last)`` of a model, ready to run on any number of cache lists.

    The first stage embeds tokens; the last one ends in logits; between stages pass values of
    the form ``anatomy.templates[last - 1]``.
    """

    def __init__(self, model: Layer, anatomy: Anatomy, first: int, last: int) -> None:
        count = len(anatomy.layers)
        if not 0 <= first < last <= count:
            raise ValueError(f"no layers {first}:{last} of {count}")
        self.first, self.last = first, last
        self._model = model
        self._anatomy = anatomy
        self._received = _Received()
        kind = kind_of(model)
        stage: list[Any] = [_Stub(layer, kind, self._received) for layer in anatomy.layers[:first]]
        stage += anatomy.layers[first:last]
        self._noted: list[Value] = []
        # Not the last: its output may be left out, as in prefill before the head.
        for number in range(first, last - 1, MILESTONE):
            stage[number] = _Milestone(anatomy.layers[number], kind, self._noted)
        if last < count:
            stage[-1] = _Tap(anatomy.layers[last - 1], kind)
        stage += [_Proxy(layer, kind) for layer in anatomy.layers[last:]]
        self._stage = stage
        self._whole = list(anatomy.layers)
        self._blanks: dict[int, mx.array] = {}

    @property
    def entry(self) -> Template | None:
        """The form of what it takes; None when it takes tokens."""
        return self._anatomy.templates[self.first - 1] if self.first else None

    @property
    def exit(self) -> Template | None:
        """The form of what it gives; None when it gives logits."""
        ends = self.last == len(self._anatomy.layers)
        return None if ends else self._anatomy.templates[self.last - 1]

    def make_caches(self) -> tuple[list[Any], list[Any]]:
        """A cache list to run with, and the caches in it that this stage fills."""
        caches = make_prompt_cache(self._model)
        held = self._anatomy.slots[self.first : self.last]
        live = sorted(slot for slots in held for slot in slots)
        by_kind: dict[Any, Any] = {}
        for slot in live:
            by_kind.setdefault(_kind(caches[slot]), caches[slot])
        mine = [caches[slot] for slot in dict.fromkeys(live)]
        for slot in set(range(len(caches))) - set(live):
            caches[slot] = by_kind.get(_kind(caches[slot]), caches[slot])
        return caches, mine

    def run(self, caches: list[Any], *, tokens: mx.array | None = None, value: Value = None) -> Any:
        """Build the computation of new positions: logits (1, n, vocabulary) or a value.

        ``tokens`` (1, n) for the first stage, ``value`` for the others.
        """
        if tokens is None:
            positions = self._positions(value)
            tokens = self._blanks.get(positions)
            if tokens is None:
                tokens = self._blanks[positions] = mx.zeros((1, positions), mx.int32)
        self._received.value = value
        self._noted.clear()
        install(self._anatomy.places, self._stage)
        try:
            logits = self._model(tokens, cache=caches)
            if self.exit is not None:
                raise cannot_split(kind_of(self._model), "it does not run its layers every time")
            return logits
        except _Tapped as tapped:
            return tapped.value
        finally:
            install(self._anatomy.places, self._whole)
            self._received.value = None

    def take_milestones(self) -> list[Value]:
        """What the last `run` built on its way, in order: values of every second layer or so.

        Set computing one by one, they let the first layers run while MLX still walks through the
        graph of the others.
        """
        taken = list(self._noted)
        self._noted.clear()
        return taken

    def _positions(self, value: Value) -> int:
        assert self.entry is not None
        for part, shape in zip(self.entry.parts(value), self.entry.array_shapes(), strict=True):
            if SEQUENCE in shape:
                return int(part.shape[shape.index(SEQUENCE)])
        raise AssertionError("examine() saw to it that a value has positions")


def _kind(cache: Any) -> Any:
    """Caches of one kind advance alike, so that one can stand for another in a mask."""
    if isinstance(cache, CacheList):
        return (CacheList, *(_kind(part) for part in cache.caches))
    sizes = tuple(getattr(cache, name, None) for name in ("max_size", "keep", "chunk_size"))
    return (type(cache), *sizes)
