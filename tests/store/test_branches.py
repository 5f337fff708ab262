"""Chains that forked, and the records of one kind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import permutations
from pathlib import Path

import pytest

from permesh.records import Record
from permesh.store import Head, Store
from tests.simulator import CREDENTIAL, Author

REQUEST = "identity.request"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(tmp_path / "permesh.db")
    yield opened
    opened.close()


def onto(author: Author, body: bytes = b"next") -> Callable[[Head | None], Record]:
    def make(head: Head | None) -> Record:
        if head is None:
            return author.write(body, seq=0, prev=b"")
        return author.write(body, seq=head.seq + 1, prev=head.id)

    return make


def follow(author: Author, before: Record, body: bytes) -> Record:
    return author.write(body, seq=before.header.seq + 1, prev=before.id)


def chain(author: Author, before: Record, name: str, length: int) -> list[Record]:
    """``length`` records that follow each other, the first of them ``before``."""
    found = []
    for number in range(length):
        found.append(before := follow(author, before, f"{name}{number}".encode()))
    return found


def forked(store: Store, long: int = 3, short: int = 1) -> tuple[Author, list[Record]]:
    """A chain that goes on in two ways after its first record; returns the shorter one."""
    author = Author("a")
    first = author.write()
    store.save([first, *chain(author, first, "long", long)], 1)
    chosen = chain(author, first, "short", short)
    store.save(chosen, 2)
    return author, chosen


# -- going on after a repair -----------------------------------------------------------------------


@pytest.mark.parametrize("short", [1, 2, 3])
def test_a_chain_goes_on_from_the_branch_that_was_chosen(store: Store, short: int) -> None:
    author, chosen = forked(store, long=4, short=short)
    for _ in range(6):  # past the end of the other branch
        added = store.append(author.address, onto(author), 3, chosen[0].id)
        assert (added.header.seq, added.header.prev) == (
            chosen[-1].header.seq + 1,
            chosen[-1].id,
        )
        assert store.has(added.id)
        chosen.append(added)


def test_the_branch_may_be_named_by_any_of_its_records(store: Store) -> None:
    author, chosen = forked(store, short=2)
    for one in chosen[:]:
        added = store.append(author.address, onto(author, one.id), 3, one.id)
        assert added.header.prev == chosen[-1].id
        chosen.append(added)


def test_without_a_branch_it_goes_on_from_the_highest_as_before(store: Store) -> None:
    author, _ = forked(store, long=3)
    head = store.head(author.address)
    assert head is not None
    added = store.append(author.address, onto(author), 3)
    assert (added.header.seq, added.header.prev) == (4, head.id)


def test_a_branch_that_is_not_here_changes_nothing(store: Store) -> None:
    author, _ = forked(store, long=3)
    other = Author("b")
    theirs = other.write()
    store.save([theirs], 2)
    for branch in (b"x" * 32, b"", theirs.id):  # the last is another author's
        head = store.head(author.address)
        assert head is not None
        added = store.append(author.address, onto(author), 3, branch)
        assert (added.header.seq, added.header.prev) == (head.seq + 1, head.id)


def test_the_first_record_of_all_needs_no_branch(store: Store) -> None:
    author = Author("a")
    added = store.append(author.address, onto(author), 1, b"x" * 32)
    assert (added.header.seq, added.header.prev) == (0, b"")
    assert store.append(author.address, onto(author), 1, added.id).header.prev == added.id


def test_what_only_stands_beside_the_branch_does_not_belong_to_it(store: Store) -> None:
    author, chosen = forked(store, short=1)
    astray = author.write(b"astray", seq=2, prev=b"p" * 32)
    other = Author("b").write(b"theirs", seq=2, prev=chosen[0].id)
    store.save([astray, other], 3)
    assert store.append(author.address, onto(author), 4, chosen[0].id).header.prev == chosen[0].id


def test_of_a_branch_that_forked_again_the_longest_way_is_taken(store: Store) -> None:
    author, chosen = forked(store, short=1)
    left, right = (chain(author, chosen[0], name, length) for name, length in (("l", 1), ("r", 2)))
    store.save(left + right, 3)
    added = store.append(author.address, onto(author), 4, chosen[0].id)
    assert added.header.prev == right[-1].id
    assert store.append(author.address, onto(author), 4, left[0].id).header.prev == left[0].id


def test_of_two_ways_of_one_length_everybody_takes_the_same(tmp_path: Path) -> None:
    author = Author("a")
    first = author.write()
    two = [follow(author, first, name) for name in (b"one", b"other")]
    for number, order in enumerate(permutations([first, *two])):
        store = Store(tmp_path / f"{number}.db")
        for record in order:
            store.save([record], 1)
        added = store.append(author.address, onto(author), 2, first.id)
        assert added.header.prev == min(one.id for one in two)
        store.close()


def test_an_append_that_fails_leaves_the_branch_as_it_was(store: Store) -> None:
    author, chosen = forked(store)

    def fail(head: Head | None) -> Record:
        assert head is not None
        assert head.id == chosen[-1].id
        raise RuntimeError("no key")

    count = store.count()
    with pytest.raises(RuntimeError):
        store.append(author.address, fail, 3, chosen[0].id)
    assert store.count() == count
    assert store.append(author.address, onto(author), 3, chosen[0].id).header.prev == chosen[-1].id


# -- records of one kind ---------------------------------------------------------------------------


def test_the_records_of_a_kind_come_newest_first_whatever_came_first(store: Store) -> None:
    author, other = Author("a"), Author("b")
    written = []
    for _ in range(6):
        written.append(author.credential())
        author.write()
        author.write(kind=REQUEST)
    store.save([other.credential()], 1)
    for record in (written[3], written[0], written[5], written[1], written[4], written[2]):
        store.save([record], 1)
    assert store.identity_records_of(author.address, CREDENTIAL, 10) == written[::-1]
    assert store.identity_records_of(author.address, CREDENTIAL, 4) == written[:1:-1]
    assert store.identity_records_of(author.address, CREDENTIAL, 0) == []
    assert store.identity_records_of(author.address, REQUEST, 10) == []
    assert store.identity_records_of(b"z" * 20, CREDENTIAL, 10) == []


def test_of_two_at_one_place_the_lower_id_comes_first(store: Store) -> None:
    author = Author("a")
    two = [author.write(body, CREDENTIAL, seq=3, prev=b"p" * 32) for body in (b"one", b"two")]
    store.save(two, 1)
    ordered = sorted(two, key=lambda one: one.id)
    assert store.identity_records_of(author.address, CREDENTIAL, 10) == ordered
    assert store.identity_records_of(author.address, CREDENTIAL, 1) == ordered[:1]


def test_only_identitys_own_kinds_are_found(store: Store) -> None:
    author = Author("a")
    note, credential = author.write(), author.credential()
    store.save([note, credential], 1)
    assert store.identity_records_of(author.address, note.header.kind, 10) == []
    assert store.identity_records_of(author.address, "identity", 10) == []
    assert store.identity_records_of(author.address, CREDENTIAL, 10) == [credential]


def test_they_are_found_without_reading_all_that_the_author_wrote(store: Store) -> None:
    asked: list[str] = []
    store.connection.set_trace_callback(asked.append)
    store.identity_records_of(b"a" * 20, CREDENTIAL, 10)
    store.connection.set_trace_callback(None)
    [query] = asked
    plan = store.connection.execute(f"EXPLAIN QUERY PLAN {query}").fetchall()
    assert any("INDEX identity_by_author" in row[-1] for row in plan)


# -- forks of one author ---------------------------------------------------------------------------


def test_forks_of_an_author_are_its_own_in_their_order(store: Store) -> None:
    authors = [Author(name) for name in "ab"]
    for author in authors:
        records = [author.write() for _ in range(4)]
        again = [author.write(b"again", seq=seq, prev=records[seq].header.prev) for seq in (3, 1)]
        store.save([*records, *again], 1)
    expected = [fork for fork in store.forks() if fork.author == authors[0].address]
    found = store.forks_of(authors[0].address)
    # A record beside another one also parts with the one that follows the other.
    assert [fork.seq for fork in found] == [1, 3]
    assert found == sorted(expected, key=lambda fork: fork.seq)
    assert store.forks_of(authors[0].address, limit=1) == found[:1]
    assert store.forks_of(b"z" * 20) == []
    assert all(fork.id_a < fork.id_b for fork in found)


def test_a_chain_without_a_fault_has_none(store: Store) -> None:
    author = Author("a")
    for _ in range(3):
        store.append(author.address, onto(author), 1)
    assert store.forks_of(author.address) == []
