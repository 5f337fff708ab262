"""The picture of who serves which layers: bars over a ruler, as plain characters.

Owns the arithmetic from layers to terminal cells. Knows nothing of colours or widgets.
"""

from __future__ import annotations

from collections.abc import Iterable

HELD = "█"
EMPTY = "·"


def cells_for(layers: int, width: int) -> int:
    """How many cells a model's bar takes: a whole number for each layer, when there is room."""
    return layers * max(1, width // layers) if 0 < layers <= width else max(1, width)


def edges(first: int, last: int, layers: int, cells: int) -> tuple[int, int]:
    """The cells ``start`` … ``end - 1`` of layers ``first`` … ``last - 1``; at least one cell.

    Whatever a peer announced, the answer lies within the bar.
    """
    layers = max(1, layers)
    first = min(max(0, first), layers - 1)
    last = min(max(first + 1, last), layers)
    start = first * cells // layers
    return start, max(start + 1, last * cells // layers)


def bar(first: int, last: int, layers: int, cells: int) -> tuple[str, str, str]:
    """The bar in three pieces: before, held, after."""
    start, end = edges(first, last, layers, cells)
    return EMPTY * start, HELD * (end - start), EMPTY * (cells - end)


def ruler(layers: int, cells: int) -> str:
    """Layer numbers above a bar, at least four cells apart, the last one being ``layers``."""
    step = next(
        step
        for step in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 10**9)
        if step * cells >= 4 * layers
    )
    end = str(layers)
    line = [" "] * (cells + len(end))
    for layer in range(0, layers, step):
        at, mark = layer * cells // layers, str(layer)
        if at + len(mark) + 1 < cells:
            line[at : at + len(mark)] = mark
    line[cells:] = end
    return "".join(line)


def gaps(spans: Iterable[tuple[int, int]], layers: int) -> list[tuple[int, int]]:
    """The runs of layers between the first and the last one that no span covers.

    Layer 0 and the last one are left out: whoever asks computes at least those itself.
    """
    missing: list[tuple[int, int]] = []
    at = 1
    for first, last in sorted(spans):
        if first > at:
            missing.append((at, min(first, layers - 1)))
        at = max(at, last)
    if at < layers - 1:
        missing.append((at, layers - 1))
    return [(first, last) for first, last in missing if first < last]
