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

        @property
        def place(self) -> tuple[str, str | None, str | None]:
            return self.room, self.reply_to, self.edits

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._written: list[DraftFile.Held] = []
        self._own: set[tuple[str, str | None, str | None]] = set()  # places that were written here

    def read(self) -> list[Held]:
        """What is kept; from now on it is this app's to take away."""
        self._written = self._read()
        self._own.update(held.place for held in self._written)
        return self._written

    def _read(self) -> list[Held]:
        if self._path is None:
            return []
        try:
            with self._path.open("rb") as file:
                held = json.loads(file.read(MAX_BYTES))
        except (OSError, ValueError, RecursionError):
            return []
        entries = held if isinstance(held, list) else []
        return [one for entry in entries[:MAX_DRAFTS] if (one := _held(entry))]

    def write(self, drafts: Sequence[Held]) -> None:
        """Write the file, whole or not at all; it is gone while there is nothing to keep.

        What another app on the same daemon keeps there stays.
        """
        drafts = list(drafts[:MAX_DRAFTS])
        if self._path is None or drafts == self._written:
            return
        self._own.update(held.place for held in drafts)
        others = [held for held in self._read() if held.place not in self._own]
        try:
            self._replace(self._path, [*drafts, *others][:MAX_DRAFTS])
        except OSError:
            return
        self._written = drafts

    def _replace(self, path: Path, drafts: Sequence[Held]) -> None:
        if not drafts:
            path.unlink(missing_ok=True)
            return
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".tui-drafts-")  # 0600
        with os.fdopen(handle, "w") as file:
            json.dump([asdict(draft) for draft in drafts], file)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)


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
