"""The forum's paths and its files, through both clients, against the real forum."""

from __future__ import annotations

import asyncio
import hashlib
import inspect
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import httpx
import pytest
import trio

from permesh import schema
from permesh.api.guard import MAX_BODY_BYTES, Guard
from permesh.client import AsyncClient, Client
from permesh.config import Home
from permesh.errors import PermeshError
from permesh.node import ForumNode
from tests.api.fakenode import AGENT, BIRCH, Daemon, FakeNode, raw, running

LIMIT = 8 * 1024 * 1024
BIRCHS = f"0x{BIRCH.hex()}"


@pytest.fixture
def client(daemon: Daemon) -> Iterator[Client]:
    with Client(daemon.home.socket) as client:
        yield client


def refused(call: Callable[[], object]) -> tuple[str, int]:
    with pytest.raises(PermeshError) as caught:
        call()
    return caught.value.code, caught.value.http_status


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_a_client_has_each_call_of_the_forum_with_its_arguments(home: Home, kind: type) -> None:
    """`create_room` and `post` take a text as well."""
    client = kind(home.socket)
    for name, call in inspect.getmembers(ForumNode, inspect.isfunction):
        if not name.startswith("_"):
            wanted = list(inspect.signature(call).parameters.values())[1:]
            has = list(inspect.signature(getattr(client, name).__wrapped__).parameters.values())
            more = has[len(wanted) :]
            assert [(one.name, one.kind, one.default) for one in has[: len(wanted)]] == [
                (one.name, one.kind, one.default) for one in wanted
            ]
            assert not more or name in ("create_room", "post")


# -- rooms -----------------------------------------------------------------------------------------


def test_a_room_has_a_charter_that_its_steward_changes(client: Client) -> None:
    wanted = schema.NewRoom(name="lobby", purpose="talk", posts_per_hour=5)
    room = client.create_room(wanted)
    assert (room.name, room.purpose, room.steward) == ("lobby", "talk", True)
    changed = client.set_charter("lobby", schema.NewCharter(purpose="work", keep_days=30))
    assert (changed.version, changed.limits.posts_per_hour) == (2, 5)
    assert client.room(room.id).purpose == "work"
    assert [one.version for one in client.charters("lobby").items] == [2, 1]


def test_the_charter_in_force_has_a_path(daemon: Daemon, client: Client) -> None:
    client.create_room("lobby")
    changed = client.set_charter("lobby", schema.NewCharter(purpose="work"))
    with raw(daemon) as http:
        assert http.get("/rooms/lobby/charter").json() == changed.model_dump(mode="json")


def test_a_room_is_followed_and_read(daemon: Daemon, client: Client) -> None:
    lobby = daemon.node.birch.room("lobby")
    posts = [daemon.node.birch.post(lobby.id, text) for text in "abc"]
    daemon.run(daemon.node.receive, lobby, *posts)
    assert client.follow("lobby", schema.Follow(keep_days=7)).followed
    assert client.mark_read("lobby", schema.MarkRead(post=posts[1].id.hex())).unread == 1
    assert client.mark_read("lobby", schema.MarkRead()).unread == 0
    assert not client.follow("lobby", schema.Follow(followed=False)).followed
    assert client.rooms(followed=True).items == []
    assert [room.name for room in client.rooms(followed=False).items] == ["lobby"]


# -- posts -----------------------------------------------------------------------------------------


def test_a_thread_is_read_in_its_order(client: Client) -> None:
    client.create_room("lobby")
    root = client.post("lobby", "root")
    first = client.post("lobby", "first", root.id)
    client.post("lobby", "second", root.id)
    client.post("lobby", "under the first", first.id)
    page = client.thread(first.id[:16], limit=3)
    assert [(post.text, post.depth) for post in page.items] == [
        ("root", 0), ("first", 1), ("under the first", 2),
    ]  # fmt: skip
    rest = client.thread(root.id, page.next_cursor)
    assert [post.text for post in rest.items] == ["second"]


def test_a_post_is_edited_reacted_to_quoted_and_removed(client: Client) -> None:
    client.create_room("lobby")
    post = client.post("lobby", "one")
    edited = client.edit(post.id, schema.NewText(text="two"))
    assert (edited.text, edited.edits) == ("two", 1)
    assert [version.text for version in client.versions(post.id).items] == ["one", "two"]
    liked = client.react(post.id, schema.NewReaction(emoji="👍"))
    assert [(one.emoji, one.count, one.mine) for one in liked.reactions] == [("👍", 1, True)]
    assert client.react(post.id, schema.NewReaction(emoji="👍", on=False)).reactions == []
    answer = client.post("lobby", schema.NewPost(text="yes", quotes=[post.id]))
    assert answer.quotes == [post.id]
    assert "two" in answer.text
    assert client.remove(post.id).records == 2
    assert client.read_post(post.id).removed


