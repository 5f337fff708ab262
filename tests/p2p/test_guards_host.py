"""Hostile connections and streams: to a guarded host, and to the library alone where it fails."""

from __future__ import annotations

import logging
import random
import socket
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.custom_types import TProtocol
from libp2p.network.config import ConnectionConfig
from libp2p.network.stream.exceptions import StreamReset
from libp2p.peer.id import ID
from libp2p.security.insecure.transport import PLAINTEXT_PROTOCOL_ID, InsecureTransport
from libp2p.stream_muxer.mplex.mplex import MPLEX_PROTOCOL_ID, Mplex
from libp2p.tools.anyio_service import Service, background_trio_service
from multiaddr import Multiaddr

from permesh.p2p import guards_host, guards_socket
from permesh.p2p import swarm as swarm_module
from permesh.p2p.guards import Tasks, run_service, tame_logs
from permesh.p2p.guards_socket import STRANGER_BYTES, Door, Socket
from permesh.p2p.wire import Framed

from .mesh import Member, member, run, until
from .plain import LISTEN, info, plain_host


def port_of(address: str) -> int:
    return int(address.split("/")[4])


async def lives(victim: Member, number: int = 2) -> None:
    """Another member comes in and is served."""
    other = member(number)
    async with other.swarm.running():
        await other.swarm.connect(victim.address)
        stream = await other.swarm.open(victim.peer_id, "/test/echo")
        await stream.send(b"alive")
        assert await stream.receive() == b"alive"


# -- errors in the library's tasks


class Failing(Service):
    """A service of the library's, one of whose tasks fails."""

    def __init__(self) -> None:
        self.beats = 0

    async def run(self) -> None:
        self.manager.run_task(self.fail)
        self.manager.run_daemon_task(self.beat)
        await self.manager.wait_finished()

    async def fail(self) -> None:
        raise RuntimeError("from a peer's bytes")

    async def beat(self) -> None:
        self.beats += 1
        raise RuntimeError("from a peer's bytes")


def test_the_library_alone_ends_a_service_with_its_task() -> None:
    async def serve() -> None:
        async with background_trio_service(Failing()):
            await trio.sleep_forever()

    async def main() -> None:
        with pytest.raises(BaseExceptionGroup):
            await serve()

    run(main)


