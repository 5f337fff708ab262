"""The driver on real stores: Save, then Emit, once a record, whatever peers do."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio
import trio.testing

from permesh.events import MembersChanged, RecordsSaved
from permesh.p2p import gossip, limits, schedule
from permesh.records import MAX_BODY_BYTES
from permesh.spaces import SPACE_COMMONS
from permesh.store import Store
from tests.simulator import Author, CheapRoster
from tests.sync.hub import Hub, in_hub, send, sums, until


def run(directory: Path, main: Callable[[Hub], Awaitable[None]]) -> None:
    trio.run(in_hub, directory, main)


def test_a_post_reaches_the_others_by_gossip_and_is_told_once(tmp_path: Path) -> None:
    async def main(hub: Hub) -> None:
        async with hub.member("a") as a, hub.member("b") as b:
            hub.connect("a", "b")
            records = [await a.credential(), await a.journal.append("test.note", b"hello")]
            await b.until_has(records)
            await a.until_has(records)
            assert a.told == b.told == {record.id: 1 for record in records}
            assert not a.faults
            assert not b.faults

    run(tmp_path, main)


def test_a_burst_of_500_is_neither_lost_nor_told_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "GOSSIP_SPACING_MS", 50)

    async def main(hub: Hub) -> None:
        async with hub.member("a") as a, hub.member("b") as b, hub.member("c") as c:
            hub.connect("a", "b", "c")
            records = [await a.credential()]
            for number in range(500):
                records.append(await a.journal.append("test.note", b"%d" % number))
            for member in (b, c):
                await member.until_has(records)
                assert member.told == {record.id: 1 for record in records}
                assert await member.store.read(Store.forks) == []
            assert len(a.published) < 100

    run(tmp_path, main)


def test_who_connects_pulls_what_it_missed(tmp_path: Path) -> None:
    async def main(hub: Hub) -> None:
        async with hub.member("a") as a:
            records = [await a.credential()]
            for _ in range(40):
                records.append(await a.journal.append("test.note", bytes(MAX_BODY_BYTES)))
            async with hub.member("b") as b:
                hub.connect("a", "b")
                await b.until_has(records)
                assert b.told == {record.id: 1 for record in records}
                assert await b.store.read(sums) == await a.store.read(sums)
            async with hub.member("b") as b:  # and after a restart it knows whom to believe
                record = await a.journal.append("test.note", b"new")
                await b.until_has([record])
                assert set(b.told) == {record.id}

    run(tmp_path, main)


def test_a_gap_in_gossip_is_pulled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedule, "HINT_DELAY_MS", 5)
    monkeypatch.setattr(schedule, "HINT_GAP_MS", 5)

    async def main(hub: Hub) -> None:
        async with hub.member("a") as a, hub.member("b") as b:
            records = [await a.credential()]
            hub.connect("a", "b")
            await b.until_has(records)
            hub.deaf.add("b")
            records.append(await a.journal.append("test.note", b"unheard"))
            await until(lambda: len(a.published) == 2)
            hub.deaf.clear()
            records.append(await a.journal.append("test.note", b"heard"))
            await b.until_has(records)
            assert b.told == {record.id: 1 for record in records}

    run(tmp_path, main)


def test_heads_alone_bring_a_pull(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedule, "HINT_DELAY_MS", 5)
    monkeypatch.setattr(schedule, "HINT_GAP_MS", 5)

    async def main(hub: Hub) -> None:
        async with hub.member("a") as a, hub.member("b") as b:
            records = [await a.credential()]
            hub.connect("a", "b")
            await b.until_has(records)
            hub.deaf.add("b")
            records.append(await a.journal.append("test.note", b"unheard"))
            hint = gossip.encode(gossip.NewRecords((), ((SPACE_COMMONS, a.address, 1),)))
            b.replication.on_message("a", hint)
            await b.until_has(records)

    run(tmp_path, main)


def test_a_message_that_cannot_be_published_does_not_end_gossip(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "GOSSIP_SPACING_MS", 5)

    async def main(hub: Hub) -> None:
        async with hub.member("a") as a, hub.member("b") as b:
            publish = a.publish

            async def broken(_data: bytes) -> None:
                await trio.lowlevel.checkpoint()
                a.publish = publish  # type: ignore[method-assign]
                raise RuntimeError("from inside the library")

            a.publish = broken  # type: ignore[method-assign]
            await a.credential()
            await until(lambda: a.publish == publish)
            b.replication.on_peer("a")
            await a.journal.append("test.note", b"next")
            await until(lambda: len(b.told) == 2)

    run(tmp_path, main)


def test_records_wait_for_a_credential_that_comes_after_them(tmp_path: Path) -> None:
    async def main(hub: Hub) -> None:
        async with hub.member("b") as b:
            author = Author("a")
            credential, *notes = [author.credential(), author.write(), author.write()]
            send(b, "x", *notes)
            send(b, "x", credential)
            await b.until_has([credential, *notes])
            assert b.told == {record.id: 1 for record in (credential, *notes)}
            assert not b.faults

    run(tmp_path, main)


def test_records_wait_for_a_credential_that_comes_by_a_hello(tmp_path: Path) -> None:
    async def main(hub: Hub) -> None:
        roster = CheapRoster()
        async with hub.member("b", roster) as b:
            author = Author("a")
            credential, note = author.credential(), author.write()
            send(b, "x", note)
            await trio.testing.wait_all_tasks_blocked()
            roster.apply(credential)
            while not await b.store.read(Store.has, note.id):
                b.replication.roster_changed()

    run(tmp_path, main)


def test_events_name_the_record_and_the_members_it_is_about(tmp_path: Path) -> None:
    async def main(hub: Hub) -> None:
        async with hub.member("a") as a:
            record = await a.credential()
            assert await anext(a.heard) == RecordsSaved((record,), own=True)
            assert await anext(a.heard) == MembersChanged((a.address,))
            author = Author("x")
            credential = author.credential()
            send(a, "peer", credential)
            assert await anext(a.heard) == RecordsSaved((credential,), own=False)

    run(tmp_path, main)


def test_offers_travel_by_sync_and_by_gossip(tmp_path: Path) -> None:
    async def main(hub: Hub) -> None:
        async with hub.member("a") as a, hub.member("b") as b:
            a.offers = [b"by sync", b"x" * (limits.OFFER_BYTES + 1), b""]
            hub.connect("a", "b")
            await until(lambda: b.offered)
            assert b.offered == [("a", b"by sync")]
            a.offers = [b"by gossip"]
            a.replication.publish_offers()
            await until(lambda: len(b.offered) == 2)
            assert b.offered[1] == ("a", b"by gossip")
            assert a.offered == []

    run(tmp_path, main)


def test_a_full_disk_loses_nothing_that_sync_cannot_bring(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schedule, "FAILED_MS", 20)

    def fill(store: Store, spare: int) -> None:
        (pages,) = store.connection.execute("PRAGMA page_count").fetchone()
        store.connection.execute(f"PRAGMA max_page_count = {pages + spare}")

    async def main(hub: Hub) -> None:
        async with hub.member("a") as a, hub.member("b") as b:
            records = [await a.credential()]
            for _ in range(20):
                records.append(await a.journal.append("test.note", bytes(20_000)))
            await b.store.write(fill, 2)
            send(b, "a", *records[:3])
            hub.connect("a", "b")
            await until(lambda: hub.opened["a"] >= 2)  # it failed, and tried again
            await b.store.write(fill, 10_000)
            await b.until_has(records)
            assert b.told == {record.id: 1 for record in records}
            assert not b.faults

    run(tmp_path, main)


def test_two_pulls_do_not_fetch_the_same_records(tmp_path: Path) -> None:
    async def main(hub: Hub) -> None:
        async with hub.member("a") as a, hub.member("b") as b, hub.member("c") as c:
            hub.deaf.update("bc")
            records = [await a.credential()]
            for _ in range(30):
                records.append(await a.journal.append("test.note", bytes(20_000)))
            b.replication.on_peer("a")
            await b.until_has(records)
            fetched = 0
            wires = Store.wires

            def counting(store: Store, ids: list[bytes], size: int) -> tuple[list[object], int]:
                nonlocal fetched
                result = wires(store, ids, size)
                fetched += len(result[0])
                return result

            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(Store, "wires", counting)
                c.replication.on_peer("a")
                c.replication.on_peer("b")
                await c.until_has(records)
            assert fetched == len(records)

    run(tmp_path, main)


def test_checking_a_large_batch_leaves_the_loop_to_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "SLICE_S", 0.0)

    async def main(hub: Hub) -> None:
        async with hub.member("b") as b:
            writer = Author("w")
            batch = [writer.credential(), *(writer.write() for _ in range(63))]
            turns = 0

            async def other() -> None:
                nonlocal turns
                while True:
                    turns += 1
                    await trio.lowlevel.checkpoint()

            async with trio.open_nursery() as nursery:
                nursery.start_soon(other)
                send(b, "x", *batch)
                await b.until_has(batch)
                nursery.cancel_scope.cancel()
            # Once for each record on opening it, and once on judging it, at least.
            assert turns >= 2 * len(batch)

    run(tmp_path, main)
