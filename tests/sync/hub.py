"""Members joined by memory streams: the real driver, store and framing, without libp2p."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

import trio
import trio.testing

from permesh.async_store import AsyncStore
from permesh.errors import PermeshError
from permesh.events import Event, EventBus, RecordsSaved, Subscription
from permesh.p2p import gossip
from permesh.p2p.intake import Roster
from permesh.p2p.journal import Journal, Signing
from permesh.p2p.replication import Replication
from permesh.p2p.sessions import PROTOCOL
from permesh.p2p.wire import Framed
from permesh.records import Record
from permesh.spaces import Sum
from permesh.store import Store
from tests.simulator import CREDENTIAL, MESH, REMOVALS, START_MS, CheapRoster, address, cheap_sign

Handler = Callable[[Framed, str], Awaitable[None]]


class Hub:
    """Who can be reached, and by which handler."""

    def __init__(self, nursery: trio.Nursery, directory: Path) -> None:
        self.nursery = nursery
        self.directory = directory
        self.handlers: dict[str, Handler] = {}
        self.members: dict[str, Member] = {}
        self.deaf: set[str] = set()  # gossip does not reach them
        self.opened: Counter[str] = Counter()

    @asynccontextmanager
    async def member(
        self, name: str, roster: Roster | None = None, rooms: Mapping[bytes, int] | None = None
    ) -> AsyncIterator[Member]:
        """``rooms`` are those that it follows, each from a day on."""
        store = await AsyncStore.open(self.directory / f"{name}.db", removals=REMOVALS)
        member = Member(self, name, store, roster)
        member.rooms.update(rooms or {})
        for record in await store.read(Store.load_identity_records):
            member.roster.apply(record)
        try:
            async with trio.open_nursery() as nursery, member.events.subscribe() as events:
                member.heard = events
                await nursery.start(member.replication.run)
                self.handlers[name] = member.replication.handle_sync
                self.members[name] = member
                yield member
                nursery.cancel_scope.cancel()
        finally:
            self.members.pop(name, None)
            self.handlers.pop(name, None)
            await store.aclose()

    def connect(self, *names: str) -> None:
        for one in names:
            for other in names:
                if one != other and one in self.members:
                    self.members[one].replication.on_peer(other)


class CountingBus(EventBus):
    """Counts how often each record was told of."""

    def __init__(self) -> None:
        super().__init__()
        self.told: Counter[bytes] = Counter()

    def publish(self, event: Event) -> None:
        if isinstance(event, RecordsSaved):
            self.told.update(record.id for record in event.records)
        super().publish(event)


class Member:
    """Also the swarm that its replication sees."""

    heard: Subscription

    def __init__(self, hub: Hub, name: str, store: AsyncStore, roster: Roster | None) -> None:
        self.hub, self.name, self.store = hub, name, store
        self.address = address(name)
        self.roster = roster or CheapRoster()
        self.events = CountingBus()
        self.faults: Counter[tuple[str, str]] = Counter()
        self.published: list[bytes] = []
        self.offers: list[bytes] = []
        self.rooms: dict[bytes, int] = {}  # followed, each from a day on
        self.pinned: dict[bytes, tuple[bytes, ...]] = {}  # ids that stay, by room
        self.read_rooms: Callable[[sqlite3.Connection], Mapping[bytes, int]]
        self.read_rooms = lambda _connection: dict(self.rooms)
        self.offered: list[tuple[str, bytes]] = []
        self.told = self.events.told
        self.replication = Replication(
            store,
            self.roster,
            self,
            self.events,
            now_ms=lambda: START_MS,
            rng=Random(name),
            fault=self._fault,
            check_format=lambda _record: None,
            author=self.address,
            removals=REMOVALS,
            rooms=lambda connection: self.read_rooms(connection),
            pinned=lambda _connection, room: self.pinned.get(room, ()),
            offers=lambda: self.offers,
            on_offer=lambda peer_id, blob: self.offered.append((peer_id, blob)),
        )
        self.journal = Journal(
            store, mesh=MESH, author=self.address, signing=Signing(1, cheap_sign(self.address)),
            now_ms=lambda: START_MS, on_saved=self.replication.own_saved,
        )  # fmt: skip

    def _fault(self, peer_id: str, code: str) -> None:
        self.faults[peer_id, code] += 1

    async def open(self, peer_id: str, protocol: str, deadline: float) -> Framed:
        assert protocol == PROTOCOL
        assert deadline > 0
        handler = self.hub.handlers.get(peer_id)
        if handler is None:
            raise PermeshError("network.not_connected", "Not connected.")
        self.hub.opened[peer_id] += 1
        here, there = trio.testing.memory_stream_pair()
        self.hub.nursery.start_soon(handler, Framed(there), self.name)
        return Framed(here)

    async def publish(self, data: bytes) -> None:
        await trio.lowlevel.checkpoint()
        self.published.append(data)
        for name, other in self.hub.members.items():
            if name != self.name and name not in self.hub.deaf:
                other.replication.on_message(self.name, data)

    async def credential(self) -> Record:
        return await self.journal.append(CREDENTIAL, self.address)

    async def until_has(self, records: list[Record]) -> None:
        """Wait, as a listener to events, until all of these were told of, and so are durable."""
        with trio.fail_after(10):
            while not {record.id for record in records} <= set(self.told):
                await anext(self.heard)
        assert await self.store.read(Store.missing, [record.id for record in records]) == []


def send(member: Member, peer: str, *records: Record) -> None:
    """Let gossip bring the records, forwarded by ``peer``."""
    wires = tuple(record.to_wire() for record in records)
    member.replication.on_message(peer, gossip.encode(gossip.NewRecords(wires, ())))


def sums(store: Store) -> dict[bytes, Sum]:
    """What is in a store, space by space."""
    return {space: store.spaces.sum(space) for space in store.spaces.spaces()}


async def until(condition: Callable[[], object]) -> None:
    """Give the other tasks their turns until ``condition`` holds."""
    with trio.fail_after(5):
        while not condition():
            await trio.lowlevel.checkpoint()


async def in_hub(directory: Path, main: Callable[[Hub], Awaitable[None]]) -> None:
    async with trio.open_nursery() as nursery:
        await main(Hub(nursery, directory))
        nursery.cancel_scope.cancel()
