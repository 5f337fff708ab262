"""Members on the local network: found on request alone."""

from __future__ import annotations

import socket
import threading

import pytest
import trio

from permesh.config import NetworkConfig
from permesh.p2p.swarm import Swarm

from .mesh import WordGate, member, run, until

EVERYWHERE = "/ip4/0.0.0.0/tcp/0"


def _multicast_works() -> bool:
    """Whether a datagram to the mDNS group comes back to this machine."""
    group, port = "224.0.0.251", 5353
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
    ):
        try:
            receiver.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            receiver.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            receiver.bind(("", port))
            member_of = socket.inet_aton(group) + socket.inet_aton("0.0.0.0")
            receiver.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, member_of)
            receiver.settimeout(1.0)
            sender.sendto(bytes(12), (group, port))
            return bool(receiver.recv(100))
        except OSError:
            return False


def local_member(number: int) -> Swarm:
    return Swarm(
        bytes([number]) * 32,
        NetworkConfig(listen=(EVERYWHERE,), mdns=True),
        "/permesh/test",
        WordGate(),
        {},
        lambda *_: None,
    )


def test_without_being_asked_nothing_is_announced() -> None:
    async def main() -> None:
        async with member(1).swarm.running():
            await trio.sleep(0.2)
            assert not [one for one in threading.enumerate() if "zeroconf" in one.name.lower()]

    run(main)


def test_members_of_one_mesh_find_each_other() -> None:
    if not _multicast_works():
        pytest.skip("this machine's network takes no multicast")

    async def main() -> None:
        a, b = local_member(1), local_member(2)
        async with a.running(), b.running():
            await until(lambda: a.peers() and b.peers())

    run(main)
