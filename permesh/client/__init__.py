"""A member's own daemon, spoken to over its Unix socket: for the CLI, the TUI and other faces.

Owns the two clients, which have the same methods (most of them in `client/methods.py`): ``Client``
blocks, ``AsyncClient`` runs under asyncio (and under trio). Every failure is a ``PermeshError``
that says what to do. Must never know how an answer is shown, and never imports the daemon.

A client may be shared by tasks; close it, or use it in a ``with`` block.
"""

from __future__ import annotations

from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Generator,
    Iterable,
    Iterator,
    Sequence,
)
from contextlib import aclosing, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Self

import httpx
from httpx_sse import EventSource

from permesh import schema
from permesh.config import Home

from . import calls, member
from .calls import Call, Event, Message, Order, Request, RoutePreference, Shape
from .methods import Methods

__all__ = ["AsyncClient", "Client", "Event", "Message", "Order", "RoutePreference"]

_BASE = "http://permesh"
# There is no TLS on a Unix socket; httpx would read all the system's certificates for it (80 ms).
_NO_TLS = False


class Client(Methods):
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

    def _call(self, call: Call[Shape]) -> Shape:
        with calls.explained():
            return calls.parse(call.shape, self._http.request(**call.arguments))

    def stop_serving(self, name: str) -> None:
        with calls.explained():
            calls.raise_for_error(self._http.request(**member.stop_serving(name).arguments))

    def put_file(self, chunks: Iterable[bytes]) -> schema.Stored:
        """Keep a file at this member, for posts to name by its hash."""
        return self._call(calls.put_file(chunks))

    @contextmanager
    def open_file(self, file_hash: str) -> Iterator[Iterator[bytes]]:
        """Its bytes as they come, fetched from members if it is not here; the daemon has checked
        them. Raises ``attachment.broken_off`` if they end too soon."""
        with self._opened(calls.open_file(file_hash)) as response:
            yield _whole(response.iter_bytes())

    def events(self, after: str | None = None) -> Generator[Event, None, None]:
        """``(name, object)`` pairs, a snapshot first; ends when the daemon closes the stream.

        With ``after``, the last ``cursor`` of an event that was seen, what was saved since then
        follows the snapshot.
        """
        with self._stream(calls.events(after)) as source:
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
    def _opened(self, request: Request) -> Iterator[httpx.Response]:
        with calls.explained(), self._http.stream(**request.arguments) as response:
            if not response.is_success:
                response.read()
                calls.raise_for_error(response)
            yield response

    @contextmanager
    def _stream(self, request: Request) -> Iterator[EventSource]:
        with self._opened(request) as response, calls.ended_quietly():
            yield EventSource(response)


class AsyncClient(Methods):
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

    async def _call(self, call: Call[Shape]) -> Shape:
        with calls.explained():
            return calls.parse(call.shape, await self._http.request(**call.arguments))

    async def stop_serving(self, name: str) -> None:
        with calls.explained():
            calls.raise_for_error(await self._http.request(**member.stop_serving(name).arguments))

    async def put_file(self, chunks: AsyncIterable[bytes]) -> schema.Stored:
        """See ``Client.put_file``."""
        return await self._call(calls.put_file(chunks))

    @asynccontextmanager
    async def open_file(self, file_hash: str) -> AsyncIterator[AsyncIterator[bytes]]:
        """See ``Client.open_file``."""
        async with (
            self._opened(calls.open_file(file_hash)) as response,
            aclosing(_whole_async(response.aiter_bytes())) as chunks,
        ):
            yield chunks

    async def events(self, after: str | None = None) -> AsyncGenerator[Event, None]:
        """See ``Client.events``."""
        async with self._stream(calls.events(after)) as source:
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
    async def _opened(self, request: Request) -> AsyncIterator[httpx.Response]:
        with calls.explained():
            async with self._http.stream(**request.arguments) as response:
                if not response.is_success:
                    await response.aread()
                    calls.raise_for_error(response)
                yield response

    @asynccontextmanager
    async def _stream(self, request: Request) -> AsyncIterator[EventSource]:
        async with self._opened(request) as response:
            with calls.ended_quietly():
                yield EventSource(response)


def _whole(chunks: Iterator[bytes]) -> Iterator[bytes]:
    try:
        yield from chunks
    except (httpx.RemoteProtocolError, httpx.ReadError) as error:
        raise calls.broken_off() from error


async def _whole_async(chunks: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    try:
        async for data in chunks:
            yield data
    except (httpx.RemoteProtocolError, httpx.ReadError) as error:
        raise calls.broken_off() from error
