"""Peers that break the rules of sync and gossip: counted, bounded, and nobody else's trouble."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from pathlib import Path

import pytest
import trio
import trio.testing

from permesh.errors import PermeshError
from permesh.p2p import gossip, limits, schedule
from permesh.p2p.replication import GOSSIP_FAULT, severity
from permesh.p2p.sync_messages import (
    Answer,
    Ask,
    Contents,
    Days,
    Differing,
    Heads,
    Held,
    Lack,
    Message,
    Newer,
    Parts,
    Records,
    Want,
    decode,
    encode,
)
from permesh.p2p.wire import Framed
from permesh.records import MAX_UINT, Record
from permesh.space_index import Run
from permesh.spaces import NOTHING, SPACE_COMMONS, SPACE_IDENTITY, DayIndex, Sum
from permesh.store import Store
from tests.simulator import Author
from tests.sync.conversation import TODAY
from tests.sync.hub import Hub, in_hub, send, until


def run(directory: Path, main: Callable[[Hub], Awaitable[None]]) -> None:
    trio.run(in_hub, directory, main)


# -- gossip ----------------------------------------------------------------------------------------


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


def test_severities_shut_out_who_lies_in_sync_and_nobody_for_gossip() -> None:
    assert severity(GOSSIP_FAULT + "record.signature") == 0
    assert 0 < severity("sync.withheld") < severity("record.signature") <= 100
    assert 0 < severity("sync.fruitless") < severity("sync.wrong_answer") <= 100


# -- those who answer ------------------------------------------------------------------------------


def claims(*counts: int) -> Message:
    """An answer about identity and the commons: so many records, and not the asker's."""
    spaces = tuple(
        Held(bytes([space]), 0, Sum(count, b"f" * 16) if count else NOTHING)
        for space, count in enumerate(counts)
    )
    return Answer(spaces, None, ())


def listing(*records: Record) -> Message:
    author, seq = records[0].header.author, records[-1].header.seq
    return Newer((Run(author, seq, tuple(record.id for record in records)),), more=False)


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


async def inventive(
    answer: Callable[[Message], Iterable[Message]], stream: Framed, _peer: str
) -> None:
    """An answerer that makes something up for each question."""
    try:
        while True:
            for message in answer(decode(await stream.receive())):
                await stream.send(encode(message))
    except PermeshError:
        pass
    await stream.aclose()


author = Author("hostile")
good = author.credential()
note = author.write()
other = author.write()


@pytest.mark.parametrize(
    ("script", "code"),
    [
        ([b"\xc1"], "format.msgpack"),
        ([listing(note)], "sync.out_of_turn"),
        ([claims(5)], "sync.wrong_answer"),
        ([claims(0, 5), listing(note), Records((good.to_wire(),), 0)], "sync.unasked"),
        ([claims(0, 5), listing(note), Records((), 1)], "sync.no_progress"),
        ([claims(0, 1), listing(note), Records(([note.header_bytes, b"", b""],), 0)],
         "record.field"),
        ([claims(0, 1), listing(note), Records(([note.header_bytes, note.signature, None],), 0)],
         "record.body_missing"),
        ([claims(0, 5), Newer((), more=True)], "sync.endless"),
        ([claims(0, 5), Newer((), more=False), Differing(((TODAY, Sum(5, b"f" * 16)),)),
          Contents(())], "sync.wrong_answer"),
        ([claims(0, 5), Newer((), more=False), Differing(((TODAY, Sum(5, b"f" * 16)),)),
          Contents(((NOTHING,) * 16,))], "sync.wrong_answer"),
    ],
)  # fmt: skip
def test_an_answerer_that_breaks_the_rules_is_counted_and_asked_less(
    tmp_path: Path, script: list[bytes | Message], code: str
) -> None:
    async def main(hub: Hub) -> None:
        async with hub.member("b") as b:
            data = [item if isinstance(item, bytes) else encode(item) for item in script]
            hub.handlers["evil"] = partial(scripted, data)
            b.replication.on_peer("evil")
            await until(lambda: b.faults)
            assert b.faults == {("evil", code): 1}
            assert severity(code) > 0
            assert await b.store.read(Store.count) == 0
            assert hub.opened["evil"] == 1

    run(tmp_path, main)


def test_records_that_are_listed_and_not_given_are_counted(tmp_path: Path) -> None:
    def answer(asked: Message) -> Iterable[Message]:
        match asked:
            case Ask():
                yield claims(0, 5)
            case Heads():
                yield listing(note)
            case Want():
                yield Records((), 0)
            case Days():
                yield Differing(())

    async def main(hub: Hub) -> None:
        async with hub.member("b") as b:
            hub.handlers["evil"] = partial(inventive, answer)
            b.replication.on_peer("evil")
            await until(lambda: b.faults)
            assert b.faults == {("evil", "sync.withheld"): 1}

    run(tmp_path, main)


def numbered(number: int) -> bytes:
    return number.to_bytes(32, "big")


