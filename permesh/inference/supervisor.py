"""The daemon's end of the model engine: starts the subprocess, keeps it up, calls it.

Owns the process and the order of its calls. Must never import MLX, nor know what a session is to
the mesh. The engine's operations are listed in `engine/protocol.py`.
"""

from __future__ import annotations

import math
import os
import signal
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import trio

from permesh.errors import PermeshError
from permesh.inference.engine.protocol import Deframer, encode_prefix

if TYPE_CHECKING:
    from trio_typing import TaskStatus  # what the stubs of trio call it

START_SECONDS = 90.0  # importing mlx-lm takes 3 s here, and much longer from a cold disk
CALL_SECONDS = 120.0  # for a call that names no deadline
# An operation that takes longer than this is stuck, and the engine is killed. Loading or testing
# a large model reads it from disk, which is why those two may take long.
STUCK_SECONDS = 300.0
STUCK_SECONDS_LONG = 3600.0
WATCH_SECONDS = 5.0  # between two looks at whether it is
LONG_OPERATIONS = frozenset({"load", "self_test"})
MAX_PENDING = 256  # calls that wait for an answer; more means that nobody takes them
FIRST_BACKOFF_SECONDS = 0.2
MAX_BACKOFF_SECONDS = 30.0
HEALTHY_SECONDS = 60.0  # a life this long starts the backoff afresh
MAX_LAST_WORDS = 4096  # bytes of stderr kept to say why an engine died


Phase = Literal["stopped", "starting", "ready", "failed"]


@dataclass(frozen=True, slots=True)
class EngineState:
    """What `status` shows; field for field `schema.Engine`."""

    state: Phase = "stopped"
    pid: int = 0
    restarts: int = 0
    backend: str = ""  # "cpu (mkl)", "metal", "cuda"
    weight_bytes: int = 0
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Reply:
    """An operation's answer: its fields and its tensors' bytes."""

    fields: dict[str, Any]
    payload: memoryview


@dataclass(slots=True, eq=False)
class _Call:
    number: int
    op: str
    prefix: bytes
    payload: bytes | memoryview
    done: trio.Event = field(default_factory=trio.Event)
    reply: Reply | None = None
    error: PermeshError | None = None


