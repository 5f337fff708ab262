"""A member holds the rooms that it follows, what it wrote itself, and what everybody holds."""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio
import trio.testing

from permesh.p2p import gossip, schedule
from permesh.p2p.sessions import PROTOCOL
from permesh.p2p.sync_messages import Answer, Ask, Held, decode, encode
from permesh.records import Record
from permesh.spaces import DAY_MS, NOTHING, SPACE_COMMONS, SPACE_IDENTITY
from permesh.store import Store
from tests.simulator import START_MS, Author
from tests.sync.hub import Hub, Member, in_hub, send, sums, until

ROOM, OTHER_ROOM = b"r" * 32, b"s" * 32
NOTE, POST = "test.note", "forum.post"
TODAY = START_MS // DAY_MS


def run(directory: Path, main: Callable[[Hub], Awaitable[None]]) -> None:
    trio.run(in_hub, directory, main)


async def posts(member: Member, *rooms: bytes, number: int = 3) -> list[Record]:
    return [
        await member.journal.append(POST, b"%d" % n, room) for n in range(number) for room in rooms
    ]


def of(records: list[Record], room: bytes) -> list[Record]:
    return [record for record in records if record.header.room == room]


def lose(directory: Path, name: str) -> None:
    """A member's database is gone."""
    for path in directory.glob(f"{name}.db*"):
        path.unlink()


async def holds_no(member: Member, *rooms: bytes) -> bool:
    spaces = await member.store.read(lambda store: store.spaces.spaces())
    return not set(spaces) & set(rooms)


@pytest.mark.parametrize("deaf", [False, True])
def test_rooms_that_are_not_followed_are_not_held(tmp_path: Path, deaf: bool) -> None:
    """Whether their records come by gossip or might come by sync."""

    async def main(hub: Hub) -> None:
        async with (
            hub.member("a", rooms={ROOM: 0, OTHER_ROOM: 0}) as a,
            hub.member("b", rooms={ROOM: 0}) as b,
        ):
            if deaf:
                hub.deaf.add("b")
            else:
                hub.connect("a", "b")
            records = [await a.credential(), *await posts(a, ROOM, OTHER_ROOM)]
            records.append(await a.journal.append("forum.charter", b"", OTHER_ROOM))
            if deaf:
                hub.connect("a", "b")
            expected = [r for r in records if r not in of(records, OTHER_ROOM)] + records[-1:]
            await b.until_has(expected)
            await trio.testing.wait_all_tasks_blocked(0.05)
            assert set(b.told) == {record.id for record in expected}
            assert await holds_no(b, OTHER_ROOM)
            assert await b.store.read(Store.count) == len(expected)
            assert not a.faults
            assert not b.faults

    run(tmp_path, main)


def test_what_is_not_followed_is_not_asked_for(tmp_path: Path) -> None:
    asked: list[Ask] = []

    async def main(hub: Hub) -> None:
        async with hub.member("a") as a, hub.member("b", rooms={ROOM: 7}) as b:
            handler = hub.handlers["a"]

            async def listening(stream, peer_id):  # type: ignore[no-untyped-def]
                receive = stream.receive

                async def heard(*args: float) -> bytes:
                    data = await receive(*args)
                    message = decode(data)
                    if isinstance(message, Ask):
                        asked.append(message)
                    return bytes(data)

                stream.receive = heard
                await handler(stream, peer_id)

            await posts(b, OTHER_ROOM, number=1)  # its own, of a room that it does not follow
            hub.handlers["a"] = listening
            b.replication.on_peer("a")
            await until(lambda: asked)
            await a.credential()

    run(tmp_path, main)
    spaces = [(held.space, held.from_day) for held in asked[0].spaces]
    assert spaces == [(SPACE_IDENTITY, 0), (SPACE_COMMONS, 0), (ROOM, 7)]


def test_a_member_keeps_what_it_wrote_wherever_that_was(tmp_path: Path) -> None:
    async def main(hub: Hub) -> None:
        async with hub.member("a", rooms={ROOM: 0}) as a:
            hub.connect("a")
            await a.credential()
            own = await posts(a, OTHER_ROOM)
            assert await a.store.read(Store.missing, [r.id for r in own]) == []
        # Its database is lost, and what it wrote there comes by gossip of somebody else.
        lose(tmp_path, "a")
        async with hub.member("a", rooms={ROOM: 0}) as a:
            await a.credential()
            other = Author("x")
            records = [other.credential(), other.write(kind=POST, room=OTHER_ROOM)]
            send(a, "y", *own, *records)
            await a.until_has(own)
            assert not await a.store.read(Store.has, records[1].id)

    run(tmp_path, main)


