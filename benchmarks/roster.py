"""What a mesh of ten thousand costs each of its members: the roster, and a hello at the door.

The members are made once, with real signatures, in a store under `build/` that is named after what
it is made of. Each measurement is of a fresh process: `python -m benchmarks.roster child FILE`.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path
from random import Random

import psutil
from rich.console import Console

from permesh.identity.checkpoint import Checkpoint, Vote
from permesh.identity.credential import Credential
from permesh.identity.enrolment import Enrolment
from permesh.identity.entry import Approval, Entry, RegistrarChange
from permesh.identity.genesis import Genesis, Registrar
from permesh.identity.hello import Hello, Recognised, Verified, check_hello, decode_shown
from permesh.identity.keys import SessionKey, peer_id_of
from permesh.identity.log import Batch
from permesh.identity.merkle import Tree
from permesh.identity.person import VOUCHED, person_hash, vouched_nullifier
from permesh.identity.proof import LogProof
from permesh.identity.roster import (
    APPROVAL,
    BATCH,
    CREDENTIAL,
    REQUEST,
    REQUEST_LIFE_MS,
    VOTE,
    Roster,
    request_body,
)
from permesh.identity.wallet import Wallet
from permesh.records import Record, seal
from permesh.store import Store


@dataclass(frozen=True)
class Size:
    """How many members, of whom the first were let in one by one by a single registrar.

    Afterwards there are two more registrars, one of whom cosigns, and batches.
    """

    members: int
    alone: int
    batch: int = 16


WHOLE = Size(10_000, 2_000)
# What it is made of, all kinds of records included, shows in as few members as these.
SAMPLE = Size(8, 4, 2)

START_MS = 1_700_000_000_000
STEP_MS = 1_000  # from one admission to the next, so that all credentials hold at the end
END_MS = START_MS + WHOLE.members * STEP_MS
GENESIS_KEY = "mesh.genesis"
BUILD = Path("build")
SAVED_AT_ONCE = 500

CHILDREN = 3
HELLOS = 300  # of as many members, each of them first cold and then warm
WARM_ROUNDS = 5


def measure(console: Console) -> dict[str, float]:
    path = _made(console)
    runs = []
    for number in range(1, CHILDREN + 1):
        command = [sys.executable, "-m", "benchmarks.roster", "child", str(path)]
        run = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
        console.print(
            f"roster {number}: {run['records']} records folded in {run['rebuild_s']:.1f} s; "
            f"{run['rss_mb']:.0f} MB resident, {run['peak_mb']:.0f} MB at most; "
            f"a hello {run['cold_ms']:.3f} ms cold, {run['warm_ms']:.3f} ms warm"
        )
        runs.append(run)
    figures = {
        "roster_rebuild_s": "rebuild_s",
        "roster_rss_mb": "rss_mb",
        "credential_cold_ms": "cold_ms",
        "credential_warm_ms": "warm_ms",
    }
    return {name: statistics.median(run[key] for run in runs) for name, key in figures.items()}


# -- the measured process ------------------------------------------------------------------------


def child(path: Path) -> dict[str, float]:
    """Rebuild the roster as a daemon does when it starts, then let members in."""
    with closing(Store(path, read_only=True)) as store:
        genesis = Genesis.decode(store.get_value(GENESIS_KEY) or b"")
        began = time.perf_counter()
        roster, records = Roster(genesis), 0
        for record in store.load_identity_records():
            roster.apply(record)
            records += 1
        rebuild_s = time.perf_counter() - began
    rss = psutil.Process().memory_info().rss
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if len(roster.members()) != WHOLE.members or roster.log.certificate is None:
        raise SystemExit("the members in the store are not the ones that were to be there")
    cold_ms, warm_ms = _doors(roster)
    return {
        "records": records,
        "rebuild_s": rebuild_s,
        "rss_mb": rss / 1e6,
        "peak_mb": peak * (1 if sys.platform == "darwin" else 1024) / 1e6,
        "cold_ms": cold_ms,
        "warm_ms": warm_ms,
    }


def _doors(roster: Roster) -> tuple[float, float]:
    """Milliseconds for a member's hello, its decoding included: the first time, and again.

    Both are of members whom the roster knows; the hello shows their places in the log as well.
    """
    numbers = Random(1).sample(range(1, WHOLE.members + 1), HELLOS)
    shown = []
    for number in numbers:  # with the credentials of a new epoch, which nobody has seen
        one = Member(number)
        credential = one.credential(roster.genesis, epoch=2, issued_ms=END_MS)
        proof = LogProof.make(roster.log, one.agent.address)
        shown.append((one.peer_id, Hello(credential, None, proof).encode()))
    recognised = Recognised()
    cold = [_door(roster, recognised, *one) for one in shown]
    warm = [_door(roster, recognised, *one) for _ in range(WARM_ROUNDS) for one in shown]
    return statistics.median(cold), statistics.median(warm)


def _door(roster: Roster, recognised: Recognised, peer_id: str, data: bytes) -> float:
    """As `Membership.check` does it."""
    data = bytes(bytearray(data))  # as it comes from a stream: another object with the same bytes
    began = time.perf_counter()
    found = recognised.check(data, roster, peer_id, END_MS)
    if found is None:
        found = check_hello(decode_shown(data), roster, peer_id, END_MS)
    took = (time.perf_counter() - began) * 1000
    if not isinstance(found, Verified):
        raise SystemExit("a member was not known to be one")
    if roster.credential(found.agent) != found.credential:
        roster.add(found.credential)
        recognised.remember(data, found.credential)
    return took


# -- the members, made once ----------------------------------------------------------------------


def _made(console: Console) -> Path:
    """The store's file; made if there is none of such members."""
    digest = hashlib.sha256(repr((WHOLE, STEP_MS)).encode())
    for record in history(SAMPLE, map(Papers.make, range(1, SAMPLE.members + 1))):
        digest.update(record.encode())
    path = BUILD / f"roster-{digest.hexdigest()[:16]}.db"
    if path.is_file():
        return path
    BUILD.mkdir(exist_ok=True)
    partial = path.with_suffix(".partial")
    for old in BUILD.glob("roster-*"):
        old.unlink()
    with multiprocessing.get_context("spawn").Pool(os.cpu_count()) as pool:
        numbers = range(1, WHOLE.members + 1)
        papers = _counted(console, pool.imap(Papers.make, numbers, chunksize=50))
        with closing(Store(partial)) as store:
            store.set_value(GENESIS_KEY, founded().encode())
            records = history(WHOLE, papers)
            while some := list(islice(records, SAVED_AT_ONCE)):
                store.save(some, START_MS)
    partial.rename(path)
    return path


