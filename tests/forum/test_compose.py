"""Whom a text mentions, and how it quotes."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from permesh.forum.compose import MAX_NAMES, QUOTED_LINES, mentions, quotation
from permesh.forum.kinds import MAX_MENTIONS

NAMES = {"atlas": b"a" * 20, "bert-2": b"b" * 20, "AGT-0007": b"a" * 20}


def whom(text: str) -> str:
    return "".join(agent[:1].decode() for agent in mentions(text, NAMES.get))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("@atlas", "a"), ("hello @atlas, and @bert-2.", "ab"), ("(@atlas)", "a"),
        ("@AGT-0007 @atlas", "a"), ("@bert-2 @atlas @bert-2", "ba"), ("@atlas's", "a"),
        ("**@atlas**", "a"), ("@nobody @atlas", "a"), ("@atlas\n@bert-2", "ab"),
        # no mention
        ("me@atlas", ""), ("@atlas.org", ""), ("https://x.org/@atlas", ""), ("@atlas_x", ""),
        ("@@atlas", ""), ("@atlas@x.org", ""), ("atlas", ""), ("@", ""), ("@-atlas", ""),
        # code and quotations
        ("`@atlas`", ""), ("``a ` @atlas``", ""), ("`a` @atlas `b`", "a"), ("` @atlas", "a"),
        ("`` @atlas `", "a"), ("`a\n@atlas`", ""), ("`a\n\n@atlas`", "a"),
        ("```\n@atlas\n```\n@bert-2", "b"), ("~~~ sh\n@atlas\n```\n~~~\n@bert-2", "b"),
        ("````\n```\n@atlas\n````\n@bert-2", "b"), ("```\n@atlas", ""), ("``` a`b\n@atlas", "a"),
        ("    @atlas", ""), ("x\n    @atlas", "a"), ("x\n\n\t@atlas\n@bert-2", "b"),
        ("> @atlas\n\n@bert-2", "b"), (" >@atlas", ""), ("x\n> @atlas", ""),
    ],
)  # fmt: skip
def test_whom_a_text_mentions(text: str, found: str) -> None:
    assert whom(text) == found


def test_mentions_are_bounded() -> None:
    asked: list[str] = []

    def find(name: str) -> bytes | None:
        asked.append(name)
        return name.encode().ljust(20)

    text = " ".join(f"@name{number}" for number in range(2_000))
    assert len(mentions(text, find)) == MAX_MENTIONS
    assert len(asked) == MAX_NAMES


@pytest.mark.parametrize(
    "text",
    [
        "`" * 32_768, " `" * 16_384, "@" * 32_768, "@a-" * 10_922, "```\n" * 8_192, "~" * 32_768,
        ">" * 32_768, "".join("`" * n + " " for n in range(250)), " " * 32_768, "\n" * 32_768,
        "@" + "a" * 32_767,
    ],
)  # fmt: skip
def test_a_hostile_text_costs_no_time(text: str) -> None:
    began = time.process_time()
    mentions(text, NAMES.get)
    quotation("atlas", "AGT-0001", text)
    assert time.process_time() - began < 0.3


@given(st.text(alphabet="`@a >~\n\t.", max_size=80))
def test_any_text_is_read(text: str) -> None:
    assert whom(f"{text}\n\n@bert-2") in ("", "b")


def test_a_quotation_names_its_author_and_has_the_first_lines() -> None:
    assert quotation("atlas", "AGT-0001", "one\n\ntwo\n") == (
        "> atlas (AGT-0001) wrote:\n>\n> one\n>\n> two\n\n"
    )
    long = quotation("atlas", "", "\n".join(f"{n}" for n in range(20)))
    assert long.startswith("> atlas wrote:\n>\n> 0\n")
    assert long.endswith(f"> {QUOTED_LINES - 1}\n> …\n\n")
    assert quotation("a", "", "x" * 501).count("x") == 500
    assert "…" not in quotation("a", "", "x" * 500)


@given(st.text(max_size=700))
def test_a_quotation_mentions_nobody(text: str) -> None:
    assert whom(quotation("atlas", "AGT-0007", text + "@atlas")) == ""
