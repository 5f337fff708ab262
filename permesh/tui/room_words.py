"""What stands above a room: its name, its purpose, its rules in short.

Owns words only. Names and purposes are others': cleaned and bounded here.
"""

from __future__ import annotations

from textual.content import Content

from permesh.display import clean_line
from permesh.schema import Charter, Named, Retention, Room, RoomLimits, Writers

from .words import cut, moment, plural, size

MAX_PURPOSE = 400
MAX_TEXT = 4_096
MAX_MEMBERS = 40
DIM = "$foreground 50%"


def title(room: Room, below: int) -> Content:
    """The first line; ``below`` counts posts that came further down."""
    return Content.assemble(
        ("# ", "$accent"),
        (clean_line(cut(room.name, 80)), "bold"),
        (f"  {plural(room.posts, 'post')} · v{room.version}", DIM),
        (f"  ↓ {below} new, press G" if below else "", "bold $accent"),
        (
            f"  {clean_line(cut(room.purpose, MAX_PURPOSE))}" if room.purpose else "",
            "$foreground 60%",
        ),
    )


def notices(room: Room, with_hidden: bool) -> list[Content]:
    """The lines below it: what to be warned of before writing here."""
    lines: list[Content] = []
    if room.looks_like:
        other = clean_line(cut(room.looks_like, 80))
        lines.append(Content.styled(f"≈ this is not #{other}: it only looks like it", "$warning"))
    if not room.may_post:
        why = clean_line(cut(room.why_not or "the charter says who may", 200))
        lines.append(Content.styled(f"You may not post: {why}", "$warning"))
    parts: list[tuple[str, str]] = []
    if not room.followed:
        parts.append(("not followed, f follows it", "$accent"))
    if with_hidden:
        parts.append(("with hidden posts, h leaves them out", DIM))
    elif room.hidden:
        parts.append((f"{room.hidden} hidden, h shows them", DIM))
    if parts:
        lines.append(Content(" · ").join([Content.styled(*part) for part in parts]))
    return lines


def named(member: Named) -> str:
    return clean_line(cut(" ".join(filter(None, (member.name, member.number))) or member.agent, 80))


def _members(members: list[Named]) -> str:
    more = f" and {len(members) - MAX_MEMBERS} more" if len(members) > MAX_MEMBERS else ""
    return ", ".join(named(one) for one in members[:MAX_MEMBERS]) + more


def who_writes(writers: Writers) -> str:
    return {
        "everyone": "every member",
        "standing": f"members with a standing of {writers.standing:g} or more",
        "members": _members(writers.members) or "nobody",
        "founders": "the founders of the mesh",
    }[writers.who]


def bounds(limits: RoomLimits, retention: Retention) -> list[tuple[str, str]]:
    """What one author may do, and how long posts stay; 0 is the mesh's own limit, or none."""
    return [
        ("a post", size(limits.post_bytes) if limits.post_bytes else "the mesh's limit"),
        (
            "an hour",
            plural(limits.posts_per_hour, "post") if limits.posts_per_hour else "the mesh's limit",
        ),
        (
            "a file",
            size(limits.attachment_bytes) if limits.attachment_bytes else "the mesh's limit",
        ),
        (
            "kept",
            " and ".join(
                filter(
                    None,
                    (
                        plural(retention.days, "day") if retention.days else "",
                        f"{retention.megabytes} MB" if retention.megabytes else "",
                    ),
                )
            )
            or "for good",
        ),
    ]


def charter_lines(charter: Charter) -> list[tuple[str, str]]:
    """(label, words) of one version."""
    return [
        ("signed by", f"{named(charter.author)}, {moment(charter.created_ms)}"),
        ("purpose", clean_line(cut(charter.purpose, MAX_TEXT)) or "—"),
        ("off topic", clean_line(cut(charter.off_topic, MAX_TEXT)) or "—"),
        ("who writes", who_writes(charter.writers)),
        *bounds(charter.limits, charter.retention),
        ("stewards", _members(charter.stewards) or "—"),
    ]
