"""Whole rings: three members, real engines in subprocesses, a tiny model with random weights."""

from __future__ import annotations

from dataclasses import replace

import pytest
import trio

from permesh.errors import PermeshError
from permesh.inference.answer import PEER_SAW
from permesh.inference.stages import _Live
from permesh.p2p.lanes import Lane

from . import tiny
from .asking import ask, request, serve_both, sessions, settled
from .mesh import Mesh


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


def test_leaving_an_answer_frees_every_cache(shared: Mesh) -> None:
    async def main() -> None:
        await serve_both(shared)
        atlas = shared.nodes["atlas"].compute
        async with atlas.answer(request(tiny.words(5), max_tokens=4000)) as deltas:
            async for _ in deltas:
                break
            assert await sessions(shared) == 3
        await settled(shared)
        with trio.move_on_after(0.3):  # cancelled from outside, as when a client hangs up
            async with atlas.answer(request(tiny.words(600), max_tokens=4000)) as deltas:
                async for _ in deltas:
                    pass
        await settled(shared)

    shared.run(main)


def test_askers_interleave_on_a_stage(shared: Mesh) -> None:
    async def main() -> None:
        await serve_both(shared)
        await shared.nodes["atlas"].compute.serve(tiny.NAME, 3, 7)
        prompts = {name: tiny.words(5 + len(name), seed=len(name)) for name in shared.nodes}
        alone = {
            name: (await ask(shared, request(prompts[name], "local"), name))[0]
            for name in shared.nodes
        }
        together: dict[str, str] = {}

        async def one(name: str) -> None:
            together[name], last = await ask(shared, request(prompts[name]), name)
            assert last.route is not None
            assert last.route.route == "exposed"

        async with trio.open_nursery() as nursery:
            for name in shared.nodes:
                nursery.start_soon(one, name)
        assert together == alone
        await shared.nodes["atlas"].compute.stop(tiny.NAME)

    shared.run(main)


def test_a_neighbour_whose_lane_comes_in_before_the_caches_are_there_is_served(
    shared: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        await serve_both(shared)
        stages = shared.nodes["cedar"].compute._stages
        ready, pump, entered = stages._ready, stages._pump, trio.Event()

        async def late(revision: str) -> None:
            await entered.wait()
            await ready(revision)

        async def seen(live: _Live, lane: Lane) -> None:
            entered.set()
            await pump(live, lane)

        monkeypatch.setattr(stages, "_ready", late)
        monkeypatch.setattr(stages, "_pump", seen)
        local, _ = await ask(shared, request(tiny.words(5), "local"))
        text, _ = await ask(shared, request(tiny.words(5), "mesh"))
        assert text == local
        await settled(shared)

    shared.run(main)


def test_a_seeded_sample_and_a_stop_string_are_the_same_by_either_route(shared: Mesh) -> None:
    async def main() -> None:
        await serve_both(shared)
        sampled = {"temperature": 1.0, "top_p": 0.9, "seed": 7}
        local, _ = await ask(shared, request(tiny.words(5), "local", **sampled))
        ring, _ = await ask(shared, request(tiny.words(5), "mesh", **sampled))
        greedy, _ = await ask(shared, request(tiny.words(5), "mesh"))
        assert ring == local != greedy
        stop = greedy.split()[4]
        text, last = await ask(shared, request(tiny.words(5), "mesh", stop=(stop,)))
        assert last.finish_reason == "stop"
        assert stop not in text
        assert greedy.startswith(text)

    shared.run(main)


def test_lanes_fall_back_to_the_libp2p_stream(shared: Mesh) -> None:
    async def main() -> None:
        await serve_both(shared)
        for node in shared.nodes.values():
            node.host = None
        try:
            local, _ = await ask(shared, request(tiny.words(5), "local"))
            text, last = await ask(shared, request(tiny.words(5), "mesh"))
        finally:
            for node in shared.nodes.values():
                node.host = "127.0.0.1"
        assert text == local
        assert last.route is not None
        assert [stage.lane for stage in last.route.stages] == ["libp2p"] * 3 + ["local"]

    shared.run(main)


def test_the_route_is_chosen_by_what_there_is(shared: Mesh) -> None:
    async def main() -> None:
        await serve_both(shared)
        question = request(tiny.words(5), "auto", max_tokens=2)

        async def route() -> str:
            _, last = await ask(shared, question)
            assert last.route is not None
            return last.route.route

        assert await route() == "exposed"
        atlas, birch, cedar = shared.nodes.values()
        await atlas.compute.serve(tiny.NAME, None, None)
        assert await route() == "local"
        await atlas.compute.stop(tiny.NAME)
        assert await route() == "exposed"
        await birch.compute.stop(tiny.NAME)
        await cedar.compute.stop(tiny.NAME)
        assert await route() == "local"
        with pytest.raises(PermeshError, match="serves layers in the middle") as error:
            await ask(shared, request(tiny.words(5), "mesh"))
        assert error.value.code == "route.no_chain"
        with pytest.raises(PermeshError, match="no model 'absent' here"):
            await ask(shared, replace(question, model="absent"))

    shared.run(main)


def test_what_is_served_is_seen_by_all_until_it_is_stopped(shared: Mesh) -> None:
    async def main() -> None:
        await serve_both(shared)
        atlas, birch, cedar = shared.nodes.values()
        seen = [(s.name, s.number, s.first, s.last) for s in atlas.compute.spans()]
        assert seen == [("birch", "AGT-0002", 3, 7), ("cedar", "AGT-0003", 7, 10)]
        [model] = await atlas.compute.models()
        assert (model.name, model.local, model.reachable) == (tiny.NAME, True, True)
        assert [span.name for span in model.served] == ["birch", "cedar"]
        before = atlas.span_changes
        await birch.compute.stop(tiny.NAME)
        assert [span.name for span in atlas.compute.spans()] == ["cedar"]
        assert atlas.span_changes == before + 1
        assert cedar.compute.serving()[0].last == 10
        with pytest.raises(PermeshError, match="is not served here"):
            await birch.compute.stop(tiny.NAME)
        for first, last in ((5, 5), (0, 13), (-1, 4), (7, 3)):
            with pytest.raises(PermeshError, match="layers 0 to 11") as error:
                await birch.compute.serve(tiny.NAME, first, last)
            assert error.value.code == "model.layers"

    shared.run(main)


def test_a_prompt_that_is_too_long_is_refused_before_anything_is_opened(shared: Mesh) -> None:
    async def main() -> None:
        await serve_both(shared)
        for route in ("mesh", "local"):
            with pytest.raises(PermeshError) as error:
                await ask(shared, request(tiny.words(tiny.CONTEXT + 1), route))
            assert error.value.code == "prompt.too_long"
        await settled(shared)

    shared.run(main)
