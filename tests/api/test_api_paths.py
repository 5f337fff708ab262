"""permesh's own paths, through its own clients, against the real server."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import trio

from permesh import schema
from permesh.client import AsyncClient, Client
from permesh.errors import PermeshError
from tests.api.fakenode import AGENT, BIG_MODEL, MODEL, ROUTE, WORDS, Daemon, FakeNode, raw, running


@pytest.fixture
def client(daemon: Daemon):
    with Client(daemon.home.socket) as client:
        yield client


def test_who_and_how_it_is(client: Client) -> None:
    assert client.status().agent == AGENT
    assert client.identity().number == "AGT-0001"
    assert client.invite().line.startswith("permesh1:")


def test_members_are_listed_and_let_in(client: Client) -> None:
    assert [member.state for member in client.members().items] == ["registrar", "pending"]
    with pytest.raises(PermeshError, match="Who is it"):
        client.admit("coral")
    assert client.admit("coral", "coral@example.org").state == "member"
    with pytest.raises(PermeshError) as caught:
        client.admit("coral", "coral@example.org")
    assert (caught.value.code, caught.value.http_status) == ("member.unknown", 404)


def test_a_post_goes_in_and_comes_back(client: Client) -> None:
    room = client.create_room("lobby", "talk")
    first = client.post("lobby", "hello\n[31mworld 🐝")
    answer = client.post(room.id, "an answer", reply_to=first.id)
    assert [room.name for room in client.rooms().items] == ["lobby"]
    first = client.read_post(first.id)  # which has a reply now
    assert client.posts("lobby").items == [first, answer]
    assert client.posts("lobby", order="desc").items == [answer, first]
    assert answer.reply_to == first.id


def test_lists_are_paged(client: Client) -> None:
    client.create_room("lobby")
    for number in range(5):
        client.post("lobby", str(number))
    seen, cursor = [], None
    for _ in range(3):
        page = client.posts("lobby", cursor, limit=2)
        seen += [post.text for post in page.items]
        cursor = page.next_cursor
    assert seen == ["0", "1", "2", "3", "4"]
    assert cursor is None


@pytest.mark.parametrize("name", [MODEL, BIG_MODEL])
def test_a_model_is_served_and_stopped(client: Client, name: str) -> None:
    assert client.serve(name, "6:18").first == 6
    assert [m.name for m in client.models().items if m.served] == [name]
    client.stop_serving(name)
    assert not any(m.served for m in client.models().items)


@pytest.mark.parametrize(
    ("call", "code"),
    [
        (lambda client: client.posts("nowhere"), "room.unknown"),
        (lambda client: client.posts("a/b"), "name.invalid"),
        (lambda client: client.serve("nowhere"), "model.unknown"),
        (lambda client: client.stop_serving("nowhere"), "model.unknown"),
        (lambda client: client.serve(MODEL, "6:99"), "layers.invalid"),
        (lambda client: client.posts("lobby", limit=0), "request.invalid"),
        (lambda client: client.posts("lobby", limit=10_000), "request.invalid"),
    ],
)
def test_an_error_arrives_as_it_was_raised(client: Client, call, code: str) -> None:
    with pytest.raises(PermeshError) as caught:
        call(client)
    assert caught.value.code == code
    assert caught.value.message


def test_a_post_that_is_too_long_is_refused_with_its_remedy(client: Client) -> None:
    client.create_room("lobby")
    with pytest.raises(PermeshError, match=r"Shorten it") as caught:
        client.post("lobby", "x" * (33 * 1024))
    assert caught.value.code == "post.too_long"


def test_an_answer_streams_through_our_own_client(client: Client) -> None:
    deltas = list(client.chat(MODEL, [{"role": "user", "content": "Why?"}], temperature=0.0))
    assert "".join(delta.text for delta in deltas) == "".join(WORDS)
    (finish,) = [delta for delta in deltas if delta.finish_reason]
    assert finish.route == ROUTE
    assert deltas[-1].usage == schema.Usage(prompt_tokens=7, completion_tokens=5, total_tokens=12)


@pytest.mark.parametrize(("content", "code"), [("break", "stage.lost"), ("", "model.unknown")])
def test_an_answer_that_fails_says_why(client: Client, content: str, code: str) -> None:
    model = MODEL if content else "nowhere"
    with pytest.raises(PermeshError) as caught:
        list(client.chat(model, [{"role": "user", "content": content}]))
    assert caught.value.code in (code, "model_not_found")


def test_a_daemon_that_goes_in_mid_answer_is_an_error(home) -> None:
    with running(home) as daemon, Client(home.socket) as client:
        deltas = client.chat(MODEL, [{"role": "user", "content": "endless"}])
        next(deltas)
        daemon.stop()
        with pytest.raises(PermeshError) as caught:
            list(deltas)
    assert caught.value.code == "daemon.gone"


def test_events_begin_with_a_snapshot_and_end_with_the_daemon(home) -> None:
    with running(home) as daemon, Client(home.socket) as client:
        events = client.events()
        name, snapshot = next(events)
        assert (name, type(snapshot)) == ("snapshot", schema.Snapshot)
        client.create_room("lobby")
        posted = client.post("lobby", "hello")
        assert next(events)[0] == "room"
        assert next(events) == ("post", posted)
        daemon.stop()
        assert list(events) == []


def test_a_listener_that_leaves_is_forgotten(daemon: Daemon, client: Client) -> None:
    events = client.events()
    next(events)
    assert len(daemon.node.listeners) == 1
    events.close()
    daemon.run(daemon.node.until, lambda: not daemon.node.listeners)


def test_an_event_of_a_later_release_is_skipped(daemon: Daemon, client: Client) -> None:
    events = client.events()
    next(events)
    daemon.run(daemon.node.tell, "weather", schema.Invite(line="rain"))
    daemon.run(daemon.node.tell, "lagged", schema.Lagged(missed=3))
    assert next(events) == ("lagged", schema.Lagged(missed=3))


async def _async_story(socket: Path) -> list[object]:
    async with AsyncClient(socket) as client:
        await client.create_room("lobby")
        events = client.events()
        name, _ = await anext(events)
        posted = await client.post("lobby", "hello")
        told = await anext(events)
        await events.aclose()
        page = await client.posts("lobby")
        await client.serve(MODEL)
        await client.stop_serving(MODEL)
        text = [
            delta.text async for delta in client.chat(MODEL, [{"role": "user", "content": "?"}])
        ]
        return [name, told == ("post", posted), page.items == [posted], "".join(text)]


@pytest.mark.parametrize("run", [asyncio.run, lambda story: trio.run(lambda: story)])
def test_the_async_client_does_the_same(daemon: Daemon, run) -> None:
    told = run(_async_story(daemon.home.socket))
    assert told == ["snapshot", True, True, "".join(WORDS)]


def test_no_daemon_is_said_with_its_remedy(home) -> None:
    with Client(home.socket) as client, pytest.raises(PermeshError) as caught:
        client.status()
    assert caught.value.code == "daemon.absent"
    assert "permesh daemon" in caught.value.remedy
    with Client(home.socket) as client, pytest.raises(PermeshError) as caught:
        next(client.events())
    assert caught.value.code == "daemon.absent"


def test_a_path_too_long_for_a_socket_is_said(tmp_path: Path) -> None:
    with pytest.raises(PermeshError) as caught:
        Client(tmp_path / ("x" * 100) / "permesh.sock")
    assert caught.value.code == "home.path_too_long"


def test_the_schema_is_served(daemon: Daemon) -> None:
    with raw(daemon) as http:
        paths = http.get("/openapi.json").json()["paths"]
    assert {"/status", "/events", "/rooms/{room}/posts", "/v1/chat/completions"} <= set(paths)


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nowhere", 404, "request.not_found"),
        ("PUT", "/status", 405, "request.refused"),
        ("POST", "/rooms", 400, "request.invalid"),
    ],
)
def test_what_makes_no_sense_is_answered_in_our_shape(daemon, method, path, status, code) -> None:
    with raw(daemon) as http:
        answer = http.request(method, path)
    assert answer.status_code == status
    assert answer.json()["error"]["code"] == code


def test_a_body_that_is_not_json_is_told_what_to_send(daemon: Daemon) -> None:
    with raw(daemon) as http:
        answers = [
            http.post("/rooms", content=b"{", headers={"Content-Type": "application/json"}),
            http.post("/rooms", data={"name": "lobby"}),
            http.post("/rooms", json=["lobby"]),
        ]
    for answer in answers:
        assert answer.status_code == 400
        assert "application/json" in answer.json()["error"]["remedy"]


class BrokenNode(FakeNode):
    async def status(self) -> schema.Status:
        raise RuntimeError("secret detail")

    async def identity(self) -> schema.Identity:
        raise ExceptionGroup("from a nursery", [ValueError("secret detail")])

    async def invite(self) -> schema.Invite:
        raise ExceptionGroup("from a nursery", [PermeshError("a.code", "What.", "How.")])


def test_a_fault_of_our_own_is_one_line_and_the_daemon_lives_on(home) -> None:
    with running(home, BrokenNode()) as daemon, raw(daemon) as http:
        for path, kind in (("/status", "RuntimeError"), ("/identity", "ExceptionGroup")):
            answer = http.get(path)
            assert answer.status_code == 500
            assert answer.json()["error"]["code"] == "internal"
            assert kind in answer.json()["error"]["message"]
            assert "secret" not in answer.text
        assert http.get("/rooms").json() == {"items": [], "next_cursor": None}


def test_an_error_in_a_group_of_trios_is_found(home) -> None:
    with running(home, BrokenNode()), Client(home.socket) as client:
        with pytest.raises(PermeshError) as caught:
            client.invite()
        assert (caught.value.code, caught.value.remedy) == ("a.code", "How.")
