"""Messages between the network that brings them and the callback that takes them.

Owns a bounded queue and its loss. Must never know what a message holds.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import trio

# Messages of the topic that wait; the oldest make room.
MAX_WAITING = 1024


class Inbox:
    """``put`` never blocks; `run` hands over one message at a time, the others' turn between."""

    def __init__(self, take: Callable[[str, bytes], None]) -> None:
        self.dropped = 0
        self._take = take
        self._waiting: deque[tuple[str, bytes]] = deque()
        self._came = trio.Event()

    def put(self, peer_id: str, data: bytes) -> None:
        if len(self._waiting) >= MAX_WAITING:
            self._waiting.popleft()
            self.dropped += 1
        self._waiting.append((peer_id, data))
        self._came.set()

    async def run(self) -> None:
        while True:
            await self._came.wait()
            self._came = trio.Event()
            while self._waiting:
                self._take(*self._waiting.popleft())
                await trio.lowlevel.checkpoint()
