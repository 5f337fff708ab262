"""What goes over the socket: each request, its deadline, and the reading of each reply.

Owns what a request is made of, and the turning of every failure into a ``PermeshError``. Must
never open a connection.
"""

from __future__ import annotations

import errno
import json
from collections.abc import AsyncIterable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Generic, Literal, Self, TypeVar
from urllib.parse import quote

import httpx
from httpx_sse import ServerSentEvent
from pydantic import BaseModel, ValidationError

from permesh import schema
from permesh.errors import PermeshError

# The daemon answers every call from its own store; what takes longer than this is stuck.
CALL_SECONDS = 30.0
# A file goes out piece by piece, or is fetched from members before its first byte comes.
FILE_SECONDS = 300.0
# The daemon sends a comment every 15 s on a silent stream; four missed ones mean that it is gone.
STREAM_SECONDS = 60.0
PAGE = 100

Order = Literal["asc", "desc"]
RoutePreference = Literal["auto", "local", "mesh"]
Message = dict[str, str]
Shape = TypeVar("Shape", bound=BaseModel)


class Event(tuple[str, BaseModel]):
    """A name and its object. ``cursor`` says where `events` can go on after it; most have none."""

    cursor: str

    def __new__(cls, name: str, data: BaseModel, cursor: str = "") -> Self:
        made = super().__new__(cls, (name, data))
        made.cursor = cursor
        return made


class Request:
    """The arguments that ``request`` and ``stream`` of httpx take alike."""

    def __init__(
        self,
        method: str,
        path: str,
        *,
        params: dict[str, str | int] | None = None,
        body: dict[str, Any] | None = None,
        content: Iterable[bytes] | AsyncIterable[bytes] | None = None,
        seconds: float = CALL_SECONDS,
        headers: dict[str, str] | None = None,
    ) -> None:
        self.arguments: dict[str, Any] = {
            "method": method,
            "url": path,
            "params": params,
            "json": body,
            "content": content,
            "timeout": httpx.Timeout(CALL_SECONDS, read=seconds),
            "headers": headers,
        }


class Call(Request, Generic[Shape]):
    """A request that is answered by one object."""

    def __init__(self, shape: type[Shape], method: str, path: str, **more: Any) -> None:
        super().__init__(method, path, **more)
        self.shape = shape


def get(shape: type[Shape], path: str) -> Call[Shape]:
    return Call(shape, "GET", path)


def send(
    shape: type[Shape], method: str, path: str, body: dict[str, Any] | None = None
) -> Call[Shape]:
    return Call(shape, method, path, body=body)


def page(
    shape: type[Shape], path: str, cursor: str | None, limit: int, **more: str | bool
) -> Call[Shape]:
    params: dict[str, str | int] = {"limit": limit, **more}
    if cursor is not None:
        params["cursor"] = cursor
    return Call(shape, "GET", path, params=params)


def body_of(shape: BaseModel) -> dict[str, Any]:
    return shape.model_dump(mode="json")


def segment(name: str) -> str:
    """A name as one segment of a path; raises ``name.invalid`` for what cannot be one."""
    if not name or "/" in name or name in (".", ".."):
        raise PermeshError(
            "name.invalid",
            f"'{name[:64]}' is not the name or id of anything.",
            "Names and ids are not empty and have no slash.",
        )
    return quote(name, safe="")


def stream_of(
    method: str,
    path: str,
    body: dict[str, Any] | None = None,
    params: dict[str, str | int] | None = None,
) -> Request:
    headers = {"Accept": "text/event-stream", "Cache-Control": "no-store"}
    return Request(method, path, params=params, body=body, seconds=STREAM_SECONDS, headers=headers)


def events(after: str | None) -> Request:
    return stream_of("GET", "/events", params=None if after is None else {"after": after})


def put_file(chunks: Iterable[bytes] | AsyncIterable[bytes]) -> Call[schema.Stored]:
    return Call(
        schema.Stored,
        "POST",
        "/attachments",
        content=chunks,
        seconds=FILE_SECONDS,
        headers={"Content-Type": "application/octet-stream"},
    )


def open_file(file_hash: str) -> Request:
    return Request("GET", f"/attachments/{segment(file_hash)}", seconds=FILE_SECONDS)


