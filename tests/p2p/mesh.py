"""Swarms on loopback for tests: real hosts and sockets, and a gate that goes by a word."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

import trio

from permesh.config import NetworkConfig
from permesh.p2p.admission import GateVerdict
from permesh.p2p.swarm import Handler, PeerInfo, Swarm
from permesh.p2p.wire import Framed

LOOPBACK = "/ip4/127.0.0.1/tcp/0"
# Far beyond what a test needs on a busy machine; a test that reaches it has failed.
PATIENCE_S = 20.0

SESAME = b"sesame"


@dataclass
class WordGate:
    """Lets in whoever says the word; everything else is what the tests change."""

    word: bytes = SESAME
    verdicts: Callable[[bytes], GateVerdict] | None = None
    told: list[tuple[str, GateVerdict]] = field(default_factory=list)

    def hello(self) -> bytes:
        return self.word

    def check(self, peer_id: str, hello: bytes) -> GateVerdict:
        del peer_id
        if self.verdicts is not None:
            return self.verdicts(hello)
        if hello != SESAME:
            return GateVerdict("refused", "gate.word", "That is not the word.", "Learn it.")
        return GateVerdict("admitted", verified=hello.decode())

    def on_verdict(self, peer_id: str, verdict: GateVerdict) -> None:
        self.told.append((peer_id, verdict))


@dataclass
class Member:
    """A swarm with a record of what happened to it."""

    swarm: Swarm
    gate: WordGate
    events: list[str] = field(default_factory=list)
    messages: list[tuple[str, bytes]] = field(default_factory=list)

    @property
    def address(self) -> str:
        return self.swarm.addresses()[0]

    @property
    def peer_id(self) -> str:
        return self.swarm.peer_id

    def sees(self, other: Member) -> bool:
        return any(peer.peer_id == other.peer_id for peer in self.swarm.peers())


async def echo(stream: Framed, peer_id: str, verified: object) -> None:
    del peer_id, verified
    while True:
        await stream.send(await stream.receive())


def member(
    number: int,
    *,
    gate: WordGate | None = None,
    handlers: Mapping[str, Handler] | None = None,
    listen: str = LOOPBACK,
    bootstrap: tuple[str, ...] = (),
    on_message: Callable[[str, bytes], None] | None = None,
    clock_ms: Callable[[], int] | None = None,
) -> Member:
    """Member ``number`` (1 … 255); the same number is the same identity."""
    gate = gate or WordGate()
    options = {} if clock_ms is None else {"clock_ms": clock_ms}
    events: list[str] = []
    messages: list[tuple[str, bytes]] = []

    def came(peer: PeerInfo) -> None:
        events.append(f"+{peer.peer_id}")

    def went(peer_id: str) -> None:
        events.append(f"-{peer_id}")

    swarm = Swarm(
        bytes([number]) * 32,
        NetworkConfig(listen=(listen,), bootstrap=bootstrap),
        "/permesh/test",
        gate,
        {"/test/echo": echo, **(handlers or {})},
        on_message or (lambda peer_id, data: messages.append((peer_id, data))),
        on_peer=came,
        on_gone=went,
        rng=random.Random(number),
        **options,
    )
    return Member(swarm, gate, events, messages)


def gossips(here: Member, there: Member) -> bool:
    """Whether a message from ``here`` goes to ``there`` at once."""
    pubsub = here.swarm._pubsub
    return there.peer_id in map(str, pubsub.router.mesh.get(pubsub.topic, ()))  # type: ignore[attr-defined]


async def until(condition: Callable[[], object]) -> None:
    """Wait for what other tasks bring about; the test's own deadline ends it."""
    while not condition():  # noqa: ASYNC110 - many things bring it about
        await trio.sleep(0.01)


def run(main: Callable[[], Awaitable[None]], seconds: float = PATIENCE_S) -> None:
    async def within() -> None:
        with trio.fail_after(seconds):
            await main()

    trio.run(within)
