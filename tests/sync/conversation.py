"""An asker and an answerer on two stores, and all that they say to each other."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from permesh.p2p import limits, sync, sync_messages
from permesh.p2p.sync_messages import Held, decode
from permesh.records import Record
from permesh.space_index import Run
from permesh.spaces import (
    DAY_MS,
    SPACE_COMMONS,
    SPACE_IDENTITY,
    Content,
    Part,
    Sum,
    day_of,
    space_of,
)
from permesh.store import Store
from tests.simulator import START_MS, Author, MemoryStore, address

ME = address("me")
TODAY = START_MS // DAY_MS
EVERYWHERE = {SPACE_IDENTITY: 0, SPACE_COMMONS: 0}


class Side(Protocol):
    """What a session asks of a store: `MemoryStore` and `StoreSide` have it."""

    def save(self, records: Iterable[Record]) -> list[Record]: ...

    def missing(self, ids: Sequence[bytes]) -> list[bytes]: ...

    def wires(self, ids: Sequence[bytes], max_bytes: int) -> tuple[list[Any], int]: ...

    def head(self, author: bytes, length: int) -> Any: ...

    def sum(self, space: bytes, from_day: int = 0) -> Sum: ...

    def days(self, space: bytes, from_day: int) -> dict[int, Sum]: ...

    def contents(self, space: bytes, parts: Sequence[Part], limit: int) -> list[Content]: ...

    def heads(self, space: bytes) -> list[tuple[bytes, int]] | None: ...

    def newer(
        self, space: bytes, from_day: int, heads: Mapping[bytes, int], limit: int
    ) -> tuple[list[Run], bool]: ...


class StoreSide:
    """A real store, as the driver asks it."""

    def __init__(self, store: Store) -> None:
        self.store = store
        index = store.spaces
        self.sum, self.days, self.contents, self.newer = (
            index.sum, index.days, index.contents, index.newer,
        )  # fmt: skip
        self.missing, self.wires = store.missing, store.wires

    def save(self, records: Iterable[Record]) -> list[Record]:
        return self.store.save(records, START_MS)

    def head(self, author: bytes, length: int) -> Any:
        head = self.store.head(author)
        if head is None or head.seq < length:
            return None
        return self.store.wires([head.id], limits.BATCH_BYTES)[0][0]

    def heads(self, space: bytes) -> list[tuple[bytes, int]] | None:
        return self.store.spaces.heads(space, limits.HEADS)


class Conversation:
    """``own_spaces`` and ``their_spaces``: what each side holds, and from which day on."""

    def __init__(
        self,
        own: Side,
        theirs: Side,
        offers: Sequence[bytes] = (),
        *,
        own_spaces: Mapping[bytes, int] = EVERYWHERE,
        their_spaces: Mapping[bytes, int] = EVERYWHERE,
        length: int = 0,
    ) -> None:
        self.own, self.theirs, self.offers = own, theirs, offers
        self.own_spaces, self.their_spaces = own_spaces, their_spaces
        self.length = length
        self.asker, self.answerer = sync.Asker(), sync.Answerer()
        self.said: list[sync_messages.Message] = []
        self.taken: list[Record] = []  # by the asker
        self.given: list[Record] = []  # to the answerer
        self.offered: list[bytes] = []
        self.asked: set[bytes] = set()  # ids that either side looked for
        self.end: sync.Finished | None = None
        self._to_asker: deque[bytes] = deque()
        self._to_answerer: deque[bytes] = deque()

    def run(self) -> sync.Finished:
        spaces = [Held(s, day, self.own.sum(s, day)) for s, day in self.own_spaces.items()]
        self._carry_out(self.asker, self.asker.start(ME, self.length, spaces))
        while self.end is None:
            if self._to_answerer:
                said = self.answerer.received(self._to_answerer.popleft())
                self._carry_out(self.answerer, said)
            else:
                self._carry_out(self.asker, self.asker.received(self._to_asker.popleft()))
        assert not self._to_asker
        return self.end

    def messages(self, *kinds: type) -> list[Any]:
        return [message for message in self.said if isinstance(message, kinds)]

    def _carry_out(
        self, machine: sync.Asker | sync.Answerer, actions: Sequence[sync.Action]
    ) -> None:
        waiting = deque(actions)
        while waiting:
            assert self.end is None
            waiting += self._do(machine, waiting.popleft())

    def _do(self, machine: sync.Asker | sync.Answerer, action: sync.Action) -> list[sync.Action]:
        asking = isinstance(machine, sync.Asker)
        side = self.own if asking else self.theirs
        spaces = self.own_spaces if asking else self.their_spaces
        match action:
            case sync.Send(data):
                assert len(data) <= limits.SYNC_MESSAGE_BYTES
                self.said.append(decode(data))
                (self._to_answerer if asking else self._to_asker).append(data)
            case sync.FindMissing(space, ids):
                self.asked.update(ids)
                return machine.missing(side.missing(ids) if space in spaces else [])
            case sync.TakeIn(wires):
                records = [Record.from_wire(wire) for wire in wires]
                (self.taken if asking else self.given).extend(records)
                side.save(record for record in records if holds(spaces, record))
            case sync.ReadDays(space, from_day):
                return machine.days(side.days(space, from_day))
            case sync.ReadParts(space, parts):
                return machine.parts(side.contents(space, parts, limits.PAGE_IDS))
            case sync.ReadWires(ids, max_bytes):
                return machine.wires(*side.wires(ids, max_bytes))
            case _ if isinstance(machine, sync.Asker):
                return self._do_asker(machine, action)
            case _:
                return self._do_answerer(machine, action)
        return []

    def _do_asker(self, asker: sync.Asker, action: sync.Action) -> list[sync.Action]:
        match action:
            case sync.ReadSum(space, from_day):
                return asker.summed(self.own.sum(space, from_day))
            case sync.ReadHeads(space):
                return asker.heads(self.own.heads(space))
            case sync.Offers(blobs):
                self.offered += blobs
                return []
            case sync.Finished():
                self.end = action
                return []
        raise AssertionError(action)

    def _do_answerer(self, answerer: sync.Answerer, action: sync.Action) -> list[sync.Action]:
        match action:
            case sync.ReadHeld(author, length, spaces):
                held: list[Held | None] = []
                for space, from_day in spaces:
                    day = max(from_day, self.their_spaces.get(space, 0))
                    known = space in self.their_spaces
                    held.append(Held(space, day, self.theirs.sum(space, day)) if known else None)
                return answerer.held(held, self.theirs.head(author, length), self.offers)
            case sync.ReadNewer(space, from_day, heads):
                newer = self.theirs.newer(space, from_day, dict(heads), limits.PAGE_IDS)
                return answerer.newer(*newer)
        raise AssertionError(action)


def holds(spaces: Mapping[bytes, int], record: Record) -> bool:
    """Whether a member that holds ``spaces`` keeps the record."""
    header = record.header
    from_day = spaces.get(space_of(header.kind, header.room))
    return from_day is not None and day_of(header.created_ms) >= from_day


def store_of(*records: Record) -> MemoryStore:
    store = MemoryStore()
    store.save(records)
    return store


def some_records(number: int, name: str = "a", body: bytes = b"") -> list[Record]:
    """A credential, and notes in the commons."""
    author = Author(name)
    return [author.credential(), *(author.write(body) for _ in range(number))]


def ids_of(*numbers: int) -> tuple[bytes, ...]:
    return tuple(n.to_bytes(32, "big") for n in numbers)


def answering() -> sync.Answerer:
    """An answerer that has been told what the asker holds."""
    answerer = sync.Answerer()
    answerer.received(sync_messages.encode(sync_messages.Ask(ME, 0, ())))
    return answerer
