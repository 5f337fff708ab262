"""What is here of each space: kept up under every change, and equal to what is counted anew."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from random import Random

import pytest

from permesh import space_index
from permesh.records import Record
from permesh.space_index import Run, head_name
from permesh.spaces import (
    DAY_MS,
    NOTHING,
    SPACE_COMMONS,
    SPACE_IDENTITY,
    Part,
    Sum,
    day_of,
    fingerprint,
    space_of,
)
from permesh.store import Store
from tests.simulator import REMOVALS, START_MS, Author, MemoryStore

ROOM, OTHER_ROOM = b"r" * 32, b"s" * 32
TODAY = START_MS // DAY_MS


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(tmp_path / "permesh.db", removals=REMOVALS)
    yield opened
    opened.close()


def summed(records: Iterable[Record]) -> Sum:
    some = list(records)
    return Sum(len(some), fingerprint(len(some), sum(int.from_bytes(r.id, "big") for r in some)))


def scattered(random: Random, number: int, names: str = "abc", days: int = 5) -> list[Record]:
    """Records over some authors, spaces and days."""
    authors = [Author(name) for name in names]
    records = []
    for _ in range(number):
        author = random.choice(authors)
        day = TODAY - random.randrange(days)
        created = day * DAY_MS + random.randrange(DAY_MS)
        if random.randrange(6) == 0:
            records.append(author.write(kind="identity.request", created_ms=created))
        else:
            room = random.choice([b"", ROOM, OTHER_ROOM])
            records.append(author.write(bytes(random.randrange(99)), room=room, created_ms=created))
    return records


def size_of(store: Store, record: Record) -> int:
    here = store.get(record.id)
    assert here is not None
    return len(here.header_bytes) + len(here.body or b"")


def check(store: Store, records: Iterable[Record]) -> None:
    """All sums are those of ``records``, which are what the store holds."""
    places: dict[bytes, dict[int, list[Record]]] = defaultdict(lambda: defaultdict(list))
    for record in records:
        header = record.header
        places[space_of(header.kind, header.room)][day_of(header.created_ms)].append(record)
    index = store.spaces
    assert sorted(index.spaces()) == sorted(places)
    assert index.count() == sum(len(some) for days in places.values() for some in days.values())
    for space, days in places.items():
        assert index.days(space) == {day: summed(some) for day, some in sorted(days.items())}
        assert list(index.days(space)) == sorted(days)
        for from_day in (0, TODAY - 2, TODAY, TODAY + 1):
            later = {day: some for day, some in days.items() if day >= from_day}
            held = summed(r for some in later.values() for r in some)
            assert index.sum(space, from_day) == held
            assert index.days(space, from_day) == {day: summed(s) for day, s in later.items()}
        assert index.sizes(space) == [
            (day, sum(size_of(store, r) for r in some)) for day, some in sorted(days.items())
        ]
        for day, some in days.items():
            assert index.tree(space, day).ids("") == sorted(r.id for r in some)
        authors: dict[bytes, int] = {}
        for r in (record for some in days.values() for record in some):
            authors[r.header.author] = max(r.header.seq, authors.get(r.header.author, -1))
        assert index.heads(space, 100) == sorted(authors.items())


@pytest.mark.parametrize("seed", range(4))
def test_sums_are_kept_up_under_every_change(tmp_path: Path, seed: int) -> None:
    random = Random(seed)
    path = tmp_path / "permesh.db"
    store = Store(path, removals=REMOVALS)
    held: dict[bytes, Record] = {}
    for record in random.sample(records := scattered(random, 120), len(records)):
        if random.randrange(3):
            store.save([record, record], START_MS)
            held[record.id] = record
        if random.randrange(20) == 0:
            space = random.choice([SPACE_IDENTITY, SPACE_COMMONS, ROOM, OTHER_ROOM])
            store.drop_before(space, TODAY - random.randrange(3), limit=random.randrange(1, 9))
            held = {i: r for i, r in held.items() if store.has(i)}
            check(store, held.values())
    check(store, held.values())
    before = store.connection.execute("SELECT * FROM sums ORDER BY space, day").fetchall()
    store.connection.execute("DELETE FROM sums")
    store.close()
    store = Store(path, removals=REMOVALS)  # which adds them up anew
    assert store.connection.execute("SELECT * FROM sums ORDER BY space, day").fetchall() == before
    check(store, held.values())
    store.close()


def test_a_space_of_which_everything_was_dropped_is_none(store: Store) -> None:
    author = Author("a")
    store.save([author.write(room=ROOM), author.write()], 1)
    assert store.drop_before(ROOM, TODAY + 1) == 1
    assert store.spaces.spaces() == [SPACE_COMMONS]
    assert store.spaces.sum(ROOM) == NOTHING
    assert store.spaces.days(ROOM) == {}
    assert store.spaces.heads(ROOM, 10) == []
    assert store.spaces.sizes(ROOM) == []


def test_sums_of_several_spaces_come_in_their_order(store: Store) -> None:
    records = scattered(Random(1), 30)
    store.save(records, 1)
    asked = [(OTHER_ROOM, TODAY), (b"n" * 32, 0), (ROOM, 0)]
    assert store.spaces.sums(asked) == [store.spaces.sum(*one) for one in asked]


def test_a_removed_body_leaves_sums_and_trees_as_they_were(store: Store) -> None:
    author = Author("a")
    note = author.write(b"to be removed", room=ROOM)
    store.save([note], 1)
    removal = author.write(kind="test.removal", room=ROOM, parents=(note.id,))
    store.save([removal], 2)
    gone = store.get(note.id)
    assert gone is not None
    assert gone.body is None
    check(store, [note, removal])


# -- trees ---------------------------------------------------------------------------------------


def test_a_tree_is_read_once_until_its_day_changes(store: Store) -> None:
    author = Author("a")
    store.save([author.write(room=ROOM) for _ in range(5)], 1)
    tree = store.spaces.tree(ROOM, TODAY)
    assert store.spaces.tree(ROOM, TODAY) is tree
    store.save([author.write(room=OTHER_ROOM), author.write()], 1)
    store.save([author.write(room=ROOM, created_ms=START_MS - DAY_MS)], 1)
    assert store.spaces.tree(ROOM, TODAY) is tree
    added = author.write(room=ROOM)
    store.save([added], 1)
    assert added.id in store.spaces.tree(ROOM, TODAY).ids("")
    author.write()
    assert store.drop_before(ROOM, TODAY + 1) == 6
    assert store.spaces.tree(ROOM, TODAY).ids("") == [added.id]  # its author's last


def test_a_reader_sees_what_another_connection_saved(store: Store, tmp_path: Path) -> None:
    author = Author("a")
    store.save([author.write(room=ROOM)], 1)
    reader = Store(tmp_path / "permesh.db", read_only=True)
    before = reader.spaces.tree(ROOM, TODAY)
    record = author.write(room=ROOM)
    store.save([record], 1)
    assert record.id not in before.ids("")
    assert record.id in reader.spaces.tree(ROOM, TODAY).ids("")
    assert reader.spaces.sum(ROOM) == store.spaces.sum(ROOM)
    reader.close()


def test_trees_that_are_kept_are_bounded_by_their_ids(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(space_index, "CACHED_IDS", 20)
    author = Author("a")
    days = range(TODAY - 9, TODAY + 1)
    store.save([author.write(created_ms=day * DAY_MS) for day in days for _ in range(6)], 1)
    for day in (*days, *days):
        assert len(store.spaces.tree(SPACE_COMMONS, day)) == 6
        kept = store.spaces._trees.values()
        assert sum(len(tree) for _, tree in kept) == store.spaces._cached_ids <= 20
    last = store.spaces.tree(SPACE_COMMONS, TODAY)
    store.spaces.tree(SPACE_COMMONS, TODAY - 1)
    assert store.spaces.tree(SPACE_COMMONS, TODAY) is last
    for day in range(1000):  # days without records are not kept
        assert len(store.spaces.tree(SPACE_COMMONS, day)) == 0
    assert store.spaces.tree(SPACE_COMMONS, TODAY) is last
    # One day that is larger than that is kept as long as nothing else is asked for.
    store.save([author.write(created_ms=START_MS) for _ in range(30)], 1)
    assert store.spaces.tree(SPACE_COMMONS, TODAY) is store.spaces.tree(SPACE_COMMONS, TODAY)


def test_contents_stop_at_the_limit_over_all_parts(store: Store) -> None:
    author = Author("a")
    records = [author.write(created_ms=START_MS - n % 3 * DAY_MS) for n in range(30)]
    store.save(records, 1)
    days = [day_of(START_MS) - n for n in range(3)]
    listed = [Part(day, "", listed=True) for day in days]
    contents = store.spaces.contents(SPACE_COMMONS, listed, 25)
    assert [len(content) for content in contents] == [10, 10, 5]
    assert [len(c) for c in store.spaces.contents(SPACE_COMMONS, listed, 10)] == [10, 0, 0]
    mixed = [listed[0], Part(days[1], "", listed=False), listed[2]]
    contents = store.spaces.contents(SPACE_COMMONS, mixed, 12)
    assert [len(content) for content in contents] == [10, 16, 2]
    children = [item.count for item in contents[1] if isinstance(item, Sum)]
    assert sum(children) == 10
    assert store.spaces.contents(ROOM, mixed, 12) == [(), (NOTHING,) * 16, ()]
    assert store.spaces.contents(ROOM, [], 12) == []


# -- heads and what is newer -----------------------------------------------------------------------


def test_heads_are_by_author_and_by_space_and_not_more_than_asked(store: Store) -> None:
    records = []
    for name in "dbca":
        author = Author(name)
        records += [author.credential(), author.write(), author.write(room=ROOM), author.write()]
    store.save(records, 1)
    addresses = sorted(Author(name).address for name in "abcd")
    for space, seq in ((SPACE_IDENTITY, 0), (SPACE_COMMONS, 3), (ROOM, 2)):
        assert store.spaces.heads(space, 4) == [(address, seq) for address in addresses]
        assert store.spaces.heads(space, 3) is None
    assert store.spaces.heads(OTHER_ROOM, 0) == []


def named(heads: dict[bytes, int]) -> dict[bytes, int]:
    return {head_name(author): seq for author, seq in heads.items()}


def listing(
    store: Store | MemoryStore, heads: dict[bytes, int], limit: int, from_day: int = 0
) -> list[list[Run]]:
    """All pages of what is newer than ``heads``, as a session asks for them."""
    known = named(heads)
    pages = []
    newer = store.spaces.newer if isinstance(store, Store) else store.newer
    while True:
        runs, more = newer(SPACE_COMMONS, from_day, known, limit)
        assert sum(len(run.ids) for run in runs) <= limit
        pages.append(runs)
        for run in runs:
            assert run.last_seq > known.get(head_name(run.author), -1)
            known[head_name(run.author)] = run.last_seq
        if not more:
            return pages
        assert runs


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 10, 11, 24, 25, 100])
def test_newer_records_come_in_pages_by_author_and_seq(store: Store, limit: int) -> None:
    records = [author.write() for author in map(Author, "abc") for _ in range(10)]
    store.save(records, 1)
    addresses = sorted(Author(name).address for name in "abc")
    heads = {addresses[0]: 4, addresses[2]: 9}
    expected = [
        r.id
        for address in addresses
        for r in records
        if r.header.author == address and r.header.seq > heads.get(address, -1)
    ]
    if limit < 3:  # fewer than there are authors: left to the days
        assert listing(store, heads, limit) == [[]]
        return
    pages = listing(store, heads, limit)
    assert [item for page in pages for run in page for item in run.ids] == expected
    for before, after in pairwise(pages):
        assert sum(len(run.ids) for run in before) == limit or not after


def test_newer_records_of_days_before_are_not_listed(store: Store) -> None:
    author = Author("a")
    days = [TODAY - 1, TODAY, TODAY - 2, TODAY]
    records = [author.write(created_ms=day * DAY_MS) for day in days]
    store.save(records, 1)
    [[run]] = listing(store, {}, 10, TODAY)
    assert run == Run(author.address, 3, (records[1].id, records[3].id))
    assert listing(store, {}, 10, TODAY + 1) == [[]]


@pytest.mark.parametrize("limit", range(3, 12))
def test_of_forks_at_the_border_of_a_page_none_is_lost(store: Store, limit: int) -> None:
    """All ids of one seq are on one page, since the next page begins after that seq."""
    author = Author("a")
    records = [author.write() for _ in range(8)]
    records += [
        author.write(bytes([n]), seq=seq, prev=records[seq - 1].id)
        for seq in (2, 3, 6) for n in range(2)
    ]  # fmt: skip
    other = Author("b")
    records += [other.write() for _ in range(3)]
    store.save(records, 1)
    listed = [item for page in listing(store, {}, limit) for run in page for item in run.ids]
    assert len(listed) == len(set(listed))
    assert set(listed) == {r.id for r in records}


def test_more_forks_at_one_seq_than_fit_on_a_page_are_left_to_the_days(store: Store) -> None:
    author = Author("a")
    first = author.write()
    forks = [author.write(bytes([n]), seq=1, prev=first.id) for n in range(6)]
    store.save([first, *forks, author.write(seq=2, prev=forks[0].id)], 1)
    pages = listing(store, {}, 4)
    assert [len(run.ids) for page in pages for run in page] == [1, 4, 1]


def test_the_simulators_store_tells_what_the_real_one_tells(tmp_path: Path) -> None:
    random = Random(5)
    records = scattered(random, 200, "abcdefg")
    records += [dataclasses.replace(r) for r in random.sample(records, 5)]
    store, memory = Store(tmp_path / "permesh.db"), MemoryStore()
    store.save(records, 1)
    memory.save(records)
    for space in store.spaces.spaces():
        assert memory.heads(space) == store.spaces.heads(space, 100)
        for from_day in (0, TODAY - 1, TODAY + 1):
            assert memory.sum(space, from_day) == store.spaces.sum(space, from_day)
            assert memory.days(space, from_day) == store.spaces.days(space, from_day)
        parts = [Part(TODAY - n % 5, "0123456789abcdef"[: n % 3], bool(n % 2)) for n in range(30)]
        assert memory.contents(space, parts, 9) == store.spaces.contents(space, parts, 9)
        heads = named({a: seq // 2 for a, seq in memory.heads(space)[::2]})
        for limit in (7, 20, 300):
            assert memory.newer(space, TODAY - 3, heads, limit) == store.spaces.newer(
                space, TODAY - 3, heads, limit
            )
    store.close()
