"""One SQLite file: how it is opened, migrated, written in transactions, and how it fails.

Owns pragmas, migrations and the translation of SQLite's errors into words for people. Must never
know what the rows mean: that is `permesh/store.py`.
"""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import msgpack

from .errors import PermeshError

# How long a connection waits for the other one's lock; writers are serialised above, so this is
# met only when another program has the file open.
BUSY_TIMEOUT_MS = 5_000
WRITER_CACHE_KIB = 64 * 1024
CHECKPOINT_PAGES = 16_000  # of 4 KiB

# Number n brings a database from user_version n - 1 to n. Only ever append.
MIGRATIONS: tuple[str, ...] = (
    """
    CREATE TABLE records (
        position INTEGER PRIMARY KEY,
        id BLOB NOT NULL UNIQUE,
        scope INTEGER NOT NULL,
        kind TEXT NOT NULL,
        author BLOB NOT NULL,
        seq INTEGER NOT NULL,
        prev BLOB NOT NULL,
        created_ms INTEGER NOT NULL,
        received_ms INTEGER NOT NULL,
        header BLOB NOT NULL,
        signature BLOB NOT NULL,
        body BLOB
    );
    CREATE INDEX records_by_scope ON records (scope, id);
    CREATE INDEX records_by_author ON records (author, seq, id);
    CREATE TABLE forks (
        author BLOB NOT NULL,
        seq INTEGER NOT NULL,
        id_a BLOB NOT NULL REFERENCES records (id),
        id_b BLOB NOT NULL REFERENCES records (id),
        PRIMARY KEY (author, seq)
    );
    CREATE TABLE sums (scope INTEGER PRIMARY KEY, count INTEGER NOT NULL, total BLOB NOT NULL);
    CREATE TABLE views (name TEXT PRIMARY KEY, version INTEGER NOT NULL);
    CREATE TABLE keep (key TEXT PRIMARY KEY, value BLOB NOT NULL);
    """,
    # For chronicles: an author's credentials among all that it wrote. Scope 0 is identity's.
    "CREATE INDEX identity_by_author ON records (author, kind, seq) WHERE scope = 0;",
    # Spaces in place of two scopes; sums by day, which the store adds up on opening; removals.
    """
    DROP INDEX identity_by_author;
    DROP INDEX records_by_scope;
    ALTER TABLE records DROP COLUMN scope;
    ALTER TABLE records ADD COLUMN space BLOB NOT NULL DEFAULT x'01';
    ALTER TABLE records ADD COLUMN day INTEGER NOT NULL DEFAULT 0;
    UPDATE records SET day = created_ms / 86400000, space = CASE
        WHEN kind GLOB 'identity.*' THEN x'00'
        WHEN kind IN ('forum.room', 'forum.charter') OR kind GLOB 'mesh.*'
            OR length(room_of(header)) = 0 THEN x'01'
        ELSE room_of(header) END;
    CREATE INDEX records_by_day ON records (space, day, id);
    CREATE INDEX records_by_head ON records (space, author, seq, day, id);
    CREATE INDEX identity_by_author ON records (author, kind, seq) WHERE space = x'00';
    DROP TABLE sums;
    CREATE TABLE sums (
        space BLOB NOT NULL,
        day INTEGER NOT NULL,
        count INTEGER NOT NULL,
        bytes INTEGER NOT NULL,
        total BLOB NOT NULL,
        PRIMARY KEY (space, day)
    ) WITHOUT ROWID;
    CREATE TABLE removals (
        target BLOB NOT NULL,
        author BLOB NOT NULL,
        space BLOB NOT NULL,
        removal BLOB NOT NULL,
        PRIMARY KEY (target, author, space)
    ) WITHOUT ROWID;
    CREATE INDEX removals_by_removal ON removals (removal);
    """,
    # What only this member decides or remembers; no view rebuilds it. An empty `reply_to` of a
    # draft is a post of its own, an empty `room` of a read mark the inbox. A mark is a position,
    # the order of arrival. `heard` is 0 yes, 1 muted, 2 blocked.
    """
    CREATE TABLE follows (
        room BLOB PRIMARY KEY,
        followed INTEGER NOT NULL,
        keep_days INTEGER NOT NULL DEFAULT 0,
        keep_megabytes INTEGER NOT NULL DEFAULT 0,
        floor_day INTEGER NOT NULL DEFAULT 0
    ) WITHOUT ROWID;
    CREATE TABLE drafts (
        room BLOB NOT NULL,
        reply_to BLOB NOT NULL,
        text TEXT NOT NULL,
        updated_ms INTEGER NOT NULL,
        PRIMARY KEY (room, reply_to)
    );
    CREATE TABLE read_marks (room BLOB PRIMARY KEY, position INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE judgements (
        agent BLOB PRIMARY KEY,
        labels INTEGER NOT NULL,
        heard INTEGER NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE choices (key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
""",
    # Every room that there is stands in `follows`; those that are followed are few.
    "CREATE INDEX follows_followed ON follows (room) WHERE followed;",
    # SQLite looks for proofs that name it whenever a record is dropped.
    "CREATE INDEX forks_by_a ON forks (id_a); CREATE INDEX forks_by_b ON forks (id_b);",
)


