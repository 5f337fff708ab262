"""The member's own side of the forum: what it follows, has read, looks for, writes and judges.

Owns the way from what a member asks of these to the tables that only it has, and from what it
finds to the API's shapes. Nothing here is signed or told to anybody. Must never know how a post is
judged or shown: it asks the forum's view.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Collection, Sequence
from typing import Protocol

from permesh import schema
from permesh.async_store import AsyncStore
from permesh.errors import NotFound, PermeshError
from permesh.store import Store

from . import drafts, following, inbox, judgements, marks, search
from .drafts import Draft
from .finding import make_cursor, read_cursor
from .following import Followed
from .inbox import Item
from .judgements import Judged
from .pages import clamp
from .query import Filter, Query, parse, unknown_filters
from .search import HAS_FILE, HAS_LINK, Found, tag
from .sight import Sight

ME = "me"
_ID = re.compile(r"[0-9a-f]{64}")


class Views(Protocol):
    """What the forum's view answers; references are as in `permesh/node.py`."""

    def sight(self, connection: sqlite3.Connection) -> Sight: ...

    def named(self, agent: bytes) -> schema.Named: ...

    def find_room(self, connection: sqlite3.Connection, reference: str) -> bytes: ...

    def find_post(self, connection: sqlite3.Connection, reference: str) -> bytes: ...

    def room_name(self, connection: sqlite3.Connection, room: bytes) -> str: ...

    def findable(
        self, connection: sqlite3.Connection, posts: Sequence[bytes], query: Query
    ) -> Collection[bytes]:
        """Those that are shown to this member and fit the query's thread and labels."""
        ...

    def show_posts(
        self, connection: sqlite3.Connection, posts: Sequence[bytes]
    ) -> list[schema.Post]:
        """Those that are here, hidden or not, in their order."""
        ...

    def show_room(self, connection: sqlite3.Connection, room: bytes) -> schema.Room: ...


