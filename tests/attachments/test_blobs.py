"""The driver between two members: one question a stream, whatever the other one does."""

from __future__ import annotations

import contextlib
import hashlib

import pytest
import trio

from permesh.errors import PermeshError, Refused
from permesh.p2p import blobs
from permesh.p2p.blobs import (
    CHUNK_BYTES,
    MAX_FILE_BYTES,
    Absent,
    Blobs,
    Chunk,
    Have,
    Read,
    Size,
    decode,
    encode,
    severity,
)
from permesh.p2p.faults import LIMIT

from .hub import Handler, Hub, Library, Side, endless, giving, in_hub, saying, silent

CONTENT = bytes(range(256)) * (3 * CHUNK_BYTES // 256) + b"the end"
HASH = hashlib.sha256(CONTENT).digest()


def member(hub: Hub, name: str, library: Library) -> tuple[Blobs, Side]:
    side = hub.side(name)
    made = Blobs(side, library, fault=side.fault)
    hub.handlers[name] = made.handle
    return made, side


async def read(asker: Blobs, peer: str, offset: int, length: int) -> bytes:
    content = bytearray()

    async def take(data: bytes) -> None:
        await trio.lowlevel.checkpoint()
        content.extend(data)

    await asker.read(peer, HASH, offset, length, take)
    return bytes(content)


def test_a_member_says_what_it_has_and_gives_any_range_of_it() -> None:
    async def main(hub: Hub) -> None:
        asker, here = member(hub, "a", Library())
        _, there = member(hub, "b", Library((HASH, CONTENT)))
        assert await asker.size_at("b", HASH) == len(CONTENT)
        assert await asker.size_at("b", bytes(32)) is None
        for offset in (0, 1, CHUNK_BYTES, len(CONTENT) - 1):
            assert await read(asker, "b", offset, len(CONTENT) - offset) == CONTENT[offset:]
        assert await read(asker, "b", 5, CHUNK_BYTES) == CONTENT[5 : 5 + CHUNK_BYTES]
        assert not here.faults
        assert not there.faults

    in_hub(main)


@pytest.mark.parametrize("asked", [(0, len(CONTENT) + 1), (len(CONTENT), 1), (2**40, 2**40)])
def test_a_range_beyond_the_end_is_not_here(asked: tuple[int, int]) -> None:
    async def main(hub: Hub) -> None:
        asker, _ = member(hub, "a", Library())
        member(hub, "b", Library((HASH, CONTENT)))
        with pytest.raises(PermeshError, match="no longer has"):
            await read(asker, "b", *asked)

    in_hub(main)


def test_a_file_that_goes_while_it_is_given_ends_the_answer() -> None:
    async def main(hub: Hub) -> None:
        asker, here = member(hub, "a", Library())

        class Leaky(Library):
            async def read(self, file_hash: bytes, offset: int, length: int) -> bytes | None:
                data = await super().read(file_hash, offset, length)
                self.files.clear()
                return data

        member(hub, "b", Leaky((HASH, CONTENT)))
        with pytest.raises(PermeshError) as caught:
            await read(asker, "b", 0, len(CONTENT))
        assert caught.value.code == "blob.absent"
        assert not here.faults

    in_hub(main)


@pytest.mark.parametrize(
    ("handler", "code"),
    [
        (saying(b"\xc1"), "format.msgpack"),
        (saying(encode(Size(1))[:-1] + b"\xff"), "blob.malformed"),
        (saying(Chunk(b"unasked")), "blob.out_of_turn"),
        (saying(Have(HASH)), "blob.out_of_turn"),
        (saying(Absent()), "blob.out_of_turn"),
        (saying(b"\x92\x02\xce" + (MAX_FILE_BYTES + 1).to_bytes(4, "big")), "blob.wrong_size"),
        (saying(bytes(CHUNK_BYTES * 2)), "wire.too_long"),
    ],
)
def test_who_answers_wrongly_whether_it_has_a_file_is_blamed(handler: Handler, code: str) -> None:
    async def main(hub: Hub) -> None:
        asker, here = member(hub, "a", Library())
        hub.handlers["b"] = handler
        with pytest.raises(Refused):
            await asker.size_at("b", HASH)
        assert here.faults == {("b", code): 1}

    in_hub(main)


@pytest.mark.parametrize(
    ("handler", "code"),
    [
        (saying(Chunk(b"short")), "blob.wrong_chunk"),
        (saying(Chunk(bytes(CHUNK_BYTES)), Chunk(b"x")), "blob.wrong_chunk"),
        (saying(Chunk(bytes(CHUNK_BYTES)), Size(7)), "blob.out_of_turn"),
        (saying(b"\x92\x04\xc4\x00"), "blob.malformed"),
        (saying(bytes(CHUNK_BYTES * 2)), "wire.too_long"),
        (endless(CHUNK_BYTES + 10), "blob.wrong_chunk"),
    ],
)
def test_who_gives_what_was_not_asked_is_blamed(handler: Handler, code: str) -> None:
    async def main(hub: Hub) -> None:
        asker, here = member(hub, "a", Library())
        hub.handlers["b"] = handler
        with pytest.raises(Refused):
            await read(asker, "b", 0, CHUNK_BYTES + 10)
        assert here.faults == {("b", code): 1}

    in_hub(main)


def test_who_is_silent_costs_a_deadline_and_is_not_blamed() -> None:
    async def main(hub: Hub) -> None:
        asker, here = member(hub, "a", Library())
        hub.handlers["b"] = silent
        for call in (asker.size_at("b", HASH), read(asker, "b", 0, 10)):
            began = trio.current_time()
            with pytest.raises(PermeshError) as caught:
                await call
            assert caught.value.code == "wire.silent"
            assert trio.current_time() - began == pytest.approx(blobs.MESSAGE_S)
        assert not here.faults

    in_hub(main)


def test_who_drags_an_answer_out_is_left_after_a_while() -> None:
    async def main(hub: Hub) -> None:
        asker, here = member(hub, "a", Library())

        async def slow(stream: blobs.Framed, _peer_id: str) -> None:
            await stream.receive()
            while True:
                await trio.sleep(blobs.MESSAGE_S - 1)
                await stream.send(encode(Chunk(bytes(CHUNK_BYTES))))

        hub.handlers["b"] = slow
        began = trio.current_time()
        with pytest.raises(PermeshError) as caught:
            await read(asker, "b", 0, MAX_FILE_BYTES)
        assert caught.value.code == "wire.silent"
        assert trio.current_time() - began == pytest.approx(blobs.SESSION_S)
        assert not here.faults

    in_hub(main)


def test_who_breaks_off_has_given_what_came() -> None:
    async def main(hub: Hub) -> None:
        asker, here = member(hub, "a", Library())
        hub.handlers["b"] = giving(CONTENT, breaks_at=2 * CHUNK_BYTES)
        came = bytearray()

        async def take(data: bytes) -> None:
            await trio.lowlevel.checkpoint()
            came.extend(data)

        with pytest.raises(PermeshError) as caught:
            await asker.read("b", HASH, 0, len(CONTENT), take)
        assert caught.value.code == "wire.closed"
        assert came == CONTENT[: 2 * CHUNK_BYTES]
        assert not here.faults

    in_hub(main)


@pytest.mark.parametrize(
    ("question", "code"),
    [
        (b"\xc1", "format.msgpack"),
        (encode(Size(1)), "blob.out_of_turn"),
        (encode(Chunk(b"x")), "blob.out_of_turn"),
        (encode(Absent()), "blob.out_of_turn"),
    ],
)
def test_who_asks_what_is_no_question_is_blamed(question: bytes, code: str) -> None:
    async def main(hub: Hub) -> None:
        _, there = member(hub, "b", Library((HASH, CONTENT)))
        stream = await hub.side("a").open("b", blobs.PROTOCOL, 1)
        await stream.send(question)
        with pytest.raises(PermeshError, match="closed"):
            await stream.receive()
        assert there.faults == {("a", code): 1}

    in_hub(main)


def test_who_asks_nothing_is_left_after_its_deadline() -> None:
    async def main(hub: Hub) -> None:
        _, there = member(hub, "b", Library())
        stream = await hub.side("a").open("b", blobs.PROTOCOL, 1)
        with pytest.raises(PermeshError, match="closed"):
            await stream.receive(None)
        assert trio.current_time() > 0
        assert not there.faults

    in_hub(main)


def test_a_flood_of_questions_is_counted_and_does_not_touch_others() -> None:
    async def main(hub: Hub) -> None:
        _, there = member(hub, "b", Library((HASH, CONTENT)))
        asker, _ = member(hub, "c", Library())
        flooder = hub.side("a")
        answered = 0
        for _ in range(2 * blobs.ASK_BURST + 10):
            stream = await flooder.open("b", blobs.PROTOCOL, 1)
            with contextlib.suppress(PermeshError):  # closed
                await stream.send(encode(Have(HASH)))
                answered += decode(await stream.receive()) == Size(len(CONTENT))
            await stream.aclose()
        assert answered == 2 * blobs.ASK_BURST
        assert there.faults == {("a", "blob.rate"): 10}
        assert await asker.size_at("b", HASH) == len(CONTENT)

    in_hub(main)


def test_streams_that_are_held_open_do_not_take_the_places_of_others() -> None:
    async def main(hub: Hub) -> None:
        _, there = member(hub, "b", Library((HASH, CONTENT)))
        asker, _ = member(hub, "c", Library())
        holder = hub.side("a")
        held = [await holder.open("b", blobs.PROTOCOL, 1) for _ in range(blobs.SESSIONS)]
        with pytest.raises(PermeshError, match="closed"):
            await held[-1].receive(1)
        assert await asker.size_at("b", HASH) == len(CONTENT)
        assert not there.faults

    in_hub(main)


def test_our_own_pace_is_never_a_fault() -> None:
    async def main(hub: Hub) -> None:
        asker, _ = member(hub, "a", Library())
        _, there = member(hub, "b", Library((HASH, CONTENT)))
        for _ in range(10 * blobs.ASK_BURST):
            assert await asker.size_at("b", HASH) == len(CONTENT)
        assert trio.current_time() > 9 * blobs.ASK_BURST / blobs.ASK_PER_SECOND - 1
        assert not there.faults

    in_hub(main)


def test_who_wants_much_waits_for_its_turn() -> None:
    big = bytes(MAX_FILE_BYTES)

    async def main(hub: Hub) -> None:
        asker, here = member(hub, "a", Library())
        member(hub, "b", Library((HASH, big)))
        for _ in range(6):
            assert len(await read(asker, "b", 0, MAX_FILE_BYTES)) == MAX_FILE_BYTES
        kib = 6 * MAX_FILE_BYTES // 1024 - blobs.PEER_BURST_KIB
        assert trio.current_time() >= kib / blobs.PEER_KIB_PER_SECOND
        assert not here.faults

    in_hub(main)


def test_everybody_together_waits_for_the_turn_of_all() -> None:
    big = bytes(MAX_FILE_BYTES)

    async def main(hub: Hub) -> None:
        member(hub, "b", Library((HASH, big)))
        askers = [member(hub, f"a{number}", Library())[0] for number in range(6)]
        async with trio.open_nursery() as nursery:
            for asker in askers:
                nursery.start_soon(read, asker, "b", 0, MAX_FILE_BYTES)
        kib = 6 * MAX_FILE_BYTES // 1024 - blobs.ALL_BURST_KIB
        assert trio.current_time() >= kib / blobs.ALL_KIB_PER_SECOND

    in_hub(main)


def test_a_reader_that_does_not_read_holds_a_place_for_a_deadline_only() -> None:
    async def main(hub: Hub) -> None:
        serving, there = member(hub, "b", Library((HASH, CONTENT)))
        here, other = trio.testing.lockstep_stream_pair()
        stream = blobs.Framed(here)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serving.handle, blobs.Framed(other), "a")
            await stream.send(encode(Read(HASH, 0, len(CONTENT))))
        assert trio.current_time() >= blobs.MESSAGE_S
        assert not there.faults

    in_hub(main)


def test_a_lie_weighs_more_than_haste() -> None:
    assert 0 < severity("blob.rate") < severity("blob.malformed") < severity(blobs.WRONG_BYTES)
    assert severity(blobs.WRONG_BYTES) * 2 >= LIMIT
