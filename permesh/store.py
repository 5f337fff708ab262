"""Where records are kept: one SQLite file, one writer.

Owns what a saved record is, what is durable, and where an author's chain goes on.
Must never know what a kind means, who a member is, or how a record got here: a view over the
records is a `Projection` that is passed in, can be dropped, and is rebuilt from the records.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

from .database import Database
from .forks import Fork, note_forks
from .records import Header, Record
from .removal import NO_REMOVALS, Removals
from .space_index import SpaceIndex
from .spaces import SPACE_IDENTITY, day_of, space_of

# Well below SQLite's limit on variables in one statement, in every build.
_VARIABLES = 500
_REBUILD_BATCH = 500
_DROP_BATCH = 250  # a fifth of a second, for which no other write waits longer
# Of a chain that was repaired: by which record (32 bytes), and the last that was written after it.
_TIP_KEY = "chain.tip"

_T = TypeVar("_T")


class Projection(Protocol):
    """A view over the records, kept up in the transaction that saves them.

    ``version`` is raised whenever its tables or its reading of records change: the store then
    drops and rebuilds it. It must not raise on any record, however strange its body.
    """

    name: str
    version: int

    def reset(self, cursor: sqlite3.Cursor) -> None:
        """Drop the view's tables if they exist and make them anew, empty."""
        ...

    def apply(self, cursor: sqlite3.Cursor, records: Sequence[Record], now_ms: int) -> None:
        """Take in records that are in `records` already, as are any forks that they showed.

        One without a body has lost it to a removal, which may be among them, or come later.
        """
        ...

    def forget(self, cursor: sqlite3.Cursor, records: Sequence[Record]) -> None:
        """These are being dropped from `records`: they are too old to be kept here."""
        ...


@dataclass(frozen=True, slots=True)
class Head:
    """The last record of an author's chain."""

    seq: int
    id: bytes
    created_ms: int


