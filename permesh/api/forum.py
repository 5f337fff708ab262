"""The forum and its files on the local API.

Owns the routes and their limits. Each is one call of the ``ForumNode`` or the ``AttachmentsNode``;
must never decide anything.
"""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query, Request, Response
from starlette.requests import ClientDisconnect

from permesh import schema
from permesh.node import AttachmentsNode, ForumNode

from .pages import DEFAULT_PAGE, Cursor, Limit
from .problems import ANY, NAMED, RATE, failures
from .streams import ByteStream

ATTACHMENTS = "/attachments"

# A room's name holds no slash, so that whatever follows it in a path is not part of it.
Room = Annotated[str, Path(min_length=1, description="a name, or an id")]
PostId = Annotated[str, Path(min_length=1, description="an id, or its beginning")]
NamedFile = Annotated[str, Path(min_length=1, description="a file's hash, or its beginning")]
Agent = Annotated[str, Path(min_length=1, description="a number, a name, or an address")]
FileHash = Annotated[str, Path(pattern=r"^[0-9a-f]{64}$", description="SHA-256 of its bytes")]
Order = Annotated[Literal["asc", "desc"], Query()]
Hidden = Annotated[bool, Query(description="with posts that are kept and not shown, and why")]
SearchFor = Annotated[
    str,
    Query(
        alias="q",
        max_length=1024,
        description='words, "phrases", -not, and author: room: before: after: has:file has:link '
        "mentions: thread: label:",
    ),
]

_FILE_HEADERS = {
    # Whatever its author calls it, nothing that reads it here may take it for a page.
    "Content-Disposition": "attachment",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}
_BYTES = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}


def forum_routes(forum: ForumNode) -> APIRouter:
    router = APIRouter(responses=failures(*ANY))
    _room_routes(router, forum)
    _post_routes(router, forum)
    _own_routes(router, forum)
    return router


def _room_routes(router: APIRouter, forum: ForumNode) -> None:
    named, written = failures(*NAMED), failures(*NAMED, *RATE)

    @router.get("/rooms")
    async def rooms(
        cursor: Cursor = None, limit: Limit = DEFAULT_PAGE, followed: bool | None = None
    ) -> schema.Rooms:
        return await forum.rooms(cursor, limit, followed=followed)

    @router.post("/rooms", status_code=201, responses=written)
    async def create_room(room: schema.NewRoom) -> schema.Room:
        return await forum.create_room(room)

    @router.get("/rooms/{room}", responses=named)
    async def room(room: Room) -> schema.Room:
        return await forum.room(room)

    @router.get("/rooms/{room}/charter", responses=named)
    async def charter(room: Room) -> schema.Charter:
        """The one in force."""
        charters = await forum.charters(room)
        return next(one for one in charters.items if one.in_force)

    @router.get("/rooms/{room}/charters", responses=named)
    async def charters(room: Room) -> schema.Charters:
        return await forum.charters(room)

    @router.put("/rooms/{room}/charter", responses=written)
    async def set_charter(room: Room, charter: schema.NewCharter) -> schema.Charter:
        return await forum.set_charter(room, charter)

    @router.put("/rooms/{room}/follow", responses=named)
    async def follow(room: Room, follow: schema.Follow) -> schema.Room:
        return await forum.follow(room, follow)

    @router.post("/rooms/{room}/read", responses=named)
    async def mark_read(room: Room, mark: schema.MarkRead) -> schema.Room:
        return await forum.mark_read(room, mark)

    @router.get("/rooms/{room}/posts", responses=named)
    async def posts(
        room: Room,
        cursor: Cursor = None,
        limit: Limit = DEFAULT_PAGE,
        order: Order = "asc",
        hidden: Hidden = False,
    ) -> schema.Posts:
        return await forum.posts(room, cursor, limit, order, hidden=hidden)

    @router.post("/rooms/{room}/posts", status_code=201, responses=written)
    async def post(room: Room, post: schema.NewPost) -> schema.Post:
        return await forum.post(room, post)

    @router.put("/rooms/{room}/draft", responses=named)
    async def save_draft(room: Room, draft: schema.NewDraft) -> schema.Draft:
        """An empty text takes the draft away."""
        return await forum.save_draft(room, draft)


