"""Posts as lines: Markdown within bounds, whatever somebody wrote."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from permesh.schema import Attachment, Post, Reaction
from permesh.tui.post_lines import Drawing, draw_post
from permesh.tui.post_text import MAX_LINES, MAX_READ, shown_lines
from permesh.tui.posts import Row
from permesh.tui.words import breaks

from .memory_mesh import NOW
from .test_tui_hostile import BIDI, ESCAPES, MARKUP, acts


def plain(text: str, width: int = 60) -> list[str]:
    return [line.plain for line in shown_lines(text, width)]


def styles(text: str, words: str) -> set[str]:
    (line,) = [line for line in shown_lines(text, 60) if words in line.plain]
    at = line.plain.index(words)
    return {str(span.style) for span in line.spans if span.start <= at < span.end}


def test_the_usual_markdown():
    text = """# Findings
Some *soft*, **loud** and ~~wrong~~ words with `code`
on two lines, see [the notes](https://a.example/x).

> quoted
- one
- two
  - below
3. three
```sh
rm -rf /
```
"""
    assert plain(text) == [
        "Findings",
        "Some soft, loud and wrong words with code",
        "on two lines, see the notes (https://a.example/x).",
        "",
        "▎ quoted",
        "• one",
        "• two",
        "  • below",
        "3. three",
        "  rm -rf /",
    ]
    assert styles(text, "Findings") == {"bold"}
    assert styles(text, "soft") == {"italic"}
    assert styles(text, "loud") == {"bold"}
    assert styles(text, "wrong") == {"strike"}
    assert styles(text, "rm -rf") == {"$secondary"}
    assert styles(text, "the notes") == {"underline"}


def test_a_link_shows_where_it_leads_and_an_image_is_not_fetched():
    assert plain("[https://good.example](https://evil.example)") == [
        "https://good.example (https://evil.example)"
    ]
    assert plain("<https://a.example>") == ["https://a.example"]
    assert plain("![a cat](http://tracker.example/1.png)") == [
        "image a cat (http://tracker.example/1.png)"
    ]
    assert plain("[x](javascript:alert(1))") == ["[x](javascript:alert(1))"]


def test_nothing_that_a_parser_makes_of_a_text_acts_on_the_terminal():
    sources = [
        ESCAPES, MARKUP, BIDI, "&#27;[2J &#x202e; &lrm;", "[a](http://x/\x1b[2J)",
        "[a](http://x/%1b%5b2J)", "`\x1b[31m`", "```\n\x1b[31m\n```", "![\u202e](\u202e)",
        "<a onclick=x>b</a>", "- \x07\n- \x9b5A", "[a]: http://x\n[a]",
    ]  # fmt: skip
    for source in sources:
        lines = shown_lines(source, 40)
        assert acts("\n".join(line.plain for line in lines)) == []
        for line in lines:
            assert not any("@click" in str(span.style) for span in line.spans)
    assert plain("&#27;[2J") == ["&#27;[2J"]  # as written: entities stand for nothing
    assert plain("[a]: http://x\n[a]") == ["[a]: http://x", "[a]"]  # nothing vanishes
    assert plain("<b>x</b>") == ["<b>x</b>"]


BOMBS = {
    "stars": "*" * 32_768,
    "emphasis": "*a **b " * 4_000,
    "brackets": "[" * 32_768,
    "links": "[a](" * 8_000,
    "images": "![[]" * 8_000,
    "quotes": "> " * 10_000 + "x",
    "lists": "".join("  " * at + "- a\n" for at in range(250)),
    "ticks": "".join("`" * at + " " for at in range(250)),
    "entities": "&" * 32_768,
    "angles": "<a " * 10_000,
    "headings": "a\n=\n" * 8_000,
    "tables": "|a" * 16_000,
    "definitions": "[a]: b\n" * 4_000,
    "one line": "x" * 32_768,
    "wide": "漢" * 10_922,
    "tabs": "\t" * 32_768,
    "newlines": "\n" * 32_768,
    "marks": "a" + "\u0301" * 32_767,
    "joiners": "\u200d" * 16_000,
    "words": "a " * 16_384,
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_costs_little_and_shows_little(name):
    began = time.process_time()
    for width in (12, 56, 110):
        lines = shown_lines(BOMBS[name], width)
        assert len(lines) <= MAX_LINES
        assert all(line.cell_length <= max(width, 20) for line in lines)
    assert time.process_time() - began < 0.5


def test_letters_have_no_towers_of_marks():
    (line,) = plain("z" + "\u0301\u0327" * 50 + "a")
    assert len(line) <= 4


def test_what_is_cut_says_so():
    assert plain("a\n" * MAX_LINES) == ["a"] * MAX_LINES
    assert plain("a\n" * (MAX_LINES + 1))[-1] == "…  more: enter"
    assert plain("word " * MAX_READ)[-1] == "…  more: enter"


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=300), st.integers(12, 80))
def test_any_text_fits_its_width_and_is_tame(text, width):
    lines = shown_lines(text, width)
    assert len(lines) <= MAX_LINES
    assert all(line.cell_length <= width + width // 2 for line in lines)
    assert acts("\n".join(line.plain for line in lines)) == []


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="ab 漢x", max_size=200), st.integers(2, 30))
def test_breaks_lose_nothing_but_the_spaces_at_line_ends(text, width):
    lines = [text[start:end] for start, end in breaks(text, width)]
    assert all(cell_len(line) <= width for line in lines)
    assert re.sub(" ", "", "".join(lines)) == re.sub(" ", "", text)


def post(**more: object) -> Post:
    return Post(
        id="ab" * 32, room="r", room_name="lobby", author="0x1", author_number="AGT-0002",
        author_name="beryl", reply_to=None, created_ms=NOW, received_ms=NOW, text="hello",
    ).model_copy(update=more)  # fmt: skip


def drawn(own: str = "0x9", folded: tuple[Post, ...] = (), **more: object) -> list[str]:
    row = Row(post(**more), 0, "", True, folded)
    return [line.plain for line in draw_post(row, 70, Drawing(NOW, True, own))]


def test_what_is_said_about_a_post():
    assert drawn()[0].startswith("beryl  AGT-0002")
    assert "edited" in drawn(edits=2)[0]
    assert "pinned" in drawn(pinned=True)[0]
    assert drawn(unread=True)[0].startswith("• beryl")
    (removed,) = drawn(removed=True, text="")
    assert "removed by its author" in removed
    hidden = drawn(hidden="rule", why="only founders may post here")
    assert hidden[1] == "Hidden: only founders may post here"
    own = drawn(own="0x1", hidden="rate", why="more than 10 posts an hour")
    assert own[1] == "Others do not see this: more than 10 posts an hour"
    assert any("not to be believed: a day ahead" in line for line in drawn(late="a day ahead"))
    assert any("contradict each other" in line for line in drawn(frozen=True))
    assert "labelled spam" in drawn(labels=["spam"])
    reacted = [Reaction(emoji="👍", count=3, mine=True), Reaction(emoji="x", count=1)]
    assert drawn(reactions=reacted)[-1].split() == ["👍", "3", "x", "1"]
    alike = (post(author_name="coral"), post(author_name="coral"))
    assert drawn(folded=alike)[-1] == "▸ 2 alike by coral · x shows them"


def test_a_name_that_looks_like_another_members_is_told():
    row = Row(post(author_name="bery1"), 0, "", True)
    drawing = Drawing(NOW, True, "0x9", {"0x1": "beryl"})
    header, warning, text = [line.plain for line in draw_post(row, 70, drawing)]

    assert header.startswith("≈bery1  AGT-0002")
    assert warning == "≈ not beryl: the name only looks like it"
    assert text == "hello"


def test_files_say_whether_they_are_here_and_nothing_else_acts():
    files = [
        Attachment(hash="ab" * 32, name="map.png", type="image/png", bytes=2048, here=True),
        Attachment(hash="cd" * 32, name=f"{ESCAPES}{'x' * 500}", bytes=5),
    ]
    lines = drawn(attachments=files)
    assert lines[-2] == "▤ map.png  2.0 KiB  image/png  here"
    assert acts("\n".join(lines)) == []
    assert max(map(len, lines)) <= 70


def test_everything_in_a_post_is_another_members_word():
    evil = f"{ESCAPES}{MARKUP}{BIDI}" * 20
    lines = drawn(
        author_name=evil, author_number=evil, hidden="rule", why=evil, late=evil, labels=[evil],
        reactions=[Reaction(emoji=evil, count=1)], folded=(post(author_name=evil),),
    )  # fmt: skip
    assert acts("\n".join(lines)) == []
    assert max(map(cell_len, lines)) <= 70
    assert len(lines) < 30
