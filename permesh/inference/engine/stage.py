"""A session's place in one stage: its caches and how far they are filled.

Owns positions: what may be computed next, and going back. Must never know tokens' meaning or who
asks.
"""

from __future__ import annotations

from typing import Any

import mlx.core as mx
from mlx_lm.models.cache import KVCache, RotatingKVCache

from permesh.errors import Refused
from permesh.inference.engine.ahead import Blanks, writes_arrive
from permesh.inference.engine.split import Stage, Value

start_computing: Any = mx.async_eval  # MLX has it unannotated


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
        self._blanks: Blanks | None = None  # in the form of one position, once one was seen
        self._ahead: Any = None  # the next position's result, built on the blanks
        self._milestones: list[Value] = []  # on the way to it

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
        self._forget_ahead()
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
        if self._ahead is not None and positions == 1 and value is not None:
            return self._take_ahead(value)
        self._forget_ahead()
        if positions == 1 and value is not None and self._blanks is None:
            assert self.stage.entry is not None  # only the first stage has none, and takes tokens
            self._blanks = Blanks(self.stage.entry.parts(value))
        out = self._build(tokens, value)
        self.stage.take_milestones()  # kept, they would hold a whole chunk's values in memory
        self.length += positions
        return out

    def prepare(self) -> Any:
        """Build the next position's computation before its input is there.

        Gives what `run` will give for that position, or None where it cannot be built ahead: no
        single position was run yet, the session is full, the caches could not go back if something
        else came instead, or the backend does not compute with what is written afterwards. Call
        it when the last result is computed.
        """
        room = self.length < self.limit and all(_can_go_back(cache) for cache in self._mine)
        if self._ahead is None and self._blanks is not None and room and writes_arrive():
            assert self.stage.entry is not None
            self._ahead = self._build(None, self.stage.entry.build(self._blanks.parts))
            self._milestones = self.stage.take_milestones()
        return self._ahead

    def _take_ahead(self, value: Value) -> Any:
        assert self.stage.entry is not None
        assert self._blanks is not None
        out, self._ahead = self._ahead, None
        try:
            self._blanks.fill(self.stage.entry.parts(value))
            for milestone in self._milestones:
                start_computing(milestone)
            self._milestones.clear()
        except BaseException:
            self.broken = True
            raise
        self.length += 1
        return out

    def _forget_ahead(self) -> None:
        if self._ahead is not None:
            self._ahead = None
            self._milestones.clear()
            for cache in self._mine:
                cache.trim(1)

    def _build(self, tokens: mx.array | None, value: Value) -> Any:
        try:
            return self.stage.run(self._caches, tokens=tokens, value=value)
        except BaseException:
            self.broken = True
            raise

    def settle(self, *results: Any) -> None:
        """Compute the caches and ``results`` now, and give back what memory that took."""
        try:
            mx.eval(*results, [cache.state for cache in self._mine])
        except BaseException:
            self.broken = True
            raise
        mx.clear_cache()


def _can_go_back(cache: Any) -> bool:
    """Whether a position that is built but not computed can be trimmed again."""
    if type(cache) is RotatingKVCache:
        return bool(cache.offset + 1 < cache.max_size)
    return type(cache) is KVCache
