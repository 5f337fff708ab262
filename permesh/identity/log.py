"""The admission log: entries, each batch of them agreed by a quorum of witnesses.

Owns the chain of certified batches, folded from batches and votes whatever the order in which they
come, and the tree over its entries. The registrars in force are the log's witnesses. Two
certificates for what comes after one state are a `Contradiction`: the log then stands still, on
the branch with the smaller root, until registrars resolve it (those who signed both have no say,
unless all did). Must never know how anything is proposed (`ballot.py`), nor who is served.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from permesh.errors import Refused
from permesh.records import MAX_BODY_BYTES, pack

from .checkpoint import MAX_CERTIFICATE_BYTES, Certificate, Checkpoint, Contradiction, Vote
from .entry import Approval, Entry, Resolution
from .genesis import MAX_REGISTRARS, VERSION, Genesis, check_bytes, fields_of, require
from .merkle import Path, Tree
from .registry import Registry

# With everything else that stands in its record.
MAX_BATCH_BYTES = MAX_BODY_BYTES - MAX_CERTIFICATE_BYTES - MAX_REGISTRARS * 34
# Each has four signatures or so to check, half a millisecond each, in one go.
MAX_BATCH_ENTRIES = 16
# One witness signs once in an attempt, and attempts are rare; a hostile one is not kept for ever.
# Which of its batches are kept then depends on what came first, so `wanted` names one that is
# lacking, to be offered again.
VOTES_PER_WITNESS = 4096
BATCHES_PER_AUTHOR = 8


@dataclass(frozen=True, slots=True)
class Batch:
    """Entries to append, with the vote of the witness that proposes them.

    ``promises`` are the ids of the records that allow an attempt after the first.
    """

    vote: Vote
    entries: tuple[Entry, ...]
    promises: tuple[bytes, ...] = ()

    @property
    def checkpoint(self) -> Checkpoint:
        return self.vote.checkpoint

    def encode(self) -> bytes:
        entries = [one.encode() for one in self.entries]
        return pack([VERSION, self.vote.encode(), entries, list(self.promises)])

    @classmethod
    def decode(cls, data: bytes) -> Batch:
        vote, entries, promises = fields_of(data, 3, MAX_BODY_BYTES, "batch")
        require(isinstance(entries, list) and len(entries) <= MAX_BATCH_ENTRIES, "batch")
        require(isinstance(promises, list) and len(promises) <= MAX_REGISTRARS, "promises")
        for one in promises:
            check_bytes(one, 32, "promise")
        batch = cls(Vote.decode(vote), tuple(map(Entry.decode, entries)), tuple(promises))
        grown = batch.checkpoint.size - batch.checkpoint.base_size
        require(len(batch.entries) == grown, "batch: its checkpoint")
        return batch

    def verify(self, mesh: bytes) -> None:
        """Every signature in it; raises ``Refused``."""
        self.vote.verify(mesh)
        for entry in self.entries:
            entry.verify(mesh)


@dataclass(frozen=True, slots=True)
class Step:
    """One certified batch, and who decided when it was made."""

    certificate: Certificate
    witnesses: tuple[bytes, ...]
    quorum: int


class AdmissionLog:
    """``size`` leaves under ``root``; ``registry`` is what they say."""

    def __init__(self, genesis: Genesis) -> None:
        self.genesis = genesis
        self.mesh_id = genesis.mesh_id
        self.registry = Registry(genesis)
        self.contradiction: Contradiction | None = None
        self._tree = Tree()
        self._entries: list[bytes] = []
        for founder in genesis.registrars:
            self._append(Entry.founder(founder))
        self._steps: dict[int, Step] = {}  # by base size
        # By base size; checkpoints of one base may have different roots before it.
        self._votes: dict[int, dict[Checkpoint, dict[bytes, bytes]]] = {}
        self._batches: dict[int, list[tuple[bytes, Batch]]] = {}
        self._late: set[int] = set()  # states left behind, for which votes came afterwards
        self._undone: list[Entry] = []
        self._resolutions: dict[Resolution, dict[bytes, Approval]] = {}

    # -- what it is --------------------------------------------------------------------------

    @property
    def size(self) -> int:
        return len(self._entries)

    @property
    def root(self) -> bytes:
        return self._tree.root()

    def entry(self, number: int) -> Entry:
        return Entry.decode(self._entries[number - 1])

    def entries(self) -> Iterable[tuple[int, Entry]]:
        """With their numbers; a founder's entry has one and no approvals."""
        for number, data in enumerate(self._entries, 1):
            yield number, Entry.decode(data)

    def steps(self) -> list[Step]:
        """Oldest first."""
        return list(self._steps.values())

    def path(self, number: int, size: int) -> Path:
        return self._tree.path(number, size)

    def owner_of(self, attempt: int) -> bytes:
        """The witness whose turn it is to propose in a round after the present state."""
        registrars = self.registry.registrars
        return registrars[attempt % len(registrars)]

    def candidates(self) -> list[tuple[bytes, Batch]]:
        """Batches proposed for what comes after the present state, with their authors."""
        here = (self.size, self.root)
        return [
            (author, batch)
            for author, batch in self._batches.get(self.size, [])
            if (batch.checkpoint.base_size, batch.checkpoint.base_root) == here
        ]

    def votes(self) -> dict[Checkpoint, dict[bytes, bytes]]:
        """For what comes after the present state: checkpoint → witness → signature."""
        root = self.root
        return {
            checkpoint: signatures
            for checkpoint, signatures in self._votes.get(self.size, {}).items()
            if checkpoint.base_root == root
        }

    def double_votes(self, witness: bytes) -> list[tuple[Checkpoint, Checkpoint]]:
        """Pairs that the witness signed in one round: a fault, whatever came of it."""
        found = []
        for checkpoints in self._votes.values():
            signed: dict[tuple[bytes, int], Checkpoint] = {}
            for checkpoint, signatures in checkpoints.items():
                if witness in signatures:
                    place = (checkpoint.base_root, checkpoint.round)
                    other = signed.setdefault(place, checkpoint)
                    if other != checkpoint:
                        found.append((other, checkpoint))
        return found

    def agrees_with(self, checkpoint: Checkpoint) -> bool:
        """False if the log as it is here shows that the checkpoint is none of its own."""
        if checkpoint.mesh != self.mesh_id:
            return True  # another one's: whoever checks it says so
        known = [
            (checkpoint.base_size, checkpoint.base_root),
            (checkpoint.size, checkpoint.root),
        ]
        return all(self._tree.root(size) == root for size, root in known if size <= self.size)

    # -- proposing ---------------------------------------------------------------------------

    def plan(self, entries: Iterable[Entry]) -> list[Entry]:
        """Those of ``entries`` that fit, in their order, as many as one batch takes."""
        chosen: list[Entry] = []
        room = MAX_BATCH_BYTES
        for entry in entries:
            size = len(entry.encode()) + 8
            if size > room or len(chosen) == MAX_BATCH_ENTRIES:
                break
            try:
                self.registry.try_out([*chosen, entry], self.size + 1)
            except Refused:
                continue
            chosen.append(entry)
            room -= size
        return chosen

    def checkpoint(self, entries: Iterable[Entry], attempt: int) -> Checkpoint:
        """What the log would be with ``entries``; raises ``Refused`` if they do not fit."""
        listed = list(entries)
        self.registry.try_out(listed, self.size + 1)
        tree = self._tree.copy()
        for entry in listed:
            tree.append(entry.encode())
        return Checkpoint(self.mesh_id, self.size, self.root, tree.size, tree.root(), attempt)

    @property
    def wanted(self) -> Checkpoint | None:
        """What is certified to come next while no batch here makes it."""
        if self._stands_still:
            return None
        certified = self._certified(self.size, self.root)
        return certified[0].checkpoint if certified else None

    # -- the fold ----------------------------------------------------------------------------

    def add_vote(self, vote: Vote) -> None:
        """Take in a vote whose signature was checked; call `advance` afterwards."""
        checkpoint = vote.checkpoint
        known = self._votes.setdefault(checkpoint.base_size, {})
        if sum(vote.witness in signatures for signatures in known.values()) < VOTES_PER_WITNESS:
            known.setdefault(checkpoint, {}).setdefault(vote.witness, vote.signature)
            if checkpoint.base_size < self.size:
                self._late.add(checkpoint.base_size)

    def add_resolution(self, resolution: Resolution, approvals: Iterable[Approval]) -> None:
        """Take in approvals whose signatures were checked; call `advance` afterwards."""
        known = self._resolutions.setdefault(resolution, {})
        for approval in approvals:
            known.setdefault(approval.registrar, approval)
        self._late.add(resolution.base_size)

    def add_batch(self, author: bytes, batch: Batch) -> None:
        """Take in a batch whose signatures were checked; call `advance` afterwards."""
        base = batch.checkpoint.base_size
        known = self._batches.setdefault(base, [])
        mine = [one for who, one in known if who == author]
        if batch not in mine and (
            len(mine) < BATCHES_PER_AUTHOR or batch.checkpoint == self.wanted
        ):
            known.append((author, batch))
        self.add_vote(batch.vote)

    def advance(self) -> list[bytes]:
        """Append what is certified by now; returns the agents whose standing it changed."""
        changed: list[bytes] = []
        disputed = self._disputed()
        if disputed is not None:
            changed += self._go_back(disputed)
        while not self._stands_still:
            certified = self._certified(self.size, self.root)
            if not certified:
                break
            chosen = certified[0]
            self.contradiction = None
            if len(certified) > 1:
                contradiction = Contradiction(*certified[:2])
                resolved = self._resolved(contradiction)
                if resolved is None:
                    self.contradiction = contradiction
                else:
                    chosen = resolved
            step = self._take(chosen)
            if step is None:  # certified, but the batch is not here yet
                break
            changed += step
        return changed

    def take_undone(self) -> list[Entry]:
        """Entries that stood in the log and do so no more, each told once."""
        undone, self._undone = self._undone, []
        return [one for one in undone if not self.registry.holds(one.digest)]

    @property
    def _stands_still(self) -> bool:
        """On the branch taken for the time being."""
        found = self.contradiction
        return found is not None and found.one.checkpoint.base_size < self.size

    def _resolved(self, contradiction: Contradiction) -> Certificate | None:
        """The way on that enough registrars chose, if they did."""
        base = contradiction.one.checkpoint
        witnesses = set(self.registry.witnesses)
        voters = (witnesses - set(contradiction.both)) or witnesses
        needed = min(self.genesis.threshold, len(voters))
        for certificate in (contradiction.one, contradiction.other):
            wanted = Resolution(base.base_size, base.base_root, certificate.checkpoint.root)
            if len(voters & set(self._resolutions.get(wanted, {}))) >= needed:
                return certificate
        return None

    def _certified(self, size: int, root: bytes) -> list[Certificate]:
        """One certificate for each way on that a quorum signed, the smaller root first."""
        step = self._steps.get(size)
        witnesses = step.witnesses if step else self.registry.witnesses
        quorum = step.quorum if step else self.registry.quorum
        found: dict[tuple[int, bytes], Certificate] = {}
        for checkpoint, signatures in self._votes.get(size, {}).items():
            counted = sorted((w, s) for w, s in signatures.items() if w in witnesses)
            if checkpoint.base_root == root and len(counted) >= quorum:
                way = (checkpoint.size, checkpoint.root)
                certificate = Certificate(checkpoint, tuple(counted))
                known = found.get(way)
                if known is None or checkpoint.round < known.checkpoint.round:
                    found[way] = certificate
        return [found[way] for way in sorted(found, key=lambda one: one[1])]

    def _take(self, certificate: Certificate) -> list[bytes] | None:
        """Append the batch that is certified; None if none here makes that root."""
        checkpoint = certificate.checkpoint
        witnesses, quorum = self.registry.witnesses, self.registry.quorum
        for _, batch in self.candidates():
            if batch.checkpoint.size != checkpoint.size:
                continue
            for entry in batch.entries:
                self._append(entry)
            if self.root == checkpoint.root:
                try:
                    self.registry.extend(batch.entries, checkpoint.base_size + 1)
                except Refused:  # a quorum signed what breaks the rule: nobody goes along
                    self._cut(checkpoint.base_size)
                    return None
                enough = Certificate(checkpoint, certificate.signatures[:quorum])
                self._steps[checkpoint.base_size] = Step(enough, witnesses, quorum)
                self._batches[checkpoint.base_size] = [
                    one for one in self._batches[checkpoint.base_size] if one[1] is not batch
                ]
                return [agent for entry in batch.entries for agent in agents_of(entry)]
            self._cut(checkpoint.base_size)
        return None

    def _append(self, entry: Entry) -> None:
        data = entry.encode()
        self._entries.append(data)
        self._tree.append(data)

    def _cut(self, size: int) -> None:
        del self._entries[size:]
        self._tree.cut(size)

    # -- contradictions ----------------------------------------------------------------------

    def _disputed(self) -> int | None:
        """The first state left behind from which the way on may be another one by now."""
        late, self._late = self._late, set()
        for base in sorted(late):
            step = self._steps.get(base)
            if step is not None:
                root = step.certificate.checkpoint.base_root
                if len(self._certified(base, root)) > 1:
                    return base
        return None

    def _go_back(self, base: int) -> list[bytes]:
        """Undo everything after ``base``: which branch is taken must not depend on what came first.

        Returns the agents that the undone entries were about.
        """
        gone = [Entry.decode(data) for data in self._entries[base:]]
        self._undone += gone
        for first, step in list(self._steps.items()):
            if first >= base:
                size = step.certificate.checkpoint.size
                entries = tuple(map(Entry.decode, self._entries[first:size]))
                checkpoint = step.certificate.checkpoint
                witness, signature = step.certificate.signatures[0]
                batch = Batch(Vote(checkpoint, witness, signature), entries)
                self._batches.setdefault(first, []).append((witness, batch))
                del self._steps[first]
        self._cut(base)
        self.contradiction = None
        self.registry = Registry(self.genesis)
        founders = len(self.genesis.registrars)
        self.registry.extend(map(Entry.decode, self._entries[founders:]), founders + 1)
        return [agent for entry in gone for agent in agents_of(entry)]


def agents_of(entry: Entry) -> list[bytes]:
    """The agents whom an entry is about."""
    content: Any = entry.content()
    named = [getattr(content, name, b"") for name in ("agent", "new_agent", "added", "removed")]
    return [one for one in named if one and any(one)]
