"""What peers did wrong, and who is shut out for it.

Owns the counting. Plain state with the clock (monotonic seconds) passed in; must never know what
a code stands for.
"""

from __future__ import annotations

from collections import Counter
from typing import TypeVar

# At this score a peer is shut out …
LIMIT = 100
SHUT_OUT_S = 60.0
# … unless it has been good meanwhile: so much is forgiven each second.
FORGIVEN_PER_S = 0.5
# Peers remembered; those whose last fault is oldest are forgotten first.
MAX_PEERS = 1024
# Different codes remembered of one peer.
MAX_CODES = 32

V = TypeVar("V")


class Faults:
    """``counts`` is how often each code was seen, whoever it was."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._seen: dict[str, Counter[str]] = {}
        self._scores: dict[str, tuple[float, float]] = {}  # peer: score, when
        self._shut_out: dict[str, float] = {}  # peer: until when

    def add(self, peer_id: str, code: str, severity: int, now: float) -> bool:
        """Count a fault of ``severity`` (1: trifle, 100: attack); True when that was too much."""
        self.counts[code] += 1
        seen = self._seen.get(peer_id, Counter())
        if code in seen or len(seen) < MAX_CODES:
            seen[code] += 1
        _put(self._seen, peer_id, seen)
        score = self.score(peer_id, now) + severity
        if score >= LIMIT:
            self._scores.pop(peer_id, None)
            _put(self._shut_out, peer_id, now + SHUT_OUT_S)
            return True
        _put(self._scores, peer_id, (score, now))
        return False

    def of(self, peer_id: str) -> Counter[str]:
        """That peer's faults by code, since it was last forgotten."""
        return Counter(self._seen.get(peer_id, ()))

    def score(self, peer_id: str, now: float) -> float:
        """How much of `LIMIT` is held against the peer."""
        score, when = self._scores.get(peer_id, (0.0, now))
        return max(score - (now - when) * FORGIVEN_PER_S, 0.0)

    def all_shut_out(self, now: float) -> dict[str, float]:
        """Who is shut out, and for how many seconds more."""
        return {peer_id: until - now for peer_id, until in self._shut_out.items() if until > now}

    def shut_out(self, peer_id: str, now: float) -> bool:
        until = self._shut_out.get(peer_id)
        if until is not None and until <= now:
            del self._shut_out[peer_id]
        return peer_id in self._shut_out


def _put(table: dict[str, V], key: str, value: V) -> None:
    table.pop(key, None)
    table[key] = value
    if len(table) > MAX_PEERS:
        del table[next(iter(table))]
