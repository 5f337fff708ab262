"""Enrolment, admission, credential: the three signed statements that make a member.

Owns their canonical forms, their EIP-712 structs and their checks, each a pure function.
An *enrolment* binds a name, an owner and an agent, signed by both wallets. An *admission* is a
registrar's signature that lets that enrolment in under a number. A *credential* binds the agent to
a session key, a libp2p peer id and a runtime hash for at most 72 hours; the agent's wallet signs
it. Must never know who else is a member: that is the roster's.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from permesh.errors import Refused
from permesh.records import pack

from .genesis import VERSION, Genesis, check_bytes, check_name, fields_of, is_uint, require
from .wallet import TypedMessage, Wallet, recover

HOUR_MS = 3_600_000
LIFE_MS = 72 * HOUR_MS
# Members' clocks differ; more than this is a clock to be set, and is said so.
SKEW_MS = 10 * 60_000
MAX_STATEMENT_BYTES = 1024
MAX_RUNTIME_BYTES = 128
MAX_PEER_ID_BYTES = 64
# An epoch is two days unless the runtime changes, so this is beyond any agent's life. Every epoch
# has a key that all members keep for as long as there are records to check against it.
MAX_EPOCH = 65_535
# One entry is ~1.6 KB: a mesh of ten thousand has three signatures a member.
_REMEMBERED_SIGNATURES = 32_768

_recover = lru_cache(maxsize=_REMEMBERED_SIGNATURES)(recover)


def _signed_by(message: TypedMessage, signature: bytes, signer: bytes, code: str, who: str) -> None:
    try:
        right = _recover(message, signature) == signer
    except Refused:
        right = False
    if not right:
        raise Refused(code, f"The signature is not that of the {who} it names.")


@dataclass(frozen=True, slots=True)
class Enrolment:
    """A wish to be one agent of one owner; made once, before admission."""

    mesh: bytes
    name: str
    owner: bytes
    agent: bytes
    requested_ms: int
    owner_signature: bytes = b""
    agent_signature: bytes = b""

    @classmethod
    def make(
        cls, mesh: bytes, name: str, owner: Wallet, agent: Wallet, requested_ms: int
    ) -> Enrolment:
        unsigned = cls(mesh, check_name(name), owner.address, agent.address, requested_ms)
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
                ("uint64", "requestedMs", self.requested_ms),
            ),
        )

    def encode(self) -> bytes:
        return pack(
            [
                VERSION, self.mesh, self.name, self.owner, self.agent, self.requested_ms,
                self.owner_signature, self.agent_signature,
            ]
        )  # fmt: skip

    @property
    def digest(self) -> bytes:
        """What an admission names: SHA-256 of the exact bytes, signatures included."""
        return hashlib.sha256(self.encode()).digest()

    @classmethod
    def decode(cls, data: Any) -> Enrolment:
        mesh, name, owner, agent, requested, by_owner, by_agent = _fields(data, 7, "enrolment")
        require(is_uint(requested), "enrolment's date")
        return cls(
            check_bytes(mesh, 32, "mesh"),
            check_name(name),
            check_bytes(owner, 20, "owner"),
            check_bytes(agent, 20, "agent"),
            requested,
            check_bytes(by_owner, 65, "owner's signature"),
            check_bytes(by_agent, 65, "agent's signature"),
        )

    def verify(self, mesh: bytes) -> None:
        if self.mesh != mesh:
            raise Refused("enrolment.wrong_mesh", "The enrolment is for another mesh.")
        require(self.owner != self.agent, "enrolment: owner and agent are one key")
        message = self.message()
        _signed_by(message, self.owner_signature, self.owner, "enrolment.signature", "owner")
        _signed_by(message, self.agent_signature, self.agent, "enrolment.signature", "agent")


@dataclass(frozen=True, slots=True)
class Admission:
    """A registrar's word that an enrolment is let in, as agent ``number``."""

    mesh: bytes
    enrolment: bytes
    agent: bytes
    owner: bytes
    number: int
    admitted_ms: int
    registrar: bytes
    signature: bytes = b""

    @classmethod
    def make(
        cls, enrolment: Enrolment, number: int, admitted_ms: int, registrar: Wallet
    ) -> Admission:
        unsigned = cls(
            enrolment.mesh, enrolment.digest, enrolment.agent, enrolment.owner,
            number, admitted_ms, registrar.address,
        )  # fmt: skip
        return replace(unsigned, signature=registrar.sign(unsigned.message()))

    def message(self) -> TypedMessage:
        return TypedMessage(
            self.mesh,
            "Admission",
            (
                ("bytes32", "enrolment", self.enrolment),
                ("address", "agent", self.agent),
                ("address", "owner", self.owner),
                ("uint64", "number", self.number),
                ("uint64", "admittedMs", self.admitted_ms),
                ("address", "registrar", self.registrar),
            ),
        )

    def encode(self) -> bytes:
        return pack(
            [
                VERSION, self.mesh, self.enrolment, self.agent, self.owner, self.number,
                self.admitted_ms, self.registrar, self.signature,
            ]
        )  # fmt: skip

    @classmethod
    def decode(cls, data: Any) -> Admission:
        fields = _fields(data, 8, "admission")
        mesh, enrolment, agent, owner, number, admitted, registrar, signature = fields
        require(is_uint(number) and 0 < number < 2**32, "agent number")
        require(is_uint(admitted), "admission's date")
        return cls(
            check_bytes(mesh, 32, "mesh"),
            check_bytes(enrolment, 32, "enrolment"),
            check_bytes(agent, 20, "agent"),
            check_bytes(owner, 20, "owner"),
            number,
            admitted,
            check_bytes(registrar, 20, "registrar"),
            check_bytes(signature, 65, "registrar's signature"),
        )

    def verify(self, enrolment: Enrolment, genesis: Genesis) -> None:
        if self.mesh != genesis.mesh_id:
            raise Refused("admission.wrong_mesh", "The admission is for another mesh.")
        if genesis.number_of(self.registrar) is None:
            raise Refused(
                "admission.not_registrar", "The admission is not signed by a registrar of the mesh."
            )
        if (self.enrolment, self.agent, self.owner) != (
            enrolment.digest, enrolment.agent, enrolment.owner,
        ):  # fmt: skip
            raise Refused("admission.wrong_enrolment", "The admission is for another enrolment.")
        if genesis.is_founders(self.agent) or genesis.is_founders(self.owner):
            raise Refused("admission.owner_taken", "The admission is for a founding member's key.")
        if self.number <= len(genesis.registrars):
            raise Refused("admission.number", "The admission takes a founding member's number.")
        _signed_by(
            self.message(), self.signature, self.registrar, "admission.signature", "registrar"
        )


