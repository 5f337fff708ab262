"""Simulated members of a forum: each follows some of its rooms, and one in ten is hostile.

Owns what the members of such a mesh do and what must hold among the honest ones. They are linked
to a few others at random, over which gossip and sync go; all of them were let in, and the rooms
were made, in the days before.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import pytest

from permesh.errors import Refused
from permesh.p2p import gossip, sync, sync_messages
from permesh.p2p.faults import SHUT_OUT_S, Faults
from permesh.p2p.intake import Intake
from permesh.p2p.replication import severity
from permesh.p2p.sync_messages import (
    Answer,
    Contents,
    Days,
    Differing,
    Heads,
    Lack,
    Message,
    Newer,
    Records,
    Want,
)
from permesh.records import MAX_UINT, Record
from permesh.spaces import DAY_MS, FINGERPRINT_BYTES, SPACE_COMMONS, SPACE_IDENTITY, Sum
from tests.simulator import START_MS, Author, Network, Node, Weather

ROOMS = 4
DEGREE = 8
STORM = Weather(gossip_loss=0.3, stream_loss=0.02)
POST = "forum.post"
HOSTILE_EVERY = 10


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


# -- the hostile ones ------------------------------------------------------------------------------


class Hostile(Member):
    """One of several kinds. It takes part in everything else, so that it is heard at all."""

    hostile = True

    def fault(self, peer: str, code: str) -> None:
        """It blames nobody."""

    def act(self) -> None:
        """What it does from time to time while the trouble lasts."""
        self.post(self.net.rng.choice(self.rooms), b"hostile")

    def says(self, peer: str, data: bytes) -> bytes | None:  # noqa: ARG002 - to all alike
        said = self.twist(unpack(data))
        return None if said is None else said if isinstance(said, bytes) else sync.encode(said)

    def twist(self, message: Message) -> Message | bytes | None:
        return message

    def random_sum(self) -> Sum:
        count = self.rng.choice([0, 1, 30, self.rng.randrange(10**4), MAX_UINT])
        return Sum(count, self.rng.randbytes(FINGERPRINT_BYTES))

    def random_ids(self, number: int) -> tuple[bytes, ...]:
        return tuple(sorted(self.rng.randbytes(32) for _ in range(number)))


class Withholding(Hostile):
    """Lists what it does not give, and tells nobody of what it writes."""

    def act(self) -> None:
        self._saved(self.store.save([self.seal(self.rng.choice(self.rooms), b"kept back")]))

    def twist(self, message: Message) -> Message:
        if isinstance(message, Records):
            return Records(tuple(w for w in message.wires if self.rng.randrange(2)), message.left)
        return message


class Lying(Hostile):
    """Answers with wrong sums, of spaces, days or parts."""

    def twist(self, message: Message) -> Message:
        if self.rng.randrange(3) == 0:
            return message
        match message:
            case Answer(spaces, own, offers):
                lies = (held and replace(held, sum=self.random_sum()) for held in spaces)
                return Answer(tuple(lies), own, offers)
            case Differing(days):
                return Differing(tuple((day, self.random_sum()) for day, _ in days))
            case Contents(contents):
                return Contents(
                    tuple(
                        tuple(self.random_sum() for _ in c) if len(c) == 16 else c[1:]
                        for c in contents
                    )
                )
        return message


class Garbling(Hostile):
    """Sends what is not in form, or not in turn, and forged records."""

    def act(self) -> None:
        self.net.publish(self, self.rng.randbytes(60))
        victim = self.net.rng.choice(list(self.store.records.values()))
        forged = [victim.header_bytes, self.rng.randbytes(64), victim.body]
        stranger = Author(f"stranger of {self.name}").write(room=self.rooms[0])
        wires = (None, [b""], forged, [victim.header_bytes, victim.signature, None])
        message = gossip.NewRecords((*wires, stranger.to_wire()), ())
        self.net.publish(self, gossip.encode(message))

    def twist(self, message: Message) -> Message | bytes:
        data = sync_messages.encode(message)
        return self.rng.choice([
            message, message, message, data[:-1], self.rng.randbytes(40), b"",
            Heads(SPACE_COMMONS, 0, ()), Want(self.random_ids(3)), Newer((), more=True),
            Records((self.rng.randbytes(9), None), 1), Days(SPACE_COMMONS, 9, 3, ()),
            Contents((self.random_ids(2),)),
        ])  # fmt: skip


class Flooding(Hostile):
    """Writes more than anybody reads, and tells of much more than there is."""

    def act(self) -> None:
        for number in range(12):
            self.post(self.rooms[number % len(self.rooms)], b"buy %d" % number)
        names = self.net.rng.sample(list(self.net.nodes), 20)
        heads = tuple((SPACE_COMMONS, self.net.nodes[n].author.address, MAX_UINT) for n in names)
        self.net.publish(self, gossip.encode(gossip.NewRecords((), heads)))

    def twist(self, message: Message) -> Message:
        """As one who asks it says that others lack what nobody ever wrote."""
        if isinstance(message, Heads | Days) and self.rng.randrange(2):
            return Lack(message.space, self.random_ids(4096))
        return message


class Forking(Hostile):
    """Tells some of its neighbours one story and the others another one, dated anywhere."""

    def act(self) -> None:
        room = self.rng.choice(self.rooms)
        before = replace(self.author)
        day = self.rng.randrange(200) * DAY_MS
        near = self.net.near(self)
        for number, some in enumerate((near[::2], near[1::2])):
            self.author = replace(before)
            record = self.seal(room, b"story %d" % number, created_ms=START_MS - day)
            self._saved(self.store.save([record]))
            self.net.publish(self, gossip.encode(told(record)), some)


class Backwards(Hostile):
    """Sends children before their parents, and an author's later records before the earlier."""

    def act(self) -> None:
        room = self.rng.choice(self.rooms)
        thread: list[Record] = []
        for number in range(4):
            parents = (thread[-1].id,) if thread else ()
            thread.append(self.seal(room, b"%d" % number, parents=parents))
        self._saved(self.store.save(thread))
        for number, record in enumerate(reversed(thread)):
            data = gossip.encode(told(record))
            self.net.at(500 * number, lambda data=data: self.net.publish(self, data))


