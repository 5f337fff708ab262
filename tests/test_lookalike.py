"""Two names that look the same have one skeleton, and others do not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from permesh.lookalike import skeleton

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
def test_any_text_has_a_skeleton_that_is_its_own(text: str) -> None:
    # Of one character Unicode makes eighteen at most, and two of each of these are made here.
    assert len(skeleton(text)) <= 36 * len(text.casefold())
    assert skeleton(skeleton(text)) == skeleton(text)