@dataclass(frozen=True, slots=True, order=True)
class Session:
    """What of a credential is needed to check the records of its epoch."""

    session_key: bytes
    issued_ms: int
    expires_ms: int

    def covers(self, created_ms: int) -> bool:
        """Whether a record of this epoch may bear that date."""
        return self.issued_ms - SKEW_MS <= created_ms <= self.expires_ms + SKEW_MS


@dataclass(frozen=True, slots=True)
class Credential:
    """What an agent shows for one epoch of at most 72 hours. Times are Unix milliseconds."""

    mesh: bytes
    agent: bytes
    owner: bytes
    session_key: bytes
    peer_id: str
    runtime: str
    runtime_hash: bytes
    epoch: int
    issued_ms: int
    expires_ms: int
    signature: bytes = b""

    @classmethod
    def make(
        cls,
        enrolment: Enrolment,
        agent: Wallet,
        *,
        session_key: bytes,
        peer_id: str,
        runtime: str,
        runtime_hash: bytes,
        epoch: int,
        issued_ms: int,
        life_ms: int = LIFE_MS,
    ) -> Credential:
        unsigned = cls(
            enrolment.mesh, enrolment.agent, enrolment.owner, session_key, peer_id, runtime,
            runtime_hash, epoch, issued_ms, issued_ms + life_ms,
        )  # fmt: skip
        return replace(unsigned, signature=agent.sign(unsigned.message()))

    def message(self) -> TypedMessage:
        return TypedMessage(
            self.mesh,
            "Credential",
            (
                ("address", "agent", self.agent),
                ("address", "owner", self.owner),
                ("bytes32", "sessionKey", self.session_key),
                ("string", "peerId", self.peer_id),
                ("string", "runtime", self.runtime),
                ("bytes32", "runtimeHash", self.runtime_hash),
                ("uint64", "epoch", self.epoch),
                ("uint64", "issuedMs", self.issued_ms),
                ("uint64", "expiresMs", self.expires_ms),
            ),
        )

    def encode(self) -> bytes:
        return pack(
            [
                VERSION, self.mesh, self.agent, self.owner, self.session_key, self.peer_id,
                self.runtime, self.runtime_hash, self.epoch, self.issued_ms, self.expires_ms,
                self.signature,
            ]
        )  # fmt: skip

    @property
    def digest(self) -> bytes:
        return hashlib.sha256(self.encode()).digest()

    @classmethod
    def decode(cls, data: Any) -> Credential:
        mesh, agent, owner, session, peer, runtime, runtime_hash, *rest = _fields(
            data, 11, "credential"
        )
        epoch, issued, expires, signature = rest
        require(is_uint(epoch) and 0 < epoch <= MAX_EPOCH, "epoch")
        require(is_uint(issued) and is_uint(expires), "credential's dates")
        return cls(
            check_bytes(mesh, 32, "mesh"),
            check_bytes(agent, 20, "agent"),
            check_bytes(owner, 20, "owner"),
            check_bytes(session, 32, "session key"),
            _ascii(peer, MAX_PEER_ID_BYTES, "peer id"),
            _ascii(runtime, MAX_RUNTIME_BYTES, "runtime"),
            check_bytes(runtime_hash, 32, "runtime hash"),
            epoch,
            issued,
            expires,
            check_bytes(signature, 65, "agent's signature"),
        )

    def verify(self, enrolment: Enrolment) -> None:
        """Form and signature, whatever the time; ``check_current`` looks at the clock."""
        if self.mesh != enrolment.mesh:
            raise Refused("credential.wrong_mesh", "The credential is for another mesh.")
        if (self.agent, self.owner) != (enrolment.agent, enrolment.owner):
            raise Refused("credential.wrong_agent", "The credential is another agent's.")
        if not 0 < self.expires_ms - self.issued_ms <= LIFE_MS:
            raise Refused("credential.life", "The credential's life is not between 0 and 72 hours.")
        _signed_by(self.message(), self.signature, self.agent, "credential.signature", "agent")

    def check_current(self, now_ms: int) -> None:
        if now_ms > self.expires_ms + SKEW_MS:
            raise Refused(
                "credential.expired",
                "The credential has expired.",
                "Its daemon renews it when it runs; set the clock of this machine if it is wrong.",
            )
        if now_ms < self.issued_ms - SKEW_MS:
            ahead = (self.issued_ms - now_ms) // 60_000
            raise Refused(
                "credential.not_yet_valid",
                f"The credential begins {ahead} minutes from now: the two clocks differ.",
                "Set the clock that is wrong; ten minutes of difference are tolerated.",
            )

    @property
    def session(self) -> Session:
        return Session(self.session_key, self.issued_ms, self.expires_ms)

    @property
    def renews_ms(self) -> int:
        return self.issued_ms + (self.expires_ms - self.issued_ms) * 2 // 3


def _fields(data: Any, count: int, what: str) -> list[Any]:
    require(isinstance(data, bytes), what)
    return fields_of(data, count, MAX_STATEMENT_BYTES, what)


def _ascii(value: Any, limit: int, field: str) -> str:
    require(isinstance(value, str) and 0 < len(value) <= limit, field)
    require(value.isascii() and value.isprintable(), field)
    return str(value)
