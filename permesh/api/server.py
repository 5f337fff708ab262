"""Runs the API on its socket, with hypercorn's HTTP protocol on trio.

Owns the listener's life and the promise that nothing said on the socket, and no reader that stops
reading, can harm the daemon. Must never know what a path means.

hypercorn's own ``serve`` opens its listeners itself: it can neither ask the kernel who connected
nor put a deadline on a write, which it shields from cancellation. So its ``TCPServer``, which is
one connection, is driven from here by a listener of ours.
"""

from __future__ import annotations

import logging
import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, cast

import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.events import Event, Updated
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ASGIFramework, ConnectionState

from permesh.config import Home
from permesh.node import Node

from .app import STREAMED, build_app
from .guard import Guard
from .unix import SEND_SECONDS, GuardedStream, PeerListener, bind_socket

if TYPE_CHECKING:
    from trio_typing import TaskStatus  # what the stubs of trio call it

log = logging.getLogger(__name__)

# A request line with its headers; far above what any client sends.
MAX_HEADER_BYTES = 16 * 1024
# Between two requests, and until the first one is complete: a half-sent header holds no longer.
IDLE_SECONDS = 30.0


class _Connection(TCPServer):
    """One connection; unlike hypercorn's own it ends when its client closes it.

    There, the idle timer keeps the task and the file until it runs out: a hundred short commands
    in a row would use up the limit on connections.
    """

    _over = False

    async def _read_data(self) -> None:
        await super()._read_data()
        self._over = True
        await self.idle_task.stop()

    async def protocol_send(self, event: Event) -> None:
        if not (self._over and isinstance(event, Updated)):  # which would start the timer again
            await super().protocol_send(event)


async def serve_api(
    node: Node,
    home: Home,
    *,
    uid: int | None = None,
    send_seconds: float = SEND_SECONDS,
    task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until cancelled; ``started`` means that a connection would be answered.

    Raises ``PermeshError`` when the socket cannot be had. ``uid`` is who may connect (by default
    the user who runs this), ``send_seconds`` how long a reader may stall.
    """
    home.check_socket_path()
    listening = bind_socket(home.socket)
    inode = home.socket.lstat().st_ino
    listener = PeerListener(listening, os.geteuid() if uid is None else uid, send_seconds)
    serve_one = partial(_serve_one, _protocol(node), listener)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(trio.serve_listeners, serve_one, [listener]))
            nursery.start_soon(_close_when_cancelled, listener)
            task_status.started()
    finally:
        listening.close()
        _remove_own(home.socket, inode)


def _protocol(node: Node) -> partial[_Connection]:
    config = Config()
    config.errorlog = log
    config.keep_alive_timeout = IDLE_SECONDS
    config.h11_max_incomplete_size = MAX_HEADER_BYTES
    config.include_server_header = False
    app = ASGIWrapper(cast(ASGIFramework, Guard(build_app(node), STREAMED)))
    return partial(_Connection, app, config, WorkerContext(None), ConnectionState({}))


async def _serve_one(
    protocol: partial[_Connection], listener: PeerListener, stream: GuardedStream
) -> None:
    try:
        await protocol(stream)
    except Exception:
        # Bytes that the HTTP library did not foresee end their connection, not the daemon.
        log.exception("a connection on the socket failed")
    finally:
        listener.release(stream)


async def _close_when_cancelled(listener: PeerListener) -> None:
    """Let no shielded write delay the daemon's end."""
    try:
        await trio.sleep_forever()
    finally:
        for stream in listener.live:
            stream.close()


def _remove_own(path: Path, inode: int) -> None:
    """Another daemon may have bound the path meanwhile; its socket is left alone."""
    try:
        if path.lstat().st_ino == inode:
            path.unlink()
    except FileNotFoundError:
        pass
