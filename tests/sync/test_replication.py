"""The driver on real stores: Save, then Emit, once a record, whatever peers do."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import pytest
import trio
import trio.testing

from permesh.errors import PermeshError
from permesh.events import MembersChanged, RecordsSaved
from permesh.p2p import gossip, limits, schedule, sync_messages
from permesh.p2p.replication import GOSSIP_FAULT, severity
from permesh.p2p.sync_messages import Answer, Ids, Records
from permesh.p2p.wire import Framed
from permesh.records import MAX_BODY_BYTES, Record
from permesh.store import Store, Sum
from tests.simulator import Author, CheapRoster
from tests.sync.hub import Hub, Member, in_hub, until


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
                assert await b.store.read(Store.sums) == await a.store.read(Store.sums)
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
            hint = gossip.encode(gossip.NewRecords((), ((a.address, 1),)))
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


# -- hostile peers


def send(member: Member, peer: str, *records: Record) -> None:
    wires = tuple(record.to_wire() for record in records)
    member.replication.on_message(peer, gossip.encode(gossip.NewRecords(wires, ())))


def test_bad_gossip_is_counted_and_good_gossip_goes_on(tmp_path: Path) -> None:
    async def main(hub: Hub) -> None:
        async with hub.member("b") as b:
            author = Author("a")
            credential, note = author.credential(), author.write()
            forged = Record.from_wire([note.header_bytes, bytes(64), note.body])
            b.replication.on_message("evil", b"\xc1garbage")
            b.replication.on_message(
                "evil", gossip.encode(gossip.NewRecords((None, [b"", b"", b""]), ()))
            )
            send(b, "evil", credential, forged, note)
            await b.until_has([credential, note])
            assert b.faults == {
                ("evil", "gossip.format.msgpack"): 1,
                ("evil", "gossip.record.field"): 2,
                ("evil", "gossip.record.signature"): 1,
            }
            assert {severity(code) for _, code in b.faults} == {0}

    run(tmp_path, main)


def test_a_flood_of_gossip_is_dropped_and_sync_is_asked_for(tmp_path: Path) -> None:
    async def main(hub: Hub) -> None:
        async with hub.member("a") as a, hub.member("b") as b:
            records = [await a.credential(), await a.journal.append("test.note", b"text")]
            message = gossip.encode(gossip.NewRecords((), ()))
            hub.connect("a", "b")
            for _ in range(limits.INBOX_MESSAGES * 3):
                b.replication.on_message("a", message)
            await b.until_has(records)

    run(tmp_path, main)


async def scripted(script: list[bytes], stream: Framed, _peer: str) -> None:
    """An answerer that gives these messages, whatever it is asked."""
    try:
        for data in script:
            await stream.receive()
            await stream.send(data)
        await stream.receive()
    except PermeshError:
        pass
    await stream.aclose()


def many(count: int) -> bytes:
    nothing = Sum(0, b"f" * 32)
    return sync_messages.encode(Answer((nothing, Sum(count, b"f" * 32)), ()))


author = Author("hostile")
good = author.credential()
note = author.write()
listed = sync_messages.encode(Ids(1, (note.id,), more=False))


@pytest.mark.parametrize(
    ("script", "code"),
    [
        ([b"\xc1"], "format.msgpack"),
        ([listed], "sync.out_of_turn"),
        ([many(5), listed, sync_messages.encode(Records((good.to_wire(),), 0))], "sync.unasked"),
        ([many(5), listed, sync_messages.encode(Records((), 0))], "sync.withheld"),
        (
            [many(5), listed, sync_messages.encode(Records(([note.header_bytes, b"", b""],), 0))],
            "record.field",
        ),
    ],
)
def test_an_answerer_that_breaks_the_rules_is_counted_and_asked_less(
    tmp_path: Path, script: list[bytes], code: str
) -> None:
    async def main(hub: Hub) -> None:
        async with hub.member("b") as b:
            hub.handlers["evil"] = partial(scripted, script)
            b.replication.on_peer("evil")
            await until(lambda: b.faults)
            assert b.faults == {("evil", code): 1}
            assert severity(code) > 0
            assert await b.store.read(Store.count) == 0
            assert hub.opened["evil"] == 1

    run(tmp_path, main)


def test_a_peer_that_falls_silent_costs_a_deadline_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MESSAGE_S", 0.05)
    monkeypatch.setattr(schedule, "FAILED_MS", 10)

    async def main(hub: Hub) -> None:
        async def silent(_stream: Framed, _peer: str) -> None:
            await trio.sleep_forever()

        async with hub.member("a") as a, hub.member("b") as b:
            records = [await a.credential()]
            for number in range(limits.PULLS):
                hub.handlers[f"silent {number}"] = silent
                b.replication.on_peer(f"silent {number}")
            hub.deaf.add("b")
            b.replication.on_peer("a")  # waits for one of the four that hang
            await b.until_has(records)
            assert not b.faults

    run(tmp_path, main)


def test_a_peer_that_cannot_be_opened_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schedule, "FAILED_MS", 10)

    async def main(hub: Hub) -> None:
        async with hub.member("b") as b:
            b.replication.on_peer("a")
            hub.deaf.add("b")
            await trio.testing.wait_all_tasks_blocked()
            async with hub.member("a") as a:
                await b.until_has([await a.credential()])

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


async def session(member: Member) -> tuple[Framed, trio.Event]:
    """An inbound sync stream of that member, and whether its handler has returned."""
    here, there = trio.testing.memory_stream_pair()
    over = trio.Event()

    async def handle() -> None:
        await member.replication.handle_sync(Framed(there), "evil")
        over.set()

    member.hub.nursery.start_soon(handle)
    return Framed(here), over


@pytest.mark.parametrize("data", [b"\xc1", listed, sync_messages.encode(Records((), 0))])
def test_an_asker_that_breaks_the_rules_is_counted_and_closed(tmp_path: Path, data: bytes) -> None:
    async def main(hub: Hub) -> None:
        async with hub.member("a") as a:
            stream, over = await session(a)
            await stream.send(data)
            with trio.fail_after(5):
                await over.wait()
            assert sum(a.faults.values()) == 1
            with pytest.raises(PermeshError):
                await stream.receive(5)

    run(tmp_path, main)


def test_an_asker_that_says_nothing_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MESSAGE_S", 0.02)

    async def main(hub: Hub) -> None:
        async with hub.member("a") as a:
            _stream, over = await session(a)
            with trio.fail_after(5):
                await over.wait()
            assert not a.faults

    run(tmp_path, main)


def test_one_peer_has_few_sessions_and_not_too_often(tmp_path: Path) -> None:
    async def main(hub: Hub) -> None:
        async with hub.member("a") as a:
            open_ones = [await session(a) for _ in range(limits.SESSIONS_PER_PEER)]
            await trio.testing.wait_all_tasks_blocked()
            _, over = await session(a)
            with trio.fail_after(5):
                await over.wait()
            for stream, closed in open_ones:
                assert not closed.is_set()
                await stream.aclose()
            for _ in range(limits.SESSION_BURST):
                stream, over = await session(a)
                await stream.aclose()
                with trio.fail_after(5):
                    await over.wait()
            assert set(a.faults) == {("evil", "sync.rate")}
            stream, over = await session(a)
            await over.wait()

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


def test_severities_shut_out_who_lies_in_sync_and_nobody_for_gossip() -> None:
    assert severity(GOSSIP_FAULT + "record.signature") == 0
    assert 0 < severity("sync.withheld") < severity("record.signature") <= 100
