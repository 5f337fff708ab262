"""Where records are kept: one SQLite file, one writer.

Owns what a saved record is, what is durable, and the proof that an author's chain forked.
Must never know what a kind means, who a member is, or how a record got here: a view over the
records is a `Projection` that is passed in, can be dropped, and is rebuilt from the records.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

import trio

from .database import Database
from .records import MAX_UINT, Header, Record

# Sync asks for identity records first: they say which keys the others are signed with.
IDENTITY_PREFIX = "identity."
SCOPE_IDENTITY = 0
SCOPE_CONTENT = 1
SCOPES = (SCOPE_IDENTITY, SCOPE_CONTENT)

# Well below SQLite's limit on variables in one statement, in every build.
_VARIABLES = 500
_REBUILD_BATCH = 500

_P = ParamSpec("_P")
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
        """Take in records that are in `records` already, as are any forks that they showed."""
        ...


@dataclass(frozen=True, slots=True)
class Head:
    """The last record of an author's chain."""

    seq: int
    id: bytes
    created_ms: int


@dataclass(frozen=True, slots=True)
class Fork:
    """Two signed records that cannot both stand in one chain; ``seq`` is the lower one's."""

    author: bytes
    seq: int
    id_a: bytes
    id_b: bytes


@dataclass(frozen=True, slots=True)
class Sum:
    """What stands for a set of records in one line: equal sums mean equal sets.

    ``fingerprint`` is SHA-256 over the count and the sum of the ids modulo 2**256, as in
    negentropy (NIP-77): order does not matter, and adding one record costs one addition.
    """

    count: int
    fingerprint: bytes


def scope_of(kind: str) -> int:
    return SCOPE_IDENTITY if kind.startswith(IDENTITY_PREFIX) else SCOPE_CONTENT


def fingerprint(count: int, total: int) -> bytes:
    return hashlib.sha256(count.to_bytes(8, "big") + total.to_bytes(32, "big")).digest()


