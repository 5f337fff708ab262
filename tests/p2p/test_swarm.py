"""Two or three swarms on loopback, over real libp2p."""

from __future__ import annotations

import pytest
import trio

from permesh.errors import PermeshError, Refused
from permesh.p2p import swarm as swarm_module
from permesh.p2p.addresses import multiaddr
from permesh.p2p.admission import GateVerdict
from permesh.p2p.wire import Framed

from .mesh import WordGate, gossips, member, run, until


async def _code(attempt: object) -> str:
    with pytest.raises(PermeshError) as caught:
        await attempt  # type: ignore[misc]
    return caught.value.code


def test_two_members_meet_and_talk() -> None:
    async def main() -> None:
        a, b = member(1), member(2)
        async with a.swarm.running(), b.swarm.running():
            info = await b.swarm.connect(a.address)
            assert (info.peer_id, info.verified) == (a.peer_id, "sesame")
            assert a.address.startswith(info.address)
            await until(lambda: a.sees(b))
            assert a.events == [f"+{b.peer_id}"]
            assert b.events == [f"+{a.peer_id}"]
            assert a.gate.told == [(b.peer_id, GateVerdict("admitted"))]
            assert a.swarm.host_of(b.peer_id) == "127.0.0.1"
            for here, there in ((a, b), (b, a)):
                stream = await here.swarm.open(there.peer_id, "/test/echo")
                await stream.send(b"hello" * 1000)
                assert await stream.receive() == b"hello" * 1000
                await stream.aclose()
            assert not a.swarm.errors
            assert not b.swarm.errors

    run(main)


def test_what_cannot_be_opened_says_why() -> None:
    async def main() -> None:
        a, b = member(1), member(2)
        async with a.swarm.running(), b.swarm.running():
            assert await _code(a.swarm.open(b.peer_id, "/test/echo")) == "network.not_connected"
            await b.swarm.connect(a.address)
            assert await _code(b.swarm.open(a.peer_id, "/no/such")) == "network.protocol"
            await a.swarm.connect(b.address)  # connected already

    run(main)


def test_the_last_message_before_a_close_arrives() -> None:
    """Also at a peer that has not read it yet: a reset in place of the end would throw it away."""

    async def last(stream: Framed, peer_id: str, verified: object) -> None:
        del peer_id, verified
        await stream.send(b"x" * 100_000)

    async def main() -> None:
        a, b = member(1, handlers={"/test/last": last}), member(2)
        async with a.swarm.running(), b.swarm.running():
            await b.swarm.connect(a.address)
            stream = await b.swarm.open(a.peer_id, "/test/last")
            assert len(await stream.receive()) == 100_000
            assert await _code(stream.receive()) == "wire.closed"
            await stream.aclose()
            connection = b.swarm.chosen(a.peer_id)
            assert connection is not None
            unread = await b.swarm._host.open(connection, "/test/last")
            await trio.sleep(0.5)
            got = 0
            while data := await unread.receive_some(100_000):
                got += len(data)
            assert got == 100_004
            await unread.aclose()

    run(main)


def test_an_error_in_a_handler_costs_that_stream_alone() -> None:
    async def broken(stream: Framed, peer_id: str, verified: object) -> None:
        del peer_id, verified
        word = await stream.receive()
        raise Refused("test.word", "No.") if word == b"refuse" else RuntimeError("a bug")

    async def main() -> None:
        a, b = member(1, handlers={"/test/broken": broken}), member(2)
        async with a.swarm.running(), b.swarm.running():
            await b.swarm.connect(a.address)
            echo = await b.swarm.open(a.peer_id, "/test/echo")
            for word in (b"refuse", b"raise"):
                stream = await b.swarm.open(a.peer_id, "/test/broken")
                await stream.send(word)
                assert await _code(stream.receive()) == "wire.closed"
            assert a.swarm.faults == {"test.word": 1, "handler.error": 1}
            assert a.swarm.errors == {"RuntimeError": 1}
            await echo.send(b"still here")
            assert await echo.receive() == b"still here"

    run(main)