class Store:
    """The database, for one thread at a time. `AsyncStore` is the daemon's way to it.

    Every method may raise ``PermeshError`` with a ``store.*`` code; a write that raises has
    changed nothing.
    """

    def __init__(
        self,
        path: Path,
        projections: Sequence[Projection] = (),
        *,
        removals: Removals = NO_REMOVALS,
        read_only: bool = False,
    ) -> None:
        self._database = Database(path, read_only=read_only)
        self._projections = tuple(projections)
        self._removals = removals
        # Of the batch that is being saved: from which space and day, and how many bytes.
        self._taken_away: list[tuple[tuple[bytes, int], int]] = []
        self._any_removals = False  # while a save runs
        self.spaces = SpaceIndex(self._database)
        if not read_only:
            try:
                with self._database.transaction() as cursor:
                    self.spaces.add_up(cursor)
                self._build_views()
            except BaseException:
                self._database.close()
                raise

    @property
    def connection(self) -> sqlite3.Connection:
        """For the queries of views, which only read."""
        return self._database.connection

    def close(self) -> None:
        self._database.close()

    # -- writing ---------------------------------------------------------------------------

    def save(self, records: Iterable[Record], now_ms: int) -> list[Record]:
        """Keep what is new of ``records``, durably, in one transaction; returns the new ones."""
        with self._database.transaction() as cursor:
            return self._insert(cursor, records, now_ms)

    def append(
        self,
        author: bytes,
        make: Callable[[Head | None], Record],
        now_ms: int,
        branch: bytes | None = None,
    ) -> Record:
        """Extend ``author``'s chain by what ``make`` seals onto its head, durably.

        ``branch`` is a record from which the chain goes on, where it forked and was repaired.
        Reading the head and saving are one transaction, so no other save comes in between and a
        chain cannot fork by a race.
        """
        with self._database.transaction() as cursor:
            head = None
            if branch is not None:
                # What stands between the two may be too old to be here any more.
                kept = self.get_value(_TIP_KEY) or b""
                known = kept[:32] == branch
                head = self._tip(author, kept[32:] if known else branch, beyond=not known)
            record = make(head or self.head(author))
            self._insert(cursor, [record], now_ms)
            if branch is not None:
                cursor.execute(_KEEP, (_TIP_KEY, branch + record.id))
            return record

    def set_value(self, key: str, value: bytes) -> None:
        with self._database.transaction() as cursor:
            cursor.execute(_KEEP, (key, value))

    def change_views(self, change: Callable[[sqlite3.Cursor], _T]) -> _T:
        """Let a view bring itself up to date with what records alone do not tell it."""
        with self._database.transaction() as cursor:
            return change(cursor)

    def drop_before(
        self, space: bytes, day: int, keep: Collection[bytes] = (), limit: int = _DROP_BATCH
    ) -> int:
        """Forget up to ``limit`` records of a space from before ``day``; returns how many.

        Kept are those that ``keep`` names, the last record of each author, since its chain goes on
        from there, the one that was saved last, since positions only grow, the proof of each
        author's first fork, and removals while what they name is here.
        """
        with self._database.transaction() as cursor:
            rows = cursor.execute(
                f"{_SELECT} AS r WHERE space = ? AND day < ?"
                " AND NOT (seq = (SELECT max(seq) FROM records AS o WHERE o.author = r.author)"
                "  AND id = (SELECT min(id) FROM records AS o"
                "   WHERE o.author = r.author AND o.seq = r.seq))"
                f" AND id IS NOT (SELECT substr(value, 33) FROM keep WHERE key = '{_TIP_KEY}')"
                " AND position < (SELECT max(position) FROM records)"
                # Whoever signs twice at every place of its chain keeps nothing here by that.
                " AND NOT EXISTS (SELECT 1 FROM forks AS f WHERE f.author = r.author"
                "  AND f.seq IN (r.seq, r.seq - 1) AND r.id IN (f.id_a, f.id_b)"
                "  AND f.seq = (SELECT min(seq) FROM forks AS g WHERE g.author = r.author))"
                " AND NOT EXISTS (SELECT 1 FROM removals AS v JOIN records AS t ON t.id = v.target"
                "  WHERE v.removal = r.id)"
                " ORDER BY day LIMIT ?",
                (space, day, limit + len(keep)),
            ).fetchall()
            old = [_record(row) for row in rows if row[3] not in keep][:limit]
            if old:
                for projection in self._projections:
                    projection.forget(cursor, old)
                self.spaces.take_from(cursor, old)
                ids = [(item.id,) for item in old]
                cursor.executemany(
                    "DELETE FROM forks WHERE author = ?1 AND seq IN (?2, ?2 - 1)"
                    " AND ?3 IN (id_a, id_b)",
                    [(item.header.author, item.header.seq, item.id) for item in old],
                )
                cursor.executemany("DELETE FROM records WHERE id = ?", ids)
                cursor.executemany("DELETE FROM removals WHERE removal = ?", ids)
            return len(old)

    # -- reading ---------------------------------------------------------------------------

    def get(self, record_id: bytes) -> Record | None:
        rows = self._database.read(f"{_SELECT} WHERE id = ?", (record_id,))
        return _record(rows[0]) if rows else None

    def has(self, record_id: bytes) -> bool:
        return bool(self._database.read("SELECT 1 FROM records WHERE id = ?", (record_id,)))

    def missing(self, ids: Sequence[bytes]) -> list[bytes]:
        """Those of ``ids`` that are not here, in their order."""
        here: set[bytes] = set()
        for start in range(0, len(ids), _VARIABLES):
            some = ids[start : start + _VARIABLES]
            marks = ",".join("?" * len(some))
            here.update(
                row[0]
                for row in self._database.read(
                    f"SELECT id FROM records WHERE id IN ({marks})", some
                )
            )
        return [item for item in ids if item not in here]

    def wires(self, ids: Sequence[bytes], max_bytes: int) -> tuple[list[list[Any]], int]:
        """Wire forms of ``ids`` in their order, as many as fit in ``max_bytes`` (at least one).

        Returns them and how many of ``ids`` were dealt with; ids that are not here are skipped.
        """
        wires: list[list[Any]] = []
        size = 0
        for done, record_id in enumerate(ids):
            wire = self._wire(record_id)
            if wire is None:
                continue
            size += _wire_bytes(wire)
            if wires and size > max_bytes:
                return wires, done
            wires.append(wire)
        return wires, len(ids)

    def _wire(self, record_id: bytes) -> list[Any] | None:
        """None if it is not here, or if its body was taken away by what is not here any more."""
        sql = "SELECT header, signature, body FROM records WHERE id = "
        for header, signature, body in self._database.read(sql + "?", (record_id,)):
            if body is not None:
                return [header, signature, body]
            found = self._database.read(
                sql + "(SELECT v.removal FROM removals AS v JOIN records AS t ON t.id = v.target"
                " AND t.author = v.author AND t.space = v.space WHERE v.target = ?)",
                (record_id,),
            )
            if found and found[0][2] is not None:
                return [header, signature, list(found[0])]
        return None

    def by_author(self, author: bytes, from_seq: int, limit: int) -> list[Record]:
        rows = self._database.read(
            f"{_SELECT} WHERE author = ? AND seq >= ? ORDER BY seq, id LIMIT ?",
            (author, from_seq, limit),
        )
        return [_record(row) for row in rows]

    def identity_records_of(self, author: bytes, kind: str, limit: int) -> list[Record]:
        """The newest of one `identity.*` kind, newest first."""
        rows = self._database.read(
            f"{_SELECT} WHERE space = x'00' AND author = ? AND kind = ?"
            " ORDER BY seq DESC, id LIMIT ?",
            (author, kind, limit),
        )
        return [_record(row) for row in rows]

    def count_identity_records_of(self, author: bytes, kind: str) -> int:
        rows = self._database.read(
            "SELECT count(*) FROM records WHERE space = x'00' AND author = ? AND kind = ?",
            (author, kind),
        )
        return int(rows[0][0])

    def forks_of(self, author: bytes, limit: int = 1000) -> list[Fork]:
        """Where the author's chain parts: two records after one. Whatever came first is the same;
        where two branches only go on, nothing new is contradicted."""
        rows = self._database.read(
            "SELECT author, seq, min(id), max(id) FROM records WHERE author = ?"
            " AND EXISTS (SELECT 1 FROM forks WHERE forks.author = records.author)"
            " GROUP BY seq, prev HAVING count(*) > 1 ORDER BY seq, prev LIMIT ?",
            (author, limit),
        )
        return [Fork(*row) for row in rows]

    def head(self, author: bytes) -> Head | None:
        """The record with the highest seq; of two at one seq, the one with the lower id."""
        rows = self._database.read(
            "SELECT seq, id, created_ms FROM records WHERE author = ?"
            " ORDER BY seq DESC, id LIMIT 1",
            (author,),
        )
        return Head(*rows[0]) if rows else None

    def behind(self, heads: Sequence[tuple[bytes, bytes, int]]) -> bool:
        """Whether any (space, author, seq) names a record beyond what is here of that space."""
        return any(
            not self._database.read(
                "SELECT 1 FROM records WHERE space = ? AND author = ? AND seq >= ? LIMIT 1", head
            )
            for head in heads
        )

    def forks(self, limit: int = 1000) -> list[Fork]:
        rows = self._database.read("SELECT author, seq, id_a, id_b FROM forks LIMIT ?", (limit,))
        return [Fork(*row) for row in rows]

    def _tip(self, author: bytes, branch: bytes, *, beyond: bool) -> Head | None:
        """The last record that descends from ``branch``, or, if ``beyond``, may do so, where what
        lies between is not here any more; None if ``branch`` is not here."""
        rows = self._database.read(
            "WITH RECURSIVE chain (seq, id, created_ms) AS ("
            " SELECT seq, id, created_ms FROM records WHERE id = ?1 AND author = ?2"
            " UNION ALL"
            " SELECT r.seq, r.id, r.created_ms FROM records r, chain c"
            " WHERE r.author = ?2 AND r.seq = c.seq + 1 AND r.prev = c.id)"
            " SELECT seq, id, created_ms FROM chain ORDER BY seq DESC, id LIMIT 1",
            (branch, author),
        )
        head = Head(*rows[0]) if rows else None
        if head is None or not beyond:
            return head
        islands = self._database.read(
            "SELECT id FROM records AS r WHERE author = ? AND seq > ? + 1"
            " AND NOT EXISTS (SELECT 1 FROM records AS b WHERE b.id = r.prev)"
            " ORDER BY seq DESC, id LIMIT 1",
            (author, head.seq),
        )
        return self._tip(author, islands[0][0], beyond=False) if islands else head

    def newest_ms(self) -> int:
        """The latest date that any author claims; 0 without records."""
        rows = self._database.read("SELECT coalesce(max(created_ms), 0) FROM records")
        return int(rows[0][0])

    def count(self) -> int:
        return self.spaces.count()

    def load_identity_records(self) -> list[Record]:
        """All `identity.*` records in the order of their arrival, to fold a roster from."""
        rows = self._database.read(
            f"{_SELECT} WHERE space = ? ORDER BY position", (SPACE_IDENTITY,)
        )
        return [_record(row) for row in rows]

    def last_position(self) -> int:
        """Of the record that was saved last; positions only ever grow."""
        return int(self._database.read("SELECT coalesce(max(position), 0) FROM records")[0][0])

    def saved_after(self, position: int, limit: int) -> list[tuple[int, Record]]:
        """What was saved after a position, in that order."""
        rows = self._database.read(
            f"{_SELECT_AT} WHERE position > ? ORDER BY position LIMIT ?", (position, limit)
        )
        return [(row[4], _record(row)) for row in rows]

    def get_value(self, key: str) -> bytes | None:
        rows = self._database.read("SELECT value FROM keep WHERE key = ?", (key,))
        return bytes(rows[0][0]) if rows else None

    # -- inside ----------------------------------------------------------------------------

    def _insert(
        self, cursor: sqlite3.Cursor, records: Iterable[Record], now_ms: int
    ) -> list[Record]:
        new: list[Record] = []
        self._taken_away.clear()
        self._any_removals = bool(cursor.execute("SELECT 1 FROM removals LIMIT 1").fetchone())
        for record in records:
            if record.removal is not None:
                self._insert_one(cursor, record.removal, now_ms, new)
            self._insert_one(cursor, record, now_ms, new)
        if new:
            note_forks(cursor, new)
            self.spaces.add(cursor, new)
            for place, size in self._taken_away:
                self.spaces.shrink(cursor, *place, size)
            for projection in self._projections:
                projection.apply(cursor, new, now_ms)
        return new

    def _insert_one(
        self, cursor: sqlite3.Cursor, record: Record, now_ms: int, new: list[Record]
    ) -> None:
        header = record.header
        removable = record.body is not None and header.kind in self._removals.kinds
        if self._any_removals and removable:
            removed = cursor.execute(
                "SELECT 1 FROM removals WHERE target = ? AND author = ? AND space = ?",
                (record.id, header.author, space_of(header.kind, header.room)),
            ).fetchone()
            if removed:
                record = replace(record, body=None)
        if not _insert_row(cursor, record, now_ms):
            return
        new.append(record)
        for target in self._removals.targets(record):
            self._remove(cursor, target, record)

    def _remove(self, cursor: sqlite3.Cursor, target: bytes, removal: Record) -> None:
        """Take a body away, now and whenever it comes, if the author and the room are the same."""
        author = removal.header.author
        space = space_of(removal.header.kind, removal.header.room)
        kinds = sorted(self._removals.kinds)
        marks = ",".join("?" * len(kinds))
        here = cursor.execute(
            f"SELECT author = ? AND space = ? AND kind IN ({marks}), day, length(body)"
            " FROM records WHERE id = ?",
            (author, space, *kinds, target),
        ).fetchone()
        if here is None or here[0]:
            cursor.execute(
                "INSERT INTO removals VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
                (target, author, space, removal.id),
            )
            cursor.execute("UPDATE records SET body = NULL WHERE id = ?", (target,))
            if here is not None and here[2]:
                self._taken_away.append(((space, here[1]), here[2]))
            self._any_removals = True

    def _build_views(self) -> None:
        built = dict(self._database.read("SELECT name, version FROM views"))
        stale = [view for view in self._projections if built.get(view.name) != view.version]
        if stale:
            with self._database.transaction() as cursor:
                for projection in stale:
                    self._rebuild(cursor, projection)

    def _rebuild(self, cursor: sqlite3.Cursor, projection: Projection) -> None:
        projection.reset(cursor)
        position = -1
        while rows := cursor.execute(
            "SELECT header, signature, body, id, position, received_ms FROM records"
            " WHERE position > ? ORDER BY position LIMIT ?",
            (position, _REBUILD_BATCH),
        ).fetchall():
            position = rows[-1][4]
            for received_ms, group in _grouped(rows):
                projection.apply(cursor, group, received_ms)
        cursor.execute(
            "INSERT INTO views VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET version = ?",
            (projection.name, projection.version, projection.version),
        )


