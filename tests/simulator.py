"""A mesh in virtual time: the protocol cores under delay, loss, partition and restart.

Owns the clock, the wires and the nodes of a simulated mesh; everything random comes from one
seed. The nodes run the real cores and keep records in a dictionary; a roster with a cheap
signature stands in where proofs are not the point.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from permesh.errors import Refused
from permesh.p2p import gossip, limits, sync
from permesh.p2p.intake import Intake
from permesh.p2p.replication import GOSSIP_FAULT
from permesh.p2p.schedule import Outcome, PullSchedule
from permesh.p2p.sync_messages import Held
from permesh.records import Record
from permesh.spaces import SPACE_COMMONS, SPACE_IDENTITY, space_of
from tests.authors import (
    CREDENTIAL,
    MESH,
    NOTE,
    REMOVAL,
    REMOVALS,
    START_MS,
    Author,
    CheapRoster,
    address,
    cheap_sign,
    is_identity,
)
from tests.memory_store import MemoryStore

__all__ = [
    "CREDENTIAL", "MESH", "NOTE", "REMOVAL", "REMOVALS", "START_MS", "Author", "CheapRoster",
    "MemoryStore", "Network", "Node", "Session", "Weather", "address", "cheap_sign", "is_identity",
]  # fmt: skip

HEARTBEAT_MS = 1_000
_EVERYWHERE = {SPACE_IDENTITY: 0, SPACE_COMMONS: 0}


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
        self.intake = self.door(self.roster)
        self.gossiper = gossip.Gossiper()
        self.schedule = PullSchedule(self.rng)
        self._alarms: dict[str, int] = {}
        self.begin()

    def fold(self, records: Iterable[Record]) -> Any:
        """The roster, as the identity records of its own store tell it."""
        return CheapRoster(records)

    def door(self, roster: Any) -> Intake:
        return Intake(roster, lambda _record: None)

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
        self.keep(self.intake.release(), GOSSIP_FAULT)

    def spaces(self) -> Mapping[bytes, int]:
        """What it holds, each space from a day on."""
        return _EVERYWHERE

    def fault(self, peer: str, code: str) -> None:
        """A peer has broken the rules; where all keep them, nobody has."""
        assert peer
        self.faults[code] += 1

    def says(self, peer: str, data: bytes) -> bytes | None:
        """What it really sends in a session in place of ``data``; None: nothing any more."""
        assert peer
        return data

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
        try:
            message = self.decode(data)
        except Refused as error:
            self.fault(sender, GOSSIP_FAULT + error.code)
            return
        records = self.open(sender, message.wires, GOSSIP_FAULT)
        self.take_in(sender, records, GOSSIP_FAULT)
        spaces = self.spaces()
        before = {
            record.header.prev
            for record in records
            if record.header.prev and space_of(record.header.kind, record.header.room) in spaces
        }
        heads = [head for head in message.heads if head[0] in spaces]
        if self.store.missing(before) or self.store.behind(heads):
            self.hint(sender)

    def decode(self, data: bytes) -> gossip.NewRecords:
        message = gossip.decode(data)
        assert isinstance(message, gossip.NewRecords)
        return message

    def hint(self, sender: str) -> None:
        self.schedule.hint(sender, self.net.now)
        self.wake_pulls()

    # -- taking in

    def open(self, sender: str, wires: Iterable[Any], fault: str = "") -> list[Record]:
        records = []
        for wire in wires:
            try:
                records.append(self.intake.open(wire))
            except Refused as error:
                self.fault(sender, fault + error.code)
        return records

    def take_in(self, sender: str, records: list[Record], fault: str = "") -> int:
        missing = set(self.store.missing(r.id for r in records))
        new = [r for r in records if r.id in missing]
        identity = [r for r in new if is_identity(r)]
        content = [r for r in new if not is_identity(r) and self.holds(r)]
        kept = self.keep([(sender, r) for r in identity], fault)
        return kept + self.keep([(sender, r) for r in content], fault)

    def holds(self, record: Record) -> bool:
        """Whether it keeps a record of that space, once it is found to be valid."""
        return space_of(record.header.kind, record.header.room) in self.spaces()

    def keep(self, batch: list[tuple[str, Record]], fault: str = "") -> int:
        valid = []
        for sender, record in batch:
            try:
                if self.intake.judge(record, sender, START_MS + self.net.now):
                    valid.append(record)
            except Refused as error:
                self.fault(sender, fault + error.code)
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
        self.took = 0  # records that were new to the one who asks
        self.over = False
        self._last_arrival = 0

    def start(self) -> None:
        self.net.sessions[self] = None
        store, author = self.asking.store, self.asking.author.address
        spaces = [
            Held(space, day, store.sum(space, day)) for space, day in self.asking.spaces().items()
        ]
        self._do_asker(self.asker.start(author, store.length(author), spaces))

    def end(self, outcome: Outcome) -> None:
        if not self.over:
            self.over = True
            del self.net.sessions[self]
            if self.answerer.withheld and self.answering.up:
                self.answering.fault(self.asking.name, "sync.withheld")
            if self.asking.up:
                self.asking.pulled(self.answering.name, outcome)

    def _finished(self, end: sync.Finished) -> Outcome:
        """What `Sessions` makes of it."""
        code = end.fault or ("sync.withheld" if end.withheld else "")
        if end.fruitless:
            code = code or "sync.fruitless"
        if code:
            self.asking.fault(self.answering.name, code)
            return Outcome.FAULT
        if end.left:
            return Outcome.AGAIN
        return Outcome.GAINED if self.took else Outcome.EQUAL

    def _carry(self, sender: Node, peer: Node, data: bytes, to: Callable[[bytes], None]) -> None:
        if self.net.rng.random() < self.net.weather.stream_loss:
            self.end(Outcome.FAILED)
        elif not self.over:
            said = sender.says(peer.name, data)
            if said is None:
                self.net.at(int(limits.MESSAGE_S * 1000), lambda: self.end(Outcome.FAILED))
                return
            # One message overtakes no other: streams are ordered.
            self._last_arrival = max(self._last_arrival, self.net.now + self.net.delay())
            wait = self._last_arrival - self.net.now
            self.net.at(wait, lambda: None if self.over else to(said))

    def _do_asker(self, actions: list[sync.Action]) -> None:
        store, asker = self.asking.store, self.asker
        for action in actions:
            match action:
                case sync.Send(data):
                    self._carry(
                        self.asking, self.answering, data,
                        lambda d: self._do_answerer(self.answerer.received(d)),
                    )  # fmt: skip
                case sync.ReadSum(space, from_day):
                    self._do_asker(asker.summed(store.sum(space, from_day)))
                case sync.ReadHeads(space):
                    self._do_asker(asker.heads(store.heads(space)))
                case sync.Finished():
                    self.end(self._finished(action))
                case sync.TakeIn(wires):
                    records = self.asking.open(self.answering.name, wires)
                    self.took += self.asking.take_in(self.answering.name, records)
                case _:
                    self._do_asker(self._do_either(asker, self.asking, action))

    def _do_answerer(self, actions: list[sync.Action]) -> None:
        store, answerer = self.answering.store, self.answerer
        for action in actions:
            match action:
                case sync.Send(data):
                    self._carry(
                        self.answering, self.asking, data,
                        lambda d: self._do_asker(self.asker.received(d)),
                    )  # fmt: skip
                case sync.ReadHeld(author, length, spaces):
                    own = self.answering.spaces()
                    held: list[Held | None] = []
                    for space, from_day in spaces:
                        day = max(from_day, own.get(space, 0))
                        known = space in own
                        held.append(Held(space, day, store.sum(space, day)) if known else None)
                    self._do_answerer(answerer.held(held, store.head(author, length), []))
                case sync.ReadNewer(space, from_day, heads):
                    newer = store.newer(space, from_day, dict(heads), limits.PAGE_IDS)
                    self._do_answerer(answerer.newer(*newer))
                case sync.Finished(fault):
                    if fault:
                        self.answering.fault(self.asking.name, fault)
                    self.end(Outcome.FAILED)
                case sync.TakeIn(wires):
                    records = self.answering.open(self.asking.name, wires)
                    self.answering.take_in(self.asking.name, records)
                case _:
                    self._do_answerer(self._do_either(answerer, self.answering, action))

    def _do_either(
        self, machine: sync.Asker | sync.Answerer, own: Node, action: sync.Action
    ) -> list[sync.Action]:
        match action:
            case sync.FindMissing(space, ids):
                return machine.missing(own.store.missing(ids) if space in own.spaces() else [])
            case sync.ReadDays(space, from_day):
                return machine.days(own.store.days(space, from_day))
            case sync.ReadParts(space, parts):
                return machine.parts(own.store.contents(space, parts, limits.PAGE_IDS))
            case sync.ReadWires(ids, max_bytes):
                return machine.wires(*own.store.wires(ids, max_bytes))
        raise AssertionError(action)


@dataclass
class Network:
    """All members reach each other, unless links were drawn by `draw`."""

    seed: int
    weather: Weather = field(default_factory=Weather)
    make_node: Callable[[Network, str], Node] = Node

    def __post_init__(self) -> None:
        self.rng = Random(self.seed)
        self.now = 0
        self.nodes: dict[str, Node] = {}
        self.sessions: dict[Session, None] = {}
        self.links: set[frozenset[str]] = set()
        self.messages = 0
        self._drawn: dict[frozenset[str], None] | None = None
        self._near: dict[str, list[str]] = {}
        self._cut: set[frozenset[str]] = set()
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

    def draw(self, names: Sequence[str], degree: int) -> None:
        """Link each member to ``degree`` others at random (an even number), and to no more.

        Gossip then goes from link to link, as from now on all that members say to each other.
        """
        self._drawn = {}
        for _ in range(degree // 2):
            ring = self.rng.sample(names, len(names))
            for one, other in zip(ring, [*ring[1:], ring[0]], strict=True):
                self._drawn[frozenset((one, other))] = None

    def join(self, names: Iterable[str]) -> int:
        """Add links until each of these members reaches the others over them alone."""
        assert self._drawn is not None
        groups = {name: {name} for name in names}

        def merge(one: str, other: str) -> None:
            if groups[one] is not groups[other]:
                groups[one] |= groups[other]
                for name in list(groups[other]):
                    groups[name] = groups[one]

        for one, other in map(tuple, map(sorted, self._drawn)):
            if one in groups and other in groups:
                merge(one, other)
        added = 0
        first, *rest = sorted(groups)
        for name in rest:
            if groups[name] is not groups[first]:
                ends = (self.rng.choice(sorted(groups[end])) for end in (first, name))
                self._drawn[frozenset(ends)] = None
                merge(first, name)
                added += 1
        return added

    def add(self, name: str) -> Node:
        node = self.nodes[name] = self.make_node(self, name)
        self.boot(node)
        return node

    def boot(self, *nodes: Node) -> None:
        for node in nodes:
            node.boot()
        self._relink()

    def partition(self, *sides: Sequence[str]) -> None:
        """Members of different sides do not reach each other; none given: all do."""
        self._side = {name: number for number, side in enumerate(sides) for name in side}
        self._relink()

    def cut(self, one: str, other: str, milliseconds: int) -> None:
        """One of the two wants to hear no more of the other, for a time."""
        link = frozenset((one, other))
        self._cut.add(link)
        self.at(0, self._relink)

        def mend() -> None:
            self._cut.discard(link)
            self._relink()

        self.at(milliseconds, mend)

    def reachable(self, one: Node, other: Node) -> bool:
        return one.up and other.up and self._side.get(one.name, 0) == self._side.get(other.name, 0)

    def node_gone(self, node: Node) -> None:  # noqa: ARG002 - links follow from who is up
        self._relink()

    def _pairs(self) -> Iterable[frozenset[str]]:
        if self._drawn is not None:
            return self._drawn
        names = list(self.nodes)
        return (frozenset((a, b)) for i, a in enumerate(names) for b in names[i + 1 :])

    def _relink(self) -> None:
        nodes = self.nodes
        wanted = {
            link
            for link in self._pairs()
            if link not in self._cut and self.reachable(*(nodes[name] for name in link))
        }
        for link in sorted(self.links - wanted, key=sorted):
            one, other = (self.nodes[name] for name in sorted(link))
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
        if self._drawn is not None:
            self._near = {name: [] for name in self.nodes}
            for link in self._drawn:
                if link in wanted:
                    one_name, other_name = sorted(link)
                    self._near[one_name].append(other_name)
                    self._near[other_name].append(one_name)

    # -- gossip

    def publish(self, sender: Node, data: bytes, to: Sequence[str] | None = None) -> None:
        """To all; or, over links, to all neighbours or these of them, who tell theirs."""
        if self._drawn is not None:
            self._pass_on(sender, data, {sender.name}, to)
            return
        for node in self.nodes.values():
            if node is sender or not self.reachable(sender, node):
                continue
            self._tell(sender, node, data, self.weather.gossip_offers)

    def _pass_on(
        self, sender: Node, data: bytes, have: set[str], to: Sequence[str] | None = None
    ) -> None:
        for name in self._near[sender.name] if to is None else to:
            if name not in have and self.rng.random() >= self.weather.gossip_loss:
                self.messages += 1
                self.at(self.delay(), lambda name=name: self._arrive(sender, name, data, have))

    def _arrive(self, sender: Node, name: str, data: bytes, have: set[str]) -> None:
        if name not in have and frozenset((sender.name, name)) in self.links:
            have.add(name)
            node = self.nodes[name]
            node.heard(sender.name, data)
            self._pass_on(node, data, have)

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
