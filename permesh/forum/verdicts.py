"""What is hidden by what records alone say: forked chains, quotas, charters.

Owns the columns `frozen`, `judged`, `breach`, `hidden` and `rule` of the forum's tables. Every
member that holds the same records comes to the same, in whatever order they came. Must never know
who looks.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from . import rules
from .branches import Link, choose
from .charter import PER_HOUR, breach
from .charters import Cache, Change, judge

ROOMS, CHARTERS, POSTS, EDITS = "forum_rooms", "forum_charters", "forum_posts", "forum_edits"
REACTIONS, LABELS = "forum_reactions", "forum_labels"
TABLES = (ROOMS, CHARTERS, POSTS, EDITS, REACTIONS, LABELS)

_QUOTAS = {
    ROOMS: "ROOMS_PER_SPAN",
    CHARTERS: "CHARTERS_PER_SPAN",
    POSTS: "POSTS_PER_SPAN",
    EDITS: "EDITS_PER_SPAN",
    REACTIONS: "REACTIONS_PER_SPAN",
    LABELS: "LABELS_PER_SPAN",
}


@dataclass
class Touched:
    """Where verdicts are to be made anew: from which (seq, id) on, by table, author and span."""

    places: dict[tuple[str, bytes, int], tuple[int, bytes]] = field(default_factory=dict)

    def add(self, table: str, author: bytes, span: int, seq: int, identity: bytes) -> None:
        key = (table, author, span)
        self.places[key] = min(self.places.get(key, (seq, identity)), (seq, identity))

    def take(self, *tables: str) -> Iterator[tuple[str, bytes, int, tuple[int, bytes]]]:
        for key in [key for key in self.places if key[0] in tables]:
            yield *key, self.places.pop(key)


_PAGE = 500


# -- forked chains -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Fate:
    """Of an author whose chain forked: from ``first`` on only ``standing`` is shown."""

    first: int
    standing: frozenset[bytes] = frozenset()
    forked: bool = True  # what it writes now would not stand

    def freezes(self, seq: int, identity: bytes) -> bool:
        return seq >= self.first and identity not in self.standing


def fate(
    connection: sqlite3.Connection | sqlite3.Cursor, author: bytes, repaired: bytes | None
) -> Fate | None:
    """``repaired`` is the record from which the owner says that the chain goes on; None for an
    author whose chain has not forked."""
    (first,) = connection.execute(
        "SELECT min(seq) FROM forks WHERE author = ?", (author,)
    ).fetchone()
    if first is None or repaired is None:
        return None if first is None else Fate(first)
    links = connection.execute(
        "SELECT seq, id, prev FROM records WHERE author = ? AND seq >= ?", (author, first)
    )
    branch = choose((Link(*row) for row in links.fetchall()), repaired)
    return Fate(first, branch.standing, branch.forked)


def freeze(cursor: sqlite3.Cursor, author: bytes, found: Fate, touched: Touched) -> None:
    """Bring what is in the tables of this author in line with its fate."""
    for table in TABLES:
        rows = cursor.execute(
            f"SELECT id, seq, span, frozen FROM {table}"
            " WHERE author = ? AND (frozen <> (seq >= ?) OR (seq >= ? AND ?))",
            (author, found.first, found.first, bool(found.standing)),
        ).fetchall()
        wrong = [row for row in rows if found.freezes(row[1], row[0]) != bool(row[3])]
        for identity, seq, span, frozen in wrong:
            cursor.execute(f"UPDATE {table} SET frozen = ? WHERE id = ?", (not frozen, identity))
            touched.add(table, author, span, seq, identity)


# -- charters ------------------------------------------------------------------------------------


def judge_again(
    cursor: sqlite3.Cursor, changes: Iterable[Change], cache: Cache, touched: Touched
) -> None:
    """Judge by the charters as they are now what a change of them may concern."""
    for change in changes:
        for table in (POSTS, EDITS):
            rows = cursor.execute(
                f"SELECT id FROM {table} WHERE room = ? AND created_ms >= ?",
                (change.room, change.since_ms),
            ).fetchall()
            for named in change.named:
                rows += cursor.execute(
                    f"SELECT id FROM {table} WHERE charter = ? AND room = ? AND created_ms < ?",
                    (named, change.room, change.since_ms),
                ).fetchall()
            for (identity,) in rows:
                judge_one(cursor, table, identity, cache, touched)


def judge_one(
    cursor: sqlite3.Cursor, table: str, identity: bytes, cache: Cache, touched: Touched
) -> None:
    room, author, seq, span, created_ms, named, judged, was, text_bytes, file_bytes = (
        cursor.execute(
            "SELECT room, author, seq, span, created_ms, charter, judged, breach, text_bytes,"
            f" file_bytes FROM {table} WHERE id = ?",
            (identity,),
        ).fetchone()
    )
    by = judge(cursor, room, named, created_ms)
    breaks = breach(cache.get(by).charter, author, text_bytes, file_bytes) if by else ""
    if (by, breaks) != (judged, was):
        cursor.execute(
            f"UPDATE {table} SET judged = ?, breach = ? WHERE id = ?", (by, breaks, identity)
        )
        touched.add(table, author, span, seq, identity)


# -- verdicts ------------------------------------------------------------------------------------


def is_full(connection: sqlite3.Connection, table: str, author: bytes, span: int) -> bool:
    """Whether what an author wrote now would be over the mesh's quota."""
    also = " AND version > 1" if table == CHARTERS else ""
    (number,) = connection.execute(
        f"SELECT count(*) FROM {table} WHERE author = ? AND span = ? AND NOT frozen{also}",
        (author, span),
    ).fetchone()
    return bool(number >= getattr(rules, _QUOTAS[table]))


