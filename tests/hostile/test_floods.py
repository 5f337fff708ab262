"""Floods of records about one post, one member or one room: what reading costs after them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from permesh.forum import inbox, marks, rules, sight
from permesh.records import Record
from tests.forum.people import ME, make_label, make_post, make_reaction, make_room
from tests.simulator import START_MS, Author

from .home import Home

FLOOD = 3_000


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    home = Home(tmp_path)
    yield home
    home.store.close()


def spread(number: int) -> int:
    """A date for each, so many in an hour as no quota minds."""
    return START_MS + number // 1_000 * rules.RATE_SPAN_MS


def word(number: int) -> str:
    return "".join(chr(97 + int(digit)) for digit in str(number))


def show(home: Home, *posts: Record) -> int:
    reader = home.eyes.reader()
    ids = [post.id for post in posts]
    return home.cost(lambda: reader.show_posts(home.store.connection, ids))


def test_thousands_of_a_strangers_labels_cost_a_post_nothing(home: Home) -> None:
    steward, stranger = Author("a"), Author("b")
    room = make_room(steward)
    post, other = make_post(steward, room), make_post(steward, room)
    home.save([room, post, other, make_label(steward, post, "good")])
    before = show(home, post, other)
    labels = [
        make_label(stranger, post, word(number), created_ms=spread(number))
        for number in range(FLOOD)
    ]
    home.save(labels)
    assert show(home, post, other) <= before + 1_000
    reader = home.eyes.reader()
    (shown,) = reader.show_posts(home.store.connection, [post.id])
    assert shown.labels == ["good"]
    listed = home.eyes.sight(home.store).labels(post.id)
    assert listed[0].value == "good"  # those that count are told in any case
    assert len(listed) <= 1 + sight.MAX_LABELS


def test_a_steward_does_not_fill_pages_with_labels_either(home: Home) -> None:
    steward = Author("a")
    room = make_room(steward)
    post = make_post(steward, room)
    labels = [make_label(steward, post, word(number)) for number in range(200)]
    home.save([room, post, *labels, make_label(steward, post, "pin")])
    (shown,) = home.eyes.reader().show_posts(home.store.connection, [post.id])
    assert shown.pinned
    assert len(shown.labels) == 64


def test_reactions_are_looked_at_up_to_a_limit(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("permesh.forum.shapes.MAX_REACTIONS", 100)
    author, stranger = Author("a"), Author("b")
    room = make_room(author)
    post = make_post(author, room)
    home.save([room, post])
    pairs = [chr(0x1F300 + number // 60) + chr(0x1F300 + number % 60) for number in range(FLOOD)]
    reactions = [
        make_reaction(stranger, post, emoji, created_ms=spread(number))
        for number, emoji in enumerate(pairs)
    ]
    home.save(reactions[:200])
    before = show(home, post)
    home.save(reactions[200:])
    assert show(home, post) <= before + 2_000


def test_whoever_mentions_a_member_without_end_does_not_bury_others(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inbox, "MAX_OF_ONE", 100)
    friend, stranger = Author("a"), Author("b")
    room = make_room(friend)
    asked = make_post(friend, room, "help?", mentions=(ME,))
    home.save([room, asked])
    flood = [
        make_post(stranger, room, "you", mentions=(ME,), created_ms=START_MS)
        for _ in range(rules.POSTS_PER_SPAN + FLOOD)
    ]
    for start in range(0, len(flood), 500):
        home.save(flood[start : start + 500])
    page = inbox.page(home.eyes.sight(home.store), limit=50)
    assert [item.post for item in page.items] == [asked.id]  # all that is left of it is hidden
    assert inbox.count_unread(home.eyes.sight(home.store)) == 1
    unread = marks.unread(home.store.connection, [room.id], me=ME)[room.id]
    assert unread.mentions == 1
    (rows,) = home.store.connection.execute("SELECT count(*) FROM forum_inbox").fetchone()
    assert rows == 101


def test_a_page_of_the_inbox_ends_early_where_much_is_hidden(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inbox, "MAX_EXAMINED", 10)
    author, muted = Author("a"), Author("b")
    room = make_room(author)
    first = make_post(author, room, "one", mentions=(ME,))
    noise = [make_post(muted, room, mentions=(ME,)) for _ in range(25)]
    last = make_post(author, room, "two", mentions=(ME,))
    home.save([room, first, *noise, last])
    home.store.change_views(
        lambda cursor: cursor.execute("INSERT INTO judgements VALUES (?, 0, 1)", (muted.address,))
    )
    found: list[bytes] = []
    below, pages = None, 0
    while below is not None or not pages:
        page = inbox.page(home.eyes.sight(home.store), limit=5, below=below)
        found += [item.post for item in page.items]
        below, pages = page.below, pages + 1
    assert found == [last.id, first.id]
    assert pages == 3


def test_a_steward_who_hides_everything_costs_the_list_of_rooms_no_more(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sight, "MAX_TARGETS", 50)
    monkeypatch.setattr("permesh.forum.reader.MAX_TARGETS", 50)
    steward = Author("a")
    room = make_room(steward)
    posts = [make_post(steward, room) for _ in range(1_000)]
    home.save([room, *posts])
    home.save([make_label(steward, post, "hide") for post in posts[:60]])
    reader = home.eyes.reader()
    before = home.cost(lambda: reader.show_room(home.store.connection, room.id))
    home.save([make_label(steward, post, "hide") for post in posts[60:]])
    home.save([make_label(steward, steward.address, "spam")])
    assert home.cost(lambda: reader.show_room(home.store.connection, room.id)) < 2 * before + 5_000
