"""The libp2p host as the swarm sees it: connections to dial, streams to open and to serve.

Owns which security and muxer are spoken, which protocols a connection may ask for before it is
admitted, and every deadline and limit on connections and streams. Must never know what makes a
peer a member: the swarm says `Connection.admit`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Protocol, cast

import trio
from libp2p.abc import INetConn, INetStream, INetwork, INotifee, ISecureConn
from libp2p.crypto.ed25519 import create_new_key_pair as ed25519_key_pair
from libp2p.crypto.x25519 import create_new_key_pair as x25519_key_pair
from libp2p.custom_types import TProtocol
from libp2p.host.basic_host import BasicHost
from libp2p.identity.identify.identify import ID as IDENTIFY
from libp2p.network.config import ConnectionConfig, RetryConfig
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.network.connection.swarm_connection import SwarmConn
from libp2p.network.exceptions import SwarmException
from libp2p.network.stream.exceptions import StreamEOF
from libp2p.network.swarm import Swarm as Network
from libp2p.peer.id import ID
from libp2p.peer.peerinfo import PeerInfo
from libp2p.peer.peerstore import PeerStore
from libp2p.protocol_muxer.exceptions import MultiselectClientError, MultiselectError
from libp2p.protocol_muxer.multiselect import Multiselect
from libp2p.protocol_muxer.multiselect_communicator import MultiselectCommunicator
from libp2p.rcmgr import Direction
from libp2p.security.noise.exceptions import PeerIDMismatchesPubkey
from libp2p.security.noise.transport import PROTOCOL_ID as NOISE
from libp2p.security.noise.transport import Transport as NoiseTransport
from libp2p.stream_muxer.yamux.yamux import PROTOCOL_ID as YAMUX
from libp2p.stream_muxer.yamux.yamux import Yamux
from libp2p.transport.upgrader import TransportUpgrader
from multiaddr import Multiaddr

from permesh.errors import PermeshError

from .guards import Tasks, count_error, run_service, tame_logs
from .guards_socket import STRANGER_S, Door, GuardedTCP, Socket
from .wire import Resettable, at_most

DIAL_S = 10.0
NEGOTIATE_S = 5
CLOSE_S = 1.0
# Streams that one peer may have open towards us.
MAX_STREAMS = 128
MAX_STRANGER_STREAMS = 4
# Yamux keeps what its streams have not read: 16 MiB each, if the peer keeps to the windows.
MAX_UNREAD = 128 * 1024 * 1024
# libp2p's own limit stands behind ours (the door's strangers, the swarm's peers).
MAX_CONNECTIONS = 1024

StreamHandler = Callable[["Connection", "PeerStream"], Awaitable[None]]


class PeerStream(Resettable):
    """A libp2p stream as a trio byte stream: whatever goes wrong is ``BrokenResourceError``."""

    def __init__(self, stream: INetStream) -> None:
        self._stream = stream

    async def send_all(self, data: bytes) -> None:
        try:
            await self._stream.write(data)
        except Exception as error:  # the library raises a dozen types for one thing
            raise trio.BrokenResourceError(str(error)) from error

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        try:
            return await self._stream.read(max_bytes)
        except StreamEOF:
            return b""
        except Exception as error:
            raise trio.BrokenResourceError(str(error)) from error

    async def aclose(self) -> None:
        try:
            await self._stream.close()
        except Exception as error:
            raise trio.BrokenResourceError(str(error)) from error

    async def reset(self) -> None:
        await self._stream.reset()


class Connection:
    """One libp2p connection. A stranger until `admit`; ``verified`` is the gate's word for it."""

    def __init__(self, conn: SwarmConn) -> None:
        self.peer_id = str(conn.muxed_conn.peer_id)
        self.outbound = conn.direction == Direction.OUTBOUND
        self.opened_at = trio.current_time()
        self.address = "".join(str(address) for address in conn.get_transport_addresses()[:1])
        self.admitted = False
        self.verified: object | None = None
        self.inbound_streams = 0
        self._conn = conn
        self.socket: Socket = cast(Any, conn.muxed_conn).secured_conn.socket

    @property
    def is_closed(self) -> bool:
        return self._conn.is_closed

    def carries(self, stream: INetStream) -> bool:
        return cast(Any, stream).swarm_conn is self._conn

    def admit(self, verified: object | None) -> None:
        """From now on the peer may ask for every protocol."""
        self.admitted, self.verified = True, verified
        self.socket.admit()

    def unread(self) -> int:
        """Bytes that yamux holds for streams that have not read them."""
        buffers = cast(Yamux, self._conn.muxed_conn).stream_buffers
        return sum(len(buffer) for buffer in buffers.values())

    async def open(self, host: GuardedHost, protocols: Sequence[TProtocol]) -> INetStream:
        """Open and negotiate a stream; raises whatever the library does. Set a deadline."""
        stream = await self._conn.new_stream()
        try:
            chosen = await host.multiselect_client.select_one_of(
                protocols, MultiselectCommunicator(stream), NEGOTIATE_S
            )
        except BaseException:
            with at_most(CLOSE_S):
                await stream.reset()
            raise
        stream.set_protocol(chosen)
        return stream

    async def close(self) -> None:
        """At once: whatever is under way in its streams is lost."""
        self.socket.abort()
        with at_most(CLOSE_S):
            await self._conn.close()


