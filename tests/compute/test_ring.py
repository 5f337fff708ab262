"""Whole rings: three members, real engines in subprocesses, a tiny model with random weights."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from permesh.inference.answer import PEER_SAW
from permesh.node import ChatDelta, ChatMessage, ChatRequest, RoutePreference

from . import tiny
from .mesh import Mesh


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    models = tmp_path_factory.mktemp("models")
    tiny.make(models)
    return models


@pytest.fixture(scope="module")
def shared(models: Path) -> Iterator[Mesh]:
    """Three members with one engine process between them."""
    with Mesh(models, engines=1) as mesh:
        yield mesh


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


def test_a_ring_of_three_answers_as_the_whole_model_does(shared: Mesh) -> None:
    async def main() -> None:
        await serve_both(shared)
        for prompt in (tiny.words(5), tiny.words(700)):
            local_text, local = await ask(shared, request(prompt, "local"))
            text, last = await ask(shared, request(prompt, "mesh"))
            assert text == local_text
            assert last.route is not None
            assert local.route is not None
            assert last.route.token_ids == local.route.token_ids
            assert len(last.route.token_ids) == last.completion_tokens == 24
            assert [(s.name, s.first, s.last) for s in last.route.stages] == [
                ("atlas", 0, 3), ("birch", 3, 7), ("cedar", 7, 10), ("atlas", 10, 12),
            ]  # fmt: skip
            peers = last.route.stages[1:3]
            assert all(s.saw == PEER_SAW and s.lane == "tls" and s.bytes_sent for s in peers)
            assert all(s.milliseconds > 0 for s in last.route.stages)
            assert (last.route.route, local.route.route) == ("exposed", "local")
            assert last.prompt_tokens == last.route.prompt_tokens == local.prompt_tokens

    shared.run(main)