def test_a_label_is_given_and_taken_back(client: Client) -> None:
    client.create_room("lobby")
    post = client.post("lobby", "noise").id
    spam = schema.NewLabel(value="spam", reason="it is")
    assert client.label_post(post, spam).counts
    assert [one.reason for one in client.labels(post).items] == ["it is"]
    assert client.read_post(post).hidden == "label"
    client.label_post(post, schema.NewLabel(value="spam", on=False))
    assert client.read_post(post).hidden == ""
    assert client.label_member("birch", spam).target == BIRCHS


def test_posts_are_found(client: Client) -> None:
    client.create_room("lobby")
    for text in ("bees carry pollen", "bees sleep", "trees stand"):
        client.post("lobby", text)
    assert [post.text for post in client.search("bees -sleep").items] == ["bees carry pollen"]
    page = client.search("author:atlas", limit=2)
    assert [post.text for post in page.items] == ["trees stand", "bees sleep"]
    rest = client.search("author:atlas", page.next_cursor)
    assert [post.text for post in rest.items] == ["bees carry pollen"]


# -- this member's own view ------------------------------------------------------------------------


def test_who_speaks_to_this_member_is_in_its_inbox(daemon: Daemon, client: Client) -> None:
    client.create_room("lobby")
    mine = client.post("lobby", "anybody?")
    room = bytes.fromhex(mine.room)
    answer = daemon.node.birch.post(room, "here", bytes.fromhex(mine.id))
    daemon.run(daemon.node.receive, answer)
    (item,) = client.inbox(unread=True).items
    assert (item.kind, item.by.name, item.post.text) == ("reply", "birch", "here")
    assert client.mark_inbox_read().unread == 0
    assert client.inbox(unread=True).items == []


def test_drafts_are_kept_one_for_each_place(client: Client) -> None:
    client.create_room("lobby")
    post = client.post("lobby", "a question").id
    client.save_draft("lobby", schema.NewDraft(text="not yet"))
    client.save_draft("lobby", schema.NewDraft(text="an answ", reply_to=post))
    client.save_draft("lobby", schema.NewDraft(text="an answer", reply_to=post))
    assert {(one.reply_to, one.text) for one in client.drafts().items} == {
        (None, "not yet"), (post, "an answer"),
    }  # fmt: skip
    client.save_draft("lobby", schema.NewDraft(text=""))
    assert [one.text for one in client.drafts().items] == ["an answer"]


def test_a_member_is_judged(daemon: Daemon, client: Client) -> None:
    lobby = daemon.node.birch.room("lobby")
    daemon.run(daemon.node.receive, lobby, daemon.node.birch.post(lobby.id, "noise"))
    assert client.judge("birch", schema.NewJudgement(heard="muted")).heard == "muted"
    assert client.posts("lobby").items == []
    assert [post.hidden for post in client.posts("lobby", hidden=True).items] == ["mute"]
    assert client.judge(BIRCHS, schema.NewJudgement(heard="yes", labels=True)).labels
    assert not client.count_stewards(schema.Stewards(count=False)).stewards
    assert [one.who.name for one in client.judgements().items] == ["birch"]


def test_a_fork_is_proved(daemon: Daemon, client: Client) -> None:
    node = daemon.node
    lobby = node.birch.room("lobby")
    again = FakeNode(node.clock + 5).birch  # as birch's keys in other hands
    daemon.run(node.receive, lobby, again.room("attic"))
    (fork,) = client.forks().items
    assert (fork.author.agent, fork.seq) == (BIRCHS, 0)
    assert fork.first != fork.second


async def _async_story(home: Home) -> list[object]:
    async with AsyncClient(home.socket) as client:
        await client.create_room(schema.NewRoom(name="lobby"))
        post = await client.post("lobby", schema.NewPost(text="hello"))
        thread = await client.thread(post.id, hidden=True)

        async def pieces() -> AsyncIterator[bytes]:
            for piece in (b"two ", b"pieces"):
                yield piece

        stored = await client.put_file(pieces())
        async with client.open_file(stored.hash) as chunks:
            got = b"".join([chunk async for chunk in chunks])
        return [len(thread.items), got]


