"""Fast lanes: framed byte pipes between two members, for activations.

Owns the direct TLS 1.3 socket, the exchange that authenticates it, and the fallback. Must never
know what a frame means or who is a member: the libp2p stream it is given is already both
encrypted and admitted.

The exchange runs over that stream (`PROTOCOL`). The opener states a purpose; the other side
answers with its lane port, the certificate it made at its start and a one-time token; the opener
dials the address it already has a connection to, accepts that certificate alone, proves itself
with the token, and says on the libp2p stream which of the two carries the frames:

    opener → [1, purpose]                    answerer → [port, certificate, token]
    opener → TLS: token                      answerer → TLS: one byte
    opener → [True] the socket, or [False] this stream

So the socket inherits libp2p's authentication in both directions, and a lane always comes up
where a libp2p stream does: py-libp2p moves a kilobyte in 1.8 ms, the socket in 0.4.
"""

from __future__ import annotations

import contextlib
import secrets
import ssl
import struct
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Any, Literal, Protocol

import trio

from permesh.errors import PermeshError, Refused
from permesh.records import pack, unpack

from .lane_socket import (
    SOCKET_ERRORS,
    TOKEN_BYTES,
    SocketPipe,
    dial,
    server_context,
    take_token,
    welcome,
)
from .wire import Framed

if TYPE_CHECKING:
    from trio_typing import TaskStatus  # libp2p brings the stubs that mypy reads trio by

PROTOCOL = "/permesh/lane/1"
VERSION = 1

MAX_HEADER = 4 * 1024
MAX_PAYLOAD = 64 * 1024 * 1024
MAX_PURPOSE = 64
MAX_CERTIFICATE = 2048  # ours has about 360 bytes
MAX_EXCHANGE = 4096

TOKEN_LIFE_S = 10.0
DIRECT_S = 2.0  # to connect, shake hands and be known; then the libp2p stream serves
EXCHANGE_S = 5.0  # for each message of the exchange
HANDSHAKE_S = 3.0  # a connection that has not shown its token by then is closed
BEAT_S = 2.0  # an idle lane says that it is alive
SILENCE_S = 10.0  # without a byte for so long, the lane is lost
FRAME_S = 30.0  # from a frame's first byte to its last
SEND_S = 10.0  # a peer that does not read for so long, loses its lane

MAX_TOKENS = 64
MAX_TOKENS_PER_PEER = 8
MAX_UNKNOWN = 64  # sockets that have not shown a token
MAX_LANES = 256
MAX_LANES_PER_PEER = 32

_PREFIX = struct.Struct(">II")  # header length, payload length; 0, 0 is a heartbeat
_BEAT = _PREFIX.pack(0, 0)
_JOIN_BELOW = 64 * 1024  # up to here one copy is cheaper than a second TLS record and send


class LaneLost(PermeshError):
    """The lane ended: closed by the peer, silent for too long, or not taking what we send."""


class _Pipe(Protocol):
    async def send(self, data: bytes | memoryview) -> None: ...

    async def receive(self) -> bytes:
        """Some bytes; ``b""`` at the end."""
        ...

    async def aclose(self) -> None: ...


class _StreamPipe:
    def __init__(self, stream: Framed) -> None:
        self._stream = stream

    async def send(self, data: bytes | memoryview) -> None:
        for start in range(0, len(data), self._stream.limit):
            await self._stream.send(bytes(data[start : start + self._stream.limit]), SEND_S)

    async def receive(self) -> bytes:
        return await self._stream.receive(deadline=None)

    async def aclose(self) -> None:
        await self._stream.aclose()


