"""Posts and labels in the API's shapes, as this member sees them.

Owns the way from rows to `permesh/schema/forum.py` for what is said in a room; rooms themselves
are `permesh/forum/reader.py`'s. Must never write, nor decide what is hidden: `sight.py` does.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from permesh import schema

from . import alike, clocks, kinds, marks, pages, rules, threads
from .alike import Line
from .charter import explain
from .kinds import Content
from .sight import Hidden, LabelRow, Onlooker, Sight

# Of one post, looked at: beyond these, numbers are too small.
MAX_REACTIONS = 10_000
MAX_EMOJIS = 24  # of one post, the most used first
MAX_BY = 8  # of one emoji
MAX_VALUES = 64  # of labels of one post
_NOTHING: Mapping[bytes, Hidden] = {}


@dataclass(frozen=True, slots=True)
class Shapes:
    """``describe`` gives an agent's number and name (``("AGT-0001", "atlas")``) by its address,
    ``stored`` the size of a file that is here, by the hex of its hash, else None."""

    onlooker: Onlooker
    describe: Callable[[bytes], tuple[str, str]]
    stored: Callable[[str], int | None]
    now_ms: Callable[[], int]

    def named(self, agent: bytes) -> schema.Named:
        number, name = self.describe(agent)
        return schema.Named(agent=address(agent), number=number, name=name)

    # -- posts ---------------------------------------------------------------------------------

    def page(self, sight: Sight, page: pages.Page) -> schema.Posts:
        """With near-duplicates of the page folded."""
        items = self.posts(sight, page.ids, page.hidden)
        _fold(items)
        return schema.Posts(items=items, next_cursor=page.cursor)

    def posts(
        self, sight: Sight, posts: Sequence[bytes], hidden: Mapping[bytes, Hidden] = _NOTHING
    ) -> list[schema.Post]:
        """Those that are here, of rooms that are here, in their order."""
        found: list[schema.Post] = []
        for start in range(0, len(posts), pages.MAX_PAGE):
            found += self._posts(sight, posts[start : start + pages.MAX_PAGE], hidden)
        return found

    def _posts(
        self, sight: Sight, posts: Sequence[bytes], hidden: Mapping[bytes, Hidden]
    ) -> list[schema.Post]:
        connection = sight.connection
        of_these = f"IN ({','.join('?' * len(posts))})"
        rows = {
            row[0]: row
            for row in connection.execute(
                "SELECT p.id, p.room, r.label, p.author, p.seq, p.reply_to, p.created_ms,"
                " p.received_ms, p.judged, p.removed, p.edits, p.edited_ms, b.body"
                " FROM forum_posts AS p JOIN forum_rooms AS r ON r.id = p.room"
                f" JOIN records AS b ON b.id = p.current WHERE p.id {of_these}",
                tuple(posts),
            )
        }
        here = [post for post in posts if post in rows]
        replies = dict(
            connection.execute(
                "SELECT p.id, count(*) FROM forum_posts AS p JOIN forum_posts AS o"
                " ON o.reply_to = p.id AND +o.room = p.room AND +o.hidden = ''"
                f" WHERE p.id {of_these} GROUP BY p.id",
                tuple(posts),
            )
        )
        places = threads.places(connection, here)
        values = self.label_values(sight, here)
        unread = marks.which_unread(connection, here, me=sight.me)
        found = []
        for post in here:
            (_, room, label, author, seq, reply_to, created_ms, received_ms, judged, removed,
             edits, edited_ms, body) = rows[post]  # fmt: skip
            content = Content("") if removed or body is None else kinds.read_post(body)
            number, name = self.describe(author)
            why = hidden.get(post)
            found.append(
                schema.Post(
                    id=post.hex(),
                    room=room.hex(),
                    room_name=label,
                    author=address(author),
                    author_number=number,
                    author_name=name,
                    mine=author == sight.me,
                    reply_to=reply_to.hex() if reply_to else None,
                    created_ms=created_ms,
                    received_ms=received_ms,
                    text=content.text,
                    thread=places[post].thread.hex(),
                    depth=places[post].depth,
                    replies=replies.get(post, 0),
                    version=sight.charters.get(judged).number if judged else 1,
                    quotes=[quoted.hex() for quoted in content.quotes],
                    mentions=list(map(self.named, content.mentions)),
                    attachments=[self.attachment(file) for file in content.files],
                    reactions=[] if removed else self._reactions(sight, post, room),
                    labels=sorted(values[post])[:MAX_VALUES],
                    edits=edits,
                    edited_ms=edited_ms,
                    removed=bool(removed),
                    pinned=rules.PIN in values[post],
                    unread=post in unread,
                    late=clocks.late(connection, post, author, seq, created_ms, reply_to),
                    frozen=sight.is_frozen(author),
                    hidden=why.code if why else "",
                    why=self.why(why, label) if why else "",
                    alike=0,
                    folded_into="",
                )
            )
        return found

    def attachment(self, file: kinds.File) -> schema.Attachment:
        return schema.Attachment(
            hash=file.hash.hex(),
            name=file.name,
            type=file.type,
            bytes=file.bytes,
            here=self.stored(file.hash.hex()) == file.bytes,
        )

    def _reactions(self, sight: Sight, post: bytes, room: bytes) -> list[schema.Reaction]:
        rows = sight.connection.execute(
            "SELECT emoji, author, is_on, max(seq) FROM (SELECT * FROM forum_reactions"
            f" WHERE post = ? AND +room = ? AND hidden = '' LIMIT {MAX_REACTIONS})"
            " GROUP BY emoji, author ORDER BY created_ms, id",
            (post, room),
        )
        by: defaultdict[str, list[bytes]] = defaultdict(list)
        for emoji, author, is_on, _ in rows:
            if is_on and (author == sight.me or author not in sight.judges.unheard):
                by[emoji].append(author)
        most = sorted(by.items(), key=lambda item: -len(item[1]))[:MAX_EMOJIS]
        return [
            schema.Reaction(
                emoji=emoji,
                count=len(authors),
                mine=sight.me in authors,
                by=list(map(self.named, authors[:MAX_BY])),
            )
            for emoji, authors in most
        ]

    def label_values(self, sight: Sight, posts: Sequence[bytes]) -> defaultdict[bytes, set[str]]:
        """Of labels that count here."""
        found: defaultdict[bytes, set[str]] = defaultdict(set)
        for label in sight.counting(posts):
            found[label.target].add(label.value)
        return found

    def label(self, sight: Sight, row: LabelRow) -> schema.Label:
        is_agent = len(row.target) == 20
        return schema.Label(
            id=row.id.hex(),
            author=self.named(row.author),
            room=row.room.hex(),
            target=address(row.target) if is_agent else row.target.hex(),
            value=row.value,
            on=row.on,
            reason=row.reason,
            created_ms=row.created_ms,
            counts=sight.counts_at_all(row),
        )

    def why(self, hidden: Hidden, room: str) -> str:
        """By which rule something is hidden, in one sentence."""
        if hidden.code == rules.RULE and hidden.by is not None:
            return explain(hidden.rule, hidden.by.charter, hidden.by.number, room)
        if hidden.code == rules.LABEL and hidden.label is not None:
            label = hidden.label
            number, name = self.describe(label.author)
            of = "Its author is" if len(label.target) == 20 else "It is"
            reason = f": {label.reason}" if label.reason else "."
            return f"{of} labelled '{label.value}' by {name} ({number}){reason}"
        return _WHY[hidden.code]


_WHY = {
    rules.FORK: "Its author's chain of records has forked before it.",
    rules.RATE: (
        f"Its author was over the mesh's quota of {rules.POSTS_PER_SPAN} posts an hour."
    ),
    rules.MUTE: "You have muted its author.",
    rules.BLOCK: "You have blocked its author.",
}  # fmt: skip


def address(agent: bytes) -> str:
    return "0x" + agent.hex()


def _fold(items: Sequence[schema.Post]) -> None:
    lines = [
        Line(
            id=bytes.fromhex(item.id),
            room=bytes.fromhex(item.room),
            author=bytes.fromhex(item.author[2:]),
            created_ms=item.created_ms,
            text=item.text,
            reply_to=bytes.fromhex(item.reply_to) if item.reply_to else None,
            attachments=tuple(file.hash for file in item.attachments),
        )
        for item in sorted(items, key=lambda item: (item.created_ms, item.id))
        if not item.removed and not item.hidden
    ]
    folded = {post.hex(): first.hex() for post, first in alike.fold(lines).items()}
    numbers = Counter(folded.values())
    for item in items:
        item.folded_into = folded.get(item.id, "")
        item.alike = numbers[item.id]
