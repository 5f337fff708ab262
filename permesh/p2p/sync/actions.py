"""What the two sides of a session ask of their driver.

Owns the actions and nothing else; each says which method takes its answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from permesh.spaces import Part


@dataclass(frozen=True, slots=True)
class Send:
    data: bytes


@dataclass(frozen=True, slots=True)
class FindMissing:
    """Ask the store which of these are not here and may be fetched; `missing` takes the answer."""

    space: bytes
    ids: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class TakeIn:
    """Check and keep these records, whose ids were asked for, before the store is read again."""

    wires: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Offers:
    """Ephemeral offers that the peer passed on."""

    blobs: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class ReadHeld:
    """`Answerer.held` takes what is here of ``spaces``, each from its day or a later one, None
    where it is not held; a record of ``author`` beyond ``length``; and offers to pass on."""

    author: bytes
    length: int
    spaces: tuple[tuple[bytes, int], ...]


@dataclass(frozen=True, slots=True)
class ReadSum:
    """`Asker.summed` takes the space's sum."""

    space: bytes
    from_day: int


@dataclass(frozen=True, slots=True)
class ReadHeads:
    """`Asker.heads` takes the last seq by author, None if there are more than ``HEADS``."""

    space: bytes


@dataclass(frozen=True, slots=True)
class ReadNewer:
    """`Answerer.newer` takes what `SpaceIndex.newer` returns."""

    space: bytes
    from_day: int
    heads: tuple[tuple[bytes, int], ...]


@dataclass(frozen=True, slots=True)
class ReadDays:
    """`days` takes the space's sums by day."""

    space: bytes
    from_day: int


@dataclass(frozen=True, slots=True)
class ReadParts:
    """`parts` takes what is in each of these parts here (see `content`)."""

    space: bytes
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class ReadWires:
    """`wires` takes what `Store.wires` returns."""

    ids: tuple[bytes, ...]
    max_bytes: int


@dataclass(frozen=True, slots=True)
class Finished:
    """The session is over. ``fault`` is a code if the peer broke the rules.

    ``withheld`` counts records that the peer listed and then did not give; ``fruitless`` says that
    its sums claimed that it has what lacks here, and it did not; ``left`` that a limit was met and
    another session would go on.
    """

    fault: str = ""
    withheld: int = 0
    fruitless: bool = False
    left: bool = False


Action = (
    Send | FindMissing | TakeIn | Offers | ReadHeld | ReadSum | ReadHeads | ReadNewer | ReadDays
    | ReadParts | ReadWires | Finished
)  # fmt: skip
