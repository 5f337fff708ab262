"""People of a small mesh, with real wallets: the same ones in every run.

Owns their keys and what they sign. Nothing here checks anything.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from permesh.identity.credential import Admission, Credential, Enrolment
from permesh.identity.genesis import Genesis, Registrar
from permesh.identity.hello import Proof
from permesh.identity.keys import SessionKey, peer_id_of
from permesh.identity.roster import (
    ADMISSION,
    CREDENTIAL,
    REQUEST,
    REQUEST_LIFE_MS,
    admission_body,
    request_body,
)
from permesh.identity.wallet import Wallet
from permesh.records import Record, seal

START_MS = 1_700_000_000_000
DAY_MS = 24 * 3_600_000


def seed(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()


@cache
def wallet(name: str) -> Wallet:
    return Wallet.from_key(seed(name))


@cache
def genesis(name: str = "reading-room") -> Genesis:
    """A mesh founded by ann (number 1) and ben (number 2)."""
    return Genesis(
        name,
        START_MS - DAY_MS,
        seed(name)[:16],
        tuple(
            Registrar(wallet(f"{one} owner").address, wallet(f"{one} agent").address, one)
            for one in ("ann", "ben")
        ),
    )


@dataclass
class Person:
    """An owner and an agent; ``admission`` stays None for founders and for those who only ask."""

    name: str
    mesh: Genesis = field(default_factory=genesis)
    owner_name: str = ""
    requested_ms: int = START_MS
    admission: Admission | None = None
    seq: int = 0
    prev: bytes = b""

    def __post_init__(self) -> None:
        self.owner = wallet(f"{self.owner_name or self.name} owner")
        self.agent = wallet(f"{self.name} agent")
        self.peer_id = peer_id_of(seed(f"{self.name} peer"))
        self.enrolment = Enrolment.make(
            self.mesh.mesh_id, self.name, self.owner, self.agent, self.requested_ms
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
            "runtime": "permesh/0.1.0 python/3.11.7",
            "runtime_hash": seed("runtime"),
            "epoch": epoch,
            "issued_ms": START_MS,
        }
        return Credential.make(self.enrolment, self.agent, **{**values, **changes})

    def proof(self, epoch: int = 1, which: int = 0, **changes: Any) -> Proof:
        return Proof(self.enrolment, self.credential(epoch, which, **changes), self.admission)

    def admitted(self, number: int, registrar: str = "ann", admitted_ms: int = START_MS) -> Person:
        self.admission = Admission.make(
            self.enrolment, number, admitted_ms, wallet(f"{registrar} agent")
        )
        return self

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
        proof = self.proof(epoch, which)
        return self.write(CREDENTIAL, proof.encode(), epoch=epoch, which=which, **changes)

    def admits(self, other: Person, number: int, **changes: Any) -> Record:
        admission = Admission.make(other.enrolment, number, START_MS, self.agent)
        return self.write(ADMISSION, admission_body(other.enrolment, admission), **changes)

    def heard(self, proof: Proof, created_ms: int = START_MS + 5000, **changes: Any) -> Record:
        """Its request record for one that asks."""
        values = {"created_ms": created_ms, "expires_ms": created_ms + REQUEST_LIFE_MS}
        return self.write(REQUEST, request_body(proof), **{**values, **changes})
