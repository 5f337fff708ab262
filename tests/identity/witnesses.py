"""Witnesses of a log and a network between them that loses, delays, repeats, reorders and splits.

Owns a simulator that checks at every step what must always hold. Nothing in it is signed, and no
time passes but its own.
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from itertools import count
from random import Random
from typing import Any

import pytest

from permesh.identity import log as log_module
from permesh.identity.ballot import Ballot, CastVote, Ordering, Promise, Propose
from permesh.identity.checkpoint import Checkpoint, Vote
from permesh.identity.entry import Approval, Entry, RegistrarChange, Release
from permesh.identity.genesis import Genesis, Registrar
from permesh.identity.log import AdmissionLog, Batch

from .people import START_MS, seed

SECOND, MINUTE, DAY = 1000, 60_000, 24 * 3_600_000
SLOWEST = 20 * SECOND
UNSIGNED = bytes(65)
Body = Batch | Vote | Ballot | Promise | Entry


class Chain:
    """Stands in for the log's tree: as many roots, and less work."""

    def __init__(self) -> None:
        self._roots = [bytes(32)]

    @property
    def size(self) -> int:
        return len(self._roots) - 1

    def copy(self) -> Chain:
        other = Chain()
        other._roots = list(self._roots)
        return other

    def cut(self, size: int) -> None:
        del self._roots[size + 1 :]

    def append(self, data: bytes) -> int:
        self._roots.append(hashlib.sha256(self._roots[-1] + data).digest())
        return self.size

    def root(self) -> bytes:
        return self._roots[-1]


