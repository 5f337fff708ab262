"""Chains that were signed twice: what they cost, what they keep, and how one's own goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from permesh.forum import kinds
from permesh.records import Record
from permesh.spaces import DAY_MS, day_of
from permesh.store import Head
from tests.forum.people import ME, make_post, make_room
from tests.simulator import START_MS, Author

from .home import Home

OLD_MS = START_MS - 100 * DAY_MS
TODAY = day_of(START_MS)


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    home = Home(tmp_path)
    yield home
    home.store.close()


def twins(author: Author, room: Record, number: int, created_ms: int = OLD_MS) -> list[Record]:
    """Two records at each place of a chain."""
    records = []
    for _ in range(number):
        place = author.seq, author.prev
        records.append(make_post(author, room, "one", created_ms=created_ms))
        author.seq, author.prev = place
        records.append(make_post(author, room, "other", created_ms=created_ms))
    return records


def test_whoever_signs_everything_twice_keeps_nothing_of_a_room_but_a_proof(home: Home) -> None:
    steward, hostile = Author("a"), Author("b")
    room = make_room(steward)
    home.save([room, *twins(hostile, room, 200), make_post(steward, room)])
    while home.store.drop_before(room.id, TODAY):
        pass
    left = home.store.by_author(hostile.address, 0, 1_000)
    (fork,) = home.store.forks()
    assert {fork.id_a, fork.id_b} < {record.id for record in left}
    assert len(left) == 3  # with the last record of the chain
    home.save([make_post(hostile, room, "again", created_ms=START_MS)])
    hidden = "SELECT hidden FROM forum_posts WHERE author = ?"
    found = home.store.connection.execute(hidden, (hostile.address,)).fetchall()
    assert set(found) == {("fork",)}


def test_many_twins_at_the_last_place_are_no_way_around_it(home: Home) -> None:
    steward, hostile = Author("a"), Author("b")
    room = make_room(steward)
    first = make_post(hostile, room, created_ms=OLD_MS)
    place = hostile.seq, hostile.prev
    last = []
    for number in range(50):
        hostile.seq, hostile.prev = place
        last.append(make_post(hostile, room, f"{number}", created_ms=OLD_MS))
    home.save([room, first, *last, make_post(steward, room)])
    home.store.drop_before(room.id, TODAY)
    assert len(home.store.by_author(hostile.address, 0, 1_000)) <= 3
    head = home.store.head(hostile.address)
    assert head is not None
    assert head.id == min(record.id for record in last)


def test_a_drop_costs_what_it_drops_however_often_its_author_signed_twice(home: Home) -> None:
    steward, hostile = Author("a"), Author("b")
    room, other = make_room(steward), make_room(steward, "other")
    home.save([room, other, *twins(hostile, room, 30), make_post(steward, room)])
    few = home.cost(lambda: home.store.drop_before(room.id, TODAY, limit=20))
    home.save(twins(hostile, other, 600, OLD_MS + DAY_MS))
    many = home.cost(lambda: home.store.drop_before(room.id, TODAY, limit=20))
    assert many < 2 * few + 5_000


def onto(room: Record, created_ms: int) -> Callable[[Head | None], Record]:
    me = Author("me")

    def make(head: Head | None) -> Record:
        assert head is not None
        return me.write(
            b"mine", kinds.POST, room.id, seq=head.seq + 1, prev=head.id, created_ms=created_ms
        )

    return make


def repaired(home: Home, other_branch: int) -> tuple[Record, Record]:
    """A chain of this member's that was repaired long ago, and went on; its room is older than it
    is kept. Returns the record that was chosen, and the last one."""
    me = Author("me")
    room = make_room(Author("a"))
    first = make_post(me, room, created_ms=OLD_MS)
    place = me.seq, me.prev
    astray = [make_post(me, room, f"{n}", created_ms=OLD_MS) for n in range(other_branch)]
    me.seq, me.prev = place
    chosen = make_post(me, room, "chosen", created_ms=OLD_MS)
    home.save([room, first, *astray, chosen])
    last = chosen
    for number in range(4):
        last = home.store.append(ME, onto(room, OLD_MS + number), START_MS, chosen.id)
    home.save([make_post(Author("b"), room)])
    home.store.drop_before(room.id, TODAY)
    return chosen, last


@pytest.mark.parametrize("other_branch", [1, 3, 20])
def test_a_member_whose_chain_was_repaired_does_not_fork_it_again(
    tmp_path: Path, other_branch: int
) -> None:
    """What leads from the repair to its last record is gone, and it has been started anew."""
    home = Home(tmp_path)
    chosen, last = repaired(home, other_branch)
    home.store.close()
    home = Home(tmp_path)
    room = make_room(Author("a"))
    added = home.store.append(ME, onto(room, START_MS), START_MS, chosen.id)
    assert (added.header.seq, added.header.prev) == (last.header.seq + 1, last.id)
    home.store.close()


def test_nor_one_that_has_lost_its_database_since(tmp_path: Path) -> None:
    home = Home(tmp_path)
    chosen, last = repaired(home, 1)
    records = home.store.by_author(ME, 0, 100)
    home.store.close()
    (tmp_path / "new").mkdir()
    home = Home(tmp_path / "new")
    home.save(records)
    added = home.store.append(ME, onto(make_room(Author("a")), START_MS), START_MS, chosen.id)
    assert (added.header.seq, added.header.prev) == (last.header.seq + 1, last.id)
    home.store.close()
