"""A simulated member and its pulls: the real cores, driven as the daemon's drivers drive them.

Owns what a member keeps, over restarts or not, and the two ends of a session. It knows the mesh
only as `Network`, which carries what is said.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from random import Random
from typing import TYPE_CHECKING, Any

from permesh.errors import Refused
from permesh.p2p import gossip, limits, sync
from permesh.p2p.intake import Intake
from permesh.p2p.replication import GOSSIP_FAULT
from permesh.p2p.schedule import Outcome, PullSchedule
from permesh.p2p.sync_messages import Held
from permesh.records import Record
from permesh.spaces import SPACE_COMMONS, SPACE_IDENTITY, space_of
from tests.authors import START_MS, Author, CheapRoster, is_identity
from tests.memory_store import MemoryStore

if TYPE_CHECKING:
    from tests.simulator import Network

_EVERYWHERE = {SPACE_IDENTITY: 0, SPACE_COMMONS: 0}


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
