"""A mesh in virtual time: the protocol cores under delay, loss, partition and restart.

Owns the clock, the wires and the topology of a simulated mesh; everything random comes from one
seed. The nodes (`simulated_node`) run the real cores and keep records in a dictionary; a roster
with a cheap signature stands in where proofs are not the point.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from random import Random

from permesh.p2p.schedule import Outcome
from tests.authors import (
    CREDENTIAL,
    MESH,
    NOTE,
    REMOVAL,
    REMOVALS,
    START_MS,
    Author,
    CheapRoster,
    address,
    cheap_sign,
    is_identity,
)
from tests.memory_store import MemoryStore
from tests.simulated_node import Node, Session

__all__ = [
    "CREDENTIAL", "MESH", "NOTE", "REMOVAL", "REMOVALS", "START_MS", "Author", "CheapRoster",
    "MemoryStore", "Network", "Node", "Session", "Weather", "address", "cheap_sign", "is_identity",
]  # fmt: skip

HEARTBEAT_MS = 1_000


@dataclass
class Weather:
    """How bad the network is. Times in virtual milliseconds."""

    delay_ms: tuple[int, int] = (2, 80)
    gossip_loss: float = 0.0
    # How often gossipsub offers again what somebody missed, a heartbeat apart, with equal luck.
    gossip_offers: int = 0
    stream_loss: float = 0.0  # a message that breaks its whole session


@dataclass
class Network:
    """All members reach each other, unless links were drawn by `draw`."""

    seed: int
    weather: Weather = field(default_factory=Weather)
    make_node: Callable[[Network, str], Node] = Node

    def __post_init__(self) -> None:
        self.rng = Random(self.seed)
        self.now = 0
        self.nodes: dict[str, Node] = {}
        self.sessions: dict[Session, None] = {}
        self.links: set[frozenset[str]] = set()
        self.messages = 0
        self._drawn: dict[frozenset[str], None] | None = None
        self._near: dict[str, list[str]] = {}
        self._cut: set[frozenset[str]] = set()
        self._side: dict[str, int] = {}
        self._queue: list[tuple[int, int, Callable[[], None]]] = []
        self._order = 0

    # -- time

    def at(self, wait: int, act: Callable[[], None]) -> None:
        self._order += 1
        heapq.heappush(self._queue, (self.now + wait, self._order, act))

    def soon(self, node: Node, act: Callable[[], None]) -> None:
        life = node.life
        self.at(0, lambda: act() if node.up and node.life == life else None)

    def run(self, milliseconds: int, until: Callable[[], bool] = lambda: False) -> bool:
        """Let time pass; stops early, and says so, once ``until`` holds."""
        end = self.now + milliseconds
        while self._queue and self._queue[0][0] <= end:
            self.now, _, act = heapq.heappop(self._queue)
            act()
            if until():
                return True
        self.now = end
        return until()

    def delay(self) -> int:
        return self.rng.randint(*self.weather.delay_ms)

    # -- topology

    def draw(self, names: Sequence[str], degree: int) -> None:
        """Link each member to ``degree`` others at random (an even number), and to no more.

        Gossip then goes from link to link, as from now on all that members say to each other.
        """
        self._drawn = {}
        for _ in range(degree // 2):
            ring = self.rng.sample(names, len(names))
            for one, other in zip(ring, [*ring[1:], ring[0]], strict=True):
                self._drawn[frozenset((one, other))] = None

    def join(self, names: Iterable[str]) -> int:
        """Add links until each of these members reaches the others over them alone."""
        assert self._drawn is not None
        groups = {name: {name} for name in names}

        def merge(one: str, other: str) -> None:
            if groups[one] is not groups[other]:
                groups[one] |= groups[other]
                for name in list(groups[other]):
                    groups[name] = groups[one]

        for one, other in map(tuple, map(sorted, self._drawn)):
            if one in groups and other in groups:
                merge(one, other)
        added = 0
        first, *rest = sorted(groups)
        for name in rest:
            if groups[name] is not groups[first]:
                ends = (self.rng.choice(sorted(groups[end])) for end in (first, name))
                self._drawn[frozenset(ends)] = None
                merge(first, name)
                added += 1
        return added

    def add(self, name: str) -> Node:
        node = self.nodes[name] = self.make_node(self, name)
        self.boot(node)
        return node

    def boot(self, *nodes: Node) -> None:
        for node in nodes:
            node.boot()
        self._relink()

    def partition(self, *sides: Sequence[str]) -> None:
        """Members of different sides do not reach each other; none given: all do."""
        self._side = {name: number for number, side in enumerate(sides) for name in side}
        self._relink()

    def cut(self, one: str, other: str, milliseconds: int) -> None:
        """One of the two wants to hear no more of the other, for a time."""
        link = frozenset((one, other))
        self._cut.add(link)
        self.at(0, self._relink)

        def mend() -> None:
            self._cut.discard(link)
            self._relink()

        self.at(milliseconds, mend)

    def reachable(self, one: Node, other: Node) -> bool:
        return one.up and other.up and self._side.get(one.name, 0) == self._side.get(other.name, 0)

    def node_gone(self, node: Node) -> None:  # noqa: ARG002 - links follow from who is up
        self._relink()

    def _pairs(self) -> Iterable[frozenset[str]]:
        if self._drawn is not None:
            return self._drawn
        names = list(self.nodes)
        return (frozenset((a, b)) for i, a in enumerate(names) for b in names[i + 1 :])

    def _relink(self) -> None:
        nodes = self.nodes
        wanted = {
            link
            for link in self._pairs()
            if link not in self._cut and self.reachable(*(nodes[name] for name in link))
        }
        for link in sorted(self.links - wanted, key=sorted):
            one, other = (self.nodes[name] for name in sorted(link))
            for here, there in ((one, other), (other, one)):
                if here.up:
                    here.schedule.gone(there.name)
        for session in list(self.sessions):
            if frozenset((session.asking.name, session.answering.name)) not in wanted:
                session.end(Outcome.FAILED)
        for link in sorted(wanted - self.links, key=sorted):
            one, other = (self.nodes[name] for name in sorted(link))
            for here, there in ((one, other), (other, one)):
                here.schedule.connected(there.name, self.now)
                self.soon(here, here.wake_pulls)
        self.links = wanted
        if self._drawn is not None:
            self._near = {name: [] for name in self.nodes}
            for link in self._drawn:
                if link in wanted:
                    one_name, other_name = sorted(link)
                    self._near[one_name].append(other_name)
                    self._near[other_name].append(one_name)

    # -- gossip

    def publish(self, sender: Node, data: bytes, to: Sequence[str] | None = None) -> None:
        """To all; or, over links, to all neighbours or these of them, who tell theirs."""
        if self._drawn is not None:
            self._pass_on(sender, data, {sender.name}, to)
            return
        for node in self.nodes.values():
            if node is sender or not self.reachable(sender, node):
                continue
            self._tell(sender, node, data, self.weather.gossip_offers)

    def _pass_on(
        self, sender: Node, data: bytes, have: set[str], to: Sequence[str] | None = None
    ) -> None:
        for name in self._near[sender.name] if to is None else to:
            if name not in have and self.rng.random() >= self.weather.gossip_loss:
                self.messages += 1
                self.at(self.delay(), lambda name=name: self._arrive(sender, name, data, have))

    def _arrive(self, sender: Node, name: str, data: bytes, have: set[str]) -> None:
        if name not in have and frozenset((sender.name, name)) in self.links:
            have.add(name)
            node = self.nodes[name]
            node.heard(sender.name, data)
            self._pass_on(node, data, have)

    def _tell(self, sender: Node, node: Node, data: bytes, offers: int) -> None:
        if self.rng.random() >= self.weather.gossip_loss:
            self.messages += 1
            self.at(self.delay(), lambda: self._deliver(sender, node, data))
        elif offers and self.reachable(sender, node):
            self.at(HEARTBEAT_MS, lambda: self._tell(sender, node, data, offers - 1))

    def _deliver(self, sender: Node, node: Node, data: bytes) -> None:
        if self.reachable(sender, node):
            node.heard(sender.name, data)

    # -- what must hold

    def equal(self) -> bool:
        sets = [set(node.store.records) for node in self.nodes.values()]
        return all(item == sets[0] for item in sets)
