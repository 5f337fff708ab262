"""What is hidden by what records alone say: forked chains, quotas, charters.

Owns the columns `frozen`, `judged`, `breach`, `hidden` and `rule` of the forum's tables. Every
member that holds the same records comes to the same, in whatever order they came. Must never know
who looks.
"""

from __future__ import annotations

import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from . import rules
from .branches import Link, choose
from .charter import PER_HOUR, Charter, breach
from .charters import Cache, Change

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
    """Rows whose verdicts are to be made anew, and with them what follows in the same span: each
    with whether it says already what it would say if nothing came before it."""

    rows: defaultdict[tuple[str, bytes, int], dict[tuple[int, bytes], bool]] = field(
        default_factory=lambda: defaultdict(dict)
    )

    def add(
        self, table: str, author: bytes, span: int, seq: int, identity: bytes, said: bool = False
    ) -> None:
        self.rows[table, author, span][seq, identity] = said

    def take(self, *tables: str) -> Iterator[tuple[str, bytes, int, dict[tuple[int, bytes], bool]]]:
        for key in [key for key in self.rows if key[0] in tables]:
            yield *key, self.rows.pop(key)


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
                    f"SELECT id FROM {table} WHERE charter = ? AND +room = ? AND +created_ms < ?",
                    (named, change.room, change.since_ms),
                ).fetchall()
            for (identity,) in rows:
                judge_one(cursor, table, identity, cache, touched)


def judge_one(
    cursor: sqlite3.Cursor, table: str, identity: bytes, cache: Cache, touched: Touched
) -> None:
    room, author, seq, span, created_ms, named, judged, *was, text_bytes, file_bytes = (
        cursor.execute(
            "SELECT room, author, seq, span, created_ms, charter, judged, breach, per_hour,"
            f" text_bytes, file_bytes FROM {table} WHERE id = ?",
            (identity,),
        ).fetchone()
    )
    by = cache.judge(room, named, created_ms)
    charter = cache.get(by).charter if by else Charter("")
    breaks = breach(charter, author, text_bytes, file_bytes)
    now = [breaks, charter.posts_per_hour if table == POSTS else 0]
    if by != judged or now != was:
        cursor.execute(
            f"UPDATE {table} SET judged = ?, breach = ?, per_hour = ? WHERE id = ?",
            (by, *now, identity),
        )
    if now != was:  # a version that says the same of it changes no verdict
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


def settle(cursor: sqlite3.Cursor, touched: Touched, *tables: str) -> list[tuple[str, bytes]]:
    """Say anew what is hidden where something was touched; returns what changed, by table.

    Of what an author wrote in one span the lowest (seq, id) stay, as many as the quota allows, in
    whatever order they came; frozen ones are not counted.
    """
    changed: list[tuple[str, bytes]] = []
    for table, author, span, rows in touched.take(*tables):
        found = _Span(cursor, table, author, span).settle(rows)
        changed += [(table, identity) for identity in found]
    return changed


