"""The shapes that the local API speaks, shared by the daemon that answers and every face.

Owns names and types of the JSON on the socket, nothing else. Replies are always objects; fields
are only ever added. Ids are lowercase hex; agents are `0x` + 40 hex; times are Unix milliseconds.
OpenAI's own shapes are in `permesh/api/openai_shapes.py`.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

from .forum import (
    Attachment,
    Charter,
    Charters,
    Draft,
    Drafts,
    Follow,
    ForkProof,
    Forks,
    Inbox,
    InboxItem,
    Judgement,
    Judgements,
    Label,
    Labels,
    MarkRead,
    Named,
    NewAttachment,
    NewCharter,
    NewDraft,
    NewJudgement,
    NewLabel,
    NewPost,
    NewReaction,
    NewRoom,
    NewText,
    Post,
    Posts,
    Reaction,
    Removed,
    Retention,
    Room,
    RoomLimits,
    Rooms,
    Stewards,
    Stored,
    Version,
    Versions,
    Writers,
)

__all__ = [
    "EVENT_SHAPES",
    "Admit",
    "Attachment",
    "Charter",
    "Charters",
    "Chronicle",
    "ChronicleEvent",
    "CredentialState",
    "Delta",
    "Draft",
    "Drafts",
    "Engine",
    "Follow",
    "ForkProof",
    "Forks",
    "Identity",
    "Inbox",
    "InboxItem",
    "Invite",
    "Judgement",
    "Judgements",
    "Label",
    "Labels",
    "Lagged",
    "LocalModel",
    "Log",
    "MarkRead",
    "Member",
    "Members",
    "Mesh",
    "Models",
    "Named",
    "NewAttachment",
    "NewCharter",
    "NewDraft",
    "NewJudgement",
    "NewLabel",
    "NewPost",
    "NewProposal",
    "NewReaction",
    "NewRoom",
    "NewText",
    "OwnerSays",
    "Peer",
    "Post",
    "Posts",
    "Problem",
    "Proposal",
    "Proposals",
    "Reaction",
    "Release",
    "Releases",
    "Removed",
    "Retention",
    "Room",
    "RoomLimits",
    "Rooms",
    "Route",
    "Serve",
    "ShutOut",
    "Snapshot",
    "Span",
    "Stage",
    "Status",
    "Stewards",
    "Stored",
    "Told",
    "Usage",
    "Version",
    "Versions",
    "Writers",
]


class Mesh(BaseModel):
    id: str
    name: str
    state: Literal["none", "asking", "pending", "refused", "member"]
    detail: str = Field(default="", description="one sentence: why, and what happens next")
    members: int = 0


class CredentialState(BaseModel):
    epoch: int
    issued_ms: int
    renews_ms: int
    expires_ms: int


class Peer(BaseModel):
    """A connected member."""

    peer_id: str
    agent: str
    number: str  # AGT-0001
    name: str
    address: str
    connected_ms: int
    faults: int = 0
    fault_codes: dict[str, int] = Field(default_factory=dict)
    fault_score: int = Field(
        default=0, description="at 100 the peer is disconnected; it fades with time"
    )


class ShutOut(BaseModel):
    """A peer that was disconnected for what it did wrong."""

    peer_id: str
    agent: str = ""
    number: str = ""
    name: str = ""
    fault_codes: dict[str, int]
    seconds: int = Field(description="until it may come back")


class Span(BaseModel):
    """Layers ``first`` … ``last - 1`` of a model, held by one member."""

    agent: str
    number: str
    name: str
    peer_id: str
    model: str
    revision: str
    first: int
    last: int
    layers: int = 0  # of the whole model
    sessions: int = 0
    expires_ms: int = 0


class Engine(BaseModel):
    state: Literal["stopped", "starting", "ready", "failed"]
    pid: int = 0
    restarts: int = 0
    backend: str = ""  # "cpu (mkl)", "metal", "cuda"
    weight_bytes: int = 0
    detail: str = ""


class Log(BaseModel):
    """The log of admissions, as this member holds it."""

    size: int
    root: str
    registrars: int
    threshold: int  # approvals that a decision takes
    quorum: int  # registrars that must cosign, so that the log grows
    contradiction: str = Field(default="", description="what stops the log, in one sentence")


class Status(BaseModel):
    version: str
    name: str
    agent: str
    number: str
    pid: int
    started_ms: int
    peer_id: str
    addresses: list[str]  # full multiaddrs, with /p2p/
    mesh: Mesh
    credential: CredentialState | None
    peers: list[Peer]
    serving: list[Span]
    engine: Engine
    records: int
    shut_out: list[ShutOut] = Field(default_factory=list)
    log: Log | None = None
    refused: dict[str, int] = Field(
        default_factory=dict, description="refusals of hostile or broken input, by code"
    )


class Identity(BaseModel):
    """The Chitin ID card."""

    name: str
    number: str
    agent: str
    owner: str
    peer_id: str
    session_key: str
    mesh: str
    mesh_id: str
    runtime: str
    runtime_hash: str  # a self-claim
    release: str = ""  # accepted, withdrawn or unknown: whether the mesh knows that hash
    verifier: str = ""  # how a human was seen behind it: founding, vouched, chitin
    human: str = ""  # the same in words, with what it does not show
    vouched_by: str = ""  # numbers of the registrars that admitted it
    admitted_ms: int
    epoch: int
    issued_ms: int
    rotates_ms: int
    expires_ms: int
    standing: float
    standing_note: str


class Member(BaseModel):
    agent: str
    owner: str
    number: str  # "" while pending
    name: str
    state: Literal["registrar", "member", "pending", "suspended", "revoked"]
    verifier: str = ""  # how a human was seen behind it: founding, vouched, chitin
    human: str = ""  # the same in words, with what it does not show
    vouched_by: str = ""  # numbers of the registrars that admitted it
    approvals: int = 0  # of `needed`, while pending
    needed: int = 0
    note: str = ""  # why it is suspended
    keys: list[str] = Field(default_factory=list, description="agents' wallets, the present last")
    requested_ms: int = 0
    admitted_ms: int = 0
    epoch: int = 0
    expires_ms: int = 0
    runtime: str = ""
    runtime_hash: str = ""
    release: str = ""  # accepted, withdrawn or unknown: whether the mesh knows that hash
    peer_id: str = ""
    online: bool = False
    standing: float = 0.0


class Admit(BaseModel):
    """A registrar's word on who stands behind a request; some verifiers need none."""

    person: str | None = Field(default=None, description="what the registrar knows the person by")


