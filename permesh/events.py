"""What happened, told inside the daemon.

Owns the types of events and their way from who publishes to who listens. Must never know what
listeners do. Nothing that lasts is carried here: an event says what to look at again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import trio

from .records import Record

# A listener that is further behind than this has lost track anyway and takes a fresh snapshot.
QUEUE_LIMIT = 1024


@dataclass(frozen=True, slots=True)
class RecordsSaved:
    """These records are durable and were not here before; published once per record.

    ``own`` says that this member wrote them.
    """

    records: tuple[Record, ...]
    own: bool


@dataclass(frozen=True, slots=True)
class PeersChanged:
    """A member's connection came or went."""


@dataclass(frozen=True, slots=True)
class MembersChanged:
    """The roster learned something about these agents (20-byte addresses)."""

    agents: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class SpansChanged:
    """Which layers are served, here or elsewhere, has changed."""


@dataclass(frozen=True, slots=True)
class StatusChanged:
    """Something that `permesh status` shows has changed."""


@dataclass(frozen=True, slots=True)
class Lagged:
    """The listener was too slow and ``dropped`` events are lost to it; look at all again."""

    dropped: int


Event = RecordsSaved | PeersChanged | MembersChanged | SpansChanged | StatusChanged | Lagged


class Subscription:
    """One listener's bounded queue; iterate it from one task."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._queue: deque[Event] = deque()
        self._arrived = trio.Event()

    def _put(self, event: Event) -> None:
        if len(self._queue) >= self._limit:
            dropped = sum(item.dropped if isinstance(item, Lagged) else 1 for item in self._queue)
            self._queue.clear()
            self._queue.append(Lagged(dropped))
        self._queue.append(event)
        self._arrived.set()

    def __aiter__(self) -> Subscription:
        return self

    async def __anext__(self) -> Event:
        await trio.lowlevel.checkpoint()
        while not self._queue:
            self._arrived = trio.Event()
            await self._arrived.wait()
        return self._queue.popleft()


class EventBus:
    """From any publisher to every subscriber, in order, in the trio thread."""

    def __init__(self) -> None:
        self._subscriptions: set[Subscription] = set()

    def publish(self, event: Event) -> None:
        """Never blocks and never raises: a full queue costs its own listener only."""
        for subscription in self._subscriptions:
            subscription._put(event)

    @asynccontextmanager
    async def subscribe(self, *, limit: int = QUEUE_LIMIT) -> AsyncIterator[Subscription]:
        """Events published from now on; after an overflow one ``Lagged``, then newer ones."""
        subscription = Subscription(max(limit, 2))
        self._subscriptions.add(subscription)
        try:
            yield subscription
        finally:
            self._subscriptions.discard(subscription)
