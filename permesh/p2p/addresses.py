"""Multiaddrs in and out: those that people write, those that peers claim, those that are ours.

Owns what a usable address is: an IP or a DNS name, and a TCP port. Must never dial one.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence

import psutil
from multiaddr import Multiaddr

from permesh.errors import PermeshError

_HOSTS = ("ip4", "ip6", "dns", "dns4", "dns6")
# What a peer is told of us, and what we believe of it.
MAX_PLACES = 8


def multiaddr(text: str) -> Multiaddr:
    """Raises ``PermeshError`` for text that is none."""
    try:
        return Multiaddr(text)
    except Exception as error:  # the library raises ValueError and several of its own
        raise _bad(text) from error


def parse(text: str) -> tuple[str, str]:
    """A full address as (peer id, place); raises ``PermeshError``."""
    place, separator, peer_id = text.partition("/p2p/")
    if not separator or "/" in peer_id or not _is_place(place):
        raise _bad(text)
    multiaddr(text)  # checks the peer id's form
    return peer_id, place


def _bad(text: str) -> PermeshError:
    return PermeshError(
        "network.address",
        f"'{text[:120]}' is not an address that can be dialled.",
        "An address looks like /ip4/192.0.2.7/tcp/9470/p2p/12D3Koo…; `permesh status` shows ours.",
    )


def _is_place(text: str) -> bool:
    try:
        parts = [protocol.name for protocol in Multiaddr(text).protocols()]
    except Exception:
        return False
    return len(parts) == 2 and parts[0] in _HOSTS and parts[1] == "tcp"


def of_peer(claimed: Iterable[str], observed: str) -> tuple[str, ...]:
    """Where to look for a peer again: its ports at the address seen, then what it claims."""
    places = [place for place in claimed if _is_place(place)][:MAX_PLACES]
    host = observed.split("/tcp/")[0]
    ports = dict.fromkeys(place.split("/tcp/")[1] for place in places)
    seen = [f"{host}/tcp/{port}" for port in ports] if host else []
    return tuple(dict.fromkeys((*seen, *places)))[:MAX_PLACES]


def dialable(announced: Sequence[str], listened: Sequence[str]) -> tuple[str, ...]:
    """Ours, for others to dial: announced ones first, 0.0.0.0 spelled out."""
    places = list(announced)
    for place in listened:
        _, family, host, *rest = place.split("/")
        hosts = _interfaces(family) if ipaddress.ip_address(host).is_unspecified else [host]
        places += ["/".join(("", family, host, *rest)) for host in hosts]
    return tuple(dict.fromkeys(places))[:MAX_PLACES]


def _interfaces(family: str) -> list[str]:
    """This machine's addresses of that family, the ones that others can reach first."""
    version = 4 if family == "ip4" else 6
    found = []
    for entries in psutil.net_if_addrs().values():
        for entry in entries:
            try:
                address = ipaddress.ip_address(entry.address.split("%")[0])
            except ValueError:
                continue  # a MAC
            if address.version == version and not address.is_link_local:
                found.append(address)
    return [str(address) for address in sorted(found, key=lambda one: one.is_loopback)]
