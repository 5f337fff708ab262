"""The engine's loop: a frame in, an operation, a frame out, for ever.

Owns the socket and the process. One thread does all MLX work, since MLX's streams belong to
threads; a second one only waits for the parent to go.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import threading
from typing import TYPE_CHECKING, Any

from permesh.errors import PermeshError
from permesh.inference.engine.blas import load_blas
from permesh.inference.engine.protocol import Deframer, encode_prefix

if TYPE_CHECKING:
    from permesh.inference.engine.operations import Operations

# MLX keeps freed memory for reuse; this much serves decoding, and more is held for nothing.
MLX_CACHE_BYTES = 256 * 1024 * 1024
JOIN_BYTES = 64 * 1024  # a reply up to this is sent in one piece
YIELD_SECONDS = 0.002
# The models are here; nothing below may go and look for more, nor for advice.
OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
    "TOKENIZERS_PARALLELISM": "false",
}


def serve(link: socket.socket, operations: Operations) -> None:
    """Answer frames until the other end closes."""
    frames = Deframer()
    _send(link, {"id": 0, "ok": True, "backend": operations.backend, "pid": os.getpid()}, [])
    while count := link.recv_into(frames.buffer()):
        frames.received(count)
        while (frame := frames.next_frame()) is not None:
            fields, payload = frame
            number = fields.pop("id", None)
            try:
                answer, buffers = operations.do(fields, payload)
                _send(link, {"ok": True, **answer, "id": number}, buffers)
            except PermeshError as error:
                _send(link, {**_problem(error), "id": number}, [])
        # Whoever reads the answer was woken on this core, so it goes first: without the pause it
        # waited 1.4 ms for what is built ahead. A request that comes in goes first as well.
        if not select.select([link], [], [], YIELD_SECONDS)[0]:
            operations.prepare()


def _problem(error: PermeshError) -> dict[str, Any]:
    return {
        "ok": False,
        "code": error.code,
        "message": error.message,
        "remedy": error.remedy,
        "http_status": error.http_status,
    }


def _send(link: socket.socket, fields: dict[str, Any], buffers: list[memoryview]) -> None:
    size = sum(len(buffer) for buffer in buffers)
    prefix = encode_prefix(fields, size)
    if size <= JOIN_BYTES:
        link.sendall(b"".join((prefix, *buffers)))
        return
    link.sendall(prefix)
    for buffer in buffers:
        link.sendall(buffer)


def _leave_with_parent(link: socket.socket) -> None:
    """End the process as soon as the other end is gone, whatever is being computed."""
    poll = select.poll()
    poll.register(link, 0)  # nothing but hang-ups
    poll.poll()
    os._exit(0)


def main(descriptor: int) -> int:
    """Run the engine on an open socket, given by its number."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which then hangs up
    link = socket.socket(fileno=descriptor)
    threading.Thread(target=_leave_with_parent, args=(link,), daemon=True).start()
    os.environ.update(OFFLINE)
    blas = load_blas()
    # These import MLX, which takes the BLAS that is loaded by then.
    import mlx.core as mx

    from permesh.inference.engine.operations import Operations

    mx.set_cache_limit(MLX_CACHE_BYTES)
    try:
        serve(link, Operations(blas.name))
    except (OSError, ValueError) as error:
        print(f"the daemon hung up: {error}", file=sys.stderr)
    finally:
        # A process that keeps streams at its exit aborts in every second run.
        mx.clear_streams()
    return 0
