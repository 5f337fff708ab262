"""A database of an earlier release is brought up to date, and nothing in it is lost."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path

import pytest

from permesh import database
from permesh.errors import PermeshError
from permesh.forks import Fork
from permesh.records import Record
from permesh.spaces import (
    DAY_MS,
    SPACE_COMMONS,
    SPACE_IDENTITY,
    Sum,
    day_of,
    fingerprint,
    space_of,
)
from permesh.store import Store
from tests.simulator import CREDENTIAL, START_MS, Author

ROOM, OTHER_ROOM = b"r" * 32, b"s" * 32


class Notes:
    """A view that was built before."""

    name = "notes"
    version = 1

    def reset(self, cursor: sqlite3.Cursor) -> None:
        cursor.execute("CREATE TABLE notes (id BLOB PRIMARY KEY)")

    def apply(self, cursor: sqlite3.Cursor, records: Sequence[Record], now_ms: int) -> None:
        cursor.executemany("INSERT INTO notes VALUES (?)", [(one.id,) for one in records])
        assert now_ms

    def forget(self, cursor: sqlite3.Cursor, records: Sequence[Record]) -> None:
        cursor.executemany("DELETE FROM notes WHERE id = ?", [(one.id,) for one in records])


def written() -> list[Record]:
    """Records of every kind of space and of some days; one chain forks."""
    author, other = Author("a"), Author("b")
    records = [
        author.credential(),
        author.write(kind="forum.room"),
        author.write(kind="forum.room", room=ROOM),  # an odd one, but it may be there
        author.write(kind="forum.post", room=ROOM),
        author.write(kind="mesh.addresses"),
        author.write(kind="mesh.addresses", room=ROOM),
        author.write(kind="test.note"),
        other.credential(),
        other.write(kind="identity.request", room=ROOM),
        # SQL's LIKE would take these for identity's and the mesh's.
        other.write(kind="Identity.request", room=ROOM),
        other.write(kind="MESH.addresses", room=ROOM),
        other.write(kind="forum.post", room=OTHER_ROOM, created_ms=0),
        other.write(kind="forum.post", room=OTHER_ROOM, created_ms=START_MS - 400 * DAY_MS),
        other.write(bytes(32 * 1024), kind="forum.post", room=OTHER_ROOM),
        other.write(b"", kind="forum.post", room=OTHER_ROOM),
    ]
    fork = author.write(b"other", kind="forum.post", room=ROOM, seq=3, prev=records[2].id)
    return [*records, fork]


def write_as_before(path: Path, version: int, records: Sequence[Record]) -> None:
    """What the release of that version left in its file."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    for migration in database.MIGRATIONS[:version]:
        connection.executescript(migration)
    connection.execute(f"PRAGMA user_version = {version}")
    for number, record in enumerate(records):
        header = record.header
        connection.execute(
            "INSERT INTO records (id, scope, kind, author, seq, prev, created_ms, received_ms,"
            " header, signature, body) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                record.id, int(not header.kind.startswith("identity.")), header.kind,
                header.author, header.seq, header.prev, header.created_ms, number,
                record.header_bytes, record.signature, record.body,
            ),
        )  # fmt: skip
    for scope in (0, 1):
        ids = [r.id for r in records if r.header.kind.startswith("identity.") == (scope == 0)]
        total = sum(int.from_bytes(item, "big") for item in ids) % 2**256
        row = (scope, len(ids), total.to_bytes(32, "big"))
        connection.execute("INSERT INTO sums VALUES (?, ?, ?)", row)
    one, other = sorted((records[3].id, records[-1].id))
    author = records[3].header.author
    connection.execute("INSERT INTO forks VALUES (?, 3, ?, ?)", (author, one, other))
    connection.execute("INSERT INTO views VALUES ('notes', 1)")
    connection.execute("CREATE TABLE notes (id BLOB PRIMARY KEY)")
    connection.executemany("INSERT INTO notes VALUES (?)", [(r.id,) for r in records])
    connection.execute("INSERT INTO keep VALUES ('mesh.genesis', x'00ff')")
    connection.close()


def version(store: Store) -> int:
    return int(store.connection.execute("PRAGMA user_version").fetchone()[0])


def summed(records: Sequence[Record]) -> Sum:
    total = sum(int.from_bytes(record.id, "big") for record in records)
    return Sum(len(records), fingerprint(len(records), total))