def test_who_lost_its_database_is_given_its_own_last_record(tmp_path: Path) -> None:
    """Even of a room that it does not follow (yet): its chain must not begin anew."""

    async def main(hub: Hub) -> None:
        async with hub.member("b", rooms={ROOM: 0}) as b:
            async with hub.member("a") as a:
                hub.deaf.add("a")
                credential, *own = [await a.credential(), *await posts(a, ROOM)]
                await b.store.save([credential, *own], START_MS)
                b.roster.apply(credential)
            lose(tmp_path, "a")
            async with hub.member("a") as a:
                await a.store.save([credential], START_MS)
                a.roster.apply(credential)
                a.replication.on_peer("b")
                await a.until_has(own[-1:])
                assert await a.store.read(Store.count) == 2
                head = await a.store.read(Store.head, a.address)
                assert head is not None
                assert (head.seq, head.id) == (3, own[-1].id)
                assert (await a.journal.append(POST, b"next", ROOM)).header.seq == 4
                assert not a.faults

    run(tmp_path, main)


def test_a_room_that_is_followed_from_now_on_is_pulled_at_once(tmp_path: Path) -> None:
    async def main(hub: Hub) -> None:
        async with (
            hub.member("a", rooms={ROOM: 0, OTHER_ROOM: 0}) as a,
            hub.member("b", rooms={ROOM: 0}) as b,
        ):
            hub.deaf.update("ab")
            records = [await a.credential(), *await posts(a, ROOM, OTHER_ROOM)]
            hub.connect("a", "b")
            await b.until_has([records[0], *of(records, ROOM)])
            await trio.testing.wait_all_tasks_blocked(0.02)
            opened = hub.opened["a"]
            b.rooms[OTHER_ROOM] = 0
            await b.replication.refresh_rooms()
            await b.until_has(records)  # within ten seconds; the timer takes twenty-two and more
            assert hub.opened["a"] == opened + 1
            assert await b.store.read(sums) == await a.store.read(sums)
            # A room that is no longer followed is asked for no more, and nothing is pulled for it.
            del b.rooms[OTHER_ROOM]
            await b.replication.refresh_rooms()
            await posts(a, OTHER_ROOM)
            last = await a.journal.append(NOTE, b"last")
            hub.deaf.clear()
            send(b, "a", last)
            await b.until_has([last])
            await trio.testing.wait_all_tasks_blocked(0.02)
            assert await b.store.read(Store.count) == len(records) + 1

    run(tmp_path, main)


def test_a_room_is_followed_as_soon_as_it_is_known(tmp_path: Path) -> None:
    """Its first posts come in the same batch: the commons are kept first, and say what it is."""

    async def main(hub: Hub) -> None:
        async with hub.member("a") as a, hub.member("b") as b:
            for member in (a, b):
                member.read_rooms = every_room
            hub.deaf.add("b")
            credential = await a.credential()
            room = await a.journal.append("forum.room", b"harbour")
            records = [credential, room, *await posts(a, room.id, number=5)]
            await a.replication.refresh_rooms()
            send(b, "a", credential, *records[:1:-1], room)
            await b.until_has(records)
            async with hub.member("c") as c:
                hub.deaf.add("c")
                c.read_rooms = every_room
                c.replication.on_peer("a")
                await c.until_has(records)
                assert not c.faults

    run(tmp_path, main)


def every_room(connection: sqlite3.Connection) -> dict[bytes, int]:
    return {row[0]: 0 for row in connection.execute("SELECT id FROM records WHERE kind = ?", ROOMS)}


ROOMS = ("forum.room",)


