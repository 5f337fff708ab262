"""The wish to be one agent of one human, signed by both wallets.

Owns its canonical form, its EIP-712 struct and its check, a pure function. Must never know whether
the wish was granted.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import Any

from permesh.errors import Refused
from permesh.records import pack

from .genesis import VERSION, check_bytes, check_name, is_uint, require
from .person import VERIFIERS
from .signed import check_signed, statement
from .wallet import TypedMessage, Wallet

MAX_EVIDENCE_BYTES = 512


@dataclass(frozen=True, slots=True)
class Enrolment:
    """A wish to be one agent of one human; made once, before admission.

    ``person`` is the nullifier (32 bytes) that ``verifier`` is to confirm by ``evidence``, whose
    form is the verifier's. ``runtime_hash`` is what the agent ran when it asked.
    """

    mesh: bytes
    name: str
    owner: bytes
    agent: bytes
    runtime_hash: bytes
    verifier: str
    person: bytes
    evidence: bytes
    requested_ms: int
    owner_signature: bytes = b""
    agent_signature: bytes = b""

    @classmethod
    def make(
        cls,
        mesh: bytes,
        name: str,
        owner: Wallet,
        agent: Wallet,
        *,
        runtime_hash: bytes,
        verifier: str,
        person: bytes,
        evidence: bytes = b"",
        requested_ms: int,
    ) -> Enrolment:
        unsigned = cls(
            mesh, check_name(name), owner.address, agent.address, runtime_hash, verifier, person,
            evidence, requested_ms,
        )  # fmt: skip
        message = unsigned.message()
        return replace(
            unsigned, owner_signature=owner.sign(message), agent_signature=agent.sign(message)
        )

    def message(self) -> TypedMessage:
        return TypedMessage(
            self.mesh,
            "Enrolment",
            (
                ("string", "name", self.name),
                ("address", "owner", self.owner),
                ("address", "agent", self.agent),
                ("bytes32", "runtimeHash", self.runtime_hash),
                ("string", "verifier", self.verifier),
                ("bytes32", "person", self.person),
                ("bytes", "evidence", self.evidence),
                ("uint64", "requestedMs", self.requested_ms),
            ),
        )

    def encode(self) -> bytes:
        return pack(
            [
                VERSION, self.mesh, self.name, self.owner, self.agent, self.runtime_hash,
                self.verifier, self.person, self.evidence, self.requested_ms,
                self.owner_signature, self.agent_signature,
            ]
        )  # fmt: skip

    @property
    def digest(self) -> bytes:
        """SHA-256 of the exact bytes, signatures included."""
        return hashlib.sha256(self.encode()).digest()

    @classmethod
    def decode(cls, data: Any) -> Enrolment:
        fields = statement(data, 11, "enrolment")
        mesh, name, owner, agent, runtime_hash, verifier, person, evidence, *rest = fields
        requested, by_owner, by_agent = rest
        require(verifier in VERIFIERS, "verifier")
        require(isinstance(evidence, bytes) and len(evidence) <= MAX_EVIDENCE_BYTES, "evidence")
        require(is_uint(requested), "enrolment's date")
        return cls(
            check_bytes(mesh, 32, "mesh"),
            check_name(name),
            check_bytes(owner, 20, "owner"),
            check_bytes(agent, 20, "agent"),
            check_bytes(runtime_hash, 32, "runtime hash"),
            verifier,
            check_bytes(person, 32, "person"),
            evidence,
            requested,
            check_bytes(by_owner, 65, "owner's signature"),
            check_bytes(by_agent, 65, "agent's signature"),
        )

    def verify(self, mesh: bytes) -> None:
        """Form and signatures; raises ``Refused``. Whether the evidence holds is not asked."""
        if self.mesh != mesh:
            raise Refused(
                "enrolment.wrong_mesh",
                "The enrolment is for another mesh.",
                "Enrol in this one with an invite of one of its members.",
            )
        require(self.owner != self.agent, "enrolment (owner and agent are one key)")
        message = self.message()
        check_signed(message, self.owner_signature, self.owner, "enrolment.signature", "owner")
        check_signed(message, self.agent_signature, self.agent, "enrolment.signature", "agent")
