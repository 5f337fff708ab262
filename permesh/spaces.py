"""Spaces and their sums: how sets of records are named, divided and compared.

Owns which space and which day a record belongs to, the sum that stands for a set of ids, and the
tree of a day's ids by which two members find where they differ. Pure; must never know where
records are kept nor what a kind means beyond who holds it.

Everybody holds the identity space and the commons; a room is a space of its own, held by those
who follow it. Within a space records are divided by the day of their date, and within a day by
the hex digits of their ids: ids are hashes, so the parts are even.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate

SPACE_IDENTITY = b"\x00"
SPACE_COMMONS = b"\x01"
IDENTITY_PREFIX = "identity."
# Records about rooms and about the mesh itself: whoever holds them can find every room.
_COMMON_KINDS = frozenset({"forum.room", "forum.charter"})
_COMMON_PREFIX = "mesh."

DAY_MS = 86_400_000
FINGERPRINT_BYTES = 16
# Hex digits by which a part of a day may be named. Who wants more ids under one such part has to
# search for 2**64 hashes each; what lies there is listed.
MAX_PATH = 16
DIGITS = "0123456789abcdef"

_MODULUS = 2**256


def space_of(kind: str, room: bytes) -> bytes:
    if kind.startswith(IDENTITY_PREFIX):
        return SPACE_IDENTITY
    if not room or kind in _COMMON_KINDS or kind.startswith(_COMMON_PREFIX):
        return SPACE_COMMONS
    return room


def day_of(created_ms: int) -> int:
    return created_ms // DAY_MS


@dataclass(frozen=True, slots=True)
class Sum:
    """What stands for a set of ids in one line: equal sums mean equal sets.

    ``fingerprint`` is 16 bytes of SHA-256 over the count and the sum of the ids modulo 2**256, as
    in negentropy (NIP-77): order does not matter, and adding one costs one addition.
    """

    count: int
    fingerprint: bytes


def fingerprint(count: int, total: int) -> bytes:
    """``total`` is the sum of the ids as big-endian integers, reduced or not."""
    data = count.to_bytes(8, "big") + (total % _MODULUS).to_bytes(32, "big")
    return hashlib.sha256(data).digest()[:FINGERPRINT_BYTES]


NOTHING = Sum(0, fingerprint(0, 0))


@dataclass(frozen=True, slots=True)
class Part:
    """Some of a day's ids: those that begin with the hex digits of ``path``.

    ``listed`` asks for the ids themselves, otherwise for the sums of its sixteen parts.
    """

    day: int
    path: str
    listed: bool


# What is in a part: its ids, ascending, or the sums of its sixteen parts.
Content = tuple[bytes, ...] | tuple[Sum, ...]


class DayIndex:
    """The ids of one day of a space, as a tree by hex digits; a *path* is some leading digits."""

    def __init__(self, ids: Iterable[bytes]) -> None:
        self._ids = sorted(ids)
        self._totals = [
            0, *accumulate(int.from_bytes(item, "big") for item in self._ids)
        ]  # fmt: skip

    def __len__(self) -> int:
        return len(self._ids)

    def sum(self, path: str) -> Sum:
        first, last = self._bounds(path)
        return Sum(
            last - first, fingerprint(last - first, self._totals[last] - self._totals[first])
        )

    def children(self, path: str) -> tuple[Sum, ...]:
        """Sixteen sums, by the next digit."""
        return tuple(self.sum(path + digit) for digit in DIGITS)

    def ids(self, path: str) -> list[bytes]:
        first, last = self._bounds(path)
        return self._ids[first:last]

    def content(self, part: Part, limit: int) -> Content:
        """What is in a part of this day; no more than ``limit`` ids."""
        return tuple(self.ids(part.path)[:limit]) if part.listed else self.children(part.path)

    def _bounds(self, path: str) -> tuple[int, int]:
        if not path:
            return 0, len(self._ids)
        low = bytes.fromhex(path.ljust(64, "0"))
        last = int(path, 16) + 1
        if last == 16 ** len(path):
            return bisect_left(self._ids, low), len(self._ids)
        high = bytes.fromhex(f"{last:0{len(path)}x}".ljust(64, "0"))
        return bisect_left(self._ids, low), bisect_left(self._ids, high)
