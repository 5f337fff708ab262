"""The driver that makes stores equal: it carries out what sync, gossip and intake decide.

Owns the tasks, what of all this is held here, and the order Save, then Emit.
Must never decide what is valid, lacking or due: those are pure modules beside it.
"""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from random import Random
from typing import TYPE_CHECKING, Any, Protocol

import trio

from permesh.async_store import AsyncStore
from permesh.errors import PermeshError, Refused
from permesh.events import EventBus, MembersChanged, RecordsSaved
from permesh.identity.roster import REGISTRARS_OWN
from permesh.records import Record
from permesh.removal import NO_REMOVALS, Removals
from permesh.spaces import SPACE_COMMONS, SPACE_IDENTITY, day_of, space_of
from permesh.store import Store

from . import gossip, limits
from .intake import Intake, Roster
from .schedule import Outcome, PullSchedule
from .sessions import FramedStream, Opener, Sessions

if TYPE_CHECKING:
    from trio_typing import TaskStatus  # what the stubs of trio call it

# Before the code of what was wrong with gossip: who forwards cannot look into everything, so it is
# counted and nobody is shut out for it. What comes by sync was in the peer's own store.
GOSSIP_FAULT = "gossip."

_log = logging.getLogger("permesh.p2p.replication")


def severity(code: str) -> int:
    """How bad a fault of this room is, of the 100 for which `Swarm.fault` shuts a peer out."""
    if code.startswith(GOSSIP_FAULT):
        return 0
    return {"sync.rate": 2, "sync.withheld": 2, "sync.fruitless": 5}.get(code, 20)


class SwarmLike(Opener, Protocol):
    async def publish(self, data: bytes) -> None: ...


