"""The driver that makes stores equal: it carries out what sync, gossip and intake decide.

Owns the streams of `/permesh/sync/1`, the tasks, the deadlines, and the order Save, then Emit.
Must never decide what is valid, lacking or due: those are pure modules beside it.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from random import Random
from typing import TYPE_CHECKING, Any, Protocol

import trio

from permesh.errors import PermeshError, Refused
from permesh.events import EventBus, MembersChanged, RecordsSaved
from permesh.records import Record
from permesh.store import SCOPE_IDENTITY, AsyncStore, Store, scope_of

from . import gossip, limits, sync
from .intake import Intake, Roster
from .schedule import Outcome, PullSchedule

if TYPE_CHECKING:
    from trio_typing import TaskStatus  # what the stubs of trio call it

PROTOCOL = "/permesh/sync/1"

# Before the code of what was wrong with gossip: who forwards cannot look into everything, so it is
# counted and nobody is shut out for it. What comes by sync was in the peer's own store.
GOSSIP_FAULT = "gossip."

_log = logging.getLogger("permesh.p2p.replication")


def severity(code: str) -> int:
    """How bad a fault of this room is, of the 100 for which `Swarm.fault` shuts a peer out."""
    if code.startswith(GOSSIP_FAULT):
        return 0
    return {"sync.rate": 2, "sync.withheld": 2}.get(code, 20)


class FramedStream(Protocol):
    """`permesh/p2p/wire.py`'s ``Framed``: every failure of the wire is a ``PermeshError``."""

    async def send(self, message: bytes, deadline: float = ...) -> None: ...

    async def receive(self, deadline: float | None = ...) -> bytes: ...

    async def aclose(self) -> None: ...


class SwarmLike(Protocol):
    async def open(self, peer_id: str, protocol: str, deadline: float) -> FramedStream: ...

    async def publish(self, data: bytes) -> None: ...