def check(store: Store, records: Sequence[Record]) -> None:
    """It is all there, in its order and in its place."""
    assert version(store) == len(database.MIGRATIONS)
    kept = [record for _, record in store.saved_after(0, 100)]
    assert kept == list(records)
    assert store.count() == len(records)
    places: dict[bytes, dict[int, list[Record]]] = {}
    for record in records:
        header = record.header
        days = places.setdefault(space_of(header.kind, header.room), {})
        days.setdefault(day_of(header.created_ms), []).append(record)
    assert sorted(store.spaces.spaces()) == sorted(places)
    assert set(places) == {SPACE_IDENTITY, SPACE_COMMONS, ROOM, OTHER_ROOM}
    for space, days in places.items():
        assert store.spaces.days(space) == {day: summed(some) for day, some in days.items()}
        assert store.spaces.sizes(space) == [
            (day, sum(len(r.header_bytes) + len(r.body or b"") for r in some))
            for day, some in sorted(days.items())
        ]
        for day, some in days.items():
            assert store.spaces.tree(space, day).ids("") == sorted(r.id for r in some)
    one, other = sorted((records[3].id, records[-1].id))
    assert store.forks() == [Fork(records[3].header.author, 3, one, other)]
    assert store.get_value("mesh.genesis") == b"\x00\xff"
    assert len(store.connection.execute("SELECT id FROM notes").fetchall()) == len(records)
    assert len(store.load_identity_records()) == 3
    for name in ("a", "b"):
        found = store.identity_records_of(Author(name).address, CREDENTIAL, 10)
        assert [record.header.kind for record in found] == [CREDENTIAL]
    indexes = store.connection.execute("SELECT name FROM sqlite_master WHERE type = 'index'")
    assert ("identity_by_author",) in indexes.fetchall()
    assert store.connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert store.connection.execute("PRAGMA foreign_key_check").fetchall() == []


@pytest.mark.parametrize("former", [1, 2])
def test_a_database_of_a_release_before_keeps_everything(tmp_path: Path, former: int) -> None:
    path = tmp_path / "permesh.db"
    records = written()
    write_as_before(path, former, records)
    for _ in range(2):  # the second time there is nothing to do
        store = Store(path, [Notes()])
        check(store, records)
        store.close()
    store = Store(path, [Notes()])
    new = Author("c").write(room=ROOM)
    assert store.save([*records, new], 99) == [new]
    assert store.count() == len(records) + 1
    today = [r for r in (*records, new) if space_of(r.header.kind, r.header.room) == ROOM]
    assert store.spaces.sum(ROOM) == summed(today)
    store.close()


def test_a_step_that_was_broken_off_begins_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether it broke amid the step, or before its sums were added up."""
    path = tmp_path / "permesh.db"
    records = written()
    write_as_before(path, 2, records)
    with monkeypatch.context() as patched:
        broken = (*database.MIGRATIONS[:2], database.MIGRATIONS[2] + "; NONSENSE")
        patched.setattr(database, "MIGRATIONS", broken)
        with pytest.raises(PermeshError):
            Store(path)
    database.Database(path).close()  # the step alone
    store = Store(path, [Notes()])
    check(store, records)
    store.close()


def test_an_empty_database_of_before_is_brought_up_to_date(tmp_path: Path) -> None:
    path = tmp_path / "permesh.db"
    connection = sqlite3.connect(path, isolation_level=None)
    for migration in database.MIGRATIONS[:2]:
        connection.executescript(migration)
    connection.execute("PRAGMA user_version = 2")
    connection.close()
    store = Store(path)
    assert store.count() == 0
    assert store.spaces.spaces() == []
    store.close()


@pytest.mark.parametrize("former", [1, 2])
def test_whoever_only_reads_is_told_to_bring_it_up_to_date_first(
    tmp_path: Path, former: int
) -> None:
    path = tmp_path / "permesh.db"
    records = written()
    write_as_before(path, former, records)
    with pytest.raises(PermeshError) as caught:
        Store(path, read_only=True)
    assert caught.value.code == "store.older"
    assert "permesh daemon" in caught.value.remedy
    Store(path, [Notes()]).close()
    reader = Store(path, read_only=True)
    check(reader, records)
    reader.close()