class Engine:
    """One engine process, restarted when it dies. Start `run` in a nursery, then `call`.

    The process starts with the first call and lives until `run` is cancelled. When it dies, every
    pending call raises ``engine.crashed`` at once, and what was loaded and open is gone:
    `on_state` tells, and `state.restarts` counts.
    """

    def __init__(self, on_state: Callable[[EngineState], None] | None = None) -> None:
        self.state = EngineState()
        self._on_state = on_state
        self._wanted = trio.Event()
        self._settled = trio.Event()  # set when a start has succeeded or failed
        self._outbox: trio.MemorySendChannel[_Call] | None = None
        self._inflight: deque[_Call] = deque()
        self._oldest_since = math.inf  # when the head of `_inflight` came to be computed
        self._number = 0

    async def run(self, *, task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep the engine up for ever; cancel to stop it."""
        task_status.started()
        backoff = FIRST_BACKOFF_SECONDS
        try:
            await self._wanted.wait()
            while True:
                born = trio.current_time()
                self._set("starting")
                why = await self._one_life()
                if trio.current_time() - born > HEALTHY_SECONDS:
                    backoff = FIRST_BACKOFF_SECONDS
                # Calls wait for an engine that comes back, and not for one that never came up.
                state: Phase = "starting" if self.state.state == "ready" else "failed"
                restarts = self.state.restarts + 1
                self._set(state, pid=0, weight_bytes=0, restarts=restarts, detail=why)
                await trio.sleep(backoff)
                backoff = min(2 * backoff, MAX_BACKOFF_SECONDS)
        finally:
            self._fail_pending("engine.stopped", "The model engine was stopped.", "")
            self._set("stopped", pid=0, weight_bytes=0)

    async def call(
        self,
        op: str,
        fields: Mapping[str, Any] | None = None,
        payload: bytes | memoryview = b"",
        *,
        deadline_s: float = CALL_SECONDS,
    ) -> Reply:
        """Do one operation; ``payload`` must stay as it is until this returns.

        Raises ``PermeshError`` with the engine's own code when it refuses, ``engine.crashed`` when
        it dies, ``engine.timeout`` after ``deadline_s`` (the engine still finishes the operation).
        """
        self._wanted.set()
        self._number += 1
        message = {**(fields or {}), "id": self._number, "op": op}
        call = _Call(self._number, op, encode_prefix(message, len(payload)), payload)
        with trio.move_on_after(deadline_s):
            await self._ready()
            self._submit(call)
            await call.done.wait()
        if call.error is not None:
            raise call.error
        if call.reply is None:
            raise PermeshError(
                "engine.timeout",
                f"The model engine did not answer '{op}' within {deadline_s:g} s.",
                "Try again when this machine is less busy.",
                http_status=504,
            )
        return call.reply

    async def _ready(self) -> None:
        while self.state.state != "ready":
            await self._settled.wait()
            if self.state.state == "stopped":
                raise PermeshError("engine.stopped", "The model engine was stopped.")
            if self.state.state == "failed":
                raise PermeshError(
                    "engine.failed",
                    f"The model engine does not start: {self.state.detail}",
                    "See: permesh doctor",
                    http_status=503,
                )

    def _submit(self, call: _Call) -> None:
        if self._outbox is None or len(self._inflight) >= MAX_PENDING:
            raise PermeshError(
                "engine.busy",
                f"The model engine has {len(self._inflight)} operations waiting.",
                "Try again in a moment.",
                http_status=503,
            )
        if not self._inflight:
            self._oldest_since = trio.current_time()
        self._inflight.append(call)
        self._outbox.send_nowait(call)  # never full: it is as long as `_inflight` may be

    async def _one_life(self) -> str:
        """Start a process, serve it until it dies; says in a few words why it did."""
        ours, theirs = socket.socketpair()
        with trio.socket.from_stdlib_socket(ours) as link:
            try:
                process = await trio.lowlevel.open_process(
                    [sys.executable, "-m", "permesh.inference.engine", str(theirs.fileno())],
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                    # Ctrl-C is for the daemon, which then closes the socket.
                    start_new_session=True,
                    env={**os.environ, "PYTHONUNBUFFERED": "1"},
                )
            except OSError as error:
                return f"cannot start {sys.executable}: {error.strerror}"
            finally:
                theirs.close()
            return await self._attend(process, link)

    async def _attend(self, process: trio.Process, link: trio.socket.SocketType) -> str:
        words = bytearray()
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._collect_words, process, words)
                nursery.start_soon(self._watch, process)
                send, receive = trio.open_memory_channel[_Call](MAX_PENDING)
                nursery.start_soon(self._write, link, receive)
                await self._read(process, link, send)
                with trio.move_on_after(1):
                    await process.wait()
                nursery.cancel_scope.cancel()
        finally:
            self._outbox = None
            if process.returncode is None:
                process.kill()
            with trio.CancelScope(shield=True):
                await process.wait()
            why = _cause_of_death(process.returncode, words)
            self._fail_pending(
                "engine.crashed",
                f"The model engine stopped unexpectedly ({why}).",
                "It restarts by itself; ask again.",
            )
        return why

    async def _read(
        self,
        process: trio.Process,
        link: trio.socket.SocketType,
        outbox: trio.MemorySendChannel[_Call],
    ) -> None:
        """Take replies until the engine closes its end."""
        frames = Deframer()
        try:
            with trio.move_on_after(START_SECONDS) as starting:
                while count := await link.recv_into(frames.buffer()):
                    frames.received(count)
                    while (frame := frames.next_frame()) is not None:
                        if starting.deadline != math.inf:
                            starting.deadline = math.inf
                            self._outbox = outbox
                            backend = str(frame[0].get("backend", ""))
                            self._set("ready", pid=process.pid, backend=backend, detail="")
                        else:
                            self._accept(*frame)
        except (OSError, ValueError, IndexError):
            return  # the other end is gone or speaks nonsense; either way this life is over

    def _accept(self, fields: dict[str, Any], payload: memoryview) -> None:
        call = self._inflight.popleft()
        self._oldest_since = trio.current_time()
        if fields.pop("id", None) != call.number:
            raise ValueError("a reply out of order")
        if fields.pop("ok", False):
            if "weight_total" in fields:
                self._note_weight(fields.pop("weight_total"))
            call.reply = Reply(fields, payload)
        else:
            call.error = PermeshError(
                str(fields.get("code", "engine.error")),
                str(fields.get("message", "The model engine refused.")),
                str(fields.get("remedy", "")),
                http_status=int(fields.get("http_status", 400)),
            )
        call.done.set()

    async def _write(
        self, link: trio.socket.SocketType, calls: trio.MemoryReceiveChannel[_Call]
    ) -> None:
        stream = trio.SocketStream(link)
        try:
            async for call in calls:
                await stream.send_all(call.prefix)
                if call.payload:
                    await stream.send_all(call.payload)
        except trio.BrokenResourceError:
            return  # the reader sees the end as well, and tells

    async def _collect_words(self, process: trio.Process, words: bytearray) -> None:
        assert process.stderr is not None
        async for chunk in process.stderr:
            words += chunk
            del words[:-MAX_LAST_WORDS]

    async def _watch(self, process: trio.Process) -> None:
        """Kill an engine that has been on one operation for too long."""
        while True:
            await trio.sleep(WATCH_SECONDS)
            if not self._inflight:
                continue
            long = self._inflight[0].op in LONG_OPERATIONS
            limit = STUCK_SECONDS_LONG if long else STUCK_SECONDS
            if trio.current_time() - self._oldest_since > limit:
                process.kill()

    def _fail_pending(self, code: str, message: str, remedy: str) -> None:
        while self._inflight:
            call = self._inflight.popleft()
            call.error = PermeshError(code, message, remedy, http_status=503)
            call.done.set()

    def _note_weight(self, weight_bytes: int) -> None:
        if weight_bytes != self.state.weight_bytes:
            self._set(self.state.state, weight_bytes=weight_bytes)

    def _set(self, state: Phase, **other: Any) -> None:
        self.state = replace(self.state, state=state, **other)
        if state == "starting":
            if self._settled.is_set():
                self._settled = trio.Event()
        else:
            self._settled.set()
        if self._on_state is not None:
            self._on_state(self.state)


def _cause_of_death(returncode: int | None, words: bytearray) -> str:
    if returncode is not None and returncode < 0:
        cause = f"signal {signal.Signals(-returncode).name}"
    else:
        cause = f"exit status {returncode}"
    lines = words.decode("utf-8", "replace").strip().splitlines()
    return f"{cause}: {lines[-1][:300]}" if lines else cause
