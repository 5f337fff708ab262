"""The app on the real client and the real API, over a socket, with a daemon that comes and goes."""

from __future__ import annotations

import io
import shutil
import sys
import tempfile
from pathlib import Path

import pytest

from permesh.client import AsyncClient
from permesh.config import Home
from permesh.errors import PermeshError
from permesh.schema import NewRoom
from permesh.tui import run
from permesh.tui.app import PermeshApp
from permesh.tui.widgets.top_bar import Banner
from tests.api.fakenode import NOW, FakeNode, running

from .stage import QUICK, played, settle, shown, until, write


def test_without_a_terminal_there_is_a_clear_refusal(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    with pytest.raises(PermeshError) as raised:
        run(Path("/tmp/permesh.sock"))

    assert raised.value.code == "tui.no_terminal"


@played
async def test_a_post_goes_through_and_the_daemon_may_be_started_again():
    root = Path(tempfile.mkdtemp(prefix="pm-"))  # short, as a socket's path has to be
    home, node = Home(root), FakeNode()
    try:
        async with AsyncClient(home.socket) as client:
            app = PermeshApp(client, lambda: NOW, None, QUICK)
            async with app.run_test(size=(80, 24)) as pilot:
                await until(pilot, lambda: "No daemon is running" in shown(pilot))

                with running(home, node) as daemon:
                    room = daemon.run(node.create_room, NewRoom(name="lobby"))
                    await until(pilot, lambda: "# lobby" in shown(pilot))
                    await settle(pilot)
                    await write(pilot, "over a real socket")
                    await pilot.press("ctrl+s")
                    await until(pilot, lambda: "Press c to write" not in shown(pilot))
                    assert node.all_posts[-1].text == "over a real socket"
                    daemon.run(node.receive, room, "heard live", node.all_posts[-1].id)
                    await until(pilot, lambda: "heard live" in shown(pilot))

                await write(pilot, "kept meanwhile")
                await until(pilot, lambda: "Trying again by itself" in shown(pilot))
                with running(home, node):
                    await until(pilot, lambda: not app.main.query_one(Banner).display)
                    await pilot.press("ctrl+s")
                    await until(pilot, lambda: node.all_posts[-1].text == "kept meanwhile")
    finally:
        shutil.rmtree(root)
