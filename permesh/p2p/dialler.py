"""Goes looking for peers, at the times and places that `Redial` says.

Owns the loop and the dialling. Must never know what an admission takes: it is told what came of
each connection.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Awaitable, Callable

import trio

from permesh.errors import PermeshError

from . import addresses as places
from .admission import Ended
from .guards import Tasks
from .guards_host import Connection, GuardedHost
from .redial import Redial, Target

logger = logging.getLogger(__name__)


class Dialler:
    """``is_linked(peer_id)``: there is a connection, admitted or not yet; ``is_member``: an
    admitted one; ``outcome(connection)`` waits for its admission (None: it came to nothing)."""

    def __init__(
        self,
        host: GuardedHost,
        tasks: Tasks,
        rng: random.Random,
        *,
        is_linked: Callable[[str], bool],
        is_member: Callable[[str], bool],
        outcome: Callable[[Connection], Awaitable[Ended | None]],
    ) -> None:
        self._host = host
        self._tasks = tasks
        self._is_linked = is_linked
        self._is_member = is_member
        self._outcome = outcome
        self._redial = Redial(rng)
        self._changed = trio.Event()

    def look_for(self, peer_id: str, addresses: tuple[str, ...], *, bootstrap: bool) -> None:
        """For ever; addresses are places, without the peer id."""
        self._redial.add(peer_id, addresses, time.monotonic(), bootstrap=bootstrap)
        self._changed.set()

    def found(self, peer_id: str) -> None:
        """It is connected and admitted, whoever dialled."""
        self._redial.connected(peer_id, time.monotonic())

    def lost(self, peer_id: str) -> None:
        self._redial.failed(peer_id, time.monotonic())
        self._changed.set()

    async def run(self) -> None:
        while True:
            self._changed = trio.Event()
            for target in self._redial.due(time.monotonic()):
                self._tasks.spawn(self._attempt, target)
            with trio.move_on_after(max(self._redial.next_at() - time.monotonic(), 0.0)):
                await self._changed.wait()

    async def _attempt(self, target: Target) -> None:
        ended = None
        try:
            ended = await self.try_once(target.peer_id, target.addresses)
        finally:  # whatever happened, there is a next time
            if self._is_member(target.peer_id):
                self.found(target.peer_id)
            else:
                pending = ended is not None and ended.theirs.status == "pending"
                self._redial.failed(target.peer_id, time.monotonic(), pending=pending)
                self._changed.set()

    async def try_once(self, peer_id: str, addresses: tuple[str, ...]) -> Ended | None:
        """Dial the addresses in turn until one is the peer; returns what came of it."""
        for address in addresses:
            if self._is_linked(peer_id):
                return None
            try:
                connection = await self._host.dial(places.multiaddr(address), peer_id)
            except PermeshError as error:
                logger.debug("%s", error)
                continue
            return await self._outcome(connection)
        return None
