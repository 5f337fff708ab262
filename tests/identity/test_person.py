"""One person has one nullifier in a mesh, however it is written, and another in the next mesh."""

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from permesh.errors import Refused
from permesh.identity.person import (
    FOUNDING,
    MAX_PERSON_CHARS,
    VERIFIERS,
    person_hash,
    vouched_nullifier,
)

from .people import genesis, nullifier

CLEO = person_hash("cleo@example.org")


def refused(text: str) -> Refused:
    with pytest.raises(Refused) as caught:
        person_hash(text)
    assert caught.value.code == "person.text"
    assert caught.value.message
    assert str(MAX_PERSON_CHARS) in caught.value.remedy
    return caught.value


@pytest.mark.parametrize(
    "text",
    [
        "Cleo@Example.Org",
        "CLEO@EXAMPLE.ORG",
        "  cleo@example.org",
        "cleo@example.org\n",
        "\t\u00a0cleo@example.org\u3000\r\n",
        "\uff23\uff2c\uff25\uff2f@\uff45\uff58\uff41\uff4d\uff50\uff4c\uff45.org",
        "cleo@example\uff0eorg",
    ],
    ids=ascii,
)
def test_case_width_and_outer_blanks_do_not_count(text: str) -> None:
    assert person_hash(text) == CLEO


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Jos\u00e9", "jose\u0301"),
        ("Stra\u00dfe", "STRASSE"),
        ("\u1e9e", "ss"),
        ("\ufb01ona", "FIONA"),
        ("\u03a3\u03a3", "\u03c3\u03c2"),
        ("\u212bsa", "\u00e5SA"),
        ("\u00a0a b", "a\u00a0b"),
    ],
    ids=ascii,
)
def test_two_spellings_of_one_text_are_one_person(one: str, other: str) -> None:
    assert person_hash(one) == person_hash(other)


@pytest.mark.parametrize(
    "text",
    ["cleo@example.com", "cleo@example.org.", "cle o@example.org", "cl\u00e9o@example.org", "c"],
)
def test_another_text_is_another_person(text: str) -> None:
    assert person_hash(text) != CLEO


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "\t\n", "\u3000", "a\nb", "a\tb", "a\0b", "\x1b[2J", "a\u202eb", "a\u200bb",
        "a\u00adb", "\ufeffa", "a\u2028b", "\ud800", "a\x7f",
    ],
    ids=ascii,
)  # fmt: skip
def test_what_names_nobody_is_refused(text: str) -> None:
    refused(text)


def test_the_limit_is_of_what_is_hashed() -> None:
    longest = "x" * MAX_PERSON_CHARS
    assert person_hash(longest) == person_hash(f"  {longest.upper()}  ")
    refused(longest + "x")
    # Each of these becomes two letters.
    assert person_hash("\u00df" * (MAX_PERSON_CHARS // 2)) == person_hash("s" * MAX_PERSON_CHARS)
    refused("\u00df" * (MAX_PERSON_CHARS // 2 + 1))


@settings(deadline=None, max_examples=80)
@given(st.text(st.characters(exclude_categories=["Cs", "M"]), max_size=30))
def test_any_text_is_a_person_or_refused(text: str) -> None:
    try:
        found = person_hash(text)
    except Refused:
        refused(text)
        return
    assert len(found) == 32
    for same in (f" {text}\n", unicodedata.normalize("NFC", text), text.casefold()):
        assert person_hash(same) == found


def test_one_person_has_another_nullifier_in_each_mesh() -> None:
    here, there = genesis().scope, genesis("elsewhere").scope
    found = {vouched_nullifier(scope, CLEO) for scope in (here, there)}
    assert len(found | {CLEO}) == 3
    assert all(len(one) == 32 for one in found)
    assert nullifier(here, "cleo") in found
    assert vouched_nullifier(here, person_hash("dora@example.org")) not in found


def test_no_enrolment_names_the_founders_way_in() -> None:
    assert FOUNDING not in VERIFIERS
