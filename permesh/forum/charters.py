"""Which versions of a room's charter count, which is in force, and by which a post is judged.

Owns the table `forum_charters`: a version counts if the one that it follows does, and a steward
of that one signed it; in force is the highest that counts, of two the one with the lower id.
Must never know what a charter's rules do (`permesh/forum/charter.py`).

A post is judged by the version that it names, if that one counts and the post is dated before the
next version, with an hour's grace: nobody hears of a change at once, and nobody can choose an old
lax version for ever. Any other post is judged by what was in force at its date. Dates are claims:
who dates a post back to escape a charter is dated before its own earlier records (`late`).
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict, deque
from collections.abc import Iterable
from dataclasses import dataclass

from permesh.errors import NotFound
from permesh.records import Header

from . import kinds, rules
from .charter import Charter

Connection = sqlite3.Connection | sqlite3.Cursor

_NEVER = 2**64


@dataclass(frozen=True, slots=True)
class Version:
    id: bytes
    number: int
    charter: Charter


@dataclass(frozen=True, slots=True)
class Change:
    """What may be judged otherwise now: what of the room is dated from then on, or names one."""

    room: bytes
    since_ms: int
    named: frozenset[bytes]


# -- the view ------------------------------------------------------------------------------------


def add(
    cursor: sqlite3.Cursor, identity: bytes, header: Header, number: int, span: int, frozen: bool
) -> None:
    """A room's record is its version 1; whether it counts is said by `reconsider`."""
    first = header.kind == kinds.ROOM
    cursor.execute(
        "INSERT INTO forum_charters"
        " (id, room, parent, version, author, seq, span, created_ms, frozen)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            identity, identity if first else header.room, b"" if first else header.parents[0],
            number, header.author, header.seq, span, header.created_ms, frozen,
        ),
    )  # fmt: skip


def reconsider(cursor: sqlite3.Cursor, ids: Iterable[bytes]) -> list[Change]:
    """After versions came, or were hidden or shown: what counts now, they and what follows them."""
    queue = deque(ids)
    changed: defaultdict[bytes, set[bytes]] = defaultdict(set)
    while queue:
        identity = queue.popleft()
        room, counts = cursor.execute(
            "SELECT room, counts FROM forum_charters WHERE id = ?", (identity,)
        ).fetchone()
        since_ms = _since(cursor, identity)
        if (since_ms is not None) == bool(counts):
            continue
        cursor.execute(
            "UPDATE forum_charters SET counts = ?, since_ms = ? WHERE id = ?",
            (since_ms is not None, since_ms or 0, identity),
        )
        changed[room].add(identity)
        queue.extend(
            row[0]
            for row in cursor.execute(
                "SELECT id FROM forum_charters WHERE parent = ?", (identity,)
            ).fetchall()
        )
    return [_draw_line(cursor, room, versions) for room, versions in changed.items()]


def _since(cursor: sqlite3.Cursor, identity: bytes) -> int | None:
    """From when on a version holds; None if it does not count."""
    room, parent, number, author, created_ms, hidden = cursor.execute(
        "SELECT room, parent, version, author, created_ms, hidden FROM forum_charters WHERE id = ?",
        (identity,),
    ).fetchone()
    if hidden:
        return None
    if not parent:
        return int(created_ms)
    before = cursor.execute(
        "SELECT since_ms FROM forum_charters WHERE id = ? AND room = ? AND version = ? AND counts",
        (parent, room, number - 1),
    ).fetchone()
    if before is None or author not in load(cursor, parent).charter.stewards:
        return None
    return max(int(created_ms), int(before[0]))


