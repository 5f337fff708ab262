"""What is shown of an answer, and when."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from permesh.inference.engine.text import StopFilter


def shown(stops: list[str], pieces: list[str]) -> tuple[list[str], str, bool]:
    stop_filter = StopFilter(stops)
    out = [stop_filter.push(piece) for piece in pieces]
    return out, stop_filter.flush(), stop_filter.stopped


def test_text_without_stop_strings_passes_at_once() -> None:
    assert shown([], ["a", "b"]) == (["a", "b"], "", False)


def test_what_may_become_a_stop_string_is_held_back() -> None:
    assert shown(["END"], ["say E", "N", "D now"]) == (["say ", "", ""], "", True)
    assert shown(["END"], ["say E", "N", "O"]) == (["say ", "", "ENO"], "", False)


def test_what_was_held_back_comes_at_the_end() -> None:
    assert shown(["END"], ["the EN"]) == (["the "], "EN", False)


def test_the_first_of_several_stop_strings_counts() -> None:
    assert shown(["xyz", "b"], ["abxyz"]) == (["a"], "", True)


def test_nothing_comes_after_a_stop_string() -> None:
    assert shown(["."], ["a.b", "c"]) == (["a", ""], "", True)


@given(
    text=st.text(alphabet="ab.", max_size=30),
    stops=st.lists(st.text(alphabet="ab.", min_size=1, max_size=4), max_size=3),
    data=st.data(),
)
def test_however_text_is_cut_the_same_is_shown_and_never_a_stop_string(
    text: str, stops: list[str], data: st.DataObject
) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    out, rest, stopped = shown(stops, pieces)
    whole = "".join(out) + rest
    assert text.startswith(whole)
    for stop in stops:
        assert stop not in whole
    assert stopped == any(stop in text for stop in stops)
    if not stopped:
        assert whole == text


@pytest.mark.parametrize("stop", ["aab", "aba"])
def test_a_stop_string_that_overlaps_itself(stop: str) -> None:
    out, rest, stopped = shown([stop], list("a" + stop))
    assert ("".join(out) + rest, stopped) == (("a" + stop)[: ("a" + stop).find(stop)], True)
