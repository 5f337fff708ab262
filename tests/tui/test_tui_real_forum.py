"""The app on the real forum: its rules, search, inbox and drafts, over a real socket."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from textual.pilot import Pilot
from textual.widgets import Button, Input

from permesh.client import AsyncClient
from permesh.config import Home
from permesh.schema import NewCharter, NewRoom
from permesh.tui.app import PermeshApp
from permesh.tui.charter_window import CharterForm
from permesh.tui.dialogs import Confirm
from permesh.tui.draft_file import DraftFile
from permesh.tui.post_dialogs import LabelDialog, ReactDialog
from permesh.tui.thread_screen import ThreadScreen
from permesh.tui.widgets.composer import Composer, PostText
from tests.api.fakenode import ME, NOW, FakeNode, running

from .stage import QUICK, played, settle, shown, texts, until, write


@pytest.fixture
def home():
    root = Path(tempfile.mkdtemp(prefix="pm-"))  # short, as a socket's path has to be
    yield Home(root)
    shutil.rmtree(root)


@asynccontextmanager
async def on(home: Home, node: FakeNode, size: tuple[int, int] = (100, 32)) -> AsyncIterator[Pilot]:
    async with AsyncClient(home.socket) as client:
        file = DraftFile(home.root / "tui-drafts.json")
        app = PermeshApp(client, node.now_ms, file, QUICK)
        async with app.run_test(size=size, notifications=True) as pilot:
            await until(pilot, lambda: app.model.online)
            await settle(pilot)
            yield pilot


@played
async def test_a_days_work_in_a_room(home):
    node = FakeNode(NOW)
    with running(home, node) as daemon:
        lobby = node.birch.room("lobby", "where we meet")
        first = node.birch.post(lobby.id, "**Who** has layers to spare?")
        daemon.run(node.receive, lobby, first)
        async with on(home, node) as pilot, AsyncClient(home.socket) as client:
            await until(pilot, lambda: "Who has layers to spare?" in shown(pilot))

            await pilot.press("plus")
            await until(pilot, lambda: isinstance(pilot.app.screen, ReactDialog))
            await pilot.press("1")
            await until(pilot, lambda: "👍 1" in shown(pilot))

            await pilot.press("r")
            pilot.app.query_one(PostText).insert("Six of tehm.")
            await settle(pilot)
            assert [draft.text for draft in (await client.drafts()).items] == ["Six of tehm."]
            await pilot.press("ctrl+s")
            await until(pilot, lambda: "Six of tehm." in texts(pilot))
            await settle(pilot)
            assert (await client.drafts()).items == []

            await pilot.press("e")
            await settle(pilot)
            pilot.app.query_one(PostText).load_text("Six of them.")
            await pilot.press("ctrl+s")
            await until(pilot, lambda: "Six of them." in texts(pilot))
            assert "edited" in shown(pilot)
            await settle(pilot)

            await pilot.press("v")
            await until(pilot, lambda: isinstance(pilot.app.screen, ThreadScreen))
            await until(pilot, lambda: "2 posts" in shown(pilot))
            await pilot.press("escape", "d")
            await until(pilot, lambda: isinstance(pilot.app.screen, Confirm))
            await pilot.press("y")
            await until(pilot, lambda: "removed by its author" in shown(pilot))

            told = node.birch.post(lobby.id, "@atlas look at this", first.id, mentions=(ME,))
            daemon.run(node.receive, told)
            await until(pilot, lambda: "look at this" in shown(pilot))
            await pilot.press("5")
            await until(pilot, lambda: "@atlas look at this" in shown(pilot))
            await pilot.press("6", *"layers")
            await until(pilot, lambda: "1 post, newest first" in shown(pilot))


@played
async def test_a_label_hides_and_the_rule_is_told(home):
    node = FakeNode(NOW)
    with running(home, node) as daemon:
        lobby = node.birch.room("lobby")
        daemon.run(node.receive, lobby, node.birch.post(lobby.id, "buy my layers"))
        async with on(home, node) as pilot:
            await until(pilot, lambda: "buy my layers" in texts(pilot))
            await pilot.press("l")
            await until(pilot, lambda: isinstance(pilot.app.screen, LabelDialog))
            await until(pilot, lambda: "No labels yet." in shown(pilot))
            pilot.app.screen.query_one("#reason", Input).value = "ads"
            pilot.app.screen.query_one("#label-spam", Button).press()
            await until(pilot, lambda: "buy my layers" not in texts(pilot))
            await pilot.press("h")
            await until(pilot, lambda: "Hidden: " in shown(pilot))
            await pilot.press("h")
            await until(pilot, lambda: "Hidden: " not in shown(pilot))


@played
async def test_a_steward_changes_the_charter_and_drafts_outlive_the_daemon(home):
    node = FakeNode(NOW)
    with running(home, node):
        async with on(home, node) as pilot, AsyncClient(home.socket) as client:
            room = await client.create_room(NewRoom(name="den"))
            await until(pilot, lambda: "# den" in shown(pilot))
            await settle(pilot)
            await pilot.press("C")
            await until(pilot, lambda: "Version 1" in shown(pilot))
            await pilot.press("e")
            await until(pilot, lambda: isinstance(pilot.app.screen, CharterForm))
            pilot.app.screen.query_one("#off_topic", Input).value = "gossip"
            await pilot.press("ctrl+s")
            await until(pilot, lambda: "Version 2" in shown(pilot))
            await pilot.press("escape")
            await client.set_charter(room.id, NewCharter(posts_per_hour=9))
            await until(pilot, lambda: "v3" in shown(pilot))
            await write(pilot, "not yet posted")
            await settle(pilot)

    with running(home, node):
        async with on(home, node) as pilot:
            await until(pilot, lambda: pilot.app.query_one(Composer).text == "not yet posted")
            await pilot.press("c", "ctrl+s")
            await until(pilot, lambda: "not yet posted" in texts(pilot))