class Replication:
    """``fault(peer_id, code)`` counts what a peer did wrong; ``offers`` gives the ephemeral
    offers that now hold and ``on_offer(peer_id, blob)`` takes those of others (not looked into).
    ``on_pulled`` is told that a peer's records are here. ``rooms`` gives the rooms that are
    followed, each with the day from which on its records are kept; records of other rooms are
    kept only if ``author``, who this is, wrote them. ``pinned`` gives the ids of a room that stay,
    however old. None of the callbacks may block or raise.
    """

    def __init__(
        self,
        store: AsyncStore,
        roster: Roster,
        swarm: SwarmLike,
        events: EventBus,
        *,
        now_ms: Callable[[], int],
        rng: Random,
        fault: Callable[[str, str], None],
        check_format: Callable[[Record], None],
        author: bytes,
        removals: Removals = NO_REMOVALS,
        rooms: Callable[[sqlite3.Connection], Mapping[bytes, int]] = lambda _connection: {},
        pinned: Callable[[sqlite3.Connection, bytes], Collection[bytes]] = lambda *_: (),
        offers: Callable[[], list[bytes]] = list,
        on_offer: Callable[[str, bytes], None] = lambda _peer_id, _blob: None,
        on_pulled: Callable[[], None] = lambda: None,
    ) -> None:
        self._store = store
        self._roster = roster
        self._swarm = swarm
        self._events = events
        self._now_ms = now_ms
        self._fault = fault
        self._offers = offers
        self._on_offer = on_offer
        self._on_pulled = on_pulled
        self._author = author
        self._read_rooms = rooms
        self._rooms: Mapping[bytes, int] = {}
        self._rooms_since: dict[bytes, int] = {}  # when each was first followed, of this run
        self._intake = Intake(roster, check_format, removals)
        self._put_off = limits.PutOff()
        self._sessions = Sessions(
            store,
            swarm,
            author=author,
            spaces=self._spaces,
            take_in=self._take_in_wires,
            wanted=lambda ids: self._put_off.wanted(ids, _tick()),
            offers=self._own_offers,
            on_offer=on_offer,
            fault=fault,
            pinned=pinned,
        )
        # Two of the peers that we have pulled from since we began: one of them is always another.
        self._heard_from: set[str] = set()
        self._heard_changed = trio.Event()
        self._listening_since_ms: int | None = None
        self._gossiper = gossip.Gossiper()
        self._schedule = PullSchedule(rng)
        self._forwarders: limits.Rates[str] = limits.Rates(
            limits.FORWARDER_BURST, limits.FORWARDER_PER_SECOND
        )
        self._authors: limits.Rates[bytes] = limits.Rates(
            limits.AUTHOR_BURST, limits.AUTHOR_PER_SECOND
        )
        self._commoners: limits.Rates[tuple[bytes, bytes]] = limits.Rates(
            limits.COMMONS_BURST, limits.COMMONS_PER_SECOND
        )
        self._inbox, self._arrived = trio.open_memory_channel[tuple[str, bytes]](
            limits.INBOX_MESSAGES
        )
        self._pull_changed = trio.Event()
        self._rooms_changed = trio.Event()
        self._gossip_changed = trio.Event()
        self._roster_changed = trio.Event()

    # -- what the composition root connects ------------------------------------------------

    async def run(self, task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Pull, publish and take in until cancelled."""
        await self.refresh_rooms()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._publish)
            nursery.start_soon(self._listen)
            nursery.start_soon(self._retry_waiting)
            nursery.start_soon(self._refresh_when_changed)
            nursery.start_soon(self._pull_when_due, nursery)
            task_status.started()

    def on_peer(self, peer_id: str) -> None:
        """A member is connected."""
        self._schedule.connected(peer_id, _tick())
        self._pull_changed.set()

    def on_gone(self, peer_id: str) -> None:
        self._schedule.gone(peer_id)
        if not self._schedule.has_peers:
            self._listening_since_ms = None

    def listening_since_ms(self, room: bytes) -> int | None:
        """Since when whatever is written in a room reaches this member soon; None while nobody is
        heard, or the room is not followed."""
        since, followed = self._listening_since_ms, self._rooms_since.get(room)
        return None if since is None or followed is None else max(since, followed)

    async def refresh_rooms(self) -> None:
        """What is followed has changed: what lacks is asked for at once."""
        before = self._rooms
        self._rooms = await self._store.read(lambda store: self._read_rooms(store.connection))
        now = self._now_ms()
        self._rooms_since = {room: self._rooms_since.get(room, now) for room in self._rooms}
        if any(day < before.get(room, day + 1) for room, day in self._rooms.items()):
            self._schedule.all_due(_tick())
            self._pull_changed.set()

    async def _refresh_when_changed(self) -> None:
        while True:
            await self._rooms_changed.wait()
            self._rooms_changed = trio.Event()
            try:
                await self.refresh_rooms()
            except PermeshError as error:
                _log.warning("what is followed could not be read: %s", error)

    def own_saved(self, record: Record) -> None:
        """`Journal`'s ``on_saved``: this member's record is durable, so tell of it."""
        self._emit([record], own=True)
        if _space(record) == SPACE_COMMONS:  # a room of our own is followed from its beginning
            self._rooms_changed.set()
        self._gossiper.add(record)
        self._gossip_changed.set()

    def roster_changed(self) -> None:
        """The roster has learned a credential otherwise than from a record taken in here."""
        self._roster_changed.set()

    def publish_offers(self) -> None:
        """This member's offers have changed: tell all now."""
        self._gossiper.offer(self._own_offers())
        self._gossip_changed.set()

    def on_message(self, peer_id: str, data: bytes) -> None:
        """A gossip message that ``peer_id`` forwarded, whoever wrote it.

        Dropped if it comes too fast or too many wait: sync completes what is missed.
        """
        try:
            if not self._forwarders.take(peer_id, _tick()):
                raise trio.WouldBlock
            self._inbox.send_nowait((peer_id, data))
        except trio.WouldBlock:
            self._hint(peer_id)

    async def handle_sync(
        self, stream: FramedStream, peer_id: str, _verified: object = None
    ) -> None:
        """Answer one inbound session; returns when it is over, whatever the peer does."""
        await self._sessions.answer(stream, peer_id)

    # -- gossip ----------------------------------------------------------------------------

    async def _publish(self) -> None:
        while True:
            data = self._gossiper.due(_tick())
            if data is None:
                wait = self._gossiper.due_in(_tick())
                await _wait(self._gossip_changed, wait)
                self._gossip_changed = trio.Event()
                continue
            try:
                with trio.fail_after(limits.PUBLISH_S):
                    await self._swarm.publish(data)
            except Exception as error:  # the library's own types: a lost hint is no more than that
                _log.warning("a gossip message was not published: %r", error)

    async def _listen(self) -> None:
        async for peer_id, data in self._arrived:
            try:
                message = gossip.decode(data)
                if isinstance(message, gossip.Offer):
                    for blob in message.blobs:
                        self._on_offer(peer_id, blob)
                elif await self._is_gap(peer_id, message):
                    self._hint(peer_id)
            except Refused as error:
                self._fault(peer_id, GOSSIP_FAULT + error.code)
            except PermeshError as error:  # our own disk: sync brings it again
                _log.warning("gossip could not be taken in: %s", error)

    async def _is_gap(self, peer_id: str, message: gossip.NewRecords) -> bool:
        """Take the records in, and say whether the message told of more than that."""
        records = [
            record
            for record in await self._open(peer_id, message.wires, GOSSIP_FAULT)
            if self._authors.take(record.header.author, _tick())
        ]
        await self._take_in(peer_id, records, GOSSIP_FAULT)
        spaces = self._spaces()
        held = [record.header.prev for record in records if _space(record) in spaces]
        before = {prev for prev in held if prev}
        if await self._store.read(Store.missing, list(before)):
            return True
        heads = [head for head in message.heads if head[0] in spaces]
        return await self._store.read(Store.behind, heads)

    # -- taking in -------------------------------------------------------------------------

    async def _open(self, peer_id: str, wires: Iterable[Any], fault: str = "") -> list[Record]:
        records = []
        pace = _Pace()
        for wire in wires:
            await pace.breathe()
            try:
                records.append(self._intake.open(wire))
            except Refused as error:
                self._fault(peer_id, fault + error.code)
        return records

    async def _take_in_wires(self, peer_id: str, wires: Sequence[Any]) -> int:
        return await self._take_in(peer_id, await self._open(peer_id, wires))

    async def _take_in(self, peer_id: str, records: Sequence[Record], fault: str = "") -> int:
        """Check, Save, Emit what is new of these; returns how many were.

        Identity comes first, since it says who signed the rest, then the commons, since they say
        which rooms there are. ``fault`` goes before the code of each refusal.
        """
        missing = set(await self._store.read(Store.missing, [record.id for record in records]))
        steps: tuple[list[tuple[str, Record]], ...] = ([], [], [])
        for record in records:
            if record.id in missing:
                space = _space(record)
                step = 0 if space == SPACE_IDENTITY else 1 if space == SPACE_COMMONS else 2
                steps[step].append((peer_id, record))
        identity, commons, rooms = steps
        kept = await self._keep(identity, fault)
        if commons:
            new = await self._keep(commons, fault)
            if new:
                await self.refresh_rooms()
            kept += new
        return kept + await self._keep([item for item in rooms if self._holds(item[1])], fault)

    def _in_time(self, record: Record) -> bool:
        """Whether its author has not filled what everybody holds faster than anybody needs to."""
        space, header = _space(record), record.header
        if space not in (SPACE_IDENTITY, SPACE_COMMONS) or header.kind in REGISTRARS_OWN:
            return True
        if self._commoners.take((space, header.author), _tick()):
            return True
        self._put_off.add(record.id, _tick())
        return False

    def _holds(self, record: Record) -> bool:
        """Whether this member keeps records of that room and that day."""
        from_day = self._rooms.get(record.header.room)
        if from_day is None:
            return record.header.author == self._author
        early = day_of(record.header.created_ms) < from_day
        return not early or record.id in self._sessions.pinned

    def _spaces(self) -> Mapping[bytes, int]:
        return {SPACE_IDENTITY: 0, SPACE_COMMONS: 0, **self._rooms}

    async def _keep(self, batch: Sequence[tuple[str, Record]], fault: str) -> int:
        valid = []
        pace = _Pace()
        for peer_id, record in batch:
            await pace.breathe()
            try:
                if self._intake.judge(record, peer_id, self._now_ms()) and self._in_time(record):
                    valid.append(record)
            except Refused as error:
                self._fault(peer_id, fault + error.code)
        if not valid:
            return 0
        saved = await self._store.save(valid, self._now_ms())
        # No checkpoint between the commit and this: each record is told of once, or a kill came.
        self._emit(saved, own=False)
        return len(saved)

    async def _retry_waiting(self) -> None:
        """A credential lets in what has waited for it, and that may be a credential again."""
        while True:
            await self._roster_changed.wait()
            self._roster_changed = trio.Event()
            try:
                await self._keep(self._intake.release(), GOSSIP_FAULT)
            except PermeshError as error:
                _log.warning("what waited could not be taken in: %s", error)

    def _emit(self, records: Sequence[Record], *, own: bool) -> None:
        if not records:
            return
        agents: set[bytes] = set()
        for record in records:
            if _is_identity(record):
                agents.update(self._roster.apply(record))
                self._roster_changed.set()
        self._events.publish(RecordsSaved(tuple(records), own))
        if agents:
            self._events.publish(MembersChanged(tuple(sorted(agents))))

    # -- sync ------------------------------------------------------------------------------

    def _hint(self, peer_id: str) -> None:
        self._schedule.hint(peer_id, _tick())
        self._pull_changed.set()

    async def _pull_when_due(self, nursery: trio.Nursery) -> None:
        while True:
            for peer_id in self._schedule.due(_tick()):
                nursery.start_soon(self._pull, peer_id)
            await _wait(self._pull_changed, self._schedule.due_in(_tick()))
            self._pull_changed = trio.Event()

    async def _pull(self, peer_id: str) -> None:
        outcome = await self._sessions.ask(peer_id)
        self._schedule.finished(peer_id, outcome, _tick())
        self._pull_changed.set()
        if outcome not in (Outcome.FAILED, Outcome.FAULT):
            if self._listening_since_ms is None:
                self._listening_since_ms = self._now_ms()
            if len(self._heard_from) < 2:
                self._heard_from.add(peer_id)
            self._on_pulled()
        self._heard_changed.set()
        self._heard_changed = trio.Event()

    async def caught_up_for(self, peer_id: str, connected: Callable[[], Iterable[str]]) -> None:
        """Return once we know what was said while we were away, before ``peer_id`` is served.

        What it says itself does not do, as long as another one is ``connected`` whom we can ask.
        """
        while True:
            others = self._heard_from - {peer_id}
            if others or (peer_id in self._heard_from and set(connected()) <= {peer_id}):
                return
            await self._heard_changed.wait()

    def _own_offers(self) -> list[bytes]:
        fitting = [blob for blob in self._offers() if 0 < len(blob) <= limits.OFFER_BYTES]
        return fitting[: limits.OFFERS]


class _Pace:
    """Gives other tasks their turn while a batch is checked: a signature costs 0.13 ms."""

    def __init__(self) -> None:
        self._since = time.perf_counter()

    async def breathe(self) -> None:
        if time.perf_counter() - self._since >= limits.SLICE_S:
            await trio.lowlevel.checkpoint()
            self._since = time.perf_counter()


def _space(record: Record) -> bytes:
    return space_of(record.header.kind, record.header.room)


def _is_identity(record: Record) -> bool:
    return _space(record) == SPACE_IDENTITY


def _tick() -> int:
    """Milliseconds that never run backwards, unlike the wall's."""
    return int(trio.current_time() * 1000)


async def _wait(event: trio.Event, milliseconds: int | None) -> None:
    """Until the event, or until the time has passed if one is given."""
    with trio.move_on_after(float("inf") if milliseconds is None else milliseconds / 1000):
        await event.wait()
