"""Posts are found by what they say now, newest first, however common the word."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from permesh.forum import kinds, search
from permesh.forum.kinds import File
from permesh.forum.query import Filter, parse
from permesh.forum.search import Entry, Found, SearchView, tag
from permesh.records import Record
from tests.simulator import Author

NOW_MS = 1_800_000_000_000
ROOM, OTHER_ROOM = b"r" * 32, b"o" * 32


@dataclass
class Forum:
    """Stands for the forum's view: what posts say, and which are shown."""

    connection: sqlite3.Connection
    author: Author
    entries: dict[bytes, Entry] = field(default_factory=dict)
    hidden: set[bytes] = field(default_factory=set)
    asked: int = 0

    def __post_init__(self) -> None:
        self.view = SearchView(self._contents)
        self.view.reset(self.connection.cursor())

    def _contents(self, _cursor: sqlite3.Cursor, posts: Sequence[bytes]) -> list[Entry]:
        return [self.entries[post] for post in posts if post in self.entries]

    def apply(self, *records: Record) -> None:
        self.view.apply(self.connection.cursor(), records, 1)

    def post(self, text: str, **fields: object) -> bytes:
        record = self.author.write(text.encode(), kinds.POST, ROOM)
        values = {"created_ms": NOW_MS + len(self.entries), "room": ROOM,
                  "author": self.author.address, **fields}  # fmt: skip
        self.entries[record.id] = Entry(
            post=record.id,
            position=10 + 2 * record.header.seq,
            text=text,
            **values,  # type: ignore[arg-type]
        )
        self.apply(record)
        return record.id

    def change(self, post: bytes, kind: str, text: str | None) -> None:
        if text is None:
            del self.entries[post]
        else:
            self.entries[post] = replace(self.entries[post], text=text)
        self.apply(self.author.write(b"", kind, ROOM, parents=(post,)))

    def find(self, text: str, limit: int = 50, below: int | None = None) -> Found:
        def keep(posts: Sequence[bytes]) -> list[bytes]:
            self.asked += len(posts)
            return [post for post in posts if post not in self.hidden]

        def tag_of(part: Filter) -> str:
            if part.field == "has":
                return "has" + part.value
            value = {"lobby": ROOM, "other": OTHER_ROOM, "me": b"m" * 20}.get(part.value)
            return tag(part.field, value or part.value.encode() * 20)

        return search.search(
            self.connection, parse(text, NOW_MS), tag_of=tag_of, keep=keep, limit=limit, below=below
        )

    def found(self, text: str) -> list[str]:
        found = self.find(text)
        assert found.below is None
        return [self.entries[post].text for post in found.posts]


@pytest.fixture
def forum() -> Iterator[Forum]:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        yield Forum(connection, Author("a"))


def test_the_newest_arrival_comes_first_whatever_its_date(forum: Forum) -> None:
    forum.post("one ring", created_ms=NOW_MS)
    forum.post("two rings")
    forum.post("another ring", created_ms=5)
    assert forum.found("ring*") == ["another ring", "two rings", "one ring"]
    assert forum.found("ring") == ["another ring", "one ring"]


def test_an_edit_replaces_and_a_removal_deletes(forum: Forum) -> None:
    post = forum.post("the first words")
    forum.change(post, kinds.EDIT, "other letters")
    assert forum.found("words") == []
    assert forum.found("letters") == ["other letters"]
    forum.change(post, kinds.REMOVAL, None)
    assert forum.found("letters OR words OR author:me") == []
    assert forum.connection.execute("SELECT count(*) FROM forum_search").fetchone() == (0,)


def test_what_is_dropped_is_forgotten_and_an_edit_dropped_alone_gives_the_text_back(
    forum: Forum,
) -> None:
    record = forum.author.write(b"", kinds.POST, ROOM)
    entry = Entry(record.id, 1, ROOM, forum.author.address, 1, "edited")
    forum.entries[record.id] = entry
    forum.apply(record)
    edit = forum.author.write(b"", kinds.EDIT, ROOM, parents=(record.id,))
    forum.entries[record.id] = replace(entry, text="original")
    forum.view.forget(forum.connection.cursor(), [edit])
    assert forum.found("original") == ["original"]
    del forum.entries[record.id]
    forum.view.forget(forum.connection.cursor(), [record])
    assert forum.found("original") == []


