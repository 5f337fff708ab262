"""Rings that lose something in the middle: it is said at once who it was, and nothing is left."""

from __future__ import annotations

import os
import signal
from collections.abc import Awaitable, Callable

import pytest
import trio

from permesh.errors import PermeshError
from permesh.inference import ring, session, stages
from permesh.inference.session import RingError

from . import tiny
from .asking import ask, request, serve_both, settled
from .mesh import Mesh


async def disturbed(mesh: Mesh, disturb: Callable[[], Awaitable[None]], who: str = "atlas") -> None:
    """Ask without end, do something to the mesh at the first token, and see the answer end.

    Raises what ends it, within 3 s.
    """
    asker = mesh.nodes[who].compute
    async with asker.answer(request(tiny.words(5), max_tokens=4000)) as deltas:
        await anext(deltas)
        await disturb()
        with trio.fail_after(3):
            async for _ in deltas:
                pass
    raise AssertionError("the answer went on to its end")


def test_an_engine_killed_in_the_middle_is_said_at_once_and_serves_again(shared: Mesh) -> None:
    async def main() -> None:
        await serve_both(shared)
        cases = (
            ("atlas", "atlas", "The model engine"),
            ("birch", "cedar", "birch (AGT-0002) failed: The model engine"),
        )
        for victim, asker, words in cases:

            async def kill(victim: str = victim) -> None:
                os.kill(shared.nodes[victim].engine.state.pid, signal.SIGKILL)

            with pytest.raises(PermeshError) as error:
                await disturbed(shared, kill, asker)
            assert error.value.message.startswith(words)
        with trio.fail_after(60):
            local, _ = await ask(shared, request(tiny.words(5), "local"))
            text, _ = await ask(shared, request(tiny.words(5), "mesh"))
        assert text == local
        await settled(shared)

    shared.run(main)


def test_a_member_that_refuses_is_left_out_of_the_next_chain(shared: Mesh) -> None:
    async def main() -> None:
        await serve_both(shared)
        await shared.nodes["cedar"].compute.serve(tiny.NAME, 3, 10)
        birch = shared.nodes["birch"].compute
        birch._serving._served.clear()  # its offer is still believed
        _, last = await ask(shared, request(tiny.words(5), max_tokens=2))
        assert last.route is not None
        assert [s.name for s in last.route.stages] == ["atlas", "cedar", "atlas"]
        shared.nodes["cedar"].compute._serving._served.clear()
        with pytest.raises(RingError, match="refused: These layers are not served") as error:
            await ask(shared, request(tiny.words(5), max_tokens=2))
        assert error.value.code == "stage.refused"
        await settled(shared)

    shared.run(main)


def test_a_member_that_vanishes_is_named(shared: Mesh) -> None:
    async def main() -> None:
        await serve_both(shared)
        _, birch, _ = shared.nodes.values()
        with pytest.raises(RingError, match=r"birch \(.*\) left in the middle") as error:
            await disturbed(shared, birch.vanish)
        assert error.value.code == "stage.lost"
        birch.online = True
        await settled(shared)

    shared.run(main)


def test_a_member_that_falls_silent_is_named_in_time(
    shared: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "STAGE_SILENCE_MS", 600)
    monkeypatch.setattr(ring, "TICK_MS", 100)
    monkeypatch.setattr(stages, "TICK_MS", 100)

    async def main() -> None:
        await serve_both(shared)
        _, _, cedar = shared.nodes.values()

        async def freeze() -> None:
            cedar.frozen = True

        with pytest.raises(RingError, match=r"cedar \(.*\) stopped answering"):
            await disturbed(shared, freeze)
        cedar.frozen = False

    shared.run(main)
