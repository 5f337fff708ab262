"""The Chitin ID card, as text.

Owns what a card says and in which order. The values come from other members: each is cleaned,
and what only its bearer says is marked as such.
"""

from __future__ import annotations

from dataclasses import dataclass

from textual.content import Content

from permesh.display import clean_line
from permesh.schema import Identity, Member

from .words import ago, colour_of, cut, emblem, lasting, moment, short

LABEL_WIDTH = 10
BAR_WIDTH = 16
MAX_NOTE = 1_000  # characters of why one is suspended; the log holds 200
DIM = "$foreground 60%"
REVOKED = "its owner revoked its key; it is back once its owner names a new one"
CLAIM = "* as it says of itself"


@dataclass(frozen=True, slots=True)
class Card:
    """A card without its frame: who, one line about them, and (label, value, style) rows."""

    agent: str
    name: str
    number: str
    line: str
    rows: tuple[tuple[str, str, str], ...]
    bars: tuple[tuple[str, float, float | None, str], ...] = ()  # label, filled, mark, words
    line_style: str = DIM


def member_card(member: Member, now_ms: int) -> Card:
    """What this member knows of another one."""
    line_style = {"suspended": "$warning", "revoked": "$error"}.get(member.state, DIM)
    if member.state == "pending":
        rows = [
            ("agent", member.agent, ""),
            ("owner", member.owner, ""),
            ("asked", f"{moment(member.requested_ms)}, {_ago(member.requested_ms, now_ms)}", ""),
            ("human", f"{member.verifier}: {member.human}, if approved", ""),
            ("approved", f"by {member.approvals} of the {member.needed} that it takes", ""),
        ]
        line = "asks to be let in · not a member yet"
    else:
        line = f"{member.state} · {'online' if member.online else 'not connected'}"
        vouched = member.vouched_by or "the founding of the mesh"
        rows = [
            ("agent", member.agent, ""),
            ("owner", member.owner, ""),
            ("admitted", moment(member.admitted_ms), ""),
            ("human", f"{member.verifier}: {member.human}", ""),
            ("vouched", f"by {vouched}", ""),
            ("rotation", _epoch(member.epoch, member.expires_ms, now_ms), ""),
        ]
        note = member.note or (REVOKED if member.state == "revoked" else "")
        if note:
            rows.insert(0, ("why", cut(note, MAX_NOTE), line_style))
    rows += [
        ("runtime*", member.runtime or "—", ""),
        ("hash*", member.runtime_hash or "—", "$foreground 60%"),
        ("release", member.release or "—", ""),
    ]
    if member.peer_id:
        rows.append(("peer", member.peer_id, "$foreground 60%"))
    if member.state != "pending":
        rows.append(("standing", f"{member.standing:.2f}", ""))
    return Card(member.agent, member.name, member.number, line, tuple(rows), line_style=line_style)


def own_card(identity: Identity, now_ms: int) -> Card:
    """This member's own card, with the life of its credential as a bar."""
    life = max(1, identity.expires_ms - identity.issued_ms)
    spent = min(1.0, max(0.0, (now_ms - identity.issued_ms) / life))
    renews = min(1.0, max(0.0, (identity.rotates_ms - identity.issued_ms) / life))
    if now_ms >= identity.expires_ms:
        left = "lapsed"
    else:
        left = f"{lasting(identity.expires_ms - now_ms)} left"
    rows = (
        ("mesh", f"{identity.mesh or '—'}  {short(identity.mesh_id)}", ""),
        ("agent", identity.agent, ""),
        ("owner", identity.owner, ""),
        ("human", identity.human or "—", ""),
        ("admitted", moment(identity.admitted_ms), ""),
        ("issued", f"{moment(identity.issued_ms)}, epoch {identity.epoch}", ""),
        ("rotates", moment(identity.rotates_ms), ""),
        ("session", short(identity.session_key, 24, 8), "$foreground 60%"),
        ("peer", identity.peer_id, "$foreground 60%"),
        ("runtime*", identity.runtime, ""),
        ("hash*", identity.runtime_hash, "$foreground 60%"),
        ("release", identity.release or "—", ""),
    )
    note = f"{identity.standing:.2f} {identity.standing_note}"
    bars = (
        ("credential", spent, renews, left),
        ("standing", min(1.0, max(0.0, identity.standing)), None, note),
    )
    return Card(identity.agent, identity.name, identity.number, "this member", rows, bars)


def _ago(then_ms: int, now_ms: int) -> str:
    words = ago(then_ms, now_ms)
    return "just now" if words == "now" else f"{words} ago" if words[-1] in "mhd" else words


def _epoch(epoch: int, expires_ms: int, now_ms: int) -> str:
    if not expires_ms:
        return "no credential seen"
    if expires_ms <= now_ms:
        return f"epoch {epoch}, lapsed"
    return f"epoch {epoch}, lapses in {lasting(expires_ms - now_ms)}"


def draw(card: Card, width: int, dark: bool) -> Content:
    """The card's inside, ``width`` cells wide; long values fold below themselves."""
    colour = colour_of(card.agent, dark)
    pattern = emblem(card.agent)
    beside = [
        (clean_line(card.name) or "?", f"bold {colour}"),
        (clean_line(card.number) or "no number yet", ""),
        (clean_line(card.line), card.line_style),
    ]
    lines = [Content.styled(pattern[0], colour)]
    for part, (text, style) in zip(pattern[1:], beside, strict=True):
        line = Content.assemble((part, colour), "   ", (text, style))
        lines.append(line.truncate(width, ellipsis=True))
    lines.append(Content(""))
    for label, value, style in card.rows:
        lines.extend(_row(label, Content.styled(clean_line(value), style), width))
    for label, filled, mark, words in card.bars:
        bar = _bar(filled, mark, min(BAR_WIDTH, width - LABEL_WIDTH - 1), colour)
        line = Content.assemble(bar, (f"  {clean_line(words)}", "$foreground 60%"))
        lines.extend(_row(label, line, width))
    return Content("\n").join(lines)


def _row(label: str, value: Content, width: int) -> list[Content]:
    values = value.wrap(max(8, width - LABEL_WIDTH - 1))
    heads = [label, *[""] * (len(values) - 1)]
    return [
        Content.assemble((f"{head:<{LABEL_WIDTH}} ", "$foreground 45%"), line)
        for head, line in zip(heads, values, strict=True)
    ]


def _bar(filled: float, mark: float | None, cells: int, colour: str) -> Content:
    cells = max(4, cells)
    full = round(filled * cells)
    line = Content.assemble(("━" * full, colour), ("─" * (cells - full), "$foreground 25%"))
    if mark is None:
        return line
    at = min(cells - 1, round(mark * cells))
    return Content.assemble(line[:at], ("┃", "$accent"), line[at + 1 :])
