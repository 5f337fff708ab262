"""The members that we are connected to, and the streams between us.

Owns finding, admitting, keeping and dropping peers: one admitted connection for each, looked for
again for ever once it is gone. What a hello proves is the gate's to say; what a stream or a
message holds is its handler's. Must never know a record, a credential or a model.
"""

from __future__ import annotations

import functools
import logging
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import trio

from permesh.config import NetworkConfig
from permesh.errors import PermeshError, Refused

from . import addresses as places
from . import admission, heartbeat
from .admission import ADMISSION_S, Ended, Gate, GateVerdict
from .dialler import Dialler
from .faults import Faults
from .guards import Tasks, count_error, only_error
from .guards_host import Connection, GuardedHost, PeerStream
from .guards_mdns import local_peers
from .guards_pubsub import GuardedPubsub
from .inbox import Inbox
from .links import Link, PeerInfo
from .wire import Drain, Framed

MAX_PEERS = 256
OPEN_S = 10.0
# A peer that was refused has this long to read why; streams of a connection that another one
# replaces have it to end.
DISMISS_S = 1.0
RECHECK_S = 10.0

__all__ = ["Handler", "PeerInfo", "Swarm"]

Handler = Callable[[Framed, str, object], Awaitable[None]]

logger = logging.getLogger(__name__)


def _nobody(_: object) -> None:
    return None


