"""`permesh read --follow`: every post once, through restarts of the daemon."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress

import pytest

from permesh import schema
from permesh.cli import follow, inputs
from permesh.cli.follow import Follower, newest
from permesh.client import Client
from permesh.config import Home
from permesh.errors import PermeshError
from tests.api.fakenode import NOW, FakeNode, running


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
def node(home: Home) -> FakeNode:
    """With two rooms, and no daemon on its home."""
    node = FakeNode()
    node.lobby = node.birch.room("lobby")
    node.attic = node.birch.room("attic")
    node.arrive(home, node.lobby, node.attic)
    return node


def arrive(home: Home, node: FakeNode, *texts: str) -> None:
    """Posts that arrive while no daemon answers."""
    node.arrive(home, *(node.birch.post(node.lobby.id, text) for text in texts))


def test_what_is_there_then_what_comes_and_nothing_of_other_rooms(home, node) -> None:
    arrive(home, node, "a", "b", "c")
    with running(home, node) as daemon, Following(home, node.clock, limit=2) as following:
        following.until_shown("b", "c")
        with Client(home.socket) as client:
            client.post("attic", "elsewhere")
            client.post("lobby", "d")
        following.until_shown("b", "c", "d")
        daemon.stop()


def test_the_first_post_of_an_empty_room_is_shown(home, node) -> None:
    with running(home, node) as daemon, Following(home, node.clock) as following:
        daemon.run(node.until, lambda: node.listeners)
        with Client(home.socket) as client:
            client.post("lobby", "first")
            client.post("lobby", "second")
        following.until_shown("first", "second")
        daemon.stop()


def test_a_restart_loses_nothing_and_shows_nothing_twice(home, node) -> None:
    late = node.birch.post(node.lobby.id, "late")  # written before all, arrives after
    arrive(home, node, "history", "a")
    with running(home, node) as daemon:
        following = Following(home, node.clock, limit=1)
        with following:
            following.until_shown("a")
            with Client(home.socket) as client:
                client.post("lobby", "b")
            following.until_shown("a", "b")
            daemon.stop()
            following.until_gone()
            arrive(home, node, "c")
            node.arrive(home, late)
            with running(home, node) as restarted, Client(home.socket) as client:
                following.until_shown("a", "b", "c", "late")
                client.post("lobby", "d")
                following.until_shown("a", "b", "c", "late", "d")
                restarted.stop()
    assert len(following.said) == 2


def test_a_home_that_was_set_back_is_paged_through(home, node) -> None:
    """The daemon no longer knows the cursor of the last event."""
    arrive(home, node, "a")
    with running(home, node) as daemon:
        following = Following(home, node.clock)
        with following:
            following.until_shown("a")
            daemon.stop()
            following.until_gone()
            for file in home.root.glob("forum.db*"):
                file.unlink()
            node.arrive(home, node.lobby)
            arrive(home, node, "b")
            with running(home, node) as restarted:
                following.until_shown("a", "b")
                restarted.stop()


def test_a_post_comes_again_when_its_author_changes_it_and_for_nothing_else(home, node) -> None:
    with running(home, node) as daemon, Following(home, node.clock) as following:
        daemon.run(node.until, lambda: node.listeners)
        with Client(home.socket) as client:
            post = client.post("lobby", "a").id
            following.until_shown("a")
            client.react(post, schema.NewReaction(emoji="👍"))
            client.edit(post, schema.NewText(text="b"))
            following.until_shown("a", "b")
            client.remove(post)
            following.until_shown("a", "b", "")
        daemon.stop()


def test_what_this_member_does_not_hear_is_shown_only_if_asked_for(home, node) -> None:
    arrive(home, node, "loud")
    with running(home, node) as daemon, Client(home.socket) as client:
        client.judge("birch", schema.NewJudgement(heard="muted"))
        client.post("lobby", "quiet")
        shown = newest(client, "lobby", 10, hidden=True).items
        assert [(post.text, post.hidden) for post in shown] == [("loud", "mute"), ("quiet", "")]
        assert [post.text for post in newest(client, "lobby", 10).items] == ["quiet"]
        with Following(home, node.clock) as following:
            following.until_shown("quiet")
            daemon.run(node.receive, node.birch.post(node.lobby.id, "louder"))
            client.post("lobby", "still quiet")
            following.until_shown("quiet", "still quiet")
            daemon.stop()


def test_what_is_remembered_is_bounded_and_still_nothing_comes_twice(
    home, node, monkeypatch
) -> None:
    monkeypatch.setattr(follow, "MAX_REMEMBERED", 4)
    texts = [f"post {number}" for number in range(20)]
    with running(home, node) as daemon, Following(home, node.clock) as following:
        daemon.run(node.until, lambda: node.listeners)
        with Client(home.socket) as client:
            for text in texts:
                client.post("lobby", text)
        following.until_shown(*texts)
        daemon.stop()
        following.until_gone()
        arrive(home, node, "last")
        with running(home, node):
            following.until_shown(*texts, "last")
    assert len(following._follower._shown) <= 5


@pytest.mark.usefixtures("daemon")
def test_an_unknown_room_is_an_error_at_once(home: Home) -> None:
    with Client(home.socket) as client, pytest.raises(PermeshError) as caught:
        Follower(client, "nowhere", print, print, NOW).run(10)
    assert caught.value.code == "room.unknown"


def test_the_newest_are_paged_for(home, node, monkeypatch) -> None:
    monkeypatch.setattr(inputs, "PAGE", 3)
    arrive(home, node, *"abcdefgh")
    with running(home, node), Client(home.socket) as client:
        page = newest(client, "lobby", 7)
        assert "".join(post.text for post in page.items) == "bcdefgh"
        assert "".join(post.text for post in newest(client, "lobby", 99).items) == "abcdefgh"
        older = client.posts("lobby", page.next_cursor, order="desc")
        assert [post.text for post in older.items] == ["a"]


def test_the_command_follows_until_ctrl_c(environment, home: Home, node) -> None:
    # What arrives counts as new by the clock of the process, before or after its first reading.
    node.clock = time.time_ns() // 1_000_000 + 60_000
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
