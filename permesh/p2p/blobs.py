"""Files by the SHA-256 of their bytes: one member asks another for one, or for a part of it.

Owns what the two sides of `/permesh/blob/1` say, the check of an answer, and the driver with its
limits and deadlines. Must never know where a file is kept, or what a member wants with it.

A stream is one question and its answer: whether a file is here (its size), or a range of it, which
comes in chunks. Each chunk but the last has exactly `CHUNK_BYTES`, so an answer has as many
messages as the question lets it have, and nobody can drag one out byte by byte. A flat SHA-256
says nothing of a part: whose bytes were wrong is `permesh/p2p/blob_fetch.py`'s to find out.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

import trio

from permesh.errors import PermeshError, Refused
from permesh.records import pack, unpack

from .limits import Rates, TokenBucket
from .wire import Framed

PROTOCOL = "/permesh/blob/1"
HASH_BYTES = 32
MAX_FILE_BYTES = 8 * 1024 * 1024
CHUNK_BYTES = 256 * 1024
MESSAGE_BYTES = CHUNK_BYTES + 64

OPEN_S = 10.0
MESSAGE_S = 15.0  # for the peer's next message; it may have to wait for its disk
SESSION_S = 300.0  # whole; what has come is kept, and another session goes on from there
SESSIONS = 24  # inbound at once …
SESSIONS_PER_PEER = 8  # … of which this many from one peer
# What one peer is asked, and half of what it may ask: our own pace must never be its fault.
ASK_BURST = 32
ASK_PER_SECOND = 8.0
# What goes out, in KiB: to one peer and to all. Who wants more waits; sync and models go first.
PEER_BURST_KIB = 16 * 1024
PEER_KIB_PER_SECOND = 4 * 1024
ALL_BURST_KIB = 32 * 1024
ALL_KIB_PER_SECOND = 8 * 1024
PAUSE_S = 0.05  # between two looks at whether it is our turn

WRONG_BYTES = "blob.wrong_bytes"

_log = logging.getLogger("permesh.p2p.blobs")


def severity(code: str) -> int:
    """How bad a fault of this room is, of the 100 for which `Swarm.fault` shuts a peer out."""
    return {"blob.rate": 2, WRONG_BYTES: 50}.get(code, 20)


# -- what is said ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Have:
    """Asks whether the whole file is there; `Size` answers."""

    file_hash: bytes


@dataclass(frozen=True, slots=True)
class Read:
    """Asks for ``length`` bytes from ``offset`` on; `Chunk` and `Chunk` … or `Absent` answers."""

    file_hash: bytes
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class Size:
    """The file's size; 0 means that it is not here."""

    size: int


@dataclass(frozen=True, slots=True)
class Chunk:
    data: bytes


@dataclass(frozen=True, slots=True)
class Absent:
    """The range is not, or no longer, here."""


Message = Have | Read | Size | Chunk | Absent


def encode(message: Message) -> bytes:
    match message:
        case Have(file_hash):
            return pack([1, file_hash])
        case Size(size):
            return pack([2, size])
        case Read(file_hash, offset, length):
            return pack([3, file_hash, offset, length])
        case Chunk(data):
            return pack([4, data])
        case Absent():
            return pack([5])


def decode(data: bytes) -> Message:
    """Parse and check one message; raises ``Refused``."""
    fields = unpack(data, limit=MESSAGE_BYTES)
    if isinstance(fields, list) and not any(isinstance(field, bool) for field in fields):
        match fields:
            case [1, bytes(file_hash)] if len(file_hash) == HASH_BYTES:
                return Have(file_hash)
            case [2, int(size)] if size >= 0:
                if size > MAX_FILE_BYTES:
                    raise Refused("blob.wrong_size", f"A file of {size} bytes is none of ours.")
                return Size(size)
            case [3, bytes(file_hash), int(offset), int(length)]:
                if len(file_hash) == HASH_BYTES and offset >= 0 and length > 0:
                    return Read(file_hash, offset, length)
            case [4, bytes(chunk)] if 0 < len(chunk) <= CHUNK_BYTES:
                return Chunk(chunk)
            case [5]:
                return Absent()
    raise Refused("blob.malformed", "The peer sent a message about files that is not well formed.")


def ranges(offset: int, length: int) -> Iterator[tuple[int, int]]:
    """The chunks of a range: where each begins, and how long it is."""
    end = offset + length
    for start in range(offset, end, CHUNK_BYTES):
        yield start, min(CHUNK_BYTES, end - start)


class RangeReader:
    """Checks an answer to `Read`: the bytes that were asked for, and not one more."""

    def __init__(self, length: int) -> None:
        self.left = length

    def received(self, data: bytes) -> bytes:
        """The bytes of the next message. Raises ``Refused``; ``PermeshError`` if they are gone."""
        match decode(data):
            case Chunk(chunk):
                if len(chunk) != min(CHUNK_BYTES, self.left):
                    raise Refused("blob.wrong_chunk", "The peer sent a chunk of another length.")
                self.left -= len(chunk)
                return chunk
            case Absent():
                raise PermeshError("blob.absent", "The peer no longer has that file.")
        raise _out_of_turn()


# -- who says it ----------------------------------------------------------------------------------


class Opener(Protocol):
    """What this room needs of the swarm."""

    async def open(self, peer_id: str, protocol: str, deadline: float) -> Framed: ...


