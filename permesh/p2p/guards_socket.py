"""The TCP socket below every libp2p connection, and the door through which strangers come.

Owns listening, the number of strangers that may stand in the door, what they may send, and the
way a socket is written, counted and closed. Must never know what travels over it.
"""

from __future__ import annotations

import errno
import logging
import math
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence

import trio
from libp2p.abc import IListener, IRawConnection
from libp2p.io.abc import ReadWriteCloser
from libp2p.io.exceptions import ConnectionClosedError
from libp2p.io.trio import TrioTCPStream
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.transport.exceptions import OpenConnectionError
from libp2p.transport.tcp.tcp import TCP
from libp2p.utils.multiaddr_utils import extract_ip_from_multiaddr, multiaddr_from_socket
from multiaddr import Multiaddr

from permesh.errors import PermeshError

# Connections that are not admitted yet, ours and theirs. Admission takes 0.1 to 0.5 s.
MAX_STRANGERS = 64
# A connection has this long from its first packet to its admission.
STRANGER_S = 5.0
# Noise, yamux, identify and one admission take about 8 KiB in a young mesh, and 75 KiB at most,
# where registrars have often changed; a stranger has no business beyond.
STRANGER_BYTES = 160 * 1024
# A peer whose kernel takes nothing for so long is dead.
WRITE_S = 10.0
# What may wait to be sent before those who send have to wait, and what is sent at once.
UNSENT_LIMIT = 256 * 1024
SEND_SIZE = 128 * 1024
CLOSE_S = 0.5
# Noise reads a length of two bytes, then the rest: one read of the kernel serves both.
READ_AHEAD = 16 * 1024

logger = logging.getLogger(__name__)

Handler = Callable[[ReadWriteCloser], Awaitable[None]]
Spawn = Callable[[Callable[[], Awaitable[None]]], None]


class Socket(ReadWriteCloser):
    """A TCP connection, as libp2p reads and writes it.

    - ``write`` only commits the bytes, without a checkpoint, and `flush` (a task of its own) sends
      them: half a Noise packet on the wire would end the connection for all its streams, so no
      cancellation may come between. Whoever has much to send waits for `room` first, where it may
      be cancelled. A peer that takes nothing for `WRITE_S` is cut off.
    - ``received`` counts bytes: the sign of life of a peer, which libp2p does not look for.
    - Until `admit`, more than `STRANGER_BYTES` end it: yamux keeps whatever is sent to it, beyond
      its windows.
    """

    def __init__(self, stream: trio.SocketStream) -> None:
        self.received = 0
        self.on_admitted: Callable[[], None] | None = None
        self.on_closed: Callable[[], None] | None = None
        self._stream = TrioTCPStream(stream)
        self._trio_socket = stream.socket
        self._ahead = bytearray()
        self._unsent = bytearray()
        self._committed = trio.Event()
        self._sent = trio.Event()
        self._closed = False
        self._admitted = False
        self._address = _peer_address(stream)

    def admit(self) -> None:
        self._admitted = True
        if self.on_admitted is not None:
            self.on_admitted()

    async def read(self, n: int | None = None) -> bytes:
        if not self._ahead:
            data = await self._stream.read(max(n or 0, READ_AHEAD))
            self.received += len(data)
            if not self._admitted and self.received > STRANGER_BYTES:
                self.abort()
                raise ConnectionClosedError("too many bytes before admission", transport="tcp")
            self._ahead += data
        taken = bytes(self._ahead[:n])
        del self._ahead[:n]
        return taken

    async def write(self, data: bytes) -> None:
        if self._closed:
            raise ConnectionClosedError("the connection is closed", transport="tcp")
        self._unsent += data
        self._committed.set()

    async def room(self) -> None:
        """Wait until there is not much unsent."""
        while len(self._unsent) > UNSENT_LIMIT and not self._closed:
            await self._sent.wait()

    async def flush(self) -> None:
        """Send what is committed, until the connection is closed."""
        try:
            while not self._closed:
                await self._committed.wait()
                self._committed = trio.Event()
                while self._unsent:
                    with trio.fail_after(WRITE_S):
                        count = await self._trio_socket.send(bytes(self._unsent[:SEND_SIZE]))
                    del self._unsent[:count]
                    self._progressed()
        except (OSError, trio.ClosedResourceError, trio.TooSlowError):
            pass
        finally:
            self.abort()

    def _progressed(self) -> None:
        self._sent.set()
        self._sent = trio.Event()

    async def close(self) -> None:
        """Give what was committed last a moment to go out."""
        with trio.move_on_after(CLOSE_S):
            while self._unsent and not self._closed:
                await self._sent.wait()
        self.abort()

    def abort(self) -> None:
        """Close at once; whoever reads sees the end."""
        self._closed = True
        self._trio_socket.close()
        self._committed.set()
        self._progressed()
        if self.on_closed is not None:
            self.on_closed()

    def get_remote_address(self) -> tuple[str, int] | None:
        return self._address