@pytest.mark.parametrize("run", [asyncio.run, lambda story: trio.run(lambda: story)])
def test_the_async_client_does_the_same(daemon: Daemon, run: Callable[..., Any]) -> None:
    assert run(_async_story(daemon.home)) == [1, b"two pieces"]


@pytest.mark.parametrize(
    ("call", "code", "status"),
    [
        (lambda c: c.room("nowhere"), "room.unknown", 404),
        (lambda c: c.read_post("abcdef"), "post.unknown", 404),
        (lambda c: c.judge("nobody", schema.NewJudgement()), "members.unknown", 404),
        (lambda c: c.posts("lobby", "nonsense"), "cursor.invalid", 400),
        (lambda c: c.search("before:never"), "search.query", 400),
        (lambda c: c.create_room("lobby"), "room.exists", 409),
        (lambda c: c.create_room("No Such Name"), "room.name", 400),
        (lambda c: c.post("lobby", " "), "post.empty", 400),
        (lambda c: c.remove(c.posts("attic").items[0].id), "post.not_yours", 403),
        (lambda c: c.set_charter("attic", schema.NewCharter()), "charter.not_steward", 403),
        (lambda c: c.thread("a/b"), "name.invalid", 400),
        (lambda c: c.thread(""), "name.invalid", 400),
    ],
)  # fmt: skip
def test_what_cannot_be_is_said(daemon: Daemon, client: Client, call, code, status) -> None:
    attic = daemon.node.birch.room("attic")
    daemon.run(daemon.node.receive, attic, daemon.node.birch.post(attic.id, "birch's"))
    client.create_room("lobby")
    assert refused(lambda: call(client)) == (code, status)


# -- files -----------------------------------------------------------------------------------------


def test_a_file_goes_in_is_named_by_a_post_and_comes_out(client: Client) -> None:
    content = bytes(range(256)) * 4096  # one MiB: more than any other body may have
    stored = client.put_file(content[start : start + 5000] for start in range(0, 2**20, 5000))
    assert stored == schema.Stored(hash=hashlib.sha256(content).hexdigest(), bytes=len(content))
    client.create_room("lobby")
    file = schema.NewAttachment(hash=stored.hash, name="bytes.bin", type="text/html")
    post = client.post("lobby", schema.NewPost(text="see", attachments=[file]))
    (named,) = post.attachments
    assert (named.name, named.bytes, named.here) == ("bytes.bin", len(content), True)
    with client.open_file(named.hash) as chunks:
        assert b"".join(chunks) == content


def test_whatever_its_author_calls_it_a_file_is_given_as_bytes(
    daemon: Daemon, client: Client
) -> None:
    stored = client.put_file([b"<script>alert(1)</script>"])
    with raw(daemon) as http:
        headers = http.get(f"/attachments/{stored.hash}").headers
    assert headers["content-type"] == "application/octet-stream"
    assert headers["content-disposition"] == "attachment"
    assert headers["x-content-type-options"] == "nosniff"


def test_a_file_that_is_nowhere_is_said(client: Client) -> None:
    def fetch(file_hash: str) -> None:
        with client.open_file(file_hash) as chunks:
            list(chunks)

    assert refused(lambda: fetch("ab" * 32)) == ("attachment.unavailable", 404)
    assert refused(lambda: fetch("AB" * 32)) == ("request.invalid", 400)


def test_a_file_over_the_limit_is_refused_before_its_end(daemon: Daemon, client: Client) -> None:
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        while sent < 20 * LIMIT:
            yield bytes(65536)
            sent += 65536

    assert refused(lambda: client.put_file(endless())) == ("attachment.too_long", 413)
    assert sent < 10 * LIMIT
    assert refused(lambda: client.put_file([])) == ("attachment.empty", 400)
    assert _files(daemon.home) == []


def _files(home: Home) -> list[str]:
    return [path.name for path in (home.root / "files").rglob("*") if path.is_file()]


def test_a_file_that_breaks_off_leaves_nothing(daemon: Daemon, client: Client) -> None:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(daemon.home.socket))
        connection.sendall(
            b"POST /attachments HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\nhalf a file"
        )
        connection.shutdown(socket.SHUT_WR)
        assert b" 500 " not in connection.recv(4096)
    client.status()
    assert _files(daemon.home) == []


def test_a_web_page_may_not_send_files(daemon: Daemon) -> None:
    with raw(daemon) as http:
        answer = http.post(
            "/attachments", content=bytes(MAX_BODY_BYTES * 2), headers={"Origin": "http://evil"}
        )
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "request.origin")


