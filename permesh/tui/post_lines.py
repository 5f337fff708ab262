"""How one post looks in a list: its header, its text, and what is to be said about it.

Owns words and styles only; the list owns where they stand. Everything in a post was written by
another member: each part is cleaned and bounded, and none of it is markup.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from textual.content import Content

from permesh.display import clean_line
from permesh.schema import Attachment, Named, Post, Reaction

from .post_text import shown_lines
from .posts import Row
from .words import ago, colour_of, cut, fold, plural, size

DIM = "$foreground 50%"
FAINT = "$foreground 40%"
MAX_NAME = 64  # characters
MAX_WHY = 300
MAX_FILES = 8
MAX_REACTIONS = 12
MAX_LABELS = 6
HIDDEN_OWN = "Others do not see this"
LATE = "Its date is not to be believed"
FROZEN = "Its author's records contradict each other from here on"


@dataclass(frozen=True, slots=True)
class Drawing:
    """What drawing depends on besides the post; ``own`` is this member's agent."""

    now_ms: int
    dark: bool
    own: str
    lookalikes: Mapping[str, str] = field(default_factory=dict)  # agent: whose name


def name_of(post: Post) -> str:
    return clean_line(cut(post.author_name, MAX_NAME)) or "?"


def draw_post(row: Row, width: int, drawing: Drawing) -> list[Content]:
    """The lines of a post, at least one, each at most ``width`` cells."""
    post = row.post
    if post.removed:
        return [_removed(row, width, drawing)]
    lines = [_header(row, width, drawing), *_above(post, width, drawing)]
    lines += shown_lines(post.text, width)
    lines += [line.truncate(width, ellipsis=True) for line in _below(row)]
    return lines


def _removed(row: Row, width: int, drawing: Drawing) -> Content:
    post = row.post
    words = f"{name_of(post)} {clean_line(post.author_number)} · removed by its author"
    when = ago(post.created_ms, drawing.now_ms)
    left = Content.styled(words, FAINT).truncate(max(1, width - len(when) - 2), ellipsis=True)
    gap = " " * max(1, width - left.cell_length - len(when) - 1)
    return Content.assemble(left, gap, (when, FAINT))


def _header(row: Row, width: int, drawing: Drawing) -> Content:
    post = row.post
    colour = colour_of(post.author, drawing.dark)
    when = ago(post.created_ms, drawing.now_ms)
    parts: list[tuple[str, str]] = [
        ("• ", "$accent") if post.unread else ("", ""),
        ("≈", "bold $warning") if post.author in drawing.lookalikes else ("", ""),
        (name_of(post), FAINT if post.hidden else f"bold {colour}"),
        (f"  {clean_line(cut(post.author_number, 16))}", FAINT),
    ]
    if row.answers:
        parts.append((f"  ↳ {clean_line(cut(row.answers, MAX_NAME))}", DIM))
    if post.edits:
        parts.append(("  edited", FAINT))
    if post.pinned:
        parts.append(("  pinned", "$accent"))
    left = Content.assemble(*parts).truncate(max(1, width - len(when) - 2), ellipsis=True)
    gap = " " * max(1, width - left.cell_length - len(when) - 1)
    return Content.assemble(left, gap, (when, FAINT))


def hidden_words(post: Post, own: str) -> str:
    """The rule by which a post is hidden, in words."""
    why = clean_line(cut(post.why or post.hidden, MAX_WHY))
    return f"{HIDDEN_OWN}: {why}" if post.author == own else f"Hidden: {why}"


def _above(post: Post, width: int, drawing: Drawing) -> list[Content]:
    lines: list[Content] = []
    if alike := drawing.lookalikes.get(post.author):
        words = f"≈ not {clean_line(cut(alike, MAX_NAME))}: the name only looks like it"
        lines.append(Content.styled(words, "$warning 80%").truncate(width, ellipsis=True))
    if post.hidden:
        style = "$warning" if post.author == drawing.own else "$foreground 45%"
        words = hidden_words(post, drawing.own)
        lines += [Content.styled(line, style) for line in fold(words, width)]
    for word, mark in ((post.late, LATE), (FROZEN if post.frozen else "", "")):
        if word:
            said = f"{mark}: {cut(word, MAX_WHY)}" if mark else word
            lines += [
                Content.styled(line, "$warning 80%") for line in fold(clean_line(said), width)
            ]
    return lines


def _below(row: Row) -> list[Content]:
    post = row.post
    lines = [attachment_line(one) for one in post.attachments[:MAX_FILES]]
    if post.reactions:
        lines.append(reaction_line(post.reactions))
    if post.labels:
        labels = ", ".join(clean_line(cut(label, 32)) for label in post.labels[:MAX_LABELS])
        lines.append(Content.styled(f"labelled {labels}", "$warning 70%"))
    alike = max(len(row.folded), post.alike if row.folded else 0)
    if alike:
        by = _authors(row.folded)
        lines.append(Content.styled(f"▸ {alike} alike{by} · x shows them", DIM))
    return lines


def _authors(posts: Sequence[Post]) -> str:
    names = list(dict.fromkeys(name_of(post) for post in posts))
    shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    return f" by {shown}" if shown else ""


def attachment_line(file: Attachment) -> Content:
    """One file: its name, its size, and whether it is on this machine."""
    kind = f"  {clean_line(cut(file.type, 40))}" if file.type else ""
    where = ("  here", "$success") if file.here else ("  o fetches it", "$accent")
    return Content.assemble(
        ("▤ ", "$accent"),
        clean_line(cut(file.name, 100)),
        (f"  {size(file.bytes)}{kind}", DIM),
        where,
    )


def reaction_line(reactions: Sequence[Reaction]) -> Content:
    parts: list[tuple[str, str]] = []
    for one in reactions[:MAX_REACTIONS]:
        style = "bold $accent" if one.mine else "$foreground 70%"
        parts.append((f"{clean_line(cut(one.emoji, 16))} {one.count}   ", style))
    if len(reactions) > MAX_REACTIONS:
        parts.append((f"and {len(reactions) - MAX_REACTIONS} more", DIM))
    return Content.assemble(*parts)


def reacted(reactions: Sequence[Reaction]) -> str:
    """Who reacted with what, for the reader of a whole post."""
    return "; ".join(
        f"{clean_line(cut(one.emoji, 16))} {plural(one.count, 'member')}: {_names(one.by)}"
        for one in reactions[:MAX_REACTIONS]
    )


def facts(post: Post, own: str) -> list[Content]:
    """What is to be known about a post besides its text, for the reader of a whole one."""
    lines: list[Content] = []
    if post.removed:
        lines.append(Content.styled("Removed by its author.", DIM))
    if post.hidden:
        lines.append(Content.styled(hidden_words(post, own), "$warning"))
    if post.late:
        lines.append(Content.styled(f"{LATE}: {clean_line(cut(post.late, MAX_WHY))}", "$warning"))
    if post.frozen:
        lines.append(Content.styled(FROZEN, "$warning"))
    if post.labels:
        labels = ", ".join(clean_line(cut(label, 32)) for label in post.labels[:MAX_LABELS])
        lines.append(Content.styled(f"labelled {labels}", "$warning 70%"))
    lines += [attachment_line(one) for one in post.attachments[:MAX_FILES]]
    if post.reactions:
        lines.append(Content.styled(reacted(post.reactions), DIM))
    return lines


def _names(members: Sequence[Named]) -> str:
    return ", ".join(
        clean_line(cut(one.name or one.number or one.agent, 64)) for one in members[:8]
    )
