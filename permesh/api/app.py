"""permesh's own paths on the local API.

Owns the routes and their limits. Each is one call of the ``Node``; must never decide anything.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from fastapi import FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from permesh import __version__, schema
from permesh.errors import PermeshError
from permesh.node import Node

from .openai import openai_routes
from .problems import MAX_ECHO, explain, internal, invalid_request, problem_body, problem_response
from .streams import EventStream, Writer, sse, sse_object

MAX_PAGE = 500
DEFAULT_PAGE = 100

# FastAPI can export requests, bodies among them, when an environment variable says so.
_NO_TELEMETRY: Any = {  # releases before that take and ignore it
    "tracing": False,
    "metrics": False,
    "logs": False,
    "operation_spans": False,
    "auto_configure": False,
}

Limit = Annotated[int, Query(ge=1, le=MAX_PAGE)]
Cursor = Annotated[str | None, Query(max_length=512)]
Order = Annotated[Literal["asc", "desc"], Query()]


def build_app(node: Node) -> FastAPI:
    app = FastAPI(
        title="permesh",
        version=__version__,
        docs_url=None,  # the interactive pages load scripts from elsewhere
        redoc_url=None,
        telemetry=_NO_TELEMETRY,
    )
    _errors(app)
    _member_routes(app, node)
    _forum_routes(app, node)
    _model_routes(app, node)
    _event_route(app, node)
    app.include_router(openai_routes(node))
    return app


def _member_routes(app: FastAPI, node: Node) -> None:
    @app.get("/status")
    async def status() -> schema.Status:
        return await node.status()

    @app.get("/identity")
    async def identity() -> schema.Identity:
        return await node.identity()

    @app.get("/members")
    async def members(cursor: Cursor = None, limit: Limit = DEFAULT_PAGE) -> schema.Members:
        return await node.members(cursor, limit)

    @app.post("/members/{agent}/admit")
    async def admit(agent: str, admit: schema.Admit | None = None) -> schema.Member:
        return await node.admit(agent, admit.person if admit else None)

    @app.get("/members/{agent}/chronicle")
    async def chronicle(agent: str) -> schema.Chronicle:
        return await node.chronicle(agent)

    @app.get("/proposals")
    async def proposals() -> schema.Proposals:
        return await node.proposals()

    @app.post("/proposals", status_code=201)
    async def propose(wanted: schema.NewProposal) -> schema.Proposal:
        return await node.propose(wanted)

    @app.post("/proposals/{proposal}/approve")
    async def approve(proposal: str) -> schema.Proposal:
        return await node.approve(proposal)

    @app.get("/releases")
    async def releases() -> schema.Releases:
        return await node.releases()

    @app.post("/owner")
    async def owner(says: schema.OwnerSays) -> schema.Told:
        return await node.tell_owner(says.statement)

    @app.post("/mesh/invite")
    async def invite() -> schema.Invite:
        return await node.invite()


def _forum_routes(app: FastAPI, node: Node) -> None:
    @app.get("/rooms")
    async def rooms(cursor: Cursor = None, limit: Limit = DEFAULT_PAGE) -> schema.Rooms:
        return await node.rooms(cursor, limit)

    @app.post("/rooms", status_code=201)
    async def create_room(room: schema.NewRoom) -> schema.Room:
        return await node.create_room(room)

    @app.get("/rooms/{room:path}/posts")
    async def posts(
        room: str, cursor: Cursor = None, limit: Limit = DEFAULT_PAGE, order: Order = "asc"
    ) -> schema.Posts:
        return await node.posts(room, cursor, limit, order)

    @app.post("/rooms/{room:path}/posts", status_code=201)
    async def post(room: str, post: schema.NewPost) -> schema.Post:
        return await node.post(room, post)


def _model_routes(app: FastAPI, node: Node) -> None:
    @app.get("/models")
    async def models(cursor: Cursor = None, limit: Limit = DEFAULT_PAGE) -> schema.Models:
        return await node.models(cursor, limit)

    @app.post("/models/{name:path}/serve")
    async def serve(name: str, span: schema.Serve) -> schema.Span:
        return await node.serve(name, span.layers)

    @app.delete("/models/{name:path}/serve", status_code=204)
    async def stop_serving(name: str) -> Response:
        await node.stop_serving(name)
        return Response(status_code=204)


def _event_route(app: FastAPI, node: Node) -> None:
    async def produce(writer: Writer) -> None:
        async with node.events() as events:
            async for event in events:
                await writer.write(sse_object(event.data, event.name))

    def on_error(error: PermeshError) -> bytes:
        return sse(json.dumps(problem_body(error)), "error")

    description = (
        "Server-sent events: `snapshot` first, then `status`, `room`, `post`, `member`, `span`; "
        "after `lagged`, which means that events were dropped, another `snapshot`."
    )

    @app.get("/events", status_code=200, response_class=EventStream, description=description)
    async def events() -> Response:
        return EventStream(produce, on_error)


def _errors(app: FastAPI) -> None:
    async def refused(request: Request, error: Exception) -> Response:
        return problem_response(request.scope["path"], explain(error))

    async def invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return problem_response(request.scope["path"], invalid_request(error.errors()))

    async def http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        path = request.scope["path"]
        problem = PermeshError(
            "request.not_found" if error.status_code == 404 else "request.refused",
            f"{request.method} {path[:MAX_ECHO]}: {error.detail}.",
            "The paths are in /openapi.json.",
            http_status=error.status_code,
        )
        return problem_response(path, problem)

    async def unexpected(request: Request, error: Exception) -> Response:
        # What is handled here is raised again by the framework, and logged by the server.
        return problem_response(request.scope["path"], internal(error))

    app.add_exception_handler(PermeshError, refused)
    app.add_exception_handler(ExceptionGroup, refused)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(Exception, unexpected)