class Lane:
    """Frames of a header (1 … 4 KiB) and a payload (0 … 64 MiB), in order.

    One task may receive and any may send. ``kind`` is "tls" or "libp2p".
    """

    def __init__(self, pipe: _Pipe, peer_id: str, kind: Literal["tls", "libp2p"]) -> None:
        self.peer_id = peer_id
        self.kind = kind
        self.bytes_sent = 0
        self.bytes_received = 0
        self.closed = trio.Event()
        self._pipe = pipe
        self._buffer = bytearray()
        self._sending = trio.Lock()
        self._sent_at = trio.current_time()

    async def send(self, header: bytes, payload: bytes | memoryview = b"") -> None:
        """Raises ``LaneLost`` when the peer does not take the frame within `SEND_S`."""
        if not 0 < len(header) <= MAX_HEADER or len(payload) > MAX_PAYLOAD:
            raise ValueError("the frame is over the lane's limits")
        prefix = _PREFIX.pack(len(header), len(payload))
        if len(payload) <= _JOIN_BELOW:
            await self._write(b"".join((prefix, header, payload)))
        else:
            await self._write(prefix + header, payload)

    async def beat(self) -> None:
        """Say that this side is alive, unless it has just sent something."""
        now = trio.current_time()
        if now - self._sent_at < BEAT_S or self._sending.locked() or self.closed.is_set():
            return
        with contextlib.suppress(LaneLost):
            await self._write(_BEAT)

    async def _write(self, *parts: bytes | memoryview) -> None:
        try:
            self._sending.acquire_nowait()  # the plain acquire() costs a turn of the scheduler
        except trio.WouldBlock:
            await self._sending.acquire()
        try:
            with trio.fail_after(SEND_S):
                for part in parts:
                    await self._pipe.send(part)
                    self.bytes_sent += len(part)
            self._sent_at = trio.current_time()
        except trio.TooSlowError as error:
            await self.aclose()
            raise LaneLost("lane.stalled", "The peer has stopped reading.") from error
        except (trio.BrokenResourceError, trio.ClosedResourceError, PermeshError) as error:
            await self.aclose()
            raise LaneLost("lane.closed", "The lane to the peer is gone.") from error
        except trio.Cancelled:
            # Part of a frame may be out, and nothing that follows it would be understood.
            await self.aclose()
            raise
        finally:
            self._sending.release()

    async def receive(self, max_payload: int = MAX_PAYLOAD) -> tuple[bytes, bytes]:
        """The next (header, payload). Raises ``LaneLost``, or ``Refused`` for a frame over the
        limits, after which the lane is of no use."""
        while True:
            await self._fill(_PREFIX.size)
            header_length, length = _PREFIX.unpack_from(self._buffer)
            if header_length == 0 and length == 0:
                del self._buffer[: _PREFIX.size]
                continue
            if not 0 < header_length <= MAX_HEADER or length > max_payload:
                raise Refused("lane.frame", "A frame on the lane is over the limits.")
            start, end = _PREFIX.size + header_length, _PREFIX.size + header_length + length
            if len(self._buffer) < end:
                await self._fill_in_time(end)
            with memoryview(self._buffer) as view:
                header, payload = bytes(view[_PREFIX.size : start]), bytes(view[start:end])
            del self._buffer[:end]
            return header, payload

    async def _fill_in_time(self, length: int) -> None:
        with trio.move_on_after(FRAME_S):
            await self._fill(length)
            return
        raise LaneLost("lane.slow", "The peer took too long over one frame.")

    async def _fill(self, length: int) -> None:
        while len(self._buffer) < length:
            with trio.move_on_after(SILENCE_S):
                try:
                    data = await self._pipe.receive()
                except (trio.BrokenResourceError, trio.ClosedResourceError, PermeshError) as error:
                    raise LaneLost("lane.closed", "The lane to the peer is gone.") from error
                if not data:
                    raise LaneLost("lane.closed", "The peer has closed the lane.")
                self.bytes_received += len(data)
                self._buffer += data
                continue
            raise LaneLost("lane.silent", f"The peer was silent for {SILENCE_S:.0f} seconds.")

    async def aclose(self) -> None:
        if not self.closed.is_set():
            self.closed.set()
            await self._pipe.aclose()


