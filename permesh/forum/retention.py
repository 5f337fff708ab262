"""Letting go of what a room keeps no longer.

Owns when records of a room are too old or too many to be held here, and the order in which they
go: first the floor of the room rises, so that they do not come back, then they are dropped. Must
never decide how much is kept (`permesh/forum/following.py`) nor drop a record itself.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import trio

from permesh.async_store import AsyncStore
from permesh.errors import PermeshError
from permesh.spaces import day_of
from permesh.store import Store

from . import charters, following, rules
from .following import Keep

PERIOD_S = 3_600.0
# Of one room; a steward who pins more keeps the first ones that were pinned.
MAX_PINNED = 256
_PIN_ROWS = 10_000  # sync asks at every pull

_log = logging.getLogger("permesh.forum.retention")


class Retention:
    """``default`` is what this member keeps of a room for which it has no wish of its own;
    ``floors_rose`` is told before anything is dropped, and ``sweep`` afterwards: it forgets files
    of which `named_files` says that no post names them."""

    def __init__(
        self,
        store: AsyncStore,
        *,
        default: Keep,
        now_ms: Callable[[], int],
        floors_rose: Callable[[], Awaitable[None]],
        sweep: Callable[[], Awaitable[object]],
    ) -> None:
        self._store = store
        self._default = default
        self._now_ms = now_ms
        self._floors_rose = floors_rose
        self._sweep = sweep

    async def run(self) -> None:
        """Tidy now and every hour, until cancelled."""
        while True:
            try:
                await self.tidy()
            except PermeshError as error:  # our own disk: the next hour tries again
                _log.warning("old records could not be dropped: %s", error)
            await trio.sleep(PERIOD_S)

    async def tidy(self) -> int:
        """Drop what is beyond the floor of each room that is followed; returns how many."""
        today = day_of(self._now_ms())
        floors = await self._store.read(self._plan, today)
        if any(rose for _, rose in floors.values()):
            await self._store.write(Store.change_views, partial(_raise, floors))
            await self._floors_rose()
        dropped = 0
        for room, (floor, _) in floors.items():
            if floor:
                dropped += await self._drop(room, floor)
        await self._sweep()
        return dropped

    async def _drop(self, room: bytes, floor: int) -> int:
        keep = await self._store.read(lambda store: pinned(store.connection, room))
        dropped = 0
        while count := await self._store.write(Store.drop_before, room, floor, keep):
            dropped += count
        return dropped

    def _plan(self, store: Store, today: int) -> dict[bytes, tuple[int, bool]]:
        """The floor of each room, and whether it rose."""
        floors = {}
        for room, floor in following.followed(store.connection).items():
            keep = _keep(store.connection, room, self._default)
            sizes = dict(store.spaces.sizes(room))
            planned = following.plan_floor(sizes, keep, today, floor)
            floors[room] = (planned, planned > floor)
        return floors


def pinned(connection: sqlite3.Connection, room: bytes) -> frozenset[bytes]:
    """Posts that a steward of the room pinned, and the records that say what they say now."""
    stewards = (
        charters.in_force(connection, room).charter.stewards if _known(connection, room) else ()
    )
    marks = ",".join("?" * len(stewards))
    rows = connection.execute(
        "SELECT target, is_on, max(seq) FROM (SELECT * FROM forum_labels"
        f" WHERE room = ? AND value = ? AND hidden = '' AND author IN ({marks})"
        f" LIMIT {_PIN_ROWS}) GROUP BY target, author ORDER BY created_ms, target",
        (room, rules.PIN, *stewards),
    ).fetchall()
    posts = list(dict.fromkeys(row[0] for row in rows if row[1]))[:MAX_PINNED]
    found = set(posts)
    for post in posts:
        found.update(
            row[0]
            for row in connection.execute("SELECT current FROM forum_posts WHERE id = ?", (post,))
        )
    return frozenset(found)


def named_files(connection: sqlite3.Connection, files: Sequence[bytes]) -> set[bytes]:
    """Those of ``files`` (SHA-256) that some post names now."""
    named = "SELECT 1 FROM forum_files WHERE hash = ? LIMIT 1"
    return {file for file in files if connection.execute(named, (file,)).fetchone()}


def _keep(connection: sqlite3.Connection, room: bytes, default: Keep) -> Keep:
    own = following.read(connection, room).keep
    wish = own if own != Keep() else default
    if not _known(connection, room):
        return wish
    charter = charters.in_force(connection, room).charter
    return wish.stricter(Keep(charter.keep_days, charter.keep_megabytes))


def _known(connection: sqlite3.Connection, room: bytes) -> bool:
    row = connection.execute(
        "SELECT 1 FROM forum_charters WHERE room = ? AND in_line LIMIT 1", (room,)
    ).fetchone()
    return row is not None


def _raise(floors: dict[bytes, tuple[int, bool]], cursor: sqlite3.Cursor) -> None:
    for room, (floor, rose) in floors.items():
        if rose:
            following.set_floor(cursor, room, floor)
