"""What is here of each space, as sync and retention ask it.

Owns the table of sums by space and day and the questions over ids, days and heads. Must never
know what a record says, nor decide what is held or dropped.
"""

from __future__ import annotations

import sqlite3
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .database import Database
from .records import Record
from .spaces import Content, DayIndex, Part, Sum, day_of, fingerprint, space_of

# Ids of days that are held as trees, so that the rounds of one session do not read them anew.
CACHED_IDS = 400_000

# Of an author's address, where heads are told: enough to tell authors apart, and less to send.
HEAD_BYTES = 8

_MODULUS = 2**256


def head_name(author: bytes) -> bytes:
    return author[:HEAD_BYTES]


@dataclass(frozen=True, slots=True)
class Run:
    """Some consecutive records of one author in one space: ids by seq, and the last one's seq."""

    author: bytes
    last_seq: int
    ids: tuple[bytes, ...]


class SpaceIndex:
    """Over one connection, for one thread at a time."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._trees: OrderedDict[tuple[bytes, int], tuple[Sum, DayIndex]] = OrderedDict()
        self._cached_ids = 0

    # -- what the store keeps up --------------------------------------------------------------

    def add(self, cursor: sqlite3.Cursor, records: Sequence[Record]) -> None:
        self._change(cursor, records, 1)

    def take_from(self, cursor: sqlite3.Cursor, records: Sequence[Record]) -> None:
        self._change(cursor, records, -1)

    def shrink(self, cursor: sqlite3.Cursor, space: bytes, day: int, size: int) -> None:
        """Bodies of so many bytes were taken away."""
        cursor.execute(
            "UPDATE sums SET bytes = bytes - ? WHERE space = ? AND day = ?", (size, space, day)
        )

    def add_up(self, cursor: sqlite3.Cursor) -> None:
        """After a migration: sums from the records, if there are records and no sums."""
        if cursor.execute("SELECT 1 FROM sums LIMIT 1").fetchone():
            return
        sums: dict[tuple[bytes, int], list[int]] = {}
        for space, day, identity, size in cursor.execute(
            "SELECT space, day, id, length(header) + coalesce(length(body), 0) FROM records"
        ):
            entry = sums.setdefault((space, day), [0, 0, 0])
            entry[0] += 1
            entry[1] += size
            entry[2] += int.from_bytes(identity, "big")
        self._write(cursor, sums)

    def _change(self, cursor: sqlite3.Cursor, records: Sequence[Record], sign: int) -> None:
        sums: dict[tuple[bytes, int], list[int]] = {}
        for record in records:
            header = record.header
            key = space_of(header.kind, header.room), day_of(header.created_ms)
            entry = sums.setdefault(key, [0, 0, 0])
            entry[0] += sign
            # As it is here: what a header says of a body that nobody sees weighs nothing.
            entry[1] += sign * (len(record.header_bytes) + len(record.body or b""))
            entry[2] += sign * int.from_bytes(record.id, "big")
        for key, entry in sums.items():
            row = cursor.execute(
                "SELECT count, bytes, total FROM sums WHERE space = ? AND day = ?", key
            ).fetchone()
            if row is not None:
                entry[0] += row[0]
                entry[1] += row[1]
                entry[2] += int.from_bytes(row[2], "big")
        self._write(cursor, sums)

    @staticmethod
    def _write(cursor: sqlite3.Cursor, sums: Mapping[tuple[bytes, int], Sequence[int]]) -> None:
        for (space, day), (count, size, total) in sums.items():
            if count:
                cursor.execute(
                    "INSERT OR REPLACE INTO sums VALUES (?, ?, ?, ?, ?)",
                    (space, day, count, size, (total % _MODULUS).to_bytes(32, "big")),
                )
            else:
                cursor.execute("DELETE FROM sums WHERE space = ? AND day = ?", (space, day))

    # -- what is asked --------------------------------------------------------------------------

    def count(self) -> int:
        return int(self._database.read("SELECT coalesce(sum(count), 0) FROM sums")[0][0])

    def sum(self, space: bytes, from_day: int = 0) -> Sum:
        """All records of a space from a day on."""
        rows = self._database.read(
            "SELECT count, total FROM sums WHERE space = ? AND day >= ?", (space, from_day)
        )
        return _added(rows)

    def sums(self, spaces: Sequence[tuple[bytes, int]]) -> list[Sum]:
        """One for each (space, from_day), in their order."""
        return [self.sum(space, from_day) for space, from_day in spaces]

    def days(self, space: bytes, from_day: int = 0) -> dict[int, Sum]:
        """The days of a space on which there are records, ascending."""
        rows = self._database.read(
            "SELECT day, count, total FROM sums WHERE space = ? AND day >= ? ORDER BY day",
            (space, from_day),
        )
        return {day: _added([(count, total)]) for day, count, total in rows}

    def sizes(self, space: bytes) -> list[tuple[int, int]]:
        """(day, bytes of headers and bodies) of a space, ascending."""
        return [
            (day, size)
            for day, size in self._database.read(
                "SELECT day, bytes FROM sums WHERE space = ? ORDER BY day", (space,)
            )
        ]

    def spaces(self) -> list[bytes]:
        """All of which there are records."""
        return [row[0] for row in self._database.read("SELECT DISTINCT space FROM sums")]

    def tree(self, space: bytes, day: int) -> DayIndex:
        """The ids of one day, from the cache if nothing has changed."""
        key = (space, day)
        found = self._database.read(
            "SELECT count, total FROM sums WHERE space = ? AND day = ?", key
        )
        now = _added(found) if found else None
        cached = self._trees.pop(key, None)
        if cached is not None:
            if cached[0] == now:
                self._trees[key] = cached
                return cached[1]
            self._cached_ids -= len(cached[1])
        rows = self._database.read(
            "SELECT id FROM records WHERE space = ? AND day = ? ORDER BY id", key
        )
        tree = DayIndex(row[0] for row in rows)
        if now is not None:
            self._trees[key] = (now, tree)
            self._cached_ids += len(tree)
            while self._cached_ids > CACHED_IDS and len(self._trees) > 1:
                _, (_, dropped) = self._trees.popitem(last=False)
                self._cached_ids -= len(dropped)
        return tree

    def contents(self, space: bytes, parts: Sequence[Part], limit: int) -> list[Content]:
        """What is in each part; no more than ``limit`` ids in all."""
        contents: list[Content] = [()] * len(parts)
        # Day by day, whatever order they are asked in: else two large days in turn would be read
        # anew for each part of one question.
        for number in sorted(range(len(parts)), key=lambda number: parts[number].day):
            part = parts[number]
            contents[number] = self.tree(space, part.day).content(part, limit)
        for number, part in enumerate(parts):
            if part.listed:
                contents[number] = contents[number][:limit]
                limit -= len(contents[number])
        return contents

    def heads(self, space: bytes, limit: int) -> list[tuple[bytes, int]] | None:
        """(author, highest seq) by author; None if there are more than ``limit`` authors."""
        heads: list[tuple[bytes, int]] = []
        author = b""
        # Author by author down the index: its entries are not all gone through.
        while True:
            rows = self._database.read(
                "SELECT author, max(seq) FROM records WHERE space = ?1 AND author = ("
                "SELECT author FROM records WHERE space = ?1 AND author > ?2"
                " ORDER BY author LIMIT 1) GROUP BY author",
                (space, author),
            )
            if not rows:
                return heads
            if len(heads) >= limit:
                return None
            author = rows[0][0]
            heads.append((author, rows[0][1]))

    def newer(
        self, space: bytes, from_day: int, heads: Mapping[bytes, int], limit: int
    ) -> tuple[list[Run], bool]:
        """What ``heads`` (seq by `head_name`) does not reach yet, up to ``limit`` ids, and whether
        there is more."""
        own = self.heads(space, limit)
        runs: list[Run] = []
        if own is None:
            return runs, False
        for author, seq in own:
            known = heads.get(head_name(author), -1)
            if seq <= known:
                continue
            rows = self._database.read(
                "SELECT id, seq FROM records WHERE space = ? AND author = ? AND seq > ?"
                " AND day >= ? ORDER BY seq, id LIMIT ?",
                (space, author, known, from_day, limit + 1),
            )
            if len(rows) > limit:
                # Ids of one seq are not parted, since the next page begins after the last seq:
                # unless they fill a page.
                cut = rows[limit][1]
                whole = [row for row in rows[:limit] if row[1] < cut]
                if whole or not runs:
                    runs.append(_run(author, whole or rows[:limit]))
                return runs, True
            if rows:
                runs.append(_run(author, rows))
                limit -= len(rows)
            if limit <= 0:
                return runs, True
        return runs, False


def _run(author: bytes, rows: Sequence[tuple[bytes, int]]) -> Run:
    return Run(author, rows[-1][1], tuple(row[0] for row in rows))


def _added(rows: Sequence[tuple[int, bytes]]) -> Sum:
    count = sum(row[0] for row in rows)
    return Sum(count, fingerprint(count, sum(int.from_bytes(row[1], "big") for row in rows)))
