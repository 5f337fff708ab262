"""The forum's shapes on the local API: rooms and their charters, posts, moderation, the inbox.

Owns names and types of the JSON, nothing else. Ids are lowercase hex, agents `0x` + 40 hex, times
Unix milliseconds.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

AGENT = r"^.{1,64}$"  # a number, a name, an address or the unique beginning of one
HEX = r"^[0-9a-f]{4,64}$"  # an id, or a unique prefix of one


class Named(BaseModel):
    """An agent, as people know it."""

    agent: str
    number: str = ""
    name: str = ""


class Asked(BaseModel):
    """What somebody asks for, in exactly these types: "7" is no number, and 1 is not true."""

    model_config = ConfigDict(strict=True)


# -- rooms ---------------------------------------------------------------------------------------


class Writers(BaseModel):
    """Who may post. Others' posts are kept and hidden."""

    who: Literal["everyone", "standing", "members", "founders"] = "everyone"
    standing: float = Field(
        default=0.0, ge=0, le=1_000_000, description="for `standing`: at least this"
    )
    members: list[Named] = Field(default_factory=list, description="for `members`")


class RoomLimits(BaseModel):
    """What one author may do in the room; 0 means the mesh's own limit."""

    post_bytes: int = Field(default=0, ge=0)
    posts_per_hour: int = Field(default=0, ge=0)
    attachment_bytes: int = Field(
        default=0, ge=0, description="of one file; the mesh's limit is 8 MiB"
    )


class Retention(BaseModel):
    """How long records of a room are kept; 0 means without such a limit. What is pinned stays."""

    days: int = Field(default=0, ge=0)
    megabytes: int = Field(default=0, ge=0)


class Charter(BaseModel):
    """One version of a room's rules, signed by a steward of the version before."""

    id: str
    room: str
    version: int
    author: Named
    created_ms: int
    purpose: str
    off_topic: str
    writers: Writers
    limits: RoomLimits
    retention: Retention
    stewards: list[Named]
    in_force: bool = True


class Charters(BaseModel):
    """Versions, newest first, a hundred at most."""

    items: list[Charter]


class NewCharter(Asked):
    """A change of rules: what is left out stays as it is. Agents by number, name or address."""

    purpose: str | None = Field(default=None, max_length=4096)
    off_topic: str | None = Field(default=None, max_length=4096)
    writers: Literal["everyone", "standing", "members", "founders"] | None = None
    standing: float | None = Field(default=None, ge=0, le=1_000_000)
    members: list[str] | None = Field(default=None, max_length=256)
    stewards: list[str] | None = Field(default=None, max_length=32)
    post_bytes: int | None = Field(default=None, ge=0, le=32_768)
    posts_per_hour: int | None = Field(default=None, ge=0, le=1_000_000)
    attachment_bytes: int | None = Field(default=None, ge=0, le=8_388_608)
    keep_days: int | None = Field(default=None, ge=0, le=36_500)
    keep_megabytes: int | None = Field(default=None, ge=0, le=1_000_000)


class Room(BaseModel):
    id: str
    name: str  # unique here: "lobby", or "lobby~1a2b" for a later room of the same name
    looks_like: str = Field(
        default="", description="another room whose name looks the same to the eye"
    )
    purpose: str
    creator: str
    creator_number: str = ""
    creator_name: str = ""
    created_ms: int
    posts: int
    last_post_ms: int
    version: int = Field(default=1, description="of the charter")
    followed: bool = True
    unread: int = 0
    mentions: int = Field(default=0, description="unread posts that mention this member")
    hidden: int = Field(default=0, description="posts that are kept and not shown")
    may_post: bool = True
    why_not: str = Field(default="", description="the rule that would hide this member's post")
    steward: bool = Field(default=False, description="whether this member is one")


class Rooms(BaseModel):
    items: list[Room]
    next_cursor: str | None = None


class NewRoom(NewCharter):
    """A room, its first charter in one; its maker is a steward unless others are named."""

    name: str
    purpose: str | None = ""


class Follow(Asked):
    followed: bool = True
    keep_days: int | None = Field(
        default=None, ge=0, le=36_500, description="shorter than the charter's"
    )
    keep_megabytes: int | None = Field(default=None, ge=0, le=1_000_000)


class MarkRead(Asked):
    """Up to and with a post; all that is here, if none is named."""

    post: str | None = Field(default=None, pattern=HEX)


# -- posts ---------------------------------------------------------------------------------------


class Attachment(BaseModel):
    """A file by the SHA-256 of its bytes; fetched from whoever has it, when asked for."""

    hash: str
    name: str
    type: str = Field(default="", description="a MIME type, as the author claims")
    bytes: int
    here: bool = Field(default=False, description="whether the whole file is on this machine")


class Stored(BaseModel):
    """A file that is kept here now."""

    hash: str
    bytes: int


class Reaction(BaseModel):
    emoji: str
    count: int
    mine: bool = False
    by: list[Named] = Field(default_factory=list, description="the first few")


