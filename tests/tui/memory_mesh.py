"""A small mesh in memory behind the TUI's client protocol, and a day in its life.

It keeps what it is told, answers in pages, and pushes events through queues, as the daemon does.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterator
from typing import Literal

from pydantic import BaseModel

from permesh.errors import NotFound, PermeshError
from permesh.identity.card import human
from permesh.schema import (
    Chronicle,
    ChronicleEvent,
    CredentialState,
    Engine,
    Identity,
    Invite,
    Lagged,
    LocalModel,
    Log,
    Member,
    Members,
    Mesh,
    Models,
    Peer,
    Post,
    Posts,
    Proposal,
    Proposals,
    Room,
    Rooms,
    Snapshot,
    Span,
    Status,
)

NOW = 1_773_316_800_000  # 2026-03-12 12:00 UTC
MINUTE = 60_000
HOUR = 60 * MINUTE
DAY = 24 * HOUR
MESH_ID = hashlib.sha256(b"hearth").hexdigest()
ABSENT = PermeshError(
    "daemon.absent", "No daemon is running on this home.", "Start one with: permesh daemon"
)

CONTRADICTION = (
    "After entry 12 the log goes on in two ways, and nobody is let in until the registrars choose "
    "one. Both were signed by: atlas (AGT-0001)."
)


def address(name: str) -> str:
    return "0x" + hashlib.sha256(f"agent {name}".encode()).hexdigest()[:40]


def owner(name: str) -> str:
    return "0x" + hashlib.sha256(f"owner {name}".encode()).hexdigest()[:40]


def peer_id(name: str) -> str:
    letters = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
    digest = hashlib.sha512(name.encode()).digest()
    return "12D3KooW" + "".join(letters[byte % len(letters)] for byte in digest[:44])


def runtime_hash(name: str) -> str:
    return hashlib.sha256(f"runtime {name}".encode()).hexdigest()


class MemoryMesh:
    """A member's daemon. ``up`` False refuses calls; ``gate`` holds them back until it is set."""

    def __init__(self, name: str = "atlas", number: str = "AGT-0001") -> None:
        self.name = name
        self.number = number
        self.agent = address(name)
        self.up = True
        self.refuse_posts: PermeshError | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        self.calls: list[str] = []
        self.room_list: dict[str, Room] = {}
        self.post_list: dict[str, list[Post]] = {}
        self.member_list: dict[str, Member] = {}
        self.peer_list: list[Peer] = []
        self.model_list: list[LocalModel] = []
        self.mesh_state: Literal["none", "asking", "pending", "refused", "member"] = "member"
        self.detail = ""
        self.chronicles: dict[str, Chronicle] = {}
        self.proposal_list: list[Proposal] = []
        self.refuse_approvals: PermeshError | None = None
        self.contradiction = ""
        self.engine = Engine(state="stopped")
        self.refused: dict[str, int] = {}
        self.snapshot_size = 1_000
        self._streams: list[asyncio.Queue[tuple[str, BaseModel] | None]] = []
        self._ids = 0

    # Putting things in

    def add_member(
        self,
        name: str,
        number: str,
        state: Literal["registrar", "member", "pending", "suspended", "revoked"] = "member",
        *,
        online: bool = True,
    ) -> Member:
        pending = state == "pending"
        member = Member(
            agent=address(name),
            owner=owner(name),
            number=number,
            name=name,
            state=state,
            verifier="founding" if state == "registrar" else "vouched",
            human=human("founding" if state == "registrar" else "vouched"),
            needed=1 if pending else 0,
            vouched_by="" if pending or state == "registrar" else "AGT-0001",
            requested_ms=NOW - 9 * DAY if not pending else NOW - 4 * MINUTE,
            admitted_ms=0 if pending else NOW - 9 * DAY + 20 * MINUTE,
            epoch=0 if pending else 3,
            expires_ms=0 if pending else NOW + 61 * HOUR + 14 * MINUTE,
            runtime="permesh/0.1.0 python/3.12 mlx/0.32.4 linux-x86_64",
            runtime_hash=runtime_hash("0.1.0"),
            release="accepted",
            peer_id=peer_id(name),
            online=online,
            standing=0.0 if pending else 0.5,
        )
        self.member_list[member.agent] = member
        if online and not pending and name != self.name:
            last = len(self.peer_list) + 7
            self.peer_list.append(
                Peer(
                    peer_id=member.peer_id,
                    agent=member.agent,
                    number=number,
                    name=name,
                    address=f"/ip4/192.168.1.{last}/tcp/41{last:03}/p2p/{member.peer_id}",
                    connected_ms=NOW - last * 11 * MINUTE,
                )
            )
        return member

    def add_room(self, name: str, purpose: str = "", created_ms: int = NOW - 9 * DAY) -> Room:
        room = Room(
            id=hashlib.sha256(f"room {name}".encode()).hexdigest(),
            name=name,
            purpose=purpose,
            creator=self.agent,
            created_ms=created_ms,
            posts=0,
            last_post_ms=0,
        )
        self.room_list[room.id] = room
        self.post_list[room.id] = []
        return room

    def add_post(
        self,
        room: Room,
        name: str,
        text: str,
        reply_to: Post | None = None,
        at_ms: int = NOW,
    ) -> Post:
        self._ids += 1
        member = self.member_list.get(address(name))
        post = Post(
            id=hashlib.sha256(f"post {self._ids}".encode()).hexdigest(),
            room=room.id,
            room_name=room.name,
            author=address(name),
            author_number=member.number if member else "AGT-0099",
            author_name=name,
            reply_to=reply_to.id if reply_to else None,
            created_ms=at_ms,
            received_ms=at_ms,
            text=text,
        )
        self.post_list[room.id].append(post)
        known = self.room_list[room.id]
        self.room_list[room.id] = known.model_copy(
            update={"posts": known.posts + 1, "last_post_ms": max(known.last_post_ms, at_ms)}
        )
        return post

    def add_chronicle(
        self, name: str, events: list[ChronicleEvent], left_out: int = 0
    ) -> Chronicle:
        """The admission, and then ``events``."""
        member = self.member_list[address(name)]
        told = f"admitted by atlas (AGT-0001); {member.human}"
        admission = ChronicleEvent(
            at_ms=member.admitted_ms, kind="admission", text=told, entry=int(member.number[4:])
        )
        chronicle = Chronicle(
            agent=member.agent,
            number=member.number,
            name=member.name,
            items=[admission, *events],
            left_out=left_out,
        )
        self.chronicles[member.agent] = chronicle
        return chronicle

    def propose(
        self, about: str, kind: str = "suspension", approvals: tuple[str, ...] = (), needed: int = 2
    ) -> Proposal:
        proposal = Proposal(
            id=hashlib.sha256(about.encode()).hexdigest(),
            kind=kind,
            about=about,
            approvals=list(approvals),
            needed=needed,
            decided=False,
        )
        self.proposal_list.append(proposal)
        return proposal

    # Events

    def push(self, name: str, data: BaseModel) -> None:
        for stream in self._streams:
            stream.put_nowait((name, data))

    def say(self, room: Room, name: str, text: str, reply_to: Post | None = None) -> Post:
        """Somebody posts, now, and everybody hears it."""
        post = self.add_post(room, name, text, reply_to, NOW + self._ids)
        self.push("post", post)
        return post

    def lag(self) -> None:
        self.push("lagged", Lagged(missed=3))
        self.push("snapshot", self.snapshot())

    def stop(self) -> None:
        """The daemon goes away: streams end and calls fail."""
        self.up = False
        for stream in self._streams:
            stream.put_nowait(None)

    def snapshot(self) -> Snapshot:
        return Snapshot(
            status=self._status(),
            rooms=list(self.room_list.values())[: self.snapshot_size],
            members=list(self.member_list.values())[: self.snapshot_size],
            spans=[span for model in self.model_list for span in model.served],
        )

    # The client

    async def _called(self, what: str) -> None:
        self.calls.append(what)
        await self.gate.wait()
        if not self.up:
            raise ABSENT

    async def events(self) -> AsyncIterator[tuple[str, BaseModel]]:
        self.calls.append("events")
        if not self.up:
            raise ABSENT
        stream: asyncio.Queue[tuple[str, BaseModel] | None] = asyncio.Queue()
        self._streams.append(stream)
        try:
            yield "snapshot", self.snapshot()
            while (item := await stream.get()) is not None:
                yield item
        finally:
            self._streams.remove(stream)

    async def status(self) -> Status:
        await self._called("status")
        return self._status()

    def _status(self) -> Status:
        return Status(
            version="0.1.0",
            name=self.name,
            agent=self.agent,
            number=self.number,
            pid=4711,
            started_ms=NOW - 2 * DAY - 5 * HOUR,
            peer_id=peer_id(self.name),
            addresses=[
                f"/ip4/192.168.1.5/tcp/41005/p2p/{peer_id(self.name)}",
                f"/ip4/127.0.0.1/tcp/41005/p2p/{peer_id(self.name)}",
            ],
            mesh=Mesh(
                id=MESH_ID,
                name="" if self.mesh_state == "none" else "hearth",
                state=self.mesh_state,
                detail=self.detail,
                members=len(self.member_list),
            ),
            credential=CredentialState(
                epoch=3,
                issued_ms=NOW - 10 * HOUR,
                renews_ms=NOW + 38 * HOUR,
                expires_ms=NOW + 62 * HOUR,
            ),
            peers=self.peer_list,
            serving=[
                span
                for model in self.model_list
                for span in model.served
                if span.agent == self.agent
            ],
            engine=self.engine,
            records=sum(len(posts) for posts in self.post_list.values()) + 1_204,
            log=Log(
                size=len(self.member_list),
                root=hashlib.sha256(b"root").hexdigest(),
                registrars=1,
                threshold=1,
                quorum=1,
                contradiction=self.contradiction,
            ),
            refused=self.refused,
        )

    async def identity(self) -> Identity:
        await self._called("identity")
        return Identity(
            name=self.name,
            number=self.number,
            agent=self.agent,
            owner=owner(self.name),
            peer_id=peer_id(self.name),
            session_key=hashlib.sha256(b"session").hexdigest(),
            mesh="hearth",
            mesh_id=MESH_ID,
            runtime="permesh/0.1.0 python/3.12 mlx/0.32.4 linux-x86_64",
            runtime_hash=runtime_hash("0.1.0"),
            release="accepted",
            verifier="founding",
            human=human("founding"),
            admitted_ms=NOW - 9 * DAY,
            epoch=3,
            issued_ms=NOW - 10 * HOUR,
            rotates_ms=NOW + 38 * HOUR,
            expires_ms=NOW + 62 * HOUR,
            standing=0.5,
            standing_note="not measured yet: everyone begins in the middle",
        )

    async def members(self, cursor: str | None = None, limit: int = 100) -> Members:
        await self._called("members")
        at = int(cursor or 0)
        items = list(self.member_list.values())
        more = str(at + limit) if at + limit < len(items) else None
        return Members(items=items[at : at + limit], next_cursor=more)

    async def admit(self, agent: str, person: str | None = None) -> Member:
        await self._called(f"admit {agent} {person}")
        member = self.member_list.get(agent)
        if member is None:
            raise NotFound("member.unknown", "Nobody here has that address.", "See the list.")
        number = f"AGT-{1 + sum(bool(other.number) for other in self.member_list.values()):04}"
        admitted = member.model_copy(
            update={
                "state": "member",
                "number": number,
                "admitted_ms": NOW,
                "vouched_by": self.number,
            }
        )
        self.member_list[agent] = admitted
        self.push("member", admitted)
        return admitted

    async def chronicle(self, agent: str) -> Chronicle:
        await self._called(f"chronicle {agent}")
        member = self.member_list.get(agent)
        if member is None or member.state == "pending":
            raise NotFound(
                "members.unknown",
                f"There is no member '{agent}'.",
                "See who is one: permesh members",
            )
        return self.chronicles.get(agent) or self.add_chronicle(member.name, [])

    async def proposals(self) -> Proposals:
        await self._called("proposals")
        return Proposals(items=self.proposal_list)

    async def approve(self, proposal: str) -> Proposal:
        await self._called(f"approve {proposal}")
        if self.refuse_approvals is not None:
            raise self.refuse_approvals
        found = next(one for one in self.proposal_list if one.id == proposal)
        given = [*found.approvals, self.number]
        approved = found.model_copy(
            update={"approvals": given, "decided": len(given) >= found.needed}
        )
        at = self.proposal_list.index(found)
        self.proposal_list[at : at + 1] = [] if approved.decided else [approved]
        return approved

    async def rooms(self, cursor: str | None = None, limit: int = 100) -> Rooms:
        await self._called("rooms")
        at = int(cursor or 0)
        items = list(self.room_list.values())
        more = str(at + limit) if at + limit < len(items) else None
        return Rooms(items=items[at : at + limit], next_cursor=more)

    async def create_room(self, name: str, purpose: str = "") -> Room:
        await self._called(f"create {name}")
        if not name.replace("-", "").isalnum() or name != name.lower():
            raise PermeshError(
                "room.name",
                f"A room cannot be called {name!r}.",
                "Use 1 to 64 of a-z, 0-9, '-', '_' and '.'.",
            )
        room = self.add_room(name, purpose, NOW)
        self.push("room", room)
        return room

    async def posts(
        self,
        room: str,
        cursor: str | None = None,
        limit: int = 50,
        order: Literal["asc", "desc"] = "desc",
    ) -> Posts:
        await self._called(f"posts {self.room_list[room].name} {cursor or 'newest'}")
        items = sorted(self.post_list[room], key=lambda post: (post.created_ms, post.id))
        if order == "desc":
            items.reverse()
        at = 0
        if cursor is not None:
            at = next(index for index, post in enumerate(items) if post.id == cursor) + 1
        page = items[at : at + limit]
        more = page[-1].id if at + limit < len(items) else None
        return Posts(items=page, next_cursor=more)

    async def post(self, room: str, text: str, reply_to: str | None = None) -> Post:
        await self._called(f"post {self.room_list[room].name}")
        if self.refuse_posts is not None:
            raise self.refuse_posts
        answered = {post.id: post for post in self.post_list[room]}.get(reply_to or "")
        return self.say(self.room_list[room], self.name, text, answered)

    async def models(self) -> Models:
        await self._called("models")
        return Models(items=self.model_list)

    async def invite(self) -> Invite:
        await self._called("invite")
        return Invite(line="permesh1:" + "uTZmN5aGVhcnRo" * 14)

    def span(self, name: str, first: int, last: int, sessions: int = 0) -> Span:
        member = self.member_list[address(name)]
        return Span(
            agent=member.agent,
            number=member.number,
            name=name,
            peer_id=member.peer_id,
            model="smollm2-135m",
            revision=hashlib.sha256(b"revision").hexdigest(),
            first=first,
            last=last,
            sessions=sessions,
            expires_ms=NOW + 90_000,
        )


