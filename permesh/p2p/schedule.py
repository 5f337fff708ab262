"""When to pull from whom.

Owns the timing of pulls: at once on connecting, soon on a hint, and on a timer; less often from
peers that break rules or whose hints lead nowhere. Pure: time and randomness are passed in.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from random import Random

from . import limits

PERIOD_MS = 30_000
# With more peers than this each is asked less often, so that a member's pulls stay as many.
PEERS_PER_PERIOD = 8
JITTER = 0.25
# Gossip delivers out of order within a moment: what a hint misses may just be on its way.
HINT_DELAY_MS = 300
# Between two pulls from one peer that were asked for by hints; doubles while they yield nothing.
HINT_GAP_MS = 1_000
HINT_GAP_MAX_MS = 30_000
FAILED_MS = 2_000
STRIKE_MAX_MS = 600_000


class Outcome(Enum):
    EQUAL = "equal"  # nothing was lacking
    GAINED = "gained"
    AGAIN = "again"  # left something for another pull
    FAILED = "failed"  # broke off: the connection, the deadline, our own disk
    FAULT = "fault"  # the peer broke the rules


@dataclass(slots=True)
class _Peer:
    due_ms: int
    gap_ms: int
    not_before_ms: int = 0
    strikes: int = 0
    running: bool = False
    hinted: bool = False  # since the last pull began
    on_hint: bool = False  # why the pull that runs was begun
    settled: bool = False  # has been pulled from on the timer


class PullSchedule:
    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._peers: dict[str, _Peer] = {}

    def connected(self, peer_id: str, now_ms: int) -> None:
        if peer_id not in self._peers and len(self._peers) < limits.PEERS:
            self._peers[peer_id] = _Peer(now_ms, HINT_GAP_MS)

    @property
    def has_peers(self) -> bool:
        return bool(self._peers)

    def gone(self, peer_id: str) -> None:
        self._peers.pop(peer_id, None)

    def hint(self, peer_id: str, now_ms: int) -> None:
        """Something is lacking that ``peer_id`` told of; if it is not connected, ask another."""
        peer = self._peers.get(peer_id)
        if peer is None:
            if not self._peers:
                return
            peer = self._peers[self._rng.choice(list(self._peers))]
        peer.hinted = True
        if not peer.running:
            peer.due_ms = min(peer.due_ms, max(now_ms + HINT_DELAY_MS, peer.not_before_ms))

    def all_due(self, now_ms: int) -> None:
        """More is wanted than before: ask everyone, as soon as each may be asked."""
        for peer in self._peers.values():
            peer.hinted = True
            if not peer.running:
                peer.due_ms = min(peer.due_ms, max(now_ms, peer.not_before_ms))

    def due(self, now_ms: int) -> list[str]:
        """Whom to pull from now; each must be reported by `finished`."""
        free = limits.PULLS - sum(peer.running for peer in self._peers.values())
        waiting = [
            (peer.due_ms, peer_id)
            for peer_id, peer in self._peers.items()
            if not peer.running and peer.due_ms <= now_ms
        ]
        chosen = [peer_id for _, peer_id in sorted(waiting)[: max(0, free)]]
        for peer_id in chosen:
            peer = self._peers[peer_id]
            peer.running, peer.on_hint, peer.hinted = True, peer.hinted, False
        return chosen

    def due_in(self, now_ms: int) -> int | None:
        """Milliseconds until `due` names someone; None: not before something else happens."""
        if sum(peer.running for peer in self._peers.values()) >= limits.PULLS:
            return None
        waiting = [peer.due_ms for peer in self._peers.values() if not peer.running]
        return max(0, min(waiting) - now_ms) if waiting else None

    def finished(self, peer_id: str, outcome: Outcome, now_ms: int) -> None:
        peer = self._peers.get(peer_id)
        if peer is None or not peer.running:
            return  # it went, and may have come back, while the pull ran
        peer.running = False
        if outcome in (Outcome.FAILED, Outcome.FAULT):
            first = FAILED_MS if outcome is Outcome.FAILED else PERIOD_MS
            wait = self._jittered(min(first << min(peer.strikes, 16), STRIKE_MAX_MS))
            peer.strikes += 1
            peer.due_ms = peer.not_before_ms = now_ms + wait
            return
        peer.strikes = 0
        if outcome is not Outcome.EQUAL:
            peer.gap_ms = HINT_GAP_MS
        elif peer.on_hint:
            peer.gap_ms = min(peer.gap_ms * 2, HINT_GAP_MAX_MS)
        peer.not_before_ms = now_ms + peer.gap_ms
        crowd = max(1.0, len(self._peers) / PEERS_PER_PERIOD)
        if peer.settled:
            peer.due_ms = now_ms + self._jittered(int(PERIOD_MS * crowd))
        else:  # those that connected together are not to fall due together
            peer.settled = True
            wait = int(PERIOD_MS * crowd * self._rng.random())
            peer.due_ms = max(peer.not_before_ms, now_ms + wait)
        if peer.hinted or outcome is Outcome.AGAIN:
            peer.due_ms = peer.not_before_ms

    def _jittered(self, wait_ms: int) -> int:
        return int(wait_ms * self._rng.uniform(1 - JITTER, 1 + JITTER))
