"""A post's text as lines for the terminal: Markdown, within bounds.

Owns how much of a text is read, what of Markdown is drawn, and the folding into lines. Pure. The
text is another member's: it is cleaned before and after it is parsed (an entity may stand for a
control character), never markup, never a link to click; a link shows where it leads. What is too
long or too tangled for its worth is drawn as it was written.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from markdown_it import MarkdownIt
from markdown_it.token import Token
from textual.content import Content, Span

from permesh.display import clean, clean_line

from .words import breaks

MAX_LINES = 16  # of a post shown in a list
MAX_READ = 6_000  # characters of a post that are parsed and folded for a list
MAX_READ_LINES = 64
# What a parser may be asked for: beyond it, some texts take it a hundred times longer than others.
MAX_MARKS = 300  # characters that may open or close something
MAX_TOKENS = 1_200
MAX_NESTING = 8
MAX_TARGET = 200  # characters of a link's address that are shown

_MARKS = re.compile(r"[*_`\[\]<>&\\~!]")
# More than two marks on one letter reach into the lines above and below.
_COMBINING = "\u0300-\u036f\u0483-\u0489\u0e31-\u0e3a\u0e47-\u0e4e\u1ab0-\u1aff\u1dc0-\u1dff"
_STACKED = re.compile(f"([{_COMBINING}\u20d0-\u20ff\ufe20-\ufe2f]{{2}})[{_COMBINING}\u20d0-\u20ff"
                      "\ufe20-\ufe2f]+")  # fmt: skip

CODE = "$secondary"
TARGET = "$foreground 50%"
QUOTE_BAR = "▎ "
STYLES = {"strong": "bold", "em": "italic", "s": "strike", "link": "underline"}


@dataclass
class Paragraph:
    """One line of the source or one paragraph: text, styles by offset, and what stands before."""

    text: str = ""
    spans: list[Span] = field(default_factory=list)
    first: str = ""  # before its first line
    rest: str = ""  # before the others

    def add(self, text: str, styles: Sequence[str] = ()) -> None:
        start = len(self.text)
        self.text += text
        self.spans.extend(Span(start, len(self.text), style) for style in styles)


def tame(text: str) -> str:
    """Cleaned, tabs widened, and letters without towers of marks."""
    return _STACKED.sub(r"\1", clean(text)).expandtabs(4)


def beginning(text: str) -> str:
    """As much of a text as is read for a list."""
    lines = text[:MAX_READ].split("\n", MAX_READ_LINES)[:MAX_READ_LINES]
    return "\n".join(lines)


def parse(text: str) -> list[Paragraph]:
    """A text as paragraphs; plain where Markdown asks for too much."""
    text = tame(text)[:MAX_READ].rstrip("\n")
    if sum(1 for _ in _MARKS.finditer(text)) > MAX_MARKS:
        return _plain(text)
    tokens = _PARSER.parse(text)
    if sum(1 + len(token.children or ()) for token in tokens) > MAX_TOKENS:
        return _plain(text)
    if max((token.level for token in tokens), default=0) >= MAX_NESTING:
        return _plain(text)
    return list(_paragraphs(tokens))


def _plain(text: str) -> list[Paragraph]:
    return [Paragraph(line) for line in text.split("\n")]


def _parser() -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"html": False, "maxNesting": MAX_NESTING + 2})
    # Entities are shown as written: they are the way to smuggle what was cleaned away. Definitions
    # of references would vanish from sight.
    left_out = ["entity", "html_block", "html_inline", "reference"]
    return parser.enable("strikethrough").disable(left_out)


_PARSER = _parser()


@dataclass
class _Container:
    """A quote or a list item that is open: ``mark`` stands before its first line."""

    mark: str
    after: str
    begun: bool = False  # whether something of it is drawn


def _paragraphs(tokens: Sequence[Token]) -> Iterator[Paragraph]:
    containers: list[_Container] = []
    numbers: list[int | None] = []
    heading = False
    last_line = 0
    for token in tokens:
        if token.type == "blockquote_open":
            containers.append(_Container(QUOTE_BAR, QUOTE_BAR))
        elif token.type in ("bullet_list_open", "ordered_list_open"):
            start = int(token.attrGet("start") or 1)
            numbers.append(start if token.type == "ordered_list_open" else None)
        elif token.type == "list_item_open":
            mark = "• " if numbers[-1] is None else f"{numbers[-1]}. "
            if numbers[-1] is not None:
                numbers[-1] += 1
            containers.append(_Container(mark, " " * len(mark)))
        elif token.type in ("blockquote_close", "list_item_close"):
            containers.pop()
        elif token.type in ("bullet_list_close", "ordered_list_close"):
            numbers.pop()
        elif token.type in ("heading_open", "heading_close"):
            heading = token.type == "heading_open"
        elif token.type in ("inline", "fence", "code_block", "hr"):
            start_line, end_line = token.map or (last_line, last_line)
            if start_line > last_line and last_line:
                begun = "".join(one.after for one in containers if one.begun)
                yield Paragraph(first=begun.rstrip())
            last_line = end_line
            for paragraph in _block(token, heading):
                paragraph.first = "".join(one.mark for one in containers)
                paragraph.rest = "".join(one.after for one in containers)
                for one in containers:
                    one.mark, one.begun = one.after, True
                yield paragraph


def _block(token: Token, heading: bool) -> Iterator[Paragraph]:
    if token.type == "hr":
        yield Paragraph("─" * 12, [Span(0, 12, "$foreground 30%")])
    elif token.type == "inline":
        yield from _inline(token.children or [], ["bold"] if heading else [])
    else:
        for line in token.content.rstrip("\n").split("\n"):
            paragraph = Paragraph()
            paragraph.add(f"  {clean_line(line)}", [CODE])
            yield paragraph


def _inline(children: Sequence[Token], styles: list[str]) -> Iterator[Paragraph]:
    """A block's inside; line breaks stay where its author made them."""
    styles = list(styles)
    targets: list[str] = []
    paragraph = Paragraph()
    opened = 0
    for token in children:
        kind, _, what = token.type.rpartition("_")
        if token.type in ("softbreak", "hardbreak"):
            yield paragraph
            paragraph, opened = Paragraph(), 0
        elif token.type == "code_inline":
            paragraph.add(clean_line(token.content), [*styles, CODE])
        elif token.type == "image":
            paragraph.add(f"image {clean_line(token.content)}".rstrip(), [*styles, "italic"])
            paragraph.add(_target(str(token.attrGet("src") or "")), [TARGET])
        elif what == "open" and kind in STYLES:
            styles.append(STYLES[kind])
            if kind == "link":
                opened = len(paragraph.text)
                targets.append(str(token.attrGet("href") or ""))
        elif what == "close" and kind in STYLES:
            styles.remove(STYLES[kind])
            if kind == "link":
                target = targets.pop()
                if clean_line(target) != paragraph.text[opened:]:
                    paragraph.add(_target(target), [TARGET])
        else:
            paragraph.add(clean_line(token.content), styles)
    yield paragraph


