"""The store from trio.

Owns which thread and which connection a call of the store runs on, and in what order. Must never
know what is read or written.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

import trio

from .records import Record
from .removal import NO_REMOVALS, Removals
from .store import Projection, Store

_P = ParamSpec("_P")
_T = TypeVar("_T")

# A second, for which no other write waits longer, and that only while so much comes at once.
SAVED_AT_ONCE = 3_000


class _Waiting:
    """Records on their way to the disk, and what came of them."""

    def __init__(self, records: Iterable[Record]) -> None:
        self.records = list(records)
        self.new: list[Record] | None = None
        self.error: BaseException | None = None


class AsyncStore:
    """The store from trio: writes one after another in a worker thread, reads on connections of
    their own, so that neither blocks the loop nor the other.

    A call that has started is never abandoned: a cancelled caller still waits for the commit.
    """

    def __init__(self, writer: Store, reader: Store, scanner: Store) -> None:
        self._writer = writer
        self._reader = reader
        self._scanner = scanner
        self._write_limit = trio.CapacityLimiter(1)
        self._read_limit = trio.CapacityLimiter(1)
        self._scan_limit = trio.CapacityLimiter(1)
        self._waiting: deque[_Waiting] = deque()

    @classmethod
    async def open(
        cls,
        path: Path,
        projections: Sequence[Projection] = (),
        removals: Removals = NO_REMOVALS,
    ) -> AsyncStore:
        def connect() -> tuple[Store, Store, Store]:
            writer = Store(path, projections, removals=removals)
            return writer, Store(path, read_only=True), Store(path, read_only=True)

        return cls(*await trio.to_thread.run_sync(connect))

    async def aclose(self) -> None:
        with trio.CancelScope(shield=True):
            async with self._write_limit, self._read_limit, self._scan_limit:
                self._scanner.close()
                self._reader.close()
                self._writer.close()

    async def write(
        self, method: Callable[Concatenate[Store, _P], _T], *args: _P.args, **kwargs: _P.kwargs
    ) -> _T:
        """``await store.write(Store.save, records, now_ms)``."""
        return await trio.to_thread.run_sync(
            lambda: method(self._writer, *args, **kwargs), limiter=self._write_limit
        )

    async def read(
        self, method: Callable[Concatenate[Store, _P], _T], *args: _P.args, **kwargs: _P.kwargs
    ) -> _T:
        """``await store.read(Store.get, record_id)``; sees every write that has returned."""
        return await trio.to_thread.run_sync(
            lambda: method(self._reader, *args, **kwargs), limiter=self._read_limit
        )

    async def scan(
        self, method: Callable[Concatenate[Store, _P], _T], *args: _P.args, **kwargs: _P.kwargs
    ) -> _T:
        """As `read`, for what peers ask: it keeps none of the member's own reads waiting."""
        return await trio.to_thread.run_sync(
            lambda: method(self._scanner, *args, **kwargs), limiter=self._scan_limit
        )

    async def save(self, records: Iterable[Record], now_ms: int) -> list[Record]:
        """`Store.save`. Those that wait for the disk at one time go there in one transaction,
        since most of what a commit costs does not depend on how much it carries."""
        mine = _Waiting(records)
        self._waiting.append(mine)
        try:
            await self.write(self._save_waiting, mine, now_ms)
        except trio.Cancelled:
            if not self._take_back(mine):
                # Another's commit carries it: whoever saves also tells of it, cancelled or not.
                with trio.CancelScope(shield=True):
                    await self.write(self._save_waiting, mine, now_ms)
            if mine.new is None and mine.error is None:
                raise
        if mine.error is not None:
            raise mine.error
        return mine.new or []

    def _take_back(self, mine: _Waiting) -> bool:
        try:
            self._waiting.remove(mine)
        except ValueError:
            return False
        return True

    def _save_waiting(self, store: Store, mine: _Waiting, now_ms: int) -> None:
        """In the writer's thread: save what waits, unless ``mine`` went along with another's."""
        while mine.new is None and mine.error is None:
            group = [self._waiting.popleft()]
            size = len(group[0].records)
            while self._waiting and size + len(self._waiting[0].records) <= SAVED_AT_ONCE:
                group.append(self._waiting.popleft())
                size += len(group[-1].records)
            _save_group(store, group, now_ms)


def _save_group(store: Store, group: Sequence[_Waiting], now_ms: int) -> None:
    try:
        saved = store.save((record for one in group for record in one.records), now_ms)
    except Exception as error:
        if len(group) > 1:  # nobody's records are lost by those of another
            for one in group:
                _save_group(store, [one], now_ms)
        else:
            group[0].error = error
        return
    # In the order in which they were given: what was in two lists is the first one's.
    saved.reverse()
    for one in group:
        ids = {item.id for record in one.records for item in (record, record.removal) if item}
        one.new = []
        while saved and saved[-1].id in ids:
            one.new.append(saved.pop())
