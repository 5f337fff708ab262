"""A member in another process that is killed, hangs, and comes back."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from permesh.errors import PermeshError
from permesh.p2p import heartbeat

from .mesh import LOOPBACK, member, run, until

ROOT = Path(__file__).parents[2]


@asynccontextmanager
async def child(number: int, listen: str, *bootstrap: str) -> AsyncIterator[trio.Process]:
    command = [sys.executable, "-m", "tests.p2p.child", str(number), listen, *bootstrap]
    process = await trio.lowlevel.open_process(command, cwd=ROOT, stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        yield process
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()
            await process.stdout.aclose()


async def address_of(process: trio.Process) -> str:
    assert process.stdout is not None
    return bytes(await process.stdout.receive_some()).decode().strip()


def test_a_killed_member_is_gone_at_once_and_found_again() -> None:
    async def main() -> None:
        a = member(1)
        async with a.swarm.running():
            async with child(2, LOOPBACK) as process:
                address = await address_of(process)
                a.swarm.add_bootstrap(address)
                await until(lambda: a.swarm.peers())
                process.send_signal(signal.SIGKILL)
                killed = trio.current_time()
                await until(lambda: not a.swarm.peers())
                assert trio.current_time() - killed < 3
            async with child(2, address.split("/p2p/")[0]):
                await until(lambda: a.swarm.peers())
        assert [event[0] for event in a.events] == ["+", "-", "+"]

    run(main, 60)


def test_a_member_that_hangs_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert heartbeat.BEAT_S * (heartbeat.MISSED_BEATS + 1) <= 20
    monkeypatch.setattr(heartbeat, "BEAT_S", 0.5)

    async def main() -> None:
        a = member(1)
        async with a.swarm.running(), child(2, LOOPBACK, a.address) as process:
            await until(lambda: a.swarm.peers())
            (peer,) = a.swarm.peers()
            stream = await a.swarm.open(peer.peer_id, "/test/echo")
            await stream.send(b"x")
            assert await stream.receive() == b"x"
            process.send_signal(signal.SIGSTOP)
            with pytest.raises(PermeshError) as caught:
                await a.swarm.open(peer.peer_id, "/test/echo", 0.2)
            assert caught.value.code == "network.slow"
            await until(lambda: not a.swarm.peers())
            with pytest.raises(PermeshError) as caught:
                await stream.receive()
            assert caught.value.code == "wire.closed"
            process.send_signal(signal.SIGCONT)
            await until(lambda: a.swarm.peers())

    run(main, 60)
