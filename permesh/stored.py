"""Which views this release keeps over its records.

Owns the one list of them, so that a home is never written with fewer than it is read with. Must
never know how records come or who asks for the views.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable
from pathlib import Path

from .async_store import AsyncStore
from .forum.following import FollowView
from .forum.inbox import InboxView
from .forum.kinds import REMOVALS
from .forum.search import SearchView
from .forum.views import ForumView
from .p2p.addressbook import AddressBook
from .store import Projection, Store


class Views:
    """``repairs`` holds the record from which a forked chain goes on, by author: who changes it
    calls `refresh_authors`. ``listening_since_ms`` may be set once it is known."""

    def __init__(self, me: bytes) -> None:
        self.repairs: dict[bytes, bytes] = {}
        self.listening_since_ms: Callable[[bytes], int | None] = lambda _room: None
        self.forum = ForumView(
            repaired=self.repairs.get,
            listening_since_ms=lambda room: self.listening_since_ms(room),
        )
        self.search = SearchView()
        # The others read the forum's tables: it comes before them.
        self.all: tuple[Projection, ...] = (
            self.forum,
            FollowView(),
            self.search,
            InboxView(me),
            AddressBook(),
        )

    def open(self, path: Path) -> Store:
        """Raises ``PermeshError`` with a ``store.*`` code."""
        return Store(path, self.all, removals=REMOVALS)

    async def open_async(self, path: Path) -> AsyncStore:
        """Raises ``PermeshError`` with a ``store.*`` code."""
        return await AsyncStore.open(path, self.all, REMOVALS)

    def refresh_authors(self, cursor: sqlite3.Cursor, agents: Iterable[bytes]) -> None:
        """For `Store.change_views`: show and hide what the repairs of these chains say now."""
        agents = tuple(agents)
        self.forum.refresh_authors(cursor, agents)
        self.search.refresh(cursor)
