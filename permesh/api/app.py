"""permesh's own paths on the local API.

Owns the routes and their limits. Each is one call of the ``Node``; must never decide anything.
"""

from __future__ import annotations

import json
from typing import Annotated, Any

from fastapi import APIRouter, FastAPI, Header, Path, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from permesh import __version__, schema
from permesh.errors import PermeshError
from permesh.node import Node

from .forum import ATTACHMENTS, attachment_routes, forum_routes
from .openai import openai_routes
from .pages import DEFAULT_PAGE, Cursor, Limit
from .problems import (
    ANY,
    MAX_ECHO,
    NAMED,
    RATE,
    explain,
    failures,
    internal,
    invalid_request,
    problem_body,
    problem_response,
    problem_schemas,
)
from .streams import EventStream, Writer, sse, sse_object

STREAMED = frozenset({ATTACHMENTS})  # paths whose bodies are read as they come

# FastAPI can export requests, bodies among them, when an environment variable says so.
_NO_TELEMETRY: Any = {  # releases before that take and ignore it
    "tracing": False,
    "metrics": False,
    "logs": False,
    "operation_spans": False,
    "auto_configure": False,
}

Agent = Annotated[str, Path(min_length=1, description="a number, a name, or an address")]
ProposalId = Annotated[str, Path(min_length=1, description="an id, or its beginning")]
ModelName = Annotated[str, Path(min_length=1)]
After = Annotated[
    str | None, Query(max_length=128, description="the `id` of the last event that was seen")
]
LastEventId = Annotated[
    str | None, Header(max_length=128, description="as `after`, which it overrides")
]
_NO_CONTENT: dict[int | str, dict[str, Any]] = {204: {"description": "Done"}}


class _App(FastAPI):
    def openapi(self) -> dict[str, Any]:
        """With our answer to what makes no sense, and not FastAPI's, which is never given."""
        if self.openapi_schema is None:
            made = super().openapi()
            for path in made["paths"].values():
                for operation in path.values():
                    operation["responses"].pop("422", None)
            shapes = made["components"]["schemas"]
            for name in ("HTTPValidationError", "ValidationError"):
                shapes.pop(name, None)
            shapes.update(problem_schemas())
        return super().openapi()


def build_app(node: Node) -> FastAPI:
    app = _App(
        title="permesh",
        version=__version__,
        docs_url=None,  # the interactive pages load scripts from elsewhere
        redoc_url=None,
        telemetry=_NO_TELEMETRY,
    )
    _errors(app)
    router = APIRouter(responses=failures(*ANY))
    _member_routes(router, node)
    _model_routes(router, node)
    _event_route(router, node)
    app.include_router(router)
    app.include_router(forum_routes(node.forum))
    app.include_router(attachment_routes(node.attachments))
    app.include_router(openai_routes(node))
    return app


def _member_routes(router: APIRouter, node: Node) -> None:
    @router.get("/status")
    async def status() -> schema.Status:
        return await node.status()

    @router.get("/identity")
    async def identity() -> schema.Identity:
        return await node.identity()

    @router.get("/members")
    async def members(cursor: Cursor = None, limit: Limit = DEFAULT_PAGE) -> schema.Members:
        return await node.members(cursor, limit)

    @router.post("/members/{agent}/admit", responses=failures(*NAMED))
    async def admit(agent: Agent, admit: schema.Admit | None = None) -> schema.Member:
        return await node.admit(agent, admit.person if admit else None)

    @router.get("/members/{agent}/chronicle", responses=failures(*NAMED))
    async def chronicle(agent: Agent) -> schema.Chronicle:
        return await node.chronicle(agent)

    @router.get("/proposals")
    async def proposals() -> schema.Proposals:
        return await node.proposals()

    @router.post("/proposals", status_code=201, responses=failures(*NAMED))
    async def propose(wanted: schema.NewProposal) -> schema.Proposal:
        return await node.propose(wanted)

    @router.post("/proposals/{proposal}/approve", responses=failures(*NAMED))
    async def approve(proposal: ProposalId) -> schema.Proposal:
        return await node.approve(proposal)

    @router.get("/releases")
    async def releases() -> schema.Releases:
        return await node.releases()

    @router.post("/owner")
    async def owner(says: schema.OwnerSays) -> schema.Told:
        return await node.tell_owner(says.statement)

    @router.post("/mesh/invite")
    async def invite() -> schema.Invite:
        return await node.invite()


def _model_routes(router: APIRouter, node: Node) -> None:
    @router.get("/models")
    async def models(cursor: Cursor = None, limit: Limit = DEFAULT_PAGE) -> schema.Models:
        return await node.models(cursor, limit)

    @router.post("/models/{name:path}/serve", responses=failures(*NAMED, *RATE, 502, 504))
    async def serve(name: ModelName, span: schema.Serve) -> schema.Span:
        return await node.serve(name, span.layers)

    @router.delete(
        "/models/{name:path}/serve",
        status_code=204,
        response_class=Response,
        responses={**_NO_CONTENT, **failures(*NAMED)},
    )
    async def stop_serving(name: ModelName) -> Response:
        await node.stop_serving(name)
        return Response(status_code=204)


def _event_route(router: APIRouter, node: Node) -> None:
    def on_error(error: PermeshError) -> bytes:
        return sse(json.dumps(problem_body(error)), "error")

    description = (
        "Server-sent events: `snapshot` first, then `status`, `room`, `post`, `member`, `span`; "
        "after `lagged`, which means that events were dropped, another `snapshot`. Where an event "
        "has an `id`, a later request may go on after it: what was saved in between follows the "
        "first snapshot, so that a break loses nothing."
    )

    @router.get(
        "/events",
        status_code=200,
        response_class=EventStream,
        description=description,
        responses=failures(409),
    )
    async def events(after: After = None, last_event_id: LastEventId = None) -> Response:
        async def produce(writer: Writer) -> None:
            async with node.events(last_event_id or after or None) as events:
                async for event in events:
                    await writer.write(sse_object(event.data, event.name, event.cursor))

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
        return problem_response(path, problem, error.headers)

    async def unexpected(request: Request, error: Exception) -> Response:
        # What is handled here is raised again by the framework, and logged by the server.
        return problem_response(request.scope["path"], internal(error))

    app.add_exception_handler(PermeshError, refused)
    app.add_exception_handler(ExceptionGroup, refused)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(Exception, unexpected)