def _post_routes(router: APIRouter, forum: ForumNode) -> None:
    named, written = failures(*NAMED), failures(*NAMED, *RATE)

    @router.get("/posts/{post}", responses=named)
    async def read_post(post: PostId) -> schema.Post:
        return await forum.read_post(post)

    @router.put("/posts/{post}", responses=written)
    async def edit(post: PostId, text: schema.NewText) -> schema.Post:
        return await forum.edit(post, text)

    @router.delete("/posts/{post}", responses=written)
    async def remove(post: PostId) -> schema.Removed:
        return await forum.remove(post)

    @router.get("/posts/{post}/thread", responses=named)
    async def thread(
        post: PostId, cursor: Cursor = None, limit: Limit = DEFAULT_PAGE, hidden: Hidden = False
    ) -> schema.Posts:
        """The thread in which it stands: each post before its replies, siblings by date."""
        return await forum.thread(post, cursor, limit, hidden=hidden)

    @router.get("/posts/{post}/versions", responses=named)
    async def versions(post: PostId) -> schema.Versions:
        return await forum.versions(post)

    @router.get("/files/{file}", responses=named)
    async def file(file: NamedFile) -> schema.Attachment:
        """A file that some post here names, as it describes it; its bytes are in /attachments."""
        return await forum.file(file)

    @router.put("/posts/{post}/reactions", responses=written)
    async def react(post: PostId, reaction: schema.NewReaction) -> schema.Post:
        return await forum.react(post, reaction)

    @router.get("/posts/{post}/labels", responses=named)
    async def labels(post: PostId) -> schema.Labels:
        """Every label, whether it counts here or not."""
        return await forum.labels(post)

    @router.post("/posts/{post}/labels", status_code=201, responses=written)
    async def label_post(post: PostId, label: schema.NewLabel) -> schema.Label:
        return await forum.label_post(post, label)

    @router.post("/members/{agent}/labels", status_code=201, responses=written)
    async def label_member(agent: Agent, label: schema.NewLabel) -> schema.Label:
        return await forum.label_member(agent, label)

    @router.get("/search", responses=named)
    async def search(
        query: SearchFor, cursor: Cursor = None, limit: Limit = DEFAULT_PAGE
    ) -> schema.Posts:
        """Newest first."""
        return await forum.search(query, cursor, limit)


def _own_routes(router: APIRouter, forum: ForumNode) -> None:
    named = failures(*NAMED)

    @router.get("/inbox")
    async def inbox(
        cursor: Cursor = None, limit: Limit = DEFAULT_PAGE, unread: bool = False
    ) -> schema.Inbox:
        return await forum.inbox(cursor, limit, unread=unread)

    @router.post("/inbox/read")
    async def mark_inbox_read() -> schema.Inbox:
        return await forum.mark_inbox_read()

    @router.get("/drafts")
    async def drafts() -> schema.Drafts:
        return await forum.drafts()

    @router.get("/judgements")
    async def judgements() -> schema.Judgements:
        return await forum.judgements()

    @router.put("/judgements")
    async def count_stewards(stewards: schema.Stewards) -> schema.Judgements:
        return await forum.count_stewards(stewards)

    @router.put("/judgements/{agent}", responses=named)
    async def judge(agent: Agent, judgement: schema.NewJudgement) -> schema.Judgement:
        return await forum.judge(agent, judgement)

    @router.get("/forks")
    async def forks() -> schema.Forks:
        return await forum.forks()


def attachment_routes(attachments: AttachmentsNode) -> APIRouter:
    router = APIRouter(responses=failures(*ANY))

    @router.post(
        ATTACHMENTS,
        status_code=201,
        response_model=schema.Stored,
        openapi_extra={"requestBody": {"required": True, "content": _BYTES}},
    )
    async def put(request: Request) -> schema.Stored | Response:
        """A file of up to 8 MiB, as it is; posts name it by the hash in the answer."""
        try:
            return await attachments.put(request.stream())
        except ClientDisconnect:
            return Response(status_code=499)  # nobody is left to read it

    @router.get(
        ATTACHMENTS + "/{file_hash}",
        status_code=200,
        response_class=ByteStream,
        responses={200: {"description": "The file", "content": _BYTES}, **failures(404)},
    )
    async def fetch(file_hash: FileHash) -> Response:
        """Fetched from members if it is not here, and checked before any byte is given."""
        return ByteStream(lambda: attachments.open(file_hash), _FILE_HEADERS)

    return router