class _Span:
    """What one author wrote in one span of time, in one table."""

    def __init__(self, cursor: sqlite3.Cursor, table: str, author: bytes, span: int) -> None:
        self._cursor = cursor
        self._table = table
        self._key = (author, span)
        self._quota = int(getattr(rules, _QUOTAS[table]))
        self._has_rules = table in (POSTS, EDITS)
        self._columns = (
            "seq, id, frozen, hidden, breach, per_hour, room, rule"
            if self._has_rules
            else "seq, id, frozen, hidden, '', 0, x'', ''"
        )
        self._where = "author = ? AND span = ?" + (" AND version > 1" if table == CHARTERS else "")

    def settle(self, touched: Mapping[tuple[int, bytes], bool]) -> list[bytes]:
        """Returns the ids of which something else is said than before."""
        if self._is_roomy():
            # Nothing here depends on how many come before it.
            return self._settle_alone(
                identity for (_, identity), said in touched.items() if not said
            )
        return self._settle_from(min(touched))

    def _is_roomy(self) -> bool:
        limited = "total(per_hour)" if self._has_rules else "0"
        number, over, limits = self._cursor.execute(
            f"SELECT total(NOT frozen), total(hidden = '{rules.RATE}'), {limited}"
            f" FROM {self._table} WHERE {self._where}",
            self._key,
        ).fetchone()
        return bool(number <= self._quota and not over and not limits)

    def _settle_alone(self, ids: Iterable[bytes]) -> list[bytes]:
        changed = []
        for identity in ids:
            row = self._cursor.execute(
                f"SELECT {self._columns} FROM {self._table} WHERE id = ?", (identity,)
            ).fetchone()
            # A room's record is a version of its charter and of no quota.
            if row is not None and (self._table != CHARTERS or self._counts(identity)):
                _, _, frozen, hidden, breaks, _, _, rule = row
                verdict = alone(frozen, breaks)
                if verdict != (hidden, rule):
                    self._say(identity, verdict)
                    changed.append(identity)
        return changed

    def _counts(self, identity: bytes) -> bool:
        row = self._cursor.execute(
            f"SELECT 1 FROM {self._table} WHERE id = ? AND version > 1", (identity,)
        ).fetchone()
        return row is not None

    def _settle_from(self, start: tuple[int, bytes]) -> list[bytes]:
        """Go through the span from there on; what comes before does not depend on what follows."""
        (rank,) = self._cursor.execute(
            f"SELECT count(*) FROM {self._table} WHERE {self._where}"
            " AND (seq, id) < (?, ?) AND NOT frozen",
            (*self._key, *start),
        ).fetchone()
        in_rooms = _InRooms(self._cursor, *self._key, start)
        changed: list[bytes] = []
        place, compare, more = start, ">=", True
        while more and rank < self._quota:
            rows = self._cursor.execute(
                f"SELECT {self._columns} FROM {self._table}"
                f" WHERE {self._where} AND (seq, id) {compare} (?, ?) ORDER BY seq, id LIMIT ?",
                (*self._key, *place, min(_PAGE, self._quota - rank)),
            ).fetchall()
            more = bool(rows)
            for seq, identity, frozen, hidden, breaks, per_hour, room, rule in rows:
                place, compare = (seq, identity), ">"
                verdict = alone(frozen, breaks)
                if verdict == ("", "") and per_hour and in_rooms.count(room) >= per_hour:
                    verdict = (rules.RULE, PER_HOUR)
                if verdict == ("", ""):
                    in_rooms.passed[room] += 1
                rank += not frozen
                if verdict != (hidden, rule):
                    self._say(identity, verdict)
                    changed.append(identity)
        return changed + (self._close(place, compare) if more else [])

    def _close(self, place: tuple[int, bytes], compare: str) -> list[bytes]:
        """All that is left is over the quota, or frozen."""
        code = f"CASE WHEN frozen THEN '{rules.FORK}' ELSE '{rules.RATE}' END"
        also = ", rule = ''" if self._has_rules else ""
        rows = self._cursor.execute(
            f"UPDATE {self._table} SET hidden = {code}{also} WHERE {self._where}"
            f" AND (seq, id) {compare} (?, ?) AND hidden <> {code} RETURNING id",
            (*self._key, *place),
        ).fetchall()
        return [row[0] for row in rows]

    def _say(self, identity: bytes, verdict: tuple[str, str]) -> None:
        if self._has_rules:
            self._cursor.execute(
                f"UPDATE {self._table} SET hidden = ?, rule = ? WHERE id = ?",
                (*verdict, identity),
            )
        else:
            self._cursor.execute(
                f"UPDATE {self._table} SET hidden = ? WHERE id = ?", (verdict[0], identity)
            )


def alone(frozen: int, breaks: str) -> tuple[str, str]:
    """The code and the rule, as far as a record decides them by itself."""
    if frozen:
        return rules.FORK, ""
    return (rules.RULE, breaks) if breaks else ("", "")


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
                " AND (seq, id) < (?, ?) AND +room = ? AND +hidden = ''",
                (*self._place, room),
            ).fetchone()
        return self._before[room] + self.passed[room]
