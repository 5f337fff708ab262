"""The credential: what an agent shows for one epoch of at most 72 hours.

Owns its canonical form, its EIP-712 struct and its check, a pure function. It binds the agent to a
session key, a libp2p peer id and a runtime hash; the agent's wallet signs it. Must never know who
is a member: that is the roster's.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import Any

from permesh.errors import Refused
from permesh.records import pack

from .genesis import VERSION, check_bytes, is_uint, require
from .signed import SKEW_MS, check_signed, statement
from .wallet import TypedMessage, Wallet

HOUR_MS = 3_600_000
LIFE_MS = 72 * HOUR_MS
MAX_RUNTIME_BYTES = 128
MAX_PEER_ID_BYTES = 64
# An epoch is two days unless the runtime changes, so this is beyond any agent's life. Every epoch
# has a key that all members keep for as long as there are records to check against it.
MAX_EPOCH = 65_535


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
        mesh: bytes,
        owner: bytes,
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
            mesh, agent.address, owner, session_key, peer_id, runtime, runtime_hash, epoch,
            issued_ms, issued_ms + life_ms,
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
        mesh, agent, owner, session, peer, runtime, runtime_hash, *rest = statement(
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

    def verify(self, mesh: bytes) -> None:
        """Form and signature, whatever the time; ``check_current`` looks at the clock."""
        if self.mesh != mesh:
            raise Refused(
                "credential.wrong_mesh",
                "The credential is for another mesh.",
                "Join this one with an invite of one of its members.",
            )
        require(self.owner != self.agent, "credential (owner and agent are one key)")
        if not 0 < self.expires_ms - self.issued_ms <= LIFE_MS:
            raise Refused(
                "credential.life",
                "The credential's life is not between 0 and 72 hours.",
                "Its daemon makes one that lasts 72 hours.",
            )
        check_signed(self.message(), self.signature, self.agent, "credential.signature", "agent")

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


def _ascii(value: Any, limit: int, field: str) -> str:
    require(isinstance(value, str) and 0 < len(value) <= limit, field)
    require(value.isascii() and value.isprintable(), field)
    return str(value)