def test_a_file_that_dribbles_in_is_cut_off() -> None:
    async def story() -> list[dict[str, Any]]:
        sent: list[dict[str, Any]] = []

        async def never() -> dict[str, Any]:
            await trio.sleep_forever()
            raise AssertionError

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        async def app(_scope: object, receive: Any, send: Any) -> None:
            try:
                await receive()
            except PermeshError as error:
                await send({"type": "http.response.start", "status": error.http_status})

        guard = Guard(app, {"/attachments"})
        await guard({"type": "http", "path": "/attachments", "headers": []}, never, send)
        return sent

    clock = trio.testing.MockClock(autojump_threshold=0)
    assert trio.run(story, clock=clock) == [{"type": "http.response.start", "status": 408}]


class BreakingFiles:
    """Gives a piece and then fails, as a disk may."""

    def open(self, _file_hash: str) -> BreakingFiles:
        return self

    async def __aenter__(self) -> AsyncIterator[bytes]:
        return self._pieces()

    async def __aexit__(self, *_: object) -> None:
        await trio.lowlevel.checkpoint()

    async def _pieces(self) -> AsyncIterator[bytes]:
        yield b"half"
        raise OSError("the disk is gone")


def test_half_a_file_is_never_taken_for_the_whole(home: Home) -> None:
    class Node(FakeNode):
        def __setattr__(self, name: str, value: object) -> None:
            super().__setattr__(name, BreakingFiles() if name == "attachments" else value)

    with running(home, Node()) as daemon, Client(home.socket) as client:
        with (
            pytest.raises(PermeshError) as caught,
            client.open_file("ab" * 32) as chunks,
        ):
            assert list(chunks) == [b"half"]
        assert caught.value.code == "attachment.broken_off"
        with raw(daemon) as http, pytest.raises(httpx.RemoteProtocolError):
            http.get(f"/attachments/{'ab' * 32}")
        assert client.status().agent == AGENT


# -- events ----------------------------------------------------------------------------------------


def test_events_go_on_where_a_reader_left_off(home: Home) -> None:
    node = FakeNode()
    with running(home, node), Client(home.socket) as client:
        client.create_room("lobby")
        events = client.events()
        next(events)
        client.post("lobby", "seen")
        seen = next(events)
        assert seen.cursor
        events.close()
    lobby = bytes.fromhex(seen[1].room)
    node.arrive(home, node.birch.post(lobby, "missed"))
    with running(home, node) as daemon, Client(home.socket) as client:
        client.post("lobby", "missed too")
        events = client.events(seen.cursor)
        assert next(events)[0] == "snapshot"
        told = [next(events) for _ in range(2)]
        assert [post.text for _, post in told] == ["missed", "missed too"]
        events.close()
        with raw(daemon) as http:  # as a browser's EventSource would come again
            headers = {"Last-Event-ID": told[1].cursor}
            with http.stream("GET", f"/events?after={seen.cursor}", headers=headers) as stream:
                lines = stream.iter_lines()
                assert next(lines) == "event: snapshot"
                assert next(lines) == f"id: {told[1].cursor}"


@pytest.mark.parametrize("cursor", ["nonsense", "00000000-1", "", "x" * 128])
def test_a_cursor_of_another_home_is_refused(client: Client, cursor: str) -> None:
    events = client.events(cursor)
    if cursor:
        assert refused(lambda: next(events)) == ("events.cursor", 409)
    else:
        assert next(events)[0] == "snapshot"
    events.close()


# -- the schema ------------------------------------------------------------------------------------


def test_a_method_that_a_path_does_not_know_is_told_which_it_knows(daemon: Daemon) -> None:
    with raw(daemon) as http:
        answer = http.patch("/posts/abcd")
    assert answer.status_code == 405
    assert set(answer.headers["allow"].split(", ")) >= {"GET"}


def test_every_path_documents_how_it_fails(daemon: Daemon) -> None:
    with raw(daemon) as http:
        found = http.get("/openapi.json").json()
    shapes = found["components"]["schemas"]
    for path, operations in found["paths"].items():
        wanted = "OpenAIProblemReply" if path.startswith("/v1/") else "ProblemReply"
        for operation in operations.values():
            failures = {
                code: answer for code, answer in operation["responses"].items() if code >= "400"
            }
            assert {"400", "500"} <= set(failures)
            assert "422" not in failures
            for answer in failures.values():
                reference = answer["content"]["application/json"]["schema"]["$ref"]
                assert reference == f"#/components/schemas/{wanted}"
    assert {"ProblemReply", "Problem", "OpenAIProblemReply", "OpenAIProblem"} <= set(shapes)
