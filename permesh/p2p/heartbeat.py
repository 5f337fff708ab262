"""Whether an admitted peer is still there: libp2p would wait for a silent one for ever.

Owns the beat and the patience. Must never know what else the connection carries: any byte is a
sign of life, and the beat only makes sure that there is one.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

import trio

from permesh.errors import PermeshError

from .guards_host import MAX_UNREAD, Connection, PeerStream
from .wire import Framed

PROTOCOL = "/permesh/beat/1"
# Each side says every 4 s that it is there; after three times without a byte it is not. So a
# peer that hangs (SIGSTOP, a cable pulled) is noticed within 16 s of its last byte.
BEAT_S = 4.0
MISSED_BEATS = 3

logger = logging.getLogger(__name__)


async def beat(open_stream: Callable[[], Awaitable[Framed]]) -> None:
    """Send beats until cancelled; `watch` sees whether the connection lives."""
    stream: Framed | None = None
    while True:
        try:
            stream = stream or await open_stream()
            await stream.send(b"\x00", BEAT_S)
        except PermeshError:
            stream = None
        await trio.sleep(BEAT_S)


async def watch(connection: Connection) -> str:
    """Returns once the connection is of no more use, with the reason.

    It counts intervals rather than time: after a pause of our own (a laptop's lid) the peer has
    its chance to be heard.
    """
    seen, missed = 0, 0
    while not connection.is_closed:
        received = connection.socket.received
        missed = missed + 1 if received == seen else 0
        seen = received
        if missed >= MISSED_BEATS:
            return "it has fallen silent"
        if connection.unread() > MAX_UNREAD:
            return "it sends without heeding the windows"
        await trio.sleep(BEAT_S)
    return "its connection is closed"


async def serve(_: Connection, stream: PeerStream) -> None:
    """Take in a peer's beats."""
    while await stream.receive_some():
        pass
