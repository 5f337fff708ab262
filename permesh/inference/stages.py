"""This member as a stage in the answers of others: the driver of `StageSession`.

Owns the inbound session streams and the lanes of running sessions. Must never know what is
served or why: it asks ``allows``.

Each session has one task that reads its control stream and beats (`handle`), and one that moves
activations (`_pump`, in the task of the inbound lane): receive, one engine call, send.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import trio

from permesh.errors import PermeshError, Refused
from permesh.p2p.lanes import Lane, LaneLost, Lanes
from permesh.p2p.wire import Framed, at_most

from .doors import Doors
from .holdings import EngineLife
from .messages import (
    MAX_CONTROL_BYTES,
    MAX_STEP_BYTES,
    MAX_WINDOW,
    Fail,
    Open,
    check_tensors,
    decode_control,
    encode_control,
    plain,
)
from .session import (
    LOST_NEXT,
    LOST_PREVIOUS,
    OPEN_MS,
    TICK_MS,
    Action,
    End,
    Forward,
    Limits,
    Push,
    StageSession,
    StageTable,
    Tell,
)
from .supervisor import Engine

FORWARD_SECONDS = 50.0  # below the asker's `STEP_MS`, so that the stage can still say why
CLOSE_SECONDS = 5.0
# When an answer ends, neighbours close their lanes a moment before the asker's Close is read.
PARTING_SECONDS = 0.5

Allows = Callable[[str, int, int], None]
Ready = Callable[[str], Awaitable[None]]


@dataclass(slots=True, eq=False)
class _Live:
    session: StageSession
    stream: Framed
    engine: EngineLife | None = None  # since its caches are there
    onward: Lane | None = None
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)  # around the pump
    over: trio.Event = field(default_factory=trio.Event)

    @property
    def hex(self) -> str:
        return self.session.opening.session.hex()


class Stages:
    """Serves sessions to members, within ``limits``.

    ``allows(revision, first, last)`` raises ``Refused`` for layers that are not served;
    ``ready(revision)`` returns when the engine holds what is.
    """

    def __init__(
        self,
        *,
        engine: Engine,
        lanes: Lanes,
        doors: Doors,
        allows: Allows,
        ready: Ready,
        limits: Limits,
    ) -> None:
        self._engine = engine
        self._lanes = lanes
        self._doors = doors
        self._allows = allows
        self._ready = ready
        self._table = StageTable(limits)

    def sessions(self, revision: str) -> int:
        """How many sessions of a model are open."""
        return self._table.count(bytes.fromhex(revision))

    async def handle(self, peer_id: str, stream: Framed) -> None:
        """One inbound control stream, from `Open` to its end. Raises ``Refused`` for garbage."""
        stream.limit = MAX_CONTROL_BYTES
        opening = decode_control(await stream.receive(OPEN_MS / 1000))
        if not isinstance(opening, Open):
            raise Refused("session.order", "A session starts with Open.")
        try:
            self._allows(opening.revision.hex(), opening.first, opening.last)
            session = self._table.open(peer_id, opening, clock_ms())
        except Refused as refusal:
            with contextlib.suppress(PermeshError):
                await stream.send(encode_control(Fail(refusal.code, plain(refusal.message))))
            return
        live = _Live(session, stream)
        garbage: Refused | None = None
        try:
            garbage = await self._run(live)
        except Refused as refusal:  # the id is another session's door
            await self._act(live, session.fail(refusal.code, refusal.message))
        finally:
            live.scope.cancel()
            live.over.set()
            with at_most(CLOSE_SECONDS):
                await self._free(live)
            self._table.remove(session)
        if garbage is not None:
            raise garbage

    async def _run(self, live: _Live) -> Refused | None:
        async def pump(lane: Lane) -> None:
            with live.scope:
                await self._pump(live, lane)

        opening = live.session.opening
        with self._doors.expect(opening.session, opening.previous_peer, pump):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._prepare, live)
                garbage = await self._listen(live)
                nursery.cancel_scope.cancel()
        return garbage

    async def _prepare(self, live: _Live) -> None:
        """Caches here and the lane onward, then `Opened`."""
        opening = live.session.opening
        try:
            await self._ready(opening.revision.hex())
            live.engine = EngineLife(self._engine)
            await live.engine.call(
                "open",
                {
                    "session": live.hex,
                    "revision": opening.revision.hex(),
                    "first": opening.first,
                    "last": opening.last,
                    "max_tokens": opening.max_tokens,
                },
                deadline_s=OPEN_MS / 1000,
            )
            live.onward = await self._lanes.open(opening.next_peer, opening.next_session)
        except PermeshError as error:
            await self._act(live, live.session.fail(_code(error), error.message))
        else:
            await self._act(live, live.session.ready(MAX_WINDOW, live.onward.kind, clock_ms()))

    async def _listen(self, live: _Live) -> Refused | None:
        """Control messages, and a tick every `TICK_MS`, until the session is over.

        Gives the refusal of what was not a message.
        """
        session = live.session
        due = clock_ms() + TICK_MS
        while session.phase != "over":
            try:
                data = await live.stream.receive(max(due - clock_ms(), 0) / 1000)
                sent = live.onward.bytes_sent if live.onward else 0
                actions = session.control(decode_control(data), sent, clock_ms())
            except Refused as refusal:
                await self._act(live, session.fail(refusal.code, refusal.message))
                return refusal
            except PermeshError as error:
                actions = [] if error.code == "wire.silent" else session.eof()
            await self._act(live, actions)
            if clock_ms() >= due:
                due = clock_ms() + TICK_MS
                await self._act(live, session.tick(clock_ms()))
        return None

    async def _act(self, live: _Live, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case Tell(message):
                    # A stream that fails here is found broken by `_listen` as well.
                    with contextlib.suppress(PermeshError):
                        await live.stream.send(encode_control(message))
                case End():
                    live.scope.cancel()
                    live.over.set()
                    await live.stream.aclose()

    async def _pump(self, live: _Live, lane: Lane) -> None:
        """Activations in, through the engine, out: the path that every token takes."""
        try:
            actions = await self._flow(live, lane)
        except PermeshError as error:
            actions = live.session.fail(_code(error), error.message)
        await self._act(live, actions)

    async def _flow(self, live: _Live, lane: Lane) -> list[Action]:
        session = live.session
        while True:
            try:
                header, payload = await lane.receive(MAX_STEP_BYTES)
            except LaneLost:
                return await self._parted(live, LOST_PREVIOUS)
            actions = session.step(header, len(payload), clock_ms())
            if not (actions and isinstance(actions[0], Forward)):
                return actions  # nothing at all when the session had ended before the step came
            # Read here: the lane may have come in before the caches were there.
            assert live.engine is not None  # no session runs before it
            step = actions[0].step
            reply = await live.engine.call(
                "forward",
                {"session": live.hex, "start": step.start, "tensors": step.tensors},
                payload,
                deadline_s=FORWARD_SECONDS,
            )
            tensors = check_tensors(reply.fields["tensors"])
            micros = int(reply.fields["milliseconds"] * 1000)
            actions = session.computed(tensors, micros, clock_ms())
            if not actions or live.onward is None:
                return []
            assert isinstance(actions[0], Push)
            try:
                await live.onward.send(actions[0].step.encode(), reply.payload)
            except LaneLost:
                return await self._parted(live, LOST_NEXT)

    async def _parted(self, live: _Live, code: str) -> list[Action]:
        with trio.move_on_after(PARTING_SECONDS):
            await live.over.wait()
        return live.session.fail(code, "A lane to a neighbour broke.")

    async def _free(self, live: _Live) -> None:
        if live.onward is not None:
            await live.onward.aclose()
        if live.engine is not None and not live.engine.over:
            with contextlib.suppress(PermeshError):
                await live.engine.call("close", {"session": live.hex})


def clock_ms() -> int:
    """Milliseconds that only go forward: silence is measured by it, never by the wall clock."""
    return int(trio.current_time() * 1000)


def _code(error: PermeshError) -> str:
    """An error's code as a `Fail` carries it; the two of lanes mean what `_pump` says alone."""
    return "stage.lane" if error.code in (LOST_PREVIOUS, LOST_NEXT) else error.code
