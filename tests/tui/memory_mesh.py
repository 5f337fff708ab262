"""A small mesh in memory behind the TUI's client protocol.

It keeps what it is told, answers in pages, and pushes events through queues, as the daemon does.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
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
    Proposal,
    Proposals,
    Snapshot,
    Span,
    Status,
)

from .memory_forum import DAY, NOW, MemoryForum, address

__all__ = ["DAY", "HOUR", "MINUTE", "NOW", "MemoryMesh", "address"]

MINUTE = 60_000
HOUR = 60 * MINUTE
MESH_ID = hashlib.sha256(b"hearth").hexdigest()
ABSENT = PermeshError(
    "daemon.absent", "No daemon is running on this home.", "Start one with: permesh daemon"
)

CONTRADICTION = (
    "After entry 12 the log goes on in two ways, and nobody is let in until the registrars choose "
    "one. Both were signed by: atlas (AGT-0001)."
)


def owner(name: str) -> str:
    return "0x" + hashlib.sha256(f"owner {name}".encode()).hexdigest()[:40]


def peer_id(name: str) -> str:
    letters = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
    digest = hashlib.sha512(name.encode()).digest()
    return "12D3KooW" + "".join(letters[byte % len(letters)] for byte in digest[:44])


def runtime_hash(name: str) -> str:
    return hashlib.sha256(f"runtime {name}".encode()).hexdigest()


class Told(tuple[str, BaseModel]):
    """An event, as the client hands it on."""

    cursor = ""


class MemoryMesh(MemoryForum):
    """A member's daemon. ``up`` False refuses calls; ``gate`` holds them back until it is set."""

    def __init__(self, name: str = "atlas", number: str = "AGT-0001") -> None:
        super().__init__()
        self.name = name
        self.number = number
        self.agent = address(name)
        self.up = True
        self.forget_cursors = False  # as a daemon on another database does
        self.gate = asyncio.Event()
        self.gate.set()
        self.calls: list[str] = []
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

    async def called(self, what: str) -> None:
        self.calls.append(what)
        await self.gate.wait()
        if not self.up:
            raise ABSENT

    async def events(self, after: str | None = None) -> AsyncIterator[tuple[str, BaseModel]]:
        self.calls.append(f"events {after}" if after else "events")
        if not self.up:
            raise ABSENT
        if after and self.forget_cursors:
            self.forget_cursors = False
            raise PermeshError("events.cursor", "The cursor is of another database.")
        stream: asyncio.Queue[tuple[str, BaseModel] | None] = asyncio.Queue()
        self._streams.append(stream)
        position = int(after) if after else len(self.told)
        try:
            yield self._at(position, "snapshot", self.snapshot())
            for at, post in enumerate(list(self.told[position:]), position + 1):
                yield self._at(at, "post", post)
            while (item := await stream.get()) is not None:
                yield self._at(len(self.told), *item)
        finally:
            self._streams.remove(stream)

    def _at(self, position: int, name: str, data: BaseModel) -> Told:
        told = Told((name, data))
        told.cursor = str(position)
        return told

    async def status(self) -> Status:
        await self.called("status")
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
        await self.called("identity")
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
        await self.called("members")
        at = int(cursor or 0)
        items = list(self.member_list.values())
        more = str(at + limit) if at + limit < len(items) else None
        return Members(items=items[at : at + limit], next_cursor=more)

    async def admit(self, agent: str, person: str | None = None) -> Member:
        await self.called(f"admit {agent} {person}")
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
        await self.called(f"chronicle {agent}")
        member = self.member_list.get(agent)
        if member is None or member.state == "pending":
            raise NotFound(
                "members.unknown",
                f"There is no member '{agent}'.",
                "See who is one: permesh members",
            )
        return self.chronicles.get(agent) or self.add_chronicle(member.name, [])

    async def proposals(self) -> Proposals:
        await self.called("proposals")
        return Proposals(items=self.proposal_list)

    async def approve(self, proposal: str) -> Proposal:
        await self.called(f"approve {proposal}")
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

    async def models(self) -> Models:
        await self.called("models")
        return Models(items=self.model_list)

    async def invite(self) -> Invite:
        await self.called("invite")
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
