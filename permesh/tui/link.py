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


@dataclass(frozen=True, slots=True)
class Backoff:
    """Seconds between attempts: ``first``, doubled up to ``most``."""

    first: float = 0.5
    most: float = 5.0

    def delay(self, attempt: int) -> float:
        return min(self.most, self.first * 2.0 ** min(attempt, 20))


async def follow(
    client: MeshClient,
    on_event: Callable[[BaseModel], None],
    on_lost: Callable[[PermeshError], None],
    backoff: Backoff,
) -> None:
    """Hand on every event, for ever. An unreadable stream is like none: told, and tried again."""
    attempt = 0
    while True:
        problem = PermeshError("daemon.gone", "The daemon closed the connection.")
        try:
            async for _, data in client.events():
                attempt = 0
                on_event(data)
        except PermeshError as error:
            problem = error
        except OSError as error:
            problem = PermeshError("daemon.gone", f"The daemon is out of reach: {error}.")
        on_lost(problem)
        await asyncio.sleep(backoff.delay(attempt))
        attempt += 1
