"""The exchange of records that one side wants, the same in either direction.

Owns what was asked for and what is still to be sent. Must never know why it is wanted.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from permesh.p2p import limits
from permesh.p2p.sync_messages import Records, Want, encode
from permesh.records import record_id

from .actions import Action, ReadWires, Send


@dataclass(slots=True)
class Fetch:
    """What was asked for and is not yet here: the receiving half of an exchange of records."""

    queue: deque[bytes] = field(default_factory=deque)
    open: set[bytes] = field(default_factory=set)
    left: int = 0
    withheld: int = 0

    def next_want(self) -> Want:
        count = min(len(self.queue), limits.WANT_IDS)
        now = tuple(self.queue.popleft() for _ in range(count))
        self.open, self.left = set(now), len(now)
        return Want(now)

    def take(self, message: Records) -> str:
        """A code if something is wrong with the message."""
        for wire in message.wires:
            header = wire[0] if isinstance(wire, list) and wire else None
            identity = record_id(header) if isinstance(header, bytes) else b""
            if identity not in self.open:
                return "sync.unasked"
            self.open.discard(identity)
        if message.left >= self.left:
            return "sync.no_progress"
        self.left = message.left
        if not message.left:
            self.withheld += len(self.open)
        return ""


@dataclass(slots=True)
class Give:
    """What the peer wants: the sending half."""

    wants: tuple[bytes, ...] = ()

    def read(self, ids: tuple[bytes, ...]) -> list[Action]:
        self.wants = ids
        return [ReadWires(ids, limits.BATCH_BYTES)]

    def send(self, wires: Sequence[Any], done: int) -> list[Action]:
        self.wants = self.wants[done:]
        sent: list[Action] = [Send(encode(Records(tuple(wires), len(self.wants))))]
        return [*sent, ReadWires(self.wants, limits.BATCH_BYTES)] if self.wants else sent
