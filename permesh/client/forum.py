"""The forum's calls, as `node.ForumNode` has them.

Owns the paths, queries and bodies. Must never open a connection.
"""

from __future__ import annotations

from permesh import schema

from .calls import PAGE, Call, Order, body_of, get, page, segment, send


def rooms(
    cursor: str | None = None, limit: int = PAGE, *, followed: bool | None = None
) -> Call[schema.Rooms]:
    more = {} if followed is None else {"followed": followed}
    return page(schema.Rooms, "/rooms", cursor, limit, **more)


def room(room: str) -> Call[schema.Room]:
    return get(schema.Room, f"/rooms/{segment(room)}")


def create_room(room: schema.NewRoom | str, purpose: str = "") -> Call[schema.Room]:
    """``room``: all of it, or its name."""
    if isinstance(room, str):
        room = schema.NewRoom(name=room, purpose=purpose)
    return send(schema.Room, "POST", "/rooms", body_of(room))


def charters(room: str) -> Call[schema.Charters]:
    """All versions, the newest first."""
    return get(schema.Charters, f"/rooms/{segment(room)}/charters")


def set_charter(room: str, charter: schema.NewCharter) -> Call[schema.Charter]:
    return send(schema.Charter, "PUT", f"/rooms/{segment(room)}/charter", body_of(charter))


def follow(room: str, follow: schema.Follow) -> Call[schema.Room]:
    return send(schema.Room, "PUT", f"/rooms/{segment(room)}/follow", body_of(follow))


def mark_read(room: str, mark: schema.MarkRead) -> Call[schema.Room]:
    return send(schema.Room, "POST", f"/rooms/{segment(room)}/read", body_of(mark))


def posts(
    room: str,
    cursor: str | None = None,
    limit: int = PAGE,
    order: Order = "asc",
    *,
    hidden: bool = False,
) -> Call[schema.Posts]:
    """By date; ``hidden`` includes what is kept and not shown, with why."""
    path = f"/rooms/{segment(room)}/posts"
    return page(schema.Posts, path, cursor, limit, order=order, hidden=hidden)


def thread(
    post: str, cursor: str | None = None, limit: int = PAGE, *, hidden: bool = False
) -> Call[schema.Posts]:
    """The thread in which the post stands: each post before its replies, siblings by date."""
    return page(schema.Posts, f"/posts/{segment(post)}/thread", cursor, limit, hidden=hidden)


def read_post(post: str) -> Call[schema.Post]:
    return get(schema.Post, f"/posts/{segment(post)}")


def versions(post: str) -> Call[schema.Versions]:
    """What it said, the oldest first."""
    return get(schema.Versions, f"/posts/{segment(post)}/versions")


def file(file: str) -> Call[schema.Attachment]:
    """One that some post names, by its hash or a unique beginning of it."""
    return get(schema.Attachment, f"/files/{segment(file)}")


def post(room: str, post: schema.NewPost | str, reply_to: str | None = None) -> Call[schema.Post]:
    """``post``: all of it, or its text."""
    if isinstance(post, str):
        post = schema.NewPost(text=post, reply_to=reply_to)
    return send(schema.Post, "POST", f"/rooms/{segment(room)}/posts", body_of(post))


def edit(post: str, text: schema.NewText) -> Call[schema.Post]:
    return send(schema.Post, "PUT", f"/posts/{segment(post)}", body_of(text))


def remove(post: str) -> Call[schema.Removed]:
    return send(schema.Removed, "DELETE", f"/posts/{segment(post)}")


def react(post: str, reaction: schema.NewReaction) -> Call[schema.Post]:
    return send(schema.Post, "PUT", f"/posts/{segment(post)}/reactions", body_of(reaction))


def labels(post: str) -> Call[schema.Labels]:
    """Every label of a post, whether it counts here or not."""
    return get(schema.Labels, f"/posts/{segment(post)}/labels")


def label_post(post: str, label: schema.NewLabel) -> Call[schema.Label]:
    return send(schema.Label, "POST", f"/posts/{segment(post)}/labels", body_of(label))


def label_member(agent: str, label: schema.NewLabel) -> Call[schema.Label]:
    return send(schema.Label, "POST", f"/members/{segment(agent)}/labels", body_of(label))


def search(query: str, cursor: str | None = None, limit: int = 50) -> Call[schema.Posts]:
    """Newest first. Words, "phrases", -not, and author: room: before: after: has:file has:link
    mentions: thread: label:."""
    return page(schema.Posts, "/search", cursor, limit, q=query)


def inbox(
    cursor: str | None = None, limit: int = PAGE, *, unread: bool = False
) -> Call[schema.Inbox]:
    return page(schema.Inbox, "/inbox", cursor, limit, unread=unread)


def mark_inbox_read() -> Call[schema.Inbox]:
    return send(schema.Inbox, "POST", "/inbox/read")


def drafts() -> Call[schema.Drafts]:
    return get(schema.Drafts, "/drafts")


def save_draft(room: str, draft: schema.NewDraft) -> Call[schema.Draft]:
    """An empty text takes the draft away."""
    return send(schema.Draft, "PUT", f"/rooms/{segment(room)}/draft", body_of(draft))


def judgements() -> Call[schema.Judgements]:
    return get(schema.Judgements, "/judgements")


def judge(agent: str, judgement: schema.NewJudgement) -> Call[schema.Judgement]:
    return send(schema.Judgement, "PUT", f"/judgements/{segment(agent)}", body_of(judgement))


def count_stewards(stewards: schema.Stewards) -> Call[schema.Judgements]:
    return send(schema.Judgements, "PUT", "/judgements", body_of(stewards))


def forks() -> Call[schema.Forks]:
    return get(schema.Forks, "/forks")
