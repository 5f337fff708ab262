"""What is saved is kept once, durably or not at all, and views are a fold over it."""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from permesh import database
from permesh.errors import PermeshError
from permesh.forks import Fork
from permesh.records import MAX_UINT, Record
from permesh.spaces import NOTHING, SPACE_COMMONS, SPACE_IDENTITY, Sum, fingerprint
from permesh.store import Store
from tests.simulator import Author, MemoryStore


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(tmp_path / "permesh.db")
    yield opened
    opened.close()


class Tally:
    """A view that counts records, and remembers in which batches and when they came."""

    name = "tally"

    def __init__(self, version: int = 1) -> None:
        self.version = version

    def reset(self, cursor: sqlite3.Cursor) -> None:
        cursor.execute("DROP TABLE IF EXISTS tally")
        cursor.execute("CREATE TABLE tally (id BLOB PRIMARY KEY, version INTEGER, at INTEGER)")

    def apply(self, cursor: sqlite3.Cursor, records: Sequence[Record], now_ms: int) -> None:
        for record in records:
            cursor.execute("INSERT INTO tally VALUES (?, ?, ?)", (record.id, self.version, now_ms))

    def forget(self, cursor: sqlite3.Cursor, records: Sequence[Record]) -> None:
        cursor.executemany("DELETE FROM tally WHERE id = ?", [(one.id,) for one in records])


def sums(store: Store) -> dict[bytes, Sum]:
    return {space: store.spaces.sum(space) for space in store.spaces.spaces()}


def code_of(error: pytest.ExceptionInfo[PermeshError]) -> str:
    return error.value.code


def test_saving_is_idempotent_and_returns_what_is_new(store: Store) -> None:
    author = Author("a")
    one, two = author.write(), author.write()
    assert store.save([one, one], 5) == [one]
    assert store.save([one, two], 6) == [two]
    assert store.save([one, two], 7) == []
    assert store.get(one.id) == one
    assert store.get(b"x" * 32) is None
    assert store.has(two.id)
    assert not store.has(b"x" * 32)
    assert store.count() == 2


def test_it_is_all_there_after_reopening(tmp_path: Path) -> None:
    author = Author("a")
    records = [author.credential(), author.write(), author.write(b"")]
    first = Store(tmp_path / "permesh.db")
    first.save(records, 5)
    held = sums(first)
    first.set_value("key", b"1")
    first.set_value("key", b"2")
    first.close()
    again = Store(tmp_path / "permesh.db")
    assert again.by_author(author.address, 0, 10) == records
    assert sums(again) == held
    assert again.get_value("key") == b"2"
    assert again.get_value("other") is None
    again.close()