def _counted(console: Console, papers: Iterable[Papers]) -> Iterator[Papers]:
    for number, one in enumerate(papers, 1):
        yield one
        if number % (WHOLE.members // 10) == 0:
            console.print(f"signing for {WHOLE.members} members, once: {number}")


class Member:
    """One human and agent with keys that follow from its ``number``, and its chain of records."""

    def __init__(self, number: int) -> None:
        self.name = f"agent-{number}"
        self.owner = Wallet.from_key(self._seed("owner"))
        self.agent = Wallet.from_key(self._seed("agent"))
        self.peer_id = peer_id_of(self._seed("peer"))
        self.session = self.session_of(1)
        self._seq, self._prev = 0, b""

    def _seed(self, what: str) -> bytes:
        return hashlib.sha256(f"{self.name} {what}".encode()).digest()

    def session_of(self, epoch: int) -> SessionKey:
        return SessionKey(self._seed(f"session {epoch}"))

    def person(self, scope: bytes) -> bytes:
        return vouched_nullifier(scope, person_hash(f"{self.name}@example.org"))

    def enrolment(self, mesh: Genesis, requested_ms: int) -> Enrolment:
        return Enrolment.make(
            mesh.mesh_id, self.name, self.owner, self.agent,
            runtime_hash=hashlib.sha256(b"runtime").digest(), verifier=VOUCHED,
            person=self.person(mesh.scope), requested_ms=requested_ms,
        )  # fmt: skip

    def credential(self, mesh: Genesis, epoch: int, issued_ms: int) -> Credential:
        session = self.session_of(epoch)
        return Credential.make(
            mesh.mesh_id, self.owner.address, self.agent,
            session_key=session.public, peer_id=self.peer_id,
            runtime="permesh/0.1.0 python/3.11.7",
            runtime_hash=hashlib.sha256(b"runtime").digest(),
            epoch=epoch, issued_ms=issued_ms,
        )  # fmt: skip

    def write(self, kind: str, body: bytes, now_ms: int, expires_ms: int = 0) -> Record:
        record = seal(
            mesh=founded().mesh_id, kind=kind, author=self.agent.address, epoch=1,
            seq=self._seq, prev=self._prev, created_ms=now_ms, body=body,
            sign=self.session.sign, expires_ms=expires_ms,
        )  # fmt: skip
        self._seq, self._prev = self._seq + 1, record.id
        return record


@cache
def founded() -> Genesis:
    """By member 1, who decides alone."""
    first, salt = Member(1), bytes(range(16))
    scope = Genesis("ten-thousand", START_MS, salt, ()).scope
    founder = Registrar(first.owner.address, first.agent.address, first.name, first.person(scope))
    return Genesis("ten-thousand", START_MS, salt, (founder,))


@cache
def first_registrar() -> Member:
    return Member(1)


@dataclass(frozen=True)
class Papers:
    """What wallets have to sign for one member, which takes the time: four signatures."""

    number: int
    credential: Credential
    enrolment: Enrolment
    approval: Approval

    @classmethod
    def make(cls, number: int) -> Papers:
        mesh, one, now = founded(), Member(number), _admitted_ms(number)
        enrolment = one.enrolment(mesh, now)
        entry = Entry.of(enrolment)
        approval = Approval.make(mesh.mesh_id, entry, now, first_registrar().agent)
        return cls(number, one.credential(mesh, 1, now), enrolment, approval)


def _admitted_ms(number: int) -> int:
    return START_MS + number * STEP_MS


class Registrars:
    """The first members, who decide, and the log that they write."""

    def __init__(self, first: Member) -> None:
        self.all = [first]
        founder = founded().registrars[0]
        self._tree = Tree([])
        self._tree.append(Entry.founder(founder).encode())

    def append(self, entries: list[Entry], now_ms: int) -> Iterator[Record]:
        """A batch by the first, and the vote of another one once there is one."""
        size, root = self._tree.size, self._tree.root()
        for entry in entries:
            self._tree.append(entry.encode())
        mesh = founded().mesh_id
        checkpoint = Checkpoint(mesh, size, root, self._tree.size, self._tree.root(), 0)
        proposer, *others = self.all
        vote = Vote.make(checkpoint, proposer.agent)
        yield proposer.write(BATCH, Batch(vote, tuple(entries)).encode(), now_ms)
        for other in others[: len(self.all) // 2]:
            yield other.write(VOTE, Vote.make(checkpoint, other.agent).encode(), now_ms)

    def join(self, member: Member, now_ms: int) -> Iterator[Record]:
        mesh, first = founded().mesh_id, self.all[0]
        entry = Entry.of(RegistrarChange(member.agent.address, b"", now_ms))
        entry = entry.approved_by(Approval.make(mesh, entry, now_ms, first.agent))
        yield first.write(APPROVAL, entry.encode(), now_ms)
        yield from self.append([entry], now_ms)
        self.all.append(member)


def history(size: Size, papers: Iterable[Papers]) -> Iterator[Record]:
    """Every identity record of the mesh, in the order in which they were written.

    Each member is heard by one who is in, approved, appended to the log, and shows itself.
    """
    first = Member(1)
    members = [first]
    registrars = Registrars(first)
    made = iter(papers)
    yield first.write(CREDENTIAL, next(made).credential.encode(), START_MS)
    while some := list(islice(made, 1 if len(members) < size.alone else size.batch)):
        entries = []
        for one in some:
            now = _admitted_ms(one.number)
            sponsor = members[one.number * 7919 % len(members)]
            asked = request_body(one.enrolment, one.credential)
            yield sponsor.write(REQUEST, asked, now, now + REQUEST_LIFE_MS)
            entry = Entry.of(one.enrolment).approved_by(one.approval)
            yield first.write(APPROVAL, entry.encode(), now)
            entries.append(entry)
        now = _admitted_ms(some[-1].number)
        yield from registrars.append(entries, now)
        for one in some:
            members.append(Member(one.number))
            yield members[-1].write(CREDENTIAL, one.credential.encode(), now)
        if len(members) == size.alone:
            for member in members[1:3]:
                yield from registrars.join(member, now)


if __name__ == "__main__":
    _, _, file = sys.argv  # "child"
    print(json.dumps(child(Path(file))))