class Database:
    """A connection for one thread at a time; raises ``PermeshError`` with a ``store.*`` code."""

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self.path = path
        with self._translated():
            if not read_only:
                # SQLite gives its -wal and -shm files the mode of the database.
                os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
            self.connection = sqlite3.connect(
                path, isolation_level=None, check_same_thread=False, timeout=BUSY_TIMEOUT_MS / 1000
            )
            try:
                self.connection.execute("PRAGMA foreign_keys = ON")
                version = self._version()
                if read_only:
                    self.connection.execute("PRAGMA query_only = ON")
                    if 0 < version < len(MIGRATIONS):
                        raise PermeshError(
                            "store.older",
                            f"{path} was written by an older release.",
                            "Start permesh once, which brings it up to date: permesh daemon",
                        )
                else:
                    self.connection.execute("PRAGMA journal_mode = WAL")
                    # Ids are hashes, so a batch touches pages all over: they are to stay in memory,
                    # and to be copied back from the log less often than every other commit.
                    self.connection.execute(f"PRAGMA cache_size = -{WRITER_CACHE_KIB}")
                    self.connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
                    # What a statement may have to undo is a few pages, and would be a file.
                    self.connection.execute("PRAGMA temp_store = MEMORY")
                    # A commit has reached the disk when it returns: what was confirmed stays.
                    self.connection.execute("PRAGMA synchronous = FULL")
                    self._migrate(version)
            except BaseException:
                self.connection.close()
                raise

    def close(self) -> None:
        with self._translated():
            self.connection.close()

    def read(self, sql: str, values: Sequence[Any] = ()) -> list[Any]:
        with self._translated():
            return self.connection.execute(sql, values).fetchall()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Cursor]:
        """All of the block is committed, or, whatever it raises, none of it."""
        with self._translated(), closing(self.connection.cursor()) as cursor:
            cursor.execute("BEGIN IMMEDIATE")
            try:
                yield cursor
                cursor.execute("COMMIT")
            except BaseException:
                if self.connection.in_transaction:
                    self.connection.rollback()
                raise

    def _version(self) -> int:
        (version,) = self.connection.execute("PRAGMA user_version").fetchone()
        if version > len(MIGRATIONS):
            raise PermeshError(
                "store.newer",
                f"{self.path} was written by a newer release (format {version}, "
                f"and this one knows {len(MIGRATIONS)}).",
                "Upgrade permesh.",
            )
        return int(version)

    def _migrate(self, version: int) -> None:
        # What SQL cannot read of a record that an older release kept: its header's fourth field.
        self.connection.create_function("room_of", 1, lambda header: msgpack.unpackb(header)[3])
        for number in range(version, len(MIGRATIONS)):
            with self.transaction() as cursor:
                for statement in MIGRATIONS[number].split(";"):
                    cursor.execute(statement)
                cursor.execute(f"PRAGMA user_version = {number + 1}")

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise _as_permesh_error(error, self.path) from error


def _as_permesh_error(error: sqlite3.Error | OSError, path: Path) -> PermeshError:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code == sqlite3.SQLITE_FULL or getattr(error, "errno", None) == errno.ENOSPC:
        return PermeshError(
            "store.full",
            f"The disk that holds {path} is full; nothing was saved.",
            "Free some space and try again.",
            http_status=507,
        )
    if code in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
        return PermeshError(
            "store.corrupt",
            f"{path} is damaged or is not a permesh database.",
            "Move it away: what the mesh knows comes back by sync.",
            http_status=500,
        )
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return PermeshError(
            "store.busy",
            f"Another program keeps {path} locked.",
            "Close that program and try again.",
            http_status=503,
        )
    return PermeshError(
        "store.unavailable",
        f"{path} cannot be read or written: {error}.",
        "Check that the directory exists, is yours and is writable.",
        http_status=500,
    )
