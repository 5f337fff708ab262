"""Simulated members of a forum: each follows some of its rooms, and is linked to a few others.

All of them were let in, and the rooms were made, in the days before.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest

from permesh.p2p import gossip, sync_messages
from permesh.p2p.faults import SHUT_OUT_S, Faults
from permesh.p2p.intake import Intake
from permesh.p2p.replication import severity
from permesh.p2p.sync import answerer, asker, exchange, picker
from permesh.p2p.sync_messages import (
    Message,
)
from permesh.records import Record
from permesh.spaces import DAY_MS, SPACE_COMMONS, SPACE_IDENTITY
from tests.simulator import START_MS, Author, Network, Node

if TYPE_CHECKING:
    from tests.sync.forum_mesh import Forum

ROOMS = 4
POST = "forum.post"


@dataclass(frozen=True)
class Founded:
    """What everybody holds on the first day; ``authors`` by name, as far as they have written."""

    authors: dict[str, Author]
    records: tuple[Record, ...]
    rooms: tuple[bytes, ...]


@cache
def founded(size: int) -> Founded:
    authors = {f"m{number:03}": Author(f"m{number:03}") for number in range(size)}
    records = []
    for number, author in enumerate(authors.values()):
        author.now_ms = START_MS - (1 + number % 9) * DAY_MS
        records.append(author.credential())
    rooms = [author.write(kind="forum.room") for author in list(authors.values())[:ROOMS]]
    return Founded(authors, (*records, *rooms), tuple(room.id for room in rooms))


class Member(Node):
    """An honest one."""

    net: Forum
    hostile = False

    def __init__(self, net: Network, name: str) -> None:
        super().__init__(net, name)
        self.author = replace(self.net.founded.authors[name])
        self.store.save(self.net.founded.records)
        self.held = {SPACE_IDENTITY: 0, SPACE_COMMONS: 0}
        self.weighed = Faults()
        self.blamed: Counter[tuple[str, str]] = Counter()

    def begin(self) -> None:
        """It has a credential, and nothing else to do."""

    def door(self, roster: Any) -> Intake:
        return Door(roster, self.net.opened)

    def spaces(self) -> dict[bytes, int]:
        return self.held

    @property
    def rooms(self) -> list[bytes]:
        return list(self.held)[2:]

    def follow(self, room: bytes) -> None:
        self.held[room] = 0
        if self.up:
            self.schedule.all_due(self.net.now)
            self.wake_pulls()

    def post(self, room: bytes, body: bytes, **fields: Any) -> Record:
        return self.write_record(self.seal(room, body, **fields))

    def seal(self, room: bytes, body: bytes, **fields: Any) -> Record:
        return self.author.write(
            body, POST, room, **{"created_ms": START_MS + self.net.now, **fields}
        )

    def decode(self, data: bytes) -> gossip.NewRecords:
        return self.net.decoded(data)

    def fault(self, peer: str, code: str) -> None:
        """As the swarm does: at some point the peer is shut out for a while."""
        self.blamed[peer, code] += 1
        if self.weighed.add(peer, code, severity(code), self.net.now / 1000):
            self.net.cut(self.name, peer, int(SHUT_OUT_S * 1000))


class Door(Intake):
    """One that remembers what others have opened: there are hundreds of doors, and one record."""

    def __init__(self, roster: Any, opened: dict[Any, Record]) -> None:
        super().__init__(roster, lambda _record: None)
        self._opened = opened

    def open(self, wire: Any) -> Record:
        try:
            key = tuple(wire)
            found = self._opened.get(key)
        except TypeError:  # not a list, or not of bytes
            return super().open(wire)
        if found is None:
            found = self._opened[key] = super().open(wire)
        return found


# -- cheaper sessions ------------------------------------------------------------------------------


class Parcel(bytes):
    """A message that was not packed, because it would be unpacked at once."""

    message: Message


def pack(message: Message) -> Parcel:
    parcel = Parcel()
    parcel.message = message
    return parcel


def unpack(data: bytes) -> Message:
    return data.message if isinstance(data, Parcel) else sync_messages.decode(data)


@contextmanager
def unpacked() -> Iterator[None]:
    """Sessions in which what is sent in form is handed over as it is: half of their cost is in
    their bytes, which other tests look at. What is not in form is refused as ever."""
    with pytest.MonkeyPatch.context() as patch:
        for side in (answerer, asker, exchange, picker):
            patch.setattr(side, "encode", pack)
            patch.setattr(side, "decode", unpack, raising=False)  # an exchange reads nothing
        yield