class Personal:
    """``find_agent`` gives an agent's address by a number, a name, an address or the unique
    beginning of one; None if nobody is called so, or several are. ``followed`` is told of a room
    whenever what is wished of it has changed.

    Every method raises ``PermeshError`` for what a person can mend. The store must have been opened
    with a `ForumView`, a `SearchView` and an `InboxView`.
    """

    def __init__(
        self,
        store: AsyncStore,
        *,
        me: bytes,
        views: Views,
        find_agent: Callable[[str], bytes | None],
        now_ms: Callable[[], int],
        followed: Callable[[bytes, Followed], None],
    ) -> None:
        self._store = store
        self._me = me
        self._views = views
        self._find_agent = find_agent
        self._now_ms = now_ms
        self._followed = followed

    # -- what is followed, and what was read ---------------------------------------------------

    async def follow(self, room: str, follow: schema.Follow) -> schema.Room:
        def change(cursor: sqlite3.Cursor) -> tuple[bytes, Followed]:
            place = self._views.find_room(cursor.connection, room)
            return place, following.follow(
                cursor,
                place,
                follow.followed,
                keep_days=follow.keep_days,
                keep_megabytes=follow.keep_megabytes,
            )

        place, now = await self._store.write(Store.change_views, change)
        self._followed(place, now)
        return await self._room(place)

    async def take_part(self, room: bytes) -> None:
        """Follow a room that this member has made, or is about to post in."""
        before = await self._store.read(lambda store: following.read(store.connection, room))
        if before.followed:
            return
        now = await self._store.write(
            Store.change_views, lambda cursor: following.follow(cursor, room)
        )
        self._followed(room, now)

    async def mark_read(self, room: str, mark: schema.MarkRead) -> schema.Room:
        def change(cursor: sqlite3.Cursor) -> bytes:
            place = self._views.find_room(cursor.connection, room)
            post = None
            if mark.post is not None:
                post = self._views.find_post(cursor.connection, mark.post)
            marks.mark(cursor, place, post)
            return place

        return await self._room(await self._store.write(Store.change_views, change))

    # -- search --------------------------------------------------------------------------------

    async def search(self, query: str, cursor: str | None = None, limit: int = 50) -> schema.Posts:
        """A page may have fewer posts than asked for, or none, and a cursor to go on from."""
        wanted = parse(query, self._now_ms())
        below = read_cursor(cursor, int)[0] if cursor else None
        # The roster is this thread's.
        agents = {
            part.value: self._agent(part.value)
            for clause in wanted.clauses
            for part in clause.parts
            if isinstance(part, Filter) and part.field in ("author", "mentions")
        }

        def look_up(store: Store) -> tuple[Found, list[schema.Post]]:
            found = self._search(store.connection, wanted, agents, below, clamp(limit))
            return found, self._views.show_posts(store.connection, found.posts)

        found, items = await self._store.read(look_up)
        more = None if found.below is None else make_cursor(found.below)
        hint = "" if items or more else unknown_filters(query)
        return schema.Posts(items=items, next_cursor=more, hint=hint)

    def _search(
        self,
        connection: sqlite3.Connection,
        query: Query,
        agents: dict[str, bytes],
        below: int | None,
        limit: int,
    ) -> Found:
        def tag_of(part: Filter) -> str:
            if part.field == "has":
                return {"file": HAS_FILE, "link": HAS_LINK}[part.value]
            if part.field == "room":
                return tag("room", self._views.find_room(connection, part.value))
            return tag(part.field, agents[part.value])

        thread = None
        if query.thread:
            post = self._views.find_post(connection, query.thread)
            thread = connection.execute(
                "SELECT thread FROM forum_posts WHERE id = ?", (post,)
            ).fetchone()[0]
        return search.search(
            connection,
            query,
            tag_of=tag_of,
            keep=lambda posts: self._views.findable(connection, posts, query),
            limit=limit,
            below=below,
            thread=thread,
        )

    # -- inbox ---------------------------------------------------------------------------------

    async def inbox(
        self, cursor: str | None = None, limit: int = 100, *, unread: bool = False
    ) -> schema.Inbox:
        below = read_cursor(cursor, int)[0] if cursor else None

        def look_up(store: Store) -> schema.Inbox:
            connection = store.connection
            sight = self._views.sight(connection)
            page = inbox.page(sight, limit=clamp(limit), below=below, unread=unread)
            read = marks.mark_of(connection, marks.INBOX)
            posts = {
                post.id: post
                for post in self._views.show_posts(connection, [one.post for one in page.items])
            }
            return schema.Inbox(
                items=[
                    self._item(one, posts[one.post.hex()], one.position > read)
                    for one in page.items
                    if one.post.hex() in posts
                ],
                unread=inbox.count_unread(sight),
                next_cursor=None if page.below is None else make_cursor(page.below),
            )

        return await self._store.read(look_up)

    def _item(self, item: Item, post: schema.Post, unread: bool) -> schema.InboxItem:
        by = self._views.named(item.author)
        who = by.name or by.agent
        text = {
            "mention": f"{who} mentioned you in {post.room_name}.",
            "reply": f"{who} answered you in {post.room_name}.",
            "quote": f"{who} quoted you in {post.room_name}.",
            "reaction": f"{who} reacted with {item.emoji} in {post.room_name}.",
            "hidden": f"Your post in {post.room_name} is not shown: {post.why}",
        }[item.kind]
        return schema.InboxItem(
            kind=item.kind, at_ms=item.at_ms, unread=unread, by=by, text=text, post=post
        )

    async def mark_inbox_read(self) -> schema.Inbox:
        await self._store.write(Store.change_views, lambda cursor: marks.mark(cursor, marks.INBOX))
        return await self.inbox()

    # -- drafts --------------------------------------------------------------------------------

    async def drafts(self) -> schema.Drafts:
        def look_up(store: Store) -> list[schema.Draft]:
            return [self._draft(store.connection, draft) for draft in drafts.load(store.connection)]

        return schema.Drafts(items=await self._store.read(look_up))

    async def save_draft(self, room: str, draft: schema.NewDraft) -> schema.Draft:
        """Ids in full are taken as they are: what was answered may not be here any more."""
        now_ms = self._now_ms()

        def change(cursor: sqlite3.Cursor) -> schema.Draft:
            connection = cursor.connection
            place = _whole(room) or self._views.find_room(connection, room)
            reply_to = None
            if draft.reply_to is not None:
                reply_to = _whole(draft.reply_to) or self._views.find_post(
                    connection, draft.reply_to
                )
            kept = Draft(place, reply_to, draft.text, now_ms)
            drafts.save(cursor, kept)
            return self._draft(connection, kept)

        return await self._store.write(Store.change_views, change)

    def _draft(self, connection: sqlite3.Connection, draft: Draft) -> schema.Draft:
        return schema.Draft(
            room=draft.room.hex(),
            room_name=self._views.room_name(connection, draft.room),
            reply_to=draft.reply_to.hex() if draft.reply_to else None,
            text=draft.text,
            updated_ms=draft.updated_ms,
        )

    # -- judgements ----------------------------------------------------------------------------

    async def judgements(self) -> schema.Judgements:
        def look_up(store: Store) -> tuple[bool, list[Judged]]:
            connection = store.connection
            return judgements.load(connection).stewards, judgements.judged(connection)

        stewards, judged = await self._store.read(look_up)
        return schema.Judgements(stewards=stewards, items=list(map(self._judgement, judged)))

    async def judge(self, agent: str, judgement: schema.NewJudgement) -> schema.Judgement:
        address = self._agent(agent)
        if address == self._me and judgement.labels:
            raise PermeshError(
                "judgements.self", "Your own labels count here anyway.", "Name another member."
            )
        if address == self._me and judgement.heard not in (None, "yes"):
            raise PermeshError(
                "judgements.self", "You cannot mute or block yourself.", "Name another member."
            )
        judged = await self._store.write(
            Store.change_views,
            lambda cursor: judgements.judge(
                cursor, address, labels=judgement.labels, heard=judgement.heard
            ),
        )
        return self._judgement(judged)

    async def count_stewards(self, stewards: schema.Stewards) -> schema.Judgements:
        await self._store.write(
            Store.change_views, lambda cursor: judgements.count_stewards(cursor, stewards.count)
        )
        return await self.judgements()

    def _judgement(self, judged: Judged) -> schema.Judgement:
        return schema.Judgement(
            who=self._views.named(judged.agent), labels=judged.labels, heard=judged.heard
        )

    # -- inside --------------------------------------------------------------------------------

    def _agent(self, reference: str) -> bytes:
        found = self._me if reference.lower() == ME else self._find_agent(reference)
        if found is None:
            raise NotFound(
                "members.unknown",
                f"'{reference[:64]}' names nobody, or more than one.",
                "See who is here with: permesh members",
            )
        return found

    async def _room(self, room: bytes) -> schema.Room:
        return await self._store.read(lambda store: self._views.show_room(store.connection, room))


def _whole(reference: str) -> bytes | None:
    return bytes.fromhex(reference) if _ID.fullmatch(reference) else None