def test_a_contained_service_outlives_its_tasks_and_restarts_its_daemons(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("permesh.p2p.guards.RESTART_S", 0.01)

    async def main() -> None:
        errors: Counter[str] = Counter()
        service = Failing()
        async with run_service(service, errors):
            await until(lambda: service.beats > 3)
        assert errors["RuntimeError"] > 3

    run(main)


def test_tasks_do_not_end_each_other_and_end_with_their_scope() -> None:
    async def main() -> None:
        errors: Counter[str] = Counter()
        tasks = Tasks(errors)
        done: list[str] = []

        async def fail() -> None:
            raise RuntimeError("a bug")

        async def work() -> None:
            done.append("work")
            await trio.sleep_forever()

        async with tasks.open():
            tasks.spawn(fail)
            tasks.spawn(work)
            await until(lambda: errors and done)
        assert errors == {"RuntimeError": 1}

    run(main)


def test_the_library_alone_is_ended_by_an_error_in_a_stream_handler() -> None:
    async def broken(_: Any) -> None:
        raise RuntimeError("a bug")

    async def attack() -> None:
        attacker, victim = plain_host(1), plain_host(2)
        victim.set_stream_handler(TProtocol("/broken"), broken)
        async with attacker.run(LISTEN), victim.run(LISTEN):
            await attacker.connect(info(str(victim.get_addrs()[0])))
            await attacker.new_stream(victim.get_id(), [TProtocol("/broken")])
            await trio.sleep_forever()

    async def main() -> None:
        with pytest.raises(BaseExceptionGroup):
            await attack()

    run(main)


# -- what is spoken


def test_only_noise_and_yamux_are_spoken() -> None:
    """The library alone offers plaintext: any peer may then claim any identity."""

    async def main() -> None:
        victim, plain = member(1), plain_host(3)
        keys = create_new_key_pair(b"\x04" * 32)
        downgrade = {TProtocol(PLAINTEXT_PROTOCOL_ID): InsecureTransport(keys)}
        old_muxer = {TProtocol(MPLEX_PROTOCOL_ID): Mplex}
        async with victim.swarm.running(), plain.run(LISTEN):
            for options in ({"sec_opt": downgrade}, {"muxer_opt": old_muxer}):
                attacker = plain_host(4, **options)
                async with attacker.run(LISTEN):
                    with pytest.raises(Exception, match="unable to connect"):
                        await attacker.connect(info(victim.address))
                    await attacker.connect(info(str(plain.get_addrs()[0])))
            assert not victim.swarm._links
            await lives(victim)

    run(main)


# -- the door


def test_three_hundred_silent_connections_shut_no_member_out() -> None:
    async def main() -> None:
        victim = member(1)
        async with victim.swarm.running():
            address = ("127.0.0.1", port_of(victim.address))
            silent = [socket.create_connection(address) for _ in range(300)]
            try:
                door = victim.swarm._host.door
                await until(lambda: len(door) == door.limit)
                await lives(victim)
            finally:
                for each in silent:
                    each.close()

    run(main)


def test_the_library_alone_is_shut_by_silent_connections() -> None:
    async def main() -> None:
        config = ConnectionConfig(
            max_connections=30, min_connections=0, low_watermark=0, high_watermark=30
        )
        victim, newcomer = plain_host(1, connection_config=config), plain_host(2)
        async with victim.run(LISTEN), newcomer.run(LISTEN):
            address = str(victim.get_addrs()[0])
            silent = [await trio.open_tcp_stream("127.0.0.1", port_of(address)) for _ in range(30)]
            await until(lambda: not victim.get_network()._inbound_limiter.available_tokens)
            with pytest.raises(Exception, match="unable to connect"):
                await newcomer.connect(info(address))
            for stream in silent:
                await stream.aclose()

    run(main)


async def _socket_pair() -> tuple[Socket, trio.SocketStream]:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    client = await trio.open_tcp_stream(*listener.socket.getsockname())
    server = await listener.accept()
    await listener.aclose()
    return Socket(server), client


def test_the_busiest_address_gives_way_first() -> None:
    async def main() -> None:
        door = Door(limit=3)
        pairs = [await _socket_pair() for _ in range(5)]
        sockets = [here for here, _ in pairs]
        for index, host in enumerate(("10.0.0.1", "10.0.0.2", "10.0.0.2", "10.0.0.3")):
            sockets[index]._address = (host, 1)
        for each in sockets[:4]:
            door.enter(each)
        closed = [each._trio_socket.fileno() == -1 for each in sockets[:4]]
        assert closed == [False, True, False, False]
        assert (len(door), door.evicted) == (3, 1)
        for each, client in pairs:
            each.abort()
            await client.aclose()

    run(main)


def test_a_stranger_is_shown_out_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    assert guards_socket.STRANGER_S == swarm_module.ADMISSION_S == 5.0
    monkeypatch.setattr(guards_socket, "STRANGER_S", 0.3)

    async def main() -> None:
        victim, stranger = member(1), plain_host(9)
        async with victim.swarm.running(), stranger.run(LISTEN):
            silent = await trio.open_tcp_stream("127.0.0.1", port_of(victim.address))
            await stranger.connect(info(victim.address))
            start = trio.current_time()
            while await silent.receive_some():
                pass
            await until(lambda: not stranger.get_network().connections)
            assert trio.current_time() - start < 3
            assert not len(victim.swarm._host.door)
            await until(lambda: not victim.swarm._links)
            await silent.aclose()
            monkeypatch.setattr(guards_socket, "STRANGER_S", 5.0)
            await lives(victim)

    run(main)


def test_reconnecting_takes_up_nothing() -> None:
    """The library alone keeps a slot and a task for each inbound connection that ever was; after
    250 of them it takes no more."""

    async def main() -> None:
        victim = member(1)
        async with victim.swarm.running():
            for _ in range(3):
                await lives(victim)
            limiter = victim.swarm._host.get_network()._inbound_limiter  # type: ignore[attr-defined]
            await until(lambda: not victim.swarm._links)
            await until(lambda: limiter.borrowed_tokens == 0)
        plain, visitor = plain_host(1), plain_host(2)
        async with plain.run(LISTEN), visitor.run(LISTEN):
            for _ in range(3):
                await visitor.connect(info(str(plain.get_addrs()[0])))
                await visitor.disconnect(plain.get_id())
                await until(lambda: not plain.get_network().connections)
            await trio.sleep(0.5)
            assert plain.get_network()._inbound_limiter.borrowed_tokens == 3

    run(main)


def test_the_library_alone_shares_a_port_without_a_word() -> None:
    async def main() -> None:
        first, second = plain_host(1), plain_host(2)
        async with first.run(LISTEN):
            place = Multiaddr(str(first.get_addrs()[0]).split("/p2p/")[0])
            async with second.run([place]):
                assert str(second.get_addrs()[0]).startswith(str(place))

    run(main)


# -- what comes over a connection


def test_garbage_on_the_port_ends_nothing() -> None:
    async def main() -> None:
        victim, rng = member(1), random.Random(3)
        hello = b"\x13/multistream/1.0.0\n"
        async with victim.swarm.running():
            for garbage in (
                b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
                b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),
                hello + b"\x07/noise\n" + rng.randbytes(2000),
                hello + b"\x07/noise\n\x00\x00",
                hello + b"\x03\xff\xfe\n",
                hello + b"\xff" * 20,
                b"\xff\xff\xff\xff\xff\xff\xff\xff\x7f" + bytes(1000),
                rng.randbytes(5000),
            ):
                stream = await trio.open_tcp_stream("127.0.0.1", port_of(victim.address))
                await stream.send_all(garbage)
                await stream.aclose()
            await lives(victim)

    run(main)