class Library(Protocol):
    """The files that are here."""

    def size_of(self, file_hash: bytes) -> int | None: ...

    async def read(self, file_hash: bytes, offset: int, length: int) -> bytes | None:
        """Bytes of a file whose hash fits; None if it is not, or no longer, here."""
        ...


class Blobs:
    """Both sides. ``fault(peer_id, code)`` counts what a peer did wrong, see `severity`."""

    def __init__(
        self, swarm: Opener, library: Library, *, fault: Callable[[str, str], None]
    ) -> None:
        self._swarm = swarm
        self._library = library
        self._fault = fault
        self._sessions: Counter[str] = Counter()
        self._asked: Rates[str] = Rates(ASK_BURST, ASK_PER_SECOND)
        self._askers: Rates[str] = Rates(2 * ASK_BURST, 2 * ASK_PER_SECOND)
        self._sent_to: Rates[str] = Rates(PEER_BURST_KIB, PEER_KIB_PER_SECOND)
        self._sent: TokenBucket | None = None  # its clock begins with the first session

    # -- asking

    async def size_at(self, peer_id: str, file_hash: bytes) -> int | None:
        """The size of the file if that member has it.

        Raises ``PermeshError`` if it cannot be asked, and ``Refused``, counted, if it misbehaves.
        """
        async with self._asking(peer_id) as stream:
            await stream.send(encode(Have(file_hash)), MESSAGE_S)
            answer = decode(await stream.receive(MESSAGE_S))
            if not isinstance(answer, Size):
                raise _out_of_turn()
            return answer.size or None

    async def read(
        self,
        peer_id: str,
        file_hash: bytes,
        offset: int,
        length: int,
        take: Callable[[bytes], Awaitable[None]],
    ) -> None:
        """Hand ``length`` bytes of that member's, from ``offset`` on, to ``take`` as they come.

        Raises as `size_at` does, and what ``take`` raises.
        """
        reader = RangeReader(length)
        async with self._asking(peer_id) as stream:
            await stream.send(encode(Read(file_hash, offset, length)), MESSAGE_S)
            while reader.left:
                await take(reader.received(await stream.receive(MESSAGE_S)))

    @asynccontextmanager
    async def _asking(self, peer_id: str) -> AsyncIterator[Framed]:
        await _until(lambda: self._asked.take(peer_id, _tick()))
        try:
            with trio.fail_after(SESSION_S):
                stream = await self._swarm.open(peer_id, PROTOCOL, OPEN_S)
                stream.limit = MESSAGE_BYTES
                answered = False
                try:
                    yield stream
                    answered = True
                finally:
                    if not answered:
                        stream.abort()  # what else it sends is not worth its way
                    await stream.aclose()
        except Refused as error:
            self._fault(peer_id, error.code)
            raise
        except trio.TooSlowError as error:
            raise PermeshError("wire.silent", "The peer did not answer in time.") from error

    # -- answering

    async def handle(self, stream: Framed, peer_id: str, _verified: object = None) -> None:
        """Answer one inbound session; returns when it is over, whatever the peer does."""
        stream.limit = MESSAGE_BYTES
        if not self._askers.take(peer_id, _tick()):
            self._fault(peer_id, "blob.rate")
        elif self._sessions[peer_id] < SESSIONS_PER_PEER and self._sessions.total() < SESSIONS:
            self._sessions[peer_id] += 1
            try:
                with trio.move_on_after(SESSION_S):
                    await self._answer(peer_id, stream)
            except PermeshError as error:
                if isinstance(error, Refused):
                    self._fault(peer_id, error.code)
                _log.debug("a file session of %s ended: %s", peer_id, error)
            finally:
                self._sessions[peer_id] -= 1
                if not self._sessions[peer_id]:
                    del self._sessions[peer_id]
        await stream.aclose()

    async def _answer(self, peer_id: str, stream: Framed) -> None:
        question = decode(await stream.receive(MESSAGE_S))
        match question:
            case Have(file_hash):
                size = self._library.size_of(file_hash) or 0
                await stream.send(encode(Size(size)), MESSAGE_S)
            case Read():
                await self._send_range(peer_id, stream, question)
            case _:
                raise _out_of_turn()

    async def _send_range(self, peer_id: str, stream: Framed, question: Read) -> None:
        size = self._library.size_of(question.file_hash) or 0
        if question.offset + question.length > size:
            await stream.send(encode(Absent()), MESSAGE_S)
            return
        for start, length in ranges(question.offset, question.length):
            await self._turn(peer_id, length)
            data = await self._library.read(question.file_hash, start, length)
            if data is None or len(data) != length:
                await stream.send(encode(Absent()), MESSAGE_S)
                return
            await stream.send(encode(Chunk(data)), MESSAGE_S)

    async def _turn(self, peer_id: str, length: int) -> None:
        """Wait until so many bytes may go out, to this peer and at all."""
        if self._sent is None:
            self._sent = TokenBucket(ALL_BURST_KIB, ALL_KIB_PER_SECOND, _tick())
        everybody, kib = self._sent, (length + 1023) // 1024
        await _until(lambda: self._sent_to.take(peer_id, _tick(), kib))
        await _until(lambda: everybody.take(_tick(), kib))


async def _until(allowed: Callable[[], bool]) -> None:
    while not allowed():  # noqa: ASYNC110 - nothing but time lets it pass
        await trio.sleep(PAUSE_S)


def _out_of_turn() -> Refused:
    return Refused("blob.out_of_turn", "The peer sent what was not asked for.")


def _tick() -> int:
    """Milliseconds that never run backwards, unlike the wall's."""
    return int(trio.current_time() * 1000)
