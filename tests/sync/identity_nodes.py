"""Simulated members with a real identity: wallets, credentials, the roster and the log.

Owns what a daemon's membership and registrar do, without their I/O: a node keeps its keys and its
credential over a restart, publishes what its roster lacks of it, and takes its part as a witness.
Members are founded once, and every mesh begins from that day's records.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from copy import copy
from dataclasses import dataclass
from functools import cache
from typing import Any

from permesh.errors import Refused
from permesh.identity.ballot import Ballot, CastVote, Promise, Propose
from permesh.identity.checkpoint import Vote
from permesh.identity.entry import Entry
from permesh.identity.genesis import Genesis
from permesh.identity.hello import Asking, Hello, Verified, check_hello
from permesh.identity.log import AdmissionLog, Batch
from permesh.identity.owner import OwnerStatement
from permesh.identity.proof import LogProof
from permesh.identity.roster import (
    APPROVAL,
    BALLOT,
    BATCH,
    CREDENTIAL,
    OWNER,
    PROMISE,
    REQUEST,
    REQUEST_LIFE_MS,
    VOTE,
    Roster,
    request_body,
)
from permesh.membership import CHECK_SECONDS
from permesh.p2p.schedule import Outcome
from permesh.records import Record
from permesh.registrar import MAX_STEPS
from tests.identity.people import Person, append, genesis
from tests.simulator import NOTE, START_MS, Network, Node, Weather, is_identity

FOUNDERS = ("ann", "ben", "cyd")
THRESHOLD = 2
CHECK_MS = int(CHECK_SECONDS * 1000)


@dataclass(frozen=True)
class Founded:
    """A mesh on its first day: who is in, and the records that say so, in their order."""

    mesh: Genesis
    people: dict[str, Person]
    records: tuple[Record, ...]


@cache
def founded(size: int) -> Founded:
    """Three registrars, two of whom decide; the other members were let in by batches."""
    mesh = genesis("harbour", FOUNDERS, THRESHOLD)
    names = [*FOUNDERS, *(f"m{number:02}" for number in range(len(FOUNDERS) + 1, size + 1))]
    people = {name: Person(name, mesh) for name in names}
    ann, ben, _ = founders = [people[name] for name in FOUNDERS]
    records = [one.shows(created_ms=START_MS) for one in founders]
    log = AdmissionLog(mesh)
    entries = [ben.approves(ann.admits(people[name])) for name in names[len(FOUNDERS) :]]
    while entries:
        batch = ann.proposes(log, log.plan(entries))
        append(log, ann, *batch.entries, by=[ben])
        records.append(ann.batch(batch, created_ms=START_MS))
        records.append(ben.vote(batch.checkpoint, created_ms=START_MS))
        entries = entries[len(batch.entries) :]
    records += [people[name].shows(created_ms=START_MS) for name in names[len(FOUNDERS) :]]
    assert log.size == size
    return Founded(mesh, people, tuple(records))


class Member(Node):
    """What survives a restart is ``store``, ``person`` and the newest ``credential``."""

    net: Mesh
    roster: Roster

    def __init__(self, net: Network, name: str) -> None:
        super().__init__(net, name)
        known = self.net.founded.people.get(name)
        if known is not None:
            self.store.save(self.net.founded.records)
        self.person = copy(known) if known is not None else Person(name, self.net.genesis)
        self.credential = self.person.credential()

    @property
    def address(self) -> bytes:
        return self.person.address

    @property
    def now_ms(self) -> int:
        return START_MS + self.net.now

    def fold(self, records: Iterable[Record]) -> Roster:
        roster = Roster(self.net.genesis)
        for record in records:
            roster.apply(record)
        return roster

    def begin(self) -> None:
        self.heard_from: set[str] = set()  # pulled from in this life
        self.settle()

    # -- what it writes

    def append(self, kind: str, body: bytes, **changes: Any) -> Record:
        record = self.person.write(
            kind, body, **{"epoch": self.credential.epoch, "created_ms": self.now_ms, **changes}
        )
        self.net.written.add(record.id)
        return self.write_record(record)

    def write(self, body: bytes) -> Record:
        return self.append(NOTE, body)

    def begin_epoch(self) -> None:
        """A new session key and its credential are kept; nobody has heard of them."""
        epoch = self.credential.epoch + 1
        self.credential = self.person.credential(epoch, issued_ms=self.now_ms)

    def publish_credential(self) -> None:
        published = self.roster.credential(self.address)
        if published is None or published.epoch < self.credential.epoch:
            self.append(CREDENTIAL, self.credential.encode())

    def sponsor(self, asking: Person) -> None:
        """Publish that someone asked to be let in."""
        body = request_body(asking.enrolment, asking.credential())
        self.append(REQUEST, body, expires_ms=self.now_ms + REQUEST_LIFE_MS)

    def tell(self, said: OwnerStatement) -> None:
        """Carry what an owner says."""
        said.verify(self.net.genesis.mesh_id)
        self.roster.log.registry.check_owner(said)
        self.append(OWNER, said.encode())

    # -- what it shows, and sees of others

    def hello(self) -> Hello:
        return Hello(self.credential, None, LogProof.make(self.roster.log, self.address))

    def sees(self, other: Member, hello: Hello) -> Verified | Asking:
        """Raises ``Refused`` if the other one is not let in."""
        return check_hello(hello, self.roster, other.person.peer_id, self.now_ms)

    def shuts_out(self, agent: bytes) -> bool:
        member = self.roster.member(agent)
        assert member is not None
        assert member.revoked >= self.roster.is_revoked(agent, member.seat.owner)
        return member.revoked

    def pulled(self, peer: str, outcome: Outcome) -> None:
        super().pulled(peer, outcome)
        if outcome in (Outcome.EQUAL, Outcome.GAINED):
            self.heard_from.add(peer)

    # -- its part as a registrar

    def approve_who_asks(self) -> None:
        """Its human lets in everyone who waits."""
        for request in self.roster.pending(self.now_ms):
            entry = Entry.of(request.enrolment)
            if self.address not in self.roster.approvals(entry):
                self.append(APPROVAL, self.person.approves(entry, self.now_ms).encode())

    def settle(self) -> None:
        """What is due: its credential's record, and its part as a witness of the log."""
        self.publish_credential()
        if not self.roster.log.registry.may_decide(self.address):
            return
        ordering = self.roster.ordering
        for _ in range(MAX_STEPS):
            actions = ordering.due(self.address, self.roster.ready(), self.net.now)
            if not actions:
                break
            for action in actions:
                self._publish(action)
        wait = ordering.wait_ms(self.address, self.net.now)
        assert wait != 0, f"{self.name} has nothing to do, and would ask again without end"
        self.alarm("settle", CHECK_MS if wait is None else min(wait, CHECK_MS), self.settle)

    def _publish(self, action: Propose | CastVote | Ballot | Promise) -> None:
        match action:
            case Propose(checkpoint, entries, promises):
                vote = Vote.make(checkpoint, self.person.agent)
                self.append(BATCH, Batch(vote, entries, promises).encode())
            case CastVote(checkpoint):
                self.append(VOTE, Vote.make(checkpoint, self.person.agent).encode())
            case Ballot():
                self.append(BALLOT, action.encode())
            case Promise():
                self.append(PROMISE, action.encode())

    def _saved(self, records: list[Record]) -> None:
        super()._saved(records)
        if any(is_identity(record) for record in records):
            self.net.soon(self, self.settle)


