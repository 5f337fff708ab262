"""What its author has taken back has no body any more, whichever came first, and shows why."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from itertools import permutations
from pathlib import Path

import pytest

from permesh.records import Record
from permesh.removal import NO_REMOVALS
from permesh.store import Store
from tests.simulator import CREDENTIAL, REMOVAL, REMOVALS, Author

ROOM, OTHER_ROOM = b"r" * 32, b"s" * 32


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(tmp_path / "permesh.db", removals=REMOVALS)
    yield opened
    opened.close()


def remove(author: Author, *targets: Record | bytes, room: bytes = ROOM) -> Record:
    ids = tuple(target if isinstance(target, bytes) else target.id for target in targets)
    return author.write(b"taken back", kind=REMOVAL, room=room, parents=ids)


def body(store: Store, record: Record) -> bytes | None:
    found = store.get(record.id)
    assert found is not None
    return found.body


def given(store: Store, *records: Record) -> list[Record]:
    """As another member receives them."""
    wires, done = store.wires([record.id for record in records], 10**9)
    assert done == len(records)
    return [Record.from_wire(wire) for wire in wires]


def test_a_body_goes_now_and_whenever_it_comes_again(store: Store) -> None:
    author = Author("a")
    note, other = author.write(b"secret", room=ROOM), author.write(b"other", room=ROOM)
    store.save([note, other], 1)
    removal = remove(author, note)
    assert store.save([removal], 2) == [removal]
    assert body(store, note) is None
    assert body(store, other) == b"other"
    assert body(store, removal) == b"taken back"
    assert store.save([note], 3) == []  # from somebody who has not heard of it
    assert body(store, note) is None
    assert b"secret" not in dump(store)


def dump(store: Store) -> bytes:
    rows = store.connection.execute("SELECT header, signature, body FROM records").fetchall()
    return b"".join(value or b"" for row in rows for value in row)


def test_a_body_that_comes_after_its_removal_is_not_kept(store: Store) -> None:
    author = Author("a")
    note = author.write(b"secret", room=ROOM)
    removal = remove(author, note)
    store.save([removal], 1)
    [kept] = store.save([note], 2)
    assert (kept.id, kept.body) == (note.id, None)
    assert body(store, note) is None


def test_in_whatever_order_they_come_the_end_is_the_same(tmp_path: Path) -> None:
    author, other = Author("a"), Author("b")
    note, kept = author.write(b"secret", room=ROOM), author.write(b"kept", room=ROOM)
    removal = remove(author, note, b"n" * 32)
    theirs = remove(other, note, kept)
    records = [note, kept, removal, theirs]
    for number, order in enumerate(permutations(records)):
        store = Store(tmp_path / f"{number}.db", removals=REMOVALS)
        for group in (order[: number % 5], order[number % 5 :]):  # in one save, or in two
            store.save(group, 1)
        assert [body(store, record) for record in records] == [
            None, b"kept", b"taken back", b"taken back",
        ]  # fmt: skip
        store.close()


def no_removals(author: Author, note: Record) -> list[Record]:
    """What looks like a removal of the note and is none."""
    here = {"kind": REMOVAL, "parents": (note.id,)}
    return [
        Author("b").write(room=ROOM, **here),  # another author's
        author.write(room=OTHER_ROOM, **here),  # in another room
        author.write(**here),  # in none
        author.write(room=ROOM, parents=(note.id,)),  # of another kind
        author.write(room=ROOM, kind=REMOVAL, parents=(b"n" * 32,)),  # of something else
    ]


@pytest.mark.parametrize("which", range(5))
@pytest.mark.parametrize("first", [False, True])
def test_only_the_author_in_that_room_takes_a_body_away(
    store: Store, which: int, first: bool
) -> None:
    author = Author("a")
    note = author.write(b"stays", room=ROOM)
    removal = no_removals(author, note)[which]
    for record in (removal, note) if first else (note, removal):
        store.save([record], 1)
    assert body(store, note) == b"stays"
    assert given(store, note) == [note]


def test_what_may_not_lose_its_body_keeps_it(store: Store) -> None:
    """A credential says who signed the rest, and a removal what was taken back."""
    author = Author("a")
    kinds = [CREDENTIAL, REMOVAL, "forum.room"]
    for kind in kinds:
        record = author.write(b"stays", kind=kind)
        removal = remove(author, record, room=b"")
        store.save([record, removal], 1)
        assert body(store, record) == b"stays"
        later = author.write(b"stays", kind=kind)
        store.save([remove(author, later, room=b"")], 1)
        store.save([later], 1)
        assert body(store, later) == b"stays"
    assert store.connection.execute("SELECT count(*) FROM removals").fetchone() == (3,)


def test_a_store_without_removals_takes_nothing_away(tmp_path: Path) -> None:
    store = Store(tmp_path / "permesh.db")
    author = Author("a")
    note = author.write(b"stays", room=ROOM)
    store.save([note, remove(author, note)], 1)
    assert body(store, note) == b"stays"
    assert NO_REMOVALS.targets(note) == ()
    store.close()


# -- how it travels --------------------------------------------------------------------------------


def test_a_removed_record_travels_with_its_removal(store: Store, tmp_path: Path) -> None:
    author = Author("a")
    note = author.write(b"secret", room=ROOM)
    first, second = remove(author, note), remove(author, note)
    store.save([note, first, second], 1)
    [wire] = given(store, note)
    assert (wire.id, wire.body, wire.removal) == (note.id, None, first)
    assert Record.decode(wire.encode()) == wire
    assert REMOVALS.proves(wire)
    other = Store(tmp_path / "other.db", removals=REMOVALS)
    # The removal comes with it, is new too, and counts from now on.
    assert other.save([wire], 2) == [first, wire]
    assert other.save([first, note, wire], 3) == []
    assert body(other, note) is None
    assert given(other, note, first) == given(store, note, first)
    assert other.spaces.sum(ROOM).count == 2
    other.close()


def test_a_removal_that_comes_with_its_target_takes_the_body_of_the_one_that_is_here(
    store: Store, tmp_path: Path
) -> None:
    author = Author("a")
    note = author.write(b"secret", room=ROOM)
    removal = remove(author, note)
    store.save([note, removal], 1)
    other = Store(tmp_path / "other.db", removals=REMOVALS)
    other.save([note], 1)
    assert other.save(given(store, note), 2) == [removal]
    assert body(other, note) is None
    other.close()


def test_a_fresh_store_gets_the_whole_chain_and_it_verifies(store: Store, tmp_path: Path) -> None:
    author = Author("a")
    records = [author.credential()]
    for number in range(20):
        records.append(author.write(b"%d" % number, room=ROOM))
        if number % 3 == 2:
            records.append(remove(author, *records[-3::2]))
    store.save(records, 1)
    removed = {i for record in records for i in REMOVALS.targets(record)}
    assert removed
    fresh = Store(tmp_path / "fresh.db", removals=REMOVALS)
    new = fresh.save(given(store, *records), 2)
    assert sorted(r.id for r in new) == sorted(r.id for r in records)
    chain = fresh.by_author(author.address, 0, 100)
    assert [(r.id, r.signature, r.header) for r in chain] == [
        (r.id, r.signature, r.header) for r in records
    ]
    assert [r.header.prev for r in chain[1:]] == [r.id for r in chain[:-1]]
    assert {r.id for r in chain if r.body is None} == removed
    assert fresh.forks() == []
    assert fresh.spaces.sum(ROOM) == store.spaces.sum(ROOM)
    fresh.close()


def test_wires_count_a_removal_that_goes_along(store: Store) -> None:
    author = Author("a")
    notes = [author.write(b"", room=ROOM) for _ in range(4)]
    removal = author.write(bytes(20_000), kind=REMOVAL, room=ROOM, parents=(notes[0].id,))
    store.save([*notes, removal, remove(author, *notes[1:])], 1)
    ids = [note.id for note in notes]
    wires, done = store.wires(ids, 20_500)
    assert done == 1
    assert len(wires) == 1


def test_what_was_taken_away_by_what_is_not_here_cannot_be_given(store: Store) -> None:
    author = Author("a")
    note = author.write(b"secret", room=ROOM)
    store.save([note, remove(author, note)], 1)
    store.connection.execute("DELETE FROM records WHERE kind = ?", (REMOVAL,))
    assert store.wires([note.id], 1000) == ([], 1)


# -- what views see --------------------------------------------------------------------------------


class Seen:
    """A view that remembers what it was shown."""

    name = "seen"
    version = 1

    def __init__(self) -> None:
        self.batches: list[list[tuple[bytes, bytes | None]]] = []
        self.forgotten: list[bytes] = []

    def reset(self, cursor: sqlite3.Cursor) -> None:
        self.batches.clear()
        assert cursor

    def apply(self, cursor: sqlite3.Cursor, records: Sequence[Record], now_ms: int) -> None:
        for record in records:  # they are in the table already, as they are shown
            row = cursor.execute("SELECT body FROM records WHERE id = ?", (record.id,)).fetchone()
            assert row is not None
        assert now_ms
        self.batches.append([(record.id, record.body) for record in records])

    def forget(self, cursor: sqlite3.Cursor, records: Sequence[Record]) -> None:
        for record in records:
            assert cursor.execute("SELECT 1 FROM records WHERE id = ?", (record.id,)).fetchone()
        self.forgotten += [record.id for record in records]


def test_a_view_sees_the_removal_and_what_comes_later_without_its_body(tmp_path: Path) -> None:
    author = Author("a")
    before, after = author.write(b"before", room=ROOM), author.write(b"after", room=ROOM)
    removal = remove(author, before, after)
    view = Seen()
    store = Store(tmp_path / "permesh.db", [view], removals=REMOVALS)
    for record in (before, removal, after):
        store.save([record], 1)
    assert view.batches == [
        [(before.id, b"before")], [(removal.id, b"taken back")], [(after.id, None)],
    ]  # fmt: skip
    store.close()
    again = Seen()
    again.version = 2
    Store(tmp_path / "permesh.db", [again], removals=REMOVALS).close()
    assert again.batches == [[(before.id, None), (removal.id, b"taken back"), (after.id, None)]]


def test_a_view_is_told_what_is_forgotten_while_it_is_still_here(tmp_path: Path) -> None:
    author = Author("a")
    records = [author.write(room=ROOM) for _ in range(3)]
    view = Seen()
    store = Store(tmp_path / "permesh.db", [view])
    store.save(records, 1)
    assert store.drop_before(ROOM, 10**6) == 2
    assert sorted(view.forgotten) == sorted(r.id for r in records[:2])
    store.close()
