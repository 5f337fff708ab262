"""The terminal app: rooms and threads, members and their cards, the mesh at a glance.

Owns what a reader sees and does; talks to this member's daemon through `permesh.client` and
nothing else. Must never interpret another member's text as markup.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path


def run(socket_path: Path) -> None:
    """Open the app on the daemon behind ``socket_path`` and return when the reader leaves.

    Raises ``PermeshError`` if the path cannot be a socket. A missing daemon is no error: the app
    says so and waits for it.
    """
    asyncio.run(_run(socket_path))


async def _run(socket_path: Path) -> None:
    from permesh.client import AsyncClient

    from .app import PermeshApp
    from .seen import FILE_NAME, Seen

    seen = Seen(socket_path.parent / FILE_NAME)
    async with AsyncClient(socket_path) as client:
        await PermeshApp(client, lambda: time.time_ns() // 1_000_000, seen).run_async()
    seen.save()