class Store:
    """The database, for one thread at a time. `AsyncStore` is the daemon's way to it.

    Every method may raise ``PermeshError`` with a ``store.*`` code; a write that raises has
    changed nothing.
    """

    def __init__(
        self, path: Path, projections: Sequence[Projection] = (), *, read_only: bool = False
    ) -> None:
        self._database = Database(path, read_only=read_only)
        self._projections = tuple(projections)
        if not read_only:
            try:
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
            head = self._tip(author, branch) if branch is not None else None
            record = make(head or self.head(author))
            self._insert(cursor, [record], now_ms)
            return record

    def set_value(self, key: str, value: bytes) -> None:
        with self._database.transaction() as cursor:
            cursor.execute(
                "INSERT INTO keep VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = ?",
                (key, value, value),
            )

    def rebuild_views(self) -> None:
        """Drop every projection and build it again from the records."""
        with self._database.transaction() as cursor:
            for projection in self._projections:
                self._rebuild(cursor, projection)

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

    def ids(self, scope: int, after: bytes, limit: int) -> list[bytes]:
        """Up to ``limit`` ids of a scope, ascending, greater than ``after``."""
        rows = self._database.read(
            "SELECT id FROM records WHERE scope = ? AND id > ? ORDER BY id LIMIT ?",
            (scope, after, limit),
        )
        return [row[0] for row in rows]

    def wires(self, ids: Sequence[bytes], max_bytes: int) -> tuple[list[list[Any]], int]:
        """Wire forms of ``ids`` in their order, as many as fit in ``max_bytes`` (at least one).

        Returns them and how many of ``ids`` were dealt with; ids that are not here are skipped.
        """
        wires: list[list[Any]] = []
        size = 0
        for done, record_id in enumerate(ids):
            rows = self._database.read("SELECT header, signature, body FROM records WHERE id = ?",
                              (record_id,))  # fmt: skip
            for header, signature, body in rows:
                size += len(header) + len(signature) + len(body or b"") + 16
                if wires and size > max_bytes:
                    return wires, done
                wires.append([header, signature, body])
        return wires, len(ids)

    def by_author(self, author: bytes, from_seq: int, limit: int) -> list[Record]:
        rows = self._database.read(
            f"{_SELECT} WHERE author = ? AND seq >= ? ORDER BY seq, id LIMIT ?",
            (author, from_seq, limit),
        )
        return [_record(row) for row in rows]

    def identity_records_of(self, author: bytes, kind: str, limit: int) -> list[Record]:
        """The newest of one `identity.*` kind, newest first."""
        rows = self._database.read(
            f"{_SELECT} WHERE scope = {SCOPE_IDENTITY} AND author = ? AND kind = ?"
            " ORDER BY seq DESC, id LIMIT ?",
            (author, kind, limit),
        )
        return [_record(row) for row in rows]

    def count_identity_records_of(self, author: bytes, kind: str) -> int:
        rows = self._database.read(
            "SELECT count(*) FROM records"
            f" WHERE scope = {SCOPE_IDENTITY} AND author = ? AND kind = ?",
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

    def behind(self, heads: Sequence[tuple[bytes, int]]) -> bool:
        """Whether any (author, seq) names a record beyond what is here."""
        for author, seq in heads:
            head = self.head(author)
            if head is None or head.seq < seq:
                return True
        return False

    def forks(self, limit: int = 1000) -> list[Fork]:
        rows = self._database.read("SELECT author, seq, id_a, id_b FROM forks LIMIT ?", (limit,))
        return [Fork(*row) for row in rows]

    def _tip(self, author: bytes, branch: bytes) -> Head | None:
        """The last record that descends from ``branch``; None if that is not here."""
        rows = self._database.read(
            "WITH RECURSIVE chain (seq, id, created_ms) AS ("
            " SELECT seq, id, created_ms FROM records WHERE id = ?1 AND author = ?2"
            " UNION ALL"
            " SELECT r.seq, r.id, r.created_ms FROM records r, chain c"
            " WHERE r.author = ?2 AND r.seq = c.seq + 1 AND r.prev = c.id)"
            " SELECT seq, id, created_ms FROM chain ORDER BY seq DESC, id LIMIT 1",
            (branch, author),
        )
        return Head(*rows[0]) if rows else None

    def newest_ms(self) -> int:
        """The latest date that any author claims; 0 without records."""
        rows = self._database.read("SELECT coalesce(max(created_ms), 0) FROM records")
        return int(rows[0][0])

    def count(self) -> int:
        return int(self._database.read("SELECT coalesce(sum(count), 0) FROM sums")[0][0])

    def sums(self) -> tuple[Sum, ...]:
        """One per scope, in the order of `SCOPES`."""
        found = {
            scope: Sum(count, fingerprint(count, int.from_bytes(total, "big")))
            for scope, count, total in self._database.read("SELECT scope, count, total FROM sums")
        }
        return tuple(found.get(scope, Sum(0, fingerprint(0, 0))) for scope in SCOPES)

    def load_identity_records(self) -> list[Record]:
        """All `identity.*` records in the order of their arrival, to fold a roster from."""
        rows = self._database.read(
            f"{_SELECT} WHERE scope = ? ORDER BY position", (SCOPE_IDENTITY,)
        )
        return [_record(row) for row in rows]

    def get_value(self, key: str) -> bytes | None:
        rows = self._database.read("SELECT value FROM keep WHERE key = ?", (key,))
        return bytes(rows[0][0]) if rows else None

    # -- inside ----------------------------------------------------------------------------

    def _insert(
        self, cursor: sqlite3.Cursor, records: Iterable[Record], now_ms: int
    ) -> list[Record]:
        new = [record for record in records if _insert_row(cursor, record, now_ms)]
        if new:
            for record in new:
                _note_fork(cursor, record)
            _add_to_sums(cursor, new)
            for projection in self._projections:
                projection.apply(cursor, new, now_ms)
        return new

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


_SELECT = "SELECT header, signature, body, id FROM records"


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
        "INSERT INTO records (id, scope, kind, author, seq, prev, created_ms, received_ms,"
        " header, signature, body) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (id) DO NOTHING",
        (
            record.id, scope_of(header.kind), header.kind, header.author, header.seq,
            header.prev, header.created_ms, now_ms,
            record.header_bytes, record.signature, record.body,
        ),
    )  # fmt: skip
    return cursor.rowcount == 1


