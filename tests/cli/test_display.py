"""Whatever another member wrote, a terminal shows it and does not obey it."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from permesh.display import clean, clean_line

ANY_TEXT = st.text(st.characters(codec=None))
BIDI = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


@given(ANY_TEXT)
def test_nothing_that_acts_on_a_terminal_survives(text: str) -> None:
    for ch in clean(text):
        assert ch in "\n\t" or unicodedata.category(ch) not in ("Cc", "Cs", "Zl", "Zp")
        assert ch not in BIDI


@given(ANY_TEXT)
def test_a_line_stays_one_line(text: str) -> None:
    assert len(clean_line(text).splitlines()) <= 1


@given(ANY_TEXT)
def test_cleaning_twice_changes_nothing_and_no_character_vanishes(text: str) -> None:
    once = clean(text)
    assert clean(once) == once
    assert len(once) == len(text)
    once.encode()


@pytest.mark.parametrize("text", ["héllo wörld", "日本語", "שלום", "👩‍👩‍👧", "a\nb\tc", "[bold]"])
def test_honest_text_is_left_alone(text: str) -> None:
    assert clean(text) == text


def test_an_escape_sequence_is_shown() -> None:
    assert clean("\x1b[31mred\x1b]0;title\x07") == "␛[31mred␛]0;title␇"
    assert clean("\x9b2J") == "\ufffd2J"
    assert clean_line("two\nlines\tx") == "two␊lines x"
    assert clean("safe\u202egnp.exe") == "safe\ufffdgnp.exe"