class Swarm:
    """Our side of the mesh.

    ``seed`` is the libp2p identity (Ed25519, 32 bytes). ``handlers`` maps protocols to what
    serves a member's stream: ``await handler(stream, peer_id, verified)``; an error in it resets
    that stream and is counted as a fault (``Refused``: the peer's; ``PermeshError``: nobody's).
    ``on_message(peer_id, data)`` takes the topic's messages from the member that forwarded them
    (the source has signed them; it may be another). ``on_peer`` is called when a peer is
    admitted, ``on_gone`` when its last connection has ended. Callbacks run in the event loop and
    must not block. ``clock_ms`` is Unix time.
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
        self._config = config
        self._gate = gate
        self._on_message = on_message
        self._on_peer = on_peer
        self._on_gone = on_gone
        self._clock_ms = clock_ms
        self._host = GuardedHost(seed, self)
        self._inbox = Inbox(self._take)
        self._pubsub = GuardedPubsub(self._host, topic, self._inbox.put)
        self._tasks = Tasks(self._host.errors)
        self._faults = Faults()
        self._dialler = Dialler(
            self._host,
            self._tasks,
            rng or random.Random(),
            is_linked=lambda peer: any(link.peer_id == peer for link in self._links.values()),
            is_member=lambda peer: peer in self._chosen,
            outcome=self._outcome,
        )
        self._links: dict[Connection, Link] = {}
        self._chosen: dict[str, Link] = {}
        self._host.serve(admission.PROTOCOL, self._serve_admission, strangers=True)
        self._host.serve(heartbeat.PROTOCOL, heartbeat.serve)
        for protocol, handler in handlers.items():
            self._serve(protocol, handler)
        for address in config.bootstrap:
            self.add_bootstrap(address)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Swarm]:
        """Listen, and look for peers; raises ``PermeshError`` where it cannot listen."""
        listen = [places.multiaddr(address) for address in self._config.listen]
        try:
            async with self._tasks.open(), self._pubsub.running(), self._host.running(listen):
                for loop in (self._dialler.run, self._recheck_loop, self._inbox.run):
                    self._tasks.spawn(loop)
                if self._config.mdns:
                    self._tasks.spawn(local_peers, self._host, self._pubsub.topic, self._found)
                yield self
        except BaseExceptionGroup as group:
            raise only_error(group) from None

    async def run(self, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        """Run until cancelled; started means that the port is bound."""
        async with self.running():
            task_status.started()
            await trio.sleep_forever()

    # -- what there is to know

    @property
    def peer_id(self) -> str:
        return str(self._host.get_id())

    def addresses(self) -> list[str]:
        """Where we can be dialled: full multiaddrs, those of `announce` first."""
        return [f"{place}/p2p/{self.peer_id}" for place in self._places()]

    def _places(self) -> tuple[str, ...]:
        listened = [str(address) for address in self._host.listened]
        return places.dialable(self._config.announce, listened)

    def peers(self) -> list[PeerInfo]:
        """The admitted ones."""
        return [link.info() for link in self._chosen.values()]

    def host_of(self, peer_id: str) -> str | None:
        """The IP address at the other end of the present connection."""
        link = self._chosen.get(peer_id)
        address = link.connection.socket.get_remote_address() if link else None
        return address[0] if address else None

    def faults_of(self, peer_id: str) -> tuple[Counter[str], float]:
        """What is remembered of that peer's faults, by code, and its score (see `faults`)."""
        return self._faults.of(peer_id), self._faults.score(peer_id, time.monotonic())

    def shut_out(self) -> dict[str, float]:
        """Peers that are shut out for their faults, and for how many seconds more."""
        return self._faults.all_shut_out(time.monotonic())

    @property
    def faults(self) -> Counter[str]:
        """How often each fault of a peer was counted, by its code."""
        return self._faults.counts

    @property
    def errors(self) -> Counter[str]:
        """Errors of the library's or of handlers' that were contained, by the type's name."""
        return self._host.errors

    @property
    def dropped_messages(self) -> int:
        """Messages of the topic that came faster than ``on_message`` took them."""
        return self._inbox.dropped

    # -- what there is to do

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
        self._tasks.spawn(drain.run)
        return Framed(drain, abort=drain.abort)

    async def publish(self, data: bytes) -> None:
        """Send ``data`` (at most 128 KiB) to the topic: a hint, which may reach nobody."""
        await self._pubsub.send(data)

    def add_bootstrap(self, multiaddr: str) -> None:
        """Look for the peer at that address, for ever. Raises ``PermeshError`` for a bad one."""
        peer_id, place = places.parse(multiaddr)
        if peer_id != self.peer_id:
            self._dialler.look_for(peer_id, (place,), bootstrap=True)

    def add_seen(self, peer_id: str, addresses: tuple[str, ...]) -> None:
        """Learn where a member says it listens (multiaddrs without ``/p2p/``), and look there."""
        if peer_id != self.peer_id:
            self._dialler.look_for(peer_id, addresses, bootstrap=False)

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
        return link.info()

    async def drop(self, peer_id: str, why: str) -> None:
        """Close every connection to that peer; one that is looked for is found again."""
        logger.info("Dropping %s: %s.", peer_id, why)
        for link in [link for link in self._links.values() if link.peer_id == peer_id]:
            await self._close(link)

    def fault(self, peer_id: str, code: str, severity: int) -> None:
        """Count what a peer did wrong (1: a trifle, 100: an attack). See `faults.Faults`."""
        if self._faults.add(peer_id, code, severity, time.monotonic()):
            self._tasks.spawn(self.drop, peer_id, f"too many faults, the last one {code}")

    async def present(self) -> None:
        """Show our hello, renewed, to every peer again, on the connections that there are."""
        async with trio.open_nursery() as nursery:
            for link in self._chosen.values():
                nursery.start_soon(self._tasks.contain, self._introduce, link)

    def recheck(self) -> None:
        """Drop the peers whose verdict has expired; every `RECHECK_S` it happens by itself."""
        now = self._clock_ms()
        for link in self._chosen.values():
            if 0 < link.expires_ms <= now:
                self._tasks.spawn(self.drop, link.peer_id, "its credential has expired")

    async def _recheck_loop(self) -> None:
        while True:
            await trio.sleep(RECHECK_S)
            self.recheck()

    # -- the host's `Owner`: connections come and go

    def connected(self, connection: Connection) -> None:
        self._tasks.spawn(self._welcome, self._link(connection))

    def disconnected(self, connection: Connection) -> None:
        link = self._links.pop(connection, None)
        if link is None:
            return
        link.life.cancel()
        link.settled.set()
        if self._chosen.get(link.peer_id) is link:
            self._lost(link.peer_id)

    def chosen(self, peer_id: str) -> Connection | None:
        link = self._chosen.get(peer_id)
        return link.connection if link else None

    def _lost(self, peer_id: str) -> None:
        del self._chosen[peer_id]
        for link in self._links.values():
            if link.peer_id == peer_id and link.admitted:
                self._chosen[peer_id] = link
                self._pubsub.attach(peer_id)
                break
        else:
            self._pubsub.detach(peer_id)
            self._dialler.lost(peer_id)
            self._on_gone(peer_id)

    def _link(self, connection: Connection) -> Link:
        """Streams may come before the news of their connection, and after that of its end."""
        if connection.is_closed:
            return self._links.get(connection) or Link(connection)
        return self._links.setdefault(connection, Link(connection))

    async def _close(self, link: Link) -> None:
        await link.connection.close()
        self.disconnected(link.connection)

    async def _dismiss(self, link: Link) -> None:
        await trio.sleep(DISMISS_S)
        await self._close(link)

    # -- admission

    async def _welcome(self, link: Link) -> None:
        """See a new connection through its admission, or close it."""
        with trio.move_on_after(ADMISSION_S):
            if link.connection.outbound:
                await self._tasks.contain(self._introduce, link)
            else:
                await link.settled.wait()
        if link.ended is None:
            await self._close(link)
        elif not link.admitted:
            await self._dismiss(link)

    async def _introduce(self, link: Link) -> None:
        """Hold the conversation from our side; also to renew it."""
        stream = await self._open(link.connection, admission.PROTOCOL, ADMISSION_S)
        await self._talk(link, stream)

    async def _serve_admission(self, connection: Connection, stream: PeerStream) -> None:
        await self._tasks.contain(self._talk, self._link(connection), self._framed(stream))

    async def _talk(self, link: Link, stream: Framed) -> None:
        stream.limit = admission.MESSAGE_LIMIT
        check = functools.partial(self._check, link)
        ended = None
        try:
            with trio.move_on_after(ADMISSION_S):
                ended = await admission.converse(stream, self._gate.hello(), self._places(), check)
        except Refused as refused:
            self.fault(link.peer_id, refused.code, 20)
        finally:
            if ended is None:
                stream.abort()
            link.settled.set()
        if ended is not None:
            self._settle(link, ended)
            await stream.aclose()

    def _check(self, link: Link, hello: bytes) -> GateVerdict:
        """Our verdict; it holds from before the peer learns of it, or its first stream could
        come too early."""
        verdict = self._refusal(link.peer_id) or admission.ask(self._gate, link.peer_id, hello)
        if verdict.admitted:
            link.connection.admit(verdict.verified)
        return verdict

    def _refusal(self, peer_id: str) -> GateVerdict | None:
        if self._faults.shut_out(peer_id, time.monotonic()):
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

    def _settle(self, link: Link, ended: Ended) -> None:
        if link.connection not in self._links:
            return
        link.ended = ended
        try:
            self._gate.on_verdict(link.peer_id, ended.theirs)
        except Exception as error:
            count_error(self.errors, error, "on_verdict")
        if link.admitted:
            self._admit(link)
        elif link.admitted_ms:  # it was admitted until now; `_welcome` sees to the others
            self._tasks.spawn(self._dismiss, link)

    def _admit(self, link: Link) -> None:
        assert link.ended is not None
        peer_id, connection = link.peer_id, link.connection
        claimed = places.of_peer(link.ended.addresses, connection.address)
        self._dialler.look_for(peer_id, claimed, bootstrap=False)
        self._dialler.found(peer_id)
        if link.admitted_ms:
            return  # renewed
        link.admitted_ms = self._clock_ms()
        self._tasks.spawn(self._live, link)
        known = self._chosen.get(peer_id)
        if known is None:
            self._chosen[peer_id] = link
            self._pubsub.attach(peer_id)
            self._on_peer(link.info())
        elif link.replaces(known, self.peer_id):
            self._chosen[peer_id] = link
            self._pubsub.attach(peer_id)
            self._tasks.spawn(self._dismiss, known)
        else:
            self._tasks.spawn(self._dismiss, link)

    async def _live(self, link: Link) -> None:
        """Watch over an admitted connection until it is gone, or has to go."""
        connection = link.connection
        with link.life:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(
                    heartbeat.beat,
                    functools.partial(self._open, connection, heartbeat.PROTOCOL, heartbeat.BEAT_S),
                )
                why = await heartbeat.watch(connection)
                logger.info("Closing the connection to %s: %s.", link.peer_id, why)
                self._tasks.spawn(self._close, link)

    # -- what members send

    def _serve(self, protocol: str, handler: Handler) -> None:
        async def serve(connection: Connection, stream: PeerStream) -> None:
            framed = self._framed(stream)
            try:
                await handler(framed, connection.peer_id, connection.verified)
            except Exception as error:
                framed.abort()
                self._blame(connection.peer_id, error, protocol)
            else:
                await framed.aclose()

        self._host.serve(protocol, serve)

    def _take(self, peer_id: str, data: bytes) -> None:
        try:
            self._on_message(peer_id, data)
        except Exception as error:
            self._blame(peer_id, error, "on_message")

    def _blame(self, peer_id: str, error: Exception, where: str) -> None:
        if isinstance(error, Refused):
            self.fault(peer_id, error.code, 10)
        elif isinstance(error, PermeshError):
            logger.debug("%s: %s", where, error)
        else:
            self.fault(peer_id, "handler.error", 1)
            count_error(self.errors, error, where)

    async def _found(self, peer_id: str, addresses: tuple[str, ...]) -> None:
        """In the local network, whoever it is: dialled once for each announcement."""
        if peer_id != self.peer_id:
            self._tasks.spawn(self._dialler.try_once, peer_id, addresses)

    async def _outcome(self, connection: Connection) -> Ended | None:
        link = self._links.get(connection)
        if link is None:
            return None
        with trio.move_on_after(ADMISSION_S + DISMISS_S):
            await link.settled.wait()
        return link.ended
