"""Lanes between two daemons in one process: real TLS sockets on loopback, memory streams in the
place of libp2p's."""

from __future__ import annotations

import os
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trio
from trio.testing import memory_stream_pair

from permesh.errors import PermeshError, Refused
from permesh.p2p import lanes as lanes_module
from permesh.p2p.lane_socket import dial, server_context
from permesh.p2p.lanes import Lane, LaneLost, Lanes
from permesh.p2p.wire import Framed
from permesh.records import pack, unpack


@dataclass
class Side:
    """One daemon: its lanes, and what came in."""

    name: str
    host: str | None = "127.0.0.1"
    lanes: Lanes = field(init=False)
    arrived: list[tuple[Lane, str, bytes]] = field(default_factory=list)
    echo: bool = True
    refusals: list[Refused] = field(default_factory=list)


class Two:
    """Two sides, `a` and `b`, and a libp2p of memory streams between them."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.nursery = nursery
        self.a, self.b = Side("a"), Side("b")
        for side in (self.a, self.b):
            side.lanes = Lanes(
                open_stream=self._opener(side),
                host_of=lambda _peer, side=side: side.host,
                on_lane=self._taker(side),
                listen_host="127.0.0.1",
            )

    def other(self, side: Side) -> Side:
        return self.b if side is self.a else self.a

    def _opener(self, side: Side) -> Callable[[str, str], Awaitable[Framed]]:
        async def open_stream(peer_id: str, protocol: str) -> Framed:
            assert (peer_id, protocol) == (self.other(side).name, lanes_module.PROTOCOL)
            ours, theirs = memory_stream_pair()
            self.nursery.start_soon(self.handle, self.other(side), Framed(theirs))
            return Framed(ours)

        return open_stream

    async def handle(self, side: Side, stream: Framed) -> None:
        """As the swarm does: whatever the handler raises ends the stream alone."""
        try:
            await side.lanes.handle(self.other(side).name, stream)
        except Refused as refusal:
            side.refusals.append(refusal)
        except PermeshError:
            pass
        finally:
            await stream.aclose()

    def _taker(self, side: Side) -> Callable[[Lane, str, bytes], Awaitable[None]]:
        async def on_lane(lane: Lane, peer_id: str, purpose: bytes) -> None:
            side.arrived.append((lane, peer_id, purpose))
            if not side.echo:
                await lane.closed.wait()
                return
            try:
                while True:
                    await lane.send(*await lane.receive())
            except (LaneLost, Refused):
                return

        return on_lane

    async def inbound(self, count: int = 1) -> Lane:
        """The last of ``count`` lanes at b: its side learns of a lane after the opener."""
        while len(self.b.arrived) < count:
            await trio.lowlevel.checkpoint()
        return self.b.arrived[count - 1][0]

    async def stream_to_b(self) -> Framed:
        """A bare libp2p stream to b's handler, for a peer that follows no rules."""
        return await self._opener(self.a)("b", lanes_module.PROTOCOL)


@asynccontextmanager
async def two() -> AsyncIterator[Two]:
    async with trio.open_nursery() as nursery:
        pair = Two(nursery)
        await nursery.start(pair.a.lanes.run)
        await nursery.start(pair.b.lanes.run)
        yield pair
        nursery.cancel_scope.cancel()


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def within() -> None:
        with trio.fail_after(10):
            await test()

    trio.run(within)


@pytest.mark.parametrize("host", ["127.0.0.1", None])
def test_frames_come_back_as_they_went_over_either_kind_of_lane(host: str | None) -> None:
    async def main() -> None:
        async with two() as pair:
            pair.a.host = host
            lane = await pair.a.lanes.open("b", b"session")
            assert lane.kind == ("tls" if host else "libp2p")
            big = os.urandom(3_000_000)
            for header, payload in [(b"h", b""), (b"x" * 4096, b"small"), (b"big", big)]:
                await lane.send(header, payload)
                assert await lane.receive() == (header, payload)
            [(_, peer_id, purpose)] = pair.b.arrived
            assert (peer_id, purpose) == ("a", b"session")
            assert lane.bytes_sent == lane.bytes_received > len(big)
            await lane.aclose()

    run(main)


def test_a_direct_lane_sends_each_frame_at_once() -> None:
    async def main() -> None:
        async with two() as pair:
            lane = await pair.a.lanes.open("b", b"")
            for end in (lane, await pair.inbound()):
                transport = end._pipe._stream.transport_stream
                assert transport.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)

    run(main)


