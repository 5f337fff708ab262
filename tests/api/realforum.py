"""The forum and its files on their real parts, over a store in a directory: for the node in memory.

What others have written arrives by `People`, as records saved by whoever holds the store.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

from permesh.async_store import AsyncStore
from permesh.attachments import Attachments
from permesh.forum import kinds
from permesh.forum.charter import Charter
from permesh.forum.inbox import InboxView
from permesh.forum.kinds import Content, Label
from permesh.forum.personal import Personal
from permesh.forum.reader import Reader
from permesh.forum.search import SearchView
from permesh.forum.service import Forum
from permesh.forum.sight import Onlooker
from permesh.forum.views import ForumView
from permesh.p2p.journal import Journal, Signing
from permesh.records import NO_ROOM, Record, seal
from permesh.store import Projection, Store

MESH = bytes(range(32))
DATABASE = "forum.db"
MANY_BYTES = 64 * 1024 * 1024


def sign_as(author: bytes) -> Callable[[bytes], bytes]:
    """Not a signature, but nobody checks one here."""
    return lambda record_id: hashlib.sha512(author + record_id).digest()


def views(me: bytes) -> list[Projection]:
    return [ForumView(), SearchView(), InboxView(me)]


class RealForum:
    """``people`` are addresses by name; all have a number by their order."""

    def __init__(
        self,
        store: AsyncStore,
        directory: Path,
        me: bytes,
        people: Mapping[str, bytes],
        now_ms: Callable[[], int],
        on_saved: Callable[[Record], None],
    ) -> None:
        described = {
            agent: (f"AGT-{number:04d}", name)
            for number, (name, agent) in enumerate(people.items(), 1)
        }
        found = {
            word: agent
            for agent, words in described.items()
            for word in (*words, f"0x{agent.hex()}")
        }
        self.attachments = Attachments(
            directory / "files", MANY_BYTES, _Nobody(), peers=list, fault=_no_fault, rng=Random(1)
        )
        reader = Reader(
            Onlooker(me, lambda _: 1.0, lambda agent: agent == me, lambda _: None),
            lambda agent: described.get(agent, ("", "")),
            self.attachments.stored,
            now_ms,
        )
        journal = Journal(
            store, mesh=MESH, author=me, signing=Signing(1, sign_as(me)), now_ms=now_ms,
            on_saved=on_saved,
        )  # fmt: skip
        personal = Personal(
            store, me=me, views=reader, find_agent=found.get, now_ms=now_ms,
            followed=lambda *_: None,
        )  # fmt: skip
        self.store = store
        self.forum = Forum(journal, store, reader, personal, find_agent=found.get, now_ms=now_ms)


class _Nobody:
    async def open(self, *_: object) -> object:
        raise AssertionError("nobody is connected")


def _no_fault(*_: object) -> None:
    raise AssertionError("nobody is connected")


@asynccontextmanager
async def open_store(directory: Path, me: bytes) -> AsyncIterator[AsyncStore]:
    store = await AsyncStore.open(directory / DATABASE, views(me), removals=kinds.REMOVALS)
    try:
        yield store
    finally:
        await store.aclose()


class Somebody:
    """Another member, who writes a chain of records."""

    def __init__(self, agent: bytes, now_ms: Callable[[], int]) -> None:
        self._agent = agent
        self._now_ms = now_ms
        self._seq, self._prev = 0, b""

    def write(self, kind: str, body: bytes, room: bytes, *parents: bytes) -> Record:
        record = seal(
            mesh=MESH, kind=kind, author=self._agent, epoch=1, seq=self._seq, prev=self._prev,
            created_ms=self._now_ms(), body=body, room=room, parents=parents,
            sign=sign_as(self._agent),
        )  # fmt: skip
        self._seq, self._prev = self._seq + 1, record.id
        return record

    def room(self, name: str, purpose: str = "") -> Record:
        charter = Charter(purpose, stewards=(self._agent,))
        return self.write(kinds.ROOM, kinds.room_body(name, charter), NO_ROOM)

    def post(self, room: bytes, text: str, *reply_to: bytes, **content: Any) -> Record:
        return self.write(kinds.POST, kinds.post_body(Content(text, **content)), room, *reply_to)

    def label(self, post: Record, value: str, reason: str = "") -> Record:
        body = kinds.label_body(Label(False, post.id, value, True, reason))
        return self.write(kinds.LABEL, body, post.header.room, post.id)


def arrive(directory: Path, me: bytes, now_ms: int, *records: Record) -> None:
    """Records that come while no daemon runs."""
    store = Store(directory / DATABASE, views(me), removals=kinds.REMOVALS)
    try:
        store.save(records, now_ms)
    finally:
        store.close()