class Owner(Protocol):
    """What the host tells the swarm. These are called in the event loop and must not block."""

    def connected(self, connection: Connection) -> None: ...

    def disconnected(self, connection: Connection) -> None: ...

    def fault(self, peer_id: str, code: str, severity: int) -> None: ...

    def chosen(self, peer_id: str) -> Connection | None:
        """The admitted connection to that peer."""
        ...


class _Upgrader(TransportUpgrader):
    """Remembers which socket a connection stands on, and waits for it where that can be cancelled:
    before a frame, which may become several Noise packets, and never within."""

    async def upgrade_security(
        self, raw_conn: Any, is_initiator: bool, peer_id: ID | None = None
    ) -> ISecureConn:
        secured = await super().upgrade_security(raw_conn, is_initiator, peer_id)
        socket = cast(Socket, cast(RawConnection, raw_conn).stream)
        write = secured.write

        async def write_frame(data: bytes) -> None:
            await socket.room()
            await write(data)

        cast(Any, secured).socket = socket
        cast(Any, secured).write = write_frame
        return secured


class GuardedHost(BasicHost):
    """A host that speaks Noise and Yamux alone, and whose strangers get identify and admission."""

    def __init__(self, seed: bytes, owner: Owner) -> None:
        tame_logs()
        self.owner = owner
        self.errors: Counter[str] = Counter()
        self.door = Door()
        self.listened: list[Multiaddr] = []
        self._told: list[Multiaddr] = []
        self._tasks = Tasks(self.errors)
        self._tcp = GuardedTCP(self.door, self._tasks.spawn)
        super().__init__(_make_network(seed, self._tcp), disable_identify_address_discovery=True)
        network = self.get_network()
        # BasicHost would identify each peer by itself, in system tasks, and believe its addresses;
        # the swarm learns them in the admission.
        cast(Network, network).notifees.clear()
        network.register_notifee(_Notifee(owner))
        network.set_stream_handler(self._on_stream)
        self.strangers = Multiselect({IDENTIFY: self.multiselect.handlers[IDENTIFY]})
        self.multiselect.handlers = {IDENTIFY: self.multiselect.handlers[IDENTIFY]}

    def serve(self, protocol: str, handler: StreamHandler, *, strangers: bool = False) -> None:
        """Serve ``protocol`` to members, or to everyone who is connected."""

        async def handle(stream: INetStream) -> None:
            await handler(_connection(stream), PeerStream(stream))

        self.multiselect.add_handler(TProtocol(protocol), handle)
        if strangers:
            self.strangers.add_handler(TProtocol(protocol), handle)

    @asynccontextmanager
    async def running(self, addresses: Sequence[Multiaddr]) -> AsyncIterator[None]:
        """Run and listen; raises ``PermeshError`` when an address cannot be had."""
        network = cast(Network, self.get_network())
        async with self._tasks.open(), run_service(network, self.errors):
            try:
                await network.listen(*addresses)
                if self._tcp.failed:
                    raise self._tcp.failed[0]
                self.listened = self.get_transport_addrs()
                suffix = Multiaddr(f"/p2p/{self.get_id()}")
                self._told = [address.encapsulate(suffix) for address in self.listened[:4]]
                yield
            finally:
                with at_most(CLOSE_S):
                    for connection in _all(network):
                        connection.socket.abort()
                    for listener in list(network.listeners.values()):
                        await listener.close()

    async def dial(self, address: Multiaddr, peer_id: str) -> Connection:
        """Connect to exactly that peer at that address; raises ``PermeshError``."""
        try:
            with trio.fail_after(DIAL_S):
                conn = await cast(Network, self.get_network()).dial_addr(
                    address, ID.from_string(peer_id)
                )
        except trio.TooSlowError as error:
            raise _unreachable(address, "it does not answer") from error
        except Exception as error:  # DNS and the handshake raise many types
            raise _cannot_dial(address, error) from error
        return _guarded(cast(SwarmConn, conn))

    async def open(self, connection: Connection, protocol: str) -> PeerStream:
        """A stream on that connection; raises ``PermeshError``. The caller sets a deadline."""
        try:
            return PeerStream(await connection.open(self, [TProtocol(protocol)]))
        except MultiselectClientError as error:
            if connection.is_closed:
                raise _gone() from error
            raise PermeshError(
                "network.protocol", f"The peer does not serve {protocol}."
            ) from error
        except Exception as error:
            raise _gone() from error

    # -- what libp2p's parts ask of a host

    async def new_stream(self, peer_id: ID, protocol_ids: Sequence[TProtocol]) -> INetStream:
        """For pubsub: on the admitted connection, or not at all (never by dialling)."""
        connection = self.owner.chosen(str(peer_id))
        if connection is None:
            raise SwarmException(f"no admitted connection to {peer_id}")
        try:
            with trio.fail_after(NEGOTIATE_S):
                return await connection.open(self, protocol_ids)
        except Exception as error:
            raise SwarmException(f"no stream to {peer_id}: {error!r}") from error

    async def connect(self, peer_info: PeerInfo) -> None:  # noqa: ARG002
        """Never: gossipsub would dial whatever addresses a peer puts into a PRUNE."""
        raise SwarmException("only the swarm dials")

    def get_addrs(self) -> list[Multiaddr]:
        """Asked for with every message, so they are not looked up each time."""
        return self._told

    async def _on_stream(self, stream: INetStream) -> None:
        """Every inbound stream enters here, and no error leaves: it would end the host."""
        connection = _connection(stream)
        connection.inbound_streams += 1
        try:
            await self._serve_stream(connection, stream)
        except MultiselectError:
            await stream.reset()  # asked for what is not served, or gave up
        except Exception as error:
            count_error(self.errors, error, f"stream of {connection.peer_id}")
            self.owner.fault(connection.peer_id, "stream.error", 5)
            with at_most(CLOSE_S):
                await stream.reset()
        finally:
            connection.inbound_streams -= 1

    async def _serve_stream(self, connection: Connection, stream: INetStream) -> None:
        admitted = connection.admitted
        if connection.inbound_streams > (MAX_STREAMS if admitted else MAX_STRANGER_STREAMS):
            self.owner.fault(connection.peer_id, "stream.too_many", 5)
            await (stream.reset() if admitted else connection.close())
            return
        served = self.multiselect if admitted else self.strangers
        protocol, handler = await served.negotiate(MultiselectCommunicator(stream), NEGOTIATE_S)
        if protocol is None or handler is None:
            raise MultiselectError
        stream.set_protocol(protocol)
        await handler(stream)


