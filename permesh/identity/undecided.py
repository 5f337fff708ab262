"""What registrars have approved and the log does not hold.

Owns the approvals that wait for others, or for their turn in the log, and their limit. As long as
that is not reached, what is ready does not depend on the order in which approvals came.
"""

from __future__ import annotations

from dataclasses import dataclass

from .entry import RESOLUTION, Approval, Entry
from .registry import APPROVALS_SPAN_MS, Registry

# In all. Beyond it the registrar goes first that fills it with what nobody else approves.
UNDECIDED = 1024
SPARE = 256  # so that they are looked through once in a while, and not for each


@dataclass(slots=True)
class _Waiting:
    entry: Entry  # without approvals
    approvals: dict[bytes, Approval]


class Undecided:
    def __init__(self) -> None:
        self._waiting: dict[bytes, _Waiting] = {}  # by the entry's digest

    def add(self, entry: Entry, registry: Registry) -> None:
        """Take in an entry with approvals whose signatures were checked."""
        if registry.holds(entry.digest):
            return
        plain = Entry(entry.kind, entry.data)
        known = self._waiting.setdefault(entry.digest, _Waiting(plain, {}))
        for one in entry.approvals:
            mine = known.approvals.get(one.registrar, one)
            known.approvals[one.registrar] = min(mine, one, key=_rank)
        if len(self._waiting) > UNDECIDED + SPARE:
            self._drop(len(self._waiting) - UNDECIDED)

    def forget_decided(self, registry: Registry) -> None:
        for digest in [one for one in self._waiting if registry.holds(one)]:
            del self._waiting[digest]

    def approvals(self, entry: Entry, registry: Registry) -> frozenset[bytes]:
        """The registrars that have approved it and may decide it now."""
        known = self._waiting.get(entry.digest)
        subject = entry.subject
        return frozenset(
            one
            for one in (known.approvals if known else ())
            if one != subject and registry.may_decide(one)
        )

    def entries(self) -> list[Entry]:
        """Oldest first."""
        return [self._waiting[digest].entry for digest in sorted(self._waiting, key=self._since)]

    def ready(self, registry: Registry) -> list[Entry]:
        """Those with enough approvals, oldest first; whether each fits the log is not asked."""
        found = []
        for entry in self.entries():
            if entry.kind == RESOLUTION:  # never a leaf
                continue
            given = self._waiting[entry.digest].approvals
            able = [given[who] for who in self.approvals(entry, registry)]
            chosen = _together(able)
            if len(chosen) >= registry.genesis.threshold:
                found.append(entry.approved_by(*chosen))
        return found

    # -- inside ------------------------------------------------------------------------------

    def _since(self, digest: bytes) -> tuple[int, bytes]:
        approvals = self._waiting[digest].approvals.values()
        return min(one.decided_ms for one in approvals), digest

    def _drop(self, number: int) -> None:
        """The newest of whoever approves most of what nobody else does, one after the other."""
        alone: dict[bytes, list[bytes]] = {}
        for digest in sorted(self._waiting, key=self._since):
            approvals = self._waiting[digest].approvals
            if len(approvals) == 1:
                alone.setdefault(next(iter(approvals)), []).append(digest)
        for _ in range(number):
            fills = max(alone, key=lambda who: (len(alone[who]), who), default=None)
            if fills is not None and alone[fills]:
                del self._waiting[alone[fills].pop()]
            else:
                del self._waiting[max(self._waiting, key=self._since)]


def _together(approvals: list[Approval]) -> list[Approval]:
    """As many as were given within the span in which approvals count together.

    One that lapsed, or is dated far ahead, must not keep the others from counting.
    """
    best: list[Approval] = []
    for first in sorted(approvals, key=_rank):
        end = first.decided_ms + APPROVALS_SPAN_MS
        group = [one for one in approvals if first.decided_ms <= one.decided_ms <= end]
        if len(group) >= len(best):  # of several, the newest
            best = group
    return best


def _rank(approval: Approval) -> tuple[int, bytes, bytes]:
    return approval.decided_ms, approval.registrar, approval.signature
