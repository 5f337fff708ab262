"""The daemon: one process a member, and the place where its parts are put together.

Owns the order in which parts start and stop, and the wires between them. It decides nothing that
a part could decide. The socket opens last, so that connecting means ready, and closes first.
"""

from __future__ import annotations

import logging
import logging.handlers
import os
import random
import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from .api import serve_api
from .async_store import AsyncStore
from .attachments import Attachments
from .config import Config, Home, IdentityConfig, load_config
from .errors import PermeshError
from .events import (
    EventBus,
    MembersChanged,
    PeersChanged,
    RecordsSaved,
    SpansChanged,
    StatusChanged,
)
from .forum import following, kinds, retention
from .forum.following import Keep
from .forum.kinds import REMOVALS
from .forum_parts import ForumParts
from .identity.card import agent_number
from .identity.genesis import Genesis
from .identity.hello import Verified
from .inference.service import Compute
from .inference.supervisor import Engine
from .inference.surroundings import Member
from .local_node import LocalNode
from .lock import lock_home
from .membership import Membership
from .p2p import addressbook, blobs
from .p2p.replication import Replication, severity
from .p2p.sessions import PROTOCOL as SYNC_PROTOCOL
from .p2p.swarm import OPEN_S, Handler, PeerInfo, Swarm
from .p2p.wire import Framed
from .records import MAX_RECORD_BYTES, Record, unpack
from .remembered import BOOTSTRAP_KEY, Secrets
from .store import Store
from .stored import Views
from .verifiers import Verifier, verifiers

if TYPE_CHECKING:
    from trio_typing import TaskStatus  # what the stubs of trio call it

# How long a stream waits for us to hear what was said while we were away. Beyond it nobody answers
# us, and the peer is served by what we know.
CATCH_UP_S = 10.0
LOG_BYTES = 4 * 1024 * 1024
LOG_FILES = 2
_log = logging.getLogger("permesh.daemon")


