"""`permesh read --follow`: every post once, through restarts of the daemon."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress

import fakenode
import pytest
import trio
from fakenode import NOW, FakeNode, running

from permesh import schema
from permesh.cli import follow
from permesh.cli.follow import Follower, newest
from permesh.client import Client
from permesh.config import Home
from permesh.errors import PermeshError


class Left(Exception):
    """Ends a loop that has no end of its own."""


class Following:
    """A follower in a thread, whose pauses between attempts are short.

    The daemon must have gone before this is left, since the follower ends in such a pause.
    """

    def __init__(self, home: Home, now_ms: int, limit: int = 50) -> None:
        self.shown: list[str] = []
        self.said: list[str] = []
        self._changed = threading.Condition()
        self._leaving = False
        self._client = Client(home.socket)
        self._follower = Follower(self._client, "lobby", self._show, self._say, now_ms, self._wait)
        self._thread = threading.Thread(target=self._run, args=(limit,))

    def _run(self, limit: int) -> None:
        with suppress(Left):
            self._follower.run(limit)

    def _show(self, post: schema.Post) -> None:
        with self._changed:
            self.shown.append(post.text)
            self._changed.notify_all()

    def _say(self, line: str) -> None:
        with self._changed:
            self.said.append(line)
            self._changed.notify_all()

    def _wait(self, _seconds: float) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._leaving, timeout=0.05)
            if self._leaving:
                raise Left

    def until_shown(self, *texts: str) -> None:
        with self._changed:
            same = self._changed.wait_for(lambda: self.shown == list(texts), timeout=10)
        assert same, self.shown

    def until_gone(self) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: self.said, timeout=10)

    def __enter__(self) -> Following:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._leaving = True
            self._changed.notify_all()
        self._thread.join(10)
        self._client.close()
        assert not self._thread.is_alive()


@pytest.fixture
def node() -> FakeNode:
    node = FakeNode()
    for name in ("lobby", "attic"):
        trio.run(node.create_room, schema.NewRoom(name=name))
    return node


def arrive(node: FakeNode, *texts: str) -> None:
    """Posts that arrive while no daemon answers."""
    for text in texts:
        trio.run(node.receive, node.all_rooms[0], text)


def test_what_is_there_then_what_comes_and_nothing_of_other_rooms(home, node) -> None:
    arrive(node, "a", "b", "c")
    with running(home, node) as daemon, Following(home, NOW + 3, limit=2) as following:
        following.until_shown("b", "c")
        with Client(home.socket) as client:
            client.post("attic", "elsewhere")
            client.post("lobby", "d")
        following.until_shown("b", "c", "d")
        daemon.stop()


def test_the_first_post_of_an_empty_room_is_shown(home, node) -> None:
    with running(home, node) as daemon, Following(home, NOW) as following:
        daemon.run(node.until, lambda: node.listeners)
        with Client(home.socket) as client:
            client.post("lobby", "first")
            client.post("lobby", "second")
        following.until_shown("first", "second")
        daemon.stop()


def test_a_restart_loses_nothing_and_shows_nothing_twice(home, node) -> None:
    arrive(node, "history", "a")
    with running(home, node) as daemon:
        following = Following(home, NOW + 2, limit=1)
        with following:
            following.until_shown("a")
            daemon.stop()
            following.until_gone()
            arrive(node, "b", "late")
            node.all_posts.insert(0, node.all_posts.pop())  # written before all, arrived after
            with running(home, node) as restarted, Client(home.socket) as client:
                following.until_shown("a", "late", "b")
                client.post("lobby", "c")
                following.until_shown("a", "late", "b", "c")
                restarted.stop()
    assert len(following.said) == 2


def test_a_listener_that_lagged_catches_up(home, node) -> None:
    async def lag() -> None:
        listeners, node.listeners = node.listeners, set()
        await node.receive(node.all_rooms[0], "untold")
        node.listeners = listeners
        await node.tell("lagged", schema.Lagged())
        async with node.events() as events:
            snapshot = await anext(events)
        await node.tell("snapshot", snapshot.data)

    arrive(node, "a")
    with running(home, node) as daemon, Following(home, NOW + 1) as following:
        following.until_shown("a")
        daemon.run(lag)
        following.until_shown("a", "untold")
        daemon.stop()


def test_what_is_remembered_is_bounded_and_still_nothing_comes_twice(
    home, node, monkeypatch
) -> None:
    monkeypatch.setattr(follow, "MAX_REMEMBERED", 4)
    texts = [f"post {number}" for number in range(20)]
    with running(home, node) as daemon, Following(home, NOW) as following:
        daemon.run(node.until, lambda: node.listeners)
        with Client(home.socket) as client:
            for text in texts:
                client.post("lobby", text)
        following.until_shown(*texts)
        daemon.stop()
        following.until_gone()
        arrive(node, "last")
        with running(home, node):
            following.until_shown(*texts, "last")
    assert len(following._follower._shown) <= 5


@pytest.mark.usefixtures("daemon")
def test_an_unknown_room_is_an_error_at_once(home: Home) -> None:
    with Client(home.socket) as client, pytest.raises(PermeshError) as caught:
        Follower(client, "nowhere", print, print, NOW).run(10)
    assert caught.value.code == "room.unknown"


def test_the_newest_are_paged_for(home, node, monkeypatch) -> None:
    monkeypatch.setattr(follow, "PAGE", 3)
    arrive(node, *"abcdefgh")
    with running(home, node), Client(home.socket) as client:
        page = newest(client, "lobby", 7)
        assert "".join(post.text for post in page.items) == "bcdefgh"
        assert "".join(post.text for post in newest(client, "lobby", 99).items) == "abcdefgh"
        older = client.posts("lobby", page.next_cursor, order="desc")
        assert [post.text for post in older.items] == ["a"]


def test_the_command_follows_until_ctrl_c(environment, home: Home, node, monkeypatch) -> None:
    # What arrives counts as new by the clock of the process, before or after its first reading.
    monkeypatch.setattr(fakenode, "NOW", time.time_ns() // 1_000_000 + 60_000)
    with running(home, node) as daemon, Client(home.socket) as client:
        process = subprocess.Popen(
            [sys.executable, "-m", "permesh", "read", "lobby", "--follow", "--json"],
            env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        daemon.run(node.until, lambda: node.listeners)
        client.post("lobby", "hello")
        assert json.loads(process.stdout.readline())["text"] == "hello"
        process.send_signal(signal.SIGINT)
        _, complaint = process.communicate(timeout=10)
    assert process.returncode == 130
    assert "Traceback" not in complaint
