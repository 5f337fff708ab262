"""The member's own chain of records.

Owns the one way in which this member signs something that lasts: head, seal, Save, and only then
anything else. Must never know what a kind means, nor how records travel.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import trio

from permesh.async_store import AsyncStore
from permesh.records import NO_ROOM, Record, seal
from permesh.store import Head, Store

# A burst within one millisecond still gets ascending times, since views order by them; but a
# clock that was far ahead once must not drag the chain along for ever.
MAX_LEAD_MS = 1_000


@dataclass(frozen=True, slots=True)
class Signing:
    """The session key of one epoch: ``sign`` takes a 32-byte id and returns 64 bytes."""

    epoch: int
    sign: Callable[[bytes], bytes]


class Appends(Protocol):
    """A chain of one author's, as those see it who only write on it."""

    author: bytes

    async def append(
        self, kind: str, body: bytes, room: bytes = NO_ROOM, parents: tuple[bytes, ...] = ()
    ) -> Record: ...


class Journal:
    """Appends to one author's chain; there must be no other writer of that chain anywhere."""

    def __init__(
        self,
        store: AsyncStore,
        *,
        mesh: bytes,
        author: bytes,
        signing: Signing,
        now_ms: Callable[[], int],
        on_saved: Callable[[Record], None],
        repaired: Callable[[], bytes | None] = lambda: None,
    ) -> None:
        """``on_saved`` is called once per record, after its commit and before `append` returns:
        it emits the event and hands the record to gossip, and must not block or raise.

        ``repaired`` gives the record that the owner chose where the chain forked last: it goes on
        from there, whatever else was signed.
        """
        self.author = author
        self._store = store
        self._mesh = mesh
        self._signing = signing
        self._now_ms = now_ms
        self._on_saved = on_saved
        self._repaired = repaired
        self._lock = trio.Lock()

    @property
    def epoch(self) -> int:
        return self._signing.epoch

    async def append(
        self,
        kind: str,
        body: bytes,
        room: bytes = NO_ROOM,
        parents: tuple[bytes, ...] = (),
        expires_ms: int = 0,
        *,
        signing: Signing | None = None,
    ) -> Record:
        """Sign a record onto the chain and return once it is durable.

        ``signing`` starts a new epoch with this very record, which must be its credential.
        Raises ``Refused("record.body_too_long")`` and ``PermeshError("store.…")``; then nothing
        was written and the epoch is the old one.
        """
        async with self._lock:
            chosen = signing or self._signing
            now = self._now_ms()

            def make(head: Head | None) -> Record:
                created = now
                if head is not None and head.created_ms < now + MAX_LEAD_MS:
                    created = max(now, head.created_ms + 1)
                return seal(
                    mesh=self._mesh,
                    kind=kind,
                    author=self.author,
                    epoch=chosen.epoch,
                    seq=0 if head is None else head.seq + 1,
                    prev=b"" if head is None else head.id,
                    created_ms=created,
                    body=body,
                    sign=chosen.sign,
                    room=room,
                    parents=parents,
                    expires_ms=expires_ms,
                )

            record = await self._store.write(Store.append, self.author, make, now, self._repaired())
            # No checkpoint between the commit and this call: what is durable is also told.
            self._signing = chosen
            self._on_saved(record)
        return record


class MembersJournal:
    """Another one's journal, for those who may only write once ``permit`` does not raise."""

    def __init__(self, journal: Appends, permit: Callable[[], None]) -> None:
        self.author = journal.author
        self._journal = journal
        self._permit = permit

    async def append(
        self, kind: str, body: bytes, room: bytes = NO_ROOM, parents: tuple[bytes, ...] = ()
    ) -> Record:
        self._permit()
        return await self._journal.append(kind, body, room, parents)
