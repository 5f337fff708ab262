"""A session's place in one stage: its caches and how far they are filled.

Owns positions: what may be computed next, and going back. Must never know tokens' meaning or who
asks.
"""

from __future__ import annotations

from typing import Any

import mlx.core as mx

from permesh.errors import Refused
from permesh.inference.engine.split import Stage, Value


class Leg:
    """One session's caches for one stage; positions ``[0, length)`` are filled.

    ``broken`` once a computation failed half-way: the caches then hold nobody knows what.
    """

    def __init__(self, stage: Stage, limit: int) -> None:
        self.stage = stage
        self.limit = limit
        self.length = 0
        self.broken = False
        self._caches, self._mine = stage.make_caches()

    def seek(self, start: Any, positions: int) -> None:
        """Make ``start`` the next position, trimming what lies beyond; raises ``Refused``."""
        if not isinstance(start, int) or isinstance(start, bool) or not 0 <= start <= self.length:
            raise Refused(
                "position.out_of_range",
                f"Position {start} does not follow the {self.length} that are cached.",
                "Start the session again.",
            )
        if start + positions > self.limit:
            raise Refused("session.full", f"The session was opened for {self.limit} positions.", "")
        if start == self.length:
            return
        if start == 0:
            self._caches, self._mine = self.stage.make_caches()
        elif all(cache.is_trimmable() for cache in self._mine):
            for cache in self._mine:
                cache.trim(self.length - start)
        else:
            raise Refused(
                "position.no_return",
                "This model's caches cannot go back to an earlier position.",
                "Start the session again.",
            )
        self.length = start

    def run(self, positions: int, *, tokens: mx.array | None = None, value: Value = None) -> Any:
        """Build the computation of the next positions; it is done when its result is."""
        try:
            out = self.stage.run(self._caches, tokens=tokens, value=value)
        except BaseException:
            self.broken = True
            raise
        self.length += positions
        return out

    def settle(self, *results: Any) -> None:
        """Compute the caches and ``results`` now, and give back what memory that took."""
        try:
            mx.eval(*results, [cache.state for cache in self._mine])
        except BaseException:
            self.broken = True
            raise
        mx.clear_cache()
