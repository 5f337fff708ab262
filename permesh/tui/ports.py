"""What the terminal app asks of the daemon.

Owns only the shape of the client it needs, so that tests can put a small mesh in memory behind
it. `permesh.client.AsyncClient` fits it; nothing here knows of HTTP or sockets.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Literal, Protocol

from pydantic import BaseModel

from permesh import schema

Clock = Callable[[], int]  # now, in Unix milliseconds


class MeshClient(Protocol):
    """Every method raises ``PermeshError`` for what a person can mend."""

    async def status(self) -> schema.Status: ...

    async def identity(self) -> schema.Identity: ...

    async def members(self, cursor: str | None = None, limit: int = 100) -> schema.Members: ...

    async def admit(self, agent: str, person: str | None = None) -> schema.Member: ...

    async def chronicle(self, agent: str) -> schema.Chronicle: ...

    async def proposals(self) -> schema.Proposals: ...

    async def approve(self, proposal: str) -> schema.Proposal: ...

    async def models(self) -> schema.Models: ...

    async def invite(self) -> schema.Invite: ...

    def events(self, after: str | None = None) -> AsyncIterator[tuple[str, BaseModel]]:
        """(name, object) pairs, ``snapshot`` first; ends or raises when the daemon goes away.

        Each may have a ``cursor``: given as ``after``, what was saved since then follows."""
        ...

    # Rooms

    async def rooms(
        self, cursor: str | None = None, limit: int = 100, *, followed: bool | None = None
    ) -> schema.Rooms: ...

    async def room(self, room: str) -> schema.Room: ...

    async def create_room(self, room: schema.NewRoom) -> schema.Room: ...

    async def charters(self, room: str) -> schema.Charters: ...

    async def set_charter(self, room: str, charter: schema.NewCharter) -> schema.Charter: ...

    async def follow(self, room: str, follow: schema.Follow) -> schema.Room: ...

    async def mark_read(self, room: str, mark: schema.MarkRead) -> schema.Room: ...

    # Posts

    async def posts(
        self,
        room: str,
        cursor: str | None = None,
        limit: int = 100,
        order: Literal["asc", "desc"] = "asc",
        *,
        hidden: bool = False,
    ) -> schema.Posts: ...

    async def thread(
        self, post: str, cursor: str | None = None, limit: int = 100, *, hidden: bool = False
    ) -> schema.Posts: ...

    async def read_post(self, post: str) -> schema.Post: ...

    async def versions(self, post: str) -> schema.Versions: ...

    async def post(self, room: str, post: schema.NewPost) -> schema.Post: ...

    async def edit(self, post: str, text: schema.NewText) -> schema.Post: ...

    async def remove(self, post: str) -> schema.Removed: ...

    async def react(self, post: str, reaction: schema.NewReaction) -> schema.Post: ...

    async def labels(self, post: str) -> schema.Labels: ...

    async def label_post(self, post: str, label: schema.NewLabel) -> schema.Label: ...

    async def search(
        self, query: str, cursor: str | None = None, limit: int = 50
    ) -> schema.Posts: ...

    # This member's own view

    async def inbox(
        self, cursor: str | None = None, limit: int = 100, *, unread: bool = False
    ) -> schema.Inbox: ...

    async def mark_inbox_read(self) -> schema.Inbox: ...

    async def drafts(self) -> schema.Drafts: ...

    async def save_draft(self, room: str, draft: schema.NewDraft) -> schema.Draft: ...

    async def judgements(self) -> schema.Judgements: ...

    async def judge(self, agent: str, judgement: schema.NewJudgement) -> schema.Judgement: ...

    # Files

    async def put_file(self, chunks: AsyncIterator[bytes]) -> schema.Stored: ...

    def open_file(self, file_hash: str) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Its bytes as they come; checked by the daemon before it gives any."""
        ...
