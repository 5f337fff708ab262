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
from permesh.schema import (
    Chronicle,
    ChronicleEvent,
    NewProposal,
    Proposal,
    Proposals,
    Release,
    Releases,
    Told,
)
from permesh.tui import run
from permesh.tui.app import PermeshApp
from permesh.tui.widgets.top_bar import Banner
from tests.api.fakenode import NOW, FakeNode, running

from .stage import QUICK, played, settle, shown, texts, until, write


def test_without_a_terminal_there_is_a_clear_refusal(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    with pytest.raises(PermeshError) as raised:
        run(Path("/tmp/permesh.sock"))

    assert raised.value.code == "tui.no_terminal"


class IdentityNode(FakeNode):
    """The fake node, with a public record of everybody and one thing to decide."""

    def __init__(self) -> None:
        super().__init__()
        self.proposal = Proposal(
            id="ab" * 32,
            kind="suspension",
            about="beryl (AGT-0002) is suspended",
            approvals=["AGT-0003"],
            needed=2,
            decided=False,
        )

    async def chronicle(self, agent: str) -> Chronicle:
        told = ChronicleEvent(at_ms=NOW, kind="admission", text="named by the genesis", entry=1)
        return Chronicle(agent=agent, number="AGT-0001", name="atlas", items=[told])

    async def proposals(self) -> Proposals:
        return Proposals(items=[self.proposal])

    async def propose(self, wanted: NewProposal) -> Proposal:
        return self.proposal.model_copy(update={"about": wanted.reason})

    async def approve(self, proposal: str) -> Proposal:
        if proposal != self.proposal.id:
            raise PermeshError("proposal.unknown", "No proposal begins with that.")
        self.proposal = self.proposal.model_copy(update={"decided": True})
        return self.proposal

    async def releases(self) -> Releases:
        release = Release(version="1", runtime_hash="cd" * 32, accepted=True, decided_ms=NOW)
        return Releases(items=[release])

    async def tell_owner(self, statement: str) -> Told:
        return Told(name=statement)


@played
async def test_what_registrars_decide_and_chronicles_come_over_the_socket():
    root = Path(tempfile.mkdtemp(prefix="pm-"))
    home, node = Home(root), IdentityNode()
    try:
        async with AsyncClient(home.socket) as client:
            with running(home, node):
                wanted = NewProposal(kind="suspension", agent="AGT-0002", reason="why")
                assert (await client.propose(wanted)).about == "why"
                assert (await client.releases()).items[0].version == "1"
                assert (await client.tell_owner("abcd")).name == "abcd"
                with pytest.raises(PermeshError) as raised:
                    await client.approve("ff")
                assert raised.value.code == "proposal.unknown"
                app = PermeshApp(client, lambda: NOW, None, QUICK)
                async with app.run_test(size=(80, 24)) as pilot:
                    await settle(pilot)
                    await pilot.press("4", "c")
                    await until(pilot, lambda: "named by the genesis" in shown(pilot))
                    await pilot.press("escape", "2", "p")
                    await until(pilot, lambda: "1 of 2 approvals: AGT-0003" in shown(pilot))
                    assert (await client.approve("ab" * 32)).decided
    finally:
        shutil.rmtree(root)


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
                    lobby = node.birch.room("lobby")
                    daemon.run(node.receive, lobby)
                    await until(pilot, lambda: "# lobby" in shown(pilot))
                    await settle(pilot)
                    await write(pilot, "over a real socket")
                    await pilot.press("ctrl+s")
                    await until(pilot, lambda: "Press c to write" not in shown(pilot))
                    (mine,) = (await client.posts("lobby")).items
                    assert mine.text == "over a real socket"
                    answer = node.birch.post(lobby.id, "heard *live*", bytes.fromhex(mine.id))
                    daemon.run(node.receive, answer)
                    await until(pilot, lambda: "heard live" in shown(pilot))

                await write(pilot, "kept meanwhile")
                await until(pilot, lambda: "Trying again by itself" in shown(pilot))
                with running(home, node):
                    await until(pilot, lambda: not app.main.query_one(Banner).display)
                    await pilot.press("ctrl+s")
                    await until(pilot, lambda: "kept meanwhile" in texts(pilot))
                    said = [post.text for post in (await client.posts("lobby")).items]
                    assert said.count("kept meanwhile") == 1
    finally:
        shutil.rmtree(root)
