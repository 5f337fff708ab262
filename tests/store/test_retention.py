"""What is too old is forgotten, but for what its author's chain and others' proofs rest on."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from permesh.records import Record
from permesh.spaces import DAY_MS, SPACE_COMMONS
from permesh.store import Store
from tests.simulator import REMOVAL, REMOVALS, START_MS, Author

ROOM, OTHER_ROOM = b"r" * 32, b"s" * 32
TODAY = START_MS // DAY_MS


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(tmp_path / "permesh.db", removals=REMOVALS)
    yield opened
    opened.close()


def on(author: Author, day: int, body: bytes = b"text", **fields: object) -> Record:
    """Written so many days before today."""
    values = {"room": ROOM, "created_ms": (TODAY - day) * DAY_MS, **fields}
    return author.write(body, **values)  # type: ignore[arg-type]


def drop_all(store: Store, day: int, keep: Sequence[bytes] = ()) -> int:
    """Until there is nothing left to drop."""
    dropped = 0
    while number := store.drop_before(ROOM, day, keep):
        dropped += number
    return dropped


def here(store: Store, records: Sequence[Record]) -> list[Record]:
    return [record for record in records if store.has(record.id)]


def test_days_before_go_and_the_day_itself_and_other_rooms_stay(store: Store) -> None:
    author = Author("a")
    records = [on(author, day) for day in (9, 3, 2, 1)]
    elsewhere = [on(author, 9, room=OTHER_ROOM), on(author, 9, room=b"")]
    store.save([*records, *elsewhere, on(author, 0)], 1)
    assert store.drop_before(ROOM, TODAY - 2) == 2
    assert here(store, records) == records[2:]
    assert here(store, elsewhere) == elsewhere
    assert store.drop_before(ROOM, TODAY - 2) == 0
    assert store.drop_before(OTHER_ROOM, TODAY) == 1
    assert store.drop_before(SPACE_COMMONS, TODAY) == 1


def test_the_oldest_go_first_and_no_more_than_the_limit(store: Store) -> None:
    author = Author("a")
    records = [on(author, day) for day in (5, 9, 7, 6, 8)]
    store.save([*records, on(author, 0)], 1)
    assert store.drop_before(ROOM, TODAY, limit=2) == 2
    assert here(store, records) == [records[0], records[2], records[3]]
    assert store.drop_before(ROOM, TODAY, limit=2) == 2
    assert here(store, records) == [records[0]]
    assert store.drop_before(ROOM, TODAY, limit=2) == 1


def test_the_last_record_of_each_author_stays_since_its_chain_goes_on(store: Store) -> None:
    authors = [Author(name) for name in "abc"]
    records = [on(author, 9, b"%d" % n) for author in authors for n in range(3)]
    store.save(records, 1)
    store.save([on(authors[2], 0, room=OTHER_ROOM)], 1)  # its last is elsewhere
    assert drop_all(store, TODAY) == 2 + 2 + 3
    assert here(store, records) == [records[2], records[5]]
    for author in authors[:2]:
        head = store.head(author.address)
        assert head is not None
        assert head.seq == 2


def test_the_record_that_was_saved_last_stays_since_positions_only_grow(store: Store) -> None:
    author = Author("a")
    late = on(author, 9)
    store.save([on(author, 0)], 1)
    store.save([late], 2)
    position = store.last_position()
    assert drop_all(store, TODAY) == 0
    assert store.last_position() == position
    store.save([on(author, 0)], 3)
    assert store.last_position() > position
    assert drop_all(store, TODAY) == 1
    assert not store.has(late.id)


def test_proofs_of_forks_stay(store: Store) -> None:
    author = Author("a")
    first = on(author, 9)
    two = [on(author, 9, body, seq=1, prev=first.id) for body in (b"one", b"other")]
    rest = [on(author, 8), on(author, 0)]
    store.save([first, *two, *rest], 1)
    forks = store.forks()
    assert drop_all(store, TODAY) >= 1
    assert not store.has(first.id)
    assert here(store, two) == two
    assert store.forks() == forks
    assert store.forks_of(author.address)[0].seq == 1


def test_what_is_to_be_kept_stays_and_does_not_hold_up_the_rest(store: Store) -> None:
    author = Author("a")
    records = [on(author, 20 - n) for n in range(20)]
    store.save([*records, on(author, 0)], 1)
    keep = [record.id for record in records[:12]]
    assert store.drop_before(ROOM, TODAY, keep, limit=3) == 3
    assert drop_all(store, TODAY, keep) == 5
    assert here(store, records) == records[:12]
    assert drop_all(store, TODAY) == 12


def test_a_removal_stays_as_long_as_what_it_names(store: Store) -> None:
    author = Author("a")
    old, new = on(author, 9, b"old"), on(author, 1, b"new")
    removal = on(author, 8, kind=REMOVAL, parents=(old.id, new.id))
    other = on(author, 8, kind=REMOVAL, parents=(b"n" * 32,))  # of what never came
    store.save([old, new, removal, other, on(author, 0)], 1)
    assert drop_all(store, TODAY - 5) == 2  # ``old`` and ``other``
    assert here(store, [old, new, removal, other]) == [new, removal]
    [wire] = store.wires([new.id], 10_000)[0]
    assert Record.from_wire(wire).removal == removal
    assert drop_all(store, TODAY) == 2
    assert here(store, [new, removal]) == []
    # Nothing of it is left behind.
    assert store.connection.execute("SELECT count(*) FROM removals").fetchone() == (0,)


def test_a_target_that_is_kept_keeps_its_removal(store: Store) -> None:
    author = Author("a")
    note = on(author, 9)
    removal = on(author, 8, kind=REMOVAL, parents=(note.id,))
    store.save([note, removal, on(author, 0)], 1)
    assert drop_all(store, TODAY, [note.id]) == 0
    assert len(store.wires([note.id], 10_000)[0]) == 1


def test_what_was_dropped_may_come_again(store: Store) -> None:
    """When it is to be kept for longer after all."""
    author = Author("a")
    note = on(author, 9)
    removal = on(author, 8, kind=REMOVAL, parents=(note.id,))
    store.save([note, removal, on(author, 0)], 1)
    whole = Record.from_wire(store.wires([note.id], 10_000)[0][0])
    before = store.spaces.sum(ROOM)
    assert drop_all(store, TODAY) == 2
    assert store.save([whole], 2) == [removal, whole]
    assert store.spaces.sum(ROOM) == before
    found = store.get(note.id)
    assert found is not None
    assert found.body is None


def test_a_view_that_fails_to_forget_keeps_everything(tmp_path: Path) -> None:
    class Clinging:
        name, version = "clinging", 1

        def reset(self, cursor: sqlite3.Cursor) -> None:
            assert cursor

        def apply(self, cursor: sqlite3.Cursor, records: Sequence[Record], now_ms: int) -> None:
            assert all((cursor, records, now_ms))

        def forget(self, cursor: sqlite3.Cursor, records: Sequence[Record]) -> None:
            cursor.execute("DELETE FROM records WHERE id = ?", (records[0].id,))
            raise RuntimeError("broken view")

    store = Store(tmp_path / "permesh.db", [Clinging()])
    author = Author("a")
    records = [on(author, 9), on(author, 0)]
    store.save(records, 1)
    before = store.spaces.sum(ROOM)
    with pytest.raises(RuntimeError):
        store.drop_before(ROOM, TODAY)
    assert here(store, records) == records
    assert store.spaces.sum(ROOM) == before
    store.close()