class Daemon:
    """The parts, wired. ``run`` starts them in order and ends when it is cancelled."""

    def __init__(
        self,
        home: Home,
        config: Config,
        store: AsyncStore,
        views: Views,
        membership: Membership,
        seed: bytes,
    ) -> None:
        self._home = home
        self._config = config
        self._store = store
        self._membership = membership
        self._roster = membership.roster
        self._rng = random.Random()  # jitter alone
        self.events = EventBus()
        membership.on_change = lambda: self.events.publish(StatusChanged())

        models = config.models_directory(home)
        self._engine = Engine(lambda _: self.events.publish(StatusChanged()))
        self._compute = Compute(
            self._engine,
            _Surroundings(self),
            models,
            now=now_ms,
            lane_port=config.network.lane_port,
        )
        self.swarm = Swarm(
            seed,
            config.network,
            f"permesh/{membership.genesis.mesh_id.hex()}/1",
            membership,
            {
                SYNC_PROTOCOL: self._serve_sync,
                **self._guarded({**self._compute.handlers, blobs.PROTOCOL: self._serve_file}),
            },
            lambda peer, data: self.replication.on_message(peer, data),
            on_peer=self._on_peer,
            on_gone=self._on_gone,
            rng=self._rng,
        )
        self._attachments = Attachments(
            home.attachments,
            config.forum.attachments_mb * 1024 * 1024,
            self.swarm,
            peers=self._connected,
            fault=self.fault,
            rng=self._rng,
        )
        self.replication = Replication(
            store,
            self._roster,
            self.swarm,
            self.events,
            now_ms=now_ms,
            rng=self._rng,
            fault=self.fault,
            check_format=_check_format,
            author=membership.agent,
            removals=REMOVALS,
            rooms=following.followed,
            pinned=retention.pinned,
            offers=self._compute.offers,
            on_offer=self._compute.on_offer,
            on_pulled=membership.pulled,
        )
        self.journal = membership.attach(self.replication.own_saved)
        self._forum = ForumParts(
            store,
            views,
            membership,
            self.journal,
            self.replication,
            self._attachments,
            keep=Keep(config.forum.keep_days, config.forum.keep_megabytes),
            describe=self._describe,
            now_ms=now_ms,
        )
        self.node = LocalNode(
            name=membership.enrolment.name,
            models_dir=models,
            membership=membership,
            store=store,
            events=self.events,
            forum=self._forum.forum,
            attachments=self._attachments,
            swarm=self.swarm,
            compute=self._compute,
            engine=self._engine,
            now_ms=now_ms,
        )
        membership.on_renewed = self.swarm.present
        membership.on_proof = self.replication.roster_changed

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(self._membership.run)
            await nursery.start(self._engine.run)
            await nursery.start(self._compute.run)
            await nursery.start(self.replication.run)
            await nursery.start(self.swarm.run)
            for address in await self._bootstrap():
                self._learn_bootstrap(address)
            for author, addresses in (await self._known_addresses()).items():
                self._learn(author, addresses)
            await nursery.start(self._forum.run)
            await nursery.start(self._follow)
            await nursery.start(serve_api, self.node, self._home)
            _log.info("ready: %s, %s", self.swarm.peer_id, ", ".join(self.swarm.addresses()))
            for entry in self._config.models.serve:
                nursery.start_soon(self._serve_model, entry)

    # -- the swarm -----------------------------------------------------------------------------

    async def _serve_sync(self, stream: Framed, peer_id: str, verified: object) -> None:
        await self.replication.handle_sync(stream, peer_id, verified)

    async def _serve_file(self, stream: Framed, peer_id: str, verified: object) -> None:
        await self._attachments.handle(stream, peer_id, verified)

    def _guarded(self, handlers: Mapping[str, Handler]) -> dict[str, Handler]:
        """What is served only once we know whom the mesh has shut out while we were away."""

        def guard(handler: Handler) -> Handler:
            async def serve(stream: Framed, peer_id: str, verified: object) -> None:
                with trio.move_on_after(CATCH_UP_S):
                    await self.replication.caught_up_for(peer_id, self._connected)
                assert isinstance(verified, Verified)
                refusal = self._membership.refusal(verified)
                if refusal is not None:
                    raise refusal
                await handler(stream, peer_id, verified)

            return serve

        return {protocol: guard(handler) for protocol, handler in handlers.items()}

    def _connected(self) -> list[str]:
        return [peer.peer_id for peer in self.swarm.peers()]

    async def _shut_out(self) -> None:
        """Drop peers whose key was revoked, moved or suspended since they came in."""
        for peer in self.swarm.peers():
            assert isinstance(peer.verified, Verified)
            refusal = self._membership.refusal(peer.verified)
            if refusal is not None:
                await self.swarm.drop(peer.peer_id, refusal.message)

    def _on_peer(self, peer: PeerInfo) -> None:
        self.replication.on_peer(peer.peer_id)
        self.events.publish(PeersChanged())

    def _on_gone(self, peer_id: str) -> None:
        self.replication.on_gone(peer_id)
        self.events.publish(PeersChanged())

    def fault(self, peer_id: str, code: str) -> None:
        """Count a peer's fault, for `status` and against the peer."""
        weigh = blobs.severity if code.startswith("blob.") else severity
        self.swarm.fault(peer_id, code, weigh(code))

    # -- where members are -----------------------------------------------------------------------

    async def _bootstrap(self) -> tuple[str, ...]:
        saved = await self._store.read(Store.get_value, BOOTSTRAP_KEY)
        return tuple(unpack(saved, limit=MAX_RECORD_BYTES)) if saved else ()

    def _learn_bootstrap(self, address: str) -> None:
        try:
            self.swarm.add_bootstrap(address)
        except PermeshError as error:  # from an invite: others may still work
            _log.warning("%s", error)

    async def _known_addresses(self) -> Mapping[bytes, tuple[str, ...]]:
        return await self._store.read(lambda store: addressbook.known_addresses(store.connection))

    def _learn(self, author: bytes, addresses: tuple[str, ...]) -> None:
        credential = self._roster.credential(author)
        if author != self._membership.agent and credential is not None and addresses:
            self.swarm.add_seen(credential.peer_id, addresses)

    async def _publish_addresses(self) -> None:
        """Tell the mesh where we listen, if that is not what it knows already."""
        if not self._membership.may_write:
            return
        body = addressbook.addresses_body(self.swarm.addresses())
        known = (await self._known_addresses()).get(self._membership.agent)
        if known != addressbook.read_addresses(body):
            await self.journal.append(addressbook.KIND, body)

    async def _follow(self, task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """What follows from records: new addresses to dial; our own, once we are let in."""
        async with self.events.subscribe() as events:
            await self._publish_addresses()
            task_status.started()
            async for event in events:
                if isinstance(event, RecordsSaved) and not event.own:
                    for record in event.records:
                        if record.header.kind == addressbook.KIND and record.body is not None:
                            self._learn(
                                record.header.author, addressbook.read_addresses(record.body)
                            )
                elif isinstance(event, MembersChanged | StatusChanged):
                    if isinstance(event, MembersChanged):
                        await self._forum.repair(event.agents)
                    self._membership.identity_changed()
                    await self._shut_out()
                    try:
                        await self._publish_addresses()
                    except PermeshError as error:
                        _log.warning("our addresses could not be published: %s", error)

    # -- members and models ----------------------------------------------------------------------

    def _describe(self, agent: bytes) -> tuple[str, str]:
        member = self._roster.member(agent)
        return (agent_number(member.number), member.name) if member else ("", "unknown")

    async def _serve_model(self, entry: str) -> None:
        """One line of `[models] serve`; what fails is said and does not stop the daemon."""
        name, _, layers = entry.partition(" ")
        try:
            span = await self.node.serve(name, layers.strip())
            _log.info("serving layers %d to %d of %s", span.first, span.last - 1, name)
        except PermeshError as error:
            _log.error("%s is not served: %s", name, error)


class _Surroundings:
    """What `Compute` asks of the mesh (``inference.surroundings.Surroundings``)."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._membership = daemon._membership

    @property
    def mesh_id(self) -> bytes:
        return self._membership.genesis.mesh_id

    @property
    def peer_id(self) -> str:
        return self._membership.peer_id

    def me(self) -> Member:
        return Member(
            self._membership.agent,
            self._membership.number or 0,
            self._membership.enrolment.name,
        )

    def epoch(self) -> int:
        return self._membership.credential.epoch

    def sign(self, digest: bytes) -> bytes:
        return self._membership.sign(digest)

    def session_key(self, agent: bytes, epoch: int) -> bytes | None:
        return self._membership.roster.session_key(agent, epoch)

    def member(self, agent: bytes) -> Member | None:
        found = self._membership.roster.member(agent)
        return Member(found.agent, found.number, found.name) if found else None

    def connected(self) -> Mapping[str, Member]:
        return {
            peer.peer_id: Member(peer.verified.agent, peer.verified.number, peer.verified.name)
            for peer in self._daemon.swarm.peers()
            if isinstance(peer.verified, Verified)
        }

    def host_of(self, peer_id: str) -> str | None:
        return self._daemon.swarm.host_of(peer_id)

    async def open_stream(self, peer_id: str, protocol: str) -> Framed:
        return await self._daemon.swarm.open(peer_id, protocol, OPEN_S)

    def announce(self) -> None:
        self._daemon.replication.publish_offers()

    def spans_changed(self) -> None:
        self._daemon.events.publish(SpansChanged())

    def fault(self, peer_id: str, code: str) -> None:
        self._daemon.fault(peer_id, code)


def _check_format(record: Record) -> None:
    kinds.check_record(record)
    addressbook.check_record(record)


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def run_daemon(
    home: Home,
    *,
    listen: tuple[str, ...] = (),
    bootstrap: tuple[str, ...] = (),
    mdns: bool = False,
    passphrase: str | None = None,
    log_level: str = "info",
) -> None:
    """Run this member until SIGINT or SIGTERM; options add to, or replace, the settings.

    Raises ``PermeshError`` if it cannot start: ``keys.*``, ``wallet.*``, ``mesh.none``,
    ``daemon.running``, ``network.*``, ``store.*``, ``home.path_too_long``.
    """
    home.check_socket_path()
    config = load_config(home)
    network = replace(
        config.network,
        listen=listen or config.network.listen,
        bootstrap=(*config.network.bootstrap, *bootstrap),
        mdns=mdns or config.network.mdns,
    )
    secrets = Secrets.unlock(home, passphrase)
    os.umask(0o077)  # whatever the daemon writes is its user's alone, rotated logs included
    with lock_home(home):
        _start_log(home.log, log_level)
        try:
            trio.run(_main, home, replace(config, network=network), secrets)
        except* PermeshError as group:
            raise _first(group) from None


async def _main(home: Home, config: Config, secrets: Secrets) -> None:
    views = Views(secrets.agent.address)
    store = await views.open_async(home.database)
    try:
        membership = await Membership.open(
            store, secrets, now_ms, partial(_verifiers, config.identity)
        )
        daemon = Daemon(home, config, store, views, membership, secrets.peer_seed)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_stop_on_signal, nursery.cancel_scope)
            await daemon.run()
    finally:
        await store.aclose()
    _log.info("stopped")


def _verifiers(config: IdentityConfig, genesis: Genesis) -> Mapping[str, Verifier]:
    implementations = []
    for text in config.chitin_implementations:
        try:
            implementations.append(bytes.fromhex(text.removeprefix("0x")))
        except ValueError:
            implementations.append(b"")
        if len(implementations[-1]) != 20:
            raise PermeshError(
                "config.invalid",
                f"'{text[:60]}' in identity.chitin_implementations is not an address.",
                "Write 0x and 40 hexadecimal digits.",
            )
    return verifiers(genesis, config.base_rpc, frozenset(implementations))


async def _stop_on_signal(scope: trio.CancelScope) -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for number in signals:
            _log.info("stopping on %s", signal.Signals(number).name)
            scope.cancel()
            return


def _first(group: BaseExceptionGroup[PermeshError]) -> PermeshError:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, PermeshError)
    return error


def _start_log(path: Path, level: str) -> None:
    """To the home's `daemon.log`, bounded, and to the terminal that started the daemon."""
    form = logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
    kept = logging.handlers.RotatingFileHandler(
        path, maxBytes=LOG_BYTES, backupCount=LOG_FILES, encoding="utf-8"
    )
    shown = logging.StreamHandler(sys.stderr)
    for handler in (kept, shown):
        handler.setFormatter(form)
    logging.basicConfig(level=logging.WARNING, handlers=[kept, shown], force=True)
    logging.getLogger("permesh").setLevel(level.upper())
