"""What shows that somebody is in the log, to one who holds nothing but the genesis.

Owns the proof: the entries about one agent, and every entry that changed who decides, each with its
path to a checkpoint that those who decided then have cosigned. What a proof cannot show is what
came later: a revocation is only known to who follows the log.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from typing import Any

from permesh.errors import Refused
from permesh.records import pack

from .checkpoint import Certificate
from .entry import Entry
from .genesis import VERSION, Genesis, fields_of, require
from .log import AdmissionLog
from .merkle import Path
from .registry import Registry, Seat

# Three dozen changes of registrars with all that shows them; a young mesh needs one kilobyte.
MAX_PROOF_BYTES = 64 * 1024
MAX_SECTIONS = 128
MAX_SECTION_ENTRIES = 64


@dataclass(frozen=True, slots=True)
class Section:
    """Entries with their paths to one checkpoint, in the order of their numbers."""

    certificate: Certificate
    entries: tuple[tuple[Path, Entry], ...]

    def fields(self) -> list[Any]:
        shown = [[path.fields(), entry.encode()] for path, entry in self.entries]
        return [self.certificate.fields(), shown]

    @classmethod
    def of(cls, fields: Any) -> Section:
        require(isinstance(fields, list) and len(fields) == 2, "section")
        certificate, shown = fields
        require(isinstance(shown, list) and len(shown) <= MAX_SECTION_ENTRIES, "section's entries")
        entries = []
        for one in shown:
            require(isinstance(one, list) and len(one) == 2, "section's entry")
            entries.append((Path.of(one[0]), Entry.decode(one[1])))
        return cls(Certificate.of(certificate), tuple(entries))


@dataclass(frozen=True, slots=True)
class LogProof:
    """Empty for a founder about whom nothing changed."""

    sections: tuple[Section, ...]

    @classmethod
    def make(cls, log: AdmissionLog, agent: bytes) -> LogProof:
        """Raises ``Refused("log.unknown")`` for one that is not in the log."""
        seat = log.registry.seat(agent)
        if seat is None:
            raise Refused("log.unknown", "The log does not hold this agent.", "Ask to be let in.")
        return cls._of(log, {seat.number, *seat.changes}, log.size)

    @classmethod
    def of_registrars(cls, log: AdmissionLog, size: int) -> LogProof:
        """Of who decided when the log had ``size`` entries."""
        return cls._of(log, set(), size)

    @classmethod
    def _of(cls, log: AdmissionLog, about: set[int], upto: int) -> LogProof:
        founders = len(log.genesis.registrars)
        authority = {number for number in log.registry.authority if founders < number <= upto}
        numbers = sorted(authority | {number for number in about if number > founders})
        steps = [one for one in log.steps() if one.certificate.checkpoint.size <= upto]
        # Who decided changes at these steps, so what they say must be shown under their own
        # checkpoints; all else stands under the last of all.
        sizes = [one.certificate.checkpoint.size for one in steps]
        turning = {bisect_left(sizes, number) for number in authority}
        bounds = sorted({*turning, len(steps) - 1}) if numbers else []
        sections, shown = [], 0
        for bound in bounds:
            certificate = steps[bound].certificate
            size = certificate.checkpoint.size
            here = [number for number in numbers if shown < number <= size]
            shown = size
            sections.append(
                Section(
                    certificate,
                    tuple((log.path(number, size), log.entry(number)) for number in here),
                )
            )
        return cls(tuple(sections))

    def encode(self) -> bytes:
        return pack([VERSION, [one.fields() for one in self.sections]])

    @classmethod
    def decode(cls, data: Any) -> LogProof:
        require(isinstance(data, bytes), "log proof")
        (sections,) = fields_of(data, 1, MAX_PROOF_BYTES, "log proof")
        require(isinstance(sections, list) and len(sections) <= MAX_SECTIONS, "log proof")
        return cls(tuple(map(Section.of, sections)))

    def registry(self, genesis: Genesis) -> Registry:
        """What the log says of those whom the proof is about; raises ``Refused``.

        Everything shown is checked: signatures, approvals, paths and cosignatures.
        """
        registry, mesh, last = Registry(genesis), genesis.mesh_id, 0
        for section in self.sections:
            checkpoint = section.certificate.checkpoint
            section.certificate.verify(mesh, registry.witnesses, registry.quorum)
            for path, entry in section.entries:
                if path.index <= last:
                    raise Refused(
                        "log.order",
                        "The entries are not in the order in which they stand in the log.",
                        "Ask for the proof again.",
                    )
                path.verify(entry.encode(), checkpoint.root, checkpoint.size)
                entry.verify(mesh)
                registry.extend([entry], path.index)
                last = path.index
        return registry

    def seat(self, genesis: Genesis, agent: bytes) -> Seat | None:
        """The seat of ``agent``; None if the proof does not show one. Raises ``Refused``."""
        return self.registry(genesis).seat(agent)
