"""The ring over three real swarms on loopback: libp2p streams, direct lanes, real engines."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
import trio

from permesh.inference.session import RingError
from permesh.inference.supervisor import Engine
from permesh.inference.surroundings import Member
from permesh.p2p.swarm import Swarm
from permesh.p2p.wire import Framed
from tests.p2p import mesh as p2p

from . import tiny
from .asking import ask, request, serve_both, settled
from .mesh import Mesh, Node


class RealNode(Node):
    """A member on a swarm of its own."""

    swarm: Swarm

    def connected(self) -> dict[str, Member]:
        others = {node.peer_id: node.me() for node in self.mesh.nodes.values()}
        return {peer.peer_id: others[peer.peer_id] for peer in self.swarm.peers()}

    def host_of(self, peer_id: str) -> str | None:
        return self.swarm.host_of(peer_id)

    async def open_stream(self, peer_id: str, protocol: str) -> Framed:
        return await self.swarm.open(peer_id, protocol)


@asynccontextmanager
async def three_swarms(models: Path, engines: dict[str, Engine]) -> AsyncIterator[Mesh]:
    mesh = Mesh(models)
    bootstrap: tuple[str, ...] = ()
    async with AsyncExitStack() as stack:
        nursery = await stack.enter_async_context(trio.open_nursery())
        for number, (name, engine) in enumerate(engines.items(), 1):
            node = RealNode(mesh, name, number, engine)
            member = p2p.member(number, handlers=node.compute.handlers, bootstrap=bootstrap)
            node.swarm, node.peer_id = member.swarm, member.peer_id
            mesh.nodes[name] = node
            await stack.enter_async_context(node.swarm.running())
            await nursery.start(node.compute.run)
            bootstrap = (*bootstrap, node.swarm.addresses()[0])
        await p2p.until(lambda: all(len(n.swarm.peers()) == 2 for n in mesh.nodes.values()))
        yield mesh
        nursery.cancel_scope.cancel()


def test_three_swarms_answer_over_tls_and_name_the_one_that_leaves(shared: Mesh) -> None:
    engines = {name: node.engine for name, node in shared.nodes.items()}

    async def main() -> None:
        async with three_swarms(shared.models, engines) as mesh:
            await serve_both(mesh)
            local, _ = await ask(mesh, request(tiny.words(5), "local"))
            text, last = await ask(mesh, request(tiny.words(5), "mesh"))
            assert text == local
            assert last.route is not None
            assert [(s.name, s.lane) for s in last.route.stages] == [
                ("atlas", "tls"), ("birch", "tls"), ("cedar", "tls"), ("atlas", "local"),
            ]  # fmt: skip
            await settled(mesh)

            atlas, birch, cedar = mesh.nodes.values()
            async with atlas.compute.answer(request(tiny.words(5), max_tokens=4000)) as deltas:
                await anext(deltas)
                await cedar.swarm.drop(atlas.peer_id, "the test")
                await cedar.swarm.drop(birch.peer_id, "the test")
                with trio.fail_after(5), pytest.raises(RingError, match=r"cedar \(AGT-0003\)"):
                    async for _ in deltas:
                        pass
            await settled(mesh)
            assert not any(node.faults for node in mesh.nodes.values())

    shared.run(main)
