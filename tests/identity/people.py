"""People of a small mesh, with real wallets: the same ones in every run.

Owns their keys and what they sign. Nothing here checks anything.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from permesh.identity.checkpoint import Checkpoint, Vote
from permesh.identity.credential import Credential
from permesh.identity.enrolment import Enrolment
from permesh.identity.entry import Approval, Entry
from permesh.identity.genesis import Genesis, Registrar
from permesh.identity.hello import Hello
from permesh.identity.keys import SessionKey, peer_id_of
from permesh.identity.log import AdmissionLog, Batch
from permesh.identity.owner import OwnerStatement
from permesh.identity.person import VOUCHED, person_hash, vouched_nullifier
from permesh.identity.proof import LogProof
from permesh.identity.roster import (
    APPROVAL,
    BATCH,
    CREDENTIAL,
    OWNER,
    REQUEST,
    REQUEST_LIFE_MS,
    VOTE,
    request_body,
)
from permesh.identity.wallet import Wallet
from permesh.records import Record, seal

START_MS = 1_700_000_000_000
DAY_MS = 24 * 3_600_000
RUNTIME = "permesh/0.1.0 python/3.11.7"


def seed(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()


@cache
def wallet(name: str) -> Wallet:
    return Wallet.from_key(seed(name))


def nullifier(scope: bytes, name: str) -> bytes:
    return vouched_nullifier(scope, person_hash(f"{name}@example.org"))


@cache
def genesis(
    name: str = "reading-room", founders: tuple[str, ...] = ("ann", "ben"), threshold: int = 1
) -> Genesis:
    """A mesh founded by ann (number 1) and ben (number 2), one of whom decides."""
    salt = seed(name)[:16]
    scope = Genesis(name, START_MS - DAY_MS, salt, ()).scope
    registrars = tuple(
        Registrar(
            wallet(f"{one} owner").address,
            wallet(f"{one} agent").address,
            one,
            nullifier(scope, one),
        )
        for one in founders
    )
    return Genesis(name, START_MS - DAY_MS, salt, registrars, threshold)


@dataclass
class Person:
    """An owner and an agent, with the chain of records that the agent writes."""

    name: str
    mesh: Genesis = field(default_factory=genesis)
    owner_name: str = ""
    person_name: str = ""
    requested_ms: int = START_MS
    seq: int = 0
    prev: bytes = b""

    def __post_init__(self) -> None:
        self.owner = wallet(f"{self.owner_name or self.name} owner")
        self.agent = wallet(f"{self.name} agent")
        self.peer_id = peer_id_of(seed(f"{self.name} peer"))
        self.enrolment = self.enrols()

    def enrols(self, **changes: Any) -> Enrolment:
        values: dict[str, Any] = {
            "runtime_hash": seed("runtime"),
            "verifier": VOUCHED,
            "person": nullifier(self.mesh.scope, self.person_name or self.name),
            "requested_ms": self.requested_ms,
        }
        return Enrolment.make(
            self.mesh.mesh_id, self.name, self.owner, self.agent, **{**values, **changes}
        )

    @property
    def address(self) -> bytes:
        return self.agent.address

    def key(self, epoch: int = 1, which: int = 0) -> SessionKey:
        return SessionKey(seed(f"{self.name} session {epoch} {which}"))

    def credential(self, epoch: int = 1, which: int = 0, **changes: Any) -> Credential:
        values: dict[str, Any] = {
            "session_key": self.key(epoch, which).public,
            "peer_id": self.peer_id,
            "runtime": RUNTIME,
            "runtime_hash": seed("runtime"),
            "epoch": epoch,
            "issued_ms": START_MS,
        }
        return Credential.make(
            self.mesh.mesh_id, self.owner.address, self.agent, **{**values, **changes}
        )

    def asks(self, **changes: Any) -> Hello:
        """Its hello before it is admitted."""
        return Hello(self.credential(**changes), self.enrolment, None)

    def hello(self, log: AdmissionLog, **changes: Any) -> Hello:
        """Its hello as a member, proven from ``log``."""
        return Hello(self.credential(**changes), None, LogProof.make(log, self.address))

    # -- what it decides ---------------------------------------------------------------------

    def approves(self, entry: Entry, decided_ms: int = START_MS) -> Entry:
        """``entry`` with its approval added."""
        mine = Approval.make(self.mesh.mesh_id, entry, decided_ms, self.agent)
        return entry.approved_by(*entry.approvals, mine)

    def admits(self, other: Person, decided_ms: int = START_MS) -> Entry:
        return self.approves(Entry.of(other.enrolment), decided_ms)

    def votes(self, checkpoint: Checkpoint) -> Vote:
        return Vote.make(checkpoint, self.agent)

    def proposes(
        self,
        log: AdmissionLog,
        entries: Iterable[Entry],
        attempt: int = 0,
        promises: tuple[bytes, ...] = (),
    ) -> Batch:
        """A batch after the present state of ``log``, with its own vote."""
        chosen = tuple(entries)
        return Batch(self.votes(log.checkpoint(chosen, attempt)), chosen, promises)

    # -- records -----------------------------------------------------------------------------

    def write(
        self, kind: str, body: bytes, *, epoch: int = 1, which: int = 0, **changes: Any
    ) -> Record:
        values: dict[str, Any] = {
            "mesh": self.mesh.mesh_id, "kind": kind, "author": self.address, "epoch": epoch,
            "seq": self.seq, "prev": self.prev, "created_ms": START_MS + 1000 + self.seq,
            "body": body, "sign": self.key(epoch, which).sign,
        }  # fmt: skip
        record = seal(**{**values, **changes})
        self.seq, self.prev = self.seq + 1, record.id
        return record

    def shows(self, epoch: int = 1, which: int = 0, **changes: Any) -> Record:
        """Its credential record."""
        body = self.credential(epoch, which).encode()
        return self.write(CREDENTIAL, body, epoch=epoch, which=which, **changes)

    def heard(self, other: Person, created_ms: int = START_MS + 5000, **changes: Any) -> Record:
        """Its request record for one that asks."""
        values = {"created_ms": created_ms, "expires_ms": created_ms + REQUEST_LIFE_MS}
        body = request_body(other.enrolment, other.credential())
        return self.write(REQUEST, body, **{**values, **changes})

    def approval(self, entry: Entry, **changes: Any) -> Record:
        return self.write(APPROVAL, self.approves(entry).encode(), **changes)

    def batch(self, batch: Batch, **changes: Any) -> Record:
        return self.write(BATCH, batch.encode(), **changes)

    def vote(self, checkpoint: Checkpoint, **changes: Any) -> Record:
        return self.write(VOTE, self.votes(checkpoint).encode(), **changes)

    def tells(self, said: OwnerStatement, **changes: Any) -> Record:
        """Carries an owner's statement."""
        return self.write(OWNER, said.encode(), **changes)


def append(log: AdmissionLog, proposer: Person, *entries: Entry, by: Iterable[Person] = ()) -> None:
    """Have the log take ``entries`` in: proposed by one, cosigned by the others."""
    batch = proposer.proposes(log, entries)
    log.add_batch(proposer.address, batch)
    for witness in by:
        log.add_vote(witness.votes(batch.checkpoint))
    log.advance()