class Mesh(Network):
    """Nobody is up at first; ``written`` are the ids of all records that anybody sealed."""

    nodes: dict[str, Member]  # type: ignore[assignment]

    def __init__(self, seed: int, weather: Weather, founded: Founded) -> None:
        super().__init__(seed, weather, Member)
        self.founded = founded
        self.genesis = founded.mesh
        self.written: set[bytes] = set()

    @classmethod
    def of(cls, size: int, seed: int, weather: Weather) -> Mesh:
        """All of its members are up and connected."""
        mesh = cls(seed, weather, founded(size))
        for name in mesh.founded.people:
            mesh.add(name)
        return mesh

    @property
    def up(self) -> list[Member]:
        return [node for node in self.nodes.values() if node.up]

    def spread(self, members: Iterable[Member], holds: Callable[[Member], bool], ms: int) -> int:
        """Let time pass until ``holds`` of each; returns how long it took, at most ``ms``."""
        began = self.now
        left = list(members)

        def done() -> bool:
            while left and holds(left[-1]):
                left.pop()
            return not left

        assert self.run(ms, until=done), [one.name for one in left if not holds(one)]
        return self.now - began

    def settle(self, ms: int) -> None:
        """Let time pass until all stores are equal."""
        end = self.now + ms
        while len({node.store.sums() for node in self.nodes.values()}) > 1:
            assert self.now < end, {n.name: len(n.store.records) for n in self.nodes.values()}
            self.run(1_000)

    def check(self, ms: int = 300_000) -> None:
        """In the end everybody holds everything, believes it, and sees the same members."""
        self.settle(ms)
        known = {record.id for record in self.founded.records}
        first, *others = self.nodes.values()
        for node in self.nodes.values():
            assert set(node.store.records) == set(first.store.records)
            assert set(node.told) | known == set(node.store.records)
            assert set(node.told.values()) <= {1}
            assert not node.faults
            assert node.intake.waiting == 0
        assert self.written <= set(first.store.records)
        chain = [(r.header.author, r.header.seq) for r in first.store.records.values()]
        assert len(chain) == len(set(chain))
        log = first.roster.log
        assert log.contradiction is None
        for node in others:
            assert (node.roster.log.size, node.roster.log.root) == (log.size, log.root)
            assert node.roster.members() == first.roster.members()
            assert node.roster.log.contradiction is None

    def refused(self, roster: Roster) -> list[str]:
        """The codes with which ``roster`` refuses records that the members hold."""
        codes = []
        for record in next(iter(self.nodes.values())).store.records.values():
            try:
                roster.check(record, START_MS + self.now)
            except Refused as error:
                codes.append(error.code)
        return codes