def test_a_stranger_may_not_fill_the_memory() -> None:
    """Yamux keeps whatever is sent to a stream, and multistream waits for as many bytes as a
    peer announces."""

    async def main() -> None:
        victim, stranger = member(1), plain_host(9)
        async with victim.swarm.running(), stranger.run(LISTEN):
            await stranger.connect(info(victim.address))
            await until(lambda: victim.swarm._links)
            (link,) = victim.swarm._links.values()
            (conn,) = stranger.get_network().get_connections()
            stream = await conn.new_stream()
            start = trio.current_time()
            with pytest.raises(Exception, match=r"(?s).*"):
                await stream.write(b"\xff\xff\xff\x7f" + bytes(10_000_000))
            await until(lambda: not victim.swarm._links)
            assert trio.current_time() - start < 3
            assert STRANGER_BYTES < link.connection.socket.received <= 2 * STRANGER_BYTES
            await lives(victim)

    run(main)


def test_a_stranger_may_not_open_streams_without_end() -> None:
    async def main() -> None:
        victim, stranger = member(1), plain_host(9)
        async with victim.swarm.running(), stranger.run(LISTEN):
            await stranger.connect(info(victim.address))
            (conn,) = stranger.get_network().get_connections()
            for _ in range(guards_host.MAX_STRANGER_STREAMS + 1):
                await conn.new_stream()
            await until(lambda: conn.is_closed)
            assert victim.swarm.faults["stream.too_many"] >= 1
            await lives(victim)

    run(main)


def test_a_member_may_not_either_but_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guards_host, "MAX_STREAMS", 8)

    async def main() -> None:
        victim, greedy = member(1), member(2)
        async with victim.swarm.running(), greedy.swarm.running():
            await greedy.swarm.connect(victim.address)
            streams = []
            for _ in range(20):
                try:
                    streams.append(await greedy.swarm.open(victim.peer_id, "/test/echo"))
                except Exception:
                    break
            assert 0 < len(streams) <= 8
            await until(lambda: victim.swarm.faults["stream.too_many"])
            for stream in streams:
                await stream.aclose()
            again = await greedy.swarm.open(victim.peer_id, "/test/echo")
            await again.send(b"x")
            assert await again.receive() == b"x"

    run(main)


def test_hostile_bytes_in_every_protocol_are_faults_and_no_more() -> None:
    async def main() -> None:
        victim, attacker = member(1), member(2)
        rng = random.Random(11)
        async with victim.swarm.running(), attacker.swarm.running():
            await attacker.swarm.connect(victim.address)
            connection = attacker.swarm.chosen(victim.peer_id)
            assert connection is not None
            for protocol in ("/permesh/admission/1", "/test/echo", "/permesh/beat/1"):
                for data in (b"\xff\xff\xff\xff", b"\0\0\0\x05hello", rng.randbytes(300)):
                    stream = await attacker.swarm._host.open(connection, protocol)
                    await stream.send_all(data)
                    await stream.aclose()
            await until(lambda: victim.swarm.faults["wire.too_long"] >= 2)
            await lives(victim, 3)

    run(main)


def test_a_cancelled_write_does_not_tear_the_connection() -> None:
    """Half a Noise packet on the wire ends it for every stream; a write is therefore finished
    whatever happens to the task that began it."""

    async def main() -> None:
        a, b = member(1), member(2)
        async with a.swarm.running(), b.swarm.running():
            await b.swarm.connect(a.address)
            good = await b.swarm.open(a.peer_id, "/test/echo")
            for index in range(30):
                bad = await b.swarm.open(a.peer_id, "/test/echo")
                with trio.move_on_after(0.002 * index):
                    while True:
                        await bad.send(bytes(1_000_000))
                bad.abort()
            await good.send(b"still here")
            assert await good.receive() == b"still here"
            assert len(a.events) == len(b.events) == 1

    run(main)