def _peer_address(stream: trio.SocketStream) -> tuple[str, int] | None:
    try:
        host, port = stream.socket.getpeername()[:2]  # IPv6 has four fields
    except OSError:
        return None
    return str(host), int(port)


class Door:
    """Counts strangers, and closes the oldest one from the busiest address when full.

    So five hundred silent connections shut each other out: a newcomer always gets in, and one
    from elsewhere stays. libp2p itself takes 250 connections and then refuses the next, whoever
    it is.
    """

    def __init__(self, limit: int = MAX_STRANGERS) -> None:
        self.limit = limit
        self.evicted = 0
        self._strangers: dict[Socket, str] = {}

    def enter(self, socket: Socket) -> None:
        if len(self._strangers) >= self.limit:
            busiest, _ = Counter(self._strangers.values()).most_common(1)[0]
            oldest = next(known for known, host in self._strangers.items() if host == busiest)
            self.leave(oldest)
            oldest.abort()
            self.evicted += 1
        self._strangers[socket] = (socket.get_remote_address() or ("", 0))[0]

    def leave(self, socket: Socket) -> None:
        """Admitted, or gone."""
        self._strangers.pop(socket, None)

    def __len__(self) -> int:
        return len(self._strangers)


class GuardedTCP(TCP):
    """TCP whose sockets are `Socket`s, inbound ones after passing the `Door`."""

    def __init__(self, door: Door, spawn: Spawn) -> None:
        super().__init__()
        self.door = door
        self._spawn = spawn
        self.failed: list[PermeshError] = []

    async def dial(self, maddr: Multiaddr) -> IRawConnection:
        raw = await super().dial(maddr)
        assert isinstance(raw, RawConnection)
        assert isinstance(raw.stream, TrioTCPStream)
        raw.stream = socket = Socket(raw.stream.stream)
        self._spawn(socket.flush)
        return raw

    def create_listener(  # type: ignore[override]
        self, handler_function: Handler
    ) -> IListener:
        return GuardedListener(handler_function, self.door, self._spawn, self.failed)


class GuardedListener(IListener):
    """Listens without SO_REUSEPORT: with it, as in libp2p, a second daemon on the port gets every
    other connection instead of an error. ``failed`` takes the error, which libp2p would swallow.
    """

    def __init__(
        self, handler: Handler, door: Door, spawn: Spawn, failed: list[PermeshError]
    ) -> None:
        self._handler = handler
        self._door = door
        self._spawn = spawn
        self._failed = failed
        self._listeners: Sequence[trio.SocketListener] = ()
        self._stop = trio.CancelScope()
        self._stopped = trio.Event()

    async def listen(self, maddr: Multiaddr) -> None:
        host = extract_ip_from_multiaddr(maddr)
        port = int(maddr.value_for_protocol("tcp") or 0)
        try:
            self._listeners = await trio.open_tcp_listeners(port, host=host)
        except OSError as error:
            self._failed.append(_cannot_listen(maddr, error))
            raise OpenConnectionError(str(error)) from error
        trio.lowlevel.spawn_system_task(self._serve)

    async def _serve(self) -> None:
        try:
            with self._stop:
                await trio.serve_listeners(self._arrived, list(self._listeners))
        finally:
            self._stopped.set()

    async def _arrived(self, stream: trio.SocketStream) -> None:
        # libp2p's handler stays, with one of its slots, until the host ends. The scope ends it
        # with its connection, or 250 reconnections would be the last ones.
        socket = Socket(stream)
        with trio.CancelScope(deadline=trio.current_time() + STRANGER_S) as scope:

            def admitted() -> None:
                self._door.leave(socket)
                scope.deadline = math.inf

            socket.on_admitted, socket.on_closed = admitted, scope.cancel
            self._door.enter(socket)
            self._spawn(socket.flush)
            try:
                await self._handler(socket)
            except Exception as error:  # this is a system task: nothing may leave it
                logger.warning("A connection failed: %r", error)
        self._door.leave(socket)
        socket.on_closed = None
        socket.abort()

    def get_addrs(self) -> tuple[Multiaddr, ...]:
        return tuple(multiaddr_from_socket(listener.socket) for listener in self._listeners)

    async def close(self) -> None:
        if self._listeners:
            self._stop.cancel()
            await self._stopped.wait()
            self._listeners = ()


def _cannot_listen(maddr: Multiaddr, error: OSError) -> PermeshError:
    if error.errno == errno.EADDRINUSE:
        return PermeshError(
            "network.port_in_use",
            f"Another program listens on {maddr}.",
            "Stop it (another permesh daemon?), or listen elsewhere: permesh daemon --listen "
            "/ip4/0.0.0.0/tcp/0 takes any free port; [network] listen in config.toml keeps one.",
        )
    return PermeshError(
        "network.cannot_listen",
        f"Cannot listen on {maddr}: {error.strerror or error}.",
        "Correct [network] listen in config.toml.",
    )