def test_messages_of_the_topic_reach_the_others_in_order_and_not_their_sender() -> None:
    async def main() -> None:
        a, b, c = member(1), member(2), member(3)
        async with a.swarm.running(), b.swarm.running(), c.swarm.running():
            await b.swarm.connect(a.address)
            await c.swarm.connect(a.address)  # b and c know each other through a alone
            await until(lambda: len(a.swarm.peers()) == 2)
            await b.swarm.publish(b"first")
            await until(lambda: a.messages and c.messages)
            sent = [b"%d" % index for index in range(100)]
            for data in sent:
                await b.swarm.publish(data)
            await until(lambda: len(a.messages) == len(c.messages) == 101)
            assert a.messages == [(b.peer_id, data) for data in (b"first", *sent)]
            assert {peer for peer, _ in c.messages} == {a.peer_id}  # who forwarded them
            assert {data for _, data in c.messages} == {b"first", *sent}
            assert not b.messages

    run(main)


def test_an_error_in_on_message_is_contained_and_a_refusal_is_the_peers_fault() -> None:
    taken: list[bytes] = []

    def on_message(peer_id: str, data: bytes) -> None:
        del peer_id
        taken.append(data)
        if data == b"refuse":
            raise Refused("test.message", "No.")
        if data == b"raise":
            raise RuntimeError("a bug")

    async def main() -> None:
        a, b = member(1, on_message=on_message), member(2)
        async with a.swarm.running(), b.swarm.running():
            await b.swarm.connect(a.address)
            await until(lambda: a.sees(b))
            for data in (b"refuse", b"raise", b"fine"):
                await b.swarm.publish(data)
            await until(lambda: taken == [b"refuse", b"raise", b"fine"])
            assert a.swarm.faults == {"test.message": 1, "handler.error": 1}

    run(main)


def test_a_message_over_the_limit_is_our_bug() -> None:
    async def main() -> None:
        a = member(1)
        async with a.swarm.running():
            with pytest.raises(ValueError, match="at most"):
                await a.swarm.publish(bytes(200_000))

    run(main)


def test_a_stranger_is_told_why_and_shown_out() -> None:
    async def main() -> None:
        a, b = member(1), member(2, gate=WordGate(word=b"barley"))
        async with a.swarm.running(), b.swarm.running():
            with pytest.raises(PermeshError) as caught:
                await b.swarm.connect(a.address)
            assert caught.value.code == "gate.word"
            assert caught.value.remedy == "Learn it."
            assert b.gate.told[0][1].code == "gate.word"
            await until(lambda: not a.swarm._links and not b.swarm._links)
            assert a.events == b.events == []

    run(main)


def test_a_gate_that_fails_lets_nobody_in_and_ends_nothing() -> None:
    def fail(hello: bytes) -> GateVerdict:
        raise RuntimeError(f"a bug at {hello!r}")

    async def main() -> None:
        gate = WordGate(verdicts=fail)
        a, b = member(1, gate=gate), member(2)
        async with a.swarm.running(), b.swarm.running():
            assert await _code(b.swarm.connect(a.address)) == "admission.failed"
            gate.verdicts = None
            await b.swarm.connect(a.address)

    run(main)


def test_who_waits_to_be_let_in_comes_in_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("permesh.p2p.redial.PENDING_S", 0.2)
    monkeypatch.setattr(swarm_module, "DISMISS_S", 0.05)
    waiting = GateVerdict("pending", "admission.pending", "Wait.", extra=b"who asked")

    async def main() -> None:
        a = member(1, gate=WordGate(verdicts=lambda _: waiting))
        async with a.swarm.running():
            b = member(2, bootstrap=(a.address,))
            async with b.swarm.running():
                await until(lambda: len(b.gate.told) >= 2)
                assert b.gate.told[0] == (a.peer_id, waiting)
                assert b.events == []
                a.gate.verdicts = None
                await until(lambda: b.sees(a) and a.sees(b))

    run(main)


