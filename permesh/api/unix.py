"""The Unix socket: how it is bound, who may connect, and how long a reader may stall.

Owns the file in the home and the streams on it. Must never know what is said on them.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
import stat
import struct
import sys
from pathlib import Path

import trio

from permesh.errors import PermeshError

log = logging.getLogger(__name__)

# More than any set of faces and agents of one person; each connection costs some 100 KiB.
MAX_CONNECTIONS = 128
BACKLOG = MAX_CONNECTIONS  # a Unix socket refuses to connect while its backlog is full
# A reader that takes nothing for this long is dropped. The kernel holds ~200 KiB for it before.
SEND_SECONDS = 10.0
# Long enough for a daemon that is busy: a stale socket refuses at once.
PROBE_SECONDS = 1.0

_MACOS_SOL_LOCAL = 0
_MACOS_LOCAL_PEERCRED = 1
_MACOS_XUCRED_BYTES = 76


def bind_socket(path: Path) -> socket.socket:
    """Listen on ``path``, mode 0600 from the first instant.

    The umask does it, since a chmod after the bind leaves a moment in which anybody may connect.
    A socket that nobody answers on is the leftover of a daemon that died, and is replaced.
    Raises ``PermeshError`` when another daemon answers or something else is at that path.
    """
    _remove_stale(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        before = os.umask(0o177)
        try:
            listener.bind(str(path))
        finally:
            os.umask(before)
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise PermeshError(
            "socket.unusable",
            f"The socket {path} cannot be opened: {error.strerror or error}.",
            "Check that the home exists, is yours, and is on a local disk with room.",
        ) from error
    return listener


def _remove_stale(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise PermeshError(
            "socket.occupied",
            f"{path} is not a socket.",
            "Move it away: permesh needs that path for its own socket.",
        )
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(PROBE_SECONDS)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            path.unlink(missing_ok=True)
            return
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.ETIMEDOUT) and not isinstance(
                error, TimeoutError
            ):
                raise PermeshError(
                    "socket.unusable",
                    f"The socket {path} cannot be opened: {error.strerror or error}.",
                    "Remove it if no daemon of yours uses it.",
                ) from error
    raise PermeshError(
        "daemon.running",
        "A daemon is already running on this home.",
        "Use it, stop it, or choose another home: permesh --home DIR COMMAND",
    )


def peer_uid(connection: socket.socket | trio.socket.SocketType) -> int:
    """The user id of the process that connected, as the kernel knows it."""
    if sys.platform == "darwin":
        raw = connection.getsockopt(_MACOS_SOL_LOCAL, _MACOS_LOCAL_PEERCRED, _MACOS_XUCRED_BYTES)
        _version, uid = struct.unpack_from("=II", raw)
        return int(uid)
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    _pid, uid, _gid = struct.unpack("3i", raw)
    return int(uid)


class GuardedStream(trio.abc.AsyncResource):
    """A connection whose writes have a deadline, since the HTTP server shields them from ours.

    Without it, one reader that never reads would hold its task, and the daemon's end, for ever.
    Has what hypercorn's ``TCPServer`` uses of a ``trio.SocketStream``.
    """

    def __init__(self, stream: trio.SocketStream, send_seconds: float) -> None:
        self._stream = stream
        self._send_seconds = send_seconds
        self.socket = stream.socket

    async def send_all(self, data: bytes) -> None:
        with trio.move_on_after(self._send_seconds) as scope:
            await self._stream.send_all(data)
        if scope.cancelled_caught:
            self.close()
            raise trio.BrokenResourceError("the reader took nothing until the deadline")

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        return bytes(await self._stream.receive_some(max_bytes))

    async def send_eof(self) -> None:
        await self._stream.send_eof()

    async def aclose(self) -> None:
        self.close()
        await trio.lowlevel.checkpoint()

    def close(self) -> None:
        """Close at once; whoever waits on the stream wakes with ``ClosedResourceError``."""
        self.socket.close()


class PeerListener(trio.abc.Listener[GuardedStream]):
    """Accepts connections of one user only, and no more than ``MAX_CONNECTIONS`` of them.

    ``live`` holds each from its acceptance until whoever handles it calls ``release``.
    """

    def __init__(self, listening: socket.socket, uid: int, send_seconds: float) -> None:
        self._inner = trio.SocketListener(trio.socket.from_stdlib_socket(listening))
        self._uid = uid
        self._send_seconds = send_seconds
        self.live: set[GuardedStream] = set()

    async def accept(self) -> GuardedStream:
        while True:
            accepted = await self._inner.accept()
            stream = GuardedStream(accepted, self._send_seconds)
            if self._welcome(stream):
                self.live.add(stream)
                return stream
            stream.close()

    def release(self, stream: GuardedStream) -> None:
        self.live.discard(stream)
        stream.close()

    def _welcome(self, stream: GuardedStream) -> bool:
        try:
            uid = peer_uid(stream.socket)
        except (OSError, struct.error):
            log.warning("refused a connection on the socket whose user is unknown")
            return False
        if uid != self._uid:
            log.warning("refused a connection on the socket by user id %d", uid)
            return False
        if len(self.live) >= MAX_CONNECTIONS:
            log.warning("refused a connection: %d are open already", len(self.live))
            return False
        return True

    async def aclose(self) -> None:
        await self._inner.aclose()
