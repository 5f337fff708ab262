"""A simulated mesh with a forum, and what must hold among its honest members.

Owns who follows what, who is hostile, and whether all agree. Gossip and sync go over a few links
of each member, drawn at random.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from permesh.errors import Refused
from permesh.p2p import gossip
from permesh.p2p.replication import severity
from permesh.records import Record
from permesh.spaces import SPACE_COMMONS, SPACE_IDENTITY
from tests.simulator import Network, Node, Weather
from tests.sync.forum_nodes import ROOMS, Member, founded
from tests.sync.hostile_nodes import KINDS

DEGREE = 8
HOSTILE_EVERY = 10
STORM = Weather(gossip_loss=0.3, stream_loss=0.02)


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
