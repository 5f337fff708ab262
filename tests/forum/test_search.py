"""Posts are found by what they say now, newest first, however common the word."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from permesh.forum import kinds, search
from permesh.forum.kinds import Content, File
from permesh.forum.query import Filter, parse
from permesh.forum.search import HAS_FILE, HAS_LINK, Found, tag
from permesh.records import Record
from permesh.store import Store
from tests.forum.own_side import ME, edit, label, open_store, post, remove, room
from tests.simulator import START_MS, Author

DAY_MS = 86_400_000
NOW_MS = START_MS + DAY_MS


@dataclass
class Searcher:
    store: Store
    hidden: set[bytes] = field(default_factory=set)
    asked: int = 0

    def find(
        self,
        text: str,
        limit: int = 50,
        below: int | None = None,
        thread: bytes | None = None,
    ) -> Found:
        def keep(posts: Sequence[bytes]) -> list[bytes]:
            self.asked += len(posts)
            return [post for post in posts if post not in self.hidden]

        def tag_of(part: Filter) -> str:
            if part.field == "has":
                return {"file": HAS_FILE, "link": HAS_LINK}[part.value]
            return tag(part.field, bytes.fromhex(part.value))

        connection, query = self.store.connection, parse(text, NOW_MS)
        return search.search(
            connection, query, tag_of=tag_of, keep=keep, limit=limit, below=below, thread=thread
        )

    def found(self, text: str) -> list[bytes]:
        found = self.find(text)
        assert found.below is None
        return found.posts


@pytest.fixture
def searcher(tmp_path: Path) -> Iterator[Searcher]:
    store = open_store(tmp_path / "permesh.db")
    yield Searcher(store)
    store.close()


def ids(*records: Record) -> list[bytes]:
    return [record.id for record in records]


# -- what posts say


def test_the_newest_arrival_comes_first_whatever_its_date(searcher: Searcher) -> None:
    author = Author("a")
    lobby = room(author)
    one, two, three = (post(author, lobby, text) for text in ("one ring", "two rings", "a ring"))
    searcher.store.save([lobby, three], 1)
    searcher.store.save([two], 2)
    searcher.store.save([one], 3)
    assert searcher.found("ring*") == ids(one, two, three)
    assert searcher.found("ring") == ids(one, three)


def test_an_edit_replaces_and_a_removal_deletes(searcher: Searcher) -> None:
    author = Author("a")
    lobby = room(author)
    one = post(author, lobby, "the first words")
    searcher.store.save([lobby, one], 1)
    change = edit(author, one, "other letters")
    searcher.store.save([change], 2)
    assert searcher.found("words") == []
    assert searcher.found("letters") == ids(one)
    searcher.store.save([remove(author, one, change)], 3)
    assert searcher.found(f"letters OR words OR author:{author.address.hex()}") == []
    for table in ("forum_search", "forum_arrivals"):
        (count,) = searcher.store.connection.execute(f"SELECT count(*) FROM {table}").fetchone()
        assert count == 0


def test_changes_that_came_before_the_post_or_are_not_its_authors(searcher: Searcher) -> None:
    author = Author("a")
    lobby = room(author)
    one, two = post(author, lobby, "first one"), post(author, lobby, "first two")
    later = [edit(author, one, "second one"), remove(author, two)]
    searcher.store.save([lobby, *later], 1)
    searcher.store.save([one, two], 2)
    searcher.store.save([edit(Author("thief"), one, "third")], 3)
    assert searcher.found("first OR third") == []
    assert searcher.found("second") == ids(one)


def test_what_is_dropped_is_forgotten(searcher: Searcher) -> None:
    author = Author("a")
    lobby = room(author)
    old = post(author, lobby, "old words")
    kept = post(author, lobby, "kept", created_ms=START_MS + 5 * DAY_MS)
    searcher.store.save([lobby, old, kept, edit(author, kept, "kept words")], 1)
    searcher.store.drop_before(lobby.id, START_MS // DAY_MS + 2)
    assert not searcher.store.has(old.id)
    assert searcher.found("words") == ids(kept)


def test_an_edit_that_falls_with_its_authors_chain_gives_the_text_back(
    searcher: Searcher,
) -> None:
    author = Author("a")
    lobby = room(Author("founder"))
    one = post(author, lobby, "sound words")
    change = edit(author, one, "forked words")
    searcher.store.save([lobby, one, change], 1)
    assert searcher.found("forked") == ids(one)
    twin = author.write(b"", "note", seq=change.header.seq, prev=one.id)
    searcher.store.save([twin], 2)
    assert searcher.found("forked") == []
    assert searcher.found("sound") == ids(one)


def test_filters(searcher: Searcher) -> None:
    author, other = Author("a"), Author("b")
    lobby, news = room(author), room(author, "news")
    by_other, elsewhere = post(other, lobby, "by another"), post(author, news, "elsewhere")
    for_me = post(author, lobby, "for me", mentions=(other.address, ME))
    body = kinds.post_body(Content("", files=(File(b"h" * 32, 1, "a.txt"),)))
    with_file = author.write(body, kinds.POST, lobby.id)
    link = post(author, lobby, "see HTTPS://example.org/a, and http:// alone")
    no_link = post(author, lobby, "no link: http:// or ftp://example.org")
    everything = [by_other, elsewhere, for_me, with_file, link, no_link]
    searcher.store.save([lobby, news, *everything], 1)
    found = searcher.found
    assert found(f"author:{other.address.hex()}") == ids(by_other)
    assert set(found(f"-author:{other.address.hex()}")) == set(ids(*everything[1:]))
    assert found(f"room:{news.id.hex()}") == ids(elsewhere)
    assert found(f"mentions:{ME.hex()}") == ids(for_me)
    assert found("has:file") == ids(with_file)
    assert found("has:link") == ids(link)
    assert found(f"mentions:{ME.hex()} OR has:file -for") == ids(with_file)
    assert found(HAS_FILE) == found(tag("author", other.address)) == []


def test_dates_bound_what_is_found(searcher: Searcher) -> None:
    author = Author("a")
    lobby = room(author)
    by_day = {
        day: post(author, lobby, f"day {day}", created_ms=NOW_MS - day * DAY_MS)
        for day in (3, 1, 2, 9, 5)  # not in the order of arrival
    }
    searcher.store.save([lobby, *by_day.values()], 1)
    assert searcher.found("after:3d before:1d") == ids(by_day[2], by_day[3])
    assert searcher.found("day before:5d") == ids(by_day[9])
    assert searcher.found("before:100d") == []


# -- pages


def test_hidden_posts_are_not_found_and_pages_join(searcher: Searcher) -> None:
    author = Author("a")
    lobby = room(author)
    posts = [post(author, lobby, f"common {n}") for n in range(23)]
    searcher.store.save([lobby, *posts], 1)
    searcher.hidden.update(ids(*posts[::4]))
    seen: list[bytes] = []
    below = None
    while True:
        found = searcher.find("common", 5, below)
        seen += found.posts
        # What is new comes before the place, and moves nothing.
        searcher.store.save([post(author, lobby, "common and new")], 2)
        if found.below is None:
            break
        assert len(found.posts) == 5
        below = found.below
    assert seen == [one for one in ids(*reversed(posts)) if one not in searcher.hidden]


def test_a_page_looks_at_a_bounded_number_and_says_where_to_go_on(
    searcher: Searcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "MAX_EXAMINED", 20)
    monkeypatch.setattr(search, "_BATCH", 10)
    author = Author("a")
    lobby = room(author)
    posts = [post(author, lobby, "common") for _ in range(51)]
    searcher.store.save([lobby, *posts], 1)
    searcher.hidden.update(ids(*posts[1:]))
    below, pages, seen = None, 0, []
    while True:
        searcher.asked = 0
        found = searcher.find("common", 5, below)
        assert searcher.asked <= 20
        seen += found.posts
        pages, below = pages + 1, found.below
        if below is None:
            break
    assert (pages, seen) == (3, ids(posts[0]))


def test_a_common_word_costs_what_the_page_shows(searcher: Searcher) -> None:
    author = Author("a")
    lobby = room(author)
    searcher.store.save([lobby, *(post(author, lobby, f"common {n}") for n in range(1_000))], 1)
    assert len(searcher.find("common", 20).posts) == 20
    assert searcher.asked <= 250


def test_what_a_thread_or_a_label_rules_out_is_not_looked_at(
    searcher: Searcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    author = Author("a")
    lobby = room(author)
    posts = [post(author, lobby, f"common {n}") for n in range(40)]
    answer = post(author, lobby, "common answer", posts[3])
    labels = [label(author, one, "pin") for one in (posts[3], posts[30], posts[35])]
    searcher.store.save([lobby, *posts, answer, *labels], 1)
    assert searcher.found("common label:pin") == ids(posts[35], posts[30], posts[3])
    assert searcher.find("common", thread=posts[3].id).posts == ids(answer, posts[3])
    assert searcher.find("label:pin", thread=posts[3].id).posts == ids(posts[3])
    assert searcher.asked == 3 + 2 + 1
    assert searcher.found("label:unknown") == []
    monkeypatch.setattr(search, "MAX_SCANNED", 20)
    monkeypatch.setattr(search, "_BATCH", 10)
    found = searcher.find("common", thread=posts[3].id)
    assert found.posts == ids(answer)
    assert searcher.find("common", below=found.below, thread=posts[3].id).posts == ids(posts[3])


# -- in general

STEPS = st.lists(
    st.tuples(
        st.integers(0, 5),
        st.sampled_from([kinds.POST, kinds.EDIT, kinds.REMOVAL]),
        st.lists(st.sampled_from(["one", "two", "three"]), min_size=1, max_size=3),
    ),
    max_size=16,
)


@settings(max_examples=15, deadline=None)
@given(STEPS, st.randoms(use_true_random=False))
def test_the_index_says_what_the_posts_say_in_whatever_order(steps: list, order: object) -> None:
    author = Author("a")
    lobby = room(author)
    posts: list[Record] = []
    said: dict[bytes, list[str]] = {}
    changes: dict[bytes, list[Record]] = {}
    records = [lobby]
    for number, kind, words in steps:
        here = [one for one in posts if said[one.id]]
        if kind == kinds.POST or not here:
            posts.append(post(author, lobby, " ".join(words)))
            said[posts[-1].id], changes[posts[-1].id] = words, []
            records.append(posts[-1])
            continue
        one = here[number % len(here)]
        if kind == kinds.EDIT:
            records.append(edit(author, one, " ".join(words)))
            said[one.id] = words
            changes[one.id].append(records[-1])
        else:
            records.append(remove(author, one, *changes[one.id]))
            said[one.id] = []
    order.shuffle(records)  # type: ignore[attr-defined]
    with TemporaryDirectory() as folder:
        searcher = Searcher(open_store(Path(folder) / "permesh.db"))
        for start in range(0, len(records), 3):
            searcher.store.save(records[start : start + 3], 1)
        for word in ("one", "two", "three"):
            wanted = {one for one, words in said.items() if word in words}
            assert set(searcher.found(word)) == wanted
        searcher.store.close()
