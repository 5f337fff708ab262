"""The forum as a member uses it: make a room, post, read.

Owns the way from what a person or an agent asks to records and from views to the API's shapes.
Must never know how records travel or who is connected.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from permesh import schema
from permesh.errors import PermeshError
from permesh.p2p.journal import Journal
from permesh.records import Record
from permesh.store import AsyncStore, Store

from . import rules, views
from .views import PostRow, RoomRow


class Forum:
    """``describe`` gives an agent's number and name (``("AGT-0001", "atlas")``) by its address.

    Every method raises ``PermeshError`` for what a person can mend. The store must have been
    opened with a `ForumView`.
    """

    def __init__(
        self,
        journal: Journal,
        store: AsyncStore,
        *,
        describe: Callable[[bytes], tuple[str, str]],
        now_ms: Callable[[], int],
    ) -> None:
        self._journal = journal
        self._store = store
        self._describe = describe
        self._now_ms = now_ms

    async def create_room(self, name: str, purpose: str = "") -> schema.Room:
        body = rules.room_body(name, purpose)
        await self._check_standing(rules.ROOM)
        taken = await self._store.read(lambda store: views.has_label(store.connection, name))
        if taken:
            raise PermeshError(
                "room.exists",
                f"There is a room '{name}' already.",
                "Post in it, or choose another name.",
                http_status=409,
            )
        record = await self._journal.append(rules.ROOM, body)
        (room,) = await self._store.read(
            lambda store: views.rooms_by_id(store.connection, [record.id])
        )
        return self._room(room)

    async def post(self, room: str, text: str, reply_to: str | None = None) -> schema.Post:
        """Write a post; returns once it is durable. ``reply_to`` is an id or a unique prefix."""
        body = rules.post_body(text)

        def look_up(store: Store) -> tuple[bytes, tuple[bytes, ...]]:
            place = views.find_room(store.connection, room).id
            if not reply_to:
                return place, ()
            return place, (views.find_post(store.connection, place, reply_to),)

        place, parents = await self._store.read(look_up)
        await self._check_standing(rules.POST)
        record = await self._journal.append(rules.POST, body, place, parents)
        (post,) = await self._store.read(
            lambda store: views.posts_by_id(store.connection, [record.id])
        )
        return self._post(post)

    async def rooms(self, cursor: str | None = None, limit: int = 100) -> schema.Rooms:
        items, more = await self._store.read(
            lambda store: views.rooms(store.connection, cursor, limit)
        )
        return schema.Rooms(items=[self._room(item) for item in items], next_cursor=more)

    async def room(self, reference: str) -> schema.Room:
        return self._room(
            await self._store.read(lambda store: views.find_room(store.connection, reference))
        )

    async def posts(
        self,
        room: str,
        cursor: str | None = None,
        limit: int = 100,
        *,
        newest_first: bool = False,
        thread: str | None = None,
    ) -> schema.Posts:
        """A page of a room, or of the thread in which the post ``thread`` stands."""

        def look_up(store: Store) -> tuple[list[PostRow], str | None]:
            connection = store.connection
            place = views.find_room(connection, room).id
            root = None
            if thread:
                root = views.thread_of(connection, views.find_post(connection, place, thread))
            return views.posts(connection, place, cursor, limit, newest_first, root)

        items, more = await self._store.read(look_up)
        return schema.Posts(items=[self._post(item) for item in items], next_cursor=more)

    async def shown(self, records: Sequence[Record]) -> list[schema.Room | schema.Post]:
        """What of these records is to be shown, rooms first: for live events."""
        rooms = [item.id for item in records if item.header.kind == rules.ROOM]
        posts = [item.id for item in records if item.header.kind == rules.POST]
        if not rooms and not posts:
            return []

        def look_up(store: Store) -> tuple[list[RoomRow], list[PostRow]]:
            return (
                views.rooms_by_id(store.connection, rooms),
                views.posts_by_id(store.connection, posts),
            )

        found_rooms, found_posts = await self._store.read(look_up)
        return [*map(self._room, found_rooms), *map(self._post, found_posts)]

    async def _check_standing(self, kind: str) -> None:
        """Refuse what every member would hide, rather than sign it."""
        author, now = self._journal.author, self._now_ms()
        why = await self._store.read(
            lambda store: views.would_hide(store.connection, author, kind, now)
        )
        if why == rules.HIDDEN_FORK:
            raise PermeshError(
                "forum.frozen",
                "Your chain of records has forked, so members no longer show what you write.",
                "Find out who else signs with this home's keys.",
                http_status=409,
            )
        if why == rules.HIDDEN_RATE:
            raise PermeshError(
                "forum.rate",
                f"You are over the quota of {rules.POSTS_PER_SPAN} posts and "
                f"{rules.ROOMS_PER_SPAN} rooms an hour.",
                "Go on in the next hour.",
                http_status=429,
            )

    def _room(self, row: RoomRow) -> schema.Room:
        return schema.Room(
            id=row.id.hex(),
            name=row.label,
            purpose=row.purpose,
            creator="0x" + row.author.hex(),
            created_ms=row.created_ms,
            posts=row.posts,
            last_post_ms=row.last_post_ms,
        )

    def _post(self, row: PostRow) -> schema.Post:
        number, name = self._describe(row.author)
        return schema.Post(
            id=row.id.hex(),
            room=row.room.hex(),
            room_name=row.room_label,
            author="0x" + row.author.hex(),
            author_number=number,
            author_name=name,
            reply_to=row.reply_to.hex() if row.reply_to else None,
            created_ms=row.created_ms,
            received_ms=row.received_ms,
            text=row.text,
        )
