"""What an owner says of its own agent, with the owner's wallet alone.

Owns the three statements (revoke the agent's key, move the ID to another key, repair a forked
chain of records), their EIP-712 struct and their check. They need no registrar and no machine of
the agent's: whoever carries one to a member has it heard. Must never know what follows from them.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import Any

from permesh.errors import Refused
from permesh.records import pack

from .genesis import VERSION, check_bytes, is_uint, require
from .signed import check_signed, statement
from .wallet import TypedMessage, Wallet

REVOKE = "revoke"
MOVE = "move"
REPAIR = "repair"
ACTS = (REVOKE, MOVE, REPAIR)
_NO_AGENT = bytes(20)
_NO_RECORD = bytes(32)


@dataclass(frozen=True, slots=True)
class OwnerStatement:
    """``agent`` is the key that it is about.

    A move names ``new_agent``, whose wallet signs as well. A repair names the id of the one
    ``record`` of the agent's chain that stands at its place (``seq``); the chain goes on from it.
    """

    mesh: bytes
    act: str
    owner: bytes
    agent: bytes
    said_ms: int
    new_agent: bytes = _NO_AGENT
    seq: int = 0
    record: bytes = _NO_RECORD
    owner_signature: bytes = b""
    new_agent_signature: bytes = b""

    @classmethod
    def revoke(cls, mesh: bytes, owner: Wallet, agent: bytes, said_ms: int) -> OwnerStatement:
        return cls(mesh, REVOKE, owner.address, agent, said_ms)._signed(owner)

    @classmethod
    def move(
        cls, mesh: bytes, owner: Wallet, agent: bytes, new_agent: Wallet, said_ms: int
    ) -> OwnerStatement:
        unsigned = cls(mesh, MOVE, owner.address, agent, said_ms, new_agent=new_agent.address)
        by_new = new_agent.sign(unsigned.message())
        return replace(unsigned, new_agent_signature=by_new)._signed(owner)

    @classmethod
    def repair(
        cls, mesh: bytes, owner: Wallet, agent: bytes, seq: int, record: bytes, said_ms: int
    ) -> OwnerStatement:
        unsigned = cls(mesh, REPAIR, owner.address, agent, said_ms, seq=seq, record=record)
        return unsigned._signed(owner)

    def _signed(self, owner: Wallet) -> OwnerStatement:
        return replace(self, owner_signature=owner.sign(self.message()))

    def message(self) -> TypedMessage:
        return TypedMessage(
            self.mesh,
            "OwnerStatement",
            (
                ("string", "act", self.act),
                ("address", "owner", self.owner),
                ("address", "agent", self.agent),
                ("uint64", "saidMs", self.said_ms),
                ("address", "newAgent", self.new_agent),
                ("uint64", "seq", self.seq),
                ("bytes32", "record", self.record),
            ),
        )

    def encode(self) -> bytes:
        return pack(
            [
                VERSION, self.mesh, self.act, self.owner, self.agent, self.said_ms,
                self.new_agent, self.seq, self.record,
                self.owner_signature, self.new_agent_signature,
            ]
        )  # fmt: skip

    @property
    def digest(self) -> bytes:
        return hashlib.sha256(self.encode()).digest()

    @classmethod
    def decode(cls, data: Any) -> OwnerStatement:
        fields = statement(data, 10, "owner's statement")
        mesh, act, owner, agent, said, new_agent, seq, record, by_owner, by_new = fields
        require(act in ACTS, "owner's act")
        require(is_uint(said) and is_uint(seq), "owner's statement")
        require((act == MOVE) == (new_agent != _NO_AGENT), "new agent")
        require((act == REPAIR) == (record != _NO_RECORD), "record")
        require(act == REPAIR or seq == 0, "place in the chain")
        return cls(
            check_bytes(mesh, 32, "mesh"),
            act,
            check_bytes(owner, 20, "owner"),
            check_bytes(agent, 20, "agent"),
            said,
            check_bytes(new_agent, 20, "new agent"),
            seq,
            check_bytes(record, 32, "record"),
            check_bytes(by_owner, 65, "owner's signature"),
            check_bytes(by_new, 65 if act == MOVE else 0, "new agent's signature"),
        )

    def verify(self, mesh: bytes) -> None:
        """Form and signatures; raises ``Refused``."""
        if self.mesh != mesh:
            raise Refused(
                "owner.wrong_mesh",
                "The owner's statement is for another mesh.",
                "Make it again with an invite of this one.",
            )
        keys = {self.owner, self.agent} | ({self.new_agent} if self.act == MOVE else set())
        require(
            len(keys) == (3 if self.act == MOVE else 2),
            "owner's statement (one key stands in it twice)",
        )
        message = self.message()
        check_signed(message, self.owner_signature, self.owner, "owner.signature", "owner")
        if self.act == MOVE:
            check_signed(
                message, self.new_agent_signature, self.new_agent, "owner.signature", "new agent"
            )