def _draw_line(cursor: sqlite3.Cursor, room: bytes, changed: set[bytes]) -> Change:
    """Mark what is in force and what leads to it."""
    drawn: list[tuple[bytes, int, int]] = []
    meets = 0  # the version at which the new line meets the old one
    row = cursor.execute(
        "SELECT id, version, since_ms, parent, in_line FROM forum_charters"
        " WHERE room = ? AND counts ORDER BY version DESC, id LIMIT 1",
        (room,),
    ).fetchone()
    while row is not None:
        if row[4]:
            meets = row[1]
            break
        drawn.append(row[:3])
        row = cursor.execute(
            "SELECT id, version, since_ms, parent, in_line FROM forum_charters WHERE id = ?",
            (row[3],),
        ).fetchone()
    left = cursor.execute(
        "SELECT id, version, since_ms FROM forum_charters"
        " WHERE room = ? AND in_line AND version > ?",
        (room, meets),
    ).fetchall()
    for in_line, versions in ((False, left), (True, drawn)):
        cursor.executemany(
            "UPDATE forum_charters SET in_line = ? WHERE id = ?",
            [(in_line, version[0]) for version in versions],
        )
    versions = [*left, *drawn]
    # What is older than a room is judged by its first version all the same.
    since_ms = min((0 if number == 1 else since for _, number, since in versions), default=2**63)
    named = changed | {identity for identity, _, _ in versions}
    return Change(room, min(since_ms, 2**63 - 1), frozenset(named))


def _end(connection: Connection, room: bytes, named: bytes) -> int:
    """Until when posts that name a version are judged by it; 0 if it does not count."""
    found = connection.execute(
        "SELECT version + in_line FROM forum_charters WHERE id = ? AND room = ? AND counts",
        (named, room),
    ).fetchone()
    if found is None:
        return 0
    following = connection.execute(
        "SELECT since_ms FROM forum_charters WHERE room = ? AND in_line AND version = ?",
        (room, found[0]),
    ).fetchone()
    return _NEVER if following is None else int(following[0]) + rules.CHARTER_GRACE_MS


def _at(connection: Connection, room: bytes, created_ms: int) -> bytes | None:
    """What was in force at a date."""
    row = connection.execute(
        "SELECT id FROM forum_charters WHERE room = ? AND in_line"
        " AND (since_ms <= ? OR version = 1) ORDER BY version DESC LIMIT 1",
        (room, created_ms),
    ).fetchone()
    return bytes(row[0]) if row else None


# -- reading -------------------------------------------------------------------------------------


def load(connection: Connection, identity: bytes) -> Version:
    """One that is in the table, out of its record."""
    kind, author, body = connection.execute(
        "SELECT kind, author, body FROM records WHERE id = ?", (identity,)
    ).fetchone()
    if kind == kinds.ROOM:
        return Version(identity, 1, kinds.read_room(body, author)[1])
    number, charter = kinds.read_charter(body)
    return Version(identity, number, charter)


def in_force(connection: Connection, room: bytes) -> Version:
    """Raises ``room.unknown`` for a room that is hidden: nothing in it counts."""
    row = connection.execute(
        "SELECT id FROM forum_charters WHERE room = ? AND in_line ORDER BY version DESC LIMIT 1",
        (room,),
    ).fetchone()
    if row is None:
        raise NotFound(
            "room.unknown", "That room is hidden here.", "List the rooms with: permesh room list"
        )
    return load(connection, row[0])


def counting(
    connection: Connection, room: bytes, limit: int
) -> list[tuple[bytes, bytes, int, int]]:
    """Ids, authors, dates and versions of those that count, newest first."""
    return connection.execute(
        "SELECT id, author, created_ms, version FROM forum_charters WHERE room = ? AND counts"
        " ORDER BY version DESC, id LIMIT ?",
        (room, limit),
    ).fetchall()


class Cache:
    """Versions by id and what follows them, each read once: as long as no charter comes or goes."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._versions: dict[bytes, Version] = {}
        self._in_force: dict[bytes, Version] = {}
        self._ends: dict[tuple[bytes, bytes], int] = {}

    def judge(self, room: bytes, named: bytes, created_ms: int) -> bytes | None:
        """The version by which a post of that date is judged; None if the room is not here."""
        if named:
            if (room, named) not in self._ends:
                self._ends[room, named] = _end(self._connection, room, named)
            if created_ms < self._ends[room, named]:
                return named
        return _at(self._connection, room, created_ms)

    def get(self, identity: bytes) -> Version:
        if identity not in self._versions:
            self._versions[identity] = load(self._connection, identity)
        return self._versions[identity]

    def in_force(self, room: bytes) -> Version:
        if room not in self._in_force:
            self._in_force[room] = in_force(self._connection, room)
        return self._in_force[room]
