"""A mesh of members in one process: real engines, real lanes on loopback, and memory streams in
the place of libp2p's. It runs in a thread of its own, so that many tests share its engines."""

from __future__ import annotations

import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import trio
from nacl.signing import SigningKey
from trio.testing import memory_stream_pair

from permesh.errors import PermeshError, Refused
from permesh.inference.messages import PROTOCOL
from permesh.inference.service import Compute
from permesh.inference.supervisor import Engine
from permesh.inference.surroundings import Member
from permesh.p2p.wire import Framed

T = TypeVar("T")
MESH_ID = b"m" * 32


class Node:
    """One member; it is its own `Surroundings`."""

    def __init__(self, mesh: Mesh, name: str, number: int, engine: Engine) -> None:
        self.mesh = mesh
        self.peer_id = f"peer{name}"
        self.engine = engine
        self.host: str | None = "127.0.0.1"
        self.faults: list[str] = []
        self.span_changes = 0
        self.streams: list[Framed] = []
        self.frozen = False  # hears nothing and says nothing on its control streams
        self._me = Member(number.to_bytes(20, "big"), number, name)
        self._key = SigningKey(number.to_bytes(32, "big"))
        self.compute = Compute(
            engine,
            self,
            mesh.models,
            now=lambda: time.time_ns() // 1_000_000,
            lane_host="127.0.0.1",
        )

    # -- Surroundings

    @property
    def mesh_id(self) -> bytes:
        return MESH_ID

    def me(self) -> Member:
        return self._me

    def epoch(self) -> int:
        return 1

    def sign(self, digest: bytes) -> bytes:
        return self._key.sign(digest).signature

    def session_key(self, agent: bytes, epoch: int) -> bytes | None:
        node = self.mesh.by_agent(agent)
        return bytes(node._key.verify_key) if node and epoch == 1 else None

    def member(self, agent: bytes) -> Member | None:
        node = self.mesh.by_agent(agent)
        return node._me if node else None

    def connected(self) -> Mapping[str, Member]:
        return {n.peer_id: n._me for n in self.mesh.nodes.values() if n is not self and n.online}

    def host_of(self, _peer_id: str) -> str | None:
        return self.host

    async def open_stream(self, peer_id: str, protocol: str) -> Framed:
        other = self.mesh.by_peer(peer_id)
        if other is None or not (self.online and other.online):
            raise PermeshError("network.not_connected", "That member is not connected.")
        ours, theirs = (Framed(Valve(end)) for end in memory_stream_pair())
        for node, end, protocol_here in ((self, ours, protocol), (other, theirs, protocol)):
            node.streams.append(end)
            if protocol_here == PROTOCOL:
                end._stream.node = node
        self.mesh.nursery.start_soon(other._serve, theirs, self.peer_id, protocol)
        return ours

    async def _serve(self, stream: Framed, peer_id: str, protocol: str) -> None:
        try:
            await self.compute.handlers[protocol](stream, peer_id, None)
        except Refused as refusal:
            self.faults.append(refusal.code)
        except PermeshError:
            pass
        finally:
            await stream.aclose()

    def announce(self) -> None:
        for blob in self.compute.offers():
            for node in self.mesh.nodes.values():
                if node is not self:
                    node.compute.on_offer(self.peer_id, blob)

    def spans_changed(self) -> None:
        self.span_changes += 1

    def fault(self, _peer_id: str, code: str) -> None:
        self.faults.append(code)

    # -- what tests do to it

    online = True

    async def vanish(self) -> None:
        """As a SIGKILL is seen by the others: every stream and lane ends."""
        self.online = False
        for stream in self.streams:
            await stream.aclose()
        for lane in list(self.compute._lanes._lanes):
            await lane.aclose()


class Valve:
    """A byte stream that hangs while its node is frozen."""

    def __init__(self, stream: trio.StapledStream) -> None:
        self._stream = stream
        self.node: Node | None = None

    async def _pass(self) -> None:
        if self.node is not None and self.node.frozen:
            await trio.sleep_forever()

    async def send_all(self, data: bytes) -> None:
        await self._pass()
        await self._stream.send_all(data)

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        data = await self._stream.receive_some(max_bytes)
        await self._pass()
        return bytes(data)

    async def aclose(self) -> None:
        await self._stream.aclose()


class Mesh:
    """Three members on the models in one folder."""

    def __init__(self, models: Path) -> None:
        self.models = models
        self.nodes: dict[str, Node] = {}
        self.nursery: trio.Nursery
        self._ready = threading.Event()
        self._token: Any = None
        self._thread = threading.Thread(target=lambda: trio.run(self._main))

    def by_agent(self, agent: bytes) -> Node | None:
        return next((n for n in self.nodes.values() if n._me.agent == agent), None)

    def by_peer(self, peer_id: str) -> Node | None:
        return next((n for n in self.nodes.values() if n.peer_id == peer_id), None)

    async def _main(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        async with trio.open_nursery() as self.nursery:
            for number, name in enumerate(["atlas", "birch", "cedar"], 1):
                node = self.nodes[name] = Node(self, name, number, Engine())
                await self.nursery.start(node.engine.run)
                await self.nursery.start(node.compute.run)
            self._ready.set()

    def __enter__(self) -> Mesh:
        self._thread.start()
        assert self._ready.wait(60)
        return self

    def __exit__(self, *_: object) -> None:
        self._token.run_sync_soon(self.nursery.cancel_scope.cancel)
        self._thread.join(30)
        assert not self._thread.is_alive()

    def run(self, test: Callable[[], Awaitable[T]], seconds: float = 90.0) -> T:
        """Run a coroutine function in the mesh's thread."""

        async def within() -> T:
            with trio.fail_after(seconds):
                return await test()

        return trio.from_thread.run(within, trio_token=self._token)
