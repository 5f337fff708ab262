"""Lists of rooms and posts, a page at a time.

Owns the order of lists and where a page ends. What is hidden is left out, as `sight.py` says, but
for the member's own posts, which it always sees. A page may have fewer items than were asked for,
or none, and more to come: what one request looks through is bounded.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from . import threads
from .finding import bad_cursor, make_cursor, read_cursor
from .sight import Hidden, Sight

MAX_PAGE = 500
MAX_EXAMINED = 10_000
_CHUNK = 250


@dataclass(frozen=True, slots=True)
class Page:
    """``hidden`` says why, of those of ``ids`` that are listed though they are hidden."""

    ids: list[bytes]
    hidden: dict[bytes, Hidden]
    cursor: str | None


def clamp(limit: int) -> int:
    return max(1, min(limit, MAX_PAGE))


def rooms(
    connection: sqlite3.Connection, cursor: str | None, limit: int, followed: bool | None = None
) -> tuple[list[bytes], str | None]:
    """A page of rooms by label, and the cursor of the next one if there is more."""
    (after,) = read_cursor(cursor, str) if cursor else ("",)
    limit = clamp(limit)
    condition = {
        None: "",
        True: " AND id IN (SELECT room FROM follows WHERE followed)",
        False: " AND id NOT IN (SELECT room FROM follows WHERE followed)",
    }[followed]
    found = connection.execute(
        f"SELECT id, label FROM forum_rooms WHERE hidden = '' AND label > ?{condition}"
        " ORDER BY label LIMIT ?",
        (after, limit + 1),
    ).fetchall()
    more = make_cursor(found[limit - 1][1]) if len(found) > limit else None
    return [row[0] for row in found[:limit]], more


def posts(
    sight: Sight,
    room: bytes,
    cursor: str | None,
    limit: int,
    *,
    newest_first: bool = False,
    hidden: bool = False,
) -> Page:
    """A page of a room's posts by (created_ms, id).

    A cursor is a place in the order, not a direction: with it, ``newest_first`` goes on to what
    is before that place, and otherwise to what is after it.
    """
    limit = clamp(limit)
    place = tuple(read_cursor(cursor, int, bytes)) if cursor else None
    ids: list[bytes] = []
    why: dict[bytes, Hidden] = {}
    examined = 0
    while True:
        rows = _some_posts(sight, room, place, newest_first, hidden)
        found = sight.hidden([row[1] for row in rows])
        for created_ms, identity, author in rows:
            if identity not in found or hidden or author == sight.me:
                if len(ids) == limit:
                    return Page(ids, why, make_cursor(*place) if place else None)
                ids.append(identity)
                if identity in found:
                    why[identity] = found[identity]
            place = (created_ms, identity)
        examined += len(rows)
        if len(rows) < _CHUNK:
            return Page(ids, why, None)
        if examined >= MAX_EXAMINED and place is not None:
            return Page(ids, why, make_cursor(*place))


def _some_posts(
    sight: Sight,
    room: bytes,
    place: Sequence[object] | None,
    newest_first: bool,
    hidden: bool,
) -> list[tuple[int, bytes, bytes]]:
    compare, direction = ("<", "DESC") if newest_first else (">", "ASC")
    after = f"AND (created_ms, id) {compare} (:ms, :id)" if place else ""
    order = f"ORDER BY created_ms {direction}, id {direction} LIMIT {_CHUNK}"
    columns = "SELECT created_ms, id, author FROM forum_posts"
    query = f"{columns} WHERE room = :room {after} {order}"
    if not hidden:
        # What is shown, and this member's own that are not, each by its own index.
        query = (
            f"SELECT * FROM ({columns} WHERE room = :room AND hidden = '' {after} {order})"
            f" UNION ALL SELECT * FROM ({columns} WHERE author = :me AND room = :room"
            f" AND hidden <> '' {after} {order}) {order}"
        )
    values: dict[str, object] = {"room": room, "me": sight.me}
    if place:
        values["ms"], values["id"] = place
    return sight.connection.execute(query, values).fetchall()


def thread(
    sight: Sight, post: bytes, cursor: str | None, limit: int, *, hidden: bool = False
) -> Page:
    """A page of the thread in which ``post`` stands: each before its replies, siblings by date.

    Replies to what is hidden stay where they are.
    """
    limit = clamp(limit)
    order = [identity for identity, _ in threads.ordered(sight.connection, post)]
    start = 0
    if cursor:
        (last,) = read_cursor(cursor, bytes)
        if last not in order:
            raise bad_cursor()
        start = order.index(last) + 1
    ids: list[bytes] = []
    why: dict[bytes, Hidden] = {}
    for begin in range(start, len(order), _CHUNK):
        some = order[begin : begin + _CHUNK]
        found = sight.hidden(some)
        own = _own(sight, list(found))
        for identity in some:
            if identity not in found or hidden or identity in own:
                if len(ids) == limit:
                    return Page(ids, why, make_cursor(ids[-1]))
                ids.append(identity)
                if identity in found:
                    why[identity] = found[identity]
    return Page(ids, why, None)


def _own(sight: Sight, posts: Sequence[bytes]) -> set[bytes]:
    marks = ",".join("?" * len(posts))
    rows = sight.connection.execute(
        f"SELECT id FROM forum_posts WHERE id IN ({marks}) AND author = ?", (*posts, sight.me)
    )
    return {row[0] for row in rows}
