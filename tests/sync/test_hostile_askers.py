"""Peers that ask what they may not, or give what was not wanted: counted, bounded and closed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio
import trio.testing

from permesh.errors import PermeshError
from permesh.p2p import limits
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
from permesh.records import MAX_UINT
from permesh.space_index import Run
from permesh.spaces import NOTHING, SPACE_COMMONS, Part, Sum
from permesh.store import Store
from tests.simulator import Author
from tests.sync.hub import Hub, Member, in_hub, send, sums, until

author = Author("hostile")
good = author.credential()
note = author.write()
other = author.write()
listing = Newer((Run(author.address, 1, (note.id,)),), more=False)


def run(directory: Path, main: Callable[[Hub], Awaitable[None]]) -> None:
    trio.run(in_hub, directory, main)


def numbered(number: int) -> bytes:
    return number.to_bytes(32, "big")


async def session(member: Member) -> tuple[Framed, trio.Event]:
    """An inbound sync stream of that member, and whether its handler has returned."""
    here, there = trio.testing.memory_stream_pair()
    over = trio.Event()

    async def handle() -> None:
        await member.replication.handle_sync(Framed(there), "evil")
        over.set()

    member.hub.nursery.start_soon(handle)
    return Framed(here), over


async def opened(member: Member, *spaces: Held) -> Framed:
    """A session in which the member has answered what it holds."""
    stream, _ = await session(member)
    await stream.send(encode(Ask(b"e" * 20, 0, spaces)))
    assert isinstance(decode(await stream.receive()), Answer)
    return stream


async def read_all(stream: Framed) -> None:
    while True:
        await stream.receive(5)


@pytest.mark.parametrize(
    "messages",
    [
        [b"\xc1"],
        [listing],
        [Records((note.to_wire(),), 0)],
        [Want((note.id,))],
        [Lack(SPACE_COMMONS, (note.id,))],
        [Ask(b"e" * 20, 0, ()), Ask(b"e" * 20, 0, ())],
        [Ask(b"e" * 20, 0, ()), Records((note.to_wire(),), 0)],
        [Ask(b"e" * 20, 0, ()), Want(())],
        [Ask(b"e" * 20, 0, ()), Lack(SPACE_COMMONS, (note.id,)), Want((note.id,))],
        [Ask(b"e" * 20, 0, ()), Lack(SPACE_COMMONS, (note.id,)), Records((other.to_wire(),), 0)],
    ],
)
def test_an_asker_that_breaks_the_rules_is_counted_and_closed(
    tmp_path: Path, messages: list[bytes | Message]
) -> None:
    async def main(hub: Hub) -> None:
        async with hub.member("a") as a:
            stream, over = await session(a)
            for message in messages:
                await stream.send(message if isinstance(message, bytes) else encode(message))
            with trio.fail_after(5):
                await over.wait()
            assert sum(a.faults.values()) == 1
            assert await a.store.read(Store.count) == 0
            with pytest.raises(PermeshError):
                await read_all(stream)

    run(tmp_path, main)


def test_what_an_asker_tells_of_and_does_not_give_is_counted(tmp_path: Path) -> None:
    async def main(hub: Hub) -> None:
        async with hub.member("a") as a:
            stream = await opened(a)
            await stream.send(encode(Lack(SPACE_COMMONS, (note.id,))))
            assert decode(await stream.receive()) == Want((note.id,))
            await stream.send(encode(Records((), 0)))
            assert decode(await stream.receive()) == Want(())
            await stream.aclose()
            await until(lambda: a.faults)
            assert a.faults == {("evil", "sync.withheld"): 1}

    run(tmp_path, main)


def test_an_asker_that_tells_much_and_gives_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "WITHHELD", 3)
    monkeypatch.setattr(limits, "WANT_IDS", 2)

    async def main(hub: Hub) -> None:
        async with hub.member("a") as a:
            stream = await opened(a)
            await stream.send(encode(Lack(SPACE_COMMONS, tuple(map(numbered, range(9))))))
            for _ in range(2):
                assert isinstance(decode(await stream.receive()), Want)
                await stream.send(encode(Records((), 0)))
            with pytest.raises(PermeshError):
                await stream.receive(5)
            assert a.faults == {("evil", "sync.withheld"): 1}

    run(tmp_path, main)


def test_what_an_asker_gives_is_checked_like_anything_else(tmp_path: Path) -> None:
    async def main(hub: Hub) -> None:
        async with hub.member("a") as a:
            send(a, "x", good)
            await a.until_has([good])
            stream = await opened(a)
            forged = [note.header_bytes, bytes(64), note.body]
            await stream.send(encode(Lack(SPACE_COMMONS, tuple(sorted((note.id, other.id))))))
            await stream.receive()
            await stream.send(encode(Records((forged, other.to_wire()), 0)))
            await a.until_has([other])
            assert a.faults == {("evil", "record.signature"): 1}
            assert not await a.store.read(Store.has, note.id)

    run(tmp_path, main)


def test_a_million_ids_of_rooms_that_are_not_followed_are_not_wanted(tmp_path: Path) -> None:
    async def main(hub: Hub) -> None:
        async with hub.member("a") as a:
            before = await a.store.read(sums)
            stream = await opened(a)
            ids = tuple(numbered(n) for n in range(limits.PAGE_IDS))
            for room in range(1_000_000 // limits.PAGE_IDS):
                await stream.send(encode(Lack(numbered(room), ids)))
                assert decode(await stream.receive()) == Want(())
            assert not a.faults
            assert await a.store.read(sums) == before

    run(tmp_path, main)


def test_questions_about_what_is_not_here_are_answered_and_cost_little(tmp_path: Path) -> None:
    async def main(hub: Hub) -> None:
        async with hub.member("a") as a:
            stream = await opened(
                a, *(Held(numbered(n), MAX_UINT, Sum(MAX_UINT, b"f" * 16)) for n in range(1026))
            )
            room = numbered(7)
            await stream.send(encode(Heads(room, MAX_UINT, ())))
            assert decode(await stream.receive()) == Newer((), more=False)
            days = tuple((day, Sum(MAX_UINT, b"d" * 16)) for day in range(limits.DAYS))
            await stream.send(encode(Days(room, 0, MAX_UINT, days)))
            assert decode(await stream.receive()) == Differing(
                tuple((day, NOTHING) for day in range(limits.DAYS))
            )
            parts = tuple(Part(MAX_UINT - n, "f" * 16, bool(n % 2)) for n in range(limits.PARTS))
            await stream.send(encode(Parts(room, parts)))
            answer = decode(await stream.receive())
            assert isinstance(answer, Contents)
            assert {content or NOTHING for c in answer.contents for content in (c or [()])} == {
                NOTHING
            }
            ids = tuple(numbered(n) for n in range(limits.WANT_IDS))
            await stream.send(encode(Want(ids)))
            assert decode(await stream.receive()) == Records((), 0)
            assert not a.faults

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
