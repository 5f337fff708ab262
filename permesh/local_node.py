"""What the local API serves, on the daemon's real parts.

Owns the turning of roster, swarm, forum and compute into the API's shapes, and of the daemon's
events into those that faces see. Must never know HTTP, nor start or stop a part.
"""

from __future__ import annotations

import math
import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TypeVar

import trio
from pydantic import BaseModel

from . import __version__, schema
from .async_store import AsyncStore
from .attachments import Attachments
from .errors import NotFound, PermeshError
from .events import (
    Event,
    EventBus,
    MembersChanged,
    PeersChanged,
)
from .feed import Feed
from .forum.service import Forum
from .identity.card import (
    address,
    agent_number,
    blank_card,
    fill_card,
)
from .identity.genesis import MAX_BOOTSTRAP, Invite
from .identity.hello import Verified
from .identity.owner import OwnerStatement
from .identity.roster import Request
from .inference.catalogue import find
from .inference.service import Compute
from .inference.supervisor import Engine
from .members import read_chronicle, shown_member, shown_request
from .membership import Membership
from .node import ChatDelta, ChatRequest, NodeEvent
from .p2p.addressbook import known_addresses
from .p2p.swarm import Swarm
from .proposals import Proposals
from .records import Record
from .store import Store

MAX_PAGE = 500
# Rooms and members in a snapshot; who has more reads the rest by pages.
SNAPSHOT_LIMIT = 200
# Other members whose addresses an invite carries.
INVITE_OTHERS = 3

_T = TypeVar("_T")


