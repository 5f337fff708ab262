"""Two names that look the same have one skeleton, and others do not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from permesh.forum.lookalike import lookalikes, looks_like, skeleton

NAMES = st.text("abcdilmnorvw01._-", min_size=1, max_size=24)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("lobby", "1obby"), ("lobby", "l0bby"),
        ("admin", "adrnin"), ("news", "nevvs"), ("general", "generai"), ("build", "buiicl"),
        ("a-b", "a_b"), ("a-b", "a.b"), ("a-b", "a--b"), ("vw", "wv"), ("mesh-ops", "rnesh.0ps"),
    ],
)  # fmt: skip
def test_names_that_look_the_same_have_one_skeleton(one: str, other: str) -> None:
    assert skeleton(one) == skeleton(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [("lobby", "hobby"), ("ab", "a-b"), ("news", "new"), ("a2", "az"), ("nn", "m"), ("-a", "a")],
)
def test_names_that_look_different_do_not(one: str, other: str) -> None:
    assert skeleton(one) != skeleton(other)


@given(NAMES)
def test_a_skeleton_is_its_own_skeleton(name: str) -> None:
    assert skeleton(skeleton(name)) == skeleton(name)


@given(NAMES, NAMES)
def test_what_stands_beside_a_name_changes_no_likeness(one: str, other: str) -> None:
    if skeleton(one) == skeleton(other):
        assert skeleton(f"r{one}n") == skeleton(f"r{other}n")


@given(st.text(max_size=40))
def test_any_text_has_a_bounded_skeleton(text: str) -> None:
    assert len(skeleton(text)) <= 2 * len(text.casefold())


def test_the_older_name_is_found() -> None:
    assert looks_like("l0bby", ["news", "lobby", "1obby"]) == "lobby"
    assert looks_like("lobby", ["lobby", "news"]) == ""
    assert lookalikes(["lobby", "news", "l0bby", "lobby", "1obby"]) == {
        "l0bby": "lobby",
        "1obby": "lobby",
    }