class Replication:
    """``fault(peer_id, code)`` counts what a peer did wrong; ``offers`` gives the ephemeral
    offers that now hold and ``on_offer(peer_id, blob)`` takes those of others (not looked into).
    ``on_pulled`` is told that a peer's records are here. None of the callbacks may block or raise.
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
        self._intake = Intake(roster, check_format)
        # Two of the peers that we have pulled from since we began: one of them is always another.
        self._heard_from: set[str] = set()
        self._heard_changed = trio.Event()
        self._gossiper = gossip.Gossiper()
        self._schedule = PullSchedule(rng)
        self._forwarders: limits.Rates[str] = limits.Rates(
            limits.FORWARDER_BURST, limits.FORWARDER_PER_SECOND
        )
        self._authors: limits.Rates[bytes] = limits.Rates(
            limits.AUTHOR_BURST, limits.AUTHOR_PER_SECOND
        )
        self._askers: limits.Rates[str] = limits.Rates(
            limits.SESSION_BURST, limits.SESSION_PER_SECOND
        )
        self._sessions: Counter[str] = Counter()
        self._fetching: set[bytes] = set()  # wanted from some peer right now
        self._inbox, self._arrived = trio.open_memory_channel[tuple[str, bytes]](
            limits.INBOX_MESSAGES
        )
        self._pull_changed = trio.Event()
        self._gossip_changed = trio.Event()
        self._roster_changed = trio.Event()

    # -- what the composition root connects ------------------------------------------------

    async def run(self, task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Pull, publish and take in until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._publish)
            nursery.start_soon(self._listen)
            nursery.start_soon(self._retry_waiting)
            nursery.start_soon(self._pull_when_due, nursery)
            task_status.started()

    def on_peer(self, peer_id: str) -> None:
        """A member is connected."""
        self._schedule.connected(peer_id, _tick())
        self._pull_changed.set()

    def on_gone(self, peer_id: str) -> None:
        self._schedule.gone(peer_id)

    def own_saved(self, record: Record) -> None:
        """`Journal`'s ``on_saved``: this member's record is durable, so tell of it."""
        self._emit([record], own=True)
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
        if not self._askers.take(peer_id, _tick()):
            self._fault(peer_id, "sync.rate")
        elif (
            self._sessions[peer_id] < limits.SESSIONS_PER_PEER
            and self._sessions.total() < limits.SESSIONS
        ):
            self._sessions[peer_id] += 1
            try:
                with trio.move_on_after(limits.SESSION_S):
                    await self._answer(peer_id, stream)
            except PermeshError as error:
                _log.debug("sync session of %s ended: %s", peer_id, error)
            finally:
                self._sessions[peer_id] -= 1
                if not self._sessions[peer_id]:
                    del self._sessions[peer_id]
        await stream.aclose()

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
        before = {record.header.prev for record in records if record.header.prev}
        if await self._store.read(Store.missing, list(before)):
            return True
        return await self._store.read(Store.behind, message.heads)

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

    async def _take_in(self, peer_id: str, records: Sequence[Record], fault: str = "") -> int:
        """Check, Save, Emit what is new of these; returns how many were.

        ``fault`` goes before the code of each refusal.
        """
        missing = set(await self._store.read(Store.missing, [record.id for record in records]))
        new = [record for record in records if record.id in missing]
        identity = [(peer_id, record) for record in new if _is_identity(record)]
        content = [(peer_id, record) for record in new if not _is_identity(record)]
        return await self._keep(identity, fault) + await self._keep(content, fault)

    async def _keep(self, batch: Sequence[tuple[str, Record]], fault: str) -> int:
        valid = []
        pace = _Pace()
        for peer_id, record in batch:
            await pace.breathe()
            try:
                if self._intake.judge(record, peer_id, self._now_ms()):
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
        outcome = Outcome.FAILED
        try:
            with trio.move_on_after(limits.SESSION_S):
                stream = await self._swarm.open(peer_id, PROTOCOL, limits.OPEN_S)
                try:
                    outcome = await self._ask(peer_id, stream)
                finally:
                    await stream.aclose()
        except PermeshError as error:
            if isinstance(error, Refused):
                self._fault(peer_id, error.code)
            _log.info("a pull from %s ended early: %s", peer_id, error)
        self._schedule.finished(peer_id, outcome, _tick())
        self._pull_changed.set()
        if outcome not in (Outcome.FAILED, Outcome.FAULT):
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

    async def _ask(self, peer_id: str, stream: FramedStream) -> Outcome:
        asker = sync.Asker()
        actions = asker.start(await self._store.read(Store.sums))
        outcome = Outcome.EQUAL
        claimed: set[bytes] = set()
        try:
            while True:
                for action in actions:
                    match action:
                        case sync.Send(data):
                            await stream.send(data, limits.MESSAGE_S)
                        case sync.Offers(blobs):
                            for blob in blobs:
                                self._on_offer(peer_id, blob)
                        case sync.TakeIn(wires):
                            records = await self._open(peer_id, wires)
                            if await self._take_in(peer_id, records) and outcome is Outcome.EQUAL:
                                outcome = Outcome.GAINED
                        case sync.Finished(fault, withheld):
                            return self._judge_session(peer_id, outcome, fault, withheld)
                        case sync.FindMissing():
                            pass
                if isinstance(actions[-1], sync.FindMissing):
                    self._fetching -= claimed
                    missing = await self._store.read(Store.missing, actions[-1].ids)
                    claimed = set(missing) - self._fetching
                    self._fetching |= claimed
                    if len(claimed) < len(missing):
                        outcome = Outcome.AGAIN  # see what became of what others fetch
                    actions = asker.missing([item for item in missing if item in claimed])
                else:
                    actions = asker.received(await stream.receive(limits.MESSAGE_S))
        finally:
            self._fetching -= claimed

    def _judge_session(self, peer_id: str, outcome: Outcome, fault: str, withheld: int) -> Outcome:
        code = fault or ("sync.withheld" if withheld else "")
        if not code:
            return outcome
        self._fault(peer_id, code)
        return Outcome.FAULT

    async def _answer(self, peer_id: str, stream: FramedStream) -> None:
        answerer = sync.Answerer()
        actions: list[sync.Action] = []
        while True:
            if not actions:
                actions = answerer.received(await stream.receive(limits.MESSAGE_S))
            action = actions.pop(0)
            match action:
                case sync.Send(data):
                    await stream.send(data, limits.MESSAGE_S)
                case sync.ReadSums():
                    sums = await self._store.read(Store.sums)
                    actions += answerer.sums(sums, self._own_offers())
                case sync.ReadIds(scope, after, limit):
                    actions += answerer.ids(await self._store.read(Store.ids, scope, after, limit))
                case sync.ReadWires(ids, max_bytes):
                    wires = await self._store.read(Store.wires, ids, max_bytes)
                    actions += answerer.wires(*wires)
                case sync.Finished(fault):
                    self._fault(peer_id, fault)
                    return

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


def _is_identity(record: Record) -> bool:
    return scope_of(record.header.kind) == SCOPE_IDENTITY


def _tick() -> int:
    """Milliseconds that never run backwards, unlike the wall's."""
    return int(trio.current_time() * 1000)


async def _wait(event: trio.Event, milliseconds: int | None) -> None:
    """Until the event, or until the time has passed if one is given."""
    with trio.move_on_after(float("inf") if milliseconds is None else milliseconds / 1000):
        await event.wait()