def test_a_member_that_comes_back_is_found_again() -> None:
    async def main() -> None:
        a = member(1)
        async with a.swarm.running():
            b = member(2)
            async with b.swarm.running():
                await b.swarm.connect(a.address)
                await until(lambda: a.sees(b))
                place = b.address.split("/p2p/")[0]
            await until(lambda: a.events[-1] == f"-{b.peer_id}")
            # The same member, which does not know where the others are: they look for it.
            again = member(2, listen=place)
            async with again.swarm.running():
                await until(lambda: a.sees(again) and again.sees(a))
            assert a.events[:3] == [f"+{b.peer_id}", f"-{b.peer_id}", f"+{b.peer_id}"]

    run(main)


def test_a_bootstrap_that_comes_up_late_is_found() -> None:
    async def main() -> None:
        a = member(1)
        async with a.swarm.running():
            address, place = a.address, a.address.split("/p2p/")[0]
        b = member(2, bootstrap=(address,))
        async with b.swarm.running():
            await trio.sleep(0.2)
            late = member(1, listen=place)
            async with late.swarm.running():
                await until(lambda: b.sees(late))

    run(main)


async def _meet_head_on() -> None:
    a, b = member(1), member(2)
    async with a.swarm.running(), b.swarm.running():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(a.swarm.connect, b.address)
            nursery.start_soon(b.swarm.connect, a.address)
        await until(lambda: len(a.swarm._links) == len(b.swarm._links) == 1)
        (here,), (there,) = a.swarm._links.values(), b.swarm._links.values()
        assert here.connection.outbound != there.connection.outbound
        assert len(a.swarm.peers()) == len(b.swarm.peers()) == 1
        assert len(a.events) == len(b.events) == 1
        stream = await a.swarm.open(b.peer_id, "/test/echo")
        await stream.send(b"x")
        assert await stream.receive() == b"x"
        await until(lambda: gossips(a, b) and gossips(b, a))
        await a.swarm.publish(b"and the topic")
        await b.swarm.publish(b"both ways")
        await until(lambda: a.messages and b.messages)


def test_both_dial_at_once_and_one_connection_stays() -> None:
    async def main() -> None:
        for _ in range(3):
            await _meet_head_on()

    run(main)


def test_news_of_a_connection_that_is_over_leaves_nothing_behind() -> None:
    """A link that stayed would keep the peer from ever being dialled again."""

    async def main() -> None:
        a, b = member(1), member(2)
        async with a.swarm.running(), b.swarm.running():
            connection = await b.swarm._host.dial(multiaddr(a.address.split("/p2p/")[0]), a.peer_id)
            await connection.close()
            await until(lambda: not b.swarm._links)
            assert await b.swarm._outcome(connection) is None
            b.swarm.connected(connection)
            await trio.sleep(0.2)
            assert not b.swarm._link(connection).admitted  # as for a stream that comes late
            assert not b.swarm._links
            b.swarm.add_bootstrap(a.address)
            await until(lambda: b.sees(a))

    run(main)


def test_an_expired_peer_is_dropped_and_a_renewed_one_stays() -> None:
    now = 1000

    def lasting(hello: bytes) -> GateVerdict:
        return GateVerdict("admitted", verified=hello, expires_ms=int(hello))

    async def main() -> None:
        nonlocal now
        gates = [WordGate(b"2000", lasting) for _ in range(3)]
        a, b, c = (
            member(number, gate=gate, clock_ms=lambda: now) for number, gate in enumerate(gates, 1)
        )
        async with a.swarm.running(), b.swarm.running(), c.swarm.running():
            await b.swarm.connect(a.address)
            await c.swarm.connect(a.address)
            await until(lambda: len(a.swarm.peers()) == 2)
            a.swarm.recheck()
            stream = await b.swarm.open(a.peer_id, "/test/echo")
            gates[0].word = gates[1].word = b"9000"
            await b.swarm.present()
            now = 3000
            a.swarm.recheck()
            await until(lambda: not a.sees(c))
            assert a.sees(b)
            assert [peer.verified for peer in a.swarm.peers()] == [b"9000"]
            await stream.send(b"the same connection")
            assert await stream.receive() == b"the same connection"

    run(main)


