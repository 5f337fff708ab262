"""Whatever is typed is either a query that FTS5 can answer or refused in words."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from permesh.errors import PermeshError
from permesh.forum.query import (
    MAX_CHARACTERS,
    MAX_WORDS,
    Clause,
    Filter,
    Phrase,
    Query,
    parse,
    unknown_filters,
    words,
)

NOW_MS = 1_800_000_000_000
DAY_MS = 86_400_000


def ms(*when: int) -> int:
    return int(datetime(*when, tzinfo=UTC).timestamp() * 1000)  # type: ignore[arg-type]


def clauses(text: str) -> tuple[Clause, ...]:
    return parse(text, NOW_MS).clauses


def one(text: str, prefix: bool = False, negated: bool = False) -> Clause:
    return Clause((Phrase(text, prefix),), negated)


# -- what is read


def test_words_phrases_prefixes_and_what_is_not_wanted() -> None:
    assert clauses('lane "two  members" shar* -slow -"no answer" "ring ste"*') == (
        one("lane"), one("two members"), one("shar", prefix=True), one("slow", negated=True),
        one("no answer", negated=True), one("ring ste", prefix=True),
    )  # fmt: skip


def test_or_joins_its_neighbours() -> None:
    joined = Clause((Phrase("b"), Filter("author", "atlas"), Phrase("c d")))
    assert clauses('a b OR author:atlas OR "c d" or') == (one("a"), joined, one("or"))


def test_fields() -> None:
    query = parse('Author:0xab -room:lobby mentions:me has:FILE thread:12ab label:spam -label:pin',
                  NOW_MS)  # fmt: skip
    assert query == Query(
        clauses=(
            Clause((Filter("author", "0xab"),)), Clause((Filter("room", "lobby"),), negated=True),
            Clause((Filter("mentions", "me"),)), Clause((Filter("has", "file"),)),
        ),
        labels=(("spam", True), ("pin", False)),
        thread="12ab",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "after", "before"),
    [
        ("after:2026-03-01", ms(2026, 3, 1), None),
        ("before:2026-03-01T12:30", None, ms(2026, 3, 1, 12, 30)),
        ("after:7d before:1h", NOW_MS - 7 * DAY_MS, NOW_MS - 3_600_000),
        ("after:2w after:3d before:30m before:1d", NOW_MS - 3 * DAY_MS, NOW_MS - DAY_MS),
        ("after:99999y", 0, None),
        ("before:1969-01-01", None, 0),
    ],
)
def test_dates(text: str, after: int | None, before: int | None) -> None:
    assert parse(text, NOW_MS) == Query(after_ms=after, before_ms=before)


def test_what_only_looks_like_a_field_or_an_operator_is_text() -> None:
    assert clauses("https://example.org/a std::move NOT 12:30 foo-bar AND") == (
        one("https example org a"), one("std move"), one("NOT"), one("12 30"), one("foo bar"),
        one("AND"),
    )  # fmt: skip
    assert clauses('"open phrase') == (one("open phrase"),)
    assert clauses("a & b - c !!") == (one("a"), one("b"), one("c"))


@pytest.mark.parametrize(
    "text",
    [
        "", "   ", "!!", "-", '""', "*", "a*", "é*", "OR", "a OR", "OR a", "a OR OR b", "a OR -b",
        "-a OR b", "a OR before:7d", "before:7d OR a", "label:x OR a", "has:", "has:money",
        "author:", 'author:""', "before:tomorrow", "after:2026-13-01",
        "after:2026-02-30", "-before:7d",
        "-thread:12ab", "thread:12ab thread:34cd", "label:Spam!", "author:" + "a" * 81,
        "x" * (MAX_CHARACTERS + 1), "a " * (MAX_WORDS + 1), ".".join("a" * (MAX_WORDS + 1)),
        "has:link " * (MAX_WORDS + 1),
    ],
)  # fmt: skip
def test_what_cannot_be_answered_is_said_with_a_remedy(text: str) -> None:
    with pytest.raises(PermeshError) as caught:
        parse(text, NOW_MS)
    assert caught.value.code == "search.query"
    assert caught.value.message.endswith(".")
    assert caught.value.remedy.endswith(".")


# -- what FTS5 makes of it


@pytest.fixture(scope="module")
def fts() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:", check_same_thread=False)) as connection:
        connection.execute(
            "CREATE VIRTUAL TABLE search USING fts5 (text, tags, prefix = '2 3',"
            " tokenize = 'unicode61 remove_diacritics 2')"
        )
        for text, tags in (
            ("the quick brown fox", "all author1"),
            ("the slow brown bear", "all author2 haslink"),
            ("a Café in the brown street", "all author1"),
        ):
            connection.execute("INSERT INTO search VALUES (?, ?)", (text, tags))
        yield connection


def found(fts: sqlite3.Connection, text: str) -> list[int]:
    expression = parse(text, NOW_MS).expression(lambda part: part.field + part.value)
    return [
        row[0] for row in fts.execute("SELECT rowid FROM search WHERE search MATCH ?", [expression])
    ]


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("brown", [1, 2, 3]), ("BROWN the", [1, 2, 3]), ('"the brown"', [3]), ("cafe", [3]),
        ("bro* -the", []), ("brown -quick", [2, 3]), ("-quick", [2, 3]), ("fox OR bear", [1, 2]),
        ("the fox OR bear slow", [2]), ("author:1 brown", [1, 3]), ("-author:1", [2]),
        ("author:1 OR bear -fox", [2, 3]), ("has:link", [2]), ("author1", []), ("all", []),
        ("before:7d", [1, 2, 3]), ('"brown be"*', [2]), ("author:9", []), ("tags text", []),
    ],
)  # fmt: skip
def test_a_query_finds(fts: sqlite3.Connection, text: str, rows: list[int]) -> None:
    assert found(fts, text) == rows


TYPED = st.lists(
    st.sampled_from(
        ["OR", "AND", "NOT", "NEAR(a b)", "-", '"', '""', "*", "(", ")", "{text}", "text:",
         "tags:a", ":", "^a", "a*", "ab*", "author:", "author:x", "has:link", "before:7d", "a+b",
         "\x00", "'",
         "-brown", "+", "|", "thread:ab", "room:é", "́", "𒀀", "名前", "\ud800"]
    )
    | st.text(max_size=8),
    max_size=12,
).map(" ".join)  # fmt: skip


@given(TYPED | st.text(max_size=60) | st.lists(st.text('aB"*-:() OR', max_size=9)).map("".join))
def test_any_text_is_answered_or_refused(fts: sqlite3.Connection, text: str) -> None:
    try:
        query = parse(text, NOW_MS)
    except PermeshError as error:
        if error.code != "search.query":
            raise
        return
    expression = query.expression(lambda part: "t" + part.value.encode("utf-8", "replace").hex())
    fts.execute("SELECT rowid FROM search WHERE search MATCH ?", [expression]).fetchall()


@given(st.text(st.characters(max_codepoint=0x2FF, blacklist_categories=["Cs"]), max_size=40))
def test_a_text_is_found_by_its_own_words(fts: sqlite3.Connection, text: str) -> None:
    own = words(text)[:MAX_WORDS]
    if not own:
        return
    fts.execute("INSERT INTO search (rowid, text, tags) VALUES (9, ?, 'all')", [text])
    try:
        assert 9 in found(fts, '"' + " ".join(own) + '"')
        assert 9 in found(fts, " ".join(f'"{one}"' for one in own))
    finally:
        fts.execute("DELETE FROM search WHERE rowid = 9")


# -- what reads like a filter


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("in:lobby bees", "'in:' is no filter; they are author:, room:, mentions:, has:, "),
        ('from:"atlas" -IN:lobby', "'from:', 'in:' are no filters; "),
    ],
)
def test_a_filter_that_there_is_none_of_is_named(text: str, said: str) -> None:
    assert unknown_filters(text).startswith(said)


@pytest.mark.parametrize(
    "text", ["", "bees", "author:atlas", "https://example.org", "std::move", '"in:lobby"', "note:"]
)
def test_what_is_a_word_or_a_filter_is_not(text: str) -> None:
    assert unknown_filters(text) == ""