def _target(address: str) -> str:
    address = clean_line(address)
    shown = address if len(address) <= MAX_TARGET else address[: MAX_TARGET - 1] + "…"
    return f" ({shown})" if shown else ""


def lay_out(paragraphs: Sequence[Paragraph], width: int, most: int) -> list[Content]:
    """At most ``most + 1`` lines of at most ``width`` cells: one more than wanted if there is."""
    lines: list[Content] = []
    for paragraph in paragraphs:
        # Deep containers leave at least half of the width to the text.
        first, rest = paragraph.first[: width // 2], paragraph.rest[: width // 2]
        content = Content(paragraph.text, paragraph.spans)
        room = max(2, width - max(len(first), len(rest)))
        for at, (start, end) in enumerate(breaks(paragraph.text, room)):
            before = rest if at else first
            line = content[start:end] if start or end < len(paragraph.text) else content
            lines.append(Content.assemble((before, TARGET), line) if before else line)
            if len(lines) > most:
                return lines
    return lines


def shown_lines(text: str, width: int, most: int = MAX_LINES) -> list[Content]:
    """A post's beginning; where something is left out, the last line says so."""
    read = beginning(text)
    lines = lay_out(parse(read), width, most)
    if len(lines) <= most and len(read) >= len(text.rstrip("\n")):
        return lines
    more = Content.styled("…  more: enter", "$foreground 50%")
    return [*lines[: most - 1], more]
