"""The view is a fold: the same records, in any order, show the same posts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

import pytest

from permesh.errors import NotFound, PermeshError
from permesh.forum import rules, views
from permesh.forum.views import ForumView, PostRow
from permesh.records import Record, pack
from permesh.store import Store
from tests.simulator import START_MS, Author


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(tmp_path / "permesh.db", [ForumView()])
    yield opened
    opened.close()


def make_room(author: Author, name: str = "lobby", **fields: Any) -> Record:
    return author.write(pack([name, f"about {name}"]), rules.ROOM, **fields)


def make_post(
    author: Author, room: Record, text: str = "hello", parent: Record | None = None, **fields: Any
) -> Record:
    parents = (parent.id,) if parent else ()
    return author.write(text.encode(), rules.POST, room.id, parents=parents, **fields)


def all_posts(store: Store, room: Record, thread: bytes | None = None) -> list[PostRow]:
    items, more = views.posts(store.connection, room.id, None, 500, False, thread)
    assert more is None
    return items


def texts(store: Store, room: Record) -> list[str]:
    return [item.text for item in all_posts(store, room)]


def labels(store: Store) -> list[str]:
    return [item.label for item in views.rooms(store.connection, None, 100)[0]]


def hidden(store: Store, table: str = "forum_posts") -> dict[str, int]:
    return dict(
        store.connection.execute(
            f"SELECT hidden, count(*) FROM {table} WHERE hidden <> '' GROUP BY hidden"
        )
    )


# -- rooms and posts


def test_a_post_is_shown_in_its_room(store: Store) -> None:
    author = Author("a")
    room = make_room(author)
    post = make_post(author, room)
    reply = make_post(author, room, "and you", post)
    store.save([room, post], 7)
    store.save([reply], 9)
    assert all_posts(store, room) == [
        PostRow(post.id, room.id, "lobby", author.address, None, START_MS + 2, 7, "hello"),
        PostRow(reply.id, room.id, "lobby", author.address, post.id, START_MS + 3, 9, "and you"),
    ]
    (row,) = views.rooms(store.connection, None, 10)[0]
    assert (row.id, row.label, row.purpose, row.author, row.posts, row.last_post_ms) == (
        room.id, "lobby", "about lobby", author.address, 2, START_MS + 3,
    )  # fmt: skip
    assert views.posts_by_id(store.connection, [reply.id, b"x" * 32]) == all_posts(store, room)[1:]
    assert [r.id for r in views.rooms_by_id(store.connection, [b"x" * 32, room.id])] == [room.id]


def test_posts_are_ordered_by_claimed_time_and_then_by_id(store: Store) -> None:
    author = Author("a")
    room = make_room(author)
    posts = [make_post(author, room, f"{n}", created_ms=START_MS + n // 3) for n in range(9)]
    store.save([room, *reversed(posts)], 1)
    order = sorted(posts, key=lambda r: (r.header.created_ms, r.id))
    assert [item.id for item in all_posts(store, room)] == [r.id for r in order]


@pytest.mark.parametrize("newest_first", [False, True])
def test_pages_join_without_a_gap_while_posts_arrive(store: Store, newest_first: bool) -> None:
    author = Author("a")
    room = make_room(author)
    posts = [make_post(author, room, f"{n}", created_ms=START_MS + n // 4) for n in range(23)]
    store.save([room, *posts], 1)
    seen: list[bytes] = []
    cursor = None
    for _ in range(8):
        items, cursor = views.posts(store.connection, room.id, cursor, 5, newest_first)
        seen += [item.id for item in items]
        # Late posts, before and after the place: none of them moves what is yet to come.
        at = START_MS + (100 if newest_first else -100)
        store.save([make_post(author, room, "late", created_ms=at)], 1)
        if cursor is None:
            break
    order = sorted(posts, key=lambda r: (r.header.created_ms, r.id), reverse=newest_first)
    assert seen == [r.id for r in order]


def test_a_cursor_is_a_place_from_which_both_ways_lead(store: Store) -> None:
    author = Author("a")
    room = make_room(author)
    store.save([room, *(make_post(author, room, f"{n}") for n in range(10))], 1)
    items, cursor = views.posts(store.connection, room.id, None, 4, True)
    assert [item.text for item in items] == ["9", "8", "7", "6"]
    older, _ = views.posts(store.connection, room.id, cursor, 4, True)
    newer, _ = views.posts(store.connection, room.id, cursor, 4, False)
    assert [item.text for item in older] == ["5", "4", "3", "2"]
    assert [item.text for item in newer] == ["7", "8", "9"]


@pytest.mark.parametrize("cursor", ["x", "====", "é", "AAAA", "kA", "w6", "🙂" * 50, "A" * 9999])
def test_a_cursor_that_is_none_is_refused(store: Store, cursor: str) -> None:
    for query in (
        lambda: views.rooms(store.connection, cursor, 5),
        lambda: views.posts(store.connection, b"r" * 32, cursor, 5, False),
    ):
        with pytest.raises(PermeshError) as caught:
            query()
        assert caught.value.code == "cursor.invalid"


def test_a_cursor_of_another_list_is_refused(store: Store) -> None:
    author = Author("a")
    store.save([make_room(author, name) for name in ("a", "b", "c")], 1)
    items, cursor = views.rooms(store.connection, None, 2)
    assert [item.label for item in items] == ["a", "b"]
    items, more = views.rooms(store.connection, cursor, 2)
    assert [item.label for item in items] == ["c"]
    assert more is None
    with pytest.raises(PermeshError):
        views.posts(store.connection, b"r" * 32, cursor, 5, False)


def test_pages_are_bounded(store: Store) -> None:
    author = Author("a")
    room = make_room(author)
    store.save([room, *(make_post(author, room, "x") for _ in range(views.MAX_PAGE + 1))], 1)
    assert len(views.posts(store.connection, room.id, None, 10**9, False)[0]) == views.MAX_PAGE
    assert len(views.posts(store.connection, room.id, None, -5, False)[0]) == 1


# -- names


def test_the_first_room_of_a_name_that_arrived_keeps_it(store: Store) -> None:
    mine = make_room(Author("a"))
    backdated = make_room(Author("b"), created_ms=5)
    third = make_room(Author("c"))
    for room in (mine, backdated, third):
        store.save([room], 1)
    assert views.find_room(store.connection, "lobby").id == mine.id
    for room in (backdated, third):
        label = f"lobby~{room.id.hex()[:4]}"
        assert views.find_room(store.connection, label).id == room.id
        assert label in labels(store)
    assert views.find_room(store.connection, f"lobby~{mine.id.hex()[:8]}").id == mine.id
    assert views.find_room(store.connection, mine.id.hex()).id == mine.id
    assert views.find_room(store.connection, mine.id.hex()[:6]).id == mine.id


@pytest.mark.parametrize(
    "reference", ["", "nowhere", "~", "lobby~", "lobby~zz", "lobby~0", "0", "%", "a" * 65, "é~1234"]
)
def test_a_room_that_is_not_here_is_said(store: Store, reference: str) -> None:
    store.save([make_room(Author("a"))], 1)
    with pytest.raises(NotFound) as caught:
        views.find_room(store.connection, reference)
    assert caught.value.code == "room.unknown"


def test_a_prefix_that_fits_several_is_said(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(views, "MIN_PREFIX", 1)
    author = Author("a")
    room = make_room(author, "x")
    rooms = [make_room(author, f"r{n}") for n in range(40)]
    posts = [make_post(author, room, f"{n}") for n in range(40)]
    store.save([room, *rooms, *posts], 1)
    digit = max("0123456789abcdef", key=[r.id.hex()[0] for r in rooms].count)
    with pytest.raises(PermeshError) as caught:
        views.find_room(store.connection, digit)
    assert caught.value.code == "room.ambiguous"
    digit = max("0123456789abcdef", key=[r.id.hex()[0] for r in posts].count)
    with pytest.raises(PermeshError) as caught:
        views.find_post(store.connection, room.id, digit)
    assert caught.value.code == "post.ambiguous"


def test_a_post_is_found_in_its_own_room_only(store: Store) -> None:
    author = Author("a")
    one, other = make_room(author, "one"), make_room(author, "other")
    post = make_post(author, one)
    store.save([one, other, post], 1)
    assert views.find_post(store.connection, one.id, post.id.hex()[:10]) == post.id
    for room, reference in ((other, post.id.hex()), (one, "abc"), (one, "f" * 64), (one, "")):
        with pytest.raises(NotFound) as caught:
            views.find_post(store.connection, room.id, reference)
        assert caught.value.code == "post.unknown_parent"


# -- threads


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
    for seed in range(6):
        store = Store(tmp_path / f"{seed}.db", [ForumView()])
        shuffled = [room, *posts]
        Random(seed).shuffle(shuffled)
        while shuffled:
            batch, shuffled = shuffled[:7], shuffled[7:]
            store.save(batch, 1)
        for record in posts:
            assert views.thread_of(store.connection, record.id) == roots[record.id]
        thread = all_posts(store, room, root.id)
        assert [item.id for item in thread] == [r.id for r in posts if roots[r.id] == root.id]
        (row,) = views.rooms(store.connection, None, 5)[0]
        assert row.posts == len(posts)
        store.close()


def test_children_of_a_post_that_never_comes_stand_together(store: Store) -> None:
    author = Author("a")
    room = make_room(author)
    unseen = make_post(author, room, "unseen")
    children = [make_post(author, room, f"{n}", unseen) for n in range(3)]
    store.save([room, *children], 1)
    assert {views.thread_of(store.connection, r.id) for r in children} == {unseen.id}
    assert texts(store, room) == ["0", "1", "2"]


def test_a_reply_across_rooms_joins_no_foreign_thread(store: Store) -> None:
    author = Author("a")
    one, other = make_room(author, "one"), make_room(author, "other")
    root = make_post(author, one, "root")
    astray = make_post(author, other, "astray", root)
    for record in (one, other, astray, root):
        store.save([record], 1)
    assert [item.text for item in all_posts(store, one, root.id)] == ["root"]


def test_a_thread_of_3000_in_one_chain_opens(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "POSTS_PER_SPAN", 10_000)
    author = Author("a")
    room = make_room(author)
    chain = [make_post(author, room, "root")]
    for _ in range(2999):
        chain.append(make_post(author, room, "next", chain[-1]))
    store.save([room, *sorted(chain, key=lambda r: r.id)], 1)
    assert {views.thread_of(store.connection, r.id) for r in chain} == {chain[0].id}
    items, more = views.posts(store.connection, room.id, None, 500, False, chain[0].id)
    assert [item.id for item in items] == [r.id for r in chain[:500]]
    assert more


# -- what is hidden, and why


def test_a_forked_author_is_frozen_from_the_fork_on(tmp_path: Path) -> None:
    author, honest = Author("a"), Author("h")
    room = make_room(honest)
    posts = [make_post(author, room, f"{n}") for n in range(4)]
    twin = make_post(author, room, "twin", seq=2, prev=posts[1].id)
    own_room = make_room(author, "mine", seq=4, prev=posts[3].id)
    later = make_post(author, room, "later", seq=5, prev=own_room.id)
    kept = make_post(honest, room, "kept")
    records = [room, *posts, own_room, later, twin, kept]
    for seed in range(6):
        store = Store(tmp_path / f"{seed}.db", [ForumView()])
        Random(seed).shuffle(records)
        for record in records:
            store.save([record], 1)
        assert sorted(texts(store, room)) == ["0", "1", "kept"]
        assert hidden(store) == {rules.HIDDEN_FORK: 4}
        assert hidden(store, "forum_rooms") == {rules.HIDDEN_FORK: 1}
        assert store.count() == len(records)  # hidden, not gone
        (row,) = views.rooms(store.connection, None, 5)[0]
        assert row.posts == 3
        assert row.last_post_ms == max(r.header.created_ms for r in (posts[0], posts[1], kept))
        with pytest.raises(NotFound):
            views.find_post(store.connection, room.id, twin.id.hex())
        before = list(store.connection.execute("SELECT * FROM forum_posts ORDER BY id"))
        store.rebuild_views()
        assert list(store.connection.execute("SELECT * FROM forum_posts ORDER BY id")) == before
        store.close()


def test_a_flood_is_hidden_beyond_the_quota_in_any_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules, "POSTS_PER_SPAN", 10)
    monkeypatch.setattr(rules, "ROOMS_PER_SPAN", 2)
    author, other = Author("a"), Author("o")
    author.now_ms = other.now_ms = START_MS - START_MS % rules.RATE_SPAN_MS
    rooms = [make_room(author, f"r{n}") for n in range(4)]
    room = rooms[0]
    posts = [make_post(author, room, f"{n:02}") for n in range(25)]
    quiet = make_post(other, room, "quiet")
    next_hour = make_post(author, room, "next", created_ms=author.now_ms + rules.RATE_SPAN_MS)
    records = [*rooms, *posts, quiet, next_hour]
    for seed in range(5):
        store = Store(tmp_path / f"{seed}.db", [ForumView()])
        Random(seed).shuffle(records)
        for start in range(0, len(records), 6):
            store.save(records[start : start + 6], 1)
        assert sorted(texts(store, room)) == [f"{n:02}" for n in range(10)] + ["next", "quiet"]
        assert hidden(store) == {rules.HIDDEN_RATE: 15}
        assert labels(store) == ["r0", "r1"]
        assert views.find_room(store.connection, "r0").posts == 12
        store.close()


def test_what_would_be_hidden_is_known_before_it_is_written(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules, "POSTS_PER_SPAN", 3)
    author = Author("a")
    room = make_room(author)
    posts = [make_post(author, room, f"{n}") for n in range(3)]

    def why(kind: str, now: int = START_MS) -> str:
        return views.would_hide(store.connection, author.address, kind, now)

    store.save([room, *posts[:2]], 1)
    assert why(rules.POST) == ""
    store.save(posts[2:], 1)
    assert why(rules.POST) == rules.HIDDEN_RATE
    assert why(rules.ROOM) == ""
    assert why(rules.POST, START_MS + rules.RATE_SPAN_MS) == ""
    store.save([make_post(author, room, "twin", seq=2, prev=posts[0].id)], 1)
    assert why(rules.ROOM) == rules.HIDDEN_FORK


def test_a_post_whose_room_is_unknown_waits_for_it(store: Store) -> None:
    author = Author("a")
    room = make_room(author)
    post = make_post(author, room)
    store.save([post], 1)
    assert views.posts_by_id(store.connection, [post.id]) == []
    store.save([room], 1)
    assert texts(store, room) == ["hello"]
    (row,) = views.rooms(store.connection, None, 5)[0]
    assert (row.posts, row.last_post_ms) == (1, post.header.created_ms)


def test_records_out_of_form_or_of_other_kinds_are_not_shown(store: Store) -> None:
    author = Author("a")
    room = make_room(author)
    strange: Sequence[Record] = [
        author.write(b"\xff", rules.POST, room.id),
        author.write(b"\xc1", rules.ROOM),
        author.write(pack(["Bad Name", ""]), rules.ROOM),
        author.write(b"text", "forum.unknown", room.id),
        author.write(b"text", rules.POST),
    ]
    store.save([room, *strange], 1)
    assert texts(store, room) == []
    assert labels(store) == ["lobby"]
    assert store.count() == 6


def test_a_hidden_room_gives_its_name_back(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "ROOMS_PER_SPAN", 1)
    squatter = Author("s")
    store.save([make_room(squatter, "first"), make_room(squatter, "lobby")], 1)
    assert labels(store) == ["first"]
    room = make_room(Author("a"))
    store.save([room], 2)
    assert views.find_room(store.connection, "lobby").id == room.id
