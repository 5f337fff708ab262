"""Authors of forum records, and one member's forum to read them in."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import trio

from permesh.async_store import AsyncStore
from permesh.errors import PermeshError
from permesh.forum import kinds
from permesh.forum.charter import Charter
from permesh.forum.following import Followed
from permesh.forum.inbox import InboxView
from permesh.forum.kinds import REMOVALS, Content, Label
from permesh.forum.personal import Personal
from permesh.forum.reader import Reader
from permesh.forum.search import SearchView
from permesh.forum.service import Forum
from permesh.forum.sight import Onlooker, Sight
from permesh.forum.views import ForumView
from permesh.p2p.journal import Journal, Signing
from permesh.records import Record, pack
from permesh.store import Store
from tests.simulator import MESH, START_MS, Author, address, cheap_sign

ME = address("me")


def open_store(path: Path, view: ForumView | None = None) -> Store:
    return Store(path, [view or ForumView(), SearchView(), InboxView(ME)], removals=REMOVALS)


# -- records


def make_room(author: Author, name: str = "lobby", /, **fields: Any) -> Record:
    """With ``charter``, a `Charter`, in today's form, else in that of an older release."""
    charter = fields.pop("charter", None)
    body = kinds.room_body(name, charter) if charter else pack([name, f"about {name}"])
    return author.write(body, kinds.ROOM, **fields)


def make_charter(
    author: Author, room: Record, before: Record, version: int, /, **fields: Any
) -> Record:
    rules = {"purpose": "p", "stewards": (author.address,)}
    rules |= {key: fields.pop(key) for key in list(fields) if key in Charter.__dataclass_fields__}
    body = kinds.charter_body(version, Charter(**rules))
    return author.write(body, kinds.CHARTER, room.id, parents=(before.id,), **fields)


def make_post(
    author: Author, room: Record, text: str = "hello", parent: Record | None = None, **fields: Any
) -> Record:
    """With a field of `Content` in today's form, else in that of an older release."""
    parents = (parent.id,) if parent else ()
    return author.write(_body(text, fields), kinds.POST, room.id, parents=parents, **fields)


def make_edit(author: Author, post: Record, text: str = "changed", **fields: Any) -> Record:
    room = post.header.room
    return author.write(_body(text, fields), kinds.EDIT, room, parents=(post.id,), **fields)


def make_removal(author: Author, post: Record, *edits: Record, **fields: Any) -> Record:
    body = kinds.removal_body((post.id, *(edit.id for edit in edits)))
    return author.write(body, kinds.REMOVAL, post.header.room, parents=(post.id,), **fields)


def make_reaction(
    author: Author, post: Record, emoji: str = "👍", on: bool = True, **fields: Any
) -> Record:
    body = kinds.reaction_body(emoji, on)
    return author.write(body, kinds.REACTION, post.header.room, parents=(post.id,), **fields)


def make_label(
    author: Author, target: Record | bytes, value: str = "spam", on: bool = True, **fields: Any
) -> Record:
    """Of a post, or of an agent by its address."""
    is_agent = isinstance(target, bytes)
    identity = target if isinstance(target, bytes) else target.id
    room = fields.pop("room", b"" if isinstance(target, bytes) else target.header.room)
    body = kinds.label_body(Label(is_agent, identity, value, on, fields.pop("reason", "")))
    parents = () if is_agent else (identity,)
    return author.write(body, kinds.LABEL, room, parents=parents, **fields)


def _body(text: str, fields: dict[str, Any]) -> bytes:
    said = {key: fields.pop(key) for key in list(fields) if key in Content.__dataclass_fields__}
    return kinds.post_body(Content(text, **said)) if said else text.encode()


# -- reading