def test_an_edit_that_came_before_its_post_and_other_kinds_change_nothing(forum: Forum) -> None:
    forum.apply(
        forum.author.write(b"", kinds.EDIT, ROOM, parents=(b"x" * 32,)),
        forum.author.write(b"", kinds.REACTION, ROOM, parents=(b"x" * 32,)),
        forum.author.write(b"", "forum.unknown", ROOM, parents=(b"x" * 32,)),
    )
    assert forum.connection.execute("SELECT count(*) FROM forum_arrivals").fetchone() == (0,)


def test_filters(forum: Forum) -> None:
    forum.post("by another", author=b"b" * 20)
    forum.post("elsewhere", room=OTHER_ROOM)
    forum.post("for me", mentions=(b"x" * 20, b"m" * 20))
    forum.post("with a file", files=True)
    forum.post("see HTTPS://example.org/a, and http:// alone")
    forum.post("no link: http:// or ftp://example.org")
    for text, count in (("author:b", 1), ("-author:b", 5), ("room:other", 1), ("room:lobby", 5)):
        assert len(forum.found(text)) == count
    assert forum.found("mentions:me") == ["for me"]
    assert forum.found("has:file") == ["with a file"]
    assert forum.found("has:link") == ["see HTTPS://example.org/a, and http:// alone"]
    assert forum.found("mentions:me OR has:file -for") == ["with a file"]
    assert forum.found("hasfile") == forum.found(tag("author", b"b" * 20)) == []


def test_dates_bound_what_is_found(forum: Forum) -> None:
    for day in (3, 1, 2, 9, 5):  # not in the order of arrival
        forum.post(f"day {day}", created_ms=NOW_MS - day * 86_400_000)
    assert forum.found("after:3d before:1d") == ["day 2", "day 3"]
    assert forum.found("day before:5d") == ["day 9"]
    assert forum.found("before:100d") == []


def test_hidden_posts_are_not_found_and_pages_join(forum: Forum) -> None:
    posts = [forum.post(f"common {n}") for n in range(23)]
    forum.hidden.update(posts[::4])
    seen: list[bytes] = []
    below = None
    while True:
        found = forum.find("common", 5, below)
        seen += found.posts
        forum.post("common and late")  # comes before the place, and moves nothing
        if found.below is None:
            break
        assert len(found.posts) == 5
        below = found.below
    assert seen == [post for post in reversed(posts) if post not in forum.hidden]


def test_a_page_looks_at_a_bounded_number_and_says_where_to_go_on(
    forum: Forum, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "MAX_EXAMINED", 20)
    monkeypatch.setattr(search, "_BATCH", 10)
    wanted = forum.post("common")
    forum.hidden.update(forum.post("common") for _ in range(50))
    below, pages, seen = None, 0, []
    while True:
        forum.asked = 0
        found = forum.find("common", 5, below)
        assert forum.asked <= 20
        seen += found.posts
        pages, below = pages + 1, found.below
        if below is None:
            break
    assert (pages, seen) == (3, [wanted])


def test_a_common_word_costs_what_the_page_shows(forum: Forum) -> None:
    for n in range(1_000):
        forum.post(f"common {n}")
    forum.asked = 0
    assert len(forum.find("common", 20).posts) == 20
    assert forum.asked <= 250


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 5),
            st.sampled_from([kinds.POST, kinds.EDIT, kinds.REMOVAL]),
            st.lists(st.sampled_from(["one", "two", "three"]), min_size=1, max_size=3),
        ),
        max_size=30,
    )
)
def test_the_index_says_what_the_posts_say(steps: list[tuple[int, str, list[str]]]) -> None:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        forum = Forum(connection, Author("a"))
        posts: list[bytes] = []
        for number, kind, said in steps:
            here = [post for post in posts if post in forum.entries]
            if kind == kinds.POST or not here:
                # A position is used once, so what was removed keeps its own.
                posts.append(forum.post(" ".join(said)))
            else:
                text = None if kind == kinds.REMOVAL else " ".join(said)
                forum.change(here[number % len(here)], kind, text)
        for word in ("one", "two", "three"):
            now = [post for post, entry in forum.entries.items() if word in entry.text.split()]
            assert set(forum.find(word).posts) == set(now)


def test_a_file_is_told_by_the_view_and_not_by_the_text() -> None:
    entry = Entry(b"p" * 32, 1, ROOM, b"a" * 20, 1, "", files=bool([File(b"h" * 32, 1, "a.txt")]))
    assert entry.tags().split() == ["all", tag("author", b"a" * 20), tag("room", ROOM), "hasfile"]
