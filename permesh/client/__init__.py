"""A member's own daemon, spoken to over its Unix socket: for the CLI, the TUI and other faces.

Owns the two clients, which have the same methods: ``Client`` blocks, ``AsyncClient`` runs under
asyncio (and under trio). Every failure is a ``PermeshError`` that says what to do. Must never know
how an answer is shown, and never imports the daemon.

A client may be shared by tasks; close it, or use it in a ``with`` block.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Self

import httpx
from httpx_sse import EventSource

from permesh import schema
from permesh.config import Home

from . import calls
from .calls import PAGE, Event, Message, Order, RoutePreference, Shape

__all__ = ["AsyncClient", "Client", "Event", "Message", "Order", "RoutePreference"]

_BASE = "http://permesh"
# There is no TLS on a Unix socket; httpx would read all the system's certificates for it (80 ms).
_NO_TLS = False


class Client:
    """Blocking client of the daemon behind ``socket`` (`Home.socket`)."""

    def __init__(self, socket: Path) -> None:
        Home(socket.parent).check_socket_path()
        self._http = httpx.Client(
            transport=httpx.HTTPTransport(uds=str(socket), verify=_NO_TLS),
            base_url=_BASE,
            timeout=calls.CALL_SECONDS,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def _call(self, shape: type[Shape], request: calls.Call) -> Shape:
        with calls.explained():
            return calls.parse(shape, self._http.request(**request.arguments))

    def status(self) -> schema.Status:
        return self._call(schema.Status, calls.get("/status"))

    def identity(self) -> schema.Identity:
        return self._call(schema.Identity, calls.get("/identity"))

    def members(self, cursor: str | None = None, limit: int = PAGE) -> schema.Members:
        return self._call(schema.Members, calls.page("/members", cursor, limit))

    def admit(self, agent: str, person: str | None = None) -> schema.Member:
        """``agent``: an address, a unique prefix of one, a name, or an AGT number."""
        return self._call(schema.Member, calls.admit(agent, person))

    def chronicle(self, agent: str) -> schema.Chronicle:
        """``agent``: an address, a unique prefix of one, a name, or an AGT number."""
        return self._call(schema.Chronicle, calls.chronicle(agent))

    def proposals(self) -> schema.Proposals:
        return self._call(schema.Proposals, calls.get("/proposals"))

    def propose(self, wanted: schema.NewProposal) -> schema.Proposal:
        return self._call(schema.Proposal, calls.send("/proposals", wanted.model_dump()))

    def approve(self, proposal: str) -> schema.Proposal:
        """``proposal``: its id, or a unique beginning of it."""
        return self._call(schema.Proposal, calls.approve(proposal))

    def releases(self) -> schema.Releases:
        return self._call(schema.Releases, calls.get("/releases"))

    def tell_owner(self, statement: str) -> schema.Told:
        """``statement``: an owner's, as canonical bytes in hex."""
        return self._call(schema.Told, calls.send("/owner", {"statement": statement}))

    def invite(self) -> schema.Invite:
        return self._call(schema.Invite, calls.send("/mesh/invite"))

    def rooms(self, cursor: str | None = None, limit: int = PAGE) -> schema.Rooms:
        return self._call(schema.Rooms, calls.page("/rooms", cursor, limit))

    def create_room(self, name: str, purpose: str = "") -> schema.Room:
        return self._call(schema.Room, calls.create_room(name, purpose))

    def posts(
        self, room: str, cursor: str | None = None, limit: int = PAGE, order: Order = "asc"
    ) -> schema.Posts:
        return self._call(schema.Posts, calls.posts(room, cursor, limit, order))

    def post(self, room: str, text: str, reply_to: str | None = None) -> schema.Post:
        return self._call(schema.Post, calls.new_post(room, text, reply_to))

    def models(self, cursor: str | None = None, limit: int = PAGE) -> schema.Models:
        return self._call(schema.Models, calls.page("/models", cursor, limit))

    def serve(self, name: str, layers: str = "") -> schema.Span:
        return self._call(schema.Span, calls.serve(name, layers))

    def stop_serving(self, name: str) -> None:
        with calls.explained():
            calls.raise_for_error(self._http.request(**calls.stop_serving(name).arguments))

    def events(self) -> Generator[Event, None, None]:
        """``(name, object)`` pairs, a snapshot first; ends when the daemon closes the stream."""
        with self._stream(calls.stream_of("GET", "/events")) as source:
            for sent in source.iter_sse():
                event = calls.read_event(sent)
                if event is not None:
                    yield event

    def chat(
        self,
        model: str,
        messages: Sequence[Message],
        *,
        max_tokens: int | None = None,
        temperature: float | None = None,
        top_p: float | None = None,
        seed: int | None = None,
        stop: Sequence[str] = (),
        route: RoutePreference = "auto",
    ) -> Generator[schema.Delta, None, None]:
        """The answer as it comes; closing the iterator cancels it everywhere.

        Messages are ``{"role": ..., "content": ...}``. The last deltas carry the finish reason,
        the usage and the route.
        """
        call = calls.chat(model, messages, max_tokens, temperature, top_p, seed, stop, route)
        finished = False
        with self._stream(call) as source:
            for sent in source.iter_sse():
                if sent.data == "[DONE]":
                    return
                delta = calls.read_delta(sent.data)
                finished = finished or delta.finish_reason is not None
                yield delta
        calls.require_finished(finished)

    @contextmanager
    def _stream(self, call: calls.Call) -> Iterator[EventSource]:
        with calls.explained(), self._http.stream(**call.arguments) as response:
            if not response.is_success:
                response.read()
                calls.raise_for_error(response)
            with calls.ended_quietly():
                yield EventSource(response)


