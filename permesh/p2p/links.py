"""A connection on its way from a stranger's to a member's, and which of two stays.

Owns that state. Must never close or open anything.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import trio

from .admission import Ended
from .guards_host import Connection

# Two connections made within this time of each other were dialled by both sides at once.
TOGETHER_S = 10.0


@dataclass(frozen=True, slots=True)
class PeerInfo:
    """An admitted peer. ``address`` is the multiaddr that it is connected from or at."""

    peer_id: str
    address: str
    connected_ms: int
    verified: object | None


@dataclass(eq=False, slots=True)
class Link:
    """``ended`` is the last admission that came to its end, ``settled`` that one did or failed,
    ``admitted_ms`` (Unix) when the first one let both in, ``life`` what runs until it is gone."""

    connection: Connection
    ended: Ended | None = None
    settled: trio.Event = field(default_factory=trio.Event)
    admitted_ms: int = 0
    life: trio.CancelScope = field(default_factory=trio.CancelScope)

    @property
    def peer_id(self) -> str:
        return self.connection.peer_id

    @property
    def admitted(self) -> bool:
        ended = self.ended
        return ended is not None and ended.ours.admitted and ended.theirs.admitted

    @property
    def expires_ms(self) -> int:
        """Until when our verdict holds; 0 for ever."""
        return self.ended.ours.expires_ms if self.ended is not None else 0

    def info(self) -> PeerInfo:
        connection = self.connection
        return PeerInfo(self.peer_id, connection.address, self.admitted_ms, connection.verified)

    def replaces(self, known: Link, our_peer_id: str) -> bool:
        """Whether this newer link takes the place of ``known``; both sides come to one answer.

        When both dialled at once, the connection dialled by the smaller peer id stays. Otherwise
        the peer would not have dialled if the older connection was still of use to it.
        """
        new, old = self.connection, known.connection
        if new.outbound == old.outbound or new.opened_at - old.opened_at > TOGETHER_S:
            return True
        return new.outbound == (our_peer_id < self.peer_id)
