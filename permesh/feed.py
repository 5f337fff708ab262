"""What happens, told to faces as it happens, and again from where a face left off.

Owns the order of events on `/events` and their cursors. What is saved is read from the store by
its position there, so that nothing is lost between two looks, however long apart; what only is
(peers, members, spans) is told as it stands. Must never know HTTP.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator, Sequence
from typing import Protocol

import trio
from pydantic import BaseModel

from . import schema
from .async_store import AsyncStore
from .errors import PermeshError
from .events import Event, Lagged, RecordsSaved, SpansChanged, Subscription
from .node import NodeEvent
from .records import Record
from .store import Store

# Records that are looked at together; a face that breaks off among them is told of them again.
PAGE = 100
# Several causes of one change (a peer comes, its records follow) are told as one.
SETTLE_SECONDS = 0.1
# What tells this database's positions from another's, under this key of the store.
_NAME_KEY = "feed.name"


class Source(Protocol):
    """What there is to tell, in the API's shapes."""

    async def snapshot(self) -> schema.Snapshot: ...

    async def status(self) -> schema.Status: ...

    async def shown(self, records: Sequence[Record]) -> Sequence[tuple[str, BaseModel]]:
        """Names and objects of the events that tell of these records."""
        ...

    def changed_members(self, batch: Sequence[Event]) -> Sequence[schema.Member]: ...

    def spans(self) -> list[schema.Span]: ...

    def changed_spans(
        self, before: Sequence[schema.Span], now: Sequence[schema.Span]
    ) -> Sequence[schema.Span]: ...


class Feed:
    def __init__(self, store: AsyncStore, source: Source) -> None:
        self._store = store
        self._source = source
        self._name = ""

    async def position(self, cursor: str | None) -> int:
        """Where to go on; raises ``events.cursor`` for a cursor that is not of this database."""
        name = await self._database_name()
        last = await self._store.read(Store.last_position)
        if cursor is None:
            return last
        its_name, _, number = cursor.partition("-")
        fits = its_name == name and number.isdecimal() and len(number) < 19
        if not fits or int(number) > last:
            raise PermeshError(
                "events.cursor",
                "The cursor is not one of this member's events.",
                "Begin again without one, and read what was missed by pages.",
                http_status=409,
            )
        return int(number)

    async def tell(
        self, subscription: Subscription, position: int
    ) -> AsyncGenerator[NodeEvent, None]:
        """A snapshot, what was saved after ``position``, and then whatever comes."""
        source = self._source
        yield NodeEvent("snapshot", await source.snapshot(), self._cursor(position))
        spans = source.spans()
        batch: list[Event] = []
        while True:
            while page := await self._store.read(Store.saved_after, position, PAGE):
                position = page[-1][0]
                told = [
                    NodeEvent(name, data)
                    for name, data in await source.shown([record for _, record in page])
                ]
                # The cursor comes with the last one alone: before it, the page is not told.
                for event in told[:-1]:
                    yield event
                if told:
                    yield NodeEvent(told[-1].name, told[-1].data, self._cursor(position))
            missed = sum(event.dropped for event in batch if isinstance(event, Lagged))
            if missed:
                yield NodeEvent("lagged", schema.Lagged(missed=missed))
                yield NodeEvent("snapshot", await source.snapshot(), self._cursor(position))
                spans = source.spans()
            else:
                for member in source.changed_members(batch):
                    yield NodeEvent("member", member)
                if any(isinstance(event, SpansChanged) for event in batch):
                    now = source.spans()
                    for span in source.changed_spans(spans, now):
                        yield NodeEvent("span", span)
                    spans = now
                if any(not isinstance(event, RecordsSaved) for event in batch):
                    yield NodeEvent("status", await source.status())
            batch = await _next_batch(subscription)

    def _cursor(self, position: int) -> str:
        return f"{self._name}-{position}"

    async def _database_name(self) -> str:
        if not self._name:
            saved = await self._store.read(Store.get_value, _NAME_KEY)
            if saved is None:
                saved = secrets.token_hex(4).encode()
                await self._store.write(Store.set_value, _NAME_KEY, saved)
            self._name = saved.decode()
        return self._name


async def _next_batch(subscription: Subscription) -> list[Event]:
    batch = [await anext(subscription)]
    if not isinstance(batch[0], RecordsSaved):
        with trio.move_on_after(SETTLE_SECONDS):
            while True:
                batch.append(await anext(subscription))
    return batch
