"""What the terminal app knows of the mesh: a fold over the daemon's events.

Owns rooms, members, spans, status and what of them is unread. Pure: no network, no widgets; every
event answers with the parts of the screen that it changed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Flag, auto

from pydantic import BaseModel

from permesh.errors import PermeshError
from permesh.schema import Lagged, LocalModel, Member, Post, Room, Snapshot, Span, Status

from .names import lookalikes

MAX_ROOMS = 1_000  # shown; a mesh may hold more
MAX_MEMBERS = 2_000
MAX_KNOWN_POSTS = 4_096  # ids remembered, so that a post told twice counts once

MEMBER_ORDER = {"pending": 0, "registrar": 1, "member": 2, "suspended": 3, "revoked": 4}


class Part(Flag):
    """What an event changed, and so what must be drawn or asked for again."""

    NONE = 0
    STATUS = auto()
    ROOMS = auto()
    MEMBERS = auto()
    SPANS = auto()
    LISTS = auto()  # rooms and members have to be asked for
    LINK = auto()
    MODELS = auto()
    ALL = STATUS | ROOMS | MEMBERS | SPANS | LISTS | LINK


@dataclass
class MeshModel:
    """The latest of everything. ``problem`` is why the daemon is out of reach, or None."""

    status: Status | None = None
    rooms: dict[str, Room] = field(default_factory=dict)
    members: dict[str, Member] = field(default_factory=dict)
    spans: list[Span] = field(default_factory=list)
    models: list[LocalModel] = field(default_factory=list)
    online: bool = False
    problem: PermeshError | None = None
    inbox_unread: int = 0
    stale_rooms: set[str] = field(default_factory=set)  # whose counts are guesses since a post
    _lookalikes: dict[str, str] | None = None
    _known_posts: dict[str, None] = field(default_factory=dict)

    def apply(self, data: BaseModel) -> Part:
        """Fold one event in. What this version does not know changes nothing."""
        if isinstance(data, Snapshot):
            return self._snapshot(data)
        if isinstance(data, Status):
            self.status = data
            return Part.STATUS | Part.MEMBERS
        if isinstance(data, Room):
            # Its count may hold posts whose own events are still to come, and would count twice.
            self.take_rooms([data])
            return Part.ROOMS | Part.LISTS
        if isinstance(data, Member):
            self.take_members([data])
            return Part.MEMBERS
        if isinstance(data, Post):
            return self._post(data)
        if isinstance(data, Lagged):
            return Part.ALL
        return Part.SPANS if isinstance(data, Span) else Part.NONE

    def _snapshot(self, snapshot: Snapshot) -> Part:
        self.status = snapshot.status
        self.rooms = {}
        self.take_rooms(snapshot.rooms)
        self.members = {}
        self.take_members(snapshot.members)
        self.spans = snapshot.spans
        self.online, self.problem = True, None
        return Part.ALL

    def take_rooms(self, rooms: Iterable[Room]) -> None:
        for room in rooms:
            if room.id in self.rooms or len(self.rooms) < MAX_ROOMS:
                self.rooms[room.id] = room

    def take_members(self, members: Iterable[Member]) -> None:
        for member in members:
            if member.agent in self.members or len(self.members) < MAX_MEMBERS:
                self.members[member.agent] = member
        self._lookalikes = None

    def _post(self, post: Post) -> Part:
        room = self.rooms.get(post.room)
        if room is None or post.id in self._known_posts:
            return Part.NONE
        self.stale_rooms.add(room.id)
        if post.edits or post.removed or post.reactions or (post.hidden and not self._mine(post)):
            return Part.NONE  # an older post that changed, or one that is not counted
        self._known_posts[post.id] = None
        if len(self._known_posts) > MAX_KNOWN_POSTS:
            del self._known_posts[next(iter(self._known_posts))]
        self.rooms[room.id] = room.model_copy(
            update={
                "posts": room.posts + 1,
                "last_post_ms": max(room.last_post_ms, post.created_ms),
                "unread": room.unread + post.unread,
                "mentions": room.mentions + (post.unread and self._mentioned(post)),
            }
        )
        return Part.ROOMS

    def _mine(self, post: Post) -> bool:
        return post.author == self.own

    def _mentioned(self, post: Post) -> bool:
        return any(one.agent == self.own for one in post.mentions)

    @property
    def own(self) -> str:
        """This member's agent; empty until the daemon has told."""
        return self.status.agent if self.status else ""

    def lost(self, problem: PermeshError) -> Part:
        self.online, self.problem = False, problem
        return Part.LINK

    @property
    def lookalikes(self) -> dict[str, str]:
        """Agents whose names look like another member's, with that name."""
        if self._lookalikes is None:
            self._lookalikes = lookalikes(self.members.values())
        return self._lookalikes

    @property
    def unread(self) -> int:
        return sum(room.unread for room in self.rooms.values() if room.followed)

    def sorted_rooms(self) -> list[Room]:
        """Those that are followed first; by name: a list that does not jump under one's hand."""
        return sorted(self.rooms.values(), key=lambda room: (not room.followed, room.name, room.id))

    def sorted_members(self) -> list[Member]:
        """Requests first, since someone waits for them; then registrars, then by number; who is
        not served any more comes last."""
        return sorted(
            self.members.values(),
            key=lambda member: (
                MEMBER_ORDER[member.state],
                len(member.number),
                member.number,
                member.requested_ms,
                member.agent,
            ),
        )

    @property
    def pending(self) -> int:
        return sum(member.state == "pending" for member in self.members.values())

    @property
    def contradiction(self) -> str:
        """What stops the log of admissions, in one sentence; empty while nothing does."""
        log = self.status.log if self.status else None
        return log.contradiction if log else ""

    @property
    def is_registrar(self) -> bool:
        own = self.members.get(self.status.agent) if self.status else None
        return own is not None and own.state == "registrar"
