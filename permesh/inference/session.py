"""One answer through a ring, as two state machines: the asker's and a stage's.

Owns the order of messages, positions, windows, deadlines and limits. Does no I/O, reads no clock
and holds no tensors: the driver gives it what happened and carries out the actions it returns.

    asker                         stage (each)
    OPENING  ── Open ──────────►  OPENING    engine cache, lane to the next
             ◄── Opened / Fail ── RUNNING
    RUNNING  ── steps on the lane, each pushed on; the tail answers the asker
             ◄── Beat every second, both ways; Fail at any time
    OVER     ── Close ─────────►  OVER       cache freed, Closed with the totals

The stream's end is the session's end on either side. A stage that says nothing for
`STAGE_SILENCE_MS` ends the answer with an error that names it, so an asker never hangs; one that
beats but does not finish a step has `STEP_MS`.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from permesh.errors import PermeshError, Refused

from .messages import (
    Beat,
    Close,
    Closed,
    Control,
    Fail,
    Open,
    Opened,
    Step,
    Tensors,
    decode_step,
    plain,
)

TICK_MS = 1_000  # how often the driver calls tick(): also the pace of beats
OPEN_MS = 10_000  # for a stage to open, lanes included
STAGE_SILENCE_MS = 4_000  # checked once a tick, so noticed within 5 s
ASKER_SILENCE_MS = 15_000
STEP_MS = 60_000  # for one step, or chunk of 512 tokens, through the whole ring
IDLE_MS = 60_000  # without a step
BLAME_MS = 1_000  # a broken lane waits so long for its cause to show

MAX_SESSIONS = 32
MAX_SESSIONS_PER_PEER = 8
MAX_TOKENS = 32_768

# What a stage says when a neighbour's lane breaks; the asker then names the neighbour.
LOST_PREVIOUS = "lane.previous"
LOST_NEXT = "lane.next"


@dataclass(frozen=True, slots=True)
class Tell:
    """Send a control message; ``stage`` is its index at the asker, 0 at a stage."""

    message: Control
    stage: int = 0


@dataclass(frozen=True, slots=True)
class Forward:
    """Run this step through the engine, then call `computed`."""

    step: Step


@dataclass(frozen=True, slots=True)
class Push:
    """Send the step with its new activations onto the lane to the next."""

    step: Step


@dataclass(frozen=True, slots=True)
class End:
    """Free everything of this session; ``error`` is None when it ended as it should."""

    error: PermeshError | None = None


Action = Tell | Forward | Push | End


@dataclass(frozen=True, slots=True)
class Limits:
    """What a stage gives; refusals name the limit."""

    sessions: int = MAX_SESSIONS
    sessions_per_peer: int = MAX_SESSIONS_PER_PEER
    tokens: int = MAX_TOKENS


@dataclass(slots=True)
class StageSession:
    """One asker's part at this stage. ``peer_id`` is the asker, by the authenticated stream."""

    opening: Open
    peer_id: str
    now_ms: int
    phase: Literal["opening", "running", "over"] = "opening"
    length: int = 0  # positions that the caches hold
    steps: int = 0
    compute_us: int = 0
    computing: Step | None = None
    last_heard_ms: int = field(init=False)
    last_step_ms: int = field(init=False)

    def __post_init__(self) -> None:
        self.last_heard_ms = self.last_step_ms = self.now_ms

    def ready(self, window: int, lane: str, now_ms: int) -> list[Action]:
        """Caches are made and the lane to the next is up."""
        if self.phase != "opening":
            return []
        self.phase = "running"
        self.last_step_ms = now_ms
        return [Tell(Opened(min(window, self.opening.window), lane))]

    def step(self, header: bytes, payload_bytes: int, now_ms: int) -> list[Action]:
        """A frame from the previous member. A step may start at or before the cache's end."""
        if self.phase != "running":
            return self.fail("step.early", "A step came outside of the session.")
        try:
            step = decode_step(header, payload_bytes)
        except Refused as refusal:
            return self.fail(refusal.code, refusal.message)
        if self.computing is not None:
            return self.fail("step.order", "A step came before the last one was computed.")
        if step.start > self.length:
            return self.fail(
                "step.gap", f"A step starts at {step.start}, and the cache ends at {self.length}."
            )
        if step.start + step.rows > self.opening.max_tokens:
            return self.fail("step.too_long", "The answer is longer than the session allows.")
        self.computing = step
        self.last_step_ms = now_ms
        return [Forward(step)]

    def computed(self, tensors: Tensors, micros: int, now_ms: int) -> list[Action]:
        """The engine's answer to the last `Forward`: the same rows, one span later."""
        step, self.computing = self.computing, None
        if step is None or self.phase != "running":
            return []
        self.length = step.start + step.rows
        self.steps += 1
        self.compute_us += micros
        self.last_step_ms = now_ms
        return [Push(Step(step.number, step.start, tensors))]

    def control(self, message: Control, bytes_sent: int, now_ms: int) -> list[Action]:
        self.last_heard_ms = now_ms
        if isinstance(message, Beat):
            return []
        if isinstance(message, Close):
            return self._over([Tell(Closed(self.steps, self.compute_us, bytes_sent))])
        return self.fail("session.order", "The asker sent a message out of order.")

    def eof(self) -> list[Action]:
        return self._over([])

    def fail(self, code: str, message: str) -> list[Action]:
        """This stage cannot go on: told to the asker, then over."""
        return self._over([Tell(Fail(code, plain(message)))], Refused(code, message))

    def tick(self, now_ms: int) -> list[Action]:
        if self.phase == "over":
            return []
        if now_ms - self.last_heard_ms > ASKER_SILENCE_MS:
            return self.fail("session.asker_silent", "The asker was silent for too long.")
        if self.computing is None and now_ms - self.last_step_ms > IDLE_MS:
            return self.fail("session.idle", "The session was idle for too long.")
        return [Tell(Beat(self.steps))]

    def _over(self, last: list[Action], error: PermeshError | None = None) -> list[Action]:
        if self.phase == "over":
            return []
        self.phase = "over"
        return [*last, End(error)]


