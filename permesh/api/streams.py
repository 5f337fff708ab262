"""Answers that take their time: server-sent events, and work that stops when its client leaves.

Owns the disconnect, the keep-alive comment and the end of a stream. Must never know what is
streamed.

Everything of one answer runs in one task, inside one nursery: a generator handed to a framework
would be left suspended, its cancel scopes open, when the client leaves while it is not running.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import TypeVar

import trio
from pydantic import BaseModel
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from permesh.errors import PermeshError

from .problems import explain, problem_response

KEEP_ALIVE_SECONDS = 15.0
KEEP_ALIVE = b": keep-alive\n\n"

Result = TypeVar("Result")


def sse(data: str, event: str | None = None, cursor: str = "") -> bytes:
    """One event; ``data`` is JSON and so without line breaks, as a cursor is."""
    name = f"event: {event}\n" if event else ""
    place = f"id: {cursor}\n" if cursor else ""
    return f"{name}{place}data: {data}\n\n".encode()


def sse_object(shape: BaseModel, event: str | None = None, cursor: str = "") -> bytes:
    return sse(shape.model_dump_json(), event, cursor)


async def while_connected(receive: Receive, work: Callable[[], Awaitable[Result]]) -> Result | None:
    """The work's result; None, with the work cancelled, if the client leaves before its end."""
    result: Result | None = None
    failure: Exception | None = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_cancel_on_disconnect, receive, nursery.cancel_scope)
        try:
            result = await work()
        except Exception as error:
            failure = error  # raised below: a nursery would wrap it in a group
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure
    return result


async def _cancel_on_disconnect(receive: Receive, scope: trio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()


class Writer:
    """Writes events to one client; the response begins with the first of them."""

    def __init__(self, send: Send, headers: list[tuple[bytes, bytes]]) -> None:
        self._send = send
        self._headers = headers
        self._lock = trio.Lock()
        self._wrote_at = trio.current_time()
        self.started = False

    async def write(self, data: bytes) -> None:
        async with self._lock:
            if not self.started:
                self.started = True
                start = {"type": "http.response.start", "status": 200, "headers": self._headers}
                await self._send(start)
            await self._send({"type": "http.response.body", "body": data, "more_body": True})
            self._wrote_at = trio.current_time()

    async def close(self) -> None:
        async with self._lock:
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def keep_alive(self) -> None:
        while True:
            await trio.sleep_until(self._wrote_at + KEEP_ALIVE_SECONDS)
            if trio.current_time() >= self._wrote_at + KEEP_ALIVE_SECONDS:
                await self.write(KEEP_ALIVE)


class EventStream(Response):
    """Runs ``produce`` on a writer; an error before the first event is an ordinary response, one
    after it is the event that ``on_error`` makes of it."""

    media_type = "text/event-stream"

    def __init__(
        self,
        produce: Callable[[Writer], Awaitable[None]],
        on_error: Callable[[PermeshError], bytes],
    ) -> None:
        super().__init__(headers={"Cache-Control": "no-store"})
        del self.headers["content-length"]
        self._produce = produce
        self._on_error = on_error

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_cancel_on_disconnect, receive, nursery.cancel_scope)
            writer = Writer(send, self.raw_headers)
            nursery.start_soon(writer.keep_alive)
            problem = await self._run(writer)
            if writer.started:
                if problem is not None:
                    await writer.write(self._on_error(problem))
                await writer.close()
            elif problem is not None:
                await problem_response(scope["path"], problem)(scope, receive, send)
            nursery.cancel_scope.cancel()

    async def _run(self, writer: Writer) -> PermeshError | None:
        try:
            await self._produce(writer)
        except Exception as error:
            return explain(error)
        return None


class ByteStream(Response):
    """The bytes that ``source`` gives. A failure before the first of them is an ordinary response;
    one after it breaks the connection off, so that nobody takes a part for the whole."""

    media_type = "application/octet-stream"

    def __init__(
        self,
        source: Callable[[], AbstractAsyncContextManager[AsyncIterator[bytes]]],
        headers: dict[str, str],
    ) -> None:
        super().__init__(headers=headers)
        del self.headers["content-length"]
        self._source = source

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        writer = Writer(send, self.raw_headers)

        async def produce() -> bool:
            async with self._source() as chunks:
                async for data in chunks:
                    await writer.write(data)
            return True

        try:
            if await while_connected(receive, produce):
                await writer.close()
        except Exception as error:
            if writer.started:
                raise
            await problem_response(scope["path"], explain(error))(scope, receive, send)