class Silent(Hostile):
    """Leaves others waiting for its answer."""

    def twist(self, message: Message) -> Message | None:
        return message if self.rng.randrange(3) else None


KINDS: tuple[type[Hostile], ...] = (
    Withholding, Lying, Garbling, Flooding, Forking, Backwards, Silent,
)  # fmt: skip


def told(record: Record) -> gossip.NewRecords:
    space, author, seq = record.header.room, record.header.author, record.header.seq
    return gossip.NewRecords((record.to_wire(),), ((space, author, seq),))


# -- the mesh --------------------------------------------------------------------------------------


class Forum(Network):
    nodes: dict[str, Member]  # type: ignore[assignment]

    def __init__(self, size: int, seed: int, weather: Weather = STORM) -> None:
        super().__init__(seed, weather, self._make)
        self.founded = founded(size)
        self.opened: dict[Any, Record] = {}
        self.written: set[bytes] = set()  # by honest members
        self._decoded: dict[bytes, gossip.NewRecords | Refused] = {}
        names = list(self.founded.authors)
        bad = self.rng.sample(names, size // HOSTILE_EVERY)
        self._kinds = {name: KINDS[number % len(KINDS)] for number, name in enumerate(bad)}
        self.draw(names, DEGREE)
        for name in names:
            node = self.nodes[name] = self._make(self, name)
            for room in self.rng.sample(self.founded.rooms, self.rng.randint(1, ROOMS)):
                node.follow(room)
        self.honest = [node for node in self.nodes.values() if not node.hostile]
        self.added = self.link_followers()
        self.boot(*self.nodes.values())

    def _make(self, net: Network, name: str) -> Member:
        return self._kinds.get(name, Member)(net, name)

    def link_followers(self) -> int:
        """What a member follows it can get only from others who do: each finds one at least."""
        rooms = (None, *self.founded.rooms)
        groups = [[n.name for n in self.followers(room)] for room in rooms]
        return sum(self.join(names) for names in groups)

    def followers(self, room: bytes | None) -> list[Member]:
        """The honest ones; None: of what everybody holds."""
        return [node for node in self.honest if room is None or room in node.held]

    def near(self, node: Node) -> list[str]:
        return self._near[node.name]

    def decoded(self, data: bytes) -> gossip.NewRecords:
        found = self._decoded.get(data)
        if found is None:
            try:
                message = gossip.decode(data)
                assert isinstance(message, gossip.NewRecords)
                found = message
            except Refused as error:
                found = error
            self._decoded[data] = found
        if isinstance(found, Refused):
            raise found
        return found

    def up(self, of: Sequence[Member] | None = None) -> list[Member]:
        return [node for node in of or self.honest if node.up]

    def write(self) -> None:
        """Somebody posts, or answers what it has read."""
        node = self.rng.choice(self.up())
        room = self.rng.choice(node.rooms)
        read = [r.id for r in node.store.records.values() if r.header.room == room][-5:]
        parents = (self.rng.choice(read),) if read and self.rng.randrange(2) else ()
        body = self.rng.randbytes(self.rng.randint(1, 300))
        self.written.add(node.post(room, body, parents=parents).id)

    # -- what must hold

    def agreed(self) -> bool:
        """All honest members hold the same of what everybody holds, and of each room."""
        for space in (SPACE_IDENTITY, SPACE_COMMONS, *self.founded.rooms):
            room = space if space in self.founded.rooms else None
            first, *others = self.followers(room)
            wanted = first.store.sum(space)
            if any(node.store.sum(space) != wanted for node in others):
                return False
        return True

    def settle(self, milliseconds: int) -> int:
        """Let time pass until they agree; returns how long it took."""
        began = self.now
        while not self.agreed():
            assert self.now < began + milliseconds, self.disagreement()
            self.run(1_000)
        return self.now - began

    def disagreement(self) -> dict[str, Counter[int]]:
        """How many members hold how many records, space by space."""
        return {
            space[:3].hex(): Counter(
                node.store.sum(space).count
                for node in self.followers(space if len(space) == 32 else None)
            )
            for space in (SPACE_IDENTITY, SPACE_COMMONS, *self.founded.rooms)
        }

    def check(self) -> None:
        """And nobody honest was blamed, nothing is lost, and nothing was told of twice."""
        hostile = {node.name for node in self.nodes.values() if node.hostile}
        founding = {record.id for record in self.founded.records}
        held = set().union(*(node.store.records for node in self.honest))
        assert self.written <= held
        for node in self.honest:
            blamed = {(peer, code) for peer, code in node.blamed if severity(code)}
            assert {peer for peer, _ in blamed} <= hostile, blamed
            assert set(node.told.values()) <= {1}
            assert set(node.told) | founding == set(node.store.records)
            rooms = {record.header.room for record in node.store.records.values()} - {b""}
            assert rooms <= set(node.rooms)
        everything = {r.id: r for node in self.honest for r in node.store.records.values()}
        authors = {author.address for author in self.founded.authors.values()}
        assert {record.header.author for record in everything.values()} <= authors
        # The hostile ones did what they could: they were found out, or their work is everywhere.
        codes = {code for node in self.honest for _, code in node.blamed}
        assert {"sync.withheld", "sync.fruitless", "sync.out_of_turn"} <= codes
        places = Counter((r.header.author, r.header.seq) for r in everything.values())
        assert any(count > 1 for count in places.values())


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
        patch.setattr(sync, "encode", pack)
        patch.setattr(sync, "decode", unpack)
        yield
