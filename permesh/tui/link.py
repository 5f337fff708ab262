"""The tie to the daemon: one stream of events, taken up again for as long as the app runs.

Owns when to try again. Knows nothing of what the events mean.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from pydantic import BaseModel

from permesh.errors import PermeshError

from .ports import MeshClient

STALE = "events.cursor"  # the daemon's answer to a cursor of another database


@dataclass(frozen=True, slots=True)
class Backoff:
    """Seconds between attempts: ``first``, doubled up to ``most``."""

    first: float = 0.5
    most: float = 5.0

    def delay(self, attempt: int) -> float:
        return min(self.most, self.first * 2.0 ** min(attempt, 20))


async def follow(
    client: MeshClient,
    on_event: Callable[[BaseModel, bool], None],
    on_lost: Callable[[PermeshError], None],
    backoff: Backoff,
) -> None:
    """Hand on every event, for ever; with each, whether its stream goes on where the last one
    broke off. An unreadable stream is like none: told, and tried again."""
    attempt = 0
    cursor = ""
    while True:
        resumed = bool(cursor)
        problem = PermeshError("daemon.gone", "The daemon closed the connection.")
        try:
            async for event in client.events(cursor or None):
                attempt = 0
                cursor = getattr(event, "cursor", "") or cursor
                on_event(event[1], resumed)
        except PermeshError as error:
            if error.code == STALE and cursor:
                cursor = ""
                continue
            problem = error
        except OSError as error:
            problem = PermeshError("daemon.gone", f"The daemon is out of reach: {error}.")
        on_lost(problem)
        await asyncio.sleep(backoff.delay(attempt))
        attempt += 1
