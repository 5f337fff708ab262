"""The view is a fold: the same records, in any order, show the same posts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random

import pytest

from permesh import schema
from permesh.errors import NotFound, PermeshError
from permesh.forum import finding, kinds, pages, rules, verdicts
from permesh.forum.views import ForumView
from permesh.records import Record, pack
from permesh.store import Store
from tests.simulator import START_MS, Author

from .people import Eyes, make_post, make_room, open_store, rebuild, tables


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = open_store(tmp_path / "permesh.db")
    yield opened
    opened.close()


def all_posts(store: Store, room: Record) -> list[schema.Post]:
    eyes = Eyes()
    page = pages.posts(eyes.sight(store), room.id, None, 500)
    assert page.cursor is None
    return eyes.reader().posts(eyes.sight(store), page.ids, page.hidden)


def texts(store: Store, room: Record) -> list[str]:
    return [item.text for item in all_posts(store, room)]


def some(
    store: Store, room: Record, cursor: str | None, limit: int, newest_first: bool = False
) -> tuple[list[bytes], str | None]:
    page = pages.posts(Eyes().sight(store), room.id, cursor, limit, newest_first=newest_first)
    return page.ids, page.cursor


def rooms(store: Store) -> list[schema.Room]:
    eyes = Eyes()
    return eyes.reader().rooms(eyes.sight(store), pages.rooms(store.connection, None, 500)[0])


def labels(store: Store) -> list[str]:
    return [room.name for room in rooms(store)]


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
    store.save([room, post], START_MS + 7)
    store.save([reply], START_MS + 9)
    first, second = all_posts(store, room)
    assert (first.id, first.reply_to, first.created_ms, first.received_ms, first.replies) == (
        post.id.hex(), None, START_MS + 2, START_MS + 7, 1,
    )  # fmt: skip
    assert (second.text, second.reply_to, second.thread, second.depth) == (
        "and you", post.id.hex(), post.id.hex(), 1,
    )  # fmt: skip
    (row,) = rooms(store)
    assert (row.id, row.name, row.purpose, row.posts, row.last_post_ms) == (
        room.id.hex(), "lobby", "about lobby", 2, START_MS + 3,
    )  # fmt: skip


def test_posts_are_ordered_by_claimed_time_and_then_by_id(store: Store) -> None:
    author = Author("a")
    room = make_room(author)
    posts = [make_post(author, room, f"{n}", created_ms=START_MS + n // 3) for n in range(9)]
    store.save([room, *reversed(posts)], 1)
    order = sorted(posts, key=lambda r: (r.header.created_ms, r.id))
    assert [item.id for item in all_posts(store, room)] == [r.id.hex() for r in order]


@pytest.mark.parametrize("newest_first", [False, True])
def test_pages_join_without_a_gap_while_posts_arrive(store: Store, newest_first: bool) -> None:
    author = Author("a")
    room = make_room(author)
    posts = [make_post(author, room, f"{n}", created_ms=START_MS + n // 4) for n in range(23)]
    store.save([room, *posts], 1)
    seen: list[bytes] = []
    cursor = None
    for _ in range(8):
        items, cursor = some(store, room, cursor, 5, newest_first)
        seen += items
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
    posts = [make_post(author, room, f"{n}") for n in range(10)]
    store.save([room, *posts], 1)
    number = {record.id: n for n, record in enumerate(posts)}
    items, cursor = some(store, room, None, 4, newest_first=True)
    assert [number[item] for item in items] == [9, 8, 7, 6]
    older, _ = some(store, room, cursor, 4, newest_first=True)
    newer, _ = some(store, room, cursor, 4)
    assert [number[item] for item in older] == [5, 4, 3, 2]
    assert [number[item] for item in newer] == [7, 8, 9]


@pytest.mark.parametrize("cursor", ["x", "====", "é", "AAAA", "kA", "w6", "🙂" * 50, "A" * 9999])
def test_a_cursor_that_is_none_is_refused(store: Store, cursor: str) -> None:
    room = make_room(Author("a"))
    post = make_post(Author("b"), room)
    store.save([room, post], 1)
    for query in (
        lambda: pages.rooms(store.connection, cursor, 5),
        lambda: some(store, room, cursor, 5),
        lambda: pages.thread(Eyes().sight(store), post.id, cursor, 5),
    ):
        with pytest.raises(PermeshError) as caught:
            query()
        assert caught.value.code == "cursor.invalid"


def test_a_cursor_of_another_list_is_refused(store: Store) -> None:
    author = Author("a")
    made = [make_room(author, name) for name in ("a", "b", "c")]
    post = make_post(author, made[0])
    store.save([*made, post], 1)
    items, cursor = pages.rooms(store.connection, None, 2)
    assert items == [made[0].id, made[1].id]
    assert pages.rooms(store.connection, cursor, 2) == ([made[2].id], None)
    foreign = finding.make_cursor(b"x" * 32)
    for call in (
        lambda: some(store, made[0], cursor, 5),
        lambda: pages.thread(Eyes().sight(store), post.id, foreign, 5),
    ):
        with pytest.raises(PermeshError) as caught:
            call()
        assert caught.value.code == "cursor.invalid"


def test_pages_are_bounded(store: Store) -> None:
    author = Author("a")
    room = make_room(author)
    store.save([room, *(make_post(author, room, "x") for _ in range(pages.MAX_PAGE + 1))], 1)
    assert len(some(store, room, None, 10**9)[0]) == pages.MAX_PAGE
    assert len(some(store, room, None, -5)[0]) == 1


# -- names


def test_the_first_room_of_a_name_that_arrived_keeps_it(store: Store) -> None:
    mine = make_room(Author("a"))
    backdated = make_room(Author("b"), created_ms=5)
    third = make_room(Author("c"))
    for room in (mine, backdated, third):
        store.save([room], 1)
    assert finding.find_room(store.connection, "lobby") == mine.id
    for room in (backdated, third):
        label = f"lobby~{room.id.hex()[:4]}"
        assert finding.find_room(store.connection, label) == room.id
        assert label in labels(store)
    assert finding.find_room(store.connection, f"lobby~{mine.id.hex()[:8]}") == mine.id
    assert finding.find_room(store.connection, mine.id.hex()) == mine.id
    assert finding.find_room(store.connection, mine.id.hex()[:6]) == mine.id


@pytest.mark.parametrize(
    "reference", ["", "nowhere", "~", "lobby~", "lobby~zz", "lobby~0", "0", "%", "a" * 65, "é~1234"]
)
def test_a_room_that_is_not_here_is_said(store: Store, reference: str) -> None:
    store.save([make_room(Author("a"))], 1)
    with pytest.raises(NotFound) as caught:
        finding.find_room(store.connection, reference)
    assert caught.value.code == "room.unknown"


def test_a_prefix_that_fits_several_is_said(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finding, "MIN_PREFIX", 1)
    author = Author("a")
    room = make_room(author, "x")
    rooms = [make_room(author, f"r{n}") for n in range(40)]
    posts = [make_post(author, room, f"{n}") for n in range(40)]
    store.save([room, *rooms, *posts], 1)
    digit = max("0123456789abcdef", key=[r.id.hex()[0] for r in rooms].count)
    with pytest.raises(PermeshError) as caught:
        finding.find_room(store.connection, digit)
    assert caught.value.code == "room.ambiguous"
    digit = max("0123456789abcdef", key=[r.id.hex()[0] for r in posts].count)
    with pytest.raises(PermeshError) as caught:
        finding.find_parent(store.connection, room.id, digit)
    assert caught.value.code == "post.ambiguous"


def test_a_post_is_found_in_its_own_room_only(store: Store) -> None:
    author = Author("a")
    one, other = make_room(author, "one"), make_room(author, "other")
    post = make_post(author, one)
    store.save([one, other, post], 1)
    assert finding.find_parent(store.connection, one.id, post.id.hex()[:10]) == post.id
    assert finding.find_post(store.connection, post.id.hex()[:10]) == post.id
    for room, reference in ((other, post.id.hex()), (one, "f" * 64), (one, "no id")):
        with pytest.raises(NotFound) as caught:
            finding.find_parent(store.connection, room.id, reference)
        assert caught.value.code == "post.unknown_parent"
    with pytest.raises(PermeshError) as short:
        finding.find_parent(store.connection, one.id, post.id.hex()[:3])
    assert short.value.code == "id.too_short"


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
        view = ForumView()
        store = open_store(tmp_path / f"{seed}.db", view)
        Random(seed).shuffle(records)
        for record in records:
            store.save([record], 1)
        assert sorted(texts(store, room)) == ["0", "1", "kept"]
        assert hidden(store) == {rules.FORK: 4}
        assert hidden(store, "forum_rooms") == {rules.FORK: 1}
        assert store.count() == len(records)  # hidden, not gone
        (row,) = rooms(store)
        assert (row.posts, row.hidden) == (3, 4)
        assert row.last_post_ms == max(r.header.created_ms for r in (posts[0], posts[1], kept))
        with pytest.raises(NotFound):
            finding.find_parent(store.connection, room.id, twin.id.hex())
        assert finding.find_post(store.connection, twin.id.hex()) == twin.id
        before = tables(store)
        rebuild(store, view)
        assert tables(store) == before
        store.close()


def test_a_flood_is_hidden_beyond_the_quota_in_any_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules, "POSTS_PER_SPAN", 10)
    monkeypatch.setattr(rules, "ROOMS_PER_SPAN", 2)
    author, other = Author("a"), Author("o")
    author.now_ms = other.now_ms = START_MS - START_MS % rules.RATE_SPAN_MS
    made = [make_room(author, f"r{n}") for n in range(4)]
    room = made[0]
    posts = [make_post(author, room, f"{n:02}") for n in range(25)]
    quiet = make_post(other, room, "quiet")
    next_hour = make_post(author, room, "next", created_ms=author.now_ms + rules.RATE_SPAN_MS)
    records = [*made, *posts, quiet, next_hour]
    for seed in range(5):
        store = open_store(tmp_path / f"{seed}.db")
        Random(seed).shuffle(records)
        for start in range(0, len(records), 6):
            store.save(records[start : start + 6], 1)
        assert sorted(texts(store, room)) == [f"{n:02}" for n in range(10)] + ["next", "quiet"]
        assert hidden(store) == {rules.RATE: 15}
        assert labels(store) == ["r0", "r1"]
        assert rooms(store)[0].posts == 12
        store.close()


def test_what_would_be_hidden_is_known_before_it_is_written(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules, "POSTS_PER_SPAN", 3)
    author = Author("me")
    room = make_room(author)
    posts = [make_post(author, room, f"{n}") for n in range(3)]

    def why(table: str, now: int = START_MS) -> str:
        found = Eyes().sight(store).would_hide(table, now)
        return found.code if found else ""

    store.save([room, *posts[:2]], 1)
    assert why(verdicts.POSTS) == ""
    store.save(posts[2:], 1)
    assert why(verdicts.POSTS) == rules.RATE
    assert why(verdicts.ROOMS) == ""
    assert why(verdicts.POSTS, START_MS + rules.RATE_SPAN_MS) == ""
    store.save([make_post(author, room, "twin", seq=2, prev=posts[0].id)], 1)
    assert why(verdicts.ROOMS) == rules.FORK


def test_a_post_whose_room_is_unknown_waits_for_it(store: Store) -> None:
    author = Author("a")
    room = make_room(author)
    post = make_post(author, room)
    store.save([post], 1)
    assert Eyes().reader().show_posts(store.connection, [post.id]) == []
    with pytest.raises(NotFound):
        finding.find_post(store.connection, post.id.hex())
    store.save([room], 1)
    assert texts(store, room) == ["hello"]
    (row,) = rooms(store)
    assert (row.posts, row.last_post_ms) == (1, post.header.created_ms)


def test_records_out_of_form_or_of_other_kinds_are_not_shown(store: Store) -> None:
    author = Author("a")
    room = make_room(author)
    strange: Sequence[Record] = [
        author.write(b"\xff", kinds.POST, room.id),
        author.write(b"\xc1", kinds.ROOM),
        author.write(pack(["Bad Name", ""]), kinds.ROOM),
        author.write(b"text", "forum.unknown", room.id),
        author.write(b"text", kinds.POST),
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
    assert finding.find_room(store.connection, "lobby") == room.id
