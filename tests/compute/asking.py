"""What the tests of whole rings share: questions, and what is left when they are over."""

from __future__ import annotations

import trio

from permesh.node import ChatDelta, ChatMessage, ChatRequest, RoutePreference

from . import tiny
from .mesh import Mesh


def request(
    prompt: str, route: RoutePreference = "mesh", max_tokens: int = 24, **more: object
) -> ChatRequest:
    return ChatRequest(
        tiny.NAME, (ChatMessage("user", prompt),), max_tokens=max_tokens, route=route, **more
    )


async def ask(mesh: Mesh, question: ChatRequest, who: str = "atlas") -> tuple[str, ChatDelta]:
    """The text and the last delta."""
    text, last = "", None
    async with mesh.nodes[who].compute.answer(question) as deltas:
        async for last in deltas:
            text += last.text
    assert last is not None
    return text, last


async def serve_both(mesh: Mesh) -> None:
    await mesh.nodes["birch"].compute.serve(tiny.NAME, 3, 7)
    await mesh.nodes["cedar"].compute.serve(tiny.NAME, 7, 10)


async def sessions(mesh: Mesh) -> int:
    """How many sessions the engines hold, once every close that is under way is done."""
    total = 0
    for node in mesh.nodes.values():
        total += (await node.engine.call("stats")).fields["sessions"]
    return total


async def settled(mesh: Mesh) -> None:
    """Wait until no cache is left anywhere."""
    with trio.fail_after(20):
        while True:
            held = [len(node.compute._stages._table) for node in mesh.nodes.values()]
            if await sessions(mesh) == 0 and not any(held):
                return