class AsyncClient:
    """``Client`` for asyncio: the same methods, awaited."""

    def __init__(self, socket: Path) -> None:
        Home(socket.parent).check_socket_path()
        self._http = httpx.AsyncClient(
            transport=httpx.AsyncHTTPTransport(uds=str(socket), verify=_NO_TLS),
            base_url=_BASE,
            timeout=calls.CALL_SECONDS,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        await self._http.aclose()

    async def _call(self, shape: type[Shape], request: calls.Call) -> Shape:
        with calls.explained():
            return calls.parse(shape, await self._http.request(**request.arguments))

    async def status(self) -> schema.Status:
        return await self._call(schema.Status, calls.get("/status"))

    async def identity(self) -> schema.Identity:
        return await self._call(schema.Identity, calls.get("/identity"))

    async def members(self, cursor: str | None = None, limit: int = PAGE) -> schema.Members:
        return await self._call(schema.Members, calls.page("/members", cursor, limit))

    async def admit(self, agent: str, person: str | None = None) -> schema.Member:
        """``agent``: an address, a unique prefix of one, a name, or an AGT number."""
        return await self._call(schema.Member, calls.admit(agent, person))

    async def chronicle(self, agent: str) -> schema.Chronicle:
        return await self._call(schema.Chronicle, calls.chronicle(agent))

    async def proposals(self) -> schema.Proposals:
        return await self._call(schema.Proposals, calls.get("/proposals"))

    async def propose(self, wanted: schema.NewProposal) -> schema.Proposal:
        return await self._call(schema.Proposal, calls.send("/proposals", wanted.model_dump()))

    async def approve(self, proposal: str) -> schema.Proposal:
        """``proposal``: its id, or a unique beginning of it."""
        return await self._call(schema.Proposal, calls.approve(proposal))

    async def releases(self) -> schema.Releases:
        return await self._call(schema.Releases, calls.get("/releases"))

    async def tell_owner(self, statement: str) -> schema.Told:
        """``statement``: an owner's, as canonical bytes in hex."""
        return await self._call(schema.Told, calls.send("/owner", {"statement": statement}))

    async def invite(self) -> schema.Invite:
        return await self._call(schema.Invite, calls.send("/mesh/invite"))

    async def rooms(self, cursor: str | None = None, limit: int = PAGE) -> schema.Rooms:
        return await self._call(schema.Rooms, calls.page("/rooms", cursor, limit))

    async def create_room(self, name: str, purpose: str = "") -> schema.Room:
        return await self._call(schema.Room, calls.create_room(name, purpose))

    async def posts(
        self, room: str, cursor: str | None = None, limit: int = PAGE, order: Order = "asc"
    ) -> schema.Posts:
        return await self._call(schema.Posts, calls.posts(room, cursor, limit, order))

    async def post(self, room: str, text: str, reply_to: str | None = None) -> schema.Post:
        return await self._call(schema.Post, calls.new_post(room, text, reply_to))

    async def models(self, cursor: str | None = None, limit: int = PAGE) -> schema.Models:
        return await self._call(schema.Models, calls.page("/models", cursor, limit))

    async def serve(self, name: str, layers: str = "") -> schema.Span:
        return await self._call(schema.Span, calls.serve(name, layers))

    async def stop_serving(self, name: str) -> None:
        with calls.explained():
            calls.raise_for_error(await self._http.request(**calls.stop_serving(name).arguments))

    async def events(self) -> AsyncGenerator[Event, None]:
        """``(name, object)`` pairs, a snapshot first; ends when the daemon closes the stream."""
        async with self._stream(calls.stream_of("GET", "/events")) as source:
            async for sent in source.aiter_sse():
                event = calls.read_event(sent)
                if event is not None:
                    yield event

    async def chat(
        self,
        model: str,
        messages: Sequence[Message],
        *,
        max_tokens: int | None = None,
        temperature: float | None = None,
        top_p: float | None = None,
        seed: int | None = None,
        stop: Sequence[str] = (),
        route: RoutePreference = "auto",
    ) -> AsyncGenerator[schema.Delta, None]:
        """The answer as it comes; see ``Client.chat``."""
        call = calls.chat(model, messages, max_tokens, temperature, top_p, seed, stop, route)
        finished = False
        async with self._stream(call) as source:
            async for sent in source.aiter_sse():
                if sent.data == "[DONE]":
                    return
                delta = calls.read_delta(sent.data)
                finished = finished or delta.finish_reason is not None
                yield delta
        calls.require_finished(finished)

    @asynccontextmanager
    async def _stream(self, call: calls.Call) -> AsyncIterator[EventSource]:
        with calls.explained():
            async with self._http.stream(**call.arguments) as response:
                if not response.is_success:
                    await response.aread()
                    calls.raise_for_error(response)
                with calls.ended_quietly():
                    yield EventSource(response)