def make_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Entries are hashed less, and read once instead of over and over."""
    digest = Entry.digest.fget  # type: ignore[attr-defined]
    monkeypatch.setattr(log_module, "Tree", Chain)
    monkeypatch.setattr(Entry, "content", lru_cache(Entry.content))
    monkeypatch.setattr(Entry, "encode", lru_cache(Entry.encode))
    monkeypatch.setattr(Entry, "digest", property(lru_cache(digest)))


def agent(at: int) -> bytes:
    return bytes([at + 1]) * 20


def founded(witnesses: int, threshold: int = 1) -> Genesis:
    registrars = tuple(
        Registrar(seed(f"owner {at}")[:20], agent(at), f"w{at}", seed(f"person {at}"))
        for at in range(witnesses)
    )
    return Genesis("sim", START_MS, bytes(16), registrars, threshold)


def release(at: int) -> Entry:
    return Entry.of(Release("1", bytes(32), True, at))


def change(added: bytes, removed: bytes, at: int) -> Entry:
    return Entry.of(RegistrarChange(added, removed, at))


def approved(entry: Entry, *by: bytes) -> Entry:
    return entry.approved_by(*(Approval(one, START_MS, UNSIGNED) for one in by))


@dataclass(frozen=True)
class Record:
    author: bytes
    id: bytes
    body: Body


class Witness:
    """What one of them knows: all of it follows from the records that it has kept."""

    def __init__(self, genesis: Genesis, me: bytes) -> None:
        self.genesis, self.me = genesis, me
        self.records: dict[bytes, Record] = {}
        self.up, self.wake_at = True, -1
        self.start([])

    def start(self, order: list[Record]) -> None:
        self.log = AdmissionLog(self.genesis)
        self.ordering = Ordering(self.log)
        self.approved: dict[bytes, tuple[Entry, set[bytes]]] = {}
        for record in order:
            self._fold(record)
        self.log.advance()

    def take(self, record: Record) -> bool:
        """Whether it was new."""
        if record.id in self.records:
            return False
        self.records[record.id] = record
        self._fold(record)
        self.log.advance()
        return True

    def _fold(self, record: Record) -> None:
        match record.body:
            case Batch() as batch:
                self.log.add_batch(record.author, batch)
            case Vote() as vote:
                self.log.add_vote(vote)
            case Ballot() as ballot:
                self.ordering.add_ballot(record.author, ballot)
            case Promise() as promise:
                self.ordering.add_promise(record.author, record.id, promise)
            case Entry() as entry:
                _, by = self.approved.setdefault(entry.digest, (entry, set()))
                by.add(record.author)

    def ready(self) -> list[Entry]:
        found, registry = [], self.log.registry
        for digest, (entry, by) in self.approved.items():
            counted = [one for one in by if registry.may_decide(one) and one != entry.subject]
            if len(counted) >= self.genesis.threshold and not registry.holds(digest):
                found.append(approved(entry, *counted))
        return found

    def due(self, now: int) -> list[Body]:
        """As it is published."""
        return [self._body(one) for one in self.ordering.due(self.me, self.ready(), now)]

    def _body(self, action: Any) -> Body:
        if isinstance(action, Propose):
            return self.batch(action.checkpoint, action.entries, action.promises)
        if isinstance(action, CastVote):
            return Vote(action.checkpoint, self.me, UNSIGNED)
        return action

    def batch(
        self, checkpoint: Checkpoint, entries: tuple[Entry, ...], promises: tuple[bytes, ...] = ()
    ) -> Batch:
        return Batch(Vote(checkpoint, self.me, UNSIGNED), entries, promises)

    def asks(self, attempt: int) -> Ballot:
        return Ballot(self.log.size, self.log.root, attempt)


class World:
    """Witnesses and the network between them; checks at every step that they agree."""

    def __init__(self, number: int, witnesses: int, threshold: int = 1) -> None:
        self.random = Random(number)
        self.genesis = founded(witnesses, threshold)
        self.all = [Witness(self.genesis, agent(at)) for at in range(witnesses)]
        self.now, self.healed, self.loss, self.slowest = 0, False, 0.0, 200
        self.sides = dict.fromkeys((one.me for one in self.all), 0)
        self.agreed: list[bytes] = []
        self.hostile: set[bytes] = set()
        self.signed: dict[tuple[bytes, int, bytes], dict[int, Checkpoint]] = {}
        self.promised: dict[tuple[bytes, int, bytes], int] = {}
        self.ballots = 0
        self._ids, self._ties = count(), count()
        self._queue: list[tuple[int, int, Callable[..., None], tuple[Any, ...]]] = []

    def at(self, when: int, action: Callable[..., None], *args: Any) -> None:
        heapq.heappush(self._queue, (when, next(self._ties), action, args))

    def run(self, until: int, done: Callable[[], bool] = lambda: False) -> None:
        while self._queue and self._queue[0][0] <= until:
            if done():
                return
            self.now, _, action, args = heapq.heappop(self._queue)
            action(*args)
        self.now = until

    # -- what happens

    def record(self, author: Witness, body: Body) -> Record:
        return Record(author.me, next(self._ids).to_bytes(32, "big"), body)

    def publish(self, witness: Witness, body: Body) -> None:
        self._watch(witness.me, body)
        record = self.record(witness, body)
        witness.take(record)
        for other in self.all:
            if other is not witness:
                self.send(witness, record, other)

    def send(self, witness: Witness, record: Record, other: Witness) -> None:
        together = self.sides[witness.me] == self.sides[other.me]
        for _ in range(self.random.choice((1, 1, 1, 2))):
            if together and self.random.random() >= self.loss:
                delay = self.random.randrange(self.slowest)
                self.at(self.now + delay, self.arrive, other, record)

    def arrive(self, witness: Witness, record: Record) -> None:
        if witness.up and witness.take(record):
            self.settle(witness)

    def approve(self, witness: Witness, entry: Entry) -> None:
        if witness.up:
            self.publish(witness, entry)
            self.settle(witness)
        else:
            self.at(self.now + 5 * SECOND, self.approve, witness, entry)

    def settle(self, witness: Witness) -> None:
        """As a registrar's daemon does."""
        for _ in range(20):
            bodies = witness.due(self.now)
            for body in bodies:
                self.publish(witness, body)
            if not bodies:
                break
        else:
            raise AssertionError("it never ends")
        self._compare(witness)
        wait = witness.ordering.wait_ms(witness.me, self.now)
        if wait:  # else only what is heard changes anything
            witness.wake_at = self.now + wait
            self.at(witness.wake_at, self.wake, witness)

    def wake(self, witness: Witness) -> None:
        if witness.up and witness.wake_at == self.now:
            self.settle(witness)

    def crash(self, witness: Witness) -> None:
        witness.up = False

    def restart(self, witness: Witness) -> None:
        if witness.up:
            return
        size = witness.log.size
        witness.start(self.random.sample([*witness.records.values()], len(witness.records)))
        assert witness.log.size >= size
        witness.up = True
        self.settle(witness)
        if self.healed:
            self.tell_all()

    def split(self, sides: int) -> None:
        self.sides = {one: self.random.randrange(sides) for one in self.sides}

    def heal(self, away: int = 0) -> None:
        """From now on nothing is lost, and all but ``away`` come up."""
        self.healed, self.loss, self.slowest = True, 0.0, 200
        self.split(1)
        gone = self.random.sample(self.all, away)
        for one in self.all:
            (self.crash if one in gone else self.restart)(one)
        self.tell_all()
        self.at(self.now + SLOWEST, self.tell_all)  # what was on its way then

    def tell_all(self) -> None:
        """Each tells the others what these have not."""
        for one in self.all:
            for other in self.all if one.up else []:
                for record in list(one.records.values()):
                    if record.id not in other.records:
                        self.send(one, record, other)

    # -- what must hold

    def _watch(self, me: bytes, body: Body) -> None:
        if isinstance(body, Batch | Vote):
            checkpoint = body.checkpoint
            place = (me, checkpoint.base_size, checkpoint.base_root)
            signed = self.signed.setdefault(place, {})
            assert checkpoint.round not in signed, "signed twice in one round"
            assert checkpoint.round >= self.promised.get(place, 0), "signed below a promise"
            signed[checkpoint.round] = checkpoint
        elif isinstance(body, Promise):
            place = (me, body.ballot.base_size, body.ballot.base_root)
            signed = self.signed.get(place, {})
            assert body.ballot.round > max([self.promised.get(place, 0), *signed])
            told = body.voted and body.voted.checkpoint
            assert told == (signed[max(signed)] if signed else None), "hides what it signed"
            self.promised[place] = body.ballot.round
        elif isinstance(body, Ballot):
            self.ballots += 1

    def _compare(self, witness: Witness) -> None:
        if self.hostile:
            return  # then there may be two branches
        assert witness.log.contradiction is None
        mine = witness.log._entries
        shared = min(len(mine), len(self.agreed))
        assert mine[:shared] == self.agreed[:shared], "two orders"
        self.agreed += mine[shared:]

    @property
    def settled(self) -> bool:
        """Whether all that are up hold the same log, and nothing is left that would fit."""
        return all(
            one.log.size == len(self.agreed) and not one.log.plan(one.ready())
            for one in self.all
            if one.up
        )


