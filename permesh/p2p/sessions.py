"""The streams of sync: it carries out what the two sides of a session decide.

Owns the streams of `/permesh/sync/2`, their deadlines, rates and numbers, and which ids are being
fetched right now. Must never decide what lacks (`permesh/p2p/sync.py`) nor what is valid.
"""

from __future__ import annotations

import logging
import sqlite3
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Protocol

import trio

from permesh.async_store import AsyncStore
from permesh.errors import PermeshError, Refused
from permesh.records import record_id
from permesh.space_index import SpaceIndex
from permesh.spaces import SPACE_COMMONS, SPACE_IDENTITY
from permesh.store import Store

from . import limits, sync
from .schedule import Outcome
from .sync_messages import Held

PROTOCOL = "/permesh/sync/2"

_log = logging.getLogger("permesh.p2p.sessions")


_Machine = sync.Asker | sync.Answerer | sync.Picker


class FramedStream(Protocol):
    """`permesh/p2p/wire.py`'s ``Framed``: every failure of the wire is a ``PermeshError``."""

    async def send(self, message: bytes, deadline: float = ...) -> None: ...

    async def receive(self, deadline: float | None = ...) -> bytes: ...

    async def aclose(self) -> None: ...


class Opener(Protocol):
    async def open(self, peer_id: str, protocol: str, deadline: float) -> FramedStream: ...


class Sessions:
    """``spaces`` gives what this member holds, each space with the day from which on it does;
    ``take_in(peer_id, wires)`` checks and keeps records and returns how many were new; ``wanted``
    says which of those that lack are to be asked for; ``pinned`` gives the ids of a room that are
    to stay, however old."""

    def __init__(
        self,
        store: AsyncStore,
        swarm: Opener,
        *,
        author: bytes,
        spaces: Callable[[], Mapping[bytes, int]],
        take_in: Callable[[str, Sequence[Any]], Awaitable[int]],
        wanted: Callable[[Sequence[bytes]], Sequence[bytes]] = lambda ids: ids,
        offers: Callable[[], list[bytes]],
        on_offer: Callable[[str, bytes], None],
        fault: Callable[[str, str], None],
        pinned: Callable[[sqlite3.Connection, bytes], Collection[bytes]] = lambda *_: (),
    ) -> None:
        self.pinned: frozenset[bytes] = frozenset()  # lacking here, and asked for
        self._pinned = pinned
        self._store = store
        self._swarm = swarm
        self._author = author
        self._spaces = spaces
        self._take_in = take_in
        self._wanted = wanted
        self._offers = offers
        self._on_offer = on_offer
        self._fault = fault
        self._rates: limits.Rates[str] = limits.Rates(
            limits.SESSION_BURST, limits.SESSION_PER_SECOND
        )
        self._questions: limits.Rates[str] = limits.Rates(
            limits.QUESTION_BURST, limits.QUESTIONS_PER_SECOND
        )
        self._inbound: Counter[str] = Counter()
        # Wanted from some peer right now, and until when others leave it to that one.
        self._fetching: dict[bytes, float] = {}

    async def ask(self, peer_id: str) -> Outcome:
        """Pull from a peer, and give it what it lacks."""
        try:
            with trio.move_on_after(limits.SESSION_S):
                stream = await self._swarm.open(peer_id, PROTOCOL, limits.OPEN_S)
                try:
                    return await self._ask_aside(peer_id, stream)
                finally:
                    await stream.aclose()
        except PermeshError as error:
            if isinstance(error, Refused):
                self._fault(peer_id, error.code)
            _log.info("a pull from %s ended early: %s", peer_id, error)
        return Outcome.FAILED

    async def answer(self, stream: FramedStream, peer_id: str) -> None:
        """One inbound session; returns when it is over, whatever the peer does."""
        if not self._rates.take(peer_id, _tick()):
            self._fault(peer_id, "sync.rate")
        elif (
            self._inbound[peer_id] < limits.SESSIONS_PER_PEER
            and self._inbound.total() < limits.SESSIONS
        ):
            self._inbound[peer_id] += 1
            answerer = sync.Answerer()
            try:
                with trio.move_on_after(limits.SESSION_S):
                    finished = await _Session(self, peer_id, stream).run(answerer, [])
                    if finished.fault:
                        self._fault(peer_id, finished.fault)
            except PermeshError as error:
                _log.debug("sync session of %s ended: %s", peer_id, error)
            finally:
                if answerer.withheld:
                    self._fault(peer_id, "sync.withheld")
                self._inbound[peer_id] -= 1
                if not self._inbound[peer_id]:
                    del self._inbound[peer_id]
        await stream.aclose()

    async def pace(self, peer_id: str) -> None:
        """Let a peer wait that asks faster than anybody needs to; it is not blamed for it."""
        while not self._questions.take(peer_id, _tick()):  # noqa: ASYNC110 - time itself
            await trio.sleep(1 / limits.QUESTIONS_PER_SECOND)

    async def _ask_aside(self, peer_id: str, stream: FramedStream) -> Outcome:
        """With a nursery in which records are taken in while the next ones come."""
        outcome, failure = Outcome.FAILED, None
        async with trio.open_nursery() as nursery:
            try:
                outcome = await self._ask(peer_id, stream, nursery)
            except PermeshError as error:
                failure = error  # raised below: a nursery would wrap it in a group
        if failure is not None:
            raise failure
        return outcome

    async def _ask(self, peer_id: str, stream: FramedStream, aside: trio.Nursery) -> Outcome:
        spaces = self._spaces()
        author = self._author

        def read(store: Store) -> tuple[int, list[Held]]:
            head = store.head(author)
            length = 0 if head is None else head.seq + 1
            held = [Held(space, day, store.spaces.sum(space, day)) for space, day in spaces.items()]
            return length, held[: limits.SPACES]

        asker = sync.Asker()
        session = _Session(self, peer_id, stream, aside)
        finished = await session.run(asker, asker.start(author, *await self._store.scan(read)))
        code = finished.fault or ("sync.withheld" if finished.withheld else "")
        if finished.fruitless:
            code = code or "sync.fruitless"
        if not code:
            self.pinned = await self._store.scan(self._pinned_missing, spaces)
            picker = sync.Picker()
            code = (await session.run(picker, picker.start(sorted(self.pinned)))).fault
        if code:
            self._fault(peer_id, code)
            return Outcome.FAULT
        if finished.left or session.left or set(self._spaces()) - set(spaces):
            return Outcome.AGAIN
        return Outcome.GAINED if session.took else Outcome.EQUAL

    def _pinned_missing(self, store: Store, spaces: Mapping[bytes, int]) -> frozenset[bytes]:
        """What is to stay of rooms of which this member does not hold all days, and is not here."""
        wanted = [
            item
            for space, from_day in spaces.items()
            if from_day
            for item in self._pinned(store.connection, space)
        ]
        return frozenset(store.missing(wanted[: limits.PAGE_IDS]))


