"""Drafts that the daemon does not hold: edits, and what was typed while it was away.

Owns one small file beside the socket, readable by its owner only. When it cannot be read or
written, the app goes on with what it has in memory.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

MAX_DRAFTS = 256
MAX_BYTES = 32 << 20
FILE_NAME = "tui-drafts.json"


class DraftFile:
    """``path`` None keeps nothing."""

    @dataclass(frozen=True, slots=True)
    class Held:
        room: str
        reply_to: str | None
        edits: str | None
        text: str
        original: str
        typed_ms: int

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._written: list[DraftFile.Held] | None = None

    def read(self) -> list[Held]:
        if self._path is None:
            return []
        try:
            with self._path.open("rb") as file:
                held = json.loads(file.read(MAX_BYTES))
        except (OSError, ValueError, RecursionError):
            return []
        entries = held if isinstance(held, list) else []
        self._written = [one for entry in entries[:MAX_DRAFTS] if (one := _held(entry))]
        return self._written

    def write(self, drafts: Sequence[Held]) -> None:
        """Write the file, whole or not at all; it is gone while there is nothing to keep."""
        drafts = list(drafts[:MAX_DRAFTS])
        if self._path is None or drafts == (self._written or []):
            return
        try:
            if not drafts:
                self._path.unlink(missing_ok=True)
            else:
                handle, name = tempfile.mkstemp(dir=self._path.parent, prefix=".tui-drafts-")
                with os.fdopen(handle, "w") as file:
                    json.dump([asdict(draft) for draft in drafts], file)
                    file.flush()
                    os.fsync(file.fileno())
                Path(name).replace(self._path)
        except OSError:
            return
        self._written = drafts


def _held(entry: object) -> DraftFile.Held | None:
    if not isinstance(entry, dict):
        return None
    texts = [entry.get(key) for key in ("room", "text", "original")]
    places = [entry.get(key) for key in ("reply_to", "edits")]
    typed_ms = entry.get("typed_ms")
    fits = all(isinstance(one, str) for one in texts) and type(typed_ms) is int
    if not fits or not all(one is None or isinstance(one, str) for one in places):
        return None
    room, text, original = map(str, texts)
    return DraftFile.Held(room, places[0], places[1], text, original, int(str(typed_ms)))
