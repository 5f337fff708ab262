"""Where inbound lanes meet the sessions that expect them.

Owns the matching by session id and peer. Must never read a lane.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass

import trio

from permesh.errors import Refused
from permesh.p2p.lanes import Lane

# A lane may come before the control message that announces its session: each stage opens its own.
WAIT_S = 6.0
MAX_WAITING = 64

Serve = Callable[[Lane], Awaitable[None]]


@dataclass(slots=True)
class _Door:
    peer_id: str
    serve: Serve
    taken: bool = False


class Doors:
    """`expect` on one side, `enter` on the other."""

    def __init__(self) -> None:
        self._doors: dict[bytes, _Door] = {}
        self._waiting: dict[bytes, trio.Event] = {}

    @contextlib.contextmanager
    def expect(self, session: bytes, peer_id: str, serve: Serve) -> Iterator[None]:
        """Within this, the first lane of ``peer_id`` for ``session`` is given to ``serve``.

        Raises ``Refused`` when something else expects a lane under that id.
        """
        if session in self._doors:
            raise Refused("session.taken", "A session of that id is open.")
        self._doors[session] = _Door(peer_id, serve)
        waiting = self._waiting.pop(session, None)
        if waiting is not None:
            waiting.set()
        try:
            yield
        finally:
            del self._doors[session]

    async def enter(self, lane: Lane, peer_id: str, session: bytes) -> None:
        """Bring a lane in; returns when it is done with. A lane that nobody expects is left,
        since its session may just have ended; one of the wrong peer is ``Refused``."""
        if session not in self._doors:
            await self._wait_for(session)
        door = self._doors.get(session)
        if door is None:
            return
        if door.peer_id != peer_id or door.taken:
            raise Refused("lane.purpose", "The lane is for a session that expects another peer.")
        door.taken = True
        await door.serve(lane)

    async def _wait_for(self, session: bytes) -> None:
        if session in self._waiting or len(self._waiting) >= MAX_WAITING:
            return
        event = self._waiting[session] = trio.Event()
        try:
            with trio.move_on_after(WAIT_S):
                await event.wait()
        finally:
            if self._waiting.get(session) is event:
                del self._waiting[session]
