"""What the terminal app asks of the daemon.

Owns only the shape of the client it needs, so that tests can put a small mesh in memory behind
it. `permesh.client.AsyncClient` fits it; nothing here knows of HTTP or sockets.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from pydantic import BaseModel

from permesh import schema
from permesh.node import ForumNode

Clock = Callable[[], int]  # now, in Unix milliseconds


class MeshClient(ForumNode, Protocol):
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

    # Files

    async def put_file(self, chunks: AsyncIterator[bytes]) -> schema.Stored: ...

    def open_file(self, file_hash: str) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Its bytes as they come; checked by the daemon before it gives any."""
        ...
