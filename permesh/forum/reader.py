"""The forum as this member sees it: what it may ask of the views, in the API's shapes.

Owns rooms and charters in the shapes of `permesh/schema/forum.py`, what the member's own lists
ask, and what a record tells anew. Must never write.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from permesh import schema
from permesh.records import Record

from . import finding, following, kinds, marks, rules, threads, verdicts
from .charter import Charter
from .query import Query
from .shapes import Shapes, address
from .sight import MAX_TARGETS, Sight


@dataclass(frozen=True, slots=True)
class Reader(Shapes):
    def sight(self, connection: sqlite3.Connection) -> Sight:
        return Sight(connection, self.onlooker)

    # -- what the member's own lists ask (`personal.Views`) --------------------------------------

    def find_room(self, connection: sqlite3.Connection, reference: str) -> bytes:
        return finding.find_room(connection, reference)

    def find_post(self, connection: sqlite3.Connection, reference: str) -> bytes:
        return finding.find_post(connection, reference)

    def room_name(self, connection: sqlite3.Connection, room: bytes) -> str:
        """Its label here, or its id's beginning if it is not here."""
        row = connection.execute("SELECT label FROM forum_rooms WHERE id = ?", (room,)).fetchone()
        return row[0] if row else room.hex()[:8]

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
            values = self.label_values(sight, list(found))
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
            number, maker = self.describe(author)
            force = sight.charters.in_force(room)
            why_not = sight.would_hide(verdicts.POSTS, now_ms, room)
            found.append(
                schema.Room(
                    id=room.hex(),
                    name=label,
                    looks_like=_looks_like(connection, rowid, name, skeleton),
                    purpose=force.charter.purpose,
                    creator=address(author),
                    creator_number=number,
                    creator_name=maker,
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
        doubtful = sight.targets(room)
        authors = {one for one in doubtful if len(one) == 20} | sight.judges.unheard
        posts = [one for one in doubtful if len(one) == 32]
        for author in authors - {sight.me}:
            if len(posts) >= MAX_TARGETS:
                break
            posts += [
                row[0]
                for row in connection.execute(
                    "SELECT id FROM forum_posts WHERE author = ? AND +room = ? AND +hidden = ''"
                    f" LIMIT {MAX_TARGETS}",
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
        me = address(sight.me)
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


def _looks_like(connection: sqlite3.Connection, rowid: int, name: str, skeleton: str) -> str:
    """An older room of another name that looks the same."""
    row = connection.execute(
        "SELECT label FROM forum_rooms WHERE skeleton = ? AND name <> ? AND rowid < ?"
        " AND hidden = '' ORDER BY rowid LIMIT 1",
        (skeleton, name, rowid),
    ).fetchone()
    return row[0] if row else ""
