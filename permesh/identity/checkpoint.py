"""Checkpoints: what the log was, as its witnesses signed it.

Owns the checkpoint, the witnesses' cosignatures under it (EIP-712, by their agents' wallets), the
certificate that a quorum of them makes, and the portable proof that two of those contradict each
other. Must never know what stands in the log.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from permesh.errors import Refused
from permesh.records import pack

from .genesis import MAX_REGISTRARS, VERSION, check_bytes, fields_of, is_uint, require
from .signed import check_signed
from .wallet import TypedMessage, Wallet

MAX_ROUND = 2**32 - 1
MAX_CERTIFICATE_BYTES = 256 + MAX_REGISTRARS * 96


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The log grows from ``base_size`` leaves under ``base_root`` to ``size`` under ``root``.

    ``round`` is the attempt in which it was agreed: see `ballot.py`.
    """

    mesh: bytes
    base_size: int
    base_root: bytes
    size: int
    root: bytes
    round: int

    def message(self) -> TypedMessage:
        return TypedMessage(
            self.mesh,
            "Checkpoint",
            (
                ("uint64", "baseSize", self.base_size),
                ("bytes32", "baseRoot", self.base_root),
                ("uint64", "size", self.size),
                ("bytes32", "root", self.root),
                ("uint64", "round", self.round),
            ),
        )

    def fields(self) -> list[Any]:
        return [self.mesh, self.base_size, self.base_root, self.size, self.root, self.round]

    @classmethod
    def of(cls, fields: Any) -> Checkpoint:
        require(isinstance(fields, list) and len(fields) == 6, "checkpoint")
        mesh, base_size, base_root, size, root, round_number = fields
        require(is_uint(base_size) and is_uint(size), "checkpoint's size")
        if size <= base_size:
            raise Refused(
                "checkpoint.shrinks",
                "The checkpoint does not make the log longer.",
                "A log only grows: who signed this is at fault.",
            )
        require(is_uint(round_number) and round_number <= MAX_ROUND, "checkpoint's round")
        return cls(
            check_bytes(mesh, 32, "mesh"),
            base_size,
            check_bytes(base_root, 32, "base root"),
            size,
            check_bytes(root, 32, "root"),
            round_number,
        )


@dataclass(frozen=True, slots=True)
class Vote:
    """A witness's cosignature under a checkpoint."""

    checkpoint: Checkpoint
    witness: bytes
    signature: bytes

    @classmethod
    def make(cls, checkpoint: Checkpoint, witness: Wallet) -> Vote:
        return cls(checkpoint, witness.address, witness.sign(checkpoint.message()))

    def encode(self) -> bytes:
        return pack([VERSION, self.checkpoint.fields(), self.witness, self.signature])

    @classmethod
    def decode(cls, data: Any) -> Vote:
        require(isinstance(data, bytes), "vote")
        checkpoint, witness, signature = fields_of(data, 3, MAX_CERTIFICATE_BYTES, "vote")
        return cls(
            Checkpoint.of(checkpoint),
            check_bytes(witness, 20, "witness"),
            check_bytes(signature, 65, "witness's signature"),
        )

    def verify(self, mesh: bytes) -> None:
        if self.checkpoint.mesh != mesh:
            raise Refused(
                "checkpoint.wrong_mesh",
                "The checkpoint is another mesh's.",
                "Check it against the genesis of its own mesh.",
            )
        check_signed(
            self.checkpoint.message(), self.signature, self.witness,
            "checkpoint.signature", "witness",
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Certificate:
    """A checkpoint and the cosignatures that make it count, sorted by witness."""

    checkpoint: Checkpoint
    signatures: tuple[tuple[bytes, bytes], ...]  # witness, signature

    def fields(self) -> list[Any]:
        return [self.checkpoint.fields(), [list(one) for one in self.signatures]]

    @classmethod
    def of(cls, fields: Any) -> Certificate:
        require(isinstance(fields, list) and len(fields) == 2, "certificate")
        checkpoint, signatures = fields
        require(isinstance(signatures, list) and len(signatures) <= MAX_REGISTRARS, "cosignatures")
        pairs = []
        for one in signatures:
            require(isinstance(one, list) and len(one) == 2, "cosignature")
            witness, signature = one
            pairs.append(
                (
                    check_bytes(witness, 20, "witness"),
                    check_bytes(signature, 65, "witness's signature"),
                )
            )
        require([w for w, _ in pairs] == sorted({w for w, _ in pairs}), "order of the cosignatures")
        return cls(Checkpoint.of(checkpoint), tuple(pairs))

    def verify(self, mesh: bytes, witnesses: Collection[bytes], quorum: int) -> None:
        """Raises ``Refused`` unless ``quorum`` of ``witnesses`` signed, and nobody else."""
        for witness, signature in self.signatures:
            if witness not in witnesses:
                raise Refused(
                    "checkpoint.witness",
                    "A cosignature is not by a witness of the log.",
                    "Ask for a proof that shows every change of registrars.",
                )
            Vote(self.checkpoint, witness, signature).verify(mesh)
        if len(self.signatures) < quorum:
            raise Refused(
                "checkpoint.quorum",
                f"{len(self.signatures)} of the {quorum} witnesses that it takes have cosigned.",
                "Wait for the other witnesses.",
            )


@dataclass(frozen=True, slots=True)
class Contradiction:
    """Two certificates for what comes after one state of the log: somebody signed twice."""

    one: Certificate
    other: Certificate

    def encode(self) -> bytes:
        return pack([VERSION, self.one.fields(), self.other.fields()])

    @classmethod
    def decode(cls, data: bytes) -> Contradiction:
        one, other = fields_of(data, 2, 2 * MAX_CERTIFICATE_BYTES, "contradiction")
        return cls(Certificate.of(one), Certificate.of(other))

    @property
    def both(self) -> tuple[bytes, ...]:
        """The witnesses that signed both."""
        ours = {witness for witness, _ in self.one.signatures}
        return tuple(witness for witness, _ in self.other.signatures if witness in ours)

    def verify(self, mesh: bytes, witnesses: Collection[bytes], quorum: int) -> None:
        """Raises ``Refused`` unless it proves what it claims, to anyone with the genesis."""
        one, other = self.one.checkpoint, self.other.checkpoint
        if (one.base_size, one.base_root) != (other.base_size, other.base_root) or (
            one.size, one.root,
        ) == (other.size, other.root):  # fmt: skip
            raise Refused(
                "contradiction.none",
                "The two checkpoints do not contradict each other.",
                "Nothing is wrong with the log.",
            )
        self.one.verify(mesh, witnesses, quorum)
        self.other.verify(mesh, witnesses, quorum)
