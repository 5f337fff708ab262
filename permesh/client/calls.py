"""What goes over the socket: each request, its deadline, and the reading of each reply.

Owns the paths and bodies of the local API as a client sends them, and the turning of every
failure into a ``PermeshError``. Must never open a connection.
"""

from __future__ import annotations

import errno
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal, TypeVar
from urllib.parse import quote

import httpx
from httpx_sse import ServerSentEvent
from pydantic import BaseModel, ValidationError

from permesh import schema
from permesh.errors import PermeshError

# The daemon answers every call from its own store; what takes longer than this is stuck.
CALL_SECONDS = 30.0
# Serving loads weights and tests them against the whole model first.
SERVE_SECONDS = 900.0
# The daemon sends a comment every 15 s on a silent stream; four missed ones mean that it is gone.
STREAM_SECONDS = 60.0
PAGE = 100

Order = Literal["asc", "desc"]
RoutePreference = Literal["auto", "local", "mesh"]
Event = tuple[str, BaseModel]
Message = dict[str, str]
Shape = TypeVar("Shape", bound=BaseModel)


class Call:
    """One request: the arguments that ``request`` and ``stream`` of httpx take alike."""

    def __init__(
        self,
        method: str,
        path: str,
        *,
        params: dict[str, str | int] | None = None,
        body: dict[str, Any] | None = None,
        seconds: float = CALL_SECONDS,
        headers: dict[str, str] | None = None,
    ) -> None:
        self.arguments: dict[str, Any] = {
            "method": method,
            "url": path,
            "params": params,
            "json": body,
            "timeout": httpx.Timeout(CALL_SECONDS, read=seconds),
            "headers": headers,
        }


def get(path: str) -> Call:
    return Call("GET", path)


def send(path: str, body: dict[str, Any] | None = None) -> Call:
    return Call("POST", path, body=body)


def page(path: str, cursor: str | None, limit: int, **more: str) -> Call:
    params: dict[str, str | int] = {"limit": limit, **more}
    if cursor is not None:
        params["cursor"] = cursor
    return Call("GET", path, params=params)


def _segment(name: str) -> str:
    return quote(name, safe="")


def admit(agent: str, person: str | None) -> Call:
    return send(f"/members/{_segment(agent)}/admit", {"person": person})


def chronicle(agent: str) -> Call:
    return get(f"/members/{_segment(agent)}/chronicle")


def approve(proposal: str) -> Call:
    return send(f"/proposals/{_segment(proposal)}/approve")


def create_room(name: str, purpose: str) -> Call:
    return send("/rooms", {"name": name, "purpose": purpose})


def posts(room: str, cursor: str | None, limit: int, order: Order) -> Call:
    return page(f"/rooms/{_segment(room)}/posts", cursor, limit, order=order)


def new_post(room: str, text: str, reply_to: str | None) -> Call:
    return send(f"/rooms/{_segment(room)}/posts", {"text": text, "reply_to": reply_to})


def serve(name: str, layers: str) -> Call:
    path = f"/models/{_segment(name)}/serve"
    return Call("POST", path, body={"layers": layers}, seconds=SERVE_SECONDS)


def stop_serving(name: str) -> Call:
    return Call("DELETE", f"/models/{_segment(name)}/serve")


def stream_of(method: str, path: str, body: dict[str, Any] | None = None) -> Call:
    headers = {"Accept": "text/event-stream", "Cache-Control": "no-store"}
    return Call(method, path, body=body, seconds=STREAM_SECONDS, headers=headers)


def chat(
    model: str,
    messages: Sequence[Message],
    max_tokens: int | None,
    temperature: float | None,
    top_p: float | None,
    seed: int | None,
    stop: Sequence[str],
    route: RoutePreference,
) -> Call:
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
        return None if shape is None else (sent.event, shape.model_validate_json(sent.data))
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
                "Run this as the user who started the daemon, or choose a home with --home.",
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
