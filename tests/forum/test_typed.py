"""What is typed becomes a body in form, or an error that says what to do."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from permesh import schema
from permesh.errors import NotFound, PermeshError
from permesh.forum import kinds, typed
from permesh.forum.charter import Charter
from permesh.forum.kinds import Content
from permesh.forum.text import clean_text, is_emoji
from permesh.records import MAX_BODY_BYTES
from tests.simulator import Author

ROOM = b"r" * 32
ANNA, BERT = b"a" * 20, b"b" * 20


def nobody(references: Sequence[str]) -> tuple[bytes, ...]:
    names = {"anna": ANNA, "bert": BERT}
    if any(one not in names for one in references):
        raise NotFound("members.unknown", "Nobody.", "Look.")
    return tuple(names[one] for one in references)


def body(text: str) -> bytes:
    return typed.post_body(Content(typed.post_text(text), b"c" * 32))


def refused(call: Callable[[], Any], code: str) -> None:
    with pytest.raises(PermeshError) as caught:
        call()
    assert caught.value.code == code
    assert caught.value.remedy


@settings(max_examples=80, deadline=None)
@given(st.text(max_size=60))
def test_what_is_typed_becomes_a_body_in_form_or_an_error(text: str) -> None:
    made = None
    with suppress(PermeshError):
        made = body(text)
    if made is None:
        assert not clean_text(text).strip()
    else:
        kinds.check_record(Author("a").write(made, kinds.POST, ROOM))


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("e\u0301\r\nb\rc\x1b[0m\x00\t", "é\nb\nc[0m\t"),
        ("a\u202eb\u2066c\u2069\u200f", "abc"),
        ("pay\u200bload\ufeff\u2060", "payload"),
        ("x" + "".join(chr(0xE0000 + ord(one)) for one in "ignore"), "x"),
        ("❤\ufe0f\ufe0e\ufe01", "❤\ufe0f"),
        ("one\u2028two", "one\ntwo"),
        (
            "\u0645\u06cc\u200c\u062e 👨\u200d👩\u200d👧",
            "\u0645\u06cc\u200c\u062e 👨\u200d👩\u200d👧",
        ),
    ],
)
def test_typed_text_is_made_clean(text: str, cleaned: str) -> None:
    assert clean_text(text) == cleaned
    assert clean_text(cleaned) == cleaned


def test_32_kib_of_text_pass_and_a_byte_more_does_not() -> None:
    assert len(body("x" * MAX_BODY_BYTES)) == MAX_BODY_BYTES
    assert len(body("é" * (MAX_BODY_BYTES // 2))) == MAX_BODY_BYTES
    assert len(body("e\u0301" * (MAX_BODY_BYTES // 2))) == MAX_BODY_BYTES
    for text in ("x" * (MAX_BODY_BYTES + 1), "é" * (MAX_BODY_BYTES // 2) + "x", "x" * 10**6):
        refused(lambda text=text: body(text), "post.too_long")
    full = Content("x" * MAX_BODY_BYTES, b"c" * 32, mentions=(ANNA,))
    refused(lambda: typed.post_body(full), "post.too_long")


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "post.empty"), (" \n\t", "post.empty"), ("\x00\x1b", "post.empty"),
        ("\u202e\u200b", "post.empty"), ("\ud800", "post.text"),
        ("a" + "\u0301\u0323" * 100, "post.text"), ("\ud800" * 200_000, "post.too_long"),
    ],
)  # fmt: skip
def test_text_that_cannot_be_posted_is_said(text: str, code: str) -> None:
    refused(lambda: typed.post_text(text), code)


def test_files_need_no_text() -> None:
    assert typed.post_text(" ", has_files=True) == " "


def test_a_heap_of_accents_costs_no_time() -> None:
    heap = "a" + "\u0301" * 8000 + "\u0323" * 8000
    began = time.process_time()
    refused(lambda: typed.post_text(heap), "post.text")
    assert time.process_time() - began < 0.2


@pytest.mark.parametrize("name", ["", "Lobby", "a b", "a~b", "x" * 65, "é", "a/b", "a\n"])
def test_a_name_that_no_room_may_have_is_said(name: str) -> None:
    refused(lambda: typed.room_name(name), "room.name")


# -- charters


def test_what_is_left_out_of_a_change_stays() -> None:
    before = Charter("p", "o", "members", 1500, (ANNA,), 1, 2, 3, 4, 5, (ANNA,))
    assert typed.changed_charter(before, schema.NewCharter(), nobody) == before
    change = schema.NewCharter(
        purpose=" a \n b ", off_topic="x\ny\n", writers="standing", standing=2.5,
        members=["bert", "anna", "bert"], stewards=["bert"], post_bytes=9, posts_per_hour=0,
        attachment_bytes=7, keep_days=6, keep_megabytes=0,
    )  # fmt: skip
    assert typed.changed_charter(before, change, nobody) == Charter(
        "a b", "x\ny", "standing", 2500, (ANNA, BERT), 9, 0, 7, 6, 0, (BERT,)
    )


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (schema.NewCharter(purpose="p" * 4096, off_topic="é" * 2049), "room.purpose"),
        (schema.NewCharter(stewards=[]), "charter.stewards"),
        (schema.NewCharter(members=["carl"]), "members.unknown"),
    ],
)
def test_a_charter_that_cannot_be_is_said(change: schema.NewCharter, code: str) -> None:
    before = Charter("p", stewards=(ANNA,))
    refused(lambda: typed.changed_charter(before, change, nobody), code)


# -- files, reactions, reasons


def test_a_file_is_told_by_its_name_and_not_its_path() -> None:
    wanted = schema.NewAttachment(hash="ab" * 32, name="C:\\work/a\nb.txt", type="text/plain")
    assert typed.file(wanted, 5) == kinds.File(b"\xab" * 32, 5, "a b.txt", "text/plain")
    refused(lambda: typed.file(wanted, None), "attachment.unknown")
    for name, kind in (("..", ""), ("/", ""), ("a", "text plain")):
        bad = schema.NewAttachment(hash="ab" * 32, name=name, type=kind)
        refused(lambda bad=bad: typed.file(bad, 5), "attachment.name")


@pytest.mark.parametrize(
    "text",
    [
        "👍",
        "👍🏽",
        "❤️",
        "👨‍👩‍👧‍👦",
        "🇨🇭",
        "1️⃣",
        "#️⃣",
        "©",
        "\u2139\ufe0f",
        "‼️",
        "🏴󠁧󠁢󠁳󠁣󠁴󠁿",
        "🎉🎉",
        "\U0001fae8",
        "↔️",
    ],
)
def test_emoji(text: str) -> None:
    assert is_emoji(text)
    assert typed.emoji(f" {text} ") == text
    kinds.read_reaction(kinds.reaction_body(text, True))


@pytest.mark.parametrize(
    "text",
    ["", "a", "1", "ok", "👍a", "\u200d", "\ufe0f", "👍\u200d", "👍" * 9, "\u202e👍", "é", "漢",
     "👍 👍", "🏽\x00", "🏴\U000e0061\U000e007f", "\u20e3", "〈", "\u2329"],
)  # fmt: skip
def test_what_is_no_emoji(text: str) -> None:
    assert not is_emoji(text)
    refused(lambda: typed.emoji(text), "reaction.emoji")


def test_a_reason_stays_on_its_line() -> None:
    assert typed.reason(" a\n b\u202e ") == "a b"
    refused(lambda: typed.reason("r" * 201), "label.reason")
