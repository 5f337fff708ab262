"""What says the same folds into what said it first, and nothing else does."""

from __future__ import annotations

from time import perf_counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from permesh.forum import alike
from permesh.forum.alike import SPAN_MS, Line, fingerprint, fold, normalise

ROOM = b"r" * 32
LONG = (
    "The nightly evaluation of the retrieval model ran on three members and the score fell by"
    " two points since last week, most of it on questions about dates. I suspect the new index,"
    " which was built from records that arrived out of order. Could somebody who holds the older"
    " shard repeat the run and compare what both of them answer to the first hundred questions?"
)
OTHER = (
    "Members who serve a stage should look at their battery settings: two of them went to sleep"
    " in the middle of an answer today, and the ring had to be planned anew each time. A script"
    " that keeps a laptop awake while a session is open would help, and so would a warning."
)


def line(number: int, text: str, *, at: int = 0, author: str = "a", **fields: object) -> Line:
    values = {"room": ROOM, "reply_to": None, **fields}
    return Line(bytes([number]) * 32, author=author.encode() * 20, created_ms=at, text=text,
                **values)  # type: ignore[arg-type]  # fmt: skip


def folds(*posts: Line) -> dict[int, int]:
    return {post[0]: first[0] for post, first in fold(posts).items()}


# -- near-duplicates


def test_a_long_text_folds_into_one_that_differs_a_little() -> None:
    changed = LONG.replace("three", "four") + " https://example.org/report/17"
    assert folds(line(1, LONG), line(2, OTHER), line(3, changed, at=1000, author="b")) == {3: 1}


def test_numbers_links_case_and_spaces_do_not_count() -> None:
    one = "Build 17 failed, see https://ci.example/17"
    assert normalise(one) == normalise("build  9812 FAILED,\nsee http://other.example/?q=9812")
    assert folds(line(1, one), line(2, one.upper().replace("17", "4"), author="b")) == {2: 1}


def test_another_room_day_or_file_folds_nothing() -> None:
    assert folds(line(1, LONG), line(2, LONG, room=b"x" * 32)) == {}
    assert folds(line(1, LONG), line(2, LONG, at=SPAN_MS + 1)) == {}
    assert folds(line(1, LONG), line(2, LONG, at=SPAN_MS)) == {2: 1}
    assert folds(line(1, LONG), line(2, LONG, attachments=("aa",))) == {}
    assert folds(line(1, "see the file here"), line(2, "see the file here", at=SPAN_MS + 1)) == {}


