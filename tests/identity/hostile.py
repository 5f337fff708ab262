"""Ways to damage bytes and statements, each certain to change them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import fields, replace
from typing import Any

from hypothesis import strategies as st

from permesh.identity.genesis import VERSION
from permesh.records import pack


def damaged(data: bytes) -> Iterator[bytes]:
    """Every byte changed, left out and doubled, every proper prefix, and more at the end."""
    for at, byte in enumerate(data):
        yield data[:at] + bytes([byte ^ (1 << at % 8)]) + data[at + 1 :]
        yield data[:at]
        yield data[at + 1 :]
        yield data[:at] + data[at : at + 1] + data[at:]
    for more in (b"\0", b"\xc0", data):
        yield data + more


def changed(statement: Any) -> Iterator[tuple[str, Any]]:
    """The statement with each field, one at a time, given other values of the same type."""
    for one in fields(statement):
        for value in others(getattr(statement, one.name)):
            yield one.name, replace(statement, **{one.name: value})


def others(value: Any) -> Iterator[Any]:
    """Other values of the same type; of what is made of parts, also with one part changed."""
    for other in _others(value):
        if other != value:
            yield other


def _others(value: Any) -> Iterable[Any]:
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, bytes):
        if not value:
            return [b"\0", bytes(20), bytes(65)]
        return [
            bytes([value[0] ^ 1]) + value[1:],
            value[:-1] + bytes([value[-1] ^ 7]),
            value[::-1],
            bytes(len(value)),
            value[:-1],
            value + b"\0",
        ]
    if isinstance(value, int):
        return [value + 1, value - 1, value * 2, 0, 2**63 - 1]
    if isinstance(value, str):
        return [value + "x", value[1:] + value[:1], value[:-1], value.upper()]
    if isinstance(value, tuple):
        return _other_tuples(value)
    return (other for _, other in changed(value))


def _other_tuples(value: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    yield value[::-1]
    for at, part in enumerate(value):
        yield value[:at] + value[at + 1 :]
        yield value[: at + 1] + value[at:]
        for other in others(part):
            yield (*value[:at], other, *value[at + 1 :])


def places(tree: Any, path: tuple[int, ...] = ()) -> Iterator[tuple[int, ...]]:
    if path:
        yield path
    if isinstance(tree, list):
        for at, part in enumerate(tree):
            yield from places(part, (*path, at))


def found_at(tree: Any, path: tuple[int, ...]) -> Any:
    for at in path:
        tree = tree[at]
    return tree


def put_at(tree: Any, path: tuple[int, ...], value: Any) -> Any:
    if not path:
        return value
    at, *deeper = path
    return [*tree[:at], put_at(tree[at], tuple(deeper), value), *tree[at + 1 :]]


trees = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63) + 1, 2**63 - 1)
    | st.binary(max_size=80)
    | st.text(st.characters(max_codepoint=0x2FF), max_size=12),
    lambda inner: st.lists(inner, max_size=13),
    max_leaves=30,
)


@st.composite
def noise(draw: st.DrawFn) -> bytes:
    """Bytes: any, or canonical ones of any shape, or such behind the right version."""
    if draw(st.booleans()):
        return draw(st.binary(max_size=200))
    tree = draw(trees)
    if isinstance(tree, list) and draw(st.booleans()):
        tree = [VERSION, *tree]
    try:
        return pack(tree)
    except Exception:  # not canonical: not in NFC
        return b"\xff"
