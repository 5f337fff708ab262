"""The store from trio: one write after another, and a commit that is never abandoned."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio.testing

from permesh.async_store import AsyncStore
from permesh.errors import PermeshError, Refused
from permesh.p2p.journal import MAX_LEAD_MS, Journal, Signing
from permesh.records import MAX_BODY_BYTES, Record
from permesh.store import Store
from tests.simulator import MESH, START_MS, Author, address, cheap_sign

ME = address("me")


@asynccontextmanager
async def opened(tmp_path: Path) -> AsyncIterator[AsyncStore]:
    store = await AsyncStore.open(tmp_path / "permesh.db")
    try:
        yield store
    finally:
        await store.aclose()


class Clock:
    def __init__(self) -> None:
        self.ms = START_MS

    def __call__(self) -> int:
        return self.ms


def journal_on(
    store: AsyncStore, saved: list[Record], now_ms: Clock | None = None, epoch: int = 1
) -> Journal:
    return Journal(
        store, mesh=MESH, author=ME, signing=Signing(epoch, cheap_sign(ME)),
        now_ms=now_ms or Clock(), on_saved=saved.append,
    )  # fmt: skip


def test_a_read_sees_every_write_that_has_returned(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path) as store:
            author = Author("a")
            for _ in range(5):
                record = author.write()
                assert await store.save([record], 1) == [record]
                assert await store.read(Store.get, record.id) == record

    trio.run(main)


def test_the_reading_connection_cannot_write(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path) as store:
            with pytest.raises(PermeshError):
                await store.read(Store.set_value, "key", b"value")

    trio.run(main)


def test_many_tasks_write_at_once_without_loss(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path) as store:
            author = Author("a")
            records = [author.write() for _ in range(40)]
            new: list[Record] = []

            async def save(batch: list[Record]) -> None:
                new.extend(await store.save(batch, 1))

            async with trio.open_nursery() as nursery:
                for start in range(0, 40, 5):
                    nursery.start_soon(save, records[start : start + 10])
            assert sorted(r.header.seq for r in new) == list(range(40))

    trio.run(main)


def test_a_cancelled_append_is_told_if_it_was_saved(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path) as store:
            saved: list[Record] = []
            journal = journal_on(store, saved)
            for wait in range(30):
                with trio.move_on_after(wait / 10_000):
                    await journal.append("test.note", b"text")
            stored = await store.read(Store.by_author, ME, 0, 100)
            assert stored == saved

    trio.run(main)


def test_a_journal_makes_one_chain_whoever_appends(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path) as store:
            saved: list[Record] = []
            journal = journal_on(store, saved)

            async def append(number: int) -> None:
                record = await journal.append("test.note", b"%d" % number, b"r" * 32)
                assert await store.read(Store.has, record.id)

            async with trio.open_nursery() as nursery:
                for number in range(20):
                    nursery.start_soon(append, number)
            assert [r.header.seq for r in saved] == list(range(20))
            assert [r.header.prev for r in saved] == [b"", *(r.id for r in saved[:-1])]
            times = [r.header.created_ms for r in saved]
            assert times == sorted(set(times))  # ascending, though the clock stood still
            # A journal of the next life goes on where this one stopped.
            again = await journal_on(store, saved).append("test.note", b"again")
            assert (again.header.seq, again.header.prev) == (20, saved[19].id)
            assert await store.read(Store.forks) == []

    trio.run(main)


def test_a_clock_that_was_ahead_does_not_drag_the_chain_along(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path) as store:
            clock = Clock()
            journal = journal_on(store, [], clock)
            clock.ms += 10 * MAX_LEAD_MS
            await journal.append("test.note", b"ahead")
            clock.ms -= 10 * MAX_LEAD_MS
            record = await journal.append("test.note", b"back")
            assert record.header.created_ms == clock.ms

    trio.run(main)


def test_an_epoch_begins_with_its_credential_or_not_at_all(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path) as store:
            saved: list[Record] = []
            journal = journal_on(store, saved)
            new = Signing(2, cheap_sign(ME))
            with pytest.raises(Refused):
                await journal.append("test.note", bytes(MAX_BODY_BYTES + 1), signing=new)
            assert journal.epoch == 1
            await journal.append("identity.credential", b"credential", signing=new)
            await journal.append("test.note", b"text")
            assert [r.header.epoch for r in saved] == [2, 2]

    trio.run(main)


def test_a_full_disk_leaves_the_chain_as_it_was(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path) as store:
            saved: list[Record] = []
            journal = journal_on(store, saved)
            await journal.append("test.note", b"first")

            def fill(writer: Store, spare: int) -> None:
                (pages,) = writer.connection.execute("PRAGMA page_count").fetchone()
                writer.connection.execute(f"PRAGMA max_page_count = {pages + spare}")

            await store.write(fill, 1)
            with pytest.raises(PermeshError, match="full"):
                await journal.append("test.note", bytes(30_000))
            await store.write(fill, 1000)
            record = await journal.append("test.note", b"second")
            assert record.header.seq == 1
            assert [r.body for r in saved] == [b"first", b"second"]

    trio.run(main)