def endless_pages(asked: Message) -> Iterable[Message]:
    """More and more of one author's ids, and none of the records."""
    match asked:
        case Ask():
            yield claims(0, MAX_UINT)
        case Heads(_, _, heads):
            seq = 1 + max((seq for _, seq in heads), default=0)
            ids = tuple(numbered(seq * limits.PAGE_IDS + n) for n in range(limits.PAGE_IDS))
            yield Newer((Run(b"a" * 20, seq, ids),), more=True)
        case Want():
            yield Records((), 0)


def endless_parts(asked: Message) -> Iterable[Message]:
    """Every part has other sums than the asker's, down to the last digit."""
    match asked:
        case Ask():
            yield claims(0, MAX_UINT)
        case Heads():
            yield Newer((), more=False)
        case Days():
            yield Differing(((TODAY, Sum(MAX_UINT, b"d" * 16)),))
        case Parts(_, parts):
            sixteen = (Sum(MAX_UINT, b"p" * 16),) * 16
            yield Contents(tuple(() if part.listed else sixteen for part in parts))


def endless_ids(asked: Message) -> Iterable[Message]:
    """Full of ids that nobody ever saw, wherever it is asked."""
    match asked:
        case Parts(_, parts):
            part = parts[0]
            first = int(part.path.ljust(64, "0"), 16)
            ids = tuple(numbered(first + n) for n in range(limits.PAGE_IDS - 1))
            yield Contents((ids, *[()] * (len(parts) - 1)))
        case Want():
            yield Records((), 0)
        case Days(_, from_day, to_day):
            days = range(max(from_day, TODAY - limits.DAYS + 1), min(to_day, TODAY) + 1)
            yield Differing(tuple((day, Sum(limits.PAGE_IDS - 1, b"d" * 16)) for day in days))
        case _:
            yield from endless_parts(asked)


@pytest.mark.parametrize(
    ("answer", "code", "rounds"),
    [
        # After the first page of ids of which no record comes.
        (endless_pages, "sync.withheld", 3 * limits.PAGE_IDS // limits.WANT_IDS),
        # Of two spaces; sixteen sums weigh as much as nine ids.
        (endless_parts, "sync.fruitless",
         2 * (10 + limits.PARTS_IN_SPACE // (limits.PAGE_IDS // 9))),
        (endless_ids, "sync.withheld", 3 * limits.PAGE_IDS // limits.WANT_IDS),
    ],
)  # fmt: skip
def test_an_answerer_without_end_is_left_after_a_bounded_number_of_rounds(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    answer: Callable[[Message], Iterable[Message]],
    code: str,
    rounds: int,
) -> None:
    """And a good member is pulled from at the same time."""
    monkeypatch.setattr(schedule, "HINT_GAP_MS", 5)
    questions: list[Message] = []

    def counted(asked: Message) -> Iterable[Message]:
        if isinstance(asked, Ask):
            questions.clear()
        questions.append(asked)
        return answer(asked)

    async def main(hub: Hub) -> None:
        async with hub.member("a") as a, hub.member("b") as b:
            hub.deaf.add("b")
            records = [await a.credential(), await a.journal.append("test.note", b"good")]
            hub.handlers["evil"] = partial(inventive, counted)
            b.replication.on_peer("evil")
            b.replication.on_peer("a")
            await b.until_has(records)
            with trio.fail_after(60):
                while not b.faults:
                    b.replication.on_message("evil", encode_hint())
                    await trio.testing.wait_all_tasks_blocked(0.02)
            assert set(b.faults) == {("evil", code)}
            assert len(questions) <= rounds

    run(tmp_path, main)


def encode_hint() -> bytes:
    """Gossip that tells of a record that nobody has."""
    return gossip.encode(gossip.NewRecords((), ((SPACE_COMMONS, b"a" * 20, MAX_UINT),)))


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_sums_that_lie_are_found_out(tmp_path: Path, depth: int) -> None:
    """Those of the space, of its day, or of a part of that."""

    async def main(hub: Hub) -> None:
        async with hub.member("b") as b:
            own = DayIndex([(await b.credential()).id])
            lie = Sum(MAX_UINT if depth == 2 else 1, b"d" * 16)

            def answer(asked: Message) -> Iterable[Message]:
                match asked:
                    case Ask(_, _, spaces):
                        yield Answer((Held(SPACE_IDENTITY, 0, lie), spaces[1]), None, ())
                    case Heads():
                        yield Newer((), more=False)
                    case Days(_, _, _, days):
                        yield Differing(tuple((day, lie) for day, _ in days) if depth else ())
                    case Lack():
                        yield Want(())
                    case Parts(_, parts):
                        yield Contents((own.children("") if depth == 2 else (),) * len(parts))

            hub.handlers["evil"] = partial(inventive, answer)
            b.replication.on_peer("evil")
            await until(lambda: b.faults)
            assert b.faults == {("evil", "sync.fruitless"): 1}
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
