"""What a peer shows to be let in, and the rule that says whether it is a member.

Owns the bundle of proofs (enrolment, credential, admission) and its check, a pure function of the
bundle, the genesis and the clock. A bundle proves itself: who holds the genesis needs nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from permesh.errors import Refused
from permesh.records import pack

from .credential import MAX_STATEMENT_BYTES, Admission, Credential, Enrolment
from .genesis import VERSION, Genesis, fields_of, require

MAX_HELLO_BYTES = 4 * MAX_STATEMENT_BYTES


@dataclass(frozen=True, slots=True)
class Proof:
    """The three statements; ``admission`` is None for founders and for those not yet admitted."""

    enrolment: Enrolment
    credential: Credential
    admission: Admission | None

    def encode(self) -> bytes:
        admission = self.admission.encode() if self.admission else b""
        return pack([VERSION, self.enrolment.encode(), self.credential.encode(), admission])

    @classmethod
    def decode(cls, data: bytes) -> Proof:
        enrolment, credential, admission = fields_of(data, 3, MAX_HELLO_BYTES, "proof")
        require(isinstance(admission, bytes), "admission")
        return cls(
            Enrolment.decode(enrolment),
            Credential.decode(credential),
            Admission.decode(admission) if admission else None,
        )

    def verify(self, genesis: Genesis) -> int | None:
        """Every signature; the member's number, or None for one who is not admitted yet."""
        mesh = genesis.mesh_id
        if self.credential.mesh != mesh:
            raise Refused(
                "credential.wrong_mesh",
                "The credential is for another mesh.",
                "Join this one with an invite of one of its members.",
            )
        self.enrolment.verify(mesh)
        self.credential.verify(self.enrolment)
        number = genesis.number_of(self.enrolment.agent)
        if number is not None:
            founder = genesis.registrars[number - 1]
            if (founder.owner, founder.name) != (self.enrolment.owner, self.enrolment.name):
                raise Refused("enrolment.not_founder", "The enrolment differs from the genesis.")
            if self.admission is not None:  # nothing in the genesis speaks for it
                raise Refused("admission.founder", "A founding member shows no admission.")
            return number
        if self.admission is None:
            return None
        self.admission.verify(self.enrolment, genesis)
        return self.admission.number


@dataclass(frozen=True, slots=True)
class Verified:
    """A member, shown to be one by signatures alone."""

    agent: bytes
    number: int
    name: str
    proof: Proof

    @property
    def expires_ms(self) -> int:
        return self.proof.credential.expires_ms


@dataclass(frozen=True, slots=True)
class Asking:
    """One that asks to be let in: enrolled and holding a credential, but not admitted."""

    agent: bytes
    proof: Proof


def check_hello(
    hello: bytes,
    genesis: Genesis,
    peer_id: str,
    now_ms: int,
    admission_of: Callable[[bytes], Admission | None] = lambda _: None,
) -> Verified | Asking:
    """Whether ``hello``, shown over a connection authenticated as ``peer_id``, is a member's.

    ``admission_of`` gives the admission that stands for an agent as far as this side knows: one
    just admitted may not have heard of it, or shows one that lost its number to another's. Raises
    ``Refused`` with a stable code.
    """
    proof = Proof.decode(hello)
    if proof.credential.peer_id != peer_id:
        raise Refused(
            "credential.wrong_peer",
            "The credential was issued to another libp2p peer.",
            "A credential is worth nothing on another machine: enrol that one itself.",
        )
    proof.credential.check_current(now_ms)
    number = proof.verify(genesis)
    known = admission_of(proof.enrolment.agent)
    if known is not None and known.enrolment == proof.enrolment.digest:
        proof = Proof(proof.enrolment, proof.credential, known)
        number = proof.verify(genesis)
    if number is None:
        return Asking(proof.enrolment.agent, proof)
    return Verified(proof.enrolment.agent, number, proof.enrolment.name, proof)