def quiet(witnesses: int, *up: int) -> World:
    """A network that works; only those are up, or everyone."""
    world = World(1, witnesses)
    for at, one in enumerate(world.all):
        one.up = not up or at in up
    return world


def chaos(number: int, witnesses: int) -> World:
    """After a minute in which anything may have happened, and healed by now."""
    random = Random(f"{number} {witnesses}")
    world = World(number, witnesses, random.randint(1, witnesses // 2 + 1))
    world.loss, world.slowest = (
        random.choice((0.0, 0.2, 0.5)),
        random.choice((100, 3000, 9000, SLOWEST)),
    )
    entries = [release(at) for at in range(random.randint(1, 4))]
    changes = number % 3 == 0 and witnesses > 2
    if changes:
        one = random.choice(world.all).me
        entries += [change(b"", one, 1), change(one, b"", 2)]
    for entry in entries:
        could = [one for one in world.all if one.me != entry.subject]
        needed = max(world.genesis.threshold, random.randint(0, len(could)))
        for witness in random.sample(could, needed):
            world.at(random.randrange(MINUTE), world.approve, witness, entry)
    for _ in range(random.randint(0, 4)):
        when = random.randrange(MINUTE)
        if random.random() < 0.6:
            witness = random.choice(world.all)
            world.at(when, world.crash, witness)
            world.at(when + random.randrange(MINUTE // 2), world.restart, witness)
        else:
            world.at(when, world.split, random.choice((1, 2, 3)))
    world.run(MINUTE)
    world.heal(0 if changes else random.randint(0, (witnesses - 1) // 2))
    return world