def _note_fork(cursor: sqlite3.Cursor, record: Record) -> None:
    """Keep the proof if a stored record and this one cannot both stand in the author's chain.

    Either they have one seq, or they are neighbours and the later one names another ``prev``.
    Each question stops at its first answer, so a chain of many forks costs no more than one.
    """
    header = record.header
    seq = header.seq
    conflicts: list[tuple[str, tuple[Any, ...], int]] = [("seq = ?", (seq,), seq)]
    if seq > 0:
        conflicts.append(("seq = ? AND id <> ?", (seq - 1, header.prev), seq - 1))
    if seq < MAX_UINT:
        conflicts.append(("seq = ? AND prev <> ?", (seq + 1, record.id), seq))
    for condition, values, at in conflicts:
        other = cursor.execute(
            f"SELECT id FROM records WHERE author = ? AND id <> ? AND {condition} LIMIT 1",
            (header.author, record.id, *values),
        ).fetchone()
        if other is not None:
            cursor.execute(
                "INSERT INTO forks VALUES (?, ?, ?, ?) ON CONFLICT (author, seq) DO NOTHING",
                (header.author, at, *sorted((other[0], record.id))),
            )


def _add_to_sums(cursor: sqlite3.Cursor, new: Sequence[Record]) -> None:
    for scope in SCOPES:
        ids = [record.id for record in new if scope_of(record.header.kind) == scope]
        if not ids:
            continue
        row = cursor.execute("SELECT count, total FROM sums WHERE scope = ?", (scope,)).fetchone()
        count, total = row or (0, b"")
        total = int.from_bytes(total, "big") + sum(int.from_bytes(item, "big") for item in ids)
        cursor.execute(
            "INSERT OR REPLACE INTO sums VALUES (?, ?, ?)",
            (scope, count + len(ids), (total % 2**256).to_bytes(32, "big")),
        )


class AsyncStore:
    """The store from trio: writes one after another in a worker thread, reads on a connection
    of their own, so that neither blocks the loop nor the other.

    A call that has started is never abandoned: a cancelled caller still waits for the commit.
    """

    def __init__(self, writer: Store, reader: Store) -> None:
        self._writer = writer
        self._reader = reader
        self._write_limit = trio.CapacityLimiter(1)
        self._read_limit = trio.CapacityLimiter(1)

    @classmethod
    async def open(cls, path: Path, projections: Sequence[Projection] = ()) -> AsyncStore:
        def both() -> tuple[Store, Store]:
            writer = Store(path, projections)
            return writer, Store(path, read_only=True)

        return cls(*await trio.to_thread.run_sync(both))

    async def aclose(self) -> None:
        with trio.CancelScope(shield=True):
            async with self._write_limit, self._read_limit:
                self._reader.close()
                self._writer.close()

    async def write(
        self, method: Callable[Concatenate[Store, _P], _T], *args: _P.args, **kwargs: _P.kwargs
    ) -> _T:
        """``await store.write(Store.save, records, now_ms)``."""
        return await trio.to_thread.run_sync(
            lambda: method(self._writer, *args, **kwargs), limiter=self._write_limit
        )

    async def read(
        self, method: Callable[Concatenate[Store, _P], _T], *args: _P.args, **kwargs: _P.kwargs
    ) -> _T:
        """``await store.read(Store.get, record_id)``; sees every write that has returned."""
        return await trio.to_thread.run_sync(
            lambda: method(self._reader, *args, **kwargs), limiter=self._read_limit
        )

    async def save(self, records: Iterable[Record], now_ms: int) -> list[Record]:
        return await self.write(Store.save, records, now_ms)
