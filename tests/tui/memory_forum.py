"""The forum of the mesh in memory: rooms, posts and labels.

A part of `MemoryMesh`. It keeps what it is told and answers in pages, as the daemon does.
"""

from __future__ import annotations

import hashlib
from typing import Literal

from pydantic import BaseModel

from permesh import schema
from permesh.errors import NotFound, PermeshError
from permesh.schema import Named, Post, Posts, Room

from .memory_own import NOW, MemoryOwn

DAY = 86_400_000


def address(name: str) -> str:
    return "0x" + hashlib.sha256(f"agent {name}".encode()).hexdigest()[:40]


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


class MemoryForum(MemoryOwn):
    """``lose_replies`` breaks the connection after a post was stored, before its reply."""

    name: str
    agent: str

    def __init__(self) -> None:
        super().__init__()
        self.refuse_posts: PermeshError | None = None
        self.lose_replies = False
        self.room_list: dict[str, Room] = {}
        self.charter_list: dict[str, list[schema.Charter]] = {}
        self.version_list: dict[str, list[schema.Version]] = {}
        self.label_list: dict[str, list[schema.Label]] = {}
        self.told: list[Post] = []  # what `events` goes on with, by position
        self._ids = 0

    def push(self, name: str, data: BaseModel) -> None:
        raise NotImplementedError

    # Putting things in

    def add_room(self, name: str, purpose: str = "", created_ms: int = NOW - 9 * DAY) -> Room:
        room = Room(
            id=digest(f"room {name}"),
            name=name,
            purpose=purpose,
            creator=self.agent,
            created_ms=created_ms,
            posts=0,
            last_post_ms=0,
        )
        self.room_list[room.id] = room
        self.post_list[room.id] = []
        self.add_charter(room, purpose)
        return room

    def add_charter(self, room: Room, purpose: str, off_topic: str = "") -> schema.Charter:
        held = self.charter_list.setdefault(room.id, [])
        held[:] = [one.model_copy(update={"in_force": False}) for one in held]
        charter = schema.Charter(
            id=digest(f"charter {room.name} {len(held)}"),
            room=room.id,
            version=len(held) + 1,
            author=self.named(self.name),
            created_ms=room.created_ms + len(held) * DAY,
            purpose=purpose,
            off_topic=off_topic,
            writers=schema.Writers(),
            limits=schema.RoomLimits(),
            retention=schema.Retention(),
            stewards=[self.named(self.name)],
        )
        held.insert(0, charter)
        self.change_room(room.id, purpose=purpose, version=charter.version)
        return charter

    def named(self, name: str) -> Named:
        member = self.member_list.get(address(name))
        return Named(agent=address(name), number=member.number if member else "", name=name)

    def change_room(self, room_id: str, **changed: object) -> Room:
        room = self.room_list[room_id] = self.room_list[room_id].model_copy(update=changed)
        return room

    def add_post(
        self,
        room: Room,
        name: str,
        text: str,
        reply_to: Post | None = None,
        at_ms: int = NOW,
        **more: object,
    ) -> Post:
        self._ids += 1
        member = self.member_list.get(address(name))
        id = digest(f"post {self._ids}")
        mine = name == self.name
        post = Post(
            id=id,
            room=room.id,
            room_name=room.name,
            author=address(name),
            author_number=member.number if member else "AGT-0099",
            author_name=name,
            reply_to=reply_to.id if reply_to else None,
            created_ms=at_ms,
            received_ms=at_ms,
            text=text,
            thread=(reply_to.thread or reply_to.id) if reply_to else id,
            depth=reply_to.depth + 1 if reply_to else 0,
            unread=not mine,
        ).model_copy(update=more)
        if post.hidden:
            post = post.model_copy(update={"unread": False})
        self.post_list[room.id].append(post)
        known = self.room_list[room.id]
        mentioned = any(one.agent == self.agent for one in post.mentions)
        self.change_room(
            room.id,
            posts=known.posts + 1,
            last_post_ms=max(known.last_post_ms, at_ms),
            unread=known.unread + post.unread,
            mentions=known.mentions + (post.unread and mentioned),
            hidden=known.hidden + bool(post.hidden),
        )
        self.told.append(post)
        return post

    def say(self, room: Room, name: str, text: str, reply_to: Post | None = None) -> Post:
        """Somebody posts, now, and everybody hears it."""
        post = self.add_post(room, name, text, reply_to, NOW + self._ids)
        self.push("post", post)
        return post

    def change(self, post: Post, **changed: object) -> Post:
        """A post is another one now, and everybody hears it."""
        posts = self.post_list[post.room]
        at = next(at for at, one in enumerate(posts) if one.id == post.id)
        posts[at] = posts[at].model_copy(update=changed)
        self.told.append(posts[at])
        self.push("post", posts[at])
        return posts[at]

    def find_post(self, post_id: str) -> Post:
        for posts in self.post_list.values():
            for post in posts:
                if post.id == post_id:
                    return post
        raise NotFound("posts.unknown", "No post begins with that.", "See: permesh read ROOM")

    # Rooms

    async def rooms(
        self, cursor: str | None = None, limit: int = 100, *, followed: bool | None = None
    ) -> schema.Rooms:
        await self.called("rooms")
        items = [one for one in self.room_list.values() if followed in (None, one.followed)]
        at = int(cursor or 0)
        more = str(at + limit) if at + limit < len(items) else None
        return schema.Rooms(items=items[at : at + limit], next_cursor=more)

    async def room(self, room: str) -> Room:
        await self.called("room")
        return self.room_list[room]

    async def create_room(self, room: schema.NewRoom) -> Room:
        await self.called(f"create {room.name}")
        name = room.name
        if not name.replace("-", "").isalnum() or name != name.lower():
            raise PermeshError(
                "room.name",
                f"A room cannot be called {name!r}.",
                "Use 1 to 64 of a-z, 0-9, '-', '_' and '.'.",
            )
        self.add_room(name, room.purpose or "", NOW)
        made = self.change_room(digest(f"room {name}"), steward=True)
        self.push("room", made)
        return made

    async def charters(self, room: str) -> schema.Charters:
        await self.called("charters")
        return schema.Charters(items=list(self.charter_list[room]))

    async def set_charter(self, room: str, charter: schema.NewCharter) -> schema.Charter:
        await self.called(f"charter {charter.model_dump(exclude_none=True)}")
        now = self.charter_list[room][0]
        if charter.post_bytes is not None and charter.post_bytes > 32_768:
            raise PermeshError("charter.limit", "A post has at most 32768 bytes.")
        made = self.add_charter(
            self.room_list[room],
            now.purpose if charter.purpose is None else charter.purpose,
            now.off_topic if charter.off_topic is None else charter.off_topic,
        )
        self.push("room", self.room_list[room])
        return made

    async def follow(self, room: str, follow: schema.Follow) -> Room:
        await self.called(f"follow {follow.followed}")
        return self.change_room(room, followed=follow.followed)

    async def mark_read(self, room: str, mark: schema.MarkRead) -> Room:
        await self.called(f"read {self.room_list[room].name}")
        posts = self.post_list[room]
        last = self.find_post(mark.post).created_ms if mark.post else 1 << 60
        for at, post in enumerate(posts):
            if post.unread and post.created_ms <= last:
                posts[at] = post.model_copy(update={"unread": False})
        unread = [post for post in posts if post.unread]
        mentions = sum(any(m.agent == self.agent for m in post.mentions) for post in unread)
        return self.change_room(room, unread=len(unread), mentions=mentions)

    # Posts

    async def posts(
        self,
        room: str,
        cursor: str | None = None,
        limit: int = 100,
        order: Literal["asc", "desc"] = "asc",
        *,
        hidden: bool = False,
    ) -> Posts:
        await self.called(f"posts {self.room_list[room].name} {cursor or 'newest'}")
        items = sorted(self._shown(room, hidden), key=lambda post: (post.created_ms, post.id))
        if order == "desc":
            items.reverse()
        at = 0
        if cursor is not None:
            at = next(index for index, post in enumerate(items) if post.id == cursor) + 1
        page = items[at : at + limit]
        more = page[-1].id if at + limit < len(items) else None
        return Posts(items=page, next_cursor=more)

    def _shown(self, room: str, hidden: bool) -> list[Post]:
        return [
            post
            for post in self.post_list[room]
            if hidden or not post.hidden or post.author == self.agent
        ]

    async def thread(
        self, post: str, cursor: str | None = None, limit: int = 100, *, hidden: bool = False
    ) -> Posts:
        await self.called(f"thread {cursor or 'first'} {limit}")
        wanted = self.find_post(post)
        root = wanted.thread or wanted.id
        replies: dict[str, list[Post]] = {}
        for one in self._shown(wanted.room, hidden):
            replies.setdefault(one.reply_to or "", []).append(one)
        items, waiting = [], [self.find_post(root)]
        while waiting:
            one = waiting.pop()
            items.append(one)
            below = sorted(replies.get(one.id, ()), key=lambda post: (post.created_ms, post.id))
            waiting.extend(reversed(below))
        at = int(cursor or 0)
        more = str(at + limit) if at + limit < len(items) else None
        return Posts(items=items[at : at + limit], next_cursor=more)

    async def read_post(self, post: str) -> Post:
        await self.called("read_post")
        return self.find_post(post)

    async def versions(self, post: str) -> schema.Versions:
        await self.called("versions")
        return schema.Versions(items=self.version_list[post])

    async def post(self, room: str, post: schema.NewPost) -> Post:
        await self.called(f"post {self.room_list[room].name}")
        if self.refuse_posts is not None:
            raise self.refuse_posts
        answered = {one.id: one for one in self.post_list[room]}.get(post.reply_to or "")
        made = self.say(self.room_list[room], self.name, post.text, answered)
        files = [
            schema.Attachment(
                hash=one.hash, name=one.name, bytes=len(self.files[one.hash]), here=True
            )
            for one in post.attachments
        ]
        if files or post.quotes:
            made = self.change(made, attachments=files, quotes=post.quotes)
        if self.lose_replies:
            raise PermeshError("daemon.gone", "The daemon closed the connection.")
        return made

    async def edit(self, post: str, text: schema.NewText) -> Post:
        await self.called("edit")
        held = self.find_post(post)
        said = self.version_list.setdefault(
            post, [schema.Version(id=post, created_ms=held.created_ms, text=held.text)]
        )
        said.append(schema.Version(id=digest(text.text), created_ms=NOW, text=text.text))
        return self.change(held, text=text.text, edits=held.edits + 1, edited_ms=NOW)

    async def remove(self, post: str) -> schema.Removed:
        await self.called("remove")
        held = self.change(self.find_post(post), text="", removed=True)
        return schema.Removed(id=post, records=1 + held.edits)

    async def react(self, post: str, reaction: schema.NewReaction) -> Post:
        await self.called(f"react {reaction.emoji} {reaction.on}")
        held = [one for one in self.find_post(post).reactions if one.emoji != reaction.emoji]
        if reaction.on:
            by = [self.named(self.name)]
            held.append(schema.Reaction(emoji=reaction.emoji, count=1, mine=True, by=by))
        return self.change(self.find_post(post), reactions=held)

    async def labels(self, post: str) -> schema.Labels:
        await self.called("labels")
        return schema.Labels(items=self.label_list.get(post, []))

    async def label_post(self, post: str, label: schema.NewLabel) -> schema.Label:
        await self.called(f"label {label.value} {label.on} {label.reason}")
        held = self.find_post(post)
        made = schema.Label(
            id=digest(f"label {len(self.calls)}"),
            author=self.named(self.name),
            room=held.room,
            target=post,
            value=label.value,
            on=label.on,
            reason=label.reason,
            created_ms=NOW,
            counts=True,
        )
        others = [
            one
            for one in self.label_list.get(post, [])
            if (one.author.agent, one.value) != (self.agent, label.value)
        ]
        self.label_list[post] = [*others, made]
        on = [one.value for one in self.label_list[post] if one.on]
        hides = "label" if {"hide", "spam"}.intersection(on) else ""
        self.change(held, labels=on, pinned="pin" in on, hidden=hides, why=label.reason)
        return made

    calls: list[str]

    async def search(self, query: str, cursor: str | None = None, limit: int = 50) -> Posts:
        await self.called(f"search {query}")
        if query.count('"') % 2:
            raise PermeshError("search.quote", "A quotation mark is not closed.", 'Write "…".')
        words = query.lower().split()
        found = [
            post
            for posts in self.post_list.values()
            for post in posts
            if all(word.strip('"') in post.text.lower() for word in words)
        ]
        found.sort(key=lambda post: post.created_ms, reverse=True)
        at = int(cursor or 0)
        more = str(at + limit) if at + limit < len(found) else None
        return Posts(items=found[at : at + limit], next_cursor=more)
