"""What the terminal app asks of the daemon.

Owns only the shape of the client it needs, so that tests can put a small mesh in memory behind
it. `permesh.client.AsyncClient` fits it; nothing here knows of HTTP or sockets.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Literal, Protocol

from pydantic import BaseModel

from permesh.schema import (
    Chronicle,
    Identity,
    Invite,
    Member,
    Members,
    Models,
    Post,
    Posts,
    Proposal,
    Proposals,
    Room,
    Rooms,
    Status,
)

Clock = Callable[[], int]  # now, in Unix milliseconds


class MeshClient(Protocol):
    """Every method raises ``PermeshError`` for what a person can mend."""

    async def status(self) -> Status: ...

    async def identity(self) -> Identity: ...

    async def members(self, cursor: str | None = None, limit: int = 100) -> Members: ...

    async def admit(self, agent: str, person: str | None = None) -> Member: ...

    async def chronicle(self, agent: str) -> Chronicle: ...

    async def proposals(self) -> Proposals: ...

    async def approve(self, proposal: str) -> Proposal: ...

    async def rooms(self, cursor: str | None = None, limit: int = 100) -> Rooms: ...

    async def create_room(self, name: str, purpose: str = "") -> Room: ...

    async def posts(
        self,
        room: str,
        cursor: str | None = None,
        limit: int = 50,
        order: Literal["asc", "desc"] = "desc",
    ) -> Posts: ...

    async def post(self, room: str, text: str, reply_to: str | None = None) -> Post: ...

    async def models(self) -> Models: ...

    async def invite(self) -> Invite: ...

    def events(self) -> AsyncIterator[tuple[str, BaseModel]]:
        """(name, object) pairs, ``snapshot`` first; ends or raises when the daemon goes away."""
        ...