def test_the_libp2p_stream_serves_when_nothing_listens_at_the_port(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def main() -> None:
        async with two() as pair:
            free = socket.socket()
            free.bind(("127.0.0.1", 0))  # bound but not listening: connections are refused
            pair.b.lanes._port = free.getsockname()[1]
            lane = await pair.a.lanes.open("b", b"")
            assert lane.kind == "libp2p"
            free.close()

            silent = await trio.open_tcp_listeners(0, host="127.0.0.1")  # never accepts
            pair.b.lanes._port = silent[0].socket.getsockname()[1]
            monkeypatch.setattr(lanes_module, "DIRECT_S", 0.05)
            lane = await pair.a.lanes.open("b", b"")
            assert lane.kind == "libp2p"
            await lane.send(b"still", b"here")
            assert await lane.receive() == (b"still", b"here")

    run(main)


def test_another_certificate_at_the_same_port_is_not_spoken_to() -> None:
    async def main() -> None:
        heard = []

        async def impostor(transport: trio.SocketStream) -> None:
            context, _ = server_context()
            stream = trio.SSLStream(transport, context, server_side=True, https_compatible=True)
            await stream.do_handshake()
            heard.append(await stream.receive_some(100))

        async with two() as pair, trio.open_nursery() as nursery:
            listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
            nursery.start_soon(trio.serve_listeners, impostor, listeners)
            pair.b.lanes._port = listeners[0].socket.getsockname()[1]
            lane = await pair.a.lanes.open("b", b"")
            assert lane.kind == "libp2p"
            while not heard:
                await trio.lowlevel.checkpoint()
            assert heard == [b""]  # the token was not among what it got
            nursery.cancel_scope.cancel()

    run(main)


async def _offer(pair: Two) -> tuple[Framed, int, bytes, bytes]:
    stream = await pair.stream_to_b()
    await stream.send(pack([1, b"p"]))
    port, certificate, token = unpack(await stream.receive(), limit=4096)
    return stream, port, certificate, token


def test_a_token_opens_one_socket_once_and_only_the_right_one() -> None:
    async def main() -> None:
        async with two() as pair:
            _stream, port, certificate, token = await _offer(pair)
            assert await dial("127.0.0.1", port, certificate, os.urandom(32)) is None
            first = await dial("127.0.0.1", port, certificate, token)
            assert first is not None
            assert await dial("127.0.0.1", port, certificate, token) is None
            assert pair.b.arrived == []  # a token alone is no lane: the stream has to say so

    run(main)


def test_a_token_dies_with_its_exchange(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes_module, "TOKEN_LIFE_S", 0.05)

    async def main() -> None:
        async with two() as pair:
            stream, port, certificate, token = await _offer(pair)
            with pytest.raises(PermeshError):
                await stream.receive()  # b waits for the choice no longer than a token lives
            assert await dial("127.0.0.1", port, certificate, token) is None

    run(main)


def test_choosing_a_socket_that_never_came_is_refused() -> None:
    async def main() -> None:
        async with two() as pair:
            stream, *_ = await _offer(pair)
            await stream.send(pack([True]))
            with pytest.raises(PermeshError):
                await stream.receive()
            assert [refusal.code for refusal in pair.b.refusals] == ["lane.exchange"]

    run(main)


@pytest.mark.parametrize(
    "message", [b"\xff", pack([2, b"p"]), pack([1, b"p" * 65]), pack([1]), pack([1, "text"])]
)
def test_garbage_in_the_exchange_is_refused(message: bytes) -> None:
    async def main() -> None:
        async with two() as pair:
            stream = await pair.stream_to_b()
            await stream.send(message)
            with pytest.raises(PermeshError):
                await stream.receive()
            assert len(pair.b.refusals) == 1

    run(main)


@pytest.mark.parametrize(
    "answer",
    [b"\xff", pack([1, b"c"]), pack([70000, b"c", b"t" * 32]), pack([1, b"c" * 3000, b"t" * 32])],
)
def test_a_garbled_answer_is_refused_by_the_opener(answer: bytes) -> None:
    async def main() -> None:
        ours, theirs = memory_stream_pair()

        async def open_stream(_peer: str, _protocol: str) -> Framed:
            await Framed(theirs).send(answer)
            return Framed(ours)

        lanes = Lanes(open_stream=open_stream, host_of=lambda _peer: None, on_lane=lambda *_: None)  # type: ignore[arg-type,return-value]
        with pytest.raises(Refused):
            await lanes.open("b", b"")

    run(main)


def test_garbage_on_the_port_harms_nobody() -> None:
    async def main() -> None:
        async with two() as pair:
            for data in (b"GET / HTTP/1.1\r\n\r\n", os.urandom(500), b"\x16\x03\x01\xff\xff"):
                stream = await trio.open_tcp_stream("127.0.0.1", pair.b.lanes.port)
                await stream.send_all(data)
                await stream.send_eof()
                while await stream.receive_some():
                    pass
            lane = await pair.a.lanes.open("b", b"")
            assert lane.kind == "tls"

    run(main)


def test_old_tls_is_not_spoken() -> None:
    async def main() -> None:
        async with two() as pair:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            context.maximum_version = ssl.TLSVersion.TLSv1_2
            transport = await trio.open_tcp_stream("127.0.0.1", pair.b.lanes.port)
            stream = trio.SSLStream(transport, context)
            with pytest.raises(trio.BrokenResourceError):
                await stream.do_handshake()

    run(main)


def test_silent_connections_are_closed_and_do_not_shut_members_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lanes_module, "MAX_UNKNOWN", 3)
    monkeypatch.setattr(lanes_module, "HANDSHAKE_S", 0.1)

    async def main() -> None:
        async with two() as pair:
            port = pair.b.lanes.port
            silent = [await trio.open_tcp_stream("127.0.0.1", port) for _ in range(6)]
            lane = await pair.a.lanes.open("b", b"")  # no room at the port: the stream serves
            assert lane.kind == "libp2p"
            for stream in silent:
                assert await stream.receive_some() == b""
            assert (await pair.a.lanes.open("b", b"")).kind == "tls"

    run(main)


