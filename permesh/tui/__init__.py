"""The terminal app: rooms and threads, members and their cards, the mesh at a glance.

Owns what a reader sees and does; talks to this member's daemon through `permesh.client` and
nothing else. Must never interpret another member's text as markup.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path

from permesh.errors import PermeshError


def run(socket_path: Path) -> None:
    """Open the app on the daemon behind ``socket_path`` and return when the reader leaves.

    Raises ``PermeshError`` without a terminal, or if the path cannot be a socket. A missing daemon
    is no error: the app says so and waits for it. ``TEXTUAL_DRIVER`` names another place to draw
    on, as `permesh tui --web` does for its pages.
    """
    in_terminal = sys.stdin.isatty() and sys.stdout.isatty()
    if not in_terminal and not os.environ.get("TEXTUAL_DRIVER"):
        raise PermeshError(
            "tui.no_terminal",
            "The app needs a terminal to draw on.",
            "Run it in one; in a script, use the other commands with --json.",
        )
    asyncio.run(_run(socket_path))


async def _run(socket_path: Path) -> None:
    from permesh.client import AsyncClient

    from .app import PermeshApp
    from .draft_file import FILE_NAME, DraftFile

    file = DraftFile(socket_path.parent / FILE_NAME)
    async with AsyncClient(socket_path) as client:
        await PermeshApp(client, lambda: time.time_ns() // 1_000_000, file).run_async()