def settle(
    cursor: sqlite3.Cursor, touched: Touched, cache: Cache, *tables: str
) -> list[tuple[str, bytes]]:
    """Say anew what is hidden where something was touched; returns what changed, by table.

    Of what an author wrote in one span the lowest (seq, id) stay, as many as the quota allows, in
    whatever order they came; frozen ones are not counted.
    """
    changed: list[tuple[str, bytes]] = []
    for table, author, span, start in touched.take(*tables):
        changed += [(table, one) for one in _settle_span(cursor, cache, table, author, span, start)]
    return changed


def _settle_span(
    cursor: sqlite3.Cursor,
    cache: Cache,
    table: str,
    author: bytes,
    span: int,
    start: tuple[int, bytes],
) -> list[bytes]:
    quota = getattr(rules, _QUOTAS[table])
    has_rules = table in (POSTS, EDITS)
    where = "author = ? AND span = ?" + (" AND version > 1" if table == CHARTERS else "")
    columns = "breach, judged, room, rule" if has_rules else "'', NULL, x'', ''"
    setting = "hidden = ?, rule = ?" if has_rules else "hidden = coalesce(?, ?)"
    (rank,) = cursor.execute(
        f"SELECT count(*) FROM {table} WHERE {where} AND (seq, id) < (?, ?) AND NOT frozen",
        (author, span, *start),
    ).fetchone()
    in_rooms = _InRooms(cursor, author, span, start)
    changed: list[bytes] = []
    place: tuple[int, bytes] | None = (start[0], start[1])
    compare = ">="
    while place is not None and rank < quota:
        rows = cursor.execute(
            f"SELECT seq, id, frozen, hidden, {columns} FROM {table}"
            f" WHERE {where} AND (seq, id) {compare} (?, ?) ORDER BY seq, id LIMIT ?",
            (author, span, *place, _PAGE),
        ).fetchall()
        place, compare = (rows[-1][:2], ">") if len(rows) == _PAGE else (None, ">")
        for seq, identity, frozen, hidden, breaks, judged, room, rule in rows:
            if rank >= quota and not frozen:
                place = (seq, identity)
                compare = ">="
                break
            most = cache.get(judged).charter.posts_per_hour if judged and table == POSTS else 0
            if frozen:
                verdict = (rules.FORK, "")
            elif breaks:
                verdict = (rules.RULE, breaks)
            elif most and in_rooms.count(room) >= most:
                verdict = (rules.RULE, PER_HOUR)
            else:
                verdict = ("", "")
                in_rooms.passed[room] += 1
            rank += not frozen
            if verdict != (hidden, rule):
                cursor.execute(f"UPDATE {table} SET {setting} WHERE id = ?", (*verdict, identity))
                changed.append(identity)
    if place is not None:
        # All that is left is over the quota, or frozen.
        code = f"CASE WHEN frozen THEN '{rules.FORK}' ELSE '{rules.RATE}' END"
        also = ", rule = ''" if has_rules else ""
        rows = cursor.execute(
            f"UPDATE {table} SET hidden = {code}{also} WHERE {where}"
            f" AND (seq, id) {compare} (?, ?) AND hidden <> {code} RETURNING id",
            (author, span, *place),
        ).fetchall()
        changed += [row[0] for row in rows]
    return changed


class _InRooms:
    """How many posts of an author's span are shown in a room, up to where one has come."""

    def __init__(
        self, cursor: sqlite3.Cursor, author: bytes, span: int, start: tuple[int, bytes]
    ) -> None:
        self._cursor = cursor
        self._place = (author, span, *start)
        self._before: dict[bytes, int] = {}
        self.passed: Counter[bytes] = Counter()

    def count(self, room: bytes) -> int:
        if room not in self._before:
            (self._before[room],) = self._cursor.execute(
                "SELECT count(*) FROM forum_posts WHERE author = ? AND span = ?"
                " AND (seq, id) < (?, ?) AND room = ? AND hidden = ''",
                (*self._place, room),
            ).fetchone()
        return self._before[room] + self.passed[room]
