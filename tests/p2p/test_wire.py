"""Framing over trio's own streams in memory, with trio's clock."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio
from trio.testing import MockClock, memory_stream_pair

from permesh.errors import PermeshError, Refused
from permesh.p2p.wire import LINGER_S, Drain, Framed


def run(main: Callable[[], Awaitable[None]]) -> None:
    trio.run(main, clock=MockClock(autojump_threshold=0))


def test_messages_arrive_whole_and_in_order_whatever_the_pieces() -> None:
    async def main() -> None:
        raw, theirs = memory_stream_pair()
        framed = Framed(theirs, limit=10)
        for byte in b"\0\0\0\3abc\0\0\0\1x\0\0\0\x0a0123456789":
            await raw.send_all(bytes([byte]))
        assert [await framed.receive() for _ in range(3)] == [b"abc", b"x", b"0123456789"]
        await framed.send(b"back")
        assert await raw.receive_some() == b"\0\0\0\4back"

    run(main)


@pytest.mark.parametrize("length", [b"\0\0\0\0", b"\0\0\0\x0b", b"\xff\xff\xff\xff"])
def test_a_length_outside_the_limits_is_refused_before_its_bytes_come(length: bytes) -> None:
    async def main() -> None:
        raw, theirs = memory_stream_pair()
        await raw.send_all(length)
        with pytest.raises(Refused) as caught:
            await Framed(theirs, limit=10).receive()
        assert caught.value.code == "wire.too_long"

    run(main)


def test_our_own_message_outside_the_limits_is_our_bug() -> None:
    async def main() -> None:
        framed = Framed(memory_stream_pair()[0], limit=10)
        for message in (b"", bytes(11)):
            with pytest.raises(ValueError, match="1 to 10 bytes"):
                await framed.send(message)

    run(main)


def test_a_silent_peer_meets_the_deadline_and_nothing_is_lost() -> None:
    async def main() -> None:
        raw, theirs = memory_stream_pair()
        framed = Framed(theirs)
        await raw.send_all(b"\0\0\0\4ab")
        with pytest.raises(PermeshError) as caught:
            await framed.receive(5.0)
        assert caught.value.code == "wire.silent"
        assert trio.current_time() >= 5.0
        await raw.send_all(b"cd")
        assert await framed.receive(5.0) == b"abcd"

    run(main)


def test_without_a_deadline_receive_waits() -> None:
    async def main() -> None:
        raw, theirs = memory_stream_pair()
        async with trio.open_nursery() as nursery:

            async def late() -> None:
                await trio.sleep(1000)
                await raw.send_all(b"\0\0\0\1x")

            nursery.start_soon(late)
            assert await Framed(theirs).receive(None) == b"x"

    run(main)


@pytest.mark.parametrize("sent", [b"", b"\0\0", b"\0\0\0\4ab"])
def test_the_end_of_the_stream_is_an_error_of_its_own(sent: bytes) -> None:
    async def main() -> None:
        raw, theirs = memory_stream_pair()
        if sent:
            await raw.send_all(sent)
        await raw.aclose()
        with pytest.raises(PermeshError) as caught:
            await Framed(theirs).receive()
        assert caught.value.code == "wire.closed"

    run(main)


def test_a_closed_stream_takes_and_gives_nothing() -> None:
    async def main() -> None:
        framed = Framed(memory_stream_pair()[0])
        await framed.aclose()
        await framed.aclose()
        for attempt in (framed.send(b"x"), framed.receive()):
            with pytest.raises(PermeshError) as caught:
                await attempt
            assert caught.value.code == "wire.closed"

    run(main)


class Stuck:
    """A stream whose peer takes nothing."""

    async def send_all(self, *_: object) -> None:
        await trio.sleep_forever()

    async def receive_some(self, *_: object) -> bytes:
        await trio.sleep_forever()
        return b""

    async def aclose(self) -> None:
        await trio.sleep_forever()


def test_a_peer_that_takes_nothing_costs_the_stream_and_not_the_sender() -> None:
    async def main() -> None:
        aborted: list[bool] = []
        framed = Framed(Stuck(), abort=lambda: aborted.append(True))
        with pytest.raises(PermeshError) as caught:
            await framed.send(b"x", 5.0)
        assert caught.value.code == "wire.silent"
        assert aborted == [True]  # half a frame may be out
        with pytest.raises(PermeshError) as caught:
            await framed.send(b"y")
        assert caught.value.code == "wire.closed"

    run(main)


def test_closing_a_stuck_stream_ends() -> None:
    async def main() -> None:
        await Framed(Stuck()).aclose()
        assert trio.current_time() <= 1.0

    run(main)


class Pipe:
    """A stream that can be reset; `memory_stream_pair` has no such thing."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self.resets = 0

    async def send_all(self, data: bytes) -> None:
        await self.stream.send_all(data)

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        return await self.stream.receive_some(max_bytes)

    async def aclose(self) -> None:
        assert isinstance(self.stream, trio.StapledStream)
        await self.stream.send_eof()

    async def reset(self) -> None:
        self.resets += 1
        await self.stream.aclose()


def test_a_drained_stream_is_read_while_nobody_waits_and_held_back_at_the_limit() -> None:
    async def main() -> None:
        raw, theirs = memory_stream_pair()
        drain = Drain(Pipe(theirs), unread_limit=100)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(drain.run)
            for _ in range(5):
                await raw.send_all(bytes(40))
                await trio.testing.wait_all_tasks_blocked()
            assert len(drain._unread) == 120
            taken = 0
            while taken < 200:
                taken += len(await drain.receive_some(50))
                await trio.testing.wait_all_tasks_blocked()
            await raw.send_eof()
            assert await drain.receive_some() == b""

    run(main)


def test_what_came_before_the_break_is_still_read() -> None:
    async def main() -> None:
        raw, theirs = memory_stream_pair()
        pipe = Pipe(theirs)
        drain = Drain(pipe)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(drain.run)
            await raw.send_all(b"last words")
            await trio.testing.wait_all_tasks_blocked()
            drain.abort()
            await trio.testing.wait_all_tasks_blocked()
        assert pipe.resets == 1
        assert await drain.receive_some() == b"last words"
        assert await drain.receive_some() == b""

    run(main)


def test_a_closed_stream_waits_for_the_peers_end_before_it_is_over() -> None:
    async def main() -> None:
        raw, theirs = memory_stream_pair()
        pipe = Pipe(theirs)
        drain = Drain(pipe, unread_limit=10)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(drain.run)
            await drain.aclose()
            await raw.send_all(bytes(1000))
            assert await raw.receive_some() == b""
            await raw.send_eof()
        assert pipe.resets == 0

    run(main)


def test_a_peer_that_does_not_end_its_side_is_not_waited_for_for_ever() -> None:
    async def main() -> None:
        _raw, theirs = memory_stream_pair()
        pipe = Pipe(theirs)
        drain = Drain(pipe)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(drain.run)
            await trio.testing.wait_all_tasks_blocked()
            await drain.aclose()
        assert pipe.resets == 1
        assert LINGER_S <= trio.current_time() <= LINGER_S + 1

    run(main)
