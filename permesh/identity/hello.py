"""What a peer shows to be let in, and the rule that says whether it is a member.

Owns the bundle (a credential, and either the log's word on its agent or the wish to be let in) and
its check, a pure function of the bundle, the roster and the clock. A bundle of a member proves
itself: who holds the genesis needs nothing else, though who follows the log knows better.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from dataclasses import dataclass
from typing import Protocol

from permesh.errors import Refused
from permesh.records import pack, unpack

from .checkpoint import Checkpoint
from .credential import Credential
from .enrolment import Enrolment
from .genesis import VERSION, Genesis, fields_of, require
from .owner import OwnerStatement
from .proof import MAX_PROOF_BYTES, LogProof
from .registry import Seat
from .signed import MAX_STATEMENT_BYTES

# More than there are connections; one takes half a kilobyte.
RECOGNISED = 1024
MAX_HELLO_BYTES = MAX_PROOF_BYTES + 2 * MAX_STATEMENT_BYTES + 64


@dataclass(frozen=True, slots=True)
class Hello:
    """``proof`` is a member's (a founder's may be None), ``enrolment`` that of one who asks."""

    credential: Credential
    enrolment: Enrolment | None = None
    proof: LogProof | None = None

    def encode(self) -> bytes:
        enrolment = self.enrolment.encode() if self.enrolment else b""
        proof = self.proof.encode() if self.proof else b""
        return pack([VERSION, self.credential.encode(), enrolment, proof])

    @classmethod
    def decode(cls, data: bytes) -> Hello:
        credential, enrolment, proof = fields_of(data, 3, MAX_HELLO_BYTES, "hello")
        require(isinstance(enrolment, bytes) and isinstance(proof, bytes), "hello")
        return cls(
            Credential.decode(credential),
            Enrolment.decode(enrolment) if enrolment else None,
            LogProof.decode(proof) if proof else None,
        )


@dataclass(frozen=True, slots=True)
class OwnersVisit:
    """What is shown in the place of a hello by an owner who has no agent to run.

    It asks for nothing but that the statement be told to the mesh.
    """

    statement: OwnerStatement

    def encode(self) -> bytes:
        return pack([VERSION, self.statement.encode()])


def decode_shown(data: bytes) -> Hello | OwnersVisit:
    """Either of the two; raises ``Refused``."""
    fields = unpack(data, limit=MAX_HELLO_BYTES)
    if isinstance(fields, list) and len(fields) == 2:
        (statement,) = fields_of(data, 1, MAX_HELLO_BYTES, "visit")
        return OwnersVisit(OwnerStatement.decode(statement))
    return Hello.decode(data)


@dataclass(frozen=True, slots=True)
class Verified:
    """A member, shown to be one by signatures alone."""

    agent: bytes
    number: int
    name: str
    credential: Credential

    @property
    def expires_ms(self) -> int:
        return self.credential.expires_ms


@dataclass(frozen=True, slots=True)
class Asking:
    """One that asks to be let in: enrolled and holding a credential, but not in the log."""

    agent: bytes
    enrolment: Enrolment
    credential: Credential


class KnownMembers(Protocol):
    """What is asked of `roster.py`."""

    genesis: Genesis
    mesh_id: bytes

    def seat(self, agent: bytes) -> Seat | None:
        """What our own log says of this key."""
        ...

    def agrees_with(self, checkpoint: Checkpoint) -> bool:
        """False if our own log shows that the checkpoint is none of its own."""
        ...

    def is_revoked(self, agent: bytes, owner: bytes) -> bool:
        """Whether ``owner`` has revoked this key, as far as we have heard."""
        ...


def check_hello(hello: Hello, roster: KnownMembers, peer_id: str, now_ms: int) -> Verified | Asking:
    """Whether ``hello``, shown over a connection authenticated as ``peer_id``, is a member's.

    Raises ``Refused`` with a stable code.
    """
    credential, mesh = hello.credential, roster.mesh_id
    _check_peer(credential, peer_id)
    if credential.mesh == mesh:  # one of another mesh is told that, whatever its date
        credential.check_current(now_ms)
    credential.verify(mesh)
    seat = roster.seat(credential.agent)
    if seat is None and hello.proof is not None:
        # Who decided once can still sign a log of their own.
        if not all(roster.agrees_with(one.certificate.checkpoint) for one in hello.proof.sections):
            raise Refused(
                "log.other_branch",
                "The proof is of another log than this member follows.",
                "Compare 'permesh status' with other members: the log may contradict itself.",
            )
        seat = hello.proof.seat(roster.genesis, credential.agent)
    if seat is not None:
        check_served(seat, credential, roster)
        return Verified(credential.agent, seat.number, seat.name, credential)
    wish = hello.enrolment
    if wish is None:
        raise Refused(
            "credential.not_admitted",
            "The credential's agent is not in the log of admissions.",
            "Ask to be let in with an invite: permesh mesh join LINE",
        )
    if (wish.agent, wish.owner) != (credential.agent, credential.owner):
        raise Refused(
            "credential.wrong_agent",
            "The credential is another agent's than the enrolment.",
            "Make a new identity in a new home: permesh init --name NAME",
        )
    wish.verify(mesh)
    return Asking(wish.agent, wish, credential)


def _check_peer(credential: Credential, peer_id: str) -> None:
    if credential.peer_id != peer_id:
        raise Refused(
            "credential.wrong_peer",
            "The credential was issued to another libp2p peer.",
            "A credential is worth nothing on another machine: enrol that one itself.",
        )


class Recognised:
    """Members' hellos that were checked, so that the same one shown again costs little.

    What can have changed since is looked at each time: the clock, and what the log and the owner
    say of the key.
    """

    def __init__(self) -> None:
        self._known: OrderedDict[bytes, Credential] = OrderedDict()  # by the hello's SHA-256

    def remember(self, data: bytes, credential: Credential) -> None:
        self._known[hashlib.sha256(data).digest()] = credential
        while len(self._known) > RECOGNISED:
            self._known.popitem(last=False)

    def check(
        self, data: bytes, roster: KnownMembers, peer_id: str, now_ms: int
    ) -> Verified | None:
        """As `check_hello`; None for a hello that was not seen, or whose agent the log lacks."""
        credential = self._known.get(hashlib.sha256(data).digest())
        seat = roster.seat(credential.agent) if credential else None
        if credential is None or seat is None:
            return None
        _check_peer(credential, peer_id)
        credential.check_current(now_ms)
        check_served(seat, credential, roster)
        return Verified(credential.agent, seat.number, seat.name, credential)


def _sentence(reason: str) -> str:
    return f"{reason.rstrip('. ') or 'no reason given'}."


def check_served(seat: Seat, credential: Credential, roster: KnownMembers) -> None:
    """Raises ``Refused`` unless the seat's present key made the credential and is in good standing.

    Signatures and dates are checked elsewhere.
    """
    if credential.owner != seat.owner:
        raise Refused(
            "credential.wrong_owner",
            "The credential names another owner than the log.",
            "Renew it in the home of that agent.",
        )
    if credential.agent != seat.agent:
        raise Refused(
            "credential.old_key",
            "The ID was moved to another key by its owner.",
            "Run the daemon in the home that holds the new key.",
        )
    if seat.revoked or roster.is_revoked(credential.agent, seat.owner):
        raise Refused(
            "credential.revoked",
            "The agent's key was revoked by its owner.",
            "The owner moves the ID to a new key: permesh owner move",
        )
    if seat.suspended is not None:
        raise Refused(
            "member.suspended",
            f"The registrars have suspended this member: {_sentence(seat.suspended)}",
            "Ask a registrar; permesh members shows who they are.",
        )
