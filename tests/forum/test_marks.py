"""What was read is counted by arrival, and a member's own posts never are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from permesh.forum import marks
from permesh.forum.judgements import judge
from permesh.forum.marks import Unread, mark, unread, which_unread
from permesh.records import Record
from permesh.store import Store
from tests.forum.own_side import ME, edit, open_store, post, remove, room
from tests.simulator import START_MS, Author


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = open_store(tmp_path / "permesh.db")
    yield opened
    opened.close()


def count(store: Store, place: Record) -> Unread:
    return unread(store.connection, [place.id], me=ME)[place.id]


def test_posts_of_others_are_unread_until_they_are_marked(store: Store) -> None:
    me, other = Author("me"), Author("other")
    lobby, news = room(other), room(other, "news")
    posts = [post(other, lobby, f"{n}") for n in range(4)]
    mine = post(me, lobby)
    elsewhere = post(other, news, mentions=(ME,))
    store.save([lobby, news, *posts, mine, elsewhere], 1)
    assert unread(store.connection, [lobby.id, news.id], me=ME) == {
        lobby.id: Unread(4),
        news.id: Unread(1, 1),
    }
    everything = [record.id for record in (*posts, mine, elsewhere)]
    assert which_unread(store.connection, everything, me=ME) == set(everything) - {mine.id}
    store.change_views(lambda cursor: mark(cursor, lobby.id, posts[1].id))
    assert count(store, lobby) == Unread(2)
    assert which_unread(store.connection, everything, me=ME) == {
        posts[2].id, posts[3].id, elsewhere.id,
    }  # fmt: skip
    store.change_views(lambda cursor: mark(cursor, lobby.id))
    assert (count(store, lobby), count(store, news)) == (Unread(), Unread(1, 1))


def test_what_was_read_stays_read(store: Store) -> None:
    other = Author("other")
    lobby = room(other)
    posts = [post(other, lobby, f"{n}") for n in range(3)]
    store.save([lobby, *posts], 1)
    store.change_views(lambda cursor: mark(cursor, lobby.id))
    store.change_views(lambda cursor: mark(cursor, lobby.id, posts[0].id))
    assert count(store, lobby) == Unread()
    store.change_views(lambda cursor: mark(cursor, lobby.id, b"x" * 32))
    assert count(store, lobby) == Unread()


def test_what_comes_late_is_unread_whatever_its_date(store: Store) -> None:
    other = Author("other")
    lobby = room(other)
    first = post(other, lobby, "first")
    store.save([lobby, first], 1)
    store.change_views(lambda cursor: mark(cursor, lobby.id))
    late = post(Author("late", now_ms=START_MS - 90_000), lobby, "late")
    store.save([late], 2)
    assert count(store, lobby) == Unread(1)
    assert which_unread(store.connection, [first.id, late.id], me=ME) == {late.id}


def test_what_is_not_heard_hidden_or_removed_is_not_counted(store: Store) -> None:
    other, loud = Author("other"), Author("loud")
    lobby = room(other, post_bytes=20)
    gone = post(other, lobby, mentions=(ME,))
    noise = post(loud, lobby, mentions=(ME,))
    long = post(loud, lobby, "x" * 30, mentions=(ME,))
    store.save([lobby, gone, noise, long], 1)
    assert count(store, lobby) == Unread(2, 2)
    store.change_views(lambda cursor: judge(cursor, loud.address, heard="muted"))
    assert count(store, lobby) == Unread(1, 1)
    store.save([remove(other, gone)], 2)
    assert count(store, lobby) == Unread()


def test_an_edit_makes_nothing_unread_again_and_counts_what_it_mentions(store: Store) -> None:
    other = Author("other")
    lobby = room(other)
    one, two = post(other, lobby), post(other, lobby)
    store.save([lobby, one], 1)
    store.change_views(lambda cursor: mark(cursor, lobby.id))
    store.save([two, edit(other, one, "now for me", (ME,)), edit(other, two, "you", (ME,))], 2)
    assert count(store, lobby) == Unread(1, 1)


def test_counts_are_bounded(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(marks, "MAX_COUNTED", 3)
    other = Author("other")
    lobby = room(other)
    store.save([lobby, *(post(other, lobby, f"{n}", mentions=(ME,)) for n in range(5))], 1)
    assert count(store, lobby) == Unread(3, 3)