def test_lanes_and_tokens_of_one_peer_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes_module, "MAX_TOKENS_PER_PEER", 2)

    async def main() -> None:
        async with two() as pair:
            await _offer(pair)
            await _offer(pair)
            with pytest.raises(PermeshError):
                await _offer(pair)
            assert [refusal.code for refusal in pair.b.refusals] == ["lane.too_many"]

            monkeypatch.setattr(lanes_module, "MAX_LANES_PER_PEER", 1)
            monkeypatch.setattr(lanes_module, "MAX_TOKENS_PER_PEER", 8)
            lane = await pair.a.lanes.open("b", b"")
            with pytest.raises(Refused, match="Too many lanes"):
                await pair.a.lanes.open("b", b"")
            await lane.aclose()
            await pair.a.lanes.open("b", b"")

    run(main)


def test_frames_over_the_limits_are_refused_before_they_are_read() -> None:
    async def main() -> None:
        async with two() as pair:
            pair.b.echo = False
            lane = await pair.a.lanes.open("b", b"")
            await lane.send(b"h", b"x" * 1001)
            inbound = await pair.inbound()
            with pytest.raises(Refused, match="over the limits"):
                await inbound.receive(max_payload=1000)
            headers = [(4097, 0), (0, 1), (1, 64 * 1024 * 1024 + 1)]
            for count, (header, payload) in enumerate(headers, 2):
                lane = await pair.a.lanes.open("b", b"")
                await lane._pipe.send(struct.pack(">II", header, payload))
                with pytest.raises(Refused):
                    await (await pair.inbound(count)).receive()

    run(main)


@pytest.mark.parametrize("host", ["127.0.0.1", None])
def test_closing_one_end_ends_the_other(host: str | None) -> None:
    async def main() -> None:
        async with two() as pair:
            pair.a.host = host
            pair.b.echo = False
            lane = await pair.a.lanes.open("b", b"")
            await lane.send(b"whole", b"frame")
            inbound = await pair.inbound()
            assert await inbound.receive() == (b"whole", b"frame")
            await lane.aclose()
            with pytest.raises(LaneLost) as lost:
                await inbound.receive()
            assert lost.value.code == "lane.closed"
            with pytest.raises(LaneLost):
                await lane.send(b"late")

    run(main)


def test_beats_keep_an_idle_lane_and_their_absence_ends_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lanes_module, "BEAT_S", 0.02)
    monkeypatch.setattr(lanes_module, "SILENCE_S", 0.2)

    async def main() -> None:
        async with two() as pair:
            pair.b.echo = False
            lane = await pair.a.lanes.open("b", b"")
            inbound = await pair.inbound()
            with trio.move_on_after(0.5) as waited:
                await inbound.receive()
            assert waited.cancelled_caught  # alive beyond the silence that would end it
            pair.a.lanes._lanes.clear()  # nobody beats for it any more
            with pytest.raises(LaneLost) as lost:
                await inbound.receive()
            assert lost.value.code == "lane.silent"
            await lane.aclose()

    run(main)


def test_a_peer_that_does_not_read_loses_its_lane(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes_module, "SEND_S", 0.1)

    async def main() -> None:
        async with two() as pair:
            pair.b.echo = False
            lane = await pair.a.lanes.open("b", b"")
            with pytest.raises(LaneLost) as lost:
                await lane.send(b"h", bytes(60_000_000))  # beyond what sockets buffer
            assert lost.value.code == "lane.stalled"
            assert lane.closed.is_set()

    run(main)


def test_a_cancelled_send_closes_the_lane_rather_than_leave_half_a_frame() -> None:
    async def main() -> None:
        async with two() as pair:
            pair.b.echo = False
            lane = await pair.a.lanes.open("b", b"")
            with trio.move_on_after(0.1):
                await lane.send(b"h", bytes(60_000_000))
            assert lane.closed.is_set()

    run(main)


def test_a_taken_port_is_said_with_the_remedy() -> None:
    async def main() -> None:
        async with two() as pair:
            lanes = Lanes(
                open_stream=pair._opener(pair.a),
                host_of=lambda _peer: None,
                on_lane=pair._taker(pair.a),
                listen_host="127.0.0.1",
                listen_port=pair.b.lanes.port,
            )
            with pytest.raises(PermeshError, match="lane_port"):
                await lanes.run()

    run(main)


def test_the_key_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    _context, certificate = server_context()
    assert list(tmp_path.iterdir()) == []
    assert server_context()[1] != certificate
