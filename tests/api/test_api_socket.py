"""The socket itself: who may connect, and that nothing said on it harms the daemon."""

from __future__ import annotations

import json
import os
import random
import socket
import stat
import sys
import time
from contextlib import suppress

import httpx
import pytest
import trio
import trio.testing

from permesh.api import guard, streams, unix
from permesh.api.guard import MAX_BODY_BYTES, Guard
from permesh.client import Client
from permesh.config import Home
from permesh.errors import PermeshError
from permesh.schema import Invite
from tests.api.fakenode import MODEL, Daemon, FakeNode, running


def connect(daemon: Daemon) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(10)
    connection.connect(str(daemon.home.socket))
    return connection


def read_all(connection: socket.socket) -> bytes:
    """What comes until the other side ends it, whether gently or not."""
    heard = b""
    with suppress(ConnectionError):
        while data := connection.recv(65536):
            heard += data
    return heard


def request(daemon: Daemon, *lines: str) -> bytes:
    with connect(daemon) as connection:
        with suppress(OSError):  # it may have hung up already
            connection.sendall("\r\n".join((*lines, "Connection: close", "", "")).encode())
        return read_all(connection)


def assert_alive(daemon: Daemon) -> None:
    with Client(daemon.home.socket) as client:
        assert client.status().name == "atlas"


def test_only_the_owner_may_open_it_whatever_the_umask(home: Home) -> None:
    before = os.umask(0)
    try:
        with running(home):
            assert stat.S_IMODE(home.socket.stat().st_mode) == 0o600
            assert os.umask(0) == 0
    finally:
        os.umask(before)


def test_it_goes_with_the_daemon(home: Home) -> None:
    with running(home):
        assert home.socket.exists()
    assert not home.socket.exists()


def test_the_socket_of_a_dead_daemon_is_replaced(home: Home) -> None:
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(str(home.socket))
    dead.close()
    with running(home) as daemon:
        assert_alive(daemon)


def test_a_second_daemon_is_refused_and_the_first_stays(daemon: Daemon) -> None:
    with pytest.raises(PermeshError) as caught, running(daemon.home):
        pass
    assert caught.value.code == "daemon.running"
    assert_alive(daemon)


def test_a_file_in_its_place_is_left_alone(home: Home) -> None:
    home.socket.write_text("precious")
    with pytest.raises(PermeshError) as caught, running(home):
        pass
    assert caught.value.code == "socket.occupied"
    assert home.socket.read_text() == "precious"


def test_a_home_that_is_not_there_is_said(home: Home) -> None:
    with pytest.raises(PermeshError) as caught:
        unix.bind_socket(home.root / "none" / "permesh.sock")
    assert caught.value.code == "socket.unusable"


def test_the_next_daemons_socket_is_left_alone(home: Home) -> None:
    with running(home) as daemon:
        home.socket.unlink()
        successor = socket.socket(socket.AF_UNIX)
        successor.bind(str(home.socket))
        daemon.stop()
        assert home.socket.exists()
        successor.close()


def test_the_kernel_says_who_connects() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert unix.peer_uid(ours) == os.geteuid()


def test_another_user_hears_nothing(home: Home) -> None:
    with running(home, uid=os.geteuid() + 1) as daemon:
        assert request(daemon, "GET /status HTTP/1.1", "Host: x") == b""
        with Client(home.socket) as client, pytest.raises(PermeshError) as caught:
            client.status()
        assert caught.value.code == "daemon.gone"


def test_more_connections_than_the_limit_are_closed(daemon: Daemon) -> None:
    held = [connect(daemon) for _ in range(unix.MAX_CONNECTIONS)]
    for connection in held[:2]:
        connection.sendall(b"GET /rooms HTTP/1.1\r\nHost: x\r\n\r\n")
        assert connection.recv(12) == b"HTTP/1.1 200"
    with connect(daemon) as late:
        assert read_all(late) == b""
    for connection in held:
        connection.close()
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            assert_alive(daemon)
            return
        except PermeshError:
            continue
    pytest.fail("the daemon took no connection after the others had left")


@pytest.mark.parametrize("path", ["/status", "/v1/models"])
def test_a_web_page_is_refused(daemon: Daemon, path: str) -> None:
    answer = request(daemon, f"GET {path} HTTP/1.1", "Host: x", "Origin: https://evil.example")
    assert answer.startswith(b"HTTP/1.1 403")
    assert b"request.origin" in answer


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("method_and_path", ["POST /rooms", "GET /status"])
def test_a_body_over_the_limit_is_refused(daemon, method_and_path: str, chunked: bool) -> None:
    size = 3 * MAX_BODY_BYTES
    body = b"x" * size
    method, path = method_and_path.split()
    content = iter([body]) if chunked else body
    transport = httpx.HTTPTransport(uds=str(daemon.home.socket), verify=False)
    with httpx.Client(transport=transport, base_url="http://permesh", timeout=10) as http:
        answer = http.request(method, path, content=content)
    assert answer.status_code == 413
    assert answer.json()["error"]["code"] == "request.too_long"
    assert_alive(daemon)


def test_headers_over_the_limit_are_refused(daemon: Daemon) -> None:
    answer = request(daemon, "GET /status HTTP/1.1", "Host: x", "X: " + "y" * 100_000)
    assert answer.startswith(b"HTTP/1.1 431") or answer == b""
    assert_alive(daemon)


