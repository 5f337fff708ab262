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


class Node(Protocol):
    """Every method raises ``PermeshError`` for what a person can mend."""

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

    async def rooms(self, cursor: str | None, limit: int) -> schema.Rooms: ...

    async def create_room(self, room: schema.NewRoom) -> schema.Room: ...

    async def posts(
        self, room: str, cursor: str | None, limit: int, order: Literal["asc", "desc"]
    ) -> schema.Posts: ...

    async def post(self, room: str, post: schema.NewPost) -> schema.Post: ...

    async def models(self, cursor: str | None, limit: int) -> schema.Models: ...

    async def serve(self, model: str, layers: str) -> schema.Span: ...

    async def stop_serving(self, model: str) -> None: ...

    def events(self) -> AbstractAsyncContextManager[AsyncIterator[NodeEvent]]:
        """Live events; the first is a ``snapshot``."""
        ...

    def chat(self, request: ChatRequest) -> AbstractAsyncContextManager[AsyncIterator[ChatDelta]]:
        """Answer; leaving the context cancels the answer everywhere."""
        ...