class StageTable:
    """The sessions that one stage holds, within its limits."""

    def __init__(self, limits: Limits = Limits()) -> None:
        self.limits = limits
        self._sessions: dict[bytes, StageSession] = {}

    def __len__(self) -> int:
        return len(self._sessions)

    def open(self, peer_id: str, opening: Open, now_ms: int) -> StageSession:
        """Admit a session; raises ``Refused`` when a limit is met or the id is taken."""
        if opening.session in self._sessions:
            raise Refused("stage.taken", "A session of that id is open.")
        if len(self._sessions) >= self.limits.sessions:
            raise Refused("stage.full", f"All {self.limits.sessions} sessions are taken.")
        counts = Counter(session.peer_id for session in self._sessions.values())
        if counts[peer_id] >= self.limits.sessions_per_peer:
            raise Refused(
                "stage.full", f"A member may hold {self.limits.sessions_per_peer} sessions here."
            )
        if opening.max_tokens > self.limits.tokens:
            raise Refused(
                "stage.too_long", f"A session here takes at most {self.limits.tokens} tokens."
            )
        session = StageSession(opening, peer_id, now_ms)
        self._sessions[opening.session] = session
        return session

    def count(self, revision: bytes) -> int:
        """Sessions of one model."""
        return sum(s.opening.revision == revision for s in self._sessions.values())

    def remove(self, session: StageSession) -> None:
        self._sessions.pop(session.opening.session, None)


class RingError(PermeshError):
    """The ring cannot answer; ``stage`` is the index of the stage at fault, if one is known."""

    def __init__(self, code: str, message: str, stage: int | None = None) -> None:
        super().__init__(code, message, "Ask again in a moment.", http_status=502)
        self.stage = stage


@dataclass(slots=True)
class StageView:
    """What the asker knows of one stage. ``label`` is how errors name it: 'birch (AGT-0002)'."""

    label: str
    heard_ms: int
    opened: bool = False
    window: int = 0
    lane: str = ""
    steps: int = 0
    totals: Closed | None = None
    gone: bool = False

    @property
    def done(self) -> bool:
        return self.gone or self.totals is not None