def test_the_file_is_its_owners_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        store = Store(tmp_path / "permesh.db")
        store.save([Author("a").write()], 1)
        modes = {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
        assert len(list(tmp_path.iterdir())) == 3  # the database, its log, its index
        assert modes == {0o600}
        store.close()
    finally:
        os.umask(before)


def test_sums_are_equal_exactly_when_the_records_are(store: Store, tmp_path: Path) -> None:
    authors = [Author(name) for name in "abc"]
    records = [author.credential() for author in authors]
    records += [author.write() for author in authors for _ in range(5)]
    other = Store(tmp_path / "other.db")
    memory = MemoryStore()
    assert sums(store) == sums(other) == {}
    assert store.spaces.sum(SPACE_IDENTITY) == memory.sum(SPACE_IDENTITY) == NOTHING
    store.save(records, 1)
    for record in reversed(records):
        other.save([record], 2)
    memory.save(records)
    assert sums(store) == sums(other)
    assert tuple(sums(store).values()) == memory.sums()
    total = sum(int.from_bytes(r.id, "big") for r in records[:3])
    assert store.spaces.sum(SPACE_IDENTITY) == Sum(3, fingerprint(3, total))
    store.save([authors[0].write()], 1)
    assert store.spaces.sum(SPACE_IDENTITY) == other.spaces.sum(SPACE_IDENTITY)
    assert store.spaces.sum(SPACE_COMMONS) != other.spaces.sum(SPACE_COMMONS)
    other.close()


def test_missing_keeps_order_over_many_ids(store: Store) -> None:
    author = Author("a")
    records = [author.write() for _ in range(1200)]
    store.save(records[::2], 1)
    assert store.missing([r.id for r in records]) == [r.id for r in records[1::2]]
    assert store.missing([]) == []


def test_wires_stop_at_the_budget_and_pass_over_what_is_not_here(store: Store) -> None:
    author = Author("a")
    records = [author.write(bytes(1000)) for _ in range(5)]
    store.save(records, 1)
    ids = [b"x" * 32, *(record.id for record in records)]
    wires, done = store.wires(ids, 2500)
    assert [Record.from_wire(wire) for wire in wires] == records[:2]
    assert done == 3
    wires, done = store.wires(ids[done:], 1)
    assert [Record.from_wire(wire) for wire in wires] == [records[2]]
    assert store.wires([b"x" * 32], 100) == ([], 1)


def test_heads_and_who_is_behind(store: Store) -> None:
    author = Author("a")
    records = [author.write() for _ in range(3)]
    store.save([records[0], records[2]], 1)
    head = store.head(author.address)
    assert head is not None
    assert (head.seq, head.id) == (2, records[2].id)
    assert store.head(b"z" * 20) is None
    assert not store.behind([])
    assert not store.behind([(SPACE_COMMONS, author.address, seq) for seq in (0, 2)])
    assert store.behind([(SPACE_COMMONS, author.address, 3)])
    assert store.behind([(SPACE_COMMONS, author.address, seq) for seq in (0, MAX_UINT)])
    assert store.behind([(SPACE_COMMONS, b"z" * 20, 0)])
    # What is here of another space does not count.
    assert store.behind([(SPACE_IDENTITY, author.address, 0)])
    store.save([author.credential()], 1)
    assert not store.behind([(SPACE_IDENTITY, author.address, 3)])
    assert store.behind([(SPACE_COMMONS, author.address, 3)])


def test_identity_records_come_back_in_the_order_of_arrival(store: Store) -> None:
    authors = [Author(name) for name in "dcba"]
    credentials = [author.credential() for author in authors]
    for credential in credentials:
        store.save([credential], 1)
    store.save([authors[0].write()], 1)
    assert store.load_identity_records() == credentials


# -- forks


def test_two_records_at_one_seq_are_both_kept_as_a_proof(store: Store) -> None:
    author = Author("a")
    author.write()
    one = author.write(b"one")
    other = author.write(b"other", seq=1, prev=one.header.prev)
    store.save([one], 1)
    assert store.forks() == []
    store.save([other], 2)
    assert store.forks() == [Fork(author.address, 1, *sorted((one.id, other.id)))]
    assert store.has(one.id)
    assert store.has(other.id)


@pytest.mark.parametrize("later_first", [False, True])
def test_a_record_that_names_another_prev_is_a_fork(store: Store, later_first: bool) -> None:
    author = Author("a")
    first = author.write()
    astray = author.write(prev=b"p" * 32)
    for record in [astray, first] if later_first else [first, astray]:
        store.save([record], 1)
    assert [(fork.author, fork.seq) for fork in store.forks()] == [(author.address, 0)]


def test_a_chain_that_comes_in_any_order_is_no_fork(store: Store) -> None:
    author = Author("a")
    records = [author.write() for _ in range(6)]
    for record in (records[3], records[1], records[5], records[0], records[4], records[2]):
        store.save([record], 1)
    assert store.forks() == []


def test_the_highest_seq_has_no_neighbour_beyond_it(store: Store) -> None:
    record = Author("a").write(seq=MAX_UINT, prev=b"p" * 32)
    assert store.save([record], 1) == [record]


# -- failing


def test_a_full_disk_is_said_and_loses_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path / "permesh.db", [Tally()])
    author = Author("a")
    kept = author.write()
    store.save([kept], 1)
    (pages,) = store.connection.execute("PRAGMA page_count").fetchone()
    store.connection.execute(f"PRAGMA max_page_count = {pages + 3}")
    many = [author.write(bytes(8000)) for _ in range(20)]
    held = sums(store)
    with pytest.raises(PermeshError) as caught:
        store.save(many, 2)
    assert code_of(caught) == "store.full"
    assert caught.value.remedy
    assert sums(store) == held
    assert store.missing([r.id for r in many]) == [r.id for r in many]
    assert store.get(kept.id) == kept
    store.connection.execute("PRAGMA max_page_count = 100000")
    assert store.save(many, 3) == many
    store.close()
    again = Store(tmp_path / "permesh.db", [Tally()])
    assert again.count() == 21
    assert again.connection.execute("SELECT count(*) FROM tally").fetchone() == (21,)
    again.close()


