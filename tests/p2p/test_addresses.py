"""Addresses that people write, that peers claim, and that are ours."""

from __future__ import annotations

import ipaddress

import pytest

from permesh.errors import PermeshError
from permesh.p2p.addresses import MAX_PLACES, dialable, multiaddr, of_peer, parse

PEER = "12D3KooWK99VoVxNE7XzyBwXEzW7xhK7Gpv85r9F3V3fyKSUKPH5"


@pytest.mark.parametrize(
    "place", ["/ip4/192.0.2.7/tcp/9470", "/ip6/2001:db8::1/tcp/1", "/dns4/a.example/tcp/9"]
)
def test_a_full_address_is_taken_apart(place: str) -> None:
    assert parse(f"{place}/p2p/{PEER}") == (PEER, place)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "localhost:9470",
        "/ip4/192.0.2.7/tcp/9470",
        f"/ip4/192.0.2.7/udp/9470/quic-v1/p2p/{PEER}",
        f"/ip4/192.0.2.7/tcp/99999/p2p/{PEER}",
        f"/ip4/192.0.2/tcp/1/p2p/{PEER}",
        "/ip4/192.0.2.7/tcp/9470/p2p/nobody",
        f"/ip4/192.0.2.7/tcp/1/p2p/{PEER}/p2p-circuit/p2p/{PEER}",
        "\x00" * 400,
    ],
)
def test_another_one_is_refused_with_a_remedy(text: str) -> None:
    with pytest.raises(PermeshError) as caught:
        parse(text)
    assert caught.value.code == "network.address"
    assert "/ip4/" in caught.value.remedy
    assert len(str(caught.value)) < 400


def test_a_listen_address_that_is_none_is_refused() -> None:
    with pytest.raises(PermeshError, match="not an address"):
        multiaddr("0.0.0.0:9470")


def test_of_a_peer_only_dialable_claims_are_kept_and_the_address_seen_comes_first() -> None:
    claimed = [
        "/ip4/10.0.0.5/tcp/9470",
        "/ip4/10.0.0.5/tcp/9470/http",
        "/unix/etc",
        "rubbish",
        "/dns4/a.example/tcp/443",
    ]
    assert of_peer(claimed, "/ip4/198.51.100.4/tcp/51234") == (
        "/ip4/198.51.100.4/tcp/9470",
        "/ip4/198.51.100.4/tcp/443",
        "/ip4/10.0.0.5/tcp/9470",
        "/dns4/a.example/tcp/443",
    )
    many = [f"/ip4/10.0.0.5/tcp/{port}" for port in range(1, 99)]
    assert len(of_peer(many, "/ip4/198.51.100.4/tcp/51234")) == MAX_PLACES
    assert of_peer(["/ip4/10.0.0.5/tcp/1"], "") == ("/ip4/10.0.0.5/tcp/1",)


def test_every_interface_is_spelled_out_the_outer_ones_first() -> None:
    places = dialable((), ["/ip4/0.0.0.0/tcp/9470"])
    hosts = [ipaddress.ip_address(place.split("/")[2]) for place in places]
    assert ipaddress.ip_address("127.0.0.1") in hosts
    assert hosts == sorted(hosts, key=lambda host: host.is_loopback)
    assert all(place.endswith("/tcp/9470") for place in places)


def test_announced_addresses_come_first() -> None:
    listened = ["/ip4/127.0.0.1/tcp/1", "/ip6/::1/tcp/2"]
    assert dialable(("/dns4/me.example/tcp/9",), listened) == (
        "/dns4/me.example/tcp/9",
        *listened,
    )