class AskerSession:
    """The asker's side of one answer, over stages in ring order."""

    def __init__(self, labels: Iterable[str], now_ms: int) -> None:
        self.stages = [StageView(label, now_ms) for label in labels]
        self.phase: Literal["opening", "running", "closing", "over"] = "opening"
        self.window = 1
        self._began_ms = now_ms
        self._under_way: deque[tuple[Step, int]] = deque()
        self._sent = 0
        self._broken: tuple[RingError, int] | None = None

    def control(self, index: int, message: Control, now_ms: int) -> list[Action]:
        """A stage's message; when the last stage has opened, the phase becomes "running"."""
        stage = self.stages[index]
        stage.heard_ms = now_ms
        if isinstance(message, Beat):
            stage.steps = message.steps
            return []
        if isinstance(message, Opened) and not stage.opened:
            stage.opened, stage.window, stage.lane = True, message.window, message.lane
            if self.phase == "opening" and all(other.opened for other in self.stages):
                self.phase = "running"
                self.window = min(other.window for other in self.stages)
            return []
        if isinstance(message, Fail):
            return self._failed(index, message, now_ms)
        if isinstance(message, Closed) and self.phase == "closing":
            stage.totals = message
            return self._closed()
        return self.wrong(index)

    def wrong(self, index: int) -> list[Action]:
        """The stage sent what is not a message, or not one that makes sense now."""
        return self._end(
            "stage.wrong", f"{self.stages[index].label} broke the session's protocol.", index
        )

    def push(self, start: int, tensors: Tensors, now_ms: int) -> Step:
        """The next step for the first stage; replies come back in the order of the steps."""
        step = Step(self._sent, start, tensors)
        self._sent += 1
        self._under_way.append((step, now_ms))
        return step

    def reply(self, header: bytes, payload_bytes: int) -> Step:
        """The tail's frame, which must answer the oldest step under way.

        Raises ``RingError`` naming the tail when it does not.
        """
        tail = len(self.stages) - 1
        try:
            step = decode_step(header, payload_bytes)
        except Refused as refusal:
            raise RingError(
                "stage.wrong", f"{self.stages[tail].label} sent an invalid answer.", tail
            ) from refusal
        due = self._under_way[0][0] if self._under_way else None
        if due is None or _place(due) != _place(step):
            raise RingError(
                "stage.wrong", f"{self.stages[tail].label} answered a step it was not sent.", tail
            )
        self._under_way.popleft()
        return step

    def eof(self, index: int) -> list[Action]:
        """The stage's control stream ended."""
        stage = self.stages[index]
        told, stage.gone = stage.gone, True
        if self.phase == "closing":
            return self._closed()
        if told:  # it ended because a neighbour did, and has said so
            return []
        return self._end("stage.lost", f"{stage.label} left in the middle of the answer.", index)

    def lane_broken(self, index: int, now_ms: int) -> list[Action]:
        """The lane into stage ``index`` broke; ``len(stages)`` is the asker's own.

        Which side is at fault shows within `BLAME_MS`, as a stream that ends; if not, the error
        names both.
        """
        if self._broken is None and self.phase in ("opening", "running"):
            names = ["you", *(stage.label for stage in self.stages), "you"]
            message = f"The connection between {names[index]} and {names[index + 1]} broke."
            nearest = min(index, len(self.stages) - 1)
            self._broken = (RingError("stage.lane", message, nearest), now_ms + BLAME_MS)
        return []

    def tick(self, now_ms: int) -> list[Action]:
        if self.phase == "over":
            return []
        for index, stage in enumerate(self.stages):
            late = not stage.opened and now_ms - self._began_ms > OPEN_MS
            if not stage.done and (late or now_ms - stage.heard_ms > STAGE_SILENCE_MS):
                return self._silent(index)
        if self._broken is not None and now_ms >= self._broken[1]:
            return self._over(self._broken[0])
        if self._under_way and now_ms - self._under_way[0][1] > STEP_MS:
            number = self._under_way[0][0].number
            done = [stage.steps > number for stage in self.stages]
            return self._silent(done.index(False) if False in done else len(done) - 1)
        return [Tell(Beat(0), index) for index in self._present()]

    def close(self) -> list[Action]:
        """The answer is complete: ask for the totals. `End` comes with the last of them."""
        if self.phase in ("closing", "over"):
            return []
        self.phase = "closing"
        self._under_way.clear()
        return [*(Tell(Close(), index) for index in self._present()), *self._closed()]

    def _present(self) -> list[int]:
        return [index for index, stage in enumerate(self.stages) if not stage.done]

    def _failed(self, index: int, fail: Fail, now_ms: int) -> list[Action]:
        stage = self.stages[index]
        if self.phase == "closing":
            stage.gone = True
            return self._closed()
        if fail.code in (LOST_PREVIOUS, LOST_NEXT):
            stage.gone = True
            return self.lane_broken(index + (fail.code == LOST_NEXT), now_ms)
        if self.phase == "opening":
            return self._end("stage.refused", f"{stage.label} refused: {fail.message}", index)
        return self._end("stage.failed", f"{stage.label} failed: {fail.message}", index)

    def _silent(self, index: int) -> list[Action]:
        if self.phase == "closing":
            return self._over(None)
        return self._end("stage.silent", f"{self.stages[index].label} stopped answering.", index)

    def _closed(self) -> list[Action]:
        return [] if self._present() else self._over(None)

    def _end(self, code: str, message: str, stage: int) -> list[Action]:
        return self._over(RingError(code, message, stage))

    def _over(self, error: PermeshError | None) -> list[Action]:
        if self.phase == "over":
            return []
        self.phase = "over"
        return [End(error)]


def _place(step: Step) -> tuple[int, int, int]:
    return step.number, step.start, step.rows