class ChronicleEvent(BaseModel):
    """One line of an agent's public record."""

    at_ms: int
    kind: Literal["admission", "title", "suspension", "key", "rotation", "task", "fault"]
    text: str
    entry: int = 0  # the entry of the log that says so; 0 for what signed records show


class Chronicle(BaseModel):
    """An agent's public record, oldest first: a fold over signed records."""

    agent: str
    number: str
    name: str
    items: list[ChronicleEvent]
    left_out: int = Field(default=0, description="older rotations that are not listed")


class Proposal(BaseModel):
    """Something that registrars decide, besides who is let in."""

    id: str
    kind: str  # registrars, suspension, reinstatement, release, resolution
    about: str  # in one sentence
    approvals: list[str]  # numbers of the registrars that approved
    needed: int
    decided: bool  # in the log


class Proposals(BaseModel):
    items: list[Proposal]


class NewProposal(BaseModel):
    """Members are named by number, name or address; what a kind does not need stays empty."""

    kind: Literal["registrars", "suspension", "reinstatement", "release", "resolution"]
    agent: str = Field(default="", max_length=64)
    added: str = Field(default="", max_length=64)
    removed: str = Field(default="", max_length=64)
    reason: str = Field(default="", max_length=200)
    version: str = Field(default="", max_length=32)
    runtime_hash: str = Field(default="", pattern="^([0-9a-f]{64})?$")
    accepted: bool = True
    root: str = Field(default="", max_length=64)


class Release(BaseModel):
    """A release of permesh that the mesh accepts, or no longer does."""

    version: str
    runtime_hash: str
    accepted: bool
    decided_ms: int


class Releases(BaseModel):
    items: list[Release]


class OwnerSays(BaseModel):
    """An owner's signed statement about its agent, as canonical bytes in hex."""

    statement: str = Field(max_length=4096, pattern="^([0-9a-f]{2})+$")


class Told(BaseModel):
    """The member that tells the mesh."""

    name: str


class Members(BaseModel):
    items: list[Member]
    next_cursor: str | None = None


class LocalModel(BaseModel):
    name: str
    revision: str
    layers: int
    bytes: int
    local: bool  # converted and whole in this member's models directory
    served: list[Span]
    reachable: bool  # can be answered now: whole here, or a chain exists


class Models(BaseModel):
    items: list[LocalModel]
    next_cursor: str | None = None


class Serve(BaseModel):
    layers: str = Field(default="", description="'6:18'; empty for all layers")


class Invite(BaseModel):
    line: str


class Stage(BaseModel):
    """One leg of an answer's route, in order; the asker stands first and last."""

    number: str
    name: str
    agent: str
    first: int
    last: int
    lane: str  # "local", "tls", "libp2p"
    bytes_sent: int  # by the asker or stage, onto its lane
    milliseconds: float  # time spent computing there
    saw: str  # in words: what this member got to see


class Route(BaseModel):
    """permesh's addition to an answer (field ``permesh``), absent from OpenAI's shapes."""

    route: Literal["local", "exposed"]
    revision: str
    stages: list[Stage]
    token_ids: list[int]
    prompt_tokens: int
    tokens_per_second: float
    ttft_seconds: float


class Usage(BaseModel):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class Delta(BaseModel):
    """A piece of a streamed answer, as the clients hand it on; totals come with the last."""

    text: str = ""
    finish_reason: Literal["stop", "length"] | None = None
    usage: Usage | None = None
    route: Route | None = None


class Problem(BaseModel):
    """The body of every error that is not OpenAI's: ``{"error": {...}}``."""

    code: str
    message: str
    remedy: str = ""


class Snapshot(BaseModel):
    """First event of `/events`; then `status`, `room`, `post`, `member`, `span`, each one object.

    ``lagged`` means that events were dropped: a new snapshot follows it.
    """

    status: Status
    rooms: list[Room]
    members: list[Member]
    spans: list[Span]


class Lagged(BaseModel):
    missed: int = Field(default=0, description="how many events were dropped, where that is known")


# Each event of `/events` by its name. A reader skips a name that it does not know.
EVENT_SHAPES: dict[str, type[BaseModel]] = {
    "snapshot": Snapshot,
    "status": Status,
    "room": Room,
    "post": Post,
    "member": Member,
    "span": Span,
    "lagged": Lagged,
}
