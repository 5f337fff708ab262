"""Whom to dial, where and when: a daemon is never done with looking for its mesh.

Owns the addresses of bootstraps and of members seen, and the time of each next attempt. Plain
state with the clock (monotonic seconds) and the randomness passed in; must never open anything.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

FIRST_S = 1.0
LONGEST_S = 60.0
# A newcomer that waits to be let in asks again this often, so that it learns of its admission.
PENDING_S = 5.0
# Members seen beyond this many push out those that were away for longest; bootstraps stay.
MAX_TARGETS = 512
MAX_ADDRESSES = 12


@dataclass(slots=True)
class Target:
    """``addresses`` are multiaddrs without ``/p2p``; ``failures`` are those in a row."""

    peer_id: str
    addresses: tuple[str, ...]
    bootstrap: bool
    failures: int = 0
    next_at: float = 0.0
    busy: bool = False  # connected, or being dialled
    seen_at: float = 0.0


class Redial:
    """Every target that is not busy comes up again and again, at growing intervals, for ever."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._targets: dict[str, Target] = {}

    def add(
        self, peer_id: str, addresses: tuple[str, ...], now: float, *, bootstrap: bool = False
    ) -> None:
        """Learn where a peer may be; newer addresses come first."""
        known = self._targets.get(peer_id)
        if known is None:
            self._make_room()
            known = self._targets[peer_id] = Target(peer_id, (), bootstrap, next_at=now)
        known.bootstrap = known.bootstrap or bootstrap
        known.seen_at = now
        merged = dict.fromkeys((*addresses, *known.addresses))
        known.addresses = tuple(merged)[:MAX_ADDRESSES]

    def _make_room(self) -> None:
        if len(self._targets) < MAX_TARGETS:
            return
        idle = [target for target in self._targets.values() if not target.bootstrap]
        if idle:
            oldest = min(idle, key=lambda target: (target.busy, target.seen_at))
            del self._targets[oldest.peer_id]

    def due(self, now: float) -> list[Target]:
        """The targets to dial now; each is busy until `connected` or `failed`."""
        found = [
            target
            for target in self._targets.values()
            if not target.busy and target.addresses and target.next_at <= now
        ]
        for target in found:
            target.busy = True
        return found

    def next_at(self) -> float:
        """When `due` will have something, unless something happens before."""
        waiting = [
            target.next_at
            for target in self._targets.values()
            if not target.busy and target.addresses
        ]
        return min(waiting, default=float("inf"))

    def connected(self, peer_id: str, now: float) -> None:
        """It is a member, and here."""
        target = self._targets.get(peer_id)
        if target is not None:
            target.busy, target.failures, target.seen_at = True, 0, now

    def failed(self, peer_id: str, now: float, *, pending: bool = False) -> None:
        """The attempt came to nothing (``pending``: we are not let in yet), or the peer is gone."""
        target = self._targets.get(peer_id)
        if target is not None:
            wait = PENDING_S if pending else min(FIRST_S * 2.0**target.failures, LONGEST_S)
            target.busy = False
            target.failures = 0 if pending else min(target.failures + 1, 16)
            # Half of the interval is random: members that lost each other together would
            # otherwise also dial each other together.
            target.next_at = now + wait * self._rng.uniform(0.5, 1.0)
