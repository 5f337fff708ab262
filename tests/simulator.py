"""A mesh in virtual time: the protocol cores under delay, loss, partition and restart.

Owns the clock, the wires and the nodes of a simulated mesh; everything random comes from one
seed. The nodes run the real cores and keep records in a dictionary; a roster with a cheap
signature stands in where proofs are not the point.
"""

from __future__ import annotations

import hashlib
import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from permesh.errors import Refused
from permesh.p2p import gossip, limits, sync
from permesh.p2p.intake import Intake
from permesh.p2p.schedule import Outcome, PullSchedule
from permesh.p2p.sync_messages import Held
from permesh.records import Record, seal
from permesh.removal import Removals
from permesh.space_index import Run, head_name
from permesh.spaces import (
    SPACE_COMMONS,
    SPACE_IDENTITY,
    Content,
    DayIndex,
    Part,
    Sum,
    day_of,
    fingerprint,
    space_of,
)

MESH = bytes(range(32))
START_MS = 1_700_000_000_000
HEARTBEAT_MS = 1_000
CREDENTIAL = "identity.credential"
NOTE = "test.note"
# By it an author takes back the notes that are its parents.
REMOVAL = "test.removal"
REMOVALS = Removals(
    frozenset({NOTE}), lambda record: record.header.parents if record.header.kind == REMOVAL else ()
)


