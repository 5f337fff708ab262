"""What the two sides of a sync say to each other, as bytes.

Owns the six messages, their canonical encoding and their limits. Must never know what follows on
which: that is `permesh/p2p/sync.py`.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

from permesh.errors import Refused
from permesh.records import MAX_UINT, pack, unpack
from permesh.store import SCOPES, Sum

from . import limits


@dataclass(frozen=True, slots=True)
class Ask:
    """Opens a session: what the asker has, a sum per scope."""

    sums: tuple[Sum, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """What the answerer has, and the ephemeral offers that it passes on."""

    sums: tuple[Sum, ...]
    offers: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class ListIds:
    """Asks for the next page of a scope: the ids greater than ``after`` (or all of them)."""

    scope: int
    after: bytes


@dataclass(frozen=True, slots=True)
class Ids:
    """A page: at most ``PAGE_IDS`` ids, ascending."""

    scope: int
    ids: tuple[bytes, ...]
    more: bool


@dataclass(frozen=True, slots=True)
class Want:
    """Asks for at most ``WANT_IDS`` records."""

    ids: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Records:
    """Some of the wanted records, in wire form and not looked into; ``left`` wants are open."""

    wires: tuple[Any, ...]
    left: int


Message = Ask | Answer | ListIds | Ids | Want | Records


def encode(message: Message) -> bytes:
    match message:
        case Ask(sums):
            return pack([1, _sums(sums)])
        case Answer(sums, offers):
            return pack([2, _sums(sums), list(offers)])
        case ListIds(scope, after):
            return pack([3, scope, after])
        case Ids(scope, ids, more):
            return pack([4, scope, list(ids), more])
        case Want(ids):
            return pack([5, list(ids)])
        case Records(wires, left):
            return pack([6, list(wires), left])


def decode(data: bytes) -> Message:
    """Parse and check one message; raises ``Refused``. Records are left in wire form."""
    fields = unpack(data, limit=limits.SYNC_MESSAGE_BYTES)
    _require(isinstance(fields, list) and bool(fields) and type(fields[0]) is int)
    match fields:
        case [1, list(sums)]:
            return Ask(_read_sums(sums))
        case [2, list(sums), list(offers)]:
            return Answer(_read_sums(sums), read_offers(offers))
        case [3, int(scope), bytes(after)] if scope in SCOPES and len(after) in (0, 32):
            return ListIds(_scope(scope), after)
        case [4, int(scope), list(ids), bool(more)] if scope in SCOPES:
            return Ids(_scope(scope), _read_ids(ids, limits.PAGE_IDS), more)
        case [5, list(ids)] if ids:
            return Want(_read_ids(ids, limits.WANT_IDS))
        case [6, list(wires), int(left)] if not isinstance(left, bool):
            _require(0 <= left < limits.WANT_IDS and len(wires) <= limits.WANT_IDS)
            return Records(tuple(wires), left)
    raise _malformed()


def read_offers(offers: list[Any]) -> tuple[bytes, ...]:
    """Check a list of offers, here and in gossip; raises ``Refused``."""
    _require(len(offers) <= limits.OFFERS)
    _require(all(isinstance(item, bytes) for item in offers))
    _require(all(0 < len(item) <= limits.OFFER_BYTES for item in offers))
    return tuple(offers)


def _sums(sums: tuple[Sum, ...]) -> list[list[Any]]:
    return [[item.count, item.fingerprint] for item in sums]


def _read_sums(values: list[Any]) -> tuple[Sum, ...]:
    _require(len(values) == len(SCOPES))
    sums = []
    for value in values:
        match value:
            case [int(count), bytes(fingerprint)] if len(fingerprint) == 32:
                _require(not isinstance(count, bool) and 0 <= count <= MAX_UINT)
                sums.append(Sum(count, fingerprint))
            case _:
                raise _malformed()
    return tuple(sums)


def _scope(scope: int) -> int:
    _require(not isinstance(scope, bool))  # True equals 1
    return scope


def _read_ids(ids: list[Any], limit: int) -> tuple[bytes, ...]:
    _require(len(ids) <= limit)
    _require(all(isinstance(item, bytes) and len(item) == 32 for item in ids))
    # Ascending also means that none comes twice.
    _require(all(first < second for first, second in itertools.pairwise(ids)))
    return tuple(ids)


def _require(condition: bool) -> None:
    if not condition:
        raise _malformed()


def _malformed() -> Refused:
    return Refused("sync.malformed", "The peer sent a sync message that is not well formed.")