@dataclass
class Eyes:
    """What a member may ask of others, as a test sets it."""

    me: bytes = ME
    standing: dict[bytes, float] = field(default_factory=dict)
    founders: set[bytes] = field(default_factory=set)
    repaired: dict[bytes, bytes] = field(default_factory=dict)
    files: dict[str, int] = field(default_factory=dict)
    now_ms: int = START_MS

    def onlooker(self) -> Onlooker:
        return Onlooker(
            self.me,
            lambda agent: self.standing.get(agent, 0.0),
            lambda agent: agent in self.founders,
            self.repaired.get,
        )

    def reader(self) -> Reader:
        return Reader(
            self.onlooker(),
            lambda agent: ("AGT-0001", agent.hex()[:4]),
            self.files.get,
            lambda: self.now_ms,
        )

    def sight(self, store: Store) -> Sight:
        return self.reader().sight(store.connection)


TABLES = (
    "forum_charters", "forum_posts", "forum_edits", "forum_reactions", "forum_labels",
    "forum_mentions", "forum_quotes", "forum_files", "forum_counts", "forum_clocks",
)  # fmt: skip


def tables(store: Store) -> dict[str, list[Any]]:
    """All that the view says but the names of rooms, which go by arrival, as do times of it."""
    found = {
        table: sorted(
            tuple(value for key, value in row.items() if key != "received_ms")
            for row in _rows(store, table)
        )
        for table in TABLES
    }
    found["forum_rooms"] = sorted(
        (row["id"], row["frozen"], row["hidden"]) for row in _rows(store, "forum_rooms")
    )
    return found


def _rows(store: Store, table: str) -> list[dict[str, Any]]:
    cursor = store.connection.execute(f"SELECT * FROM {table}")
    names = [column[0] for column in cursor.description]
    none = object()
    return [
        {key: (b"" if value is None else value) for key, value in zip(names, row, strict=True)}
        for row in cursor
        if row is not none
    ]


def rebuild(store: Store, view: ForumView) -> None:
    """As the store does when a view's version has changed."""
    with store._database.transaction() as cursor:
        store._rebuild(cursor, view)


# -- one member


class Desk:
    """One member's forum, and what its journal has told."""

    def __init__(self, store: AsyncStore) -> None:
        self.store = store
        self.saved: list[Record] = []
        self.eyes = Eyes()
        self.names: dict[str, bytes] = {"me": ME}
        journal = Journal(
            store, mesh=MESH, author=ME, signing=Signing(1, cheap_sign(ME)),
            now_ms=lambda: self.eyes.now_ms, on_saved=self.saved.append,
        )  # fmt: skip
        self.reader = self.eyes.reader()
        self.followed: list[tuple[bytes, Followed]] = []
        personal = Personal(
            store, me=ME, views=self.reader, find_agent=self.names.get,
            now_ms=lambda: self.eyes.now_ms,
            followed=lambda room, now: self.followed.append((room, now)),
        )  # fmt: skip
        self.forum = Forum(
            journal, store, self.reader, personal, find_agent=self.names.get,
            now_ms=lambda: self.eyes.now_ms,
        )  # fmt: skip

    async def save(self, *records: Record) -> None:
        await self.store.save(records, self.eyes.now_ms)

    async def refused(self, call: Awaitable[object], code: str) -> PermeshError:
        before = len(self.saved)
        with pytest.raises(PermeshError) as caught:
            await call
        assert caught.value.code == code
        assert caught.value.remedy
        assert len(self.saved) == before  # nothing was signed
        return caught.value


@asynccontextmanager
async def at_desk(directory: Path) -> AsyncIterator[Desk]:
    store = await AsyncStore.open(
        directory / "permesh.db", [ForumView(), SearchView(), InboxView(ME)], removals=REMOVALS
    )
    try:
        yield Desk(store)
    finally:
        await store.aclose()


def run(directory: Path, main: Callable[[Desk], Awaitable[None]]) -> None:
    async def whole() -> None:
        async with at_desk(directory) as desk:
            await main(desk)

    trio.run(whole)