GARBAGE = {
    "zeros": b"\0" * 4096,
    "random": random.Random(7).randbytes(200_000),
    "tls": bytes.fromhex("16030100c8010000c40303") + b"\x11" * 200,
    "http2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 4096,
    "http2 upgrade": (
        b"GET /status HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\n"
        b"Upgrade: h2c\r\nHTTP2-Settings: ????\r\n\r\n" + b"\0" * 100
    ),
    "websocket": (
        b"GET /events HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        + b"\xff" * 99
    ),
    "websocket without a key": (
        b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    ),
    "bad target": b"GET \x80\xff HTTP/1.1\r\nHost: x\r\n\r\n",
    "bad host": b"GET /nowhere HTTP/1.1\r\nHost: [::\r\n\r\n",
    "bad escapes": b"GET /rooms/%ff%fe%00/posts?cursor=%ff HTTP/1.1\r\nHost: x\r\n\r\n",
    "bad length": b"POST /rooms HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
    "two lengths": (
        b"POST /rooms HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n"
    ),
    "bad chunk": b"POST /rooms HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    "deep json": (
        b"POST /rooms HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        b"Content-Length: 200000\r\n\r\n" + b"[" * 200_000
    ),
    "bad utf-8": (
        b"POST /rooms HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        b'Content-Length: 13\r\n\r\n{"name":"\xff\xfe"}'
    ),
    "half a request": b"POST /rooms HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n{",
    "many at once": b"GET /status HTTP/1.1\r\nHost: x\r\n\r\n" * 500,
}  # fmt: skip


def test_deep_json_is_refused_whatever_the_recursion_limit(daemon: Daemon) -> None:
    transport = httpx.HTTPTransport(uds=str(daemon.home.socket), verify=False)
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(100_000)  # as one of the wallet's libraries does on import
    try:
        with httpx.Client(transport=transport, base_url="http://permesh", timeout=10) as http:
            answer = http.post("/rooms", content=b'{"a":' * 100_000)
            shallow = http.post("/rooms", json={"name": "lobby", "purpose": '\\"' + "[{" * 1000})
    finally:
        sys.setrecursionlimit(before)
    assert answer.json()["error"]["code"] == "request.too_deep"
    assert shallow.json()["purpose"] == '\\"' + "[{" * 1000


@pytest.mark.parametrize("name", GARBAGE)
def test_garbage_harms_nothing(daemon: Daemon, name: str) -> None:
    with connect(daemon) as connection:
        with suppress(OSError):
            connection.sendall(GARBAGE[name])
            connection.shutdown(socket.SHUT_WR)
        heard = read_all(connection)
    assert b"Traceback" not in heard
    assert b" 500 " not in heard
    assert_alive(daemon)


def stall(daemon: Daemon, lines: bytes) -> socket.socket:
    """A connection that asks for a stream and then never reads."""
    connection = connect(daemon)
    connection.sendall(lines)
    return connection


EVENTS = b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n"


def ask_without_end() -> bytes:
    messages = [{"role": "user", "content": "endless"}]
    body = json.dumps({"model": MODEL, "stream": True, "messages": messages})
    return (
        "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n{body}"
    ).encode()


def test_a_listener_that_never_reads_is_dropped(home: Home) -> None:
    async def flood(node: FakeNode) -> None:
        with suppress(trio.BrokenResourceError):
            while node.listeners:
                await node.tell("weather", Invite(line="x" * 30_000))

    with running(home, send_seconds=0.2) as daemon, stall(daemon, EVENTS):
        daemon.run(daemon.node.until, lambda: daemon.node.listeners)
        daemon.run(flood, daemon.node)
        assert_alive(daemon)


def test_an_answer_that_nobody_reads_is_cancelled(home: Home) -> None:
    with running(home, send_seconds=0.2) as daemon, stall(daemon, ask_without_end()):
        daemon.run(daemon.node.until, lambda: daemon.node.answering == 1)
        daemon.run(daemon.node.until, lambda: daemon.node.answering == 0)
        assert_alive(daemon)


def test_a_stalled_reader_does_not_hold_the_daemons_end(home: Home) -> None:
    with running(home, send_seconds=60) as daemon, stall(daemon, ask_without_end()):
        daemon.run(daemon.node.until, lambda: daemon.node.answering == 1)
        began = time.monotonic()
        daemon.stop()
        assert time.monotonic() - began < 5


def run_with_clock(function, *arguments):
    return trio.run(function, *arguments, clock=trio.testing.MockClock(autojump_threshold=0))


def test_a_body_that_dribbles_in_is_cut_off() -> None:
    async def story() -> list[dict]:
        sent: list[dict] = []

        async def receive() -> dict:
            await trio.sleep(guard.BODY_SECONDS / 3)
            return {"type": "http.request", "body": b"x", "more_body": True}

        async def send(message: dict) -> None:
            sent.append(message)

        async def app(*_: object) -> None:
            pytest.fail("the application saw half a body")

        await Guard(app)({"type": "http", "path": "/rooms", "headers": []}, receive, send)
        assert trio.current_time() < guard.BODY_SECONDS * 2
        return sent

    assert run_with_clock(story)[0]["status"] == 408


def test_a_silent_stream_is_kept_alive_by_comments() -> None:
    async def story() -> list[bytes]:
        sent: list[bytes] = []

        async def send(message: dict) -> None:
            sent.append(message.get("body", b""))

        async with trio.open_nursery() as nursery:
            writer = streams.Writer(send, [])
            nursery.start_soon(writer.keep_alive)
            await writer.write(b"first")
            await trio.sleep(streams.KEEP_ALIVE_SECONDS - 1)
            await writer.write(b"second")
            await trio.sleep(streams.KEEP_ALIVE_SECONDS * 2 + 1)
            nursery.cancel_scope.cancel()
        return sent

    comment = streams.KEEP_ALIVE
    assert run_with_clock(story) == [b"", b"first", b"second", comment, comment]
