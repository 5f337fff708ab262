"""The members that we are connected to, and the streams between us.

Owns finding, admitting, keeping and dropping peers: one admitted connection for each, looked for
again for ever once it is gone. What a hello proves is the gate's to say; what a stream or a
message holds is its handler's. Must never know a record, a credential or a model.
"""

from __future__ import annotations

import logging
import random
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import trio

from permesh.config import NetworkConfig
from permesh.errors import PermeshError, Refused

from . import addresses as places
from . import admission
from .admission import ADMISSION_S, Ended, Gate, GateVerdict
from .faults import Faults
from .guards import count_error
from .guards_host import MAX_UNREAD, Connection, GuardedHost, PeerStream
from .guards_mdns import local_peers
from .guards_pubsub import GuardedPubsub
from .redial import Redial, Target
from .wire import Drain, Framed

BEAT_PROTOCOL = "/permesh/beat/1"
# Each side says every 4 s that it is there; after three times without a byte it is not. So a
# peer that hangs (SIGSTOP, a cable pulled) is noticed within 16 s of its last byte.
BEAT_S = 4.0
MISSED_BEATS = 3

MAX_PEERS = 256
OPEN_S = 10.0
# A dismissed peer has this long to read why.
DISMISS_S = 1.0
# Two connections made within this time of each other were dialled by both sides at once.
TOGETHER_S = 10.0
RECHECK_S = 10.0
# Messages of the topic that wait for `on_message`; the oldest go first.
MAX_WAITING = 1024

Handler = Callable[[Framed, str, object], Awaitable[None]]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PeerInfo:
    """An admitted peer. ``address`` is the multiaddr that it is connected from or at."""

    peer_id: str
    address: str
    connected_ms: int
    verified: object | None


@dataclass(eq=False, slots=True)
class _Link:
    """A connection on its way from a stranger's to a member's."""

    connection: Connection
    ended: Ended | None = None
    settled: trio.Event = field(default_factory=trio.Event)
    admitted_ms: int = 0
    life: trio.CancelScope = field(default_factory=trio.CancelScope)

    @property
    def peer_id(self) -> str:
        return self.connection.peer_id

    @property
    def admitted(self) -> bool:
        ended = self.ended
        return ended is not None and ended.ours.admitted and ended.theirs.admitted


def _nobody(_: object) -> None:
    return None


