"""Members on the local network, by mDNS, when the owner asked for it.

Owns the announcement and what comes back. It listens on every interface, and whoever is in the
network sees it; so the service is named after a hash of the topic, and what comes back is dialled
once and has to pass the gate like everyone. Must never believe more of it than an address.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Awaitable, Callable

import trio
from libp2p.discovery.events.peerDiscovery import peerDiscovery
from libp2p.discovery.mdns.mdns import create_mdns_discovery
from libp2p.network.swarm import Swarm as Network
from libp2p.peer.peerinfo import PeerInfo

from .guards_host import GuardedHost
from .wire import at_most

# Announcements that wait to be dialled; the network may be full of them.
MAX_FOUND = 32
STOP_S = 3.0

OnFound = Callable[[str, tuple[str, ...]], Awaitable[None]]


async def local_peers(host: GuardedHost, topic: str, on_found: OnFound) -> None:
    """Announce us and call ``on_found(peer id, addresses)`` for others, until cancelled."""
    send, receive = trio.open_memory_channel[PeerInfo](MAX_FOUND)
    token = trio.lowlevel.current_trio_token()

    def put(info: PeerInfo) -> None:
        try:
            send.send_nowait(info)
        except (trio.WouldBlock, trio.BrokenResourceError):
            return

    def found(info: PeerInfo) -> None:  # in a thread of zeroconf's
        token.run_sync_soon(put, info)

    network = host.get_network()
    assert isinstance(network, Network)
    make = functools.partial(
        create_mdns_discovery,
        network,
        private_network_fingerprint=hashlib.sha256(topic.encode()).hexdigest()[:8],
        host=host,
    )
    peerDiscovery.register_peer_discovered_handler(found)
    discovery = await trio.to_thread.run_sync(make)
    try:
        await trio.to_thread.run_sync(discovery.broadcaster.register)
        async for info in receive:
            await on_found(str(info.peer_id), tuple(str(address) for address in info.addrs))
    finally:
        peerDiscovery.unregister_peer_discovered_handler(found)
        with at_most(STOP_S):
            await trio.to_thread.run_sync(discovery.stop)