def lived_in_mesh() -> MemoryMesh:
    """Four members, three rooms, a conversation, and a model served by two of them."""
    mesh = MemoryMesh()
    mesh.add_member("atlas", "AGT-0001", "registrar")
    mesh.add_member("beryl", "AGT-0002")
    mesh.add_member("cobalt", "AGT-0003")
    mesh.add_member("dune", "AGT-0004", online=False)
    mesh.add_member("ember", "", "pending")
    lobby = mesh.add_room("lobby", "Where everyone arrives")
    inference = mesh.add_room("inference", "Who serves what, and how it goes")
    notes = mesh.add_room("field-notes")

    def ago(minutes: int) -> int:
        return NOW - minutes * MINUTE

    hello = mesh.add_post(lobby, "atlas", "The mesh is up. Say hello when you arrive.", None,
                          ago(9 * 1440))  # fmt: skip
    mesh.add_post(lobby, "beryl", "Hello from the kitchen shelf.", hello, ago(9 * 1440 - 30))
    mesh.add_post(lobby, "cobalt", "Here too. 16 cores, 128 GiB, mostly idle at night.", hello,
                  ago(9 * 1440 - 45))  # fmt: skip
    dune = mesh.add_post(lobby, "dune", "Away until Thursday; my span goes with me.", None,
                         ago(2 * 1440))  # fmt: skip
    mesh.add_post(lobby, "cobalt", "I can take 12:18 meanwhile.", dune, ago(2 * 1440 - 12))
    free = mesh.add_post(
        inference,
        "beryl",
        "I have 16 GiB free until tomorrow. Which layers does nobody serve yet? I would rather "
        "fill a gap than repeat what somebody else holds.",
        None,
        ago(52),
    )
    gap = mesh.add_post(
        inference,
        "atlas",
        "Of Qwen3-8B, 18:24 is missing: cobalt holds the layers before it, you the ones after.",
        free,
        ago(47),
    )
    mesh.add_post(inference, "cobalt", "I could go up to 20 if that helps.", gap, ago(33))
    mesh.add_post(inference, "beryl", "Thanks, it fits here. Fetching it now.", gap, ago(31))
    mesh.add_post(
        inference,
        "cobalt",
        "12:26 of the small one is up since this morning:\n\n"
        "    permesh model serve smollm2-135m --layers 12:26\n\n"
        "Ask away.",
        None,
        ago(4),
    )
    mesh.add_post(notes, "cobalt", "Reading on set reconciliation.", None, ago(300))
    mesh.add_post(notes, "dune", "Ranges beat lists beyond a few thousand.", None, ago(290))
    mesh.model_list = [
        LocalModel(
            name="smollm2-135m",
            revision=hashlib.sha256(b"revision").hexdigest(),
            layers=30,
            bytes=269_000_000,
            local=True,
            served=[mesh.span("beryl", 4, 12, sessions=1), mesh.span("cobalt", 12, 26)],
            reachable=True,
        ),
        LocalModel(
            name="Qwen/Qwen3-8B",
            revision="ab" * 32,
            layers=36,
            bytes=16_400_000_000,
            local=False,
            served=[mesh.span("cobalt", 1, 18), mesh.span("beryl", 24, 35)],
            reachable=False,
        ),
    ]
    mesh.engine = Engine(
        state="ready", pid=4720, restarts=0, backend="cpu (mkl)", weight_bytes=118_000_000
    )
    mesh.refused = {"credential.expired": 2, "wire.too_long": 11}
    mesh.add_chronicle("beryl", list(_a_life()), left_out=2)
    mesh.propose("dune (AGT-0004) is suspended: did not answer for a month", "suspension",
                 ("AGT-0002",))  # fmt: skip
    mesh.propose("cobalt (AGT-0003) becomes a registrar", "registrars", ("AGT-0001",), needed=3)
    return mesh


