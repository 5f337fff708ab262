"""Which members run which layers of one answer: a pure search over offers.

Owns the search and its cost. Must never know how an offer was heard, whether a peer answers, or
what a lane is; the same offers give the same chain, whatever their order.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass

from permesh.errors import PermeshError

from .offers import MAX_LAYERS

# What one more member in the ring costs, in layers that the asker would rather run itself: a hop
# is a round through two daemons, about what two small layers take. It keeps a member that offers
# a single layer out of the ring.
HOP_LAYERS = 2


@dataclass(frozen=True, slots=True)
class Held:
    """Layers ``first`` … ``last - 1`` that ``peer_id`` holds of the model in question."""

    peer_id: str
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Leg:
    """What one peer runs."""

    peer_id: str
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Capability:
    """How many layers the asker may run itself at each end; both at least 1."""

    head: int
    tail: int


_Way = tuple[int, int, tuple[str, ...], int, list[Held]]


@dataclass(frozen=True, slots=True)
class Chain:
    """The asker runs [0, first) and [last, layers); ``legs`` cover [first, last) without a gap."""

    layers: int
    legs: tuple[Leg, ...]

    @property
    def first(self) -> int:
        return self.legs[0].first

    @property
    def last(self) -> int:
        return self.legs[-1].last


def find_chain(model: str, layers: int, held: Iterable[Held], capability: Capability) -> Chain:
    """The chain that leaves the asker the fewest layers, a further peer counting `HOP_LAYERS`;
    then the one with the fewest peers; cuts between overlapping spans are placed evenly.

    Raises ``PermeshError("route.no_chain")`` naming the layers that nobody holds.
    """
    if not 3 <= layers <= MAX_LAYERS:
        raise PermeshError(
            "route.too_shallow",
            f"{model} has {layers} layers, and a ring needs 3 to {MAX_LAYERS}.",
            "Ask with the route 'local'.",
        )
    head = max(1, min(capability.head, layers - 2))
    tail_from = layers - max(1, min(capability.tail, layers - 2))
    spans = _merged(held, layers)
    path = _cheapest(spans, layers, head, tail_from)
    if path is None:
        raise _no_chain(model, layers, spans, head, tail_from)
    return Chain(layers, _cut(*path))


def _merged(held: Iterable[Held], layers: int) -> list[Held]:
    """Each peer's spans joined where they touch, kept off the asker's first and last layer."""
    merged: list[Held] = []
    for span in sorted(held, key=lambda s: (s.peer_id, s.first, s.last)):
        first, last = max(span.first, 1), min(span.last, layers - 1)
        if first >= last:
            continue
        before = merged[-1] if merged else None
        if before and before.peer_id == span.peer_id and first <= before.last:
            merged[-1] = Held(span.peer_id, before.first, max(before.last, last))
        else:
            merged.append(Held(span.peer_id, first, last))
    alike: dict[tuple[int, int], Held] = {}
    for span in merged:  # of peers that hold the same layers one is enough, and bounds the search
        alike.setdefault((span.first, span.last), span)
    return list(alike.values())


def _cheapest(
    spans: list[Held], layers: int, head: int, tail_from: int
) -> tuple[int, list[Held]] | None:
    """(first layer of the chain, spans in order); dynamic programming over layer borders.

    ``best[p]`` is the cheapest way to have layers [0, p) done with a peer at the end: (cost,
    peers, names, start, path). Names make ties fall the same way everywhere. A span is only ever
    run to its end here: where it may stop earlier is decided by `_cut`.
    """
    best: dict[int, _Way] = {}
    for span in sorted(spans, key=lambda s: (s.last, s.first, s.peer_id)):
        for border in range(span.first, span.last):
            before = [best[border]] if border in best else []
            if border <= head:
                before.append((border, 0, (), border, []))
            for cost, peers, names, start, path in before:
                way: _Way = (
                    cost + HOP_LAYERS, peers + 1, (*names, span.peer_id), start, [*path, span],
                )  # fmt: skip
                if span.last not in best or way[:4] < best[span.last][:4]:
                    best[span.last] = way
    ends = [
        (cost + layers - border, peers, names, start, path)
        for border, (cost, peers, names, start, path) in best.items()
        if border >= tail_from
    ]
    if not ends:
        return None
    _, _, _, start, path = min(ends, key=lambda end: end[:4])
    return start, path


def _cut(start: int, path: list[Held]) -> tuple[Leg, ...]:
    """Place the borders as evenly as the overlaps allow."""
    end = path[-1].last
    borders = [start]
    for index, (span, following) in enumerate(itertools.pairwise(path), 1):
        even = start + round((end - start) * index / len(path))
        low = max(following.first, borders[-1] + 1)
        borders.append(max(low, min(even, span.last)))
    borders.append(end)
    return tuple(
        Leg(span.peer_id, first, last)
        for span, (first, last) in zip(path, itertools.pairwise(borders), strict=True)
    )


def _no_chain(
    model: str, layers: int, spans: list[Held], head: int, tail_from: int
) -> PermeshError:
    covered = {layer for span in spans for layer in range(span.first, span.last)}
    missing = [layer for layer in range(head, tail_from) if layer not in covered]
    if not missing:
        # The asker could run all but one layer itself, so any span in the middle will do.
        return PermeshError(
            "route.no_chain",
            f"No connected member serves layers in the middle of {model}.",
            f"Ask a member to run, for example: permesh model serve {model} "
            f"--layers {_middle(layers)}",
            http_status=503,
        )
    return PermeshError(
        "route.no_chain",
        f"{name_layers(missing)} of {model} {'is' if len(missing) == 1 else 'are'} held by no "
        "connected member.",
        f"Ask a member to run: permesh model serve {model} --layers {missing[0]}:{missing[-1] + 1}",
        http_status=503,
    )


def _middle(layers: int) -> str:
    """A span that leaves the asker some layers at both ends."""
    first = max(1, layers // 5)
    return f"{first}:{max(first + 1, layers * 3 // 5)}"


def name_layers(missing: list[int]) -> str:
    """'Layer 4', or 'Layers 2-3, 12-17' with en dashes: sorted numbers in words."""
    runs: list[tuple[int, int]] = []
    for layer in missing:
        if runs and runs[-1][1] == layer - 1:
            runs[-1] = (runs[-1][0], layer)
        else:
            runs.append((layer, layer))
    words = ", ".join(f"{a}" if a == b else f"{a}\N{EN DASH}{b}" for a, b in runs)
    return f"{'Layer' if len(missing) == 1 else 'Layers'} {words}"
