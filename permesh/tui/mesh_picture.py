"""The mesh as this member sees it: itself in the middle, a line to each connected member.

Owns the drawing as text. A line's colour says whether the member behind it did something wrong,
its weight whether a model is answered over it now. Names are others', cleaned here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from textual.content import Content

from permesh.display import clean_line
from permesh.schema import LocalModel, Member, Peer, Status

from .words import colour_of, cut, lasting, plural

MIN_WIDTH = 56  # cells; below it the list of connected members says it all
MAX_SIDE = 8  # members drawn at each side
MAX_AWAY = 12  # names of members that are not connected
MAX_SHUT_OUT = 4
DIM = "$foreground 45%"
RAIL = "$foreground 35%"
WARN_SCORE = 50  # of 100, at which a peer is disconnected

# Box drawing by (up, down, left, right).
_JOINTS = {
    (0, 0, 1, 1): "─", (1, 1, 0, 0): "│", (0, 1, 1, 0): "╮", (1, 0, 1, 0): "╯",
    (0, 1, 0, 1): "╭", (1, 0, 0, 1): "╰", (1, 1, 1, 0): "┤", (1, 1, 0, 1): "├",
    (0, 1, 1, 1): "┬", (1, 0, 1, 1): "┴", (1, 1, 1, 1): "┼", (0, 0, 1, 0): "─",
    (0, 0, 0, 1): "─", (0, 0, 0, 0): " ",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Node:
    """One connected member: two lines, and how its link looks."""

    name: Content
    below: Content
    link: str  # a style
    busy: bool


def picture(
    status: Status,
    members: Mapping[str, Member],
    models: Sequence[LocalModel],
    width: int,
    now_ms: int,
    dark: bool,
) -> Content:
    """The picture, ``width`` cells wide, and below it who is not there."""
    lines: list[Content] = []
    if not status.peers:
        lines.append(_middle(status, dark))
        lines.append(Content.styled("Nobody is connected.", DIM))
    elif width >= MIN_WIDTH:
        nodes = [
            _node(peer, members.get(peer.agent), models, now_ms, dark)
            for peer in status.peers[: 2 * MAX_SIDE]
        ]
        lines += _star(_middle(status, dark), nodes, width)
        left_out = len(status.peers) - len(nodes)
        if left_out:
            lines.append(Content.styled(f"and {left_out} more, listed below", DIM))
    else:
        lines.append(_middle(status, dark))
        lines.append(Content.styled(f"linked with {plural(len(status.peers), 'member')}", DIM))
    lines += _absent(status, members, width)
    return Content("\n").join(lines)


def _middle(status: Status, dark: bool) -> Content:
    name = clean_line(cut(status.name, 24))
    return Content.assemble(
        (" ◉ ", "$success" if status.mesh.state == "member" else "$warning"),
        (f"{name} ", f"bold {colour_of(status.agent, dark)}"),
    )


def _node(
    peer: Peer, member: Member | None, models: Sequence[LocalModel], now_ms: int, dark: bool
) -> Node:
    spans = [
        span
        for model in models
        for span in model.served
        if span.agent == peer.agent and (not span.expires_ms or span.expires_ms > now_ms)
    ]
    layers = ", ".join(f"{span.first}:{span.last}" for span in spans[:2])
    more = " …" if len(spans) > 2 else ""
    words = [f"serves {layers}{more}"] if layers else []
    if member is not None:
        words.append(f"standing {member.standing:.2f}")
    faults = plural(peer.faults, "fault") if peer.faults else ""
    below = Content.assemble(
        (faults, "$warning"), (" · " if faults and words else "", DIM), (" · ".join(words), DIM)
    )
    name = Content.assemble(
        (clean_line(cut(peer.name, 40)) or "?", f"bold {colour_of(peer.agent, dark)}"),
        (f" {clean_line(cut(peer.number, 16))}", DIM),
    )
    style = "$success 70%"
    if peer.fault_score:
        style = "$error" if peer.fault_score >= WARN_SCORE else "$warning"
    return Node(name, below, style, any(span.sessions for span in spans))


def _star(middle: Content, nodes: Sequence[Node], width: int) -> list[Content]:
    right, left = nodes[::2], nodes[1::2]
    side = (width - middle.cell_length - 4) // 2
    rows = max(len(left), len(right))
    centre = 2 * ((rows - 1) // 2)
    lines = []
    for y in range(2 * rows):
        inside = middle if y == centre else Content(" " * middle.cell_length)
        lines.append(
            Content.assemble(
                _side(left, y, centre, side, mirrored=True),
                ("─" if left and y == centre else " ", RAIL),
                inside,
                ("─" if right and y == centre else " ", RAIL),
                _side(right, y, centre, side, mirrored=False),
            ).rstrip()
        )
    return lines


def _side(nodes: Sequence[Node], y: int, centre: int, width: int, *, mirrored: bool) -> Content:
    """Line ``y`` of one side, from the member in the middle outward; ``mirrored`` at the left."""
    at, second = divmod(y, 2)
    node = nodes[at] if at < len(nodes) else None
    if not nodes:
        return Content(" " * width)
    last = 2 * (len(nodes) - 1)
    up, down = y > min(0, centre) and y <= max(last, centre), y < max(last, centre)
    outward, inward = node is not None and not second, y == centre
    joint_key = (up, down, outward, inward) if mirrored else (up, down, inward, outward)
    joint = (_JOINTS[joint_key], RAIL)
    parts: list[Content | tuple[str, str]] = [joint]
    if node is not None and second:
        parts += [("    ", ""), node.below.truncate(max(1, width - 5), ellipsis=True)]
    elif node is not None:
        dash = "══" if node.busy else "──"
        name = node.name.truncate(max(1, width - 5), ellipsis=True)
        dot = " ●" if mirrored else "● "
        parts += [(dash, node.link), (dot, node.link), name]
    line = Content.assemble(*(reversed(parts) if mirrored else parts))
    gap = " " * max(0, width - line.cell_length)
    return Content.assemble(gap, line) if mirrored else Content.assemble(line, gap)


def _absent(status: Status, members: Mapping[str, Member], width: int) -> list[Content]:
    """Members that are not connected, and those that were shut out."""
    here = {peer.agent for peer in status.peers} | {status.agent}
    away = [
        clean_line(cut(member.name, 40)) or "?"
        for member in members.values()
        if member.agent not in here and member.state in ("registrar", "member")
    ]
    lines = []
    if away:
        more = f" and {len(away) - MAX_AWAY} more" if len(away) > MAX_AWAY else ""
        lines.append(Content.styled(f"○ not connected: {', '.join(away[:MAX_AWAY])}{more}", DIM))
    for one in status.shut_out[:MAX_SHUT_OUT]:
        name = clean_line(cut(one.name or one.peer_id, 40))
        codes = ", ".join(clean_line(cut(code, 40)) for code in list(one.fault_codes)[:3])
        left = lasting(one.seconds * 1000)
        lines.append(Content.styled(f"! shut out: {name} for {codes}, {left} left", "$error"))
    return [line.truncate(width, ellipsis=True) for line in lines]
