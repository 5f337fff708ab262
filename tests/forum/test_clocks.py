"""Dates that are not to be believed are said to be late."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from permesh.forum import clocks
from permesh.forum.tables import LASTING
from permesh.forum.views import ForumView
from permesh.records import Record
from permesh.store import Store
from tests.simulator import START_MS, Author

from .people import Eyes, make_post, make_room, open_store, rebuild

MINUTE_MS, HOUR_MS = 60_000, 3_600_000


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = open_store(tmp_path / "permesh.db")
    yield opened
    opened.close()


def late(store: Store, post: Record) -> str:
    (shown,) = Eyes().reader().show_posts(store.connection, [post.id])
    return shown.late


def test_a_reply_is_not_older_than_what_it_answers(store: Store) -> None:
    one, other = Author("one"), Author("other")
    room = make_room(one)
    post = make_post(one, room, created_ms=START_MS + MINUTE_MS)
    back = make_post(other, room, "back", post, created_ms=START_MS + MINUTE_MS - 2_001)
    fine = make_post(other, room, "fine", post, created_ms=START_MS + MINUTE_MS - 2_000)
    store.save([room, back, fine], START_MS)
    assert late(store, back) == ""  # as far as is known
    store.save([post], START_MS)
    assert late(store, back) == "It is dated before the post that it answers."
    assert late(store, fine) == late(store, post) == ""


@pytest.mark.parametrize("backwards", [False, True])
def test_a_post_is_not_dated_before_an_earlier_one_of_its_author(
    store: Store, backwards: bool
) -> None:
    one = Author("one")
    room = make_room(Author("r"))
    ahead = one.write(b"of any kind", created_ms=START_MS + 20 * MINUTE_MS)
    fine = make_post(one, room, "fine", created_ms=START_MS + 10 * MINUTE_MS)
    back = make_post(one, room, "back", created_ms=START_MS + 10 * MINUTE_MS - 1)
    again = make_post(one, room, "again", created_ms=START_MS + 30 * MINUTE_MS)
    records = [room, ahead, fine, back, again]
    for record in reversed(records) if backwards else records:
        store.save([record], START_MS)
    assert late(store, back) == "It is dated before something that its author wrote earlier."
    assert late(store, fine) == late(store, again) == ""


def test_what_comes_long_after_its_date_is_late_for_who_was_listening(tmp_path: Path) -> None:
    since: dict[bytes, int] = {}
    view = ForumView(listening_since_ms=since.get)
    store = open_store(tmp_path / "permesh.db", view)
    one = Author("one")
    room = make_room(one)
    before = make_post(one, room, "before", created_ms=START_MS)
    after = make_post(one, room, "after", created_ms=START_MS + 2 * MINUTE_MS)
    soon = make_post(one, room, "soon", created_ms=START_MS + 3 * MINUTE_MS)
    unheard = make_post(one, room, "unheard", created_ms=START_MS + 4 * MINUTE_MS)
    now = START_MS + HOUR_MS + 3 * MINUTE_MS
    store.save([room], now)
    since[room.id] = START_MS + MINUTE_MS
    store.save([before, after, soon], now)
    del since[room.id]
    store.save([unheard], now + HOUR_MS)
    said = "It came more than an hour after its date, while this member was listening."
    assert [late(store, post) for post in (before, after, soon, unheard)] == ["", said, "", ""]
    # It is remembered, though a rebuild does not hear of it again.
    rebuild(store, view)
    assert [late(store, post) for post in (before, after, soon, unheard)] == ["", said, "", ""]
    since[room.id] = START_MS
    store.drop_before(room.id, 2**40)
    assert store.connection.execute("SELECT post FROM forum_arrived_late").fetchall() == []
    store.close()


@given(
    st.lists(st.tuples(st.integers(0, 12), st.integers(0, 30)), min_size=1, max_size=25),
    st.integers(0, 2**32),
)
def test_the_latest_date_before_any_place_is_found(
    places: list[tuple[int, int]], seed: int
) -> None:
    author = Author("a")
    records = [
        author.write(seq=seq, prev=b"" if seq == 0 else b"p" * 32, created_ms=at)
        for seq, at in places
    ]
    Random(seed).shuffle(records)
    with closing(sqlite3.connect(":memory:")) as connection:
        for statement in LASTING:
            connection.execute(statement)
        for record in records:
            clocks.note(connection.cursor(), [record])
        for seq in range(15):
            expected = max((at for place, at in places if place < seq), default=None)
            row = connection.execute(
                "SELECT created_ms FROM forum_clocks WHERE author = ? AND seq < ?"
                " ORDER BY seq DESC LIMIT 1",
                (author.address, seq),
            ).fetchone()
            assert (row[0] if row else None) == expected
