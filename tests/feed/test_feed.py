"""What was saved is told once more from where a reader left off, and never lost."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest
import trio
from pydantic import BaseModel

from permesh import schema
from permesh.async_store import AsyncStore
from permesh.errors import PermeshError
from permesh.events import Event, EventBus, MembersChanged, RecordsSaved, SpansChanged
from permesh.feed import PAGE, Feed
from permesh.node import NodeEvent
from permesh.records import Record
from tests.simulator import START_MS, Author

STATUS = schema.Status(
    version="1", name="a", agent="0x", number="", pid=1, started_ms=0, peer_id="", addresses=[],
    mesh=schema.Mesh(id="", name="", state="member"), credential=None, peers=[], serving=[],
    engine=schema.Engine(state="stopped"), records=0,
)  # fmt: skip


class Told(BaseModel):
    text: str


class Source:
    """Shows every record but those whose body is ``quiet``."""

    def __init__(self) -> None:
        self.served: list[schema.Span] = []

    async def snapshot(self) -> schema.Snapshot:
        return schema.Snapshot(status=STATUS, rooms=[], members=[], spans=[])

    async def status(self) -> schema.Status:
        return STATUS

    async def shown(self, records: Sequence[Record]) -> list[tuple[str, BaseModel]]:
        bodies = [(record.body or b"").decode() for record in records]
        return [("post", Told(text=body)) for body in bodies if body != "quiet"]

    def changed_members(self, batch: Sequence[Event]) -> list[schema.Member]:
        found = any(isinstance(event, MembersChanged) for event in batch)
        return [schema.Member(agent="0x", owner="", number="", name="new", state="member")] * found

    def spans(self) -> list[schema.Span]:
        return list(self.served)

    def changed_spans(
        self, before: Sequence[schema.Span], now: Sequence[schema.Span]
    ) -> list[schema.Span]:
        return [span for span in now if span not in before]


class Desk:
    """A store, its events, and a feed over them."""

    def __init__(self, store: AsyncStore) -> None:
        self.store = store
        self.events = EventBus()
        self.source = Source()
        self.author = Author("ann")

    async def write(self, *texts: str) -> None:
        records = [self.author.write(text.encode()) for text in texts]
        await self.store.save(records, START_MS)
        self.events.publish(RecordsSaved(tuple(records), own=True))

    @asynccontextmanager
    async def listen(self, after: str | None = None) -> AsyncIterator[AsyncIterator[NodeEvent]]:
        feed = Feed(self.store, self.source)
        async with self.events.subscribe() as subscription:
            position = await feed.position(after)
            async with aclosing(feed.tell(subscription, position)) as told:
                with trio.fail_after(10):
                    yield told


@asynccontextmanager
async def desk(path: Path) -> AsyncIterator[Desk]:
    store = await AsyncStore.open(path / "feed.db")
    try:
        yield Desk(store)
    finally:
        await store.aclose()


async def texts(told: AsyncIterator[NodeEvent], count: int) -> tuple[list[str], str]:
    """The next posts, and the last cursor that came with one."""
    found, cursor = [], ""
    while len(found) < count:
        event = await anext(told)
        if isinstance(event.data, Told):
            found.append(event.data.text)
            cursor = event.cursor or cursor
    return found, cursor


def test_a_snapshot_comes_first_and_then_what_is_saved(tmp_path: Path) -> None:
    async def main() -> None:
        async with desk(tmp_path) as one:
            await one.write("before")
            async with one.listen() as told:
                first = await anext(told)
                assert first.name == "snapshot"
                assert first.cursor
                await one.write("hello", "quiet", "world")
                assert (await texts(told, 2))[0] == ["hello", "world"]

    trio.run(main)


def test_a_break_loses_nothing_however_much_was_said_meanwhile(tmp_path: Path) -> None:
    async def main() -> None:
        async with desk(tmp_path) as one:
            async with one.listen() as told:
                await anext(told)
                await one.write("seen")
                _, cursor = await texts(told, 1)
            missed = [f"missed {number}" for number in range(2 * PAGE + 7)]
            await one.write(*missed)
            async with one.listen(cursor) as told:
                snapshot = await anext(told)
                assert snapshot.cursor == cursor  # what was missed is still to come
                found, _ = await texts(told, len(missed))
                assert found == missed
                await one.write("live")
                assert (await texts(told, 1))[0] == ["live"]

    trio.run(main)


def test_a_break_in_the_middle_of_a_page_tells_the_page_again(tmp_path: Path) -> None:
    async def main() -> None:
        async with desk(tmp_path) as one:
            async with one.listen() as told:
                cursor = (await anext(told)).cursor
            await one.write("a", "b", "c")
            async with one.listen(cursor) as told:
                await anext(told)
                assert (await anext(told)).cursor == ""
            async with one.listen(cursor) as told:
                await anext(told)
                found, after = await texts(told, 3)
                assert found == ["a", "b", "c"]
            await one.write("d")
            async with one.listen(after) as told:
                await anext(told)
                assert (await texts(told, 1))[0] == ["d"]

    trio.run(main)


def test_who_is_too_slow_is_told_so_and_still_gets_every_post(tmp_path: Path) -> None:
    async def main() -> None:
        async with desk(tmp_path) as one, one.listen() as told:
            await anext(told)
            for number in range(1500):
                one.events.publish(MembersChanged((b"",)))
                if number % 500 == 0:
                    await one.write(f"post {number}")
            names, found = [], []
            while len(found) < 3 or "lagged" not in names or names[-1] != "snapshot":
                event = await anext(told)
                names.append(event.name)
                if isinstance(event.data, Told):
                    found.append(event.data.text)
            assert found == ["post 0", "post 500", "post 1000"]

    trio.run(main)


def test_members_and_spans_are_told_as_they_change(tmp_path: Path) -> None:
    async def main() -> None:
        async with desk(tmp_path) as one, one.listen() as told:
            await anext(told)
            one.events.publish(MembersChanged((b"",)))
            assert [(await anext(told)).name for _ in range(2)] == ["member", "status"]
            span = schema.Span(
                agent="", number="", name="", peer_id="p", model="m", revision="", first=0, last=2
            )
            one.source.served = [span]
            one.events.publish(SpansChanged())
            event = await anext(told)
            assert (event.name, event.data) == ("span", span)

    trio.run(main)


@pytest.mark.parametrize("cursor", ["", "-1", "nonsense", "ffffffff-0", "{name}-99", "{name}-x"])
def test_a_cursor_of_something_else_is_refused(tmp_path: Path, cursor: str) -> None:
    async def main() -> None:
        async with desk(tmp_path) as one:
            async with one.listen() as told:
                name = (await anext(told)).cursor.partition("-")[0]
            with pytest.raises(PermeshError) as refused:
                await Feed(one.store, one.source).position(cursor.format(name=name))
            assert refused.value.code == "events.cursor"
            assert refused.value.http_status == 409

    trio.run(main)