def address(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()[:20]


def cheap_sign(author: bytes) -> Callable[[bytes], bytes]:
    """Not a signature, but it differs by author and id, and costs a microsecond."""
    return lambda record_id: hashlib.sha512(author + record_id).digest()


@dataclass
class Author:
    """Someone who seals a chain of records."""

    name: str
    seq: int = 0
    prev: bytes = b""
    now_ms: int = START_MS

    @property
    def address(self) -> bytes:
        return address(self.name)

    def write(
        self, body: bytes = b"hello", kind: str = NOTE, room: bytes = b"", **fields: Any
    ) -> Record:
        self.now_ms += 1
        values: dict[str, Any] = {
            "mesh": MESH, "kind": kind, "author": self.address, "epoch": 1, "seq": self.seq,
            "prev": self.prev, "created_ms": self.now_ms, "body": body, "room": room,
            "sign": cheap_sign(self.address),
        }  # fmt: skip
        record = seal(**{**values, **fields})
        self.seq, self.prev = record.header.seq + 1, record.id
        return record

    def credential(self) -> Record:
        return self.write(self.address, CREDENTIAL)


def is_identity(record: Record) -> bool:
    return space_of(record.header.kind, record.header.room) == SPACE_IDENTITY


class CheapRoster:
    """Knows the authors whose credential record it has applied."""

    def __init__(self, records: Iterable[Record] = ()) -> None:
        self.known: set[bytes] = set()
        self.checked = 0
        for record in records:
            self.apply(record)

    def check(self, record: Record, now_ms: int) -> None:  # noqa: ARG002 - the roster's form
        self.checked += 1
        header = record.header
        if header.kind != CREDENTIAL and header.author not in self.known:
            raise Refused("record.credential_unknown", "Nobody that is known here.")
        if record.signature != cheap_sign(header.author)(record.id):
            raise Refused("record.signature", "Forged.")

    def apply(self, record: Record) -> list[bytes]:
        self.known.add(record.header.author)
        return [record.header.author]


class MemoryStore:
    """What `Store` and its `SpaceIndex` do, in dictionaries."""

    def __init__(self) -> None:
        self.records: dict[bytes, Record] = {}
        self._heads: dict[bytes, dict[bytes, int]] = {}  # by space and author
        self._days: dict[bytes, dict[int, dict[bytes, Record]]] = {}  # by space, day and id
        self._totals: Counter[tuple[bytes, int]] = Counter()
        self._trees: dict[tuple[bytes, int], DayIndex] = {}

    def save(self, records: Iterable[Record]) -> list[Record]:
        new = []
        for record in records:
            if record.id not in self.records:
                self.records[record.id] = record
                header = record.header
                space, day = space_of(header.kind, header.room), day_of(header.created_ms)
                heads = self._heads.setdefault(space, {})
                heads[header.author] = max(header.seq, heads.get(header.author, -1))
                self._days.setdefault(space, {}).setdefault(day, {})[record.id] = record
                self._totals[space, day] += int.from_bytes(record.id, "big")
                self._trees.pop((space, day), None)
                new.append(record)
        return new

    def length(self, author: bytes) -> int:
        return 1 + max((heads.get(author, -1) for heads in self._heads.values()), default=-1)

    def head(self, author: bytes, length: int) -> Any:
        """The author's last record in wire form, if there are more than ``length``."""
        if self.length(author) <= length:
            return None
        found = (r for r in self.records.values() if r.header.author == author)
        return max(found, key=lambda r: r.header.seq).to_wire()

    def sum(self, space: bytes, from_day: int = 0) -> Sum:
        days = [day for day in self._days.get(space, {}) if day >= from_day]
        count = sum(len(self._days[space][day]) for day in days)
        return Sum(count, fingerprint(count, sum(self._totals[space, day] for day in days)))

    def sums(self) -> tuple[Sum, ...]:
        return tuple(self.sum(space) for space in sorted(self._days))

    def days(self, space: bytes, from_day: int) -> dict[int, Sum]:
        return {
            day: Sum(len(ids), fingerprint(len(ids), self._totals[space, day]))
            for day, ids in sorted(self._days.get(space, {}).items())
            if day >= from_day
        }

    def contents(self, space: bytes, parts: Sequence[Part], limit: int) -> list[Content]:
        contents: list[Content] = []
        for part in parts:
            key = (space, part.day)
            tree = self._trees.get(key)
            if tree is None:
                ids = self._days.get(space, {}).get(part.day, {})
                tree = self._trees[key] = DayIndex(ids)
            contents.append(tree.content(part, limit))
            limit -= len(contents[-1]) if part.listed else 0
        return contents

    def heads(self, space: bytes) -> list[tuple[bytes, int]]:
        return sorted(self._heads.get(space, {}).items())

    def newer(
        self, space: bytes, from_day: int, heads: dict[bytes, int], limit: int
    ) -> tuple[list[Run], bool]:
        found: dict[bytes, list[Record]] = {}
        for day, ids in self._days.get(space, {}).items():
            for record in ids.values() if day >= from_day else ():
                if record.header.seq > heads.get(head_name(record.header.author), -1):
                    found.setdefault(record.header.author, []).append(record)
        runs: list[Run] = []
        for author in sorted(found):
            records = sorted(found[author], key=lambda r: (r.header.seq, r.id))[:limit]
            limit -= len(records)
            runs.append(Run(author, records[-1].header.seq, tuple(r.id for r in records)))
            if limit <= 0:
                return runs, True
        return runs, False

    def missing(self, ids: Iterable[bytes]) -> list[bytes]:
        return [item for item in ids if item not in self.records]

    def wires(self, ids: Sequence[bytes], max_bytes: int) -> tuple[list[Any], int]:
        wires: list[Any] = []
        size = 0
        for done, item in enumerate(ids):
            record = self.records[item]
            size += len(record.header_bytes) + len(record.body or b"") + 80
            if wires and size > max_bytes:
                return wires, done
            wires.append(record.to_wire())
        return wires, len(ids)

    def behind(self, heads: Iterable[tuple[bytes, bytes, int]]) -> bool:
        return any(self._heads.get(space, {}).get(who, -1) < seq for space, who, seq in heads)


@dataclass
class Weather:
    """How bad the network is. Times in virtual milliseconds."""

    delay_ms: tuple[int, int] = (2, 80)
    gossip_loss: float = 0.0
    # How often gossipsub offers again what somebody missed, a heartbeat apart, with equal luck.
    gossip_offers: int = 0
    stream_loss: float = 0.0  # a message that breaks its whole session


class Node:
    """One member: what survives a restart is ``store`` and ``author``; the rest is memory."""

    def __init__(self, net: Network, name: str) -> None:
        self.net = net
        self.name = name
        self.author = Author(name)
        self.store = MemoryStore()
        self.told: Counter[bytes] = Counter()  # events, over all lives
        self.faults: Counter[str] = Counter()
        self.life = 0
        self.up = False

    def boot(self) -> None:
        self.life += 1
        self.up = True
        self.rng = Random(f"{self.net.seed} {self.name} {self.life}")
        self.roster = self.fold(r for r in self.store.records.values() if is_identity(r))
        self.intake = Intake(self.roster, lambda _record: None)
        self.gossiper = gossip.Gossiper()
        self.schedule = PullSchedule(self.rng)
        self._alarms: dict[str, int] = {}
        self.begin()

    def fold(self, records: Iterable[Record]) -> Any:
        """The roster, as the identity records of its own store tell it."""
        return CheapRoster(records)

    def begin(self) -> None:
        """What a member does as soon as it is up."""
        if self.author.seq == 0:
            self.write_record(self.author.credential())

    def crash(self) -> None:
        self.up = False
        self.net.node_gone(self)

    def write(self, body: bytes) -> Record:
        return self.write_record(self.author.write(body))

    def write_record(self, record: Record) -> Record:
        self._saved(self.store.save([record]))
        self.gossiper.add(record)
        self.wake_gossip()
        return record

    def _saved(self, records: list[Record]) -> None:
        for record in records:
            self.told[record.id] += 1
            if is_identity(record):
                self.roster.apply(record)
                self.net.soon(self, self.retry_waiting)

    def retry_waiting(self) -> None:
        self.keep(self.intake.release())

    def spaces(self) -> tuple[bytes, ...]:
        """What it holds."""
        return SPACE_IDENTITY, SPACE_COMMONS

    # -- gossip

    def wake_gossip(self) -> None:
        wait = self.gossiper.due_in(self.net.now)
        if wait is not None:
            self.alarm("gossip", wait, self.speak)

    def speak(self) -> None:
        data = self.gossiper.due(self.net.now)
        if data is not None:
            self.net.publish(self, data)
        self.wake_gossip()

    def heard(self, sender: str, data: bytes) -> None:
        message = gossip.decode(data)
        assert isinstance(message, gossip.NewRecords)
        records = [self.intake.open(wire) for wire in message.wires]
        self.take_in(sender, records)
        before = [r.header.prev for r in records if r.header.prev]
        if self.store.missing(before) or self.store.behind(message.heads):
            self.schedule.hint(sender, self.net.now)
            self.wake_pulls()

    # -- taking in

    def take_in(self, sender: str, records: list[Record]) -> int:
        missing = set(self.store.missing(r.id for r in records))
        new = [r for r in records if r.id in missing]
        identity = [r for r in new if is_identity(r)]
        content = [r for r in new if not is_identity(r)]
        return self.keep([(sender, r) for r in identity]) + self.keep(
            [(sender, r) for r in content]
        )

    def keep(self, batch: list[tuple[str, Record]]) -> int:
        valid = []
        for sender, record in batch:
            try:
                if self.intake.judge(record, sender, START_MS + self.net.now):
                    valid.append(record)
            except Refused as error:
                self.faults[error.code] += 1
        saved = self.store.save(valid)
        self._saved(saved)
        return len(saved)

    # -- sync

    def wake_pulls(self) -> None:
        wait = self.schedule.due_in(self.net.now)
        if wait is not None:
            self.alarm("pulls", wait, self.pull)

    def pull(self) -> None:
        for peer in self.schedule.due(self.net.now):
            Session(self.net, self, self.net.nodes[peer]).start()
        self.wake_pulls()

    def pulled(self, peer: str, outcome: Outcome) -> None:
        """A pull from ``peer`` is over."""
        self.schedule.finished(peer, outcome, self.net.now)
        self.wake_pulls()

    def alarm(self, name: str, wait: int, act: Callable[[], None]) -> None:
        """One alarm of a name at a time: the earliest one counts."""
        at = self.net.now + wait
        if at >= self._alarms.get(name, at + 1) > self.net.now:
            return
        self._alarms[name] = at
        life = self.life

        def ring() -> None:
            if self.up and self.life == life and self._alarms.get(name) == at:
                del self._alarms[name]
                act()

        self.net.at(wait, ring)


class Session:
    """One pull: the asker's and the answerer's machines, joined by a reliable wire."""

    def __init__(self, net: Network, asking: Node, answering: Node) -> None:
        self.net, self.asking, self.answering = net, asking, answering
        self.asker, self.answerer = sync.Asker(), sync.Answerer()
        self.outcome = Outcome.EQUAL
        self.over = False
        self._last_arrival = 0

    def start(self) -> None:
        self.net.sessions.add(self)
        store, author = self.asking.store, self.asking.author.address
        spaces = [Held(space, 0, store.sum(space)) for space in self.asking.spaces()]
        self._do_asker(self.asker.start(author, store.length(author), spaces))

    def end(self, outcome: Outcome) -> None:
        if not self.over:
            self.over = True
            self.net.sessions.discard(self)
            if self.asking.up:
                self.asking.pulled(self.answering.name, outcome)

    def _carry(self, data: bytes, to: Callable[[bytes], None]) -> None:
        if self.net.rng.random() < self.net.weather.stream_loss:
            self.end(Outcome.FAILED)
        elif not self.over:
            # One message overtakes no other: streams are ordered.
            self._last_arrival = max(self._last_arrival, self.net.now + self.net.delay())
            wait = self._last_arrival - self.net.now
            self.net.at(wait, lambda: None if self.over else to(data))

    def _do_asker(self, actions: list[sync.Action]) -> None:
        store, asker = self.asking.store, self.asker
        for action in actions:
            match action:
                case sync.Send(data):
                    self._carry(data, lambda d: self._do_answerer(self.answerer.received(d)))
                case sync.ReadSum(space, from_day):
                    self._do_asker(asker.summed(store.sum(space, from_day)))
                case sync.ReadHeads(space):
                    self._do_asker(asker.heads(store.heads(space)))
                case sync.Finished(fault):
                    assert not fault, fault
                    self.end(self.outcome)
                case _:
                    self._do_asker(self._do_either(asker, self.asking, self.answering, action))

    def _do_answerer(self, actions: list[sync.Action]) -> None:
        store, answerer = self.answering.store, self.answerer
        for action in actions:
            match action:
                case sync.Send(data):
                    self._carry(data, lambda d: self._do_asker(self.asker.received(d)))
                case sync.ReadHeld(author, length, spaces):
                    own = self.answering.spaces()
                    held = [
                        Held(space, day, store.sum(space, day)) if space in own else None
                        for space, day in spaces
                    ]
                    self._do_answerer(answerer.held(held, store.head(author, length), []))
                case sync.ReadNewer(space, from_day, heads):
                    newer = store.newer(space, from_day, dict(heads), limits.PAGE_IDS)
                    self._do_answerer(answerer.newer(*newer))
                case sync.Finished(fault):
                    raise AssertionError(fault)
                case _:
                    self._do_answerer(
                        self._do_either(answerer, self.answering, self.asking, action)
                    )

    def _do_either(
        self, machine: sync.Asker | sync.Answerer, own: Node, peer: Node, action: sync.Action
    ) -> list[sync.Action]:
        match action:
            case sync.FindMissing(space, ids):
                return machine.missing(own.store.missing(ids) if space in own.spaces() else [])
            case sync.TakeIn(wires):
                records = [own.intake.open(wire) for wire in wires]
                if own.take_in(peer.name, records):
                    self.outcome = Outcome.GAINED
            case sync.ReadDays(space, from_day):
                return machine.days(own.store.days(space, from_day))
            case sync.ReadParts(space, parts):
                return machine.parts(own.store.contents(space, parts, limits.PAGE_IDS))
            case sync.ReadWires(ids, max_bytes):
                return machine.wires(*own.store.wires(ids, max_bytes))
        return []


@dataclass
class Network:
    seed: int
    weather: Weather = field(default_factory=Weather)
    make_node: Callable[[Network, str], Node] = Node

    def __post_init__(self) -> None:
        self.rng = Random(self.seed)
        self.now = 0
        self.nodes: dict[str, Node] = {}
        self.sessions: set[Session] = set()
        self.links: set[frozenset[str]] = set()
        self.messages = 0
        self._side: dict[str, int] = {}
        self._queue: list[tuple[int, int, Callable[[], None]]] = []
        self._order = 0

    # -- time

    def at(self, wait: int, act: Callable[[], None]) -> None:
        self._order += 1
        heapq.heappush(self._queue, (self.now + wait, self._order, act))

    def soon(self, node: Node, act: Callable[[], None]) -> None:
        life = node.life
        self.at(0, lambda: act() if node.up and node.life == life else None)

    def run(self, milliseconds: int, until: Callable[[], bool] = lambda: False) -> bool:
        """Let time pass; stops early, and says so, once ``until`` holds."""
        end = self.now + milliseconds
        while self._queue and self._queue[0][0] <= end:
            self.now, _, act = heapq.heappop(self._queue)
            act()
            if until():
                return True
        self.now = end
        return until()

    def delay(self) -> int:
        return self.rng.randint(*self.weather.delay_ms)

    # -- topology

    def add(self, name: str) -> Node:
        node = self.nodes[name] = self.make_node(self, name)
        self.boot(node)
        return node

    def boot(self, node: Node) -> None:
        node.boot()
        self._relink()

    def partition(self, *sides: Sequence[str]) -> None:
        """Members of different sides do not reach each other; none given: all do."""
        self._side = {name: number for number, side in enumerate(sides) for name in side}
        self._relink()

    def reachable(self, one: Node, other: Node) -> bool:
        return one.up and other.up and self._side.get(one.name, 0) == self._side.get(other.name, 0)

    def node_gone(self, node: Node) -> None:  # noqa: ARG002 - links follow from who is up
        self._relink()

    def _relink(self) -> None:
        names = list(self.nodes)
        wanted = {
            frozenset((a, b))
            for i, a in enumerate(names)
            for b in names[i + 1 :]
            if self.reachable(self.nodes[a], self.nodes[b])
        }
        for link in self.links - wanted:
            one, other = (self.nodes[name] for name in link)
            for here, there in ((one, other), (other, one)):
                if here.up:
                    here.schedule.gone(there.name)
        for session in list(self.sessions):
            if frozenset((session.asking.name, session.answering.name)) not in wanted:
                session.end(Outcome.FAILED)
        for link in sorted(wanted - self.links, key=sorted):
            one, other = (self.nodes[name] for name in sorted(link))
            for here, there in ((one, other), (other, one)):
                here.schedule.connected(there.name, self.now)
                self.soon(here, here.wake_pulls)
        self.links = wanted

    # -- gossip

    def publish(self, sender: Node, data: bytes) -> None:
        for node in self.nodes.values():
            if node is sender or not self.reachable(sender, node):
                continue
            self._tell(sender, node, data, self.weather.gossip_offers)

    def _tell(self, sender: Node, node: Node, data: bytes, offers: int) -> None:
        if self.rng.random() >= self.weather.gossip_loss:
            self.messages += 1
            self.at(self.delay(), lambda: self._deliver(sender, node, data))
        elif offers and self.reachable(sender, node):
            self.at(HEARTBEAT_MS, lambda: self._tell(sender, node, data, offers - 1))

    def _deliver(self, sender: Node, node: Node, data: bytes) -> None:
        if self.reachable(sender, node):
            node.heard(sender.name, data)

    # -- what must hold

    def equal(self) -> bool:
        sets = [set(node.store.records) for node in self.nodes.values()]
        return all(item == sets[0] for item in sets)