class _Notifee(INotifee):
    def __init__(self, owner: Owner) -> None:
        self._owner = owner

    async def connected(self, network: INetwork, conn: INetConn) -> None:  # noqa: ARG002
        self._owner.connected(_guarded(cast(SwarmConn, conn)))

    async def disconnected(self, network: INetwork, conn: INetConn) -> None:  # noqa: ARG002
        self._owner.disconnected(_guarded(cast(SwarmConn, conn)))

    async def opened_stream(self, network: INetwork, stream: INetStream) -> None: ...

    async def closed_stream(self, network: INetwork, stream: INetStream) -> None: ...

    async def listen(self, network: INetwork, multiaddr: Multiaddr) -> None: ...

    async def listen_close(self, network: INetwork, multiaddr: Multiaddr) -> None: ...


class _Network(Network):
    async def dial_peer(self, peer_id: ID) -> list[INetConn]:
        """Never: its auto-connector would dial whoever is in the peerstore."""
        raise SwarmException(f"only the swarm dials {peer_id}")


def _make_network(seed: bytes, tcp: GuardedTCP) -> Network:
    keys = ed25519_key_pair(seed)
    identity = ID.from_pubkey(keys.public_key)
    peerstore = PeerStore()
    peerstore.add_key_pair(identity, keys)
    # By default plaintext and secio are offered too, and mplex.
    noise = NoiseTransport(keys, noise_privkey=x25519_key_pair().private_key)
    upgrader = _Upgrader({TProtocol(NOISE): noise}, {TProtocol(YAMUX): Yamux}, NEGOTIATE_S)
    return _Network(
        identity,
        peerstore,
        upgrader,
        [tcp],
        RetryConfig(max_retries=0),
        ConnectionConfig(
            max_connections=MAX_CONNECTIONS,
            # The swarm chooses among connections to one peer; libp2p would trim by age.
            max_connections_per_peer=MAX_CONNECTIONS,
            # No dialling of its own, and no pruning.
            min_connections=0,
            low_watermark=0,
            high_watermark=MAX_CONNECTIONS,
            inbound_upgrade_timeout=STRANGER_S,
            outbound_upgrade_timeout=STRANGER_S,
        ),
    )