def test_a_member_that_renews_with_nothing_is_shown_out() -> None:
    async def main() -> None:
        a, b = member(1), member(2)
        async with a.swarm.running(), b.swarm.running():
            await b.swarm.connect(a.address)
            await until(lambda: a.sees(b))
            b.gate.word = b"barley"
            await b.swarm.present()
            await until(lambda: not a.sees(b))
            assert b.gate.told[-1][1].code == "gate.word"

    run(main)


def test_too_many_faults_shut_a_peer_out() -> None:
    async def main() -> None:
        a, b = member(1), member(2)
        async with a.swarm.running(), b.swarm.running():
            await b.swarm.connect(a.address)
            await until(lambda: a.sees(b))
            a.swarm.fault(b.peer_id, "test.trifle", 1)
            a.swarm.fault(b.peer_id, "test.attack", 100)
            await until(lambda: not a.sees(b) and not b.sees(a))
            assert await _code(b.swarm.connect(a.address)) == "network.faults"

    run(main)


def test_a_full_member_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(swarm_module, "MAX_PEERS", 1)

    async def main() -> None:
        a, b, c = member(1), member(2), member(3)
        async with a.swarm.running(), b.swarm.running(), c.swarm.running():
            await b.swarm.connect(a.address)
            assert await _code(c.swarm.connect(a.address)) == "network.full"
            assert a.sees(b)

    run(main)


def test_a_port_in_use_is_an_error_with_a_remedy() -> None:
    async def main() -> None:
        a = member(1)
        async with a.swarm.running():
            b = member(2, listen=a.address.split("/p2p/")[0])
            with pytest.raises(PermeshError) as caught:
                async with b.swarm.running():
                    raise AssertionError("two daemons on one port")
            assert caught.value.code == "network.port_in_use"
            assert "config.toml" in caught.value.remedy

    run(main)


@pytest.mark.parametrize(
    ("listen", "code"),
    [("0.0.0.0:9470", "network.address"), ("/ip4/192.0.2.1/tcp/0", "network.cannot_listen")],
)
def test_an_address_that_is_not_ours_is_an_error(listen: str, code: str) -> None:
    async def main() -> None:
        with pytest.raises(PermeshError) as caught:
            async with member(1, listen=listen).swarm.running():
                raise AssertionError("it listens")
        assert caught.value.code == code

    run(main)


def test_dialling_fails_with_what_to_do() -> None:
    async def main() -> None:
        a, b = member(1), member(2)
        async with a.swarm.running(), b.swarm.running():
            nowhere = f"/ip4/127.0.0.1/tcp/1/p2p/{a.peer_id}"
            assert await _code(b.swarm.connect(nowhere)) == "network.unreachable"
            other = f"{a.address.split('/p2p/')[0]}/p2p/{member(9).peer_id}"
            assert await _code(b.swarm.connect(other)) == "network.wrong_peer"
            assert await _code(b.swarm.connect("rubbish")) == "network.address"
        with pytest.raises(PermeshError, match="not an address"):
            member(3, bootstrap=("rubbish",))

    run(main)


def test_what_leaves_the_body_is_not_wrapped() -> None:
    async def main() -> None:
        with pytest.raises(KeyError, match="mine"):
            async with member(1).swarm.running():
                raise KeyError("mine")

    run(main)


def test_run_starts_and_stops_as_a_task() -> None:
    async def main() -> None:
        a = member(1)
        async with trio.open_nursery() as nursery:
            await nursery.start(a.swarm.run)
            assert a.swarm.addresses()
            nursery.cancel_scope.cancel()

    run(main)
