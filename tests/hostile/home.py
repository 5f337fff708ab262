"""A member's home under attack: the real store with all of its views, and what things cost it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from permesh.records import Record
from permesh.store import Store
from permesh.stored import Views
from tests.forum.people import ME, Eyes
from tests.simulator import START_MS

# SQLite's instructions are counted in these, so that a test of costs does not depend on a clock.
_EVERY = 1_000


class Home:
    def __init__(self, path: Path) -> None:
        self.views = Views(ME)
        self.store: Store = self.views.open(path / "permesh.db")
        self.eyes = Eyes(repaired=self.views.repairs)

    def save(self, records: Iterable[Record], now_ms: int = START_MS) -> None:
        self.store.save(records, now_ms)

    def cost(self, action: Callable[[], Any]) -> int:
        """How many of SQLite's instructions it takes, to a thousand."""
        steps = 0

        def count() -> int:
            nonlocal steps
            steps += _EVERY
            return 0

        self.store.connection.set_progress_handler(count, _EVERY)
        try:
            action()
        finally:
            self.store.connection.set_progress_handler(None, _EVERY)
        return steps
