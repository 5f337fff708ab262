"""This member as the asker of one answer through a ring: the driver of `AskerSession`.

Owns the control streams to the stages, the lane to the first and the lane from the last. Must
never know how the chain was chosen or what becomes of the text.

Every wait of the caller is within `_guarded`: when the session ends with an error, whatever is
being waited for is cancelled and that error raised. The decode path is one task: a frame from the
tail, one engine call, a frame to the first stage.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import trio

from permesh.errors import PermeshError, Refused
from permesh.p2p.lanes import Lane, LaneLost, Lanes
from permesh.p2p.wire import Framed

from .doors import Doors
from .holdings import EngineLife
from .messages import (
    MAX_CONTROL_BYTES,
    MAX_STEP_BYTES,
    MAX_WINDOW,
    PROTOCOL,
    SESSION_BYTES,
    Control,
    Open,
    check_tensors,
    decode_control,
    encode_control,
)
from .plan import Chain
from .session import BLAME_MS, OPEN_MS, TICK_MS, Action, AskerSession, End, RingError, Tell
from .stages import clock_ms
from .supervisor import Reply
from .surroundings import Member, Surroundings

CLOSE_SECONDS = 1.5  # for the stages' totals; without them the answer is shown all the same

# How the engine refuses what the tail sent: the asker's own part of the call is never wrong.
_INPUT_CODES = ("activation.", "position.")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class StageTotals:
    """What one stage came to: of its lane onward, and of its own computing."""

    member: Member
    first: int
    last: int
    lane: str
    bytes_sent: int
    milliseconds: float


class Ring:
    """One answer's ring. `run` in a nursery, which brings it up; then, once the engine has its
    `ask_open`, `open`, `prefill`, `turn` …, and `close` or `abandon`."""

    def __init__(
        self,
        *,
        engine: EngineLife,
        lanes: Lanes,
        doors: Doors,
        surroundings: Surroundings,
        chain: Chain,
        members: Sequence[Member],
        revision: str,
        engine_session: str,
    ) -> None:
        self.chain = chain
        self.session = AskerSession([member.label for member in members], clock_ms())
        self.onward: Lane | None = None
        self.milliseconds = 0.0  # that this member's engine has spent on the answer
        self._engine = engine
        self._lanes = lanes
        self._doors = doors
        self._surroundings = surroundings
        self._members = members
        self._revision = bytes.fromhex(revision)
        self._engine_session = engine_session
        self._ids = [secrets.token_bytes(SESSION_BYTES) for _ in range(len(members) + 1)]
        self._streams: dict[int, Framed] = {}
        self._inward: Lane | None = None
        self._error: PermeshError | None = None
        self._waiting: trio.CancelScope | None = None
        self._connected = trio.Event()  # every stage is open, and both our lanes are up
        self._first: Reply | None = None  # the first chunk of the prompt, ready to go
        self._over = trio.Event()
        self._done = trio.Event()
        self._nursery: trio.Nursery | None = None

    # -- the session's life

    async def run(self, max_tokens: int) -> None:
        """Keep the control streams until `abandon`, or the end of the session. Never raises."""
        tail = self.chain.legs[-1].peer_id
        try:
            with self._doors.expect(self._ids[-1], tail, self._arrived):
                async with trio.open_nursery() as nursery:
                    self._nursery = nursery
                    nursery.start_soon(self._tick)
                    nursery.start_soon(self._reach_first)
                    for index in range(len(self._members)):
                        nursery.start_soon(self._talk, index, max_tokens)
                    await self._done.wait()
                    nursery.cancel_scope.cancel()
        finally:
            self._nursery = None
            for stream in self._streams.values():
                await stream.aclose()
            for lane in (self.onward, self._inward):
                if lane is not None:
                    await lane.aclose()

    async def _tick(self) -> None:
        while True:
            await trio.sleep(TICK_MS / 1000)
            self._act(self.session.tick(clock_ms()))

    async def _talk(self, index: int, max_tokens: int) -> None:
        """The control stream to one stage."""
        try:
            peer_id = self.chain.legs[index].peer_id
            with trio.fail_after(OPEN_MS / 1000):
                stream = await self._surroundings.open_stream(peer_id, PROTOCOL)
            stream.limit = MAX_CONTROL_BYTES
            self._streams[index] = stream
            await stream.send(encode_control(self._opening(index, max_tokens)))
            while True:
                message = decode_control(await stream.receive(None))
                self._act(self.session.control(index, message, clock_ms()))
                self._check_connected()
        except Refused:
            self._act(self.session.wrong(index))
        except (PermeshError, trio.TooSlowError):
            self._act(self.session.eof(index))

    def _opening(self, index: int, max_tokens: int) -> Open:
        legs, own = self.chain.legs, self._surroundings.peer_id
        return Open(
            session=self._ids[index],
            revision=self._revision,
            first=legs[index].first,
            last=legs[index].last,
            max_tokens=max_tokens,
            window=MAX_WINDOW,
            previous_peer=legs[index - 1].peer_id if index else own,
            next_peer=legs[index + 1].peer_id if index + 1 < len(legs) else own,
            next_session=self._ids[index + 1],
        )

    async def _reach_first(self) -> None:
        try:
            self.onward = await self._lanes.open(self.chain.legs[0].peer_id, self._ids[0])
        except PermeshError:
            self._act(self.session.lane_broken(0, clock_ms()))
        self._check_connected()

    async def _arrived(self, lane: Lane) -> None:
        self._inward = lane
        self._check_connected()
        await lane.closed.wait()

    def _check_connected(self) -> None:
        lanes = self.onward is not None and self._inward is not None
        if lanes and self.session.phase == "running":
            self._connected.set()

    def _act(self, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case Tell(message, stage):
                    if self._nursery is not None and stage in self._streams:
                        self._nursery.start_soon(self._tell, self._streams[stage], message)
                case End(error):
                    self._over.set()
                    if error is not None:
                        self._fail(error)

    async def _tell(self, stream: Framed, message: Control) -> None:
        with contextlib.suppress(PermeshError):  # its reader finds out as well
            await stream.send(encode_control(message))

    def _fail(self, error: PermeshError) -> None:
        if self._error is None:
            self._error = error
        if self._waiting is not None:
            self._waiting.cancel()

    # -- the caller's waits

    async def _guarded(self, operation: Callable[[], Awaitable[T]]) -> T:
        if self._error is None:
            with trio.CancelScope() as self._waiting:
                return await operation()
        assert self._error is not None
        raise self._error

    async def open(self) -> None:
        """Compute the prompt's first chunk while the ring comes up, and return when every stage
        is ready; raises ``PermeshError``."""
        await self._guarded(self._open)

    async def _open(self) -> None:
        self._first = await self._call("ask_prefill", {"chunk": 0})
        await self._connected.wait()

    async def prefill(self, chunks: int) -> dict[str, Any]:
        """Send the prompt through the ring, chunk after chunk, as many under way at once as the
        stages agreed to; gives the first token (see the engine's `ask_step`)."""
        return await self._guarded(lambda: self._prefill(chunks))

    async def _prefill(self, chunks: int) -> dict[str, Any]:
        assert self._first is not None  # from `open`
        await self._push(self._first)
        if chunks == 1:
            return await self._turn()
        room = trio.Semaphore(self.session.window - 1)
        fields: dict[str, Any] = {}
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._feed, chunks, room)
            try:
                for _ in range(chunks):
                    fields = await self._turn()
                    room.release()
            except PermeshError as error:
                self._fail(error)
                await trio.sleep_forever()
        return fields

    async def _feed(self, chunks: int, room: trio.Semaphore) -> None:
        try:
            for chunk in range(1, chunks):
                await room.acquire()
                await self._push(await self._call("ask_prefill", {"chunk": chunk}))
        except PermeshError as error:
            self._fail(error)

    async def turn(self) -> dict[str, Any]:
        """The next token; what follows from it is already on its way round the ring."""
        return await self._guarded(self._turn)

    async def _turn(self) -> dict[str, Any]:
        assert self._inward is not None
        try:
            header, payload = await self._inward.receive(MAX_STEP_BYTES)
        except LaneLost as lost:
            await self._broken(len(self._members), lost)
        except Refused as refusal:
            raise self._tail_is_wrong(refusal) from refusal
        step = self.session.reply(header, len(payload))
        try:
            reply = await self._call(
                "ask_step", {"start": step.start, "tensors": step.tensors}, payload
            )
        except PermeshError as error:
            if error.code.startswith(_INPUT_CODES):
                raise self._tail_is_wrong(error) from error
            raise
        if len(reply.payload):
            await self._push(reply)
        return reply.fields

    def _tail_is_wrong(self, why: PermeshError) -> RingError:
        tail = len(self._members) - 1
        message = f"{self._members[tail].label} sent an invalid answer: {why.message}"
        return RingError("stage.wrong", message, tail)

    async def _call(
        self, op: str, fields: dict[str, Any], payload: bytes | memoryview = b""
    ) -> Reply:
        reply = await self._engine.call(op, {"session": self._engine_session, **fields}, payload)
        self.milliseconds += reply.fields["milliseconds"]
        return reply

    async def _push(self, reply: Reply) -> None:
        assert self.onward is not None
        fields = reply.fields
        step = self.session.push(fields["start"], check_tensors(fields["tensors"]), clock_ms())
        try:
            await self.onward.send(step.encode(), reply.payload)
        except LaneLost as lost:
            await self._broken(0, lost)

    async def _broken(self, index: int, error: PermeshError) -> None:
        """Wait for the session to say who is at fault; raises in any case."""
        self._act(self.session.lane_broken(index, clock_ms()))
        await trio.sleep((BLAME_MS + 2 * TICK_MS) / 1000)
        raise error

    # -- the end

    async def close(self) -> list[StageTotals]:
        """End a complete answer and hear what each stage did; ring order."""
        self._act(self.session.close())
        with trio.move_on_after(CLOSE_SECONDS):
            await self._over.wait()
        self.abandon()
        return [
            StageTotals(
                member,
                leg.first,
                leg.last,
                view.lane,
                view.totals.bytes_sent if view.totals else 0,
                view.totals.compute_us / 1000 if view.totals else 0.0,
            )
            for member, leg, view in zip(
                self._members, self.chain.legs, self.session.stages, strict=True
            )
        ]

    def abandon(self) -> None:
        """Let everything go; the end of its stream tells each stage."""
        self._done.set()
