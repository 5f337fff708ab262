"""Peers that flood what everybody holds, keep others from giving, or ask what is dear to answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio
import trio.testing

from permesh import space_index
from permesh.p2p import limits, schedule
from permesh.p2p.intake import Intake
from permesh.p2p.sync_messages import Answer, Ask, Heads, Held, Newer, Records, Want, decode, encode
from permesh.p2p.wire import Framed
from permesh.records import Record
from permesh.space_index import Run
from permesh.spaces import SPACE_COMMONS, SPACE_IDENTITY, Part
from tests.simulator import START_MS, Author
from tests.sync.hub import Hub, Member, in_hub

from .home import Home


def run(directory: Path, main: Callable[[Hub], Awaitable[None]]) -> None:
    trio.run(in_hub, directory, main)


async def pulls(hub: Hub, member: Member, number: int) -> None:
    """So many pulls from ``a``, one after another."""
    wanted = hub.opened["a"] + number
    with trio.fail_after(10):
        while hub.opened["a"] < wanted:
            member.replication._hint("a")
            await trio.testing.wait_all_tasks_blocked(0.02)


async def counts(member: Member, space: bytes) -> int:
    return (await member.store.read(lambda store: store.spaces.sum(space))).count


@pytest.mark.parametrize(
    ("kind", "space"),
    [
        ("forum.room", SPACE_COMMONS),
        ("identity.owner", SPACE_IDENTITY),
        ("identity.later", SPACE_IDENTITY),
    ],
)
def test_a_flood_of_what_everybody_holds_is_taken_slowly_and_fetched_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, space: bytes
) -> None:
    """What is over waits where it is, and is not carried here at every pull to be dropped again."""
    monkeypatch.setattr(limits, "COMMONS_BURST", 10)
    monkeypatch.setattr(schedule, "HINT_GAP_MS", 5)
    opened: list[bytes] = []
    really = Intake.open

    def counting(self: Intake, wire: list[bytes]) -> Record:
        record = really(self, wire)
        opened.append(record.id)
        return record

    monkeypatch.setattr(Intake, "open", counting)

    async def main(hub: Hub) -> None:
        author = Author("flood")
        async with hub.member("a") as a, hub.member("b") as b:
            hub.deaf.add("b")
            credential = author.credential()
            a.roster.apply(credential)
            flood = [author.write(kind=kind) for _ in range(50)]
            ids = [record.id for record in flood]
            await a.store.save([credential, *flood], START_MS)
            b.replication.on_peer("a")
            await b.until_has([credential])
            with trio.fail_after(10):
                while len(b.replication._put_off.wanted(ids, 0)) > 11:
                    await trio.testing.wait_all_tasks_blocked(0.01)
            await pulls(hub, b, 3)  # one may have been on its way
            carried = len(opened)
            await pulls(hub, b, 3)
            assert len(opened) == carried
            assert await counts(b, space) <= 10 + 1
            assert not b.faults

    run(tmp_path, main)


def test_what_registrars_alone_may_write_is_not_slowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "COMMONS_BURST", 5)

    async def main(hub: Hub) -> None:
        async with hub.member("a") as a, hub.member("b") as b:
            hub.deaf.add("b")
            records = [await a.credential()]
            records += [await a.journal.append("identity.vote", b"%d" % n) for n in range(30)]
            b.replication.on_peer("a")
            await b.until_has(records)

    run(tmp_path, main)


def test_put_off_is_bounded_and_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "PUT_OFF_RECORDS", 3)
    put_off = limits.PutOff()
    ids = [bytes([number]) * 32 for number in range(5)]
    for number, identity in enumerate(ids):
        put_off.add(identity, number)
    assert put_off.wanted(ids, 10) == ids[:2]
    assert put_off.wanted(ids, 3 + int(limits.PUT_OFF_S * 1000)) == ids[:4]


def test_whoever_lists_records_and_sits_on_them_keeps_nobody_from_giving_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "CLAIM_S", 0.05)
    monkeypatch.setattr(schedule, "HINT_GAP_MS", 5)
    asked = trio.Event()

    async def main(hub: Hub) -> None:
        async with hub.member("a") as a, hub.member("b") as b:
            hub.deaf.add("b")
            records = [await a.credential()]
            records += [await a.journal.append("test.note", b"%d" % n) for n in range(5)]
            theirs = await a.store.read(lambda store: store.spaces.sum(SPACE_COMMONS))
            ids = tuple(record.id for record in records[1:])

            async def sitting(stream: Framed, _peer: str) -> None:
                while True:
                    match decode(await stream.receive(60)):
                        case Ask(_, _, spaces):
                            held = (spaces[0], Held(SPACE_COMMONS, 0, theirs))
                            await stream.send(encode(Answer(held, None, ())))
                        case Heads():
                            await stream.send(encode(Newer((Run(a.address, 9, ids),), more=False)))
                        case Want(wanted):
                            wire = records[1].to_wire()
                            await stream.send(encode(Records((wire,), len(wanted) - 1)))
                            asked.set()
                            await trio.sleep_forever()

            hub.handlers["evil"] = sitting
            b.replication.on_peer("evil")
            await asked.wait()
            b.replication.on_peer("a")
            await b.until_has(records)  # long before the other's session ends

    run(tmp_path, main)


def test_one_question_reads_each_day_once_whatever_the_order_of_its_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = Home(tmp_path)
    author, day = Author("a"), START_MS // 86_400_000
    home.save(
        [author.write(created_ms=START_MS + number % 2 * 86_400_000) for number in range(2_000)]
    )
    monkeypatch.setattr(space_index, "CACHED_IDS", 1_500)
    parts = [Part(day + number % 2, "", False) for number in range(64)]
    spaces = home.store.spaces
    once = home.cost(lambda: spaces.contents(SPACE_COMMONS, parts[:2], 4_096))
    often = home.cost(lambda: spaces.contents(SPACE_COMMONS, parts, 4_096))
    assert often <= 2 * once
    assert spaces.contents(SPACE_COMMONS, parts, 4_096) == [
        spaces.tree(SPACE_COMMONS, part.day).content(part, 4_096) for part in parts
    ]
    home.store.close()
