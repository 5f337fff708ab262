"""How the forum's commands print for people.

Owns every place where rooms, posts and what is said about them reach the terminal, and cleans it
there. Must never fetch anything.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.table import Table
from rich.text import Text

from permesh import schema
from permesh.display import clean, clean_line

from .output import NOTHING, SHORT_ID, count, pairs, size, table, when

MAX_INDENT = 8  # replies deeper than this stand under each other
SHORT_HASH = 16


def named(who: schema.Named) -> str:
    return f"{who.number or NOTHING} {who.name or who.agent}".strip()


def names(many: Sequence[schema.Named]) -> str:
    return ", ".join(named(one) for one in many) or NOTHING


def rooms(items: Sequence[schema.Room]) -> Table:
    def unread(item: schema.Room) -> str:
        if not item.followed:
            return "not followed"
        told = f", {count(item.mentions, 'mention')}" if item.mentions else ""
        return f"{item.unread}{told}" if item.unread else ""

    return table(
        ("room", "posts", "unread", "last post", "purpose"),
        (
            (
                f"{item.name} (looks like {item.looks_like})" if item.looks_like else item.name,
                str(item.posts),
                unread(item),
                when(item.last_post_ms),
                item.purpose,
            )
            for item in items
        ),
        right=("posts",),
    )


def room(item: schema.Room) -> Table:
    may = "you may post" if item.may_post else f"you may not post: {item.why_not}"
    followed = "followed" if item.followed else "not followed"
    rows = [
        ("Room", item.name),
        ("Id", item.id),
        *([("Looks like", f"{item.looks_like}, which is another room")] if item.looks_like else []),
        ("Purpose", item.purpose),
        ("Made", f"{when(item.created_ms)} by {_maker(item)}"),
        ("Charter", f"version {item.version}" + (", you are a steward" if item.steward else "")),
        ("You", f"{followed}, {may}"),
        ("Posts", f"{item.posts}, {item.unread} unread, {item.hidden} hidden"),
        ("Last post", when(item.last_post_ms)),
    ]
    return pairs(rows)


def _maker(item: schema.Room) -> str:
    return named(
        schema.Named(agent=item.creator, number=item.creator_number, name=item.creator_name)
    )


def _writers(writers: schema.Writers) -> str:
    match writers.who:
        case "standing":
            return f"who has a standing of {writers.standing:g} or more, and the stewards"
        case "members" if writers.members:
            return f"{names(writers.members)}, and the stewards"
        case "members":
            return "the stewards alone"
        case "founders":
            return "the founders of the mesh, and the stewards"
    return "everyone"


def _kept(retention: schema.Retention) -> str:
    limits = [
        *([count(retention.days, "day")] if retention.days else []),
        *([f"{retention.megabytes} MB"] if retention.megabytes else []),
    ]
    return " or ".join(limits) or "for good"


def _limits(limits: schema.RoomLimits) -> str:
    rules = [
        *([f"{size(limits.post_bytes)} a post"] if limits.post_bytes else []),
        *([f"{count(limits.posts_per_hour, 'post')} an hour"] if limits.posts_per_hour else []),
        *([f"{size(limits.attachment_bytes)} a file"] if limits.attachment_bytes else []),
    ]
    return ", ".join(rules) or "the mesh's own"


def charter(item: schema.Charter) -> Table:
    state = "in force" if item.in_force else "not in force"
    return pairs(
        [
            ("Version", f"{item.version}, {state}"),
            ("Signed", f"{when(item.created_ms)} by {named(item.author)}"),
            ("Purpose", item.purpose),
            ("Off topic", item.off_topic),
            ("Who may post", _writers(item.writers)),
            ("Limits", _limits(item.limits)),
            ("Kept", _kept(item.retention)),
            ("Stewards", names(item.stewards)),
        ]
    )


def post(item: schema.Post, indent: int = 0) -> Text:
    """A post with its heading: who, when, the id to answer it by, and what became of it."""
    margin = "  " * min(indent, MAX_INDENT)
    heading = Text(margin)
    heading.append(f"{item.author_number or NOTHING} {clean_line(item.author_name)}", "bold cyan")
    heading.append(f"  {when(item.created_ms)}  {item.id[:SHORT_ID]}", "dim")
    for remark in _remarks(item, in_thread=bool(indent)):
        heading.append(f"  {clean_line(remark)}", "dim")
    body = [] if item.removed else clean(item.text).split("\n")
    lines = [*body, *(clean_line(line) for line in _below(item))]
    return Text.assemble(heading, "\n", "".join(f"{margin}  {line}\n" for line in lines))


def _remarks(item: schema.Post, *, in_thread: bool) -> Iterator[str]:
    if item.reply_to and not in_thread:
        yield f"in reply to {item.reply_to[:SHORT_ID]}"
    if item.removed:
        yield "removed by its author"
    elif item.edits:
        yield f"edited {when(item.edited_ms)}"
    if item.pinned:
        yield "pinned"
    if item.labels:
        yield f"labelled {', '.join(item.labels)}"
    if item.frozen:
        yield "its author's chain has forked"
    if item.late:
        yield f"late: {item.late}"
    if item.hidden:
        # One's own is shown to oneself whatever others see.
        yield f"hidden{' from others' if item.mine else ''}: {item.why or item.hidden}"
    if item.alike:
        yield f"and {item.alike} more like it"


def _below(item: schema.Post) -> Iterator[str]:
    for file in item.attachments:
        yield f"file: {file.name} ({size(file.bytes)}) {file.hash}"
    if item.reactions:
        yield "  ".join(
            f"{reaction.emoji} {reaction.count}{' (you too)' if reaction.mine else ''}"
            for reaction in item.reactions
        )


def found(item: schema.Post) -> Text:
    """A post that may be of any room."""
    return Text.assemble((f"{clean_line(item.room_name)}: ", "dim"), post(item))


def versions(item: schema.Versions) -> Iterator[Text]:
    for one in item.items:
        body = "".join(f"  {line}\n" for line in clean(one.text).split("\n"))
        yield Text.assemble((f"{when(one.created_ms)}  {one.id[:SHORT_ID]}", "dim"), "\n", body)


def labels(items: Sequence[schema.Label]) -> Table:
    return table(
        ("label", "by", "when", "counts here", "reason"),
        (
            (
                item.value if item.on else f"{item.value}, taken back",
                named(item.author),
                when(item.created_ms),
                "yes" if item.counts else "no",
                item.reason,
            )
            for item in items
        ),
    )


def inbox(items: Sequence[schema.InboxItem]) -> Table:
    return table(
        ("", "when", "what", "post", "room"),
        (
            (
                "new" if item.unread else "",
                when(item.at_ms),
                item.text,
                item.post.id[:SHORT_ID],
                item.post.room_name,
            )
            for item in items
        ),
    )


def drafts(items: Sequence[schema.Draft]) -> Table:
    return table(
        ("room", "in reply to", "when", "text"),
        (
            (
                item.room_name or item.room[:SHORT_ID],
                item.reply_to[:SHORT_ID] if item.reply_to else NOTHING,
                when(item.updated_ms),
                item.text,
            )
            for item in items
        ),
    )


def judgements(all_of_them: schema.Judgements) -> Iterator[Table | Text]:
    yield table(
        ("member", "heard", "its labels count"),
        (
            (named(item.who), item.heard, "yes" if item.labels else "no")
            for item in all_of_them.items
        ),
    )
    stewards = "count" if all_of_them.stewards else "do not count"
    yield Text(f"Labels of a room's stewards {stewards} in their room.", "dim")


def forks(items: Sequence[schema.ForkProof]) -> Table:
    return table(
        ("author", "at record", "state"),
        (
            (
                named(item.author),
                str(item.seq),
                f"goes on from {item.repaired[:SHORT_HASH]}" if item.repaired else "frozen",
            )
            for item in items
        ),
    )
