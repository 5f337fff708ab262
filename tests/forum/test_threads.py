"""A thread has one order, in whatever order its posts came, and opens at once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from permesh.forum import pages, rules, threads
from permesh.forum.threads import MAX_DEPTH
from permesh.records import Record
from permesh.store import Store
from tests.simulator import START_MS, Author

from .people import Eyes, make_post, make_room, open_store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = open_store(tmp_path / "permesh.db")
    yield opened
    opened.close()


def whole(store: Store, post: Record, limit: int = 7) -> list[bytes]:
    """The thread by pages."""
    found: list[bytes] = []
    cursor = None
    while True:
        page = pages.thread(Eyes().sight(store), post.id, cursor, limit)
        found += page.ids
        cursor = page.cursor
        if cursor is None:
            return found


def test_each_post_stands_before_its_replies_and_siblings_by_date(store: Store) -> None:
    author = Author("a")
    room = make_room(author)
    root = make_post(author, room, "root")
    first = make_post(author, room, "first", root)
    second = make_post(author, room, "second", root)
    deep = make_post(author, room, "deep", first)
    early = make_post(author, room, "early", root, created_ms=START_MS)
    other = make_post(author, room, "other")
    store.save([room, other, early, deep, second, first, root], START_MS)
    expected = [root.id, early.id, first.id, deep.id, second.id]
    assert whole(store, deep) == whole(store, root, 2) == expected
    assert whole(store, other) == [other.id]
    shown = Eyes().reader().show_posts(store.connection, expected)
    assert [post.depth for post in shown] == [0, 1, 1, 2, 1]
    assert {post.thread for post in shown} == {root.id.hex()}
    assert [post.replies for post in shown] == [3, 0, 1, 0, 0]


def test_threads_come_out_the_same_in_any_order(tmp_path: Path) -> None:
    author = Author("a")
    room = make_room(author)
    root, other = make_post(author, room, "root"), make_post(author, room, "other")
    posts = [root, other]
    rng = Random(5)
    for number in range(60):
        posts.append(make_post(author, room, f"{number}", rng.choice(posts)))
    roots = {record.id: record.id for record in (root, other)}
    for record in posts[2:]:
        roots[record.id] = roots[record.header.parents[0]]
    seen = set()
    for seed in range(6):
        store = open_store(tmp_path / f"{seed}.db")
        shuffled = [room, *posts]
        Random(seed).shuffle(shuffled)
        while shuffled:
            batch, shuffled = shuffled[:7], shuffled[7:]
            store.save(batch, START_MS)
        for record in posts:
            assert threads.thread_of(store.connection, record.id) == roots[record.id]
        seen.add(tuple(whole(store, root)))
        store.close()
    (order,) = seen
    assert set(order) == {post for post, first in roots.items() if first == root.id}
    for record in posts[2:]:
        if record.id in order:
            assert order.index(record.header.parents[0]) < order.index(record.id)


def test_replies_to_a_post_that_never_comes_stand_together(store: Store) -> None:
    author = Author("a")
    room = make_room(author)
    unseen = make_post(author, room, "unseen")
    children = [make_post(author, room, f"{n}", unseen) for n in range(3)]
    below = make_post(author, room, "below", children[0])
    store.save([room, below, *children], START_MS)
    for record in (*children, below):
        assert threads.thread_of(store.connection, record.id) == unseen.id
        assert whole(store, record) == [children[0].id, below.id, children[1].id, children[2].id]
    shown = Eyes().reader().show_posts(store.connection, [children[0].id, below.id])
    assert [post.depth for post in shown] == [1, 2]
    store.save([unseen], START_MS)
    assert whole(store, below)[0] == unseen.id


def test_a_reply_across_rooms_joins_no_foreign_thread(store: Store) -> None:
    author = Author("a")
    one, other = make_room(author, "one"), make_room(author, "other")
    root = make_post(author, one, "root")
    astray = make_post(author, other, "astray", root)
    for record in (one, other, astray, root):
        store.save([record], START_MS)
    assert whole(store, root) == [root.id]
    assert whole(store, astray) == [astray.id]
    (shown,) = Eyes().reader().show_posts(store.connection, [root.id])
    assert shown.replies == 0


def test_what_answers_a_hidden_post_stays_where_it_is(store: Store) -> None:
    author, bad = Author("a"), Author("b")
    room = make_room(author)
    root = make_post(author, room, "root")
    hidden = make_post(bad, room, "hidden", root)
    answer = make_post(author, room, "answer", hidden)
    last = make_post(author, room, "last", root)
    twin = bad.write(b"twin", seq=0, prev=b"")
    store.save([room, root, hidden, answer, last, twin], START_MS)
    assert whole(store, root) == [root.id, answer.id, last.id]
    page = pages.thread(Eyes().sight(store), answer.id, None, 10, hidden=True)
    assert page.ids == [root.id, hidden.id, answer.id, last.id]
    assert page.hidden[hidden.id].code == rules.FORK
    own = pages.thread(Eyes(me=bad.address).sight(store), root.id, None, 10)
    assert hidden.id in own.ids


@pytest.mark.parametrize("shape", ["wide", "deep", "orphan"])
def test_a_thread_of_10_000_is_shown_page_by_page(
    store: Store, shape: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules, "POSTS_PER_SPAN", 20_000)
    author, rng = Author("a"), Random(1)
    room = make_room(author)
    posts = [make_post(author, room, "root")]
    for number in range(10_000):
        parent = rng.choice(posts) if shape == "wide" else posts[-1]
        posts.append(make_post(author, room, f"{number}", parent))
    here = posts[1:] if shape == "orphan" else posts
    # Whatever comes last is what the others wait for.
    store.save([room, *reversed(here)], START_MS)
    eyes = Eyes()
    sight = eyes.sight(store)
    page = pages.thread(sight, posts[7_000].id, None, 100)
    shown = eyes.reader().page(sight, page).items
    assert [bytes.fromhex(post.id) for post in shown] == page.ids
    assert {post.thread for post in shown} == {posts[0].id.hex()}
    assert max(post.depth for post in shown) <= MAX_DEPTH
    if shape != "wide":
        assert page.ids == [post.id for post in here[:100]]
        assert shown[-1].depth == MAX_DEPTH


def test_a_chain_that_comes_backwards_one_by_one_is_joined_once(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    author = Author("a")
    room = make_room(author)
    posts = [make_post(author, room, "root")]
    for number in range(300):
        posts.append(make_post(author, room, f"{number}", posts[-1]))
    joined: list[bytes] = []
    really = threads._join
    monkeypatch.setattr(threads, "_join", lambda *args: (joined.append(args[1]), really(*args)))
    store.connection.execute("PRAGMA synchronous = OFF")
    for record in (room, *reversed(posts)):
        store.save([record], START_MS)
    assert joined == [posts[0].id]
    assert whole(store, posts[-1], 500) == [post.id for post in posts]


def test_what_was_dropped_from_the_middle_parts_a_thread(store: Store) -> None:
    author = Author("a")
    room = make_room(author)
    day = 86_400_000
    root = make_post(author, room, "root", created_ms=START_MS + day)
    middle = make_post(author, room, "middle", root, created_ms=START_MS)
    last = make_post(author, room, "last", middle, created_ms=START_MS + day)
    lowest = make_post(author, room, "lowest", last, created_ms=START_MS + day)
    store.save([room, root, middle, last, lowest], START_MS)
    assert store.drop_before(room.id, START_MS // day + 1) == 1
    assert whole(store, root) == [root.id]
    assert whole(store, lowest) == [last.id, lowest.id]
    assert threads.thread_of(store.connection, lowest.id) == middle.id
