"""The forum in the API's shapes, as this member sees it.

Owns the way from rows to `permesh/schema/forum.py`, for the service, for live events and for the
member's own lists. Must never write.
"""

from __future__ import annotations

import sqlite3
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from permesh import schema
from permesh.records import Record

from . import (
    alike,
    charters,
    clocks,
    finding,
    following,
    kinds,
    marks,
    pages,
    rules,
    threads,
    verdicts,
)  # fmt: skip
from .alike import Line
from .charter import Charter, explain
from .following import Keep
from .kinds import Content
from .query import Query
from .sight import Hidden, LabelRow, Onlooker, Sight

MAX_EMOJIS = 24  # of one post, the most used first
MAX_BY = 8  # of one emoji
_NOTHING: Mapping[bytes, Hidden] = {}


@dataclass(frozen=True, slots=True)
class Reader:
    """``describe`` gives an agent's number and name (``("AGT-0001", "atlas")``) by its address,
    ``stored`` the size of a file that is here, by the hex of its hash, else None."""

    onlooker: Onlooker
    describe: Callable[[bytes], tuple[str, str]]
    stored: Callable[[str], int | None]
    now_ms: Callable[[], int]

    def sight(self, connection: sqlite3.Connection) -> Sight:
        return Sight(connection, self.onlooker)

    def named(self, agent: bytes) -> schema.Named:
        number, name = self.describe(agent)
        return schema.Named(agent=_address(agent), number=number, name=name)

    # -- what the member's own lists ask (`personal.Views`) --------------------------------------

    def find_room(self, connection: sqlite3.Connection, reference: str) -> bytes:
        return finding.find_room(connection, reference)

    def find_post(self, connection: sqlite3.Connection, reference: str) -> bytes:
        return finding.find_post(connection, reference)

    def room_name(self, connection: sqlite3.Connection, room: bytes) -> str:
        """Its label here, or its id's beginning if it is not here."""
        row = connection.execute("SELECT label FROM forum_rooms WHERE id = ?", (room,)).fetchone()
        return row[0] if row else room.hex()[:8]

    def charter_keep(self, connection: sqlite3.Connection, room: bytes) -> Keep:
        """How long the charter in force says that records are kept, of a room that is shown."""
        charter = charters.in_force(connection, room).charter
        return Keep(charter.keep_days, charter.keep_megabytes)

    def findable(
        self, connection: sqlite3.Connection, posts: Sequence[bytes], query: Query
    ) -> Collection[bytes]:
        """Those that are shown to this member and fit the query's thread and labels."""
        sight = self.sight(connection)
        hidden = sight.hidden(posts)
        found = {post for post in posts if post not in hidden}
        if query.thread:
            wanted = finding.find_post(connection, query.thread)
            thread = threads.thread_of(connection, wanted)
            places = threads.places(connection, list(found))
            found = {post for post in found if places[post].thread == thread}
        if query.labels:
            values = self._values(sight, list(found))
            found = {
                post
                for post in found
                if all((value in values[post]) == wanted for value, wanted in query.labels)
            }
        return found

    def labelled(self, connection: sqlite3.Connection, posts: Sequence[bytes]) -> Collection[bytes]:
        """Those that are hidden by labels that count here."""
        hidden = self.sight(connection).hidden(posts)
        return {post for post, why in hidden.items() if why.code == rules.LABEL}

    def show_posts(
        self, connection: sqlite3.Connection, posts: Sequence[bytes]
    ) -> list[schema.Post]:
        """Those that are here, hidden or not, in their order."""
        sight = self.sight(connection)
        return self.posts(sight, posts, sight.hidden(posts))

    def show_room(self, connection: sqlite3.Connection, room: bytes) -> schema.Room:
        (shown,) = self.rooms(self.sight(connection), [room])
        return shown

    # -- rooms ---------------------------------------------------------------------------------

    def rooms(self, sight: Sight, rooms: Sequence[bytes]) -> list[schema.Room]:
        """Those that are shown, in their order."""
        connection, me = sight.connection, sight.me
        unread = marks.unread(connection, rooms, me=me)
        followed = following.followed(connection)
        now_ms = self.now_ms()
        found = []
        for room in rooms:
            row = connection.execute(
                "SELECT rowid, label, name, skeleton, author, created_ms,"
                " (SELECT max(created_ms) FROM forum_posts WHERE room = r.id AND hidden = '')"
                " FROM forum_rooms AS r WHERE id = ? AND hidden = ''",
                (room,),
            ).fetchone()
            if row is None:
                continue
            rowid, label, name, skeleton, author, created_ms, last_post_ms = row
            shown, hidden = self._counts(sight, room)
            force = sight.charters.in_force(room)
            why_not = sight.would_hide(verdicts.POSTS, now_ms, room)
            found.append(
                schema.Room(
                    id=room.hex(),
                    name=label,
                    looks_like=_looks_like(connection, rowid, name, skeleton),
                    purpose=force.charter.purpose,
                    creator=_address(author),
                    created_ms=created_ms,
                    posts=shown,
                    last_post_ms=last_post_ms or 0,
                    version=force.number,
                    followed=room in followed,
                    unread=unread[room].posts,
                    mentions=unread[room].mentions,
                    hidden=hidden,
                    may_post=why_not is None,
                    why_not=self.why(why_not, label) if why_not else "",
                    steward=me in force.charter.stewards,
                )
            )
        return found

    def _counts(self, sight: Sight, room: bytes) -> tuple[int, int]:
        """Posts that this member sees in a room, and those that it does not."""
        connection = sight.connection
        row = connection.execute(
            "SELECT shown, hidden FROM forum_counts WHERE room = ?", (room,)
        ).fetchone()
        shown, hidden = row or (0, 0)
        # What is hidden by who looks, as far as it is found by an index.
        doubtful = [
            row[0]
            for row in connection.execute(
                f"SELECT DISTINCT target FROM forum_labels WHERE room = ?"
                f" AND value IN {rules.HIDING} LIMIT {pages.MAX_EXAMINED}",
                (room,),
            )
        ]
        authors = {one for one in doubtful if len(one) == 20} | sight.judges.unheard
        posts = [one for one in doubtful if len(one) == 32]
        for author in authors - {sight.me}:
            posts += [
                row[0]
                for row in connection.execute(
                    "SELECT id FROM forum_posts WHERE author = ? AND room = ? AND hidden = ''"
                    f" LIMIT {pages.MAX_EXAMINED}",
                    (author, room),
                )
            ]
        here = {identity for identity, why in sight.hidden(posts).items() if why.code in _BY_LOOK}
        return shown - len(here), hidden + len(here)

    def charter(self, sight: Sight, room: bytes, identity: bytes) -> schema.Charter:
        version = sight.charters.get(identity)
        author, created_ms = sight.connection.execute(
            "SELECT author, created_ms FROM forum_charters WHERE id = ?", (identity,)
        ).fetchone()
        charter = version.charter
        return schema.Charter(
            id=identity.hex(),
            room=room.hex(),
            version=version.number,
            author=self.named(author),
            created_ms=created_ms,
            purpose=charter.purpose,
            off_topic=charter.off_topic,
            writers=self._writers(charter),
            limits=schema.RoomLimits(
                post_bytes=charter.post_bytes,
                posts_per_hour=charter.posts_per_hour,
                attachment_bytes=charter.attachment_bytes,
            ),
            retention=schema.Retention(
                days=charter.keep_days, megabytes=charter.keep_megabytes
            ),
            stewards=list(map(self.named, charter.stewards)),
            in_force=sight.charters.in_force(room).id == identity,
        )  # fmt: skip

    def _writers(self, charter: Charter) -> schema.Writers:
        return schema.Writers(
            who=charter.who,
            standing=charter.standing / 1000,
            members=list(map(self.named, charter.members)),
        )

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
                " ON o.reply_to = p.id AND o.room = p.room AND o.hidden = ''"
                f" WHERE p.id {of_these} GROUP BY p.id",
                tuple(posts),
            )
        )
        places = threads.places(connection, here)
        reactions = self._reactions(sight, here)
        values = self._values(sight, here)
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
                    author=_address(author),
                    author_number=number,
                    author_name=name,
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
                    attachments=[self._attachment(file) for file in content.files],
                    reactions=[] if removed else reactions[post],
                    labels=sorted(values[post]),
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

    def _attachment(self, file: kinds.File) -> schema.Attachment:
        return schema.Attachment(
            hash=file.hash.hex(),
            name=file.name,
            type=file.type,
            bytes=file.bytes,
            here=self.stored(file.hash.hex()) == file.bytes,
        )

    def _reactions(
        self, sight: Sight, posts: Sequence[bytes]
    ) -> defaultdict[bytes, list[schema.Reaction]]:
        rows = sight.connection.execute(
            "SELECT f.post, f.emoji, f.author, f.is_on, max(f.seq) FROM forum_reactions AS f"
            " JOIN forum_posts AS p ON p.id = f.post AND p.room = f.room"
            f" WHERE f.post IN ({','.join('?' * len(posts))}) AND f.hidden = ''"
            " GROUP BY f.post, f.emoji, f.author ORDER BY f.created_ms, f.id",
            tuple(posts),
        )
        by: defaultdict[bytes, defaultdict[str, list[bytes]]] = defaultdict(
            lambda: defaultdict(list)
        )
        for post, emoji, author, is_on, _ in rows:
            if is_on and (author == sight.me or author not in sight.judges.unheard):
                by[post][emoji].append(author)
        found: defaultdict[bytes, list[schema.Reaction]] = defaultdict(list)
        for post, emojis in by.items():
            most = sorted(emojis.items(), key=lambda item: -len(item[1]))[:MAX_EMOJIS]
            found[post] = [
                schema.Reaction(
                    emoji=emoji,
                    count=len(authors),
                    mine=sight.me in authors,
                    by=list(map(self.named, authors[:MAX_BY])),
                )
                for emoji, authors in most
            ]
        return found

    def _values(self, sight: Sight, posts: Sequence[bytes]) -> defaultdict[bytes, set[str]]:
        """Of labels that count here."""
        found: defaultdict[bytes, set[str]] = defaultdict(set)
        for label in sight.labels(posts):
            if label.on and sight.counts_at_all(label):
                found[label.target].add(label.value)
        return found

    def label(self, sight: Sight, row: LabelRow) -> schema.Label:
        is_agent = len(row.target) == 20
        return schema.Label(
            id=row.id.hex(),
            author=self.named(row.author),
            room=row.room.hex(),
            target=_address(row.target) if is_agent else row.target.hex(),
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

    # -- live events ---------------------------------------------------------------------------

    def shown(
        self, connection: sqlite3.Connection, records: Sequence[Record]
    ) -> list[schema.Room | schema.Post]:
        """What these records are, or tell otherwise than before: rooms first, then posts.

        What is hidden from this member is not told, unless it is its own.
        """
        rooms: dict[bytes, None] = {}
        posts: dict[bytes, None] = {}
        for record in records:
            header = record.header
            if header.kind == kinds.ROOM:
                rooms[record.id] = None
            elif header.kind == kinds.CHARTER:
                rooms[header.room] = None
            elif header.kind == kinds.POST:
                posts[record.id] = None
            elif header.kind in _OF_A_POST and header.parents:
                posts[header.parents[0]] = None
        if not rooms and not posts:
            return []
        sight = self.sight(connection)
        hidden = sight.hidden(list(posts))
        found = self.posts(sight, list(posts), hidden)
        me = _address(sight.me)
        # What a label hides now was shown before it.
        labelled = {record.header.parents[0] for record in records
                    if record.header.kind == kinds.LABEL and record.header.parents}  # fmt: skip
        told = [
            post
            for post in found
            if not post.hidden or post.author == me or bytes.fromhex(post.id) in labelled
        ]
        return [*self.rooms(sight, list(rooms)), *told]


_OF_A_POST = frozenset({kinds.EDIT, kinds.REMOVAL, kinds.REACTION, kinds.LABEL})
_BY_LOOK = frozenset({rules.LABEL, rules.MUTE, rules.BLOCK})
_WHY = {
    rules.FORK: "Its author's chain of records has forked before it.",
    rules.RATE: (
        f"Its author was over the mesh's quota of {rules.POSTS_PER_SPAN} posts an hour."
    ),
    rules.MUTE: "You have muted its author.",
    rules.BLOCK: "You have blocked its author.",
}  # fmt: skip


def _address(agent: bytes) -> str:
    return "0x" + agent.hex()


def _looks_like(connection: sqlite3.Connection, rowid: int, name: str, skeleton: str) -> str:
    """An older room of another name that looks the same."""
    row = connection.execute(
        "SELECT label FROM forum_rooms WHERE skeleton = ? AND name <> ? AND rowid < ?"
        " AND hidden = '' ORDER BY rowid LIMIT 1",
        (skeleton, name, rowid),
    ).fetchone()
    return row[0] if row else ""


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
