"""Hostile gossip: what ends the library's host must not end ours.

Each guard is shown twice: the library alone still fails, so that the guard goes when it is no
longer needed; and with the guard the host lives and serves.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.custom_types import TProtocol
from libp2p.peer.id import ID
from libp2p.pubsub.gossipsub import PROTOCOL_ID_V11, GossipSub
from libp2p.pubsub.pb import rpc_pb2
from libp2p.pubsub.pubsub import SUBSCRIPTION_CHANNEL_SIZE, Pubsub
from libp2p.pubsub.rpc_queue import OutBoundQueueSize
from libp2p.tools.anyio_service import background_trio_service
from libp2p.utils import encode_varint_prefixed

from permesh.p2p.guards_pubsub import QUEUE

from .mesh import Member, gossips, member, run, until
from .plain import LISTEN, info, plain_host

TOPIC = "/permesh/test"
MESHSUB = "/meshsub/1.1.0"


def malformed() -> bytes:
    """A length, and as many bytes that are no protobuf."""
    return encode_varint_prefixed(b"\xff" * 50)


def bad_key() -> bytes:
    """A message whose source is not in its id, so that the key is decoded; it is no key."""
    message = rpc_pb2.Message(
        data=b"x",
        topicIDs=[TOPIC],
        from_id=b"\x12\x20" + bytes(32),
        seqno=b"12345678",
        key=b"\xff\xff",
        signature=b"x",
    )
    return encode_varint_prefixed(rpc_pb2.RPC(publish=[message]).SerializeToString())


@asynccontextmanager
async def two_plain_hosts() -> AsyncIterator[tuple[Any, Any, Pubsub]]:
    """The library without a guard: a dialler, and a host with gossip that it is connected to."""
    attacker, victim = plain_host(1), plain_host(2)
    router = GossipSub([PROTOCOL_ID_V11], 6, 4, 12, heartbeat_interval=1)
    pubsub = Pubsub(victim, router, strict_signing=True)
    async with (
        attacker.run(LISTEN),
        victim.run(LISTEN),
        background_trio_service(router),
        background_trio_service(pubsub),
    ):
        await pubsub.wait_until_ready()
        await pubsub.subscribe(TOPIC)
        await attacker.connect(info(str(victim.get_addrs()[0])))
        yield attacker, victim, pubsub


@pytest.mark.parametrize("hostile", [malformed, bad_key])
def test_the_library_alone_is_ended_by_a_message(hostile: Callable[[], bytes]) -> None:
    async def attack() -> None:
        async with two_plain_hosts() as (attacker, victim, _):
            stream = await attacker.new_stream(victim.get_id(), [TProtocol(MESHSUB)])
            await stream.write(hostile())
            await trio.sleep_forever()

    async def main() -> None:
        with pytest.raises(BaseExceptionGroup):
            await attack()

    run(main)


@asynccontextmanager
async def two_members() -> AsyncIterator[tuple[Member, Member, Callable[[bytes], Awaitable[None]]]]:
    """Two admitted members, and a way to send bytes over a gossip stream from the second."""
    victim, attacker = member(1), member(2)
    async with victim.swarm.running(), attacker.swarm.running():
        await attacker.swarm.connect(victim.address)
        await until(lambda: gossips(attacker, victim) and gossips(victim, attacker))
        connection = attacker.swarm.chosen(victim.peer_id)
        assert connection is not None
        stream = await attacker.swarm._host.open(connection, MESHSUB)
        yield victim, attacker, stream.send_all


async def lives(victim: Member, attacker: Member) -> None:
    stream = await attacker.swarm.open(victim.peer_id, "/test/echo")
    await stream.send(b"alive")
    assert await stream.receive() == b"alive"
    await attacker.swarm.publish(b"a message after it")
    await until(lambda: (attacker.peer_id, b"a message after it") in victim.messages)


@pytest.mark.parametrize("hostile", [malformed, bad_key])
def test_a_hostile_message_ends_nothing_and_is_a_fault(hostile: Callable[[], bytes]) -> None:
    async def main() -> None:
        async with two_members() as (victim, attacker, send):
            await send(hostile())
            await until(lambda: victim.swarm.faults["pubsub.malformed"] == 1)
            await lives(victim, attacker)

    run(main)


def test_random_bytes_on_a_gossip_stream_end_nothing() -> None:
    async def main() -> None:
        async with two_members() as (victim, attacker, send):
            for length in (b"\x80" * 11, b"\xff\xff\xff\x7f", b"\x05abc"):
                await send(length + bytes(range(256)))
            await lives(victim, attacker)

    run(main)


def signed(data: bytes, topics: list[str], key_seed: bytes = b"\x02" * 32) -> rpc_pb2.Message:
    keys = create_new_key_pair(key_seed)
    message = rpc_pb2.Message(
        data=data,
        topicIDs=topics,
        from_id=ID.from_pubkey(keys.public_key).to_bytes(),
        seqno=time.time_ns().to_bytes(8, "big"),
    )
    message.signature = keys.private_key.sign(b"libp2p-pubsub:" + message.SerializeToString())
    return message


def test_only_signed_messages_of_the_topic_and_within_the_limit_come_through() -> None:
    async def main() -> None:
        async with two_members() as (victim, attacker, send):
            forged = signed(b"forged", [TOPIC])
            forged.data = b"FORGED"
            unsigned = signed(b"unsigned", [TOPIC])
            unsigned.signature = b""
            for message in (
                forged,
                unsigned,
                signed(b"elsewhere", ["/other"]),
                signed(b"two topics", [TOPIC, "/other"]),
                signed(bytes(300_000), [TOPIC]),
                signed(b"in the victim's name", [TOPIC], b"\x01" * 32),
                signed(b"good", [TOPIC]),
            ):
                rpc = rpc_pb2.RPC(publish=[message])
                await send(encode_varint_prefixed(rpc.SerializeToString()))
            await until(lambda: victim.messages)
            assert victim.messages == [(attacker.peer_id, b"good")]
            assert victim.swarm.faults == {"pubsub.message": 3}

    run(main)


def test_control_messages_about_other_topics_leave_no_trace() -> None:
    """The library keeps a back-off for each topic that a PRUNE names, and dials the peers that
    it names, too."""

    async def main() -> None:
        async with two_members() as (victim, attacker, send):
            rpc = rpc_pb2.RPC()
            for index in range(100):
                prune = rpc.control.prune.add(topicID=f"/{index}", backoff=2**63)
                prune.peers.add(peerID=b"\x00" * 34)
                rpc.control.graft.add(topicID=f"/{index}")
                rpc.control.ihave.add(topicID=f"/{index}", messageIDs=[b"x"])
                rpc.subscriptions.add(subscribe=True, topicid=f"/{index}")
            await send(encode_varint_prefixed(rpc.SerializeToString()))
            await lives(victim, attacker)
            router: Any = victim.swarm._pubsub.router
            assert set(router.back_off) <= {TOPIC}
            assert set(victim.swarm._pubsub.peer_topics) == {TOPIC}
            assert set(router.graft_flood_tracking[ID.from_string(attacker.peer_id)]) <= {TOPIC}

    run(main)


def test_the_library_alone_reuses_the_ids_of_messages_after_a_quick_restart() -> None:
    async def main() -> None:
        host = plain_host(1)
        counters = [Pubsub(host, GossipSub([PROTOCOL_ID_V11], 6, 4, 12)).counter for _ in "ab"]
        assert counters[1] - counters[0] <= 1  # a second at most, however many were sent

    run(main)


def test_a_message_after_a_quick_restart_is_new() -> None:
    async def main() -> None:
        a = member(1)
        async with a.swarm.running():
            for start in range(2):
                b = member(2, bootstrap=(a.address,))
                async with b.swarm.running():
                    await until(lambda b=b: gossips(b, a))  # type: ignore[misc]
                    for index in range(30):
                        await b.swarm.publish(b"%d %d" % (start, index))
                    await until(lambda start=start: len(a.messages) == 30 * (start + 1))  # type: ignore[misc]
                await until(lambda: not a.swarm.peers())
            assert len({data for _, data in a.messages}) == 60

    run(main)


def test_the_library_alone_takes_ten_messages_a_second() -> None:
    async def main() -> None:
        async with two_plain_hosts() as (_, victim, pubsub):
            router: Any = pubsub.router
            message = signed(b"x", [TOPIC])
            taken = [router._check_spam_protection(victim.get_id(), message) for _ in range(30)]
            assert sum(taken) == 10

    run(main)


def test_a_burst_arrives_whole() -> None:
    """Past the limiter of ten a second, and the library's queues of 32."""
    assert OutBoundQueueSize == SUBSCRIPTION_CHANNEL_SIZE == 32

    async def main() -> None:
        async with two_members() as (victim, attacker, _):
            sent = [b"%d" % index for index in range(300)]
            for data in sent:
                await attacker.swarm._pubsub.send(data)
            queue = attacker.swarm._pubsub.peer_queues[ID.from_string(victim.peer_id)]
            assert queue._queue.max_size == QUEUE
            await until(lambda: len(victim.messages) == 300)
            assert [data for _, data in victim.messages] == sent

    run(main)


