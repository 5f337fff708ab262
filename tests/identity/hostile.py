"""Ways to damage bytes and statements, each certain to change them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, replace
from typing import Any

from hypothesis import strategies as st

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
        for value in _others(getattr(statement, one.name)):
            yield one.name, replace(statement, **{one.name: value})


def _others(value: Any) -> list[Any]:
    if isinstance(value, bytes):
        return [
            bytes([value[0] ^ 1]) + value[1:],
            value[:-1] + bytes([value[-1] ^ 7]),
            value[::-1],
            bytes(len(value)),
        ]
    if isinstance(value, int):
        return [value + 1, value - 1, value * 2, 2**63 - 1]
    if isinstance(value, str):
        return [value + "x", value[1:] + value[0]]
    raise AssertionError(f"no other value of {value!r}")


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
        tree = [1, *tree]
    try:
        return pack(tree)
    except Exception:  # not canonical: not in NFC
        return b"\xff"