class _Session:
    """One stream with one side's machine on it."""

    def __init__(
        self,
        shared: Sessions,
        peer_id: str,
        stream: FramedStream,
        aside: trio.Nursery | None = None,
    ) -> None:
        """``aside`` takes in a room's records while more of them come, a few messages at a time."""
        self.took = 0  # records that were new
        self.left = False  # something lacks that another session is fetching
        self._shared = shared
        self._store = shared._store
        self._peer_id = peer_id
        self._stream = stream
        self._claimed: set[bytes] = set()
        self._asked = 0  # of what everybody holds
        self._aside = aside
        self._in_room = False
        self._takings = trio.CapacityLimiter(limits.TAKEN_ASIDE)
        self._failure: PermeshError | None = None

    async def run(self, machine: _Machine, actions: list[sync.Action]) -> sync.Finished:
        try:
            while True:
                if not actions:
                    if isinstance(machine, sync.Answerer):
                        await self._shared.pace(self._peer_id)
                    actions = machine.received(await self._stream.receive(limits.MESSAGE_S))
                action = actions.pop(0)
                if isinstance(action, sync.Finished):
                    await self._settle()  # nobody else fetches what is on its way to the disk
                    return action
                if (
                    isinstance(action, sync.TakeIn)
                    and actions
                    and isinstance(actions[0], sync.Send)
                ):
                    # The peer reads what is wanted next while we check what it has given.
                    await self._do(machine, actions.pop(0))
                actions += await self._do(machine, action)
        finally:
            self._release(self._claimed)

    async def _do(self, machine: _Machine, action: sync.Action) -> list[sync.Action]:
        if not isinstance(action, sync.Send | sync.TakeIn | sync.Offers) and not (
            isinstance(action, sync.FindMissing) and _is_room(action.space)
        ):
            await self._settle()  # what is here is asked for, and that is to be the truth
        match action:
            case sync.Send(data):
                await self._stream.send(data, limits.MESSAGE_S)
            case sync.Offers(blobs):
                for blob in blobs:
                    self._shared._on_offer(self._peer_id, blob)
            case sync.TakeIn(wires):
                await self._take_in(wires)
            case _ if isinstance(machine, sync.Picker):
                raise AssertionError(action)
            case sync.FindMissing(space, ids):
                return machine.missing(await self._claim(space, ids))
            case sync.ReadDays(space, from_day):
                return machine.days(await self._read(SpaceIndex.days, space, from_day))
            case sync.ReadParts(space, parts):
                contents = await self._read(SpaceIndex.contents, space, parts, limits.PAGE_IDS)
                return machine.parts(contents)
            case sync.ReadWires(ids, max_bytes):
                return machine.wires(*await self._store.scan(Store.wires, ids, max_bytes))
            case _ if isinstance(machine, sync.Asker):
                return await self._do_asker(machine, action)
            case _:
                return await self._do_answerer(machine, action)
        return []

    async def _take_in(self, wires: Sequence[Any]) -> None:
        """Credentials and rooms at once, since what follows stands on them."""
        if self._aside is None or not self._in_room:
            self.took += await self._shared._take_in(self._peer_id, wires)
            return
        token = object()
        await self._takings.acquire_on_behalf_of(token)
        self._aside.start_soon(self._take_in_aside, wires, token)

    async def _take_in_aside(self, wires: Sequence[Any], token: object) -> None:
        try:
            self.took += await self._shared._take_in(self._peer_id, wires)
        except PermeshError as error:
            self._failure = error
        finally:
            # What the peer lists again is here now; what it withholds stays its own to give.
            self._release([record_id(wire[0]) for wire in wires])
            self._takings.release_on_behalf_of(token)

    async def _settle(self) -> None:
        """Wait until all that came is taken in."""
        tokens = [object() for _ in range(limits.TAKEN_ASIDE)]
        for token in tokens:
            await self._takings.acquire_on_behalf_of(token)
        for token in tokens:
            self._takings.release_on_behalf_of(token)
        if self._failure is not None:
            raise self._failure

    async def _do_asker(self, asker: sync.Asker, action: sync.Action) -> list[sync.Action]:
        match action:
            case sync.ReadSum(space, from_day):
                return asker.summed(await self._read(SpaceIndex.sum, space, from_day))
            case sync.ReadHeads(space):
                return asker.heads(await self._read(SpaceIndex.heads, space, limits.HEADS))
        raise AssertionError(action)

    async def _do_answerer(self, answerer: sync.Answerer, action: sync.Action) -> list[sync.Action]:
        match action:
            case sync.ReadHeld(author, length, spaces):
                held, own = await self._store.scan(
                    _held, self._shared._spaces(), author, length, spaces
                )
                return answerer.held(held, own, self._shared._offers())
            case sync.ReadNewer(space, from_day, heads):
                newer = await self._read(
                    SpaceIndex.newer, space, from_day, dict(heads), limits.PAGE_IDS
                )
                return answerer.newer(*newer)
        raise AssertionError(action)

    async def _read(self, method: Callable[..., Any], *values: Any) -> Any:
        return await self._store.scan(lambda store: method(store.spaces, *values))

    async def _claim(self, space: bytes, ids: Sequence[bytes]) -> list[bytes]:
        """Those that are missing and that no other session is fetching."""
        self._in_room = _is_room(space)
        if not self._in_room:
            self._release(self._claimed)
        missing: Sequence[bytes] = []
        if space in self._shared._spaces():
            missing = self._shared._wanted(await self._store.scan(Store.missing, ids))
        if not self._in_room:
            if self._asked - self.took > limits.VAIN_RECORDS:
                return []
            self._asked += len(missing)
        fetching, now = self._shared._fetching, trio.current_time()
        found = [item for item in missing if fetching.get(item, now) <= now]
        self._claimed.update(found)
        # Who lists records and then gives one now and then keeps nobody else from giving them.
        fetching.update(dict.fromkeys(found, now + limits.CLAIM_S))
        self.left = self.left or len(found) < len(missing)
        return found

    def _release(self, ids: Iterable[bytes]) -> None:
        for item in ids:
            self._shared._fetching.pop(item, None)
        self._claimed.difference_update(tuple(ids))


def _is_room(space: bytes) -> bool:
    return space not in (SPACE_IDENTITY, SPACE_COMMONS)


def _held(
    store: Store,
    own: Mapping[bytes, int],
    author: bytes,
    length: int,
    asked: Sequence[tuple[bytes, int]],
) -> tuple[list[Held | None], Any]:
    """What is here of the spaces that are held, and the author's last record if it is new to it."""
    held: list[Held | None] = []
    for space, from_day in asked:
        if space in own:
            day = max(from_day, own[space])
            held.append(Held(space, day, store.spaces.sum(space, day)))
        else:
            held.append(None)
    head = store.head(author)
    if head is None or head.seq < length:
        return held, None
    wires, _ = store.wires([head.id], limits.BATCH_BYTES)
    return held, wires[0] if wires else None


def _tick() -> int:
    return int(trio.current_time() * 1000)
