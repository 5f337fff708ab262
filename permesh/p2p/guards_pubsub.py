"""Gossip that a peer cannot end, slow down or be silently cut off from.

Owns the one topic, its settings, its reading of hostile bytes, and who takes part (admitted peers
only). Must never know what a message holds: it hands over the bytes and who forwarded them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AsyncExitStack, asynccontextmanager
from contextvars import ContextVar
from typing import Any

from google.protobuf.message import DecodeError
from libp2p.abc import INetStream
from libp2p.network.exceptions import SwarmException
from libp2p.peer.id import ID
from libp2p.pubsub.gossipsub import PROTOCOL_ID_V11, GossipSub
from libp2p.pubsub.pb import rpc_pb2
from libp2p.pubsub.pubsub import Pubsub
from libp2p.pubsub.rpc_queue import RpcQueue
from libp2p.utils.varint import read_varint_prefixed_bytes_limited

from .guards import count_error, run_service
from .guards_host import GuardedHost

# One gossip message of records; larger ones are not published and not taken.
MAX_MESSAGE = 128 * 1024
# One protobuf on a pubsub stream: several messages, when a peer asked for them.
MAX_RPC = 1024 * 1024
# libp2p's queue of 32 per peer drops in silence: a burst of 200 reached 7 % of the peers.
QUEUE = 1024
# What a control message may hold that concerns us.
MAX_IDS = 1000
HEARTBEAT_S = 1
SEEN_S = 600

OnMessage = Callable[[str, bytes], None]


class GuardedPubsub(Pubsub):
    """One topic among admitted peers. ``deliver(forwarder's peer id, data)`` must not block.

    The reading loop is our own. The library's one ends the host on bytes that are no protobuf, on
    a bad ``key`` field and on an error in a validator; it starts a task for each message, so that
    order is lost and a flood has no limit; and it believes the addresses that a peer attaches.
    """

    host: GuardedHost

    def __init__(self, host: GuardedHost, topic: str, deliver: OnMessage) -> None:
        # IDONTWANT (v1.2) doubles the traffic of small messages; a limiter of 10 messages a
        # second would drop our own; the default heartbeat is two minutes.
        router = GossipSub(
            [PROTOCOL_ID_V11],
            6,
            4,
            12,
            heartbeat_interval=HEARTBEAT_S,
            gossip_window=10,
            gossip_history=30,
            spam_protection_enabled=False,
            adaptive_gossip_enabled=False,
            eclipse_protection_enabled=False,
        )
        known = list(_notifees(host))
        super().__init__(
            host,
            router,
            strict_signing=True,
            seen_ttl=SEEN_S,
            allowed_topics={topic},
            max_subscriptions_per_rpc=16,
            max_subscriptions_per_peer=1,
            max_inbound_rpc_size=MAX_RPC,
        )
        # The library attaches every connection as it comes up; `attach` does it on admission.
        _notifees(host)[:] = known
        # In seconds, as the library has it, a quick restart reuses the ids of messages that the
        # others have seen, and reaches nobody.
        self.counter = time.time_ns()
        self.peer_queues = _LongQueues()
        self.topic = topic
        self._deliver = deliver
        self._forwarder: ContextVar[ID | None] = ContextVar("forwarder", default=None)
        self._readers: dict[ID, INetStream] = {}

    @asynccontextmanager
    async def running(self) -> Any:
        """Run with its router, and be subscribed."""
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(run_service(self.router, self.host.errors))  # type: ignore[arg-type]
            await stack.enter_async_context(run_service(self, self.host.errors))
            await self.wait_until_ready()
            await self.subscribe(self.topic)
            yield

    async def send(self, data: bytes) -> None:
        """Sign and send to the topic. Returns when it is queued for the peers."""
        if len(data) > MAX_MESSAGE:
            raise ValueError(f"a gossip message has at most {MAX_MESSAGE} bytes")
        await self.publish(self.topic, data)

    def attach(self, peer_id: str) -> None:
        """Exchange messages with an admitted peer, on the connection that is chosen now."""
        peer = ID.from_string(peer_id)
        if peer not in self.peers:
            self._schedule_peer_stream_retry(peer)
        elif not self._is_on_chosen(peer):
            self._handle_dead_peer(peer)  # and, as it is connected, tries again

    def detach(self, peer_id: str) -> None:
        """The peer is gone."""
        self._handle_dead_peer(ID.from_string(peer_id))

    def _is_on_chosen(self, peer: ID) -> bool:
        chosen, stream = self.host.owner.chosen(str(peer)), self.peers.get(peer)
        return chosen is not None and stream is not None and chosen.carries(stream)

    # -- what the library calls

    async def _handle_new_peer(self, peer_id: ID) -> None:
        if self.host.owner.chosen(str(peer_id)) is None:
            return
        try:
            await super()._handle_new_peer(peer_id)
        except Exception as error:  # it tries again after this error alone
            raise SwarmException(f"pubsub cannot reach {peer_id}: {error!r}") from error
        if not self._is_on_chosen(peer_id):
            self._handle_dead_peer(peer_id)
            raise SwarmException(f"another connection to {peer_id} was chosen meanwhile")

    async def stream_handler(self, stream: INetStream) -> None:
        """Read a peer's messages until its stream ends; the newest stream of a peer counts."""
        peer_id = stream.muxed_conn.peer_id
        self._readers[peer_id] = stream
        try:
            await self.continuously_read_stream(stream)
        finally:
            # An older stream that ends late must not undo what the newer one said.
            if self._readers.get(peer_id) is stream:
                del self._readers[peer_id]
                self._forget_all_subscriptions(peer_id)

    def _forget_all_subscriptions(self, peer_id: ID) -> None:
        """Called whenever what we send breaks, too, but a subscription is not told twice."""
        if peer_id not in self._readers:
            super()._forget_all_subscriptions(peer_id)

    async def continuously_read_stream(self, stream: INetStream) -> None:
        peer_id = stream.muxed_conn.peer_id
        while True:
            try:
                data = await read_varint_prefixed_bytes_limited(stream, MAX_RPC)
            except Exception:  # the end, or a length beyond the limit
                await stream.reset()
                return
            try:
                await self._take(peer_id, data)
            except Exception as error:
                code = "pubsub.malformed" if isinstance(error, DecodeError) else "pubsub.error"
                self.host.owner.fault(str(peer_id), code, 20)
                count_error(self.host.errors, error, f"pubsub from {peer_id}")

    async def _take(self, peer_id: ID, data: bytes) -> None:
        rpc = rpc_pb2.RPC()
        rpc.ParseFromString(data)
        for subscription in rpc.subscriptions[: self.max_subscriptions_per_rpc]:
            self.handle_subscription(peer_id, subscription)
        for message in rpc.publish:
            if list(message.topicIDs) == [self.topic] and len(message.data) <= MAX_MESSAGE:
                await self.push_msg(peer_id, message)
            else:
                self.host.owner.fault(str(peer_id), "pubsub.message", 5)
        if rpc.HasField("control"):
            control = rpc_pb2.RPC(control=self._ours(rpc.control))
            await self.router.handle_rpc(control, peer_id)

    def _ours(self, control: rpc_pb2.ControlMessage) -> rpc_pb2.ControlMessage:
        """What concerns our topic, once: the router keeps state for each topic that it is told."""
        kept = rpc_pb2.ControlMessage()
        kept.graft.extend([item for item in control.graft if item.topicID == self.topic][:1])
        kept.prune.extend(
            [
                # Without the peers to dial instead, which a PRUNE may name.
                rpc_pb2.ControlPrune(topicID=self.topic, backoff=min(item.backoff, 3600))
                for item in control.prune
                if item.topicID == self.topic
            ][:1]
        )
        for ihave in [item for item in control.ihave if item.topicID == self.topic][:1]:
            kept.ihave.add(topicID=self.topic, messageIDs=ihave.messageIDs[:MAX_IDS])
        for iwant in control.iwant[:1]:
            kept.iwant.add(messageIDs=iwant.messageIDs[:MAX_IDS])
        return kept

    async def push_msg(self, msg_forwarder: ID, msg: rpc_pb2.Message) -> None:
        token = self._forwarder.set(msg_forwarder)
        try:
            await super().push_msg(msg_forwarder, msg)
        finally:
            self._forwarder.reset(token)

    def notify_subscriptions(self, publish_message: rpc_pb2.Message) -> None:
        """A new message with a good signature: straight to ``deliver``, past a queue of 32."""
        forwarder = self._forwarder.get()
        if forwarder is not None and forwarder != self.my_id:
            self._deliver(str(forwarder), publish_message.data)


class _LongQueues(dict[ID, RpcQueue]):
    def __setitem__(self, peer_id: ID, queue: RpcQueue) -> None:
        queue._queue.max_size = QUEUE
        super().__setitem__(peer_id, queue)


def _notifees(host: GuardedHost) -> list[Any]:
    notifees: list[Any] = host.get_network().notifees  # type: ignore[attr-defined]
    return notifees