_KEEP = "INSERT INTO keep VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value"
_SELECT = "SELECT header, signature, body, id FROM records"
_SELECT_AT = "SELECT header, signature, body, id, position FROM records"


def _record(row: Sequence[Any]) -> Record:
    header, signature, body, record_id = row[:4]
    return Record(record_id, Header.decode(header), header, signature, body)


def _grouped(rows: Sequence[Any]) -> Iterator[tuple[int, list[Record]]]:
    """Consecutive rows that arrived at one time, as the save that brought them had them."""
    group: list[Record] = []
    for index, row in enumerate(rows):
        group.append(_record(row))
        if index + 1 == len(rows) or rows[index + 1][5] != row[5]:
            yield row[5], group
            group = []


def _insert_row(cursor: sqlite3.Cursor, record: Record, now_ms: int) -> bool:
    header = record.header
    cursor.execute(
        "INSERT INTO records (id, space, day, kind, author, seq, prev, created_ms, received_ms,"
        " header, signature, body) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (id) DO NOTHING",
        (
            record.id, space_of(header.kind, header.room), day_of(header.created_ms),
            header.kind, header.author, header.seq, header.prev, header.created_ms, now_ms,
            record.header_bytes, record.signature, record.body,
        ),
    )  # fmt: skip
    return cursor.rowcount == 1


def _wire_bytes(wire: list[Any]) -> int:
    header, signature, body = wire
    rest = _wire_bytes(body) if isinstance(body, list) else len(body)
    return len(header) + len(signature) + rest + 16