class LocalNode:
    """Implements ``node.Node``."""

    def __init__(
        self,
        *,
        name: str,
        models_dir: Path,
        membership: Membership,
        store: AsyncStore,
        events: EventBus,
        forum: Forum,
        attachments: Attachments,
        swarm: Swarm,
        compute: Compute,
        engine: Engine,
        now_ms: Callable[[], int],
    ) -> None:
        self._name = name
        self._models_dir = models_dir
        self._membership = membership
        self._roster = membership.roster
        self._store = store
        self._events = events
        self.forum = forum
        self.attachments = attachments
        self._feed = Feed(store, self)
        self._swarm = swarm
        self._compute = compute
        self._engine = engine
        self._now_ms = now_ms
        self._proposals = Proposals(membership.roster, membership.registrar, now_ms)
        self._started_ms = now_ms()

    # -- this member -------------------------------------------------------------------------

    async def status(self) -> schema.Status:
        membership = self._membership
        state, detail = membership.state
        credential = membership.credential
        return schema.Status(
            version=__version__,
            name=self._name,
            agent=address(membership.agent),
            number=agent_number(membership.number) if membership.number else "",
            pid=os.getpid(),
            started_ms=self._started_ms,
            peer_id=self._swarm.peer_id,
            addresses=self._swarm.addresses(),
            mesh=schema.Mesh(
                id=membership.genesis.mesh_id.hex(),
                name=membership.genesis.name,
                state=state,
                detail=detail,
                members=len(self._roster),
            ),
            credential=schema.CredentialState(
                epoch=credential.epoch,
                issued_ms=credential.issued_ms,
                renews_ms=credential.renews_ms,
                expires_ms=credential.expires_ms,
            ),
            peers=self._peers(),
            serving=self._compute.serving(),
            engine=schema.Engine(**asdict(self._engine.state)),
            records=await self._store.read(Store.count),
            shut_out=self._shut_out() if self._swarm.shut_out() else [],
            log=self._log(),
            refused=dict(self._swarm.faults + self._swarm.errors),
        )

    def _log(self) -> schema.Log:
        log = self._roster.log
        return schema.Log(
            size=log.size,
            root=log.root.hex(),
            registrars=len(log.registry.registrars),
            threshold=log.genesis.threshold,
            quorum=log.registry.quorum,
            contradiction=self._contradiction(),
        )

    def _contradiction(self) -> str:
        found = self._roster.log.contradiction
        if found is None:
            return ""
        who = [self._roster.member(agent) for agent in found.both]
        names = ", ".join(f"{m.name} ({agent_number(m.number)})" for m in who if m) or "nobody"
        return (
            f"After entry {found.one.checkpoint.base_size} the log goes on in two ways, and nobody "
            f"is let in until the registrars choose one. Both were signed by: {names}."
        )

    def _peers(self) -> list[schema.Peer]:
        found = []
        for peer in self._swarm.peers():
            assert isinstance(peer.verified, Verified)
            codes, score = self._swarm.faults_of(peer.peer_id)
            found.append(
                schema.Peer(
                    peer_id=peer.peer_id,
                    agent=address(peer.verified.agent),
                    number=agent_number(peer.verified.number),
                    name=peer.verified.name,
                    address=peer.address,
                    connected_ms=peer.connected_ms,
                    faults=codes.total(),
                    fault_codes=dict(codes),
                    fault_score=int(score),
                )
            )
        return sorted(found, key=lambda peer: peer.number)

    def _shut_out(self) -> list[schema.ShutOut]:
        whose = {
            member.credential.peer_id: member
            for member in self._roster.members()
            if member.credential is not None
        }
        found = []
        for peer_id, seconds in self._swarm.shut_out().items():
            member = whose.get(peer_id)
            found.append(
                schema.ShutOut(
                    peer_id=peer_id,
                    agent=address(member.agent) if member else "",
                    number=agent_number(member.number) if member else "",
                    name=member.name if member else "",
                    fault_codes=dict(self._swarm.faults_of(peer_id)[0]),
                    seconds=math.ceil(seconds),
                )
            )
        return found

    async def identity(self) -> schema.Identity:
        enrolment = self._membership.enrolment
        card = blank_card(
            name=enrolment.name,
            agent=address(enrolment.agent),
            owner=address(enrolment.owner),
            peer_id=self._swarm.peer_id,
        )
        return fill_card(card, self._roster, enrolment.agent, self._membership.credential)

    async def chronicle(self, agent: str) -> schema.Chronicle:
        return await read_chronicle(self._store, self._roster, agent)

    async def proposals(self) -> schema.Proposals:
        return self._proposals.listed()

    async def propose(self, wanted: schema.NewProposal) -> schema.Proposal:
        return await self._proposals.propose(wanted)

    async def approve(self, proposal: str) -> schema.Proposal:
        return await self._proposals.approve(proposal)

    async def releases(self) -> schema.Releases:
        return self._proposals.releases()

    async def tell_owner(self, statement: str) -> schema.Told:
        await self._membership.tell(OwnerStatement.decode(bytes.fromhex(statement)))
        return schema.Told(name=self._name)

    async def invite(self) -> schema.Invite:
        self._membership.require_member()
        # Loopback last: it serves other homes on this machine, and nobody else.
        addresses = sorted(
            self._swarm.addresses(), key=lambda one: "/127." in one or "/::1/" in one
        )
        # And some of others, so that the invite outlives this member.
        others = await self._others_addresses()
        chosen = (*addresses[: MAX_BOOTSTRAP - len(others)], *others)
        return schema.Invite(line=Invite(self._membership.genesis, chosen).line())

    async def _others_addresses(self) -> list[str]:
        """One each of a few members that are connected, registrars first."""
        known = await self._store.read(lambda store: known_addresses(store.connection))
        connected = {peer.peer_id for peer in self._swarm.peers()}
        found: list[str] = []
        for member in sorted(self._roster.members(), key=lambda one: not one.is_registrar):
            credential, places = member.credential, known.get(member.agent, ())
            if credential is None or not places or credential.peer_id not in connected:
                continue
            place = next((one for one in places if "/127." not in one), places[0])
            found.append(f"{place}/p2p/{credential.peer_id}")
            if len(found) == INVITE_OTHERS:
                break
        return found

    # -- members -----------------------------------------------------------------------------

    async def members(self, cursor: str | None, limit: int) -> schema.Members:
        items, more = _page(self._all_members(), cursor, limit)
        return schema.Members(items=items, next_cursor=more)

    def _all_members(self) -> list[schema.Member]:
        online = {peer.agent for peer in self._peers()} | {address(self._membership.agent)}
        return [
            *(shown_member(self._roster, member, online) for member in self._roster.members()),
            *(
                shown_request(self._roster, request)
                for request in self._roster.pending(self._now_ms())
            ),
        ]

    async def admit(self, agent: str, person: str | None) -> schema.Member:
        self._membership.require_member()
        request = self._find_request(agent)
        await self._membership.registrar.admit(request.enrolment, person)
        member = self._roster.member(request.enrolment.agent)
        if member is None:
            return shown_request(self._roster, request)
        return shown_member(self._roster, member, {peer.agent for peer in self._peers()})

    def _find_request(self, reference: str) -> Request:
        """By address, a unique beginning of one, or name."""
        wanted = reference.lower()
        pending = self._roster.pending(self._now_ms())
        found = [
            request
            for request in pending
            if wanted == request.enrolment.name
            or (len(wanted) > 2 and address(request.enrolment.agent).startswith(wanted))
        ]
        if len(found) > 1:
            raise PermeshError(
                "members.ambiguous",
                f"'{reference}' stands for {len(found)} requests.",
                "Give more of the address that 'permesh members' shows.",
                http_status=409,
            )
        if found:
            return found[0]
        if any(wanted in (m.name, address(m.agent)) for m in self._roster.members()):
            raise PermeshError(
                "members.already",
                f"'{reference}' is a member already.",
                "See: permesh members",
                http_status=409,
            )
        raise NotFound(
            "members.unknown",
            f"Nobody asks to be let in as '{reference}'.",
            "See who asks: permesh members",
        )

    # -- models ------------------------------------------------------------------------------

    async def models(self, cursor: str | None, limit: int) -> schema.Models:
        items, more = _page(await self._compute.models(), cursor, limit)
        return schema.Models(items=items, next_cursor=more)

    async def serve(self, model: str, layers: str) -> schema.Span:
        self._membership.require_member()
        info = await trio.to_thread.run_sync(find, self._models_dir, model)
        first, last = parse_layers(layers, info.layers)
        return await self._compute.serve(model, first, last)

    async def stop_serving(self, model: str) -> None:
        await self._compute.stop(model)

    def chat(self, request: ChatRequest) -> AbstractAsyncContextManager[AsyncIterator[ChatDelta]]:
        return self._compute.answer(request)

    # -- events ------------------------------------------------------------------------------

    @asynccontextmanager
    async def events(self, after: str | None = None) -> AsyncIterator[AsyncIterator[NodeEvent]]:
        async with self._events.subscribe() as subscription:
            position = await self._feed.position(after)
            async with aclosing(self._feed.tell(subscription, position)) as told:
                yield told

    async def snapshot(self) -> schema.Snapshot:
        return schema.Snapshot(
            status=await self.status(),
            rooms=(await self.forum.rooms(None, SNAPSHOT_LIMIT)).items,
            members=self._all_members()[:SNAPSHOT_LIMIT],
            spans=self.spans(),
        )

    async def shown(self, records: Sequence[Record]) -> list[tuple[str, BaseModel]]:
        return [
            ("room" if isinstance(item, schema.Room) else "post", item)
            for item in await self.forum.shown(records)
        ]

    def spans(self) -> list[schema.Span]:
        return self._compute.spans()

    def changed_spans(
        self, before: Sequence[schema.Span], now: Sequence[schema.Span]
    ) -> list[schema.Span]:
        """New and changed spans, and those that are gone, marked as expired."""
        key = {(one.peer_id, one.revision, one.first, one.last) for one in now}
        gone = [
            one.model_copy(update={"expires_ms": self._now_ms()})
            for one in before
            if (one.peer_id, one.revision, one.first, one.last) not in key
        ]
        return [*gone, *(one for one in now if one not in before)]

    def changed_members(self, batch: Sequence[Event]) -> list[schema.Member]:
        agents: set[str] = set()
        for event in batch:
            if isinstance(event, MembersChanged):
                agents.update(address(agent) for agent in event.agents)
            elif isinstance(event, PeersChanged):
                return self._all_members()[:SNAPSHOT_LIMIT]
        if not agents:
            return []
        return [member for member in self._all_members() if member.agent in agents]


