"""What every request must pass before the application sees it.

Owns the refusal of browsers and the limits on bodies. Must never know a path's meaning.
"""

from __future__ import annotations

import re
from collections.abc import Collection

import trio
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from permesh.errors import PermeshError

from .problems import problem_response

# A post is at most 32 KiB; a long conversation for a model is the largest body.
MAX_BODY_BYTES = 1024 * 1024
BODY_SECONDS = 30.0
# A file, which the application reads as it comes; between two pieces, BODY_SECONDS.
STREAM_SECONDS = 600.0
MAX_DEPTH = 64  # levels of JSON; a chat request has four

_STRINGS = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
_NO_BRACKETS = bytes(byte for byte in range(256) if byte not in b"[]{}")


class Guard:
    """Reads each body whole, within its limits, and hands it on in one piece; a body for one of
    the ``streamed`` paths is handed on as it comes, and how long it may be is for its reader.

    An application that answers without reading the body would leave hypercorn's queue full and
    its connection stuck, so nothing gets past here unread.
    """

    def __init__(self, app: ASGIApp, streamed: Collection[str] = ()) -> None:
        self._app = app
        self._streamed = streamed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] == "http" and scope["path"] in self._streamed:
            await self._stream(scope, receive, send)
            return
        try:
            body = await _read_body(receive)
            _refuse_browsers(scope)
            _refuse_depth(body or b"")
        except PermeshError as error:
            await _answer_while_draining(scope, receive, send, error)
            return
        if body is not None:
            await self._app(scope, _replay(body, receive), send)

    async def _stream(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = _StreamedBody(receive, trio.current_time() + STREAM_SECONDS)

        async def send_while_draining(message: Message) -> None:
            if not body.over:
                body.over = True
                nursery.start_soon(_drain, receive)
            await send(message)

        try:
            _refuse_browsers(scope)
        except PermeshError as error:
            await _answer_while_draining(scope, receive, send, error)
            return
        async with trio.open_nursery() as nursery:
            failure: Exception | None = None
            try:
                await self._app(scope, body.receive, send_while_draining)
            except Exception as error:
                failure = error  # raised below: a nursery would wrap it in a group
            nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure


class _StreamedBody:
    """A body that is handed on as it comes, unless it stalls."""

    def __init__(self, receive: Receive, deadline: float) -> None:
        self._receive = receive
        self._deadline = deadline
        self.over = False  # whether all of it was read, or nobody will

    async def receive(self) -> Message:
        if self.over:
            return await self._receive()
        until = min(self._deadline, trio.current_time() + BODY_SECONDS)
        with trio.move_on_at(until):
            message = await self._receive()
            self.over = not message.get("more_body", False)
            return message
        raise _slow()


def _refuse_browsers(scope: Scope) -> None:
    """A web page cannot reach a Unix socket; if one does, through some bridge, it ends here."""
    if any(name == b"origin" for name, _ in scope["headers"]):
        raise PermeshError(
            "request.origin",
            "Requests from web pages are refused.",
            "Speak to the socket from a program, without an Origin header.",
            http_status=403,
        )


def _refuse_depth(body: bytes) -> None:
    """Python's JSON parser recurses in C and relies on the interpreter's recursion limit, which a
    library may have raised (py_ecc does, to 100,000): a body of brackets then ends the process."""
    depth = 0
    for bracket in _STRINGS.sub(b"", body).translate(None, _NO_BRACKETS):
        depth += 1 if bracket in b"[{" else -1
        if depth > MAX_DEPTH:
            raise PermeshError(
                "request.too_deep",
                f"The request's JSON is nested over {MAX_DEPTH} levels.",
                "The schema is at /openapi.json.",
            )


async def _read_body(receive: Receive) -> bytes | None:
    """None when the client left before the end."""
    body = bytearray()
    with trio.move_on_after(BODY_SECONDS):
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            body += message.get("body", b"")
            if len(body) > MAX_BODY_BYTES:
                raise PermeshError(
                    "request.too_long",
                    f"The request's body is over {MAX_BODY_BYTES} bytes (1 MiB).",
                    "Send less at once.",
                    http_status=413,
                )
            if not message.get("more_body", False):
                return bytes(body)
    raise _slow()


def _slow() -> PermeshError:
    return PermeshError(
        "request.slow",
        f"The request's body did not come within {BODY_SECONDS:.0f} s.",
        "Send it at once.",
        http_status=408,
    )


async def _drain(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _answer_while_draining(
    scope: Scope, receive: Receive, send: Send, error: PermeshError
) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_drain, receive)
        await problem_response(scope["path"], error)(scope, receive, send)
        nursery.cancel_scope.cancel()


def _replay(body: bytes, receive: Receive) -> Receive:
    unread = True

    async def replay() -> Message:
        nonlocal unread
        if unread:
            unread = False
            return {"type": "http.request", "body": body, "more_body": False}
        return await receive()

    return replay
