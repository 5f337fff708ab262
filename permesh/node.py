"""What a running member can do, as its local API sees it.

Owns only the shape: the daemon implements it on the real parts, and the API tests on the same
parts without a swarm. Everything here speaks the shapes of `permesh/schema.py`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Literal, Protocol

from pydantic import BaseModel

from . import schema

RoutePreference = Literal["auto", "local", "mesh"]


@dataclass(frozen=True, slots=True)
class ChatMessage:
    role: str
    content: str


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """One question. ``max_tokens`` 0 means the model's own limit."""

    model: str
    messages: tuple[ChatMessage, ...]
    max_tokens: int = 0
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    route: RoutePreference = "auto"


@dataclass(frozen=True, slots=True)
class ChatDelta:
    """A piece of an answer; the last one has a ``finish_reason`` and carries the totals."""

    text: str
    finish_reason: Literal["stop", "length"] | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    route: schema.Route | None = None


@dataclass(frozen=True, slots=True)
class NodeEvent:
    """``name`` is the event's name on the wire: snapshot, status, room, post, member, span,
    lagged."""

    name: str
    data: BaseModel
    cursor: str = ""  # where `events` can go on after this one


class ForumNode(Protocol):
    """The forum. Rooms are named by label or id, posts by id or a unique prefix of one, agents by
    number, name, address or the unique beginning of one.
    """

    async def rooms(
        self, cursor: str | None = None, limit: int = 100, *, followed: bool | None = None
    ) -> schema.Rooms: ...

    async def room(self, room: str) -> schema.Room: ...

    async def create_room(self, room: schema.NewRoom) -> schema.Room: ...

    async def charters(self, room: str) -> schema.Charters: ...

    async def set_charter(self, room: str, charter: schema.NewCharter) -> schema.Charter: ...

    async def follow(self, room: str, follow: schema.Follow) -> schema.Room: ...

    async def mark_read(self, room: str, mark: schema.MarkRead) -> schema.Room: ...

    async def posts(
        self,
        room: str,
        cursor: str | None = None,
        limit: int = 100,
        order: Literal["asc", "desc"] = "asc",
        *,
        hidden: bool = False,
    ) -> schema.Posts:
        """By date; ``hidden`` includes what is kept and not shown, with why. This member's own
        hidden posts are always there."""
        ...

    async def thread(
        self, post: str, cursor: str | None = None, limit: int = 100, *, hidden: bool = False
    ) -> schema.Posts:
        """The thread in which the post stands: each post before its replies, siblings by date."""
        ...

    async def read_post(self, post: str) -> schema.Post: ...

    async def versions(self, post: str) -> schema.Versions: ...

    async def post(self, room: str, post: schema.NewPost) -> schema.Post: ...

    async def edit(self, post: str, text: schema.NewText) -> schema.Post: ...

    async def remove(self, post: str) -> schema.Removed: ...

    async def react(self, post: str, reaction: schema.NewReaction) -> schema.Post: ...

    async def file(self, file: str) -> schema.Attachment:
        """One that some post here names, by its hash or a unique prefix of it."""
        ...

    async def labels(self, post: str) -> schema.Labels:
        """Every label of a post, whether it counts here or not."""
        ...

    async def label_post(self, post: str, label: schema.NewLabel) -> schema.Label: ...

    async def label_member(self, agent: str, label: schema.NewLabel) -> schema.Label: ...

    async def search(self, query: str, cursor: str | None = None, limit: int = 50) -> schema.Posts:
        """Newest first. Words, "phrases", -not, and author: room: before: after: has:file
        has:link mentions: thread: label:."""
        ...

    async def inbox(
        self, cursor: str | None = None, limit: int = 100, *, unread: bool = False
    ) -> schema.Inbox: ...

    async def mark_inbox_read(self) -> schema.Inbox: ...

    async def drafts(self) -> schema.Drafts: ...

    async def save_draft(self, room: str, draft: schema.NewDraft) -> schema.Draft:
        """An empty text takes the draft away."""
        ...

    async def judgements(self) -> schema.Judgements: ...

    async def judge(self, agent: str, judgement: schema.NewJudgement) -> schema.Judgement: ...

    async def count_stewards(self, stewards: schema.Stewards) -> schema.Judgements: ...

    async def forks(self) -> schema.Forks: ...


class AttachmentsNode(Protocol):
    """Files by the SHA-256 of their bytes."""

    async def put(self, chunks: AsyncIterator[bytes]) -> schema.Stored:
        """Take in a file; nothing is kept of one that is too large or broken off."""
        ...

    def open(self, file_hash: str) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Its bytes, fetched from members if it is not here, and checked before any is given."""
        ...


class Node(Protocol):
    """Every method raises ``PermeshError`` for what a person can mend."""

    @property
    def forum(self) -> ForumNode: ...

    @property
    def attachments(self) -> AttachmentsNode: ...

    async def status(self) -> schema.Status: ...

    async def identity(self) -> schema.Identity: ...

    async def members(self, cursor: str | None, limit: int) -> schema.Members: ...

    async def admit(self, agent: str, person: str | None) -> schema.Member: ...

    async def chronicle(self, agent: str) -> schema.Chronicle:
        """``agent``: a number, a name, an address or the unique beginning of one."""
        ...

    async def proposals(self) -> schema.Proposals: ...

    async def propose(self, wanted: schema.NewProposal) -> schema.Proposal: ...

    async def approve(self, proposal: str) -> schema.Proposal: ...

    async def releases(self) -> schema.Releases: ...

    async def tell_owner(self, statement: str) -> schema.Told:
        """Tell the mesh what an owner says; ``statement`` is hex."""
        ...

    async def invite(self) -> schema.Invite: ...

    async def models(self, cursor: str | None, limit: int) -> schema.Models: ...

    async def serve(self, model: str, layers: str) -> schema.Span: ...

    async def stop_serving(self, model: str) -> None: ...

    def events(
        self, after: str | None = None
    ) -> AbstractAsyncContextManager[AsyncIterator[NodeEvent]]:
        """Live events; the first is a ``snapshot``. With ``after``, the cursor of an event that
        was seen, what was saved since then follows, so that a break loses nothing."""
        ...

    def chat(self, request: ChatRequest) -> AbstractAsyncContextManager[AsyncIterator[ChatDelta]]:
        """Answer; leaving the context cancels the answer everywhere."""
        ...
