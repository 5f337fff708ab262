"""The forum as a member uses it: the whole of `node.ForumNode`.

Owns nothing but which part answers what: `reading.py`, `writing.py`, and `personal.py` for what
only this member has.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

from permesh import schema
from permesh.async_store import AsyncStore
from permesh.p2p.journal import Appends
from permesh.records import Record

from .personal import Personal
from .reader import Reader
from .reading import Reading
from .writing import Writing


class Forum:
    """``find_agent`` gives an agent's address by a number, a name, an address or the unique
    beginning of one; None if nobody is called so, or several are.

    Every method raises ``PermeshError`` for what a person can mend. The store must have been
    opened with a `ForumView`, a `SearchView` and an `InboxView`, in that order, and with
    `kinds.REMOVALS`.
    """

    def __init__(
        self,
        journal: Appends,
        store: AsyncStore,
        reader: Reader,
        personal: Personal,
        *,
        find_agent: Callable[[str], bytes | None],
        now_ms: Callable[[], int],
    ) -> None:
        self._reading = Reading(store, reader)
        self._writing = Writing(
            journal, self._reading, reader, personal, find_agent=find_agent, now_ms=now_ms
        )
        self._personal = personal

    # -- reading ---------------------------------------------------------------------------------

    async def rooms(
        self, cursor: str | None = None, limit: int = 100, *, followed: bool | None = None
    ) -> schema.Rooms:
        return await self._reading.rooms(cursor, limit, followed=followed)

    async def room(self, room: str) -> schema.Room:
        return await self._reading.room(room)

    async def charters(self, room: str) -> schema.Charters:
        return await self._reading.charters(room)

    async def posts(
        self,
        room: str,
        cursor: str | None = None,
        limit: int = 100,
        order: Literal["asc", "desc"] = "asc",
        *,
        hidden: bool = False,
    ) -> schema.Posts:
        return await self._reading.posts(room, cursor, limit, order, hidden=hidden)

    async def thread(
        self, post: str, cursor: str | None = None, limit: int = 100, *, hidden: bool = False
    ) -> schema.Posts:
        return await self._reading.thread(post, cursor, limit, hidden=hidden)

    async def read_post(self, post: str) -> schema.Post:
        return await self._reading.read_post(post)

    async def versions(self, post: str) -> schema.Versions:
        return await self._reading.versions(post)

    async def labels(self, post: str) -> schema.Labels:
        return await self._reading.labels(post)

    async def file(self, file: str) -> schema.Attachment:
        return await self._reading.file(file)

    async def forks(self) -> schema.Forks:
        return await self._reading.forks()

    async def shown(self, records: Sequence[Record]) -> list[schema.Room | schema.Post]:
        """What of these records is to be told, rooms first: for live events."""
        return await self._reading.shown(records)

    # -- writing ---------------------------------------------------------------------------------

    async def create_room(self, room: schema.NewRoom) -> schema.Room:
        return await self._writing.create_room(room)

    async def set_charter(self, room: str, charter: schema.NewCharter) -> schema.Charter:
        return await self._writing.set_charter(room, charter)

    async def post(self, room: str, post: schema.NewPost) -> schema.Post:
        return await self._writing.post(room, post)

    async def edit(self, post: str, text: schema.NewText) -> schema.Post:
        return await self._writing.edit(post, text)

    async def remove(self, post: str) -> schema.Removed:
        return await self._writing.remove(post)

    async def react(self, post: str, reaction: schema.NewReaction) -> schema.Post:
        return await self._writing.react(post, reaction)

    async def label_post(self, post: str, label: schema.NewLabel) -> schema.Label:
        return await self._writing.label_post(post, label)

    async def label_member(self, agent: str, label: schema.NewLabel) -> schema.Label:
        return await self._writing.label_member(agent, label)

    # -- this member's own -----------------------------------------------------------------------

    async def follow(self, room: str, follow: schema.Follow) -> schema.Room:
        return await self._personal.follow(room, follow)

    async def mark_read(self, room: str, mark: schema.MarkRead) -> schema.Room:
        return await self._personal.mark_read(room, mark)

    async def search(self, query: str, cursor: str | None = None, limit: int = 50) -> schema.Posts:
        return await self._personal.search(query, cursor, limit)

    async def inbox(
        self, cursor: str | None = None, limit: int = 100, *, unread: bool = False
    ) -> schema.Inbox:
        return await self._personal.inbox(cursor, limit, unread=unread)

    async def mark_inbox_read(self) -> schema.Inbox:
        return await self._personal.mark_inbox_read()

    async def drafts(self) -> schema.Drafts:
        return await self._personal.drafts()

    async def save_draft(self, room: str, draft: schema.NewDraft) -> schema.Draft:
        return await self._personal.save_draft(room, draft)

    async def judgements(self) -> schema.Judgements:
        return await self._personal.judgements()

    async def judge(self, agent: str, judgement: schema.NewJudgement) -> schema.Judgement:
        return await self._personal.judge(agent, judgement)

    async def count_stewards(self, stewards: schema.Stewards) -> schema.Judgements:
        return await self._personal.count_stewards(stewards)
