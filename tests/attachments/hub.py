"""Members joined by memory streams, and those among them who do not keep to the rules."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable

import trio
import trio.testing
from trio.testing import MockClock

from permesh.errors import PermeshError
from permesh.p2p.blobs import (
    CHUNK_BYTES,
    PROTOCOL,
    Absent,
    Chunk,
    Have,
    Message,
    Read,
    Size,
    decode,
    encode,
    ranges,
)
from permesh.p2p.wire import Framed

Handler = Callable[[Framed, str], Awaitable[None]]


class Hub:
    """Who can be reached, and by which handler."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.nursery = nursery
        self.handlers: dict[str, Handler] = {}
        self.opened: Counter[str] = Counter()

    def side(self, name: str) -> Side:
        return Side(self, name)

    def peers(self) -> list[str]:
        return list(self.handlers)


class Side:
    """The swarm as one member sees it, with the faults that the member counts."""

    def __init__(self, hub: Hub, name: str) -> None:
        self.hub = hub
        self.name = name
        self.faults: Counter[tuple[str, str]] = Counter()

    def fault(self, peer_id: str, code: str) -> None:
        self.faults[peer_id, code] += 1

    def peers(self) -> list[str]:
        return [peer for peer in self.hub.handlers if peer != self.name]

    async def open(self, peer_id: str, protocol: str, deadline: float) -> Framed:
        assert protocol == PROTOCOL
        assert deadline > 0
        await trio.lowlevel.checkpoint()
        handler = self.hub.handlers.get(peer_id)
        if handler is None:
            raise PermeshError("network.not_connected", "Not connected.")
        self.hub.opened[peer_id] += 1
        here, there = trio.testing.memory_stream_pair()
        self.hub.nursery.start_soon(contained, handler, Framed(there), self.name)
        return Framed(here)


async def contained(handler: Handler, stream: Framed, peer_id: str) -> None:
    """As the swarm does: whatever comes of it, the stream ends."""
    try:
        await handler(stream, peer_id)
    except PermeshError:
        pass
    finally:
        await stream.aclose()


def in_hub(main: Callable[[Hub], Awaitable[None]], *, jumping: bool = True) -> None:
    """Run ``main`` on a clock that jumps to the next deadline once all wait, or on the real one."""

    async def run() -> None:
        async with trio.open_nursery() as nursery:
            await main(Hub(nursery))
            nursery.cancel_scope.cancel()

    trio.run(run, clock=MockClock(autojump_threshold=0) if jumping else None)


class Library:
    """Files in memory."""

    def __init__(self, *files: tuple[bytes, bytes]) -> None:
        self.files = dict(files)

    def size_of(self, file_hash: bytes) -> int | None:
        found = self.files.get(file_hash)
        return None if found is None else len(found)

    async def read(self, file_hash: bytes, offset: int, length: int) -> bytes | None:
        await trio.lowlevel.checkpoint()
        found = self.files.get(file_hash)
        return None if found is None else found[offset : offset + length]


# -- those who do not keep to the rules ------------------------------------------------------------


def saying(*answers: Message | bytes) -> Handler:
    """Gives these answers, whatever is asked."""

    async def handler(stream: Framed, _peer_id: str) -> None:
        await stream.receive()
        for answer in answers:
            await stream.send(answer if isinstance(answer, bytes) else encode(answer))

    return handler


def giving(content: bytes, *, breaks_at: int | None = None, claims: int | None = None) -> Handler:
    """Has ``content`` under any hash, says that it has ``claims`` bytes, and ends the stream
    where a chunk would go beyond ``breaks_at``."""

    async def handler(stream: Framed, _peer_id: str) -> None:
        question = decode(await stream.receive())
        if isinstance(question, Have):
            await stream.send(encode(Size(len(content) if claims is None else claims)))
        elif isinstance(question, Read):
            await send_range(stream, content, question, breaks_at)

    return handler


async def send_range(
    stream: Framed, content: bytes, question: Read, breaks_at: int | None = None
) -> None:
    for start, length in ranges(question.offset, question.length):
        if breaks_at is not None and start + length > breaks_at:
            return
        data = content[start : start + length]
        await stream.send(encode(Chunk(data) if data else Absent()))


async def silent(stream: Framed, _peer_id: str) -> None:
    """Takes the question, and that is all."""
    await stream.receive()
    await trio.sleep_forever()


def stalling_after(handler: Handler) -> Handler:
    """Does what another would do, and then holds the stream open."""

    async def stalling(stream: Framed, peer_id: str) -> None:
        await handler(stream, peer_id)
        await trio.sleep_forever()

    return stalling


def endless(claims: int) -> Handler:
    """Sends full chunks for as long as anybody takes them."""

    async def handler(stream: Framed, _peer_id: str) -> None:
        if isinstance(decode(await stream.receive()), Have):
            await stream.send(encode(Size(claims)))
            return
        while True:
            await stream.send(encode(Chunk(bytes(CHUNK_BYTES))))

    return handler