OnLane = Callable[[Lane, str, bytes], Awaitable[None]]
OpenStream = Callable[[str, str], Awaitable[Framed]]
HostOf = Callable[[str], str | None]


class _Ticket:
    """A token that was handed out: whom to, and the socket that showed it."""

    def __init__(self, peer_id: str) -> None:
        self.peer_id = peer_id
        self.socket: trio.SSLStream | None = None
        self.done = trio.Event()


class Lanes:
    """Opens lanes and takes them in.

    ``open_stream(peer_id, protocol)`` opens an authenticated stream; ``host_of(peer_id)`` is the
    IP address of the present connection to that peer, or None where there is none (relayed): no
    peer can send us to an address of its own choosing. ``on_lane(lane, peer_id, purpose)`` runs
    for each lane that others open; the lane is closed when it returns.
    """

    def __init__(
        self,
        *,
        open_stream: OpenStream,
        host_of: HostOf,
        on_lane: OnLane,
        listen_host: str = "0.0.0.0",
        listen_port: int = 0,
    ) -> None:
        self._open_stream = open_stream
        self._host_of = host_of
        self._on_lane = on_lane
        self._listen = (listen_host, listen_port)
        self._port = 0
        self._certificate = b""
        self._tickets: dict[bytes, _Ticket] = {}
        self._unknown = 0
        self._lanes: set[Lane] = set()

    @property
    def port(self) -> int:
        """Where the listener is; 0 before `run`, or when no port could be had."""
        return self._port

    async def run(self, task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Listen and keep lanes alive until cancelled. Started means: the port is bound."""
        context, self._certificate = await trio.to_thread.run_sync(server_context)
        host, port = self._listen
        try:
            listeners = await trio.open_tcp_listeners(port, host=host)
        except OSError as error:
            raise PermeshError(
                "lane.port",
                f"The lane port {host}:{port} cannot be had: {error.strerror or error}.",
                "Set lane_port in config.toml to a free port, or to 0 for any.",
            ) from error
        self._port = listeners[0].socket.getsockname()[1]

        async def arrived(stream: trio.SocketStream) -> None:
            await self._arrived(stream, context)

        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.serve_listeners, arrived, listeners)
                nursery.start_soon(self._beat)
                task_status.started()
        finally:
            self._port = 0
            for lane in list(self._lanes):
                await lane.aclose()

    async def _beat(self) -> None:
        async with trio.open_nursery() as nursery:
            while True:
                await trio.sleep(BEAT_S)
                for lane in self._lanes:
                    nursery.start_soon(lane.beat)

    # -- the side that opens

    async def open(self, peer_id: str, purpose: bytes) -> Lane:
        """A lane to that peer. The caller closes it. Raises ``PermeshError``."""
        if len(purpose) > MAX_PURPOSE:
            raise ValueError("the purpose is too long")
        self._check_room(peer_id)
        stream = await self._open_stream(peer_id, PROTOCOL)
        try:
            lane = await self._exchange(stream, peer_id, purpose)
        except BaseException:
            await stream.aclose()
            raise
        return lane

    async def _exchange(self, stream: Framed, peer_id: str, purpose: bytes) -> Lane:
        await stream.send(pack([VERSION, purpose]))
        answer = unpack(await stream.receive(EXCHANGE_S), limit=MAX_EXCHANGE)
        port, certificate, token = _check_answer(answer)
        direct = None
        host = self._host_of(peer_id)
        if host is not None and port:
            with trio.move_on_after(DIRECT_S):
                direct = await dial(host, port, certificate, token)
        await stream.send(pack([direct is not None]))
        if direct is None:
            return self._track(Lane(_StreamPipe(stream), peer_id, "libp2p"))
        await stream.aclose()
        return self._track(Lane(SocketPipe(direct), peer_id, "tls"))

    def _track(self, lane: Lane) -> Lane:
        self._lanes = {known for known in self._lanes if not known.closed.is_set()}
        self._lanes.add(lane)
        return lane

    def _check_room(self, peer_id: str) -> None:
        alive = [lane for lane in self._lanes if not lane.closed.is_set()]
        of_peer = sum(lane.peer_id == peer_id for lane in alive)
        if len(alive) >= MAX_LANES or of_peer >= MAX_LANES_PER_PEER:
            raise Refused("lane.too_many", "Too many lanes are open.")

    # -- the side that answers

    async def handle(self, peer_id: str, stream: Framed) -> None:
        """An inbound stream of `PROTOCOL`, from exchange to the end of the lane.

        Raises ``Refused`` for a peer that breaks the exchange.
        """
        opening = unpack(await stream.receive(EXCHANGE_S), limit=MAX_EXCHANGE)
        purpose = _check_opening(opening)
        self._check_room(peer_id)
        with self._ticket(peer_id) as (token, ticket):
            await stream.send(pack([self._port, self._certificate, token]))
            choice = unpack(await stream.receive(TOKEN_LIFE_S), limit=MAX_EXCHANGE)
            self._tickets.pop(token, None)
            if choice == [True] and ticket.socket is not None:
                lane = self._track(Lane(SocketPipe(ticket.socket), peer_id, "tls"))
                await stream.aclose()
            elif choice == [False]:
                lane = self._track(Lane(_StreamPipe(stream), peer_id, "libp2p"))
            else:
                raise Refused("lane.exchange", "The peer chose a lane that was not offered.")
            try:
                await self._on_lane(lane, peer_id, purpose)
            finally:
                await lane.aclose()
                self._lanes.discard(lane)

    @contextlib.contextmanager
    def _ticket(self, peer_id: str) -> Iterator[tuple[bytes, _Ticket]]:
        counts = Counter(ticket.peer_id for ticket in self._tickets.values())
        if len(self._tickets) >= MAX_TOKENS or counts[peer_id] >= MAX_TOKENS_PER_PEER:
            raise Refused("lane.too_many", "Too many lanes are being opened.")
        token, ticket = secrets.token_bytes(TOKEN_BYTES), _Ticket(peer_id)
        self._tickets[token] = ticket
        try:
            yield token, ticket
        finally:
            self._tickets.pop(token, None)
            ticket.done.set()

    async def _arrived(self, transport: trio.SocketStream, context: ssl.SSLContext) -> None:
        """A socket from anyone: without a valid token within `HANDSHAKE_S` it is closed."""
        if self._unknown >= MAX_UNKNOWN:
            return
        self._unknown += 1
        try:
            ticket = await self._recognise(transport, context)
        finally:
            self._unknown -= 1
        if ticket is not None:
            await ticket.done.wait()  # returning closes the socket, and with it the lane

    async def _recognise(
        self, transport: trio.SocketStream, context: ssl.SSLContext
    ) -> _Ticket | None:
        with trio.move_on_after(HANDSHAKE_S), contextlib.suppress(*SOCKET_ERRORS):
            stream, token = await take_token(transport, context)
            ticket = self._tickets.pop(token, None)
            if ticket is not None:
                ticket.socket = stream
                await welcome(stream)
                return ticket
        return None


def _check_opening(fields: Any) -> bytes:
    if (
        isinstance(fields, list)
        and len(fields) == 2
        and fields[0] == VERSION
        and isinstance(fields[1], bytes)
        and len(fields[1]) <= MAX_PURPOSE
    ):
        return fields[1]
    raise Refused("lane.exchange", "The peer's request for a lane is not valid.")


def _check_answer(fields: Any) -> tuple[int, bytes, bytes]:
    if isinstance(fields, list) and len(fields) == 3:
        port, certificate, token = fields
        if (
            isinstance(port, int)
            and 0 <= port < 65536
            and isinstance(certificate, bytes)
            and len(certificate) <= MAX_CERTIFICATE
            and isinstance(token, bytes)
            and len(token) == TOKEN_BYTES
        ):
            return port, certificate, token
    raise Refused("lane.exchange", "The peer's offer of a lane is not valid.")
