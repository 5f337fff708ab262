"""The library without a guard, for tests that show what the guards are for."""

from __future__ import annotations

from typing import Any

from libp2p import new_host
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.peer.peerinfo import PeerInfo, info_from_p2p_addr
from multiaddr import Multiaddr

LISTEN = [Multiaddr("/ip4/127.0.0.1/tcp/0")]


def plain_host(number: int, **options: Any) -> Any:
    return new_host(key_pair=create_new_key_pair(bytes([number]) * 32), **options)


def info(address: str) -> PeerInfo:
    return info_from_p2p_addr(Multiaddr(address))