def test_a_projection_that_fails_takes_the_whole_save_with_it(tmp_path: Path) -> None:
    class Broken(Tally):
        def apply(self, cursor: sqlite3.Cursor, records: Sequence[Record], now_ms: int) -> None:
            super().apply(cursor, records, now_ms)
            raise RuntimeError("broken view")

    store = Store(tmp_path / "permesh.db", [Broken()])
    record = Author("a").write()
    with pytest.raises(RuntimeError):
        store.save([record], 1)
    assert not store.has(record.id)
    assert store.count() == 0
    store.close()


def test_what_is_not_a_database_is_said_to_be_damaged(tmp_path: Path) -> None:
    path = tmp_path / "permesh.db"
    path.write_bytes(b"this is not a database" * 100)
    with pytest.raises(PermeshError) as caught:
        Store(path)
    assert code_of(caught) == "store.corrupt"


def test_a_directory_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(PermeshError) as caught:
        Store(tmp_path / "absent" / "permesh.db")
    assert code_of(caught) == "store.unavailable"


def test_a_lock_held_by_another_program_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "BUSY_TIMEOUT_MS", 10)
    store = Store(tmp_path / "permesh.db")
    other = sqlite3.connect(tmp_path / "permesh.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(PermeshError) as caught:
        store.save([Author("a").write()], 1)
    assert code_of(caught) == "store.busy"
    other.close()
    store.close()


# -- migrations and views


def test_a_database_of_a_newer_release_is_left_alone(tmp_path: Path) -> None:
    store = Store(tmp_path / "permesh.db")
    store.connection.execute(f"PRAGMA user_version = {len(database.MIGRATIONS) + 1}")
    store.close()
    with pytest.raises(PermeshError) as caught:
        Store(tmp_path / "permesh.db")
    assert code_of(caught) == "store.newer"


def test_an_older_database_is_brought_forward_and_a_failed_step_leaves_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = Author("a").write()
    store = Store(tmp_path / "permesh.db")
    store.save([record], 1)
    store.close()
    step = "CREATE TABLE extra (value INTEGER); INSERT INTO extra VALUES (7);"
    monkeypatch.setattr(database, "MIGRATIONS", (*database.MIGRATIONS, step + "NONSENSE;"))
    with pytest.raises(PermeshError):
        Store(tmp_path / "permesh.db")
    monkeypatch.setattr(database, "MIGRATIONS", (*database.MIGRATIONS[:-1], step))
    store = Store(tmp_path / "permesh.db")
    assert store.connection.execute("SELECT value FROM extra").fetchall() == [(7,)]
    assert store.get(record.id) == record
    store.close()


def test_a_view_is_kept_up_and_rebuilt_when_its_version_changes(tmp_path: Path) -> None:
    path = tmp_path / "permesh.db"
    author = Author("a")
    store = Store(path)
    store.save([author.write() for _ in range(700)], 1)
    store.save([author.write()], 2)
    store.close()
    tally = "SELECT version, at, count(*) FROM tally GROUP BY version, at ORDER BY at"

    store = Store(path, [Tally()])  # a view that is new to this database
    store.save([author.write()], 3)
    assert store.connection.execute(tally).fetchall() == [(1, 1, 700), (1, 2, 1), (1, 3, 1)]
    store.close()
    store = Store(path, [Tally()])  # left as it is
    store.connection.execute("DELETE FROM tally")
    store.close()
    store = Store(path, [Tally()])
    assert store.connection.execute(tally).fetchall() == []
    store.close()
    store = Store(path, [Tally(version=2)])
    assert store.connection.execute(tally).fetchall() == [(2, 1, 700), (2, 2, 1), (2, 3, 1)]
    store.close()