def _guarded(conn: SwarmConn) -> Connection:
    """Streams may come before the news of their connection, so whoever is first makes it."""
    known = getattr(conn, "guarded", None)
    if known is None:
        known = cast(Any, conn).guarded = Connection(conn)
    return cast(Connection, known)


def _connection(stream: INetStream) -> Connection:
    return _guarded(cast(Any, stream).swarm_conn)


def _all(network: Network) -> list[Connection]:
    return [_guarded(cast(SwarmConn, conn)) for conn in network.get_connections()]


def _gone() -> PermeshError:
    return PermeshError("network.gone", "The connection to the peer is gone.")


def _unreachable(address: Multiaddr, why: str) -> PermeshError:
    return PermeshError(
        "network.unreachable",
        f"Cannot reach {address}: {why}.",
        "Check that its daemon runs and that its port is open; it is tried again by itself.",
    )


def _cannot_dial(address: Multiaddr, error: BaseException) -> PermeshError:
    if "Peer ID mismatch" in str(error) or isinstance(_root(error), PeerIDMismatchesPubkey):
        return PermeshError(
            "network.wrong_peer",
            f"Another peer than expected answers at {address}.",
            "Ask for a fresh invite: the address may have changed hands.",
        )
    cause = _root(error)
    why = cause.strerror if isinstance(cause, OSError) and cause.strerror else str(cause)
    return _unreachable(address, why[:100] or "the connection failed")


def _root(error: BaseException) -> BaseException:
    while error.__cause__ is not None:
        error = error.__cause__
    return error