def test_a_deadline_holds_also_towards_a_peer_that_takes_nothing() -> None:
    async def main() -> None:
        here, there = await _socket_pair()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(here.flush)
            with trio.move_on_after(0.2) as scope:
                while True:
                    await here.room()
                    await here.write(bytes(100_000))
            assert scope.cancelled_caught
            taken = 0
            with trio.move_on_after(0.5):
                while True:
                    taken += len(await there.receive_some())
            assert taken % 100_000 == 0  # what was committed has gone out whole
            await here.close()
            assert await there.receive_some() == b""
            await there.aclose()

    run(main)


def test_a_peer_that_takes_nothing_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guards_socket, "WRITE_S", 0.2)

    async def main() -> None:
        here, there = await _socket_pair()
        await here.write(bytes(50_000_000))
        await here.flush()
        assert await here.read(1) == b""
        with pytest.raises(Exception, match="closed"):
            await here.write(b"x")
        await there.aclose()

    run(main)


def test_a_slow_reader_keeps_its_stream() -> None:
    """The library alone gives a stream up whose reader pauses for five seconds with its window
    full. Windows start between 256 KiB and 16 MiB; here the writers believe in a small one."""
    window, size = 100_000, 1_000_000
    taken: list[int] = []

    async def slow(stream: Framed, peer_id: str, verified: object) -> None:
        del peer_id, verified
        await trio.sleep(6.0)
        taken.append(len(await stream.receive()))

    async def plain_slow(_: Any) -> None:
        await trio.sleep_forever()

    async def guarded() -> None:
        a, b = member(1, handlers={"/test/slow": slow}), member(2)
        async with a.swarm.running(), b.swarm.running():
            await b.swarm.connect(a.address)
            connection = b.swarm.chosen(a.peer_id)
            assert connection is not None
            stream: Any = await b.swarm._host.open(connection, "/test/slow")
            stream._stream.muxed_stream.send_window = window
            await stream.send_all(size.to_bytes(4, "big") + bytes(size))
            await until(lambda: taken)

    async def plain() -> None:
        a, b = plain_host(3), plain_host(4)
        a.set_stream_handler(TProtocol("/slow"), plain_slow)
        async with a.run(LISTEN), b.run(LISTEN):
            await b.connect(info(str(a.get_addrs()[0])))
            stream = await b.new_stream(a.get_id(), [TProtocol("/slow")])
            stream.muxed_stream.send_window = window
            with pytest.raises(StreamReset):
                await stream.write(bytes(size))

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(guarded)
            nursery.start_soon(plain)
        assert taken == [size]

    run(main)


def test_only_the_swarm_dials() -> None:
    """Gossip would dial the peers that a PRUNE names, the auto-connector those it heard of."""

    async def main() -> None:
        a, b = member(1), member(2)
        async with a.swarm.running(), b.swarm.running():
            host = a.swarm._host
            host.peerstore.add_addr(
                ID.from_string(b.peer_id), Multiaddr(b.address.split("/p2p/")[0]), 100
            )
            attempts: list[Callable[[], Awaitable[Any]]] = [
                lambda: host.connect(info(b.address)),
                lambda: host.get_network().dial_peer(ID.from_string(b.peer_id)),
                lambda: host.new_stream(ID.from_string(b.peer_id), [TProtocol("/test/echo")]),
            ]
            for attempt in attempts:
                with pytest.raises(Exception, match=r"only the swarm|no admitted connection"):
                    await attempt()
            assert not a.swarm._links

    run(main)


# -- logs


def test_the_librarys_warnings_are_one_line_each_and_go_to_pythons_logging(
    caplog: pytest.LogCaptureFixture,
) -> None:
    tame_logs()
    log = logging.getLogger("libp2p.something")
    with caplog.at_level(logging.DEBUG):
        log.info("chatter")
        try:
            raise RuntimeError("from\nthe depths")
        except RuntimeError:
            log.exception("It failed: %s\nand how", "badly")
    (record,) = [one for one in caplog.records if one.name == log.name]
    assert record.getMessage() == "It failed: badly"
    assert record.exc_info is None
    assert "Traceback" not in caplog.text
