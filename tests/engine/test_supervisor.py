"""The engine as a process: it comes back when killed, and goes when its parent goes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import psutil
import pytest
import trio
import trio.testing

from permesh.errors import PermeshError
from permesh.inference import supervisor
from permesh.inference.catalogue import ModelInfo
from permesh.inference.supervisor import Engine, EngineState

from . import tiny
from .desk import session

PATIENCE = 90.0  # importing mlx-lm from a cold disk on a busy machine


@pytest.fixture(scope="module")
def info(tmp_path_factory: pytest.TempPathFactory) -> ModelInfo:
    return tiny.make(tmp_path_factory.mktemp("models"))


def with_engine(test: Callable[[Engine, list[EngineState]], Awaitable[None]]) -> list[EngineState]:
    """Run a test against one engine; gives the states it went through."""
    states: list[EngineState] = []

    async def main() -> None:
        engine = Engine(states.append)
        with trio.fail_after(PATIENCE):
            async with trio.open_nursery() as nursery:
                await nursery.start(engine.run)
                await test(engine, states)
                nursery.cancel_scope.cancel()

    trio.run(main)
    return states


async def code_of(engine: Engine, op: str, **fields: object) -> str:
    try:
        await engine.call(op, fields)
    except PermeshError as error:
        return error.code
    return "answered"


def test_one_life_after_another(info: ModelInfo) -> None:
    """Killed in the middle of calls, it fails them at once, comes back, and remembers nothing."""

    async def test(engine: Engine, _: list[EngineState]) -> None:
        span = {"model_dir": str(info.path), "first": 2, "last": 4, "ends": False}
        reply = await engine.call("load", span)
        assert reply.fields["spans"] == [[2, 4]]
        assert engine.state.weight_bytes > 0
        assert "cpu (" in engine.state.backend or engine.state.backend in ("metal", "cuda")

        # Refused requests are answers, not deaths.
        assert await code_of(engine, "nonsense") == "engine.unknown_op"
        assert await code_of(engine, "load", **{**span, "last": 99}) == "layers.out_of_range"
        open_fields = {"revision": info.revision, "first": 2, "last": 4, "max_tokens": 64}
        await engine.call("open", {"session": session(1), **open_fields})
        payload = bytes(40 * 32 * 4)
        step = {"session": session(1), "start": 0, "tensors": [["float32", [1, 40, 32]]]}
        answer = await engine.call("forward", step, payload)
        assert len(answer.payload) == len(payload)

        # Ctrl-C in a terminal reaches the whole process group: the engine leaves it to the daemon.
        first = engine.state.pid
        os.kill(first, signal.SIGINT)
        assert await code_of(engine, "stats") == "answered"

        codes: list[str] = []

        async def pending() -> None:
            codes.append(await code_of(engine, "self_test", **span))

        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(pending)
            await trio.testing.wait_all_tasks_blocked(0.01)
            os.kill(first, signal.SIGKILL)
            with trio.fail_after(5):
                while len(codes) < 3:
                    await trio.testing.wait_all_tasks_blocked(0.01)
        assert codes == ["engine.crashed"] * 3

        assert (
            await code_of(engine, "open", session=session(1), **open_fields) == "model.not_loaded"
        )
        assert engine.state.pid != first
        assert engine.state.restarts == 1
        assert engine.state.weight_bytes == 0
        await engine.call("load", span)

    states = with_engine(test)
    phases = [state.state for state in states]
    assert phases[0] == "starting"
    assert phases.count("ready") >= 2
    assert phases[-1] == "stopped"
    assert any("SIGKILL" in state.detail for state in states)
    assert not any(psutil.pid_exists(state.pid) for state in states if state.pid)


def test_a_deadline_and_a_caller_that_leaves() -> None:
    async def test(engine: Engine, _: list[EngineState]) -> None:
        await engine.call("stats")
        with pytest.raises(PermeshError) as late:
            await engine.call("stats", deadline_s=0.0)
        assert late.value.code == "engine.timeout"
        with trio.move_on_after(0):
            await engine.call("stats")
        # Neither has put the order of the answers out of joint.
        reply = await engine.call("stats")
        assert reply.fields["pid"] == engine.state.pid
        for _ in range(2):
            async with trio.open_nursery() as nursery:
                for _ in range(20):
                    nursery.start_soon(engine.call, "stats")

    with_engine(test)


def test_too_many_calls_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "MAX_PENDING", 4)

    async def test(engine: Engine, _: list[EngineState]) -> None:
        await engine.call("stats")
        codes: list[str] = []

        async def ask() -> None:
            codes.append(await code_of(engine, "stats"))

        async with trio.open_nursery() as nursery:
            for _ in range(12):
                nursery.start_soon(ask)
        assert codes.count("engine.busy") == 8
        assert codes.count("answered") == 4

    with_engine(test)


def test_an_engine_that_never_starts_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")

    async def test(engine: Engine, _: list[EngineState]) -> None:
        with pytest.raises(PermeshError, match="nonexistent") as refused:
            await engine.call("stats")
        assert refused.value.code == "engine.failed"

    with_engine(test)


def test_one_that_is_stuck_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "STUCK_SECONDS", 1.0)
    monkeypatch.setattr(supervisor, "WATCH_SECONDS", 0.2)

    async def test(engine: Engine, _: list[EngineState]) -> None:
        await engine.call("stats")
        os.kill(engine.state.pid, signal.SIGSTOP)
        assert await code_of(engine, "stats") == "engine.crashed"

    with_engine(test)


PARENT = """
import trio
import trio.testing
from permesh.inference.supervisor import Engine
async def main():
    engine = Engine()
    async with trio.open_nursery() as nursery:
        await nursery.start(engine.run)
        await engine.call("stats")
        print(engine.state.pid, flush=True)
        await trio.sleep_forever()
trio.run(main)
"""


def test_it_goes_when_its_parent_is_killed(tmp_path: Path) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True, cwd=tmp_path
    )
    try:
        assert parent.stdout is not None
        engine = psutil.Process(int(parent.stdout.readline()))
    finally:
        parent.kill()
        parent.wait()
    gone, _ = psutil.wait_procs([engine], timeout=10)
    assert gone or engine.status() == psutil.STATUS_ZOMBIE