def parse_layers(text: str, layers: int) -> tuple[int, int]:
    """``"6:18"`` → (6, 18); empty means all. Raises ``layers.format``, ``layers.out_of_range``."""
    if not text:
        return 0, layers
    first, colon, last = text.partition(":")
    if not (colon and first.isdecimal() and last.isdecimal() and len(text) < 16):
        raise PermeshError(
            "layers.format",
            f"'{text[:40]}' does not name layers.",
            "Write FIRST:LAST, where LAST is not included: --layers 6:18",
        )
    if not 0 <= int(first) < int(last) <= layers:
        raise PermeshError(
            "layers.out_of_range",
            f"The model has layers 0:{layers}, and {text} is not among them.",
            f"Choose FIRST:LAST within 0:{layers}.",
        )
    return int(first), int(last)


def _page(items: list[_T], cursor: str | None, limit: int) -> tuple[list[_T], str | None]:
    """A page of a list that is held in memory; the cursor is a position in it."""
    if cursor is not None and not (cursor.isdecimal() and len(cursor) < 10):
        raise PermeshError("page.cursor", "The cursor is not one of ours.", "Begin without one.")
    start = int(cursor or 0)
    end = start + max(1, min(limit, MAX_PAGE))
    return items[start:end], str(end) if end < len(items) else None