class Swarm:
    """Our side of the mesh.

    ``seed`` is the libp2p identity (Ed25519, 32 bytes). ``handlers`` maps protocols to what
    serves a member's stream: ``await handler(stream, peer_id, verified)``; an error in it resets
    that stream and is counted as a fault, ``Refused`` as the peer's. ``on_message(peer_id, data)``
    takes the topic's messages from the member that forwarded them (the source has signed them).
    ``on_peer`` is called when a peer is admitted, ``on_gone`` when its last connection ended.
    Callbacks run in the event loop and must not block.
    """

    def __init__(
        self,
        seed: bytes,
        config: NetworkConfig,
        topic: str,
        gate: Gate,
        handlers: Mapping[str, Handler],
        on_message: Callable[[str, bytes], None],
        *,
        on_peer: Callable[[PeerInfo], None] = _nobody,
        on_gone: Callable[[str], None] = _nobody,
        rng: random.Random | None = None,
        clock_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self.errors: Counter[str]
        self.dropped_messages = 0
        self._config = config
        self._gate = gate
        self._on_message = on_message
        self._on_peer = on_peer
        self._on_gone = on_gone
        self._clock_ms = clock_ms
        self._host = GuardedHost(seed, self)
        self.errors = self._host.errors
        self._pubsub = GuardedPubsub(self._host, topic, self._arrived)
        self._faults = Faults()
        self._redial = Redial(rng or random.Random())
        self._wake = trio.Event()
        self._messages: deque[tuple[str, bytes]] = deque()
        self._message_came = trio.Event()
        self._links: dict[Connection, _Link] = {}
        self._chosen: dict[str, _Link] = {}
        self._nursery: trio.Nursery | None = None
        self._host.serve(admission.PROTOCOL, self._serve_admission, strangers=True)
        self._host.serve(BEAT_PROTOCOL, self._serve_beat)
        for protocol, handler in handlers.items():
            self._serve(protocol, handler)
        for address in config.bootstrap:
            self.add_bootstrap(address)

    # -- what others ask

    @property
    def peer_id(self) -> str:
        return str(self._host.get_id())

    def addresses(self) -> list[str]:
        """Where we can be dialled: full multiaddrs, those of `announce` first."""
        return [f"{address}/p2p/{self.peer_id}" for address in self._places()]

    def _places(self) -> tuple[str, ...]:
        listened = [str(address) for address in self._host.listened]
        return places.dialable(self._config.announce, listened)

    def peers(self) -> list[PeerInfo]:
        """The admitted ones."""
        return [self._info(link) for link in self._chosen.values()]

    def _info(self, link: _Link) -> PeerInfo:
        connection = link.connection
        return PeerInfo(link.peer_id, connection.address, link.admitted_ms, connection.verified)

    def host_of(self, peer_id: str) -> str | None:
        """The IP address at the other end of the present connection."""
        link = self._chosen.get(peer_id)
        address = link.connection.socket.get_remote_address() if link else None
        return address[0] if address else None

    async def open(self, peer_id: str, protocol: str, deadline: float = OPEN_S) -> Framed:
        """A stream to an admitted peer, within ``deadline`` seconds; the caller closes it.

        Raises ``PermeshError``: ``network.not_connected``, ``.protocol``, ``.gone``, ``.slow``.
        """
        link = self._chosen.get(peer_id)
        if link is None:
            raise PermeshError("network.not_connected", "That member is not connected.")
        return await self._open(link.connection, protocol, deadline)

    async def _open(self, connection: Connection, protocol: str, deadline: float) -> Framed:
        try:
            with trio.fail_after(deadline):
                return self._framed(await self._host.open(connection, protocol))
        except trio.TooSlowError as error:
            raise PermeshError(
                "network.slow", f"The peer has not answered within {deadline:g} seconds."
            ) from error

    def _framed(self, stream: PeerStream) -> Framed:
        drain = Drain(stream)
        self._spawn(drain.run)
        return Framed(drain, abort=drain.abort)

    async def publish(self, data: bytes) -> None:
        """Send ``data`` to the topic; a hint, that may reach nobody."""
        await self._pubsub.send(data)

    def add_bootstrap(self, multiaddr: str) -> None:
        """Look for the peer at that address, for ever. Raises ``PermeshError`` for a bad one."""
        peer_id, place = places.parse(multiaddr)
        if peer_id != self.peer_id:
            self._redial.add(peer_id, (place,), self._now(), bootstrap=True)
            self._wake.set()

    async def connect(self, multiaddr: str) -> PeerInfo:
        """Dial and be admitted; raises ``PermeshError`` with what to do about it."""
        peer_id, place = places.parse(multiaddr)
        if peer_id not in self._chosen:
            connection = await self._host.dial(places.multiaddr(place), peer_id)
            ended = await self._outcome(connection)
            for verdict in (ended.theirs, ended.ours) if ended else ():
                if not verdict.admitted:
                    raise PermeshError(
                        verdict.code or "admission.refused",
                        verdict.message or "The peer did not let us in.",
                        verdict.remedy,
                    )
        link = self._chosen.get(peer_id)
        if link is None:
            raise PermeshError(
                "network.gone",
                "The peer closed the connection before it let us in.",
                "It may be busy; try again.",
            )
        return self._info(link)

    async def drop(self, peer_id: str, why: str) -> None:
        """Close every connection to that peer. If it is looked for, it is found again."""
        logger.info("Dropping %s: %s.", peer_id, why)
        for link in [link for link in self._links.values() if link.peer_id == peer_id]:
            await link.connection.close()

    def fault(self, peer_id: str, code: str, severity: int) -> None:
        """Count what a peer did wrong; at 100 within a few minutes it is shut out for a while."""
        if self._faults.add(peer_id, code, severity, self._now()):
            self._spawn(self.drop, peer_id, f"too many faults, the last one {code}")

    @property
    def faults(self) -> Counter[str]:
        """How often each code was counted."""
        return self._faults.counts

    async def present(self) -> None:
        """Show our hello again, renewed, to every peer, on the connections that there are."""
        async with trio.open_nursery() as nursery:
            for link in list(self._chosen.values()):
                nursery.start_soon(self._contained, self._introduce, link)

    def recheck(self) -> None:
        """Drop the peers whose verdict has expired; it also happens by itself."""
        now = self._clock_ms()
        for link in list(self._chosen.values()):
            expires = link.ended.ours.expires_ms if link.ended else 0
            if 0 < expires <= now:
                self._spawn(self.drop, link.peer_id, "its credential has expired")

    # -- running

    async def run(self, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        """Run until cancelled; started means that the port is bound."""
        async with self.running():
            task_status.started()
            await trio.sleep_forever()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Swarm]:
        """Raises ``PermeshError`` where it cannot listen."""
        try:
            listen = [places.multiaddr(address) for address in self._config.listen]
            async with (
                trio.open_nursery() as self._nursery,
                self._pubsub.running(),
                self._host.running(listen),
            ):
                self._start()
                try:
                    yield self
                finally:
                    self._nursery.cancel_scope.cancel()
        except BaseExceptionGroup as group:
            raise _only(group) from None

    def _start(self) -> None:
        for loop in (self._redial_loop, self._message_loop, self._recheck_loop):
            self._spawn(loop)
        if self._config.mdns:
            self._spawn(local_peers, self._host, self._pubsub.topic, self._try_once)

    def _spawn(self, function: Callable[..., Awaitable[object]], *args: object) -> None:
        if self._nursery is not None:
            self._nursery.start_soon(self._contained, function, *args)

    async def _contained(self, function: Callable[..., Awaitable[object]], *args: object) -> None:
        """One peer's trouble is not the swarm's."""
        try:
            await function(*args)
        except PermeshError as error:
            logger.debug("%s", error)
        except Exception as error:
            count_error(self.errors, error, function.__name__)

    def _now(self) -> float:
        return time.monotonic()

    # -- connections come, are admitted, and go (the first three are the host's `Owner`)

    def connected(self, connection: Connection) -> None:
        self._spawn(self._welcome, self._link(connection))

    def chosen(self, peer_id: str) -> Connection | None:
        link = self._chosen.get(peer_id)
        return link.connection if link else None

    def disconnected(self, connection: Connection) -> None:
        link = self._links.pop(connection, None)
        if link is None:
            return
        link.life.cancel()
        link.settled.set()
        if self._chosen.get(link.peer_id) is link:
            self._lost(link.peer_id)

    def _lost(self, peer_id: str) -> None:
        del self._chosen[peer_id]
        others = [
            link for link in self._links.values() if link.peer_id == peer_id and link.admitted
        ]
        if others:
            self._choose(others[0])
            return
        self._pubsub.detach(peer_id)
        self._redial.gone(peer_id, self._now())
        self._wake.set()
        self._on_gone(peer_id)

    def _link(self, connection: Connection) -> _Link:
        return self._links.setdefault(connection, _Link(connection))

    async def _welcome(self, link: _Link) -> None:
        """See a new connection through its admission, or close it."""
        with trio.move_on_after(ADMISSION_S):
            if link.connection.outbound:
                await self._contained(self._introduce, link)
            else:
                await link.settled.wait()
        if not link.admitted:
            await trio.sleep(DISMISS_S if link.ended else 0)
            await link.connection.close()

    async def _introduce(self, link: _Link) -> None:
        """Hold the conversation from our side; also to renew it."""
        stream = await self._open(link.connection, admission.PROTOCOL, ADMISSION_S)
        await self._talk(link, stream)

    async def _serve_admission(self, connection: Connection, stream: PeerStream) -> None:
        await self._talk(self._link(connection), self._framed(stream))

    async def _talk(self, link: _Link, stream: Framed) -> None:
        stream.limit = admission.MESSAGE_LIMIT

        def found(verdict: GateVerdict) -> None:
            if verdict.admitted:
                link.connection.admit(verdict.verified)

        try:
            with trio.fail_after(ADMISSION_S):
                ended = await admission.converse(
                    stream, link.peer_id, _Checked(self), self._places(), found
                )
            await stream.aclose()
        except Refused as refused:
            self.fault(link.peer_id, refused.code, 20)
            raise
        finally:
            if link.ended is None:
                link.settled.set()
        self._settle(link, ended)

    def _settle(self, link: _Link, ended: Ended) -> None:
        if link.connection not in self._links:
            return
        link.ended = ended
        link.settled.set()
        self._gate.on_verdict(link.peer_id, ended.theirs)
        if link.admitted:
            self._redial.add(
                link.peer_id, places.of_peer(ended.addresses, link.connection.address), self._now()
            )
            self._redial.connected(link.peer_id, self._now())
            self._admit(link)
        elif self._chosen.get(link.peer_id) is link:
            self._spawn(self._dismiss, link)

    async def _dismiss(self, link: _Link) -> None:
        await trio.sleep(DISMISS_S)
        await link.connection.close()

    def _admit(self, link: _Link) -> None:
        known = self._chosen.get(link.peer_id)
        if known is link:
            return
        if known is None or self._prefers(link, known):
            self._choose(link)
        if known is not None:
            self._spawn(self._dismiss, known if self._chosen[link.peer_id] is link else link)

    def _prefers(self, new: _Link, known: _Link) -> bool:
        """Whether ``new`` takes the place of ``known``; both sides come to the same answer.

        When both dialled at once, the connection dialled by the smaller peer id stays. Otherwise
        the peer would not have dialled if the older connection was still of use to it.
        """
        here, there = new.connection, known.connection
        apart = abs(here.opened_at - there.opened_at)
        if here.outbound == there.outbound or apart > TOGETHER_S:
            return True
        return here.outbound == (self.peer_id < new.peer_id)

    def _choose(self, link: _Link) -> None:
        first = link.peer_id not in self._chosen
        self._chosen[link.peer_id] = link
        link.admitted_ms = link.admitted_ms or self._clock_ms()
        self._pubsub.detach(link.peer_id)
        self._spawn(self._pubsub.attach, link.peer_id)
        self._spawn(self._live, link)
        if first:
            self._on_peer(self._info(link))

    # -- an admitted connection's life

    async def _live(self, link: _Link) -> None:
        with link.life:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._beat, link)
                await self._watch(link)

    async def _beat(self, link: _Link) -> None:
        stream: Framed | None = None
        while True:
            try:
                stream = stream or await self._open(link.connection, BEAT_PROTOCOL, BEAT_S)
                await stream.send(b"\x00", BEAT_S)
            except PermeshError:
                stream = None  # `_watch` sees whether the connection lives
            await trio.sleep(BEAT_S)

    async def _watch(self, link: _Link) -> None:
        socket, seen, missed = link.connection.socket, 0, 0
        while missed < MISSED_BEATS:
            missed = missed + 1 if socket.received == seen else 0
            seen = socket.received
            if link.connection.unread() > MAX_UNREAD:
                self.fault(link.peer_id, "stream.flood", 100)
            await trio.sleep(BEAT_S)
        logger.info("%s has fallen silent.", link.peer_id)
        with trio.CancelScope(shield=True):
            await link.connection.close()

    async def _serve_beat(self, _: Connection, stream: PeerStream) -> None:
        while await stream.receive_some():
            pass

    def _serve(self, protocol: str, handler: Handler) -> None:
        async def serve(connection: Connection, stream: PeerStream) -> None:
            framed = self._framed(stream)
            try:
                await handler(framed, connection.peer_id, connection.verified)
                await framed.aclose()
            except Refused as refused:
                self.fault(connection.peer_id, refused.code, 10)
            except PermeshError as error:
                logger.debug("%s: %s", protocol, error)
            except Exception as error:
                self.fault(connection.peer_id, "handler.error", 1)
                count_error(self.errors, error, protocol)
                logger.debug("In the handler of %s:", protocol, exc_info=error)
            finally:
                framed.abort()

        self._host.serve(protocol, serve)

    # -- messages of the topic

    def _arrived(self, peer_id: str, data: bytes) -> None:
        if len(self._messages) >= MAX_WAITING:
            self._messages.popleft()
            self.dropped_messages += 1
        self._messages.append((peer_id, data))
        self._message_came.set()

    async def _message_loop(self) -> None:
        while True:
            await self._message_came.wait()
            self._message_came = trio.Event()
            while self._messages:
                peer_id, data = self._messages.popleft()
                try:
                    self._on_message(peer_id, data)
                except Refused as refused:
                    self.fault(peer_id, refused.code, 5)
                except Exception as error:
                    count_error(self.errors, error, "on_message")
                await trio.lowlevel.checkpoint()

    # -- looking for peers

    async def _redial_loop(self) -> None:
        while True:
            self._wake = trio.Event()
            for target in self._redial.due(self._now()):
                self._spawn(self._look_for, target)
            with trio.move_on_after(max(self._redial.next_at() - self._now(), 0.0)):
                await self._wake.wait()

    async def _look_for(self, target: Target) -> None:
        ended = await self._try(target.peer_id, target.addresses)
        if target.peer_id in self._chosen:
            self._redial.connected(target.peer_id, self._now())
        else:
            pending = ended is not None and "pending" in (ended.theirs.status, ended.ours.status)
            self._redial.failed(target.peer_id, self._now(), pending=pending)
            self._wake.set()

    async def _try_once(self, peer_id: str, addresses: tuple[str, ...]) -> None:
        if peer_id != self.peer_id:
            self._spawn(self._try, peer_id, addresses)

    async def _try(self, peer_id: str, addresses: tuple[str, ...]) -> Ended | None:
        """Dial the addresses in turn until one is the peer; returns what came of it."""
        for address in addresses:
            if any(link.peer_id == peer_id for link in self._links.values()):
                return None
            try:
                connection = await self._host.dial(places.multiaddr(address), peer_id)
            except PermeshError as error:
                logger.debug("%s", error)
                continue
            return await self._outcome(connection)
        return None

    async def _outcome(self, connection: Connection) -> Ended | None:
        link = self._link(connection)
        with trio.move_on_after(ADMISSION_S + DISMISS_S):
            await link.settled.wait()
        return link.ended

    async def _recheck_loop(self) -> None:
        while True:
            await trio.sleep(RECHECK_S)
            self.recheck()

    # -- who may come in

    def _refusal(self, peer_id: str) -> GateVerdict | None:
        if self._faults.shut_out(peer_id, self._now()):
            return GateVerdict(
                "refused", "network.faults", "Too many faults were counted against this peer."
            )
        if peer_id not in self._chosen and len(self._chosen) >= MAX_PEERS:
            return GateVerdict(
                "refused",
                "network.full",
                f"This member has {MAX_PEERS} connections already.",
                "Connect to another member.",
            )
        return None


class _Checked:
    """The gate, behind what the swarm itself has to say."""

    def __init__(self, swarm: Swarm) -> None:
        self._swarm = swarm

    def hello(self) -> bytes:
        return self._swarm._gate.hello()

    def check(self, peer_id: str, hello: bytes) -> GateVerdict:
        return self._swarm._refusal(peer_id) or self._swarm._gate.check(peer_id, hello)

    def on_verdict(self, peer_id: str, verdict: GateVerdict) -> None:
        self._swarm._gate.on_verdict(peer_id, verdict)


def _only(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The error itself where there is one only: nurseries wrap each in a group."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error
