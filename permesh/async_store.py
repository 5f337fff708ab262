"""The store from trio.

Owns which thread and which connection a call of the store runs on, and in what order. Must never
know what is read or written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

import trio

from .records import Record
from .removal import NO_REMOVALS, Removals
from .store import Projection, Store

_P = ParamSpec("_P")
_T = TypeVar("_T")


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
        return await self.write(Store.save, records, now_ms)
