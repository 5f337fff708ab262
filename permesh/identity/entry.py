"""What the admission log is made of: entries, and the registrars' approvals under them.

Owns the kinds of entries, their canonical forms and each form's own check, a pure function of the
entry. An entry is either *decided* by registrars (its digest is what each of them signs) or made
by an owner's own statement. Must never know whether an entry fits the log: that is the registry's.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import lru_cache
from statistics import median_high
from typing import Any

from permesh.records import pack, unpack

from .enrolment import Enrolment
from .genesis import MAX_REGISTRARS, VERSION, Registrar, check_bytes, fields_of, is_uint, require
from .owner import OwnerStatement
from .signed import check_signed
from .wallet import TypedMessage, Wallet

FOUNDER = "founder"
ADMISSION = "admission"
REGISTRARS = "registrars"
SUSPENSION = "suspension"
REINSTATEMENT = "reinstatement"
RELEASE = "release"
OWNER = "owner"
RESOLUTION = "resolution"  # never a leaf: it says which of two branches the log goes on from
# What registrars decide by their approvals.
DECIDED = frozenset({ADMISSION, REGISTRARS, SUSPENSION, REINSTATEMENT, RELEASE, RESOLUTION})

ENTRY_TAG = b"permesh/entry/1\x00"
MAX_CONTENT_BYTES = 2048
MAX_ENTRY_BYTES = MAX_CONTENT_BYTES + MAX_REGISTRARS * 112 + 64
MAX_REASON_CHARS = 200
MAX_RELEASE_CHARS = 32


@dataclass(frozen=True, slots=True)
class Approval:
    """A registrar's signature under an entry's digest."""

    registrar: bytes
    decided_ms: int
    signature: bytes = b""

    @classmethod
    def make(cls, mesh: bytes, entry: Entry, decided_ms: int, registrar: Wallet) -> Approval:
        unsigned = cls(registrar.address, decided_ms)
        return replace(unsigned, signature=registrar.sign(unsigned.message(mesh, entry)))

    def message(self, mesh: bytes, entry: Entry) -> TypedMessage:
        return TypedMessage(
            mesh,
            "Approval",
            (
                ("string", "kind", entry.kind),
                ("bytes32", "entry", entry.digest),
                ("uint64", "decidedMs", self.decided_ms),
                ("address", "registrar", self.registrar),
            ),
        )

    def fields(self) -> list[Any]:
        return [self.registrar, self.decided_ms, self.signature]

    @classmethod
    def of(cls, fields: Any) -> Approval:
        require(isinstance(fields, list) and len(fields) == 3, "approval")
        registrar, decided, signature = fields
        require(is_uint(decided), "approval's date")
        return cls(
            check_bytes(registrar, 20, "registrar"),
            decided,
            check_bytes(signature, 65, "registrar's signature"),
        )


@dataclass(frozen=True, slots=True)
class RegistrarChange:
    """Agents that become registrars and cease to be; one of them may be empty."""

    added: bytes
    removed: bytes
    proposed_ms: int  # so that the same change may be made again, and not by old approvals

    def encode(self) -> bytes:
        return pack([VERSION, self.added, self.removed, self.proposed_ms])

    @classmethod
    def decode(cls, data: bytes) -> RegistrarChange:
        fields = fields_of(data, 3, MAX_CONTENT_BYTES, "change of registrars")
        added, removed, proposed = fields
        require(is_uint(proposed), "change's date")
        for agent in (added, removed):
            require(isinstance(agent, bytes) and len(agent) in (0, 20), "registrar")
        require(added != removed, "change of registrars (nothing changes)")
        return cls(added, removed, proposed)


@dataclass(frozen=True, slots=True)
class Suspension:
    """An agent that is not served for now, and why; a reinstatement has the same form."""

    agent: bytes
    reason: str
    proposed_ms: int

    def encode(self) -> bytes:
        return pack([VERSION, self.agent, self.reason, self.proposed_ms])

    @classmethod
    def decode(cls, data: bytes) -> Suspension:
        agent, reason, proposed = fields_of(data, 3, MAX_CONTENT_BYTES, "suspension")
        require(is_uint(proposed), "suspension's date")
        said = _line(reason, MAX_REASON_CHARS, "reason")
        return cls(check_bytes(agent, 20, "agent"), said, proposed)


@dataclass(frozen=True, slots=True)
class Release:
    """A release of permesh that the mesh accepts, or no longer does."""

    version: str
    runtime_hash: bytes
    accepted: bool
    proposed_ms: int

    def encode(self) -> bytes:
        return pack([VERSION, self.version, self.runtime_hash, self.accepted, self.proposed_ms])

    @classmethod
    def decode(cls, data: bytes) -> Release:
        fields = fields_of(data, 4, MAX_CONTENT_BYTES, "release")
        version, runtime_hash, accepted, proposed = fields
        require(isinstance(accepted, bool) and is_uint(proposed), "release")
        return cls(
            _line(version, MAX_RELEASE_CHARS, "release's version"),
            check_bytes(runtime_hash, 32, "runtime hash"),
            accepted,
            proposed,
        )


@dataclass(frozen=True, slots=True)
class Resolution:
    """Of the ways on from one state of the log, the one that makes ``root`` is taken."""

    base_size: int
    base_root: bytes
    root: bytes

    def encode(self) -> bytes:
        return pack([VERSION, self.base_size, self.base_root, self.root])

    @classmethod
    def decode(cls, data: bytes) -> Resolution:
        base_size, base_root, root = fields_of(data, 3, MAX_CONTENT_BYTES, "resolution")
        require(is_uint(base_size), "resolution's size")
        return cls(
            base_size, check_bytes(base_root, 32, "base root"), check_bytes(root, 32, "root")
        )


Content = (
    Enrolment | RegistrarChange | Suspension | Release | OwnerStatement | Registrar | Resolution
)


@dataclass(frozen=True, slots=True)
class Entry:
    """One leaf of the log. ``approvals`` are sorted by registrar, each of them once."""

    kind: str
    data: bytes
    approvals: tuple[Approval, ...] = ()

    @classmethod
    def founder(cls, founder: Registrar) -> Entry:
        """What the genesis says of one registrar, as a leaf; the log begins with these."""
        return cls(FOUNDER, pack([founder.owner, founder.agent, founder.name, founder.person]))

    @classmethod
    def of(
        cls, content: Enrolment | RegistrarChange | Release | OwnerStatement | Resolution
    ) -> Entry:
        kinds = {
            Enrolment: ADMISSION,
            RegistrarChange: REGISTRARS,
            Release: RELEASE,
            OwnerStatement: OWNER,
            Resolution: RESOLUTION,
        }
        return cls(kinds[type(content)], content.encode())

    @classmethod
    def suspend(cls, agent: bytes, reason: str, proposed_ms: int) -> Entry:
        return cls(SUSPENSION, Suspension(agent, reason, proposed_ms).encode())

    @classmethod
    def reinstate(cls, agent: bytes, reason: str, proposed_ms: int) -> Entry:
        return cls(REINSTATEMENT, Suspension(agent, reason, proposed_ms).encode())

    @property
    def digest(self) -> bytes:
        """What an approval is of (32 bytes); the approvals are no part of it."""
        return hashlib.sha256(ENTRY_TAG + pack([self.kind, self.data])).digest()

    def approved_by(self, *approvals: Approval) -> Entry:
        ordered = tuple(sorted(approvals, key=lambda one: one.registrar))
        return replace(self, approvals=ordered)

    def encode(self) -> bytes:
        return pack([VERSION, self.kind, self.data, [one.fields() for one in self.approvals]])

    @classmethod
    def decode(cls, data: Any) -> Entry:
        require(isinstance(data, bytes), "entry")
        kind, content, approvals = fields_of(data, 3, MAX_ENTRY_BYTES, "entry")
        require(isinstance(kind, str) and kind in DECIDED | {FOUNDER, OWNER}, "entry's kind")
        require(isinstance(content, bytes) and len(content) <= MAX_CONTENT_BYTES, "entry")
        require(isinstance(approvals, list) and len(approvals) <= MAX_REGISTRARS, "approvals")
        named = tuple(Approval.of(one) for one in approvals)
        who = [one.registrar for one in named]
        require(who == sorted(set(who)), "order of the approvals")
        require((kind in DECIDED) == bool(named), "approvals of such an entry")
        return cls(kind, content, named)

    def content(self) -> Content:
        """Decoded; raises ``Refused``."""
        return _content(self.kind, self.data)

    @property
    def decided_ms(self) -> int:
        """When, by the middle one of its approvals: nobody alone dates it. 0 without any."""
        dates = [one.decided_ms for one in self.approvals]
        return median_high(dates) if dates else 0

    @property
    def subject(self) -> bytes:
        """The registrar whose own approval does not count; empty if there is none."""
        content = self.content()
        if isinstance(content, RegistrarChange):
            return content.removed
        return content.agent if isinstance(content, Suspension) else b""

    def verify(self, mesh: bytes) -> None:
        """Every signature in it, by the keys that it names; raises ``Refused``.

        Whether those keys may decide is not asked: it depends on what stands before in the log.
        """
        require(self.kind != FOUNDER, "entry (the genesis alone names founders)")
        content = self.content()
        if isinstance(content, Enrolment | OwnerStatement):
            content.verify(mesh)
        for approval in self.approvals:
            check_approval(mesh, self, approval)


@lru_cache(maxsize=256)  # each is asked for several times on its way into the log
def _content(kind: str, data: bytes) -> Content:
    match kind:
        case "admission":
            return Enrolment.decode(data)
        case "registrars":
            return RegistrarChange.decode(data)
        case "suspension" | "reinstatement":
            return Suspension.decode(data)
        case "release":
            return Release.decode(data)
        case "resolution":
            return Resolution.decode(data)
        case "owner":
            return OwnerStatement.decode(data)
        case _:
            fields = unpack(data, limit=MAX_CONTENT_BYTES)
            require(isinstance(fields, list) and len(fields) == 4, "founder")
            return Registrar(*fields)


def check_approval(mesh: bytes, entry: Entry, approval: Approval) -> None:
    """Raises ``Refused("approval.signature")``."""
    check_signed(
        approval.message(mesh, entry), approval.signature, approval.registrar,
        "approval.signature", "registrar",
    )  # fmt: skip


def _line(value: Any, limit: int, field: str) -> str:
    require(isinstance(value, str) and len(value) <= limit and value.isprintable(), field)
    return str(value)