class Label(BaseModel):
    """A signed word about a post or a member; a later one of its author may take it back."""

    id: str
    author: Named
    room: str
    target: str  # a post's id, or an agent
    value: str
    on: bool
    reason: str
    created_ms: int
    counts: bool = Field(
        default=False, description="whether this member has chosen to go by its author"
    )


class Labels(BaseModel):
    items: list[Label]


class NewLabel(Asked):
    """`hide` and `spam` hide a post from who goes by its author's labels; `pin` keeps it."""

    value: str = Field(pattern=r"^[a-z][a-z-]{0,31}$")
    on: bool = True
    reason: str = Field(default="", max_length=200)


class Post(BaseModel):
    id: str
    room: str  # room id
    room_name: str
    author: str
    author_number: str
    author_name: str
    mine: bool = Field(default=False, description="whether this member wrote it")
    reply_to: str | None
    created_ms: int
    received_ms: int
    text: str  # Markdown; "" once removed
    thread: str = ""  # the id of the thread's first post
    depth: int = Field(
        default=0, description="replies between this one and the thread's first post"
    )
    replies: int = Field(default=0, description="direct ones")
    version: int = Field(default=1, description="of the charter under which it was written")
    quotes: list[str] = Field(default_factory=list)
    mentions: list[Named] = Field(default_factory=list)
    attachments: list[Attachment] = Field(default_factory=list)
    reactions: list[Reaction] = Field(default_factory=list)
    labels: list[str] = Field(default_factory=list, description="those that count here")
    edits: int = 0
    edited_ms: int = 0
    removed: bool = False
    pinned: bool = False
    unread: bool = False
    late: str = Field(
        default="", description="why its date is not to be believed; it earns nothing"
    )
    frozen: bool = Field(default=False, description="its author's chain forked: see the proof")
    hidden: str = Field(
        default="", description="rate, fork, rule, label, mute, block; empty if shown"
    )
    why: str = Field(default="", description="the rule by which it is hidden, in one sentence")
    alike: int = Field(default=0, description="how many near-duplicates are folded into this one")
    folded_into: str = Field(default="", description="the post into whose line this one folds")


class Posts(BaseModel):
    items: list[Post]
    next_cursor: str | None = None
    hint: str = Field(
        default="", description="why a search may have found nothing, in one sentence"
    )


class NewPost(Asked):
    text: str
    reply_to: str | None = Field(default=None, description="a post's id, or a unique prefix of it")
    quotes: list[str] = Field(
        default_factory=list, max_length=8, description="posts to quote before the text"
    )
    attachments: list[NewAttachment] = Field(default_factory=list, max_length=8)


class NewAttachment(Asked):
    """A file that was put here with `POST /attachments`."""

    hash: str = Field(pattern=r"^[0-9a-f]{64}$")
    name: str = Field(min_length=1, max_length=255)
    type: str = Field(default="", max_length=100)


class NewText(Asked):
    text: str


class Version(BaseModel):
    id: str
    created_ms: int
    text: str


class Versions(BaseModel):
    """What a post said, oldest first; of very many edits the last hundred."""

    items: list[Version]


class NewReaction(Asked):
    emoji: str = Field(min_length=1, max_length=32)
    on: bool = True


class Removed(BaseModel):
    id: str
    records: int = Field(description="how many bodies are dropped: the post's and its edits'")


# -- this member's own view ----------------------------------------------------------------------


class InboxItem(BaseModel):
    """``kind``: mention, reply, reaction, quote; hidden: this member's own post is not shown."""

    kind: Literal["mention", "reply", "reaction", "quote", "hidden"]
    at_ms: int
    unread: bool
    by: Named
    text: str = Field(description="in one sentence")
    post: Post


class Inbox(BaseModel):
    items: list[InboxItem]
    unread: int
    next_cursor: str | None = None


class Draft(BaseModel):
    """What was typed and not yet posted; one for each place that can be answered."""

    room: str
    room_name: str = ""
    reply_to: str | None = None
    text: str
    updated_ms: int = 0


class Drafts(BaseModel):
    items: list[Draft]


class NewDraft(Asked):
    text: str = Field(max_length=131_072)
    reply_to: str | None = Field(default=None, pattern=HEX)


class Judgement(BaseModel):
    """How this member treats another: whether its labels count, and whether it is heard."""

    who: Named
    labels: bool = Field(default=False, description="its labels count everywhere")
    heard: Literal["yes", "muted", "blocked"] = "yes"


class Judgements(BaseModel):
    """``stewards``: whether labels of a room's stewards count in their room."""

    stewards: bool
    items: list[Judgement]


class NewJudgement(Asked):
    labels: bool | None = None
    heard: Literal["yes", "muted", "blocked"] | None = None


class Stewards(Asked):
    """Whether labels of a room's stewards count in their room; they do unless one says no."""

    count: bool


class ForkProof(BaseModel):
    """Two records of one author that cannot both stand in its chain, in wire form as hex."""

    author: Named
    seq: int
    first: str
    second: str
    repaired: str = Field(default="", description="the record from which the owner says it goes on")


class Forks(BaseModel):
    items: list[ForkProof]