def chat(
    model: str,
    messages: Sequence[Message],
    max_tokens: int | None,
    temperature: float | None,
    top_p: float | None,
    seed: int | None,
    stop: Sequence[str],
    route: RoutePreference,
) -> Request:
    body = {
        "model": model,
        "messages": list(messages),
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": max_tokens,
        "temperature": temperature,
        "top_p": top_p,
        "seed": seed,
        "stop": list(stop) or None,
        "permesh_route": route,
    }
    given = {key: value for key, value in body.items() if value is not None}
    return stream_of("POST", "/v1/chat/completions", given)


def parse(shape: type[Shape], response: httpx.Response) -> Shape:
    raise_for_error(response)
    try:
        return shape.model_validate_json(response.content)
    except ValidationError as error:
        raise _not_understood() from error


def raise_for_error(response: httpx.Response) -> None:
    if response.is_success:
        return
    try:
        body = json.loads(response.content)
    except ValueError as error:
        raise _not_understood() from error
    raise _problem(body, response.status_code)


def _problem(body: Any, http_status: int) -> PermeshError:
    """Permesh's shape of an error and OpenAI's both hold ``code`` and ``message``."""
    problem = body.get("error") if isinstance(body, dict) else None
    if not isinstance(problem, dict) or not isinstance(problem.get("message"), str):
        return _not_understood()
    code, remedy = problem.get("code"), problem.get("remedy")
    remedy = remedy if isinstance(remedy, str) else ""
    return PermeshError(
        code if isinstance(code, str) else "daemon.error",
        problem["message"].removesuffix(remedy).rstrip(),  # OpenAI's shape has both in one
        remedy,
        http_status=http_status,
    )


def read_event(sent: ServerSentEvent) -> Event | None:
    """None for an event that a later release added."""
    try:
        if sent.event == "error":
            raise _problem(json.loads(sent.data), 500)
        shape = schema.EVENT_SHAPES.get(sent.event)
        if shape is None:
            return None
        return Event(sent.event, shape.model_validate_json(sent.data), sent.id)
    except ValueError as error:
        raise _not_understood() from error


def read_delta(data: str) -> schema.Delta:
    try:
        chunk = json.loads(data)
        if "error" in chunk:
            raise _problem(chunk, 500)
        choice = chunk["choices"][0] if chunk["choices"] else {}
        return schema.Delta(
            text=choice.get("delta", {}).get("content") or "",
            finish_reason=choice.get("finish_reason"),
            usage=chunk.get("usage"),
            route=chunk.get("permesh"),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _not_understood() from error


def require_finished(finished: bool) -> None:
    if not finished:
        raise PermeshError(
            "daemon.gone",
            "The daemon went away in the middle of the answer.",
            "Look at the end of daemon.log in the home, start it again, and ask again.",
            http_status=502,
        )


def broken_off() -> PermeshError:
    return PermeshError(
        "attachment.broken_off",
        "The file broke off before its end.",
        "Fetch it again.",
        http_status=502,
    )


@contextmanager
def ended_quietly() -> Iterator[None]:
    """A stream that breaks off has ended: what that means is for its reader to say."""
    try:
        yield
    except (httpx.RemoteProtocolError, httpx.ReadError, httpx.ReadTimeout):
        return


@contextmanager
def explained() -> Iterator[None]:
    """Turn what httpx raises into what a person can act on."""
    try:
        yield
    except httpx.ConnectError as error:
        raise _unreachable(error) from error
    except httpx.TimeoutException as error:
        raise _busy() from error
    except httpx.TransportError as error:
        raise PermeshError(
            "daemon.gone",
            "The daemon closed the connection without an answer.",
            "It may be stopping, or belong to another user; see: permesh doctor",
            http_status=502,
        ) from error


def _unreachable(error: BaseException) -> PermeshError:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in (errno.EACCES, errno.EPERM):
            return PermeshError(
                "daemon.forbidden",
                "The daemon's socket belongs to another user.",
                "Run this as the user who started it, or choose a home: permesh --home DIR COMMAND",
            )
        if isinstance(cause, OSError) and cause.errno == errno.EAGAIN:
            return _busy()
        cause = cause.__cause__ or cause.__context__
    return PermeshError(
        "daemon.absent", "No daemon is running on this home.", "Start one with: permesh daemon"
    )


def _busy() -> PermeshError:
    return PermeshError(
        "daemon.slow",
        "The daemon did not answer in time.",
        "See what it is doing in daemon.log in the home; start it again if it is stuck.",
        http_status=504,
    )


def _not_understood() -> PermeshError:
    return PermeshError(
        "daemon.not_understood",
        "The daemon's reply has a shape that this release does not know.",
        "Restart the daemon, so that it runs the same release as this command.",
        http_status=502,
    )