def test_a_broken_gossip_stream_is_opened_again_and_the_peer_need_not_subscribe_again() -> None:
    """The library forgets what a peer subscribed to when its own stream to it breaks; the peer,
    whose stream is well, does not say it again."""

    async def main() -> None:
        async with two_members() as (victim, other, _):
            stream = victim.swarm._pubsub.peers[ID.from_string(other.peer_id)]
            await stream.reset()
            await victim.swarm.publish(b"into the broken stream")
            await until(lambda: not gossips(victim, other))
            await until(lambda: gossips(victim, other))
            await victim.swarm.publish(b"into the new one")
            await until(lambda: (victim.peer_id, b"into the new one") in other.messages)

    run(main)


def test_gossip_is_closed_to_a_stranger_in_both_directions() -> None:
    """A plain host that has not been admitted may open identify, and no gossip stream; and
    nobody opens one to it."""

    async def main() -> None:
        victim, stranger = member(1), plain_host(9)
        opened: list[bytes] = []

        async def on_gossip(stream: Any) -> None:
            opened.append(await stream.read(1))

        stranger.set_stream_handler(TProtocol(MESHSUB), on_gossip)
        async with victim.swarm.running(), stranger.run(LISTEN):
            await stranger.connect(info(victim.address))
            identify = await stranger.new_stream(
                ID.from_string(victim.peer_id), [TProtocol("/ipfs/id/1.0.0")]
            )
            assert await identify.read(10)
            for protocol in (MESHSUB, "/test/echo", "/permesh/beat/1", "/ipfs/ping/1.0.0"):
                with pytest.raises(Exception, match="failed to open a stream"):
                    await stranger.new_stream(ID.from_string(victim.peer_id), [protocol])
            assert not opened
            assert not victim.swarm._pubsub.peers

    run(main)
