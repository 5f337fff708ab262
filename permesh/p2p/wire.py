"""Messages over a byte stream: a length, then the bytes.

Owns the framing (u32 big-endian length, then 1 … limit bytes) and every deadline and limit on
reading and writing a stream. Must never know libp2p (its streams come in as `ByteStream`), what a
message means, or who the peer is.
"""

from __future__ import annotations

import contextlib
import math
import struct
from collections.abc import Callable
from typing import Protocol

import trio

from permesh.errors import PermeshError, Refused

# A stream of bulk data sends messages of exactly this; everything else is far below it.
MESSAGE_LIMIT = 1024 * 1024
# Without another deadline, a peer has this long to send the message that we wait for …
RECEIVE_S = 30.0
# … and to take one that we send. A conforming peer reads all the time (see `Drain`).
SEND_S = 10.0
CLOSE_S = 1.0
# What a peer may send ahead of the one who reads its messages; the sender is held back after it.
UNREAD_LIMIT = 4 * 1024 * 1024
READ_SIZE = 64 * 1024
# A closed stream is read (and forgotten) until its peer has closed it too, but not for longer.
LINGER_S = 10.0

_LENGTH = struct.Struct(">I")


class ByteStream(Protocol):
    """A trio byte stream: ends with ``b""``, breaks with ``trio.BrokenResourceError``."""

    async def send_all(self, data: bytes) -> None: ...

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray: ...

    async def aclose(self) -> None: ...


class Resettable(ByteStream, Protocol):
    """A stream whose ``aclose`` ends only what we send, and whose ``reset`` ends it both ways."""

    async def reset(self) -> None: ...


class Drain:
    """A `ByteStream` that is read as fast as bytes come, whoever waits for them.

    A yamux stream whose reader pauses for 5 s with its window full is reset by the sender; ``run``
    (a task of its own) therefore reads on, up to ``UNREAD_LIMIT`` bytes ahead. It also ends the
    stream: a reset right after our last message would take that message with it.
    """

    def __init__(self, stream: Resettable, unread_limit: int = UNREAD_LIMIT) -> None:
        self._stream = stream
        self._limit = unread_limit
        self._unread = bytearray()
        self._closing = False
        self._ended = False
        self._broken: trio.BrokenResourceError | None = None
        self._changed = trio.Event()  # bytes came, or the end
        self._taken = trio.Event()  # bytes were taken, or are no longer wanted
        self._scope = trio.CancelScope()

    async def run(self) -> None:
        """Read until the stream ends or breaks, or `LINGER_S` after it was closed."""
        clean = False
        try:
            with self._scope:
                clean = await self._read_all()
        except trio.BrokenResourceError as error:
            self._broken = error
        finally:
            self._ended = True
            self._wake()
            if not clean:
                with at_most(CLOSE_S):
                    await self._stream.reset()

    async def _read_all(self) -> bool:
        while data := await self._stream.receive_some(READ_SIZE):
            if self._closing:
                continue
            self._unread += data
            self._wake()
            while len(self._unread) >= self._limit and not self._closing:
                self._taken = trio.Event()
                await self._taken.wait()
        return True

    def _wake(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        while not self._unread and not self._ended:
            await self._changed.wait()
        if not self._unread and self._broken is not None:
            raise trio.BrokenResourceError from self._broken
        data = bytes(self._unread[:max_bytes])
        del self._unread[:max_bytes]
        self._taken.set()
        return data

    async def send_all(self, data: bytes) -> None:
        await self._stream.send_all(data)

    async def aclose(self) -> None:
        """Say that nothing more comes from us, and go on reading until the peer says so too."""
        self._closing = self._ended = True
        self._unread.clear()
        self._taken.set()
        self._wake()
        self._scope.deadline = trio.current_time() + LINGER_S
        await self._stream.aclose()

    def abort(self) -> None:
        """End the stream both ways at once, losing what is under way."""
        self._scope.cancel()


class Framed:
    """Messages of 1 … ``limit`` bytes over a `ByteStream`, in order.

    Any task may send; one may receive. ``b""`` is never a message. A peer that breaks the framing
    gets ``Refused``; whatever else goes wrong is a ``PermeshError`` with one of the codes
    ``wire.closed`` (the stream is over) and ``wire.silent`` (the deadline passed). ``abort()``
    ends the stream at once and both ways, where the stream knows how.
    """

    def __init__(
        self,
        stream: ByteStream,
        *,
        limit: int = MESSAGE_LIMIT,
        abort: Callable[[], None] | None = None,
    ) -> None:
        self.limit = limit
        self.abort = abort or self._forget
        self._stream = stream
        self._buffer = bytearray()
        self._sending = trio.Lock()
        self._closed = False

    async def send(self, message: bytes, deadline: float = SEND_S) -> None:
        """Hand ``message`` to the transport within ``deadline`` seconds."""
        if not 0 < len(message) <= self.limit:
            raise ValueError(f"a message has 1 to {self.limit} bytes, not {len(message)}")
        try:
            with trio.fail_after(deadline):
                async with self._sending:
                    await self._send_whole(_LENGTH.pack(len(message)) + message)
        except trio.TooSlowError as error:
            raise PermeshError("wire.silent", "The peer has stopped reading.") from error

    async def _send_whole(self, frame: bytes) -> None:
        if self._closed:
            raise _closed()
        whole = False
        try:
            await self._stream.send_all(frame)
            whole = True
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise _closed() from error
        finally:
            if not whole:
                # Part of the frame may be out, and nothing after it would be understood.
                self._closed = True
                self.abort()

    async def receive(self, deadline: float | None = RECEIVE_S) -> bytes:
        """The next message, within ``deadline`` seconds (None: however long it takes).

        A deadline or a cancellation loses nothing: the next call goes on where it stopped.
        """
        try:
            with trio.fail_after(math.inf if deadline is None else deadline):
                await self._fill(_LENGTH.size)
                (length,) = _LENGTH.unpack_from(self._buffer)
                if not 0 < length <= self.limit:
                    raise Refused(
                        "wire.too_long", f"A message of {length} bytes is not within {self.limit}."
                    )
                await self._fill(_LENGTH.size + length)
        except trio.TooSlowError as error:
            raise PermeshError("wire.silent", "The peer did not answer in time.") from error
        message = bytes(self._buffer[_LENGTH.size : _LENGTH.size + length])
        del self._buffer[: _LENGTH.size + length]
        return message

    async def _fill(self, length: int) -> None:
        while len(self._buffer) < length:
            if self._closed:
                raise _closed()
            try:
                data = await self._stream.receive_some(READ_SIZE)
            except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
                raise _closed() from error
            if not data:
                raise _closed()
            self._buffer += data

    async def aclose(self) -> None:
        """End the stream, within ``CLOSE_S`` and whatever its state; again is harmless."""
        if self._closed:
            return
        self._closed = True
        with at_most(CLOSE_S), contextlib.suppress(trio.BrokenResourceError):
            await self._stream.aclose()

    def _forget(self) -> None:
        """A plain byte stream has no way to be broken off; its owner closes it."""


def at_most(seconds: float) -> trio.CancelScope:
    """A scope for clean-up: it ends after ``seconds``, and no cancellation from outside ends it."""
    return trio.CancelScope(deadline=trio.current_time() + seconds, shield=True)


def _closed() -> PermeshError:
    return PermeshError("wire.closed", "The peer has closed the stream.")
