"""The store from trio: one write after another, and a commit that is never abandoned."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio.testing

from permesh import async_store
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


@asynccontextmanager
async def busy(store: AsyncStore) -> AsyncIterator[None]:
    """The writer's thread is held up until the block is left and all tasks have got in line."""
    held, go = threading.Event(), threading.Event()

    def hold(_store: Store) -> None:
        held.set()
        go.wait(10)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(store.write, hold)
        await trio.to_thread.run_sync(held.wait)
        try:
            yield
            await trio.testing.wait_all_tasks_blocked()
        finally:
            go.set()


def test_saves_that_wait_go_to_the_disk_together_and_each_is_told_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with opened(tmp_path) as store:
            records = [Author("a").write(), *(Author(name).write() for name in "bcd")]
            told: dict[int, list[Record]] = {}
            commits: list[int] = []
            really = Store.save

            def save(self: Store, batch: Iterable[Record], now_ms: int) -> list[Record]:
                new = really(self, batch, now_ms)
                commits.append(len(new))
                return new

            async def ask(number: int, batch: list[Record]) -> None:
                told[number] = await store.save(batch, 1)

            monkeypatch.setattr(Store, "save", save)
            async with trio.open_nursery() as nursery, busy(store):
                for number, batch in enumerate(
                    ([records[0]], [records[1], records[2]], [records[1]], [records[3]])
                ):
                    nursery.start_soon(ask, number, batch)
                    await trio.testing.wait_all_tasks_blocked()
            assert commits == [4]
            assert told == {
                0: [records[0]], 1: [records[1], records[2]], 2: [], 3: [records[3]]
            }  # fmt: skip

    trio.run(main)


def test_no_commit_holds_up_other_writes_for_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        monkeypatch.setattr(async_store, "SAVED_AT_ONCE", 2)
        async with opened(tmp_path) as store:
            sizes: list[int] = []
            really = Store.save

            def save(self: Store, batch: Iterable[Record], now_ms: int) -> list[Record]:
                new = really(self, batch, now_ms)
                sizes.append(len(new))
                return new

            monkeypatch.setattr(Store, "save", save)
            async with trio.open_nursery() as nursery, busy(store):
                for name in "abcde":
                    nursery.start_soon(store.save, [Author(name).write()], 1)
            assert sum(sizes) == 5
            assert max(sizes) == 2

    trio.run(main)


def test_a_save_that_fails_takes_no_other_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with opened(tmp_path) as store:
            good, bad = Author("a").write(), Author("b").write()
            told: list[object] = []
            really = Store.save

            def save(self: Store, batch: Iterable[Record], now_ms: int) -> list[Record]:
                batch = list(batch)
                if bad in batch:
                    raise PermeshError("store.full", "The disk is full.")
                return really(self, batch, now_ms)

            async def ask(record: Record) -> None:
                try:
                    told.append(await store.save([record], 1))
                except PermeshError as error:
                    told.append(error.code)

            monkeypatch.setattr(Store, "save", save)
            async with trio.open_nursery() as nursery, busy(store):
                nursery.start_soon(ask, good)
                nursery.start_soon(ask, bad)
            assert [good] in told
            assert "store.full" in told
            assert store._writer.has(good.id)

    trio.run(main)


@pytest.mark.parametrize("first", [True, False])
def test_who_is_cancelled_saves_nothing_or_is_told_what_was_saved(
    tmp_path: Path, first: bool
) -> None:
    async def main() -> None:
        async with opened(tmp_path) as store:
            mine, other = Author("a").write(), Author("b").write()
            told: list[Record] = []
            scope = trio.CancelScope()

            async def cancelled() -> None:
                with scope:
                    told.extend(await store.save([mine], 1))

            async with trio.open_nursery() as nursery, busy(store):
                if first:
                    nursery.start_soon(cancelled)
                    await trio.testing.wait_all_tasks_blocked()
                nursery.start_soon(store.save, [other], 1)
                await trio.testing.wait_all_tasks_blocked()
                if not first:
                    nursery.start_soon(cancelled)
                    await trio.testing.wait_all_tasks_blocked()
                scope.cancel()
            assert (mine in told) == store._writer.has(mine.id)
            assert store._writer.has(other.id)

    trio.run(main)


def test_who_is_cancelled_while_another_saves_its_records_is_told_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with opened(tmp_path) as store:
            mine, other = Author("a").write(), Author("b").write()
            told: list[Record] = []
            scope = trio.CancelScope()
            saving, go = threading.Event(), threading.Event()
            really = Store.save

            def save(self: Store, batch: Iterable[Record], now_ms: int) -> list[Record]:
                saving.set()
                go.wait(10)
                return really(self, batch, now_ms)

            async def cancelled() -> None:
                with scope:
                    told.extend(await store.save([mine], 1))

            monkeypatch.setattr(Store, "save", save)
            async with trio.open_nursery() as nursery:
                async with busy(store):
                    nursery.start_soon(store.save, [other], 1)
                    await trio.testing.wait_all_tasks_blocked()
                    nursery.start_soon(cancelled)
                    await trio.testing.wait_all_tasks_blocked()
                await trio.to_thread.run_sync(saving.wait)
                scope.cancel()
                await trio.testing.wait_all_tasks_blocked()
                go.set()
            assert told == [mine]

    trio.run(main)