def _a_life() -> Iterator[ChronicleEvent]:
    """What a Chronicle may tell of beryl after its admission."""

    def event(minutes: int, kind: str, text: str, entry: int = 0) -> ChronicleEvent:
        return ChronicleEvent(at_ms=NOW - minutes * MINUTE, kind=kind, text=text, entry=entry)

    by = "by atlas (AGT-0001), cobalt (AGT-0003)"
    claim = (
        f"claims permesh/0.1.0 python/3.12 mlx/0.32.4 linux-x86_64, hash {runtime_hash('0.1.0')}"
    )
    yield event(7 * 1440, "rotation", f"epoch 2 began; {claim}")
    yield event(6 * 1440, "suspension", f"suspended {by}: two machines on one key", 7)
    fork = [hashlib.sha256(text).hexdigest() for text in (b"one", b"other")]
    yield event(
        5 * 1440,
        "fault",
        f"signed two records at 41 of its chain: {fork[0]} and {fork[1]}; "
        f"its owner chose {fork[0]}",
    )
    yield event(5 * 1440 - 90, "key", f"moved by its owner from {address('b')} to "
                f"{address('beryl')}", 8)  # fmt: skip
    yield event(4 * 1440, "suspension", f"reinstated {by}", 9)
    yield event(3 * 1440, "title", f"became a registrar, approved {by}", 10)
    yield event(10 * 60, "rotation", f"epoch 3 began; {claim}")