def test_posts_of_days_that_are_not_kept_are_not_taken_in(tmp_path: Path) -> None:
    async def main(hub: Hub) -> None:
        async with (
            hub.member("a", rooms={ROOM: 0}) as a,
            hub.member("b", rooms={ROOM: TODAY - 2}) as b,
        ):
            author = Author("x")
            credential = author.credential()
            old = [
                author.write(kind=POST, room=ROOM, created_ms=START_MS - n * DAY_MS) for n in (9, 3)
            ]
            new = [
                author.write(kind=POST, room=ROOM, created_ms=START_MS - n * DAY_MS) for n in (2, 0)
            ]
            noted = author.write(created_ms=START_MS - 9 * DAY_MS)  # of the commons: kept
            send(a, "x", credential, *old, *new, noted)
            await a.until_has([credential, *old, *new, noted])
            send(b, "x", credential, *old, new[0])
            await b.until_has([credential, new[0]])
            b.replication.on_peer("a")
            await b.until_has([new[1], noted])
            assert await b.store.read(Store.missing, [r.id for r in old]) == [r.id for r in old]
            # The other way round nothing is told of them either, and nothing is blamed.
            a.replication.on_peer("b")
            b.replication.on_peer("a")
            await trio.testing.wait_all_tasks_blocked(0.02)
            assert await b.store.read(Store.missing, [r.id for r in old]) == [r.id for r in old]
            assert not a.faults
            assert not b.faults

    run(tmp_path, main)


def test_gossip_of_rooms_that_are_not_followed_brings_no_pull(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schedule, "HINT_DELAY_MS", 5)
    monkeypatch.setattr(schedule, "HINT_GAP_MS", 5)

    async def main(hub: Hub) -> None:
        async with hub.member("a") as a, hub.member("b", rooms={ROOM: 0}) as b:
            credential = await a.credential()
            hub.connect("a", "b")
            await b.until_has([credential])
            await trio.testing.wait_all_tasks_blocked(0.05)
            opened = hub.opened["a"]
            author = Author("x")
            records = [author.credential()]
            records += [author.write(kind=POST, room=OTHER_ROOM) for _ in range(3)]
            send(b, "a", records[0], records[3])  # two are missing before it, in that room
            heads = ((OTHER_ROOM, author.address, 9),)
            b.replication.on_message("a", gossip.encode(gossip.NewRecords((), heads)))
            await b.until_has(records[:1])
            await trio.testing.wait_all_tasks_blocked(0.05)
            assert hub.opened["a"] == opened
            told = ((ROOM, author.address, 9),)
            b.replication.on_message("a", gossip.encode(gossip.NewRecords((), told)))
            await until(lambda: hub.opened["a"] > opened)

    run(tmp_path, main)


def test_only_what_is_held_is_answered_for(tmp_path: Path) -> None:
    async def main(hub: Hub) -> None:
        async with hub.member("a", rooms={ROOM: TODAY - 5}) as a:
            await a.credential()
            await posts(a, ROOM, OTHER_ROOM)
            other = await a.open("a", PROTOCOL, 1.0)
            spaces = (
                Held(OTHER_ROOM, 0, NOTHING), Held(ROOM, TODAY - 9, NOTHING),
                Held(ROOM, TODAY - 1, NOTHING), Held(SPACE_IDENTITY, 3, NOTHING),
            )  # fmt: skip
            await other.send(encode(Ask(b"e" * 20, 0, spaces)))
            answer = decode(await other.receive())
            assert isinstance(answer, Answer)
            assert answer.own is None
            found = [held and (held.space, held.from_day, held.sum.count) for held in answer.spaces]
            assert found == [None, (ROOM, TODAY - 5, 3), (ROOM, TODAY - 1, 3), (b"\x00", 3, 1)]

    run(tmp_path, main)


def test_what_is_pinned_comes_however_old_and_nobody_is_blamed_for_lacking_it(
    tmp_path: Path,
) -> None:
    async def main(hub: Hub) -> None:
        async with (
            hub.member("a", rooms={ROOM: 0}) as a,
            hub.member("b", rooms={ROOM: TODAY + 1}) as b,  # nothing that is as old as this
        ):
            records = [await a.credential(), *await posts(a, ROOM)]
            b.pinned[ROOM] = (records[2].id, b"n" * 32)  # one that nobody has
            hub.connect("a", "b")
            await b.until_has([records[0], records[2]])
            await trio.testing.wait_all_tasks_blocked(0.05)
            assert await b.store.read(Store.count) == 2
            assert not b.faults
            assert not a.faults

    run(tmp_path, main)


def test_a_room_that_one_makes_is_followed_at_once(tmp_path: Path) -> None:
    """The view says so once the room's record is saved; nobody else tells."""

    async def main(hub: Hub) -> None:
        async with hub.member("a") as a, hub.member("b", rooms={ROOM: 0}) as b:
            hub.connect("a", "b")
            await a.credential()
            credential = await b.credential()
            await a.until_has([credential])
            a.rooms[ROOM] = 0
            await a.journal.append("forum.room", b"")
            answers = await posts(b, ROOM)
            await a.until_has(answers)

    run(tmp_path, main)
