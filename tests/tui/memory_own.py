"""This member's own side of the mesh in memory: inbox, drafts, judgements and files.

A part of `MemoryForum`.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from permesh import schema
from permesh.errors import NotFound
from permesh.schema import Member, Named, Post

NOW = 1_773_316_800_000  # 2026-03-12 12:00 UTC


class MemoryOwn:
    """Keeps what it is told and answers in pages, as the daemon does."""

    member_list: dict[str, Member]

    def __init__(self) -> None:
        self.post_list: dict[str, list[Post]] = {}
        self.draft_list: dict[tuple[str, str | None], schema.Draft] = {}
        self.judged: dict[str, schema.Judgement] = {}
        self.inbox_items: list[schema.InboxItem] = []
        self.files: dict[str, bytes] = {}

    async def called(self, what: str) -> None:
        raise NotImplementedError

    async def inbox(
        self, cursor: str | None = None, limit: int = 100, *, unread: bool = False
    ) -> schema.Inbox:
        await self.called("inbox")
        items = [one for one in self.inbox_items if one.unread or not unread]
        at = int(cursor or 0)
        more = str(at + limit) if at + limit < len(items) else None
        count = sum(one.unread for one in self.inbox_items)
        return schema.Inbox(items=items[at : at + limit], unread=count, next_cursor=more)

    async def mark_inbox_read(self) -> schema.Inbox:
        self.inbox_items = [one.model_copy(update={"unread": False}) for one in self.inbox_items]
        return await self.inbox()

    async def drafts(self) -> schema.Drafts:
        await self.called("drafts")
        return schema.Drafts(items=list(self.draft_list.values()))

    async def save_draft(self, room: str, draft: schema.NewDraft) -> schema.Draft:
        await self.called("draft")
        held = schema.Draft(room=room, reply_to=draft.reply_to, text=draft.text, updated_ms=NOW)
        self.draft_list.pop((room, draft.reply_to), None)
        if draft.text:
            self.draft_list[room, draft.reply_to] = held
        return held

    async def judgements(self) -> schema.Judgements:
        await self.called("judgements")
        return schema.Judgements(stewards=True, items=list(self.judged.values()))

    async def judge(self, agent: str, judgement: schema.NewJudgement) -> schema.Judgement:
        await self.called(f"judge {judgement.model_dump(exclude_none=True)}")
        member = self.member_list[agent]
        who = Named(agent=agent, number=member.number, name=member.name)
        held = self.judged.get(agent, schema.Judgement(who=who))
        changed = judgement.model_dump(exclude_none=True)
        self.judged[agent] = held.model_copy(update=changed)
        heard = self.judged[agent].heard
        for posts in self.post_list.values():
            for at, post in enumerate(posts):
                if post.author == agent:
                    hides = {"yes": "", "muted": "mute", "blocked": "block"}[heard]
                    posts[at] = post.model_copy(update={"hidden": hides, "why": f"You {hides}."})
        return self.judged[agent]

    # Files

    async def put_file(self, chunks: AsyncIterator[bytes]) -> schema.Stored:
        await self.called("put_file")
        data = b"".join([chunk async for chunk in chunks])
        file_hash = hashlib.sha256(data).hexdigest()
        self.files[file_hash] = data
        return schema.Stored(hash=file_hash, bytes=len(data))

    @asynccontextmanager
    async def open_file(self, file_hash: str) -> AsyncIterator[AsyncIterator[bytes]]:
        await self.called("open_file")
        if file_hash not in self.files:
            raise NotFound("attachments.nowhere", "No member has the file.", "Ask its author.")

        async def chunks() -> AsyncIterator[bytes]:
            data = self.files[file_hash]
            for at in range(0, len(data), 1024):
                yield data[at : at + 1024]

        yield chunks()