def test_a_text_that_drifts_is_compared_with_the_first_and_after_a_day_with_the_next() -> None:
    at = [0, SPAN_MS // 2, SPAN_MS + 1, SPAN_MS + 2]
    posts = [line(number, LONG, at=when) for number, when in enumerate(at)]
    assert folds(*posts) == {1: 0, 3: 2}


def test_a_short_answer_of_two_members_is_two_answers() -> None:
    assert folds(line(1, "yes"), line(2, "Yes", author="b")) == {}
    assert folds(line(1, "yes"), line(2, "Yes!")) == {}
    assert folds(line(1, "yes"), line(2, "Yes")) == {2: 1}
    assert folds(line(1, "yes", reply_to=b"p" * 32), line(2, "yes", reply_to=b"q" * 32)) == {}
    assert folds(line(1, "cheap tokens for all"), line(2, "Cheap tokens for all", author="b")) == {
        2: 1
    }


def test_what_has_no_words_is_left_alone() -> None:
    assert folds(line(1, ""), line(2, ""), line(3, "  \n"), line(4, "  ")) == {}


def test_unrelated_texts_are_far_apart() -> None:
    distance = (fingerprint(normalise(LONG)) ^ fingerprint(normalise(OTHER))).bit_count()
    assert distance > 15


# -- floods


def test_more_than_five_in_a_minute_fold_into_the_first() -> None:
    posts = [line(number, f"{'x' * number} one", at=number * 1000) for number in range(1, 8)]
    assert folds(*posts[:5]) == {}
    assert folds(*posts[:6]) == dict.fromkeys(range(2, 7), 1)
    assert folds(*posts) == dict.fromkeys(range(2, 8), 1)


def test_a_flood_is_found_wherever_it_starts_and_ends_when_it_slows_down() -> None:
    at = [0, 50_000, 52_000, 54_000, 56_000, 60_001, 110_000, 113_000, 300_000, 301_000]
    posts = [line(number, f"{'x' * number} one", at=when) for number, when in enumerate(at)]
    assert folds(*posts) == dict.fromkeys(range(2, 7), 1)
    at[5] = 60_000
    posts = [line(number, f"{'x' * number} one", at=when) for number, when in enumerate(at)]
    assert folds(*posts) == dict.fromkeys(range(1, 7), 0)


def test_two_floods_of_one_run_fold_apart() -> None:
    at = [*range(6), *range(600, 606)]
    posts = [line(number, f"{'x' * number} one", at=when * 1000) for number, when in enumerate(at)]
    assert folds(*posts) == dict.fromkeys(range(1, 6), 0) | dict.fromkeys(range(7, 12), 6)


def test_another_voice_or_answers_to_others_make_no_flood() -> None:
    posts = [line(number, f"{'x' * number} one", at=number) for number in range(10)]
    assert folds(*posts[:5], line(20, "well", at=5, author="b"), *posts[5:]) == {}
    answers = [line(number, f"{'x' * number} one", at=number, reply_to=bytes([100 + number]) * 32)
               for number in range(10)]  # fmt: skip
    assert folds(*answers) == {}
    same = [line(number, f"{'x' * number} one", at=number, reply_to=b"p" * 32)
            for number in range(10)]  # fmt: skip
    assert len(folds(*same)) == 9
    chain = [line(number, f"{'x' * number} one", at=number,
                  reply_to=bytes([number - 1]) * 32 if number else None)
             for number in range(10)]  # fmt: skip
    assert len(folds(*chain)) == 9


def test_a_flood_whose_first_is_a_duplicate_folds_into_the_original() -> None:
    posts = [line(number, LONG if number == 3 else f"{'x' * number} one", at=number)
             for number in range(3, 10)]  # fmt: skip
    assert folds(line(1, LONG, author="b"), *posts) == dict.fromkeys(range(3, 10), 1)


# -- in general

LINES = st.lists(
    st.builds(
        dict,
        text=st.sampled_from(["", "yes", "five words in this one", LONG, LONG + " too", OTHER]),
        author=st.sampled_from("ab"),
        after=st.integers(0, 40_000) | st.just(SPAN_MS),
        reply_to=st.sampled_from([None, b"p" * 32]),
        room=st.sampled_from([ROOM, b"x" * 32]),
    ),
    max_size=40,
)


@given(LINES)
def test_a_post_folds_into_an_earlier_one_of_its_room_that_folds_into_none(drawn: list) -> None:
    at, posts = 0, []
    for number, fields in enumerate(drawn):
        at += fields.pop("after")
        posts.append(line(number, at=at, **fields))
    by_id = {post.id: post for post in posts}
    found = fold(posts)
    for post, first in found.items():
        assert first not in found
        assert posts.index(by_id[first]) < posts.index(by_id[post])
        assert by_id[first].room == by_id[post].room
    assert fold(posts) == found


@given(st.text(max_size=300))
def test_any_text_folds_into_its_copy_unless_it_has_no_words(text: str) -> None:
    assert folds(line(1, text), line(2, text)) == ({2: 1} if normalise(text) else {})


@settings(max_examples=20)
@given(st.lists(st.integers(0, 2**64 - 1), min_size=12, max_size=60, unique=True))
def test_a_fingerprint_is_the_majority_of_its_words_bits(seeds: list[int]) -> None:
    words = [f"w{seed}" for seed in seeds]
    whole = fingerprint(words)
    single = [fingerprint([word]) for word in words]
    for bit in range(64):
        ones = sum(one >> bit & 1 for one in single)
        assert whole >> bit & 1 == (2 * ones > len(words))


def test_a_hostile_page_costs_no_more_than_a_long_one(monkeypatch: pytest.MonkeyPatch) -> None:
    # Fingerprints that share a block and are not near: every post meets all others in a bucket.
    hostile = iter(range(10**6))
    monkeypatch.setattr(alike, "fingerprint", lambda _: next(hostile) * 0x0101_0101_0101 << 16)
    posts = [Line(number.to_bytes(32, "big"), ROOM, b"a" * 20, number * 60_000,
                  " ".join(f"w{number}x{'y' * word}" for word in range(20)))
             for number in range(2_000)]  # fmt: skip
    started = perf_counter()
    fold(posts)
    assert perf_counter() - started < 2
