"""Which rooms this member holds, and how far back.

Owns the table `follows`, what is followed without being asked, and the plan of retention, which
is pure. Must never drop a record itself nor know how records travel: a *floor* is the first day
of a room that is held here, and the store and sync go by it.

Rooms are followed by themselves, in the order in which they appear, until there are 64; from
there on a member follows what it chooses, creates or posts in. So a small mesh needs no choosing,
and in a large one nobody's disk is filled by others' rooms.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from permesh.errors import PermeshError
from permesh.records import Record

from .kinds import ROOM

FOLLOWED_BY_ITSELF = 64
FOLLOWED_OF_ONE = 16  # author, so that nobody takes all of these places
FOLLOWED_MAX = 1_024
_MEGABYTE = 1_000_000


@dataclass(frozen=True, slots=True)
class Keep:
    """How long a room's records are kept; 0 is without such a limit."""

    days: int = 0
    megabytes: int = 0

    def stricter(self, other: Keep) -> Keep:
        return Keep(_stricter(self.days, other.days), _stricter(self.megabytes, other.megabytes))


@dataclass(frozen=True, slots=True)
class Followed:
    """``keep`` is this member's own wish, beside the charter's."""

    followed: bool
    keep: Keep
    floor_day: int


def plan_floor(sizes: Mapping[int, int], keep: Keep, today: int, floor_day: int = 0) -> int:
    """The first day to hold, given the bytes of each day that is here.

    Whole days go, the oldest first, and today never does. The floor does not sink by itself:
    what was dropped for its size would come back by sync, only to be dropped again.
    """
    floor = floor_day
    if keep.days:
        floor = max(floor, today - keep.days + 1)
    if keep.megabytes:
        held, limit = 0, keep.megabytes * _MEGABYTE
        for day in sorted(sizes, reverse=True):
            held += sizes[day]
            if held > limit:
                floor = max(floor, day + 1)
                break
    return max(0, min(floor, today))


def followed(connection: sqlite3.Connection) -> dict[bytes, int]:
    """The floor of each room that is followed."""
    rows = connection.execute("SELECT room, floor_day FROM follows WHERE followed ORDER BY room")
    return {bytes(room): floor_day for room, floor_day in rows}


def read(connection: sqlite3.Connection, room: bytes) -> Followed:
    row = connection.execute(
        "SELECT followed, keep_days, keep_megabytes, floor_day FROM follows WHERE room = ?",
        (room,),
    ).fetchone()
    if row is None:
        return Followed(False, Keep(), 0)
    return Followed(bool(row[0]), Keep(row[1], row[2]), row[3])


def appear(cursor: sqlite3.Cursor, rooms: Iterable[bytes], wanted: bool = True) -> list[bytes]:
    """Take note of rooms; returns those that are followed by themselves now, if ``wanted``.

    A room that was noted before is left as it is, so that the same may be said again whenever
    views are rebuilt.
    """
    (count,) = cursor.execute("SELECT count(*) FROM follows WHERE followed").fetchone()
    taken: list[bytes] = []
    for room in rooms:
        follows = wanted and count < FOLLOWED_BY_ITSELF
        cursor.execute(
            "INSERT OR IGNORE INTO follows (room, followed) VALUES (?, ?)", (room, follows)
        )
        if cursor.rowcount and follows:
            count += 1
            taken.append(room)
    return taken


class FollowView:
    """Takes note of rooms as they come: a `Projection` after the forum's view, whose table it does
    not drop, since what is followed is this member's own choice."""

    name = "following"
    version = 1

    def reset(self, cursor: sqlite3.Cursor) -> None:
        """Rooms that were noted stay noted."""

    def apply(self, cursor: sqlite3.Cursor, records: Sequence[Record], now_ms: int) -> None:  # noqa: ARG002 - the view's form
        for record in records:
            if record.header.kind == ROOM:
                appear(cursor, [record.id], _has_place(cursor, record))

    def forget(self, cursor: sqlite3.Cursor, records: Sequence[Record]) -> None:
        """Rooms are of the commons, of which nothing is dropped for its age."""


def _has_place(cursor: sqlite3.Cursor, record: Record) -> bool:
    """Whether a room is shown, and its author's take no more places than they may."""
    # From the rooms that are followed, which are few; an author may have made thousands.
    authors = cursor.execute(
        "SELECT r.author FROM follows AS f CROSS JOIN forum_rooms AS r ON r.id = f.room"
        " WHERE f.followed LIMIT ?",
        (FOLLOWED_BY_ITSELF,),
    ).fetchall()
    if authors.count((record.header.author,)) >= FOLLOWED_OF_ONE:
        return False
    shown = cursor.execute(
        "SELECT 1 FROM forum_rooms WHERE id = ? AND hidden = ''", (record.id,)
    ).fetchone()
    return shown is not None


def follow(
    cursor: sqlite3.Cursor,
    room: bytes,
    wanted: bool = True,
    *,
    keep_days: int | None = None,
    keep_megabytes: int | None = None,
) -> Followed:
    """What is None stays as it was; raises ``follow.too_many``.

    Who follows anew, or wants to keep another span, begins without a floor: the next plan sets
    it, and what lies above it comes back by sync.
    """
    before = read(cursor.connection, room)
    if wanted and not before.followed:
        (count,) = cursor.execute("SELECT count(*) FROM follows WHERE followed").fetchone()
        if count >= FOLLOWED_MAX:
            raise PermeshError(
                "follow.too_many",
                f"You follow {count} rooms, and {FOLLOWED_MAX} is the limit.",
                "Leave another room first.",
                http_status=409,
            )
    keep = Keep(
        before.keep.days if keep_days is None else keep_days,
        before.keep.megabytes if keep_megabytes is None else keep_megabytes,
    )
    anew = (wanted and not before.followed) or keep != before.keep
    after = Followed(wanted, keep, 0 if anew else before.floor_day)
    cursor.execute(
        "INSERT OR REPLACE INTO follows VALUES (?, ?, ?, ?, ?)",
        (room, wanted, keep.days, keep.megabytes, after.floor_day),
    )
    return after


def set_floor(cursor: sqlite3.Cursor, room: bytes, floor_day: int) -> None:
    cursor.execute("UPDATE follows SET floor_day = ? WHERE room = ?", (floor_day, room))


def _stricter(one: int, other: int) -> int:
    return min(one, other) if one and other else one or other
