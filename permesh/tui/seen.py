"""How much of each room the reader has seen, kept between sessions.

Owns one small file beside the socket. It is a convenience: when it cannot be read or written, the
app goes on with what it has in memory.
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

MAX_ROOMS = 2_000
MAX_BYTES = 1 << 20
FILE_NAME = "tui-seen.json"


class Seen:
    """Posts seen, by room id. ``path`` None keeps them in memory only."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._counts: dict[str, int] = _load(path) if path else {}

    def count(self, room: str) -> int:
        return self._counts.get(room, 0)

    def set(self, room: str, count: int) -> None:
        self._counts.pop(room, None)
        self._counts[room] = max(0, count)
        while len(self._counts) > MAX_ROOMS:
            del self._counts[next(iter(self._counts))]

    def save(self) -> None:
        """Write the file, whole or not at all."""
        if self._path is None:
            return
        try:
            handle, name = tempfile.mkstemp(dir=self._path.parent, prefix=".tui-seen-")  # 0600
            with os.fdopen(handle, "w") as file:
                json.dump(self._counts, file)
            Path(name).replace(self._path)
        except OSError:
            return


def _load(path: Path) -> dict[str, int]:
    try:
        with path.open("rb") as file:
            held = json.loads(file.read(MAX_BYTES))
    except (OSError, ValueError):
        return {}
    if not isinstance(held, dict):
        return {}
    counts = {room: count for room, count in held.items() if type(count) is int and count >= 0}
    return dict(list(counts.items())[-MAX_ROOMS:])
