"""The two state machines, by conversation and in a seeded simulation of whole answers."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from dataclasses import replace

import pytest

from permesh.errors import Refused
from permesh.inference.messages import (
    MAX_ROWS,
    Beat,
    Close,
    Closed,
    Control,
    Fail,
    Open,
    Opened,
    Step,
    decode_control,
    encode_control,
)
from permesh.inference.session import (
    ASKER_SILENCE_MS,
    BLAME_MS,
    IDLE_MS,
    LOST_NEXT,
    LOST_PREVIOUS,
    OPEN_MS,
    STAGE_SILENCE_MS,
    STEP_MS,
    TICK_MS,
    Action,
    AskerSession,
    End,
    Forward,
    Limits,
    Push,
    RingError,
    StageSession,
    StageTable,
    Tell,
)

WIDTH = 8
OPEN = Open(b"s" * 16, b"r" * 32, 6, 12, 100, 4, "asker", "next", b"n" * 16)


def tensors(rows: int) -> tuple[tuple[str, tuple[int, ...]], ...]:
    return (("float32", (1, rows, WIDTH)),)


def step(number: int, start: int, rows: int) -> Step:
    return Step(number, start, tensors(rows))


def running_stage() -> StageSession:
    stage = StageSession(OPEN, "asker", 0)
    assert stage.ready(8, "tls", 5) == [Tell(Opened(4, "tls"))]
    return stage


def take(stage: StageSession, number: int, start: int, rows: int, now_ms: int = 0) -> list[Action]:
    return stage.step(step(number, start, rows).encode(), rows * WIDTH * 4, now_ms)


def compute(stage: StageSession, number: int, start: int, rows: int) -> None:
    assert take(stage, number, start, rows) == [Forward(step(number, start, rows))]
    assert stage.computed(tensors(rows), 10, 0) == [Push(step(number, start, rows))]


def fail_code(actions: list[Action]) -> str:
    told, ended = actions
    assert isinstance(told, Tell)
    assert isinstance(told.message, Fail)
    assert isinstance(ended, End)
    assert ended.error is not None
    return told.message.code


# -- a stage


def test_a_stage_forwards_step_after_step_and_says_what_it_did() -> None:
    stage = running_stage()
    compute(stage, 0, 0, 40)
    compute(stage, 1, 40, 1)
    assert stage.length == 41
    assert stage.control(Close(), 1234, 0) == [Tell(Closed(2, 20, 1234)), End()]
    assert stage.eof() == []


def test_a_step_sent_again_is_computed_again_from_its_start() -> None:
    stage = running_stage()
    compute(stage, 0, 0, 40)
    compute(stage, 1, 40, 1)
    compute(stage, 2, 40, 1)
    assert stage.length == 41
    compute(stage, 3, 0, 10)  # a rollback to the very beginning
    assert stage.length == 10


@pytest.mark.parametrize(
    ("number", "start", "rows", "code"),
    [(0, 1, 1, "step.gap"), (0, 0, 101, "step.too_long"), (0, 2**32 - 1, 1, "step.gap")],
)
def test_positions_out_of_range_end_the_session(
    number: int, start: int, rows: int, code: str
) -> None:
    assert fail_code(take(running_stage(), number, start, rows)) == code


def test_a_step_before_the_last_one_is_done_or_before_the_opening_is_refused() -> None:
    stage = running_stage()
    take(stage, 0, 0, 4)
    assert fail_code(take(stage, 1, 4, 1)) == "step.order"
    assert fail_code(take(StageSession(OPEN, "asker", 0), 0, 0, 1)) == "step.early"


@pytest.mark.parametrize(
    ("header", "length", "code"),
    [
        (b"", 0, "step.header"),
        (step(0, 0, 1).encode()[:-1], 32, "step.header"),
        (step(0, 0, 1).encode() + b"\0", 32, "step.shape"),
        (b"\x02" + step(0, 0, 1).encode()[1:], 32, "step.header"),
        (step(0, 0, 1).encode(), 31, "step.shape"),
        (step(0, 0, MAX_ROWS + 1).encode(), 32 * (MAX_ROWS + 1), "step.shape"),
        (replace(step(0, 0, 1), tensors=(("float32", (2, 1, 4)),)).encode(), 32, "step.shape"),
        (replace(step(0, 0, 1), tensors=(("float32", (1, 1, 0)),)).encode(), 0, "step.shape"),
        (
            replace(step(0, 0, 1), tensors=(("float32", (1, 1, 2**31, 2**31)),)).encode(),
            2**64,
            "step.shape",
        ),
    ],
)
def test_headers_that_lie_are_refused(header: bytes, length: int, code: str) -> None:
    assert fail_code(running_stage().step(header, length, 0)) == code


def test_an_asker_that_is_silent_and_one_that_is_idle_lose_their_session() -> None:
    stage = running_stage()
    assert stage.tick(TICK_MS) == [Tell(Beat(0))]
    assert fail_code(stage.tick(ASKER_SILENCE_MS + 1)) == "session.asker_silent"
    stage = running_stage()
    for now in range(0, IDLE_MS, TICK_MS):
        stage.control(Beat(0), 0, now)
        assert stage.tick(now) == [Tell(Beat(0))]
    stage.control(Beat(0), 0, IDLE_MS + 6)
    assert fail_code(stage.tick(IDLE_MS + 6)) == "session.idle"


def test_a_long_computation_is_not_idleness() -> None:
    stage = running_stage()
    take(stage, 0, 0, 4)
    stage.control(Beat(0), 0, IDLE_MS * 2)
    assert stage.tick(IDLE_MS * 2) == [Tell(Beat(0))]


@pytest.mark.parametrize("message", [OPEN, Opened(1, "tls"), Fail("a", "b"), Closed(0, 0, 0)])
def test_messages_that_an_asker_never_sends_end_the_session(message: Control) -> None:
    assert fail_code(running_stage().control(message, 0, 0)) == "session.order"


def test_the_table_keeps_its_limits_through_ten_thousand_openings() -> None:
    table = StageTable(Limits(sessions=6, sessions_per_peer=4, tokens=100))

    def opening(number: int) -> Open:
        return replace(OPEN, session=number.to_bytes(16, "big"))

    refusals = 0
    kept = []
    for number in range(10_000):
        try:
            kept.append(table.open("greedy", opening(number), 0))
        except Refused as refusal:
            refusals += refusal.code == "stage.full"
    assert (len(table), refusals) == (4, 9_996)
    table.open("other", opening(20_000), 0)
    with pytest.raises(Refused, match="of that id"):
        table.open("third", opening(20_000), 0)
    with pytest.raises(Refused, match="at most 100 tokens"):
        table.open("third", replace(opening(20_001), max_tokens=101), 0)
    table.open("third", opening(20_001), 0)
    with pytest.raises(Refused, match="All 6 sessions"):
        table.open("fourth", opening(20_002), 0)
    assert table.count(b"r" * 32) == 6
    table.remove(kept[0])
    table.open("fourth", opening(20_002), 0)


# -- an asker


def opened_asker(stages: int = 2) -> AskerSession:
    asker = AskerSession([f"m{i}" for i in range(stages)], 0)
    for index in range(stages):
        assert asker.phase == "opening"
        assert asker.control(index, Opened(8 - index, "tls"), 10) == []
    assert asker.phase == "running"
    assert asker.window == 8 - (stages - 1)
    return asker


def ended(actions: list[Action]) -> RingError:
    [end] = actions
    assert isinstance(end, End)
    assert isinstance(end.error, RingError)
    return end.error


def test_replies_must_answer_the_steps_in_order() -> None:
    asker = opened_asker()
    first, second = asker.push(0, tensors(4), 0), asker.push(4, tensors(1), 0)
    assert asker.reply(first.encode(), 4 * WIDTH * 4) == first
    for wrong in (first, replace(second, start=5), replace(second, number=2)):
        with pytest.raises(RingError, match="m1 answered a step it was not sent") as error:
            asker.reply(wrong.encode(), wrong.rows * WIDTH * 4)
        assert error.value.stage == 1
    assert asker.reply(second.encode(), WIDTH * 4) == second
    with pytest.raises(RingError, match="m1 sent an invalid answer"):
        asker.reply(b"rubbish", 0)


def test_who_does_not_open_is_named_after_its_time() -> None:
    asker = AskerSession(["m0", "m1"], 0)
    for now in range(0, OPEN_MS + TICK_MS, TICK_MS):
        asker.control(0, Opened(1, "tls") if now == 0 else Beat(0), now)
        asker.control(1, Beat(0), now)
        assert all(isinstance(action, Tell) for action in asker.tick(now))
    assert str(ended(asker.tick(OPEN_MS + TICK_MS))).startswith("m1 stopped answering.")


def test_silence_loss_failure_and_disorder_name_their_stage() -> None:
    asker = opened_asker()
    asker.control(0, Beat(0), 9_000)
    asker.control(1, Beat(0), 9_000 - STAGE_SILENCE_MS - 1)
    error = ended(asker.tick(9_000))
    assert (error.code, error.stage) == ("stage.silent", 1)
    assert asker.tick(10_000) == []  # over, once and for all

    error = ended(opened_asker().eof(0))
    assert (error.code, error.stage) == ("stage.lost", 0)
    error = ended(opened_asker().control(1, Fail("engine.crashed", "The engine died."), 0))
    assert (error.code, error.stage) == ("stage.failed", 1)
    assert error.message == "m1 failed: The engine died."
    error = ended(AskerSession(["m0"], 0).control(0, Fail("stage.full", "No room."), 0))
    assert (error.code, error.message) == ("stage.refused", "m0 refused: No room.")
    for message in (Opened(1, "tls"), Closed(0, 0, 0), Close(), OPEN):
        assert ended(opened_asker().control(0, message, 0)).code == "stage.wrong"


def test_a_broken_lane_is_blamed_on_the_member_that_turns_out_gone() -> None:
    for code, innocent, gone in ((LOST_PREVIOUS, 1, 0), (LOST_NEXT, 0, 1)):
        asker = opened_asker()
        assert asker.control(innocent, Fail(code, ""), 20) == []
        assert asker.eof(innocent) == []  # its stream ends first, and that is not its fault
        assert ended(asker.eof(gone)).message == f"m{gone} left in the middle of the answer."
    asker = opened_asker()
    asker.control(1, Fail(LOST_PREVIOUS, ""), 20)
    assert ended(asker.tick(20 + BLAME_MS)).message == "The connection between m0 and m1 broke."
    asker = opened_asker()
    asker.lane_broken(2, 20)
    assert ended(asker.tick(20 + BLAME_MS)).message == "The connection between m1 and you broke."


def test_a_step_that_takes_for_ever_names_the_first_stage_that_has_not_done_it() -> None:
    asker = opened_asker()
    asker.push(0, tensors(1), 0)
    for now in range(0, STEP_MS + 1, TICK_MS):
        asker.control(0, Beat(1), now)
        asker.control(1, Beat(0), now)
        assert all(isinstance(action, Tell) for action in asker.tick(now))
    assert ended(asker.tick(STEP_MS + 1)).stage == 1


def test_closing_waits_for_every_total_but_not_for_the_dead() -> None:
    asker = opened_asker()
    assert asker.close() == [Tell(Close(), 0), Tell(Close(), 1)]
    assert asker.control(0, Closed(3, 4, 5), 0) == []
    assert asker.eof(0) == []
    assert asker.control(1, Beat(1), 0) == []
    assert asker.eof(1) == [End()]
    assert asker.stages[0].totals == Closed(3, 4, 5)
    assert asker.close() == []


# -- messages


@pytest.mark.parametrize(
    "message", [OPEN, Opened(8, "libp2p"), Fail("a.b", "why"), Beat(7), Close(), Closed(1, 2, 3)]
)
def test_control_messages_come_out_as_they_went_in(message: Control) -> None:
    assert decode_control(encode_control(message)) == message


@pytest.mark.parametrize(
    "change",
    [
        {"session": b"short"},
        {"revision": b"r" * 31},
        {"first": 0},
        {"first": 12},
        {"last": 5000},
        {"max_tokens": 0},
        {"max_tokens": 2**21},
        {"window": 9},
        {"window": True},
        {"next_peer": "../x"},
        {"previous_peer": "x" * 129},
    ],
)
def test_an_opening_out_of_range_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(Refused):
        decode_control(encode_control(replace(OPEN, **change)))  # type: ignore[arg-type]


def test_no_bytes_do_more_than_be_refused() -> None:
    rng = random.Random(3)
    whole = encode_control(OPEN)
    for _ in range(500):
        data = bytearray(whole)
        for _ in range(rng.randint(1, 6)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        try:
            decode_control(bytes(data))
        except Refused:
            continue
        assert encode_control(decode_control(bytes(data))) == bytes(data)


# -- whole answers, simulated


class Ring:
    """An asker and its stages in virtual time; `hurt` is done to one stage at one event."""

    def __init__(self, seed: int, stages: int, tokens: int) -> None:
        self.rng = random.Random(seed)
        self.now = 0
        self.tokens = tokens
        self.asker = AskerSession([f"m{i}" for i in range(stages)], 0)
        self.stages = [
            StageSession(replace(OPEN, session=bytes([i]) * 16, max_tokens=500), "asker", 0)
            for i in range(stages)
        ]
        self.dead: set[int] = set()
        self.frozen: set[int] = set()
        self.error: RingError | None = None
        self.asker_over_ms: int | None = None
        self.stage_over_ms: dict[int, int] = {}
        self.replies: list[int] = []
        self.events = 0
        self.lane_in: list[list[tuple[bytes, int]]] = [[] for _ in range(stages)]
        self._heap: list[tuple[int, int, Callable[[], None]]] = []
        self._count = 0
        self._last: dict[object, int] = {}
        self._next = 0

    def later(self, milliseconds: int, do: Callable[[], None], order: object = None) -> None:
        """Events with the same ``order`` keep theirs, as on a stream."""
        at = self.now + milliseconds
        if order is not None:
            at = self._last[order] = max(at, self._last.get(order, 0))
        self._count += 1
        heapq.heappush(self._heap, (at, self._count, do))

    def delay(self) -> int:
        return self.rng.randint(1, 30)

    def run(self, hurt_at: int = -1, hurt: Callable[[], None] = lambda: None) -> None:
        for index in range(len(self.stages)):
            self.later(self.delay(), lambda i=index: self.stage_opens(i))
            self.later(TICK_MS, lambda i=index: self.stage_ticks(i))
        self.later(TICK_MS, self.asker_ticks)
        while self._heap and self.now < 200_000:
            self.now, _, do = heapq.heappop(self._heap)
            self.events += 1
            if self.events == hurt_at:
                hurt()
            do()

    # the stages

    def alive(self, index: int) -> bool:
        return index not in self.dead and index not in self.frozen

    def stage_opens(self, index: int) -> None:
        if self.alive(index):
            self.stage_acts(index, self.stages[index].ready(8, "tls", self.now))

    def stage_ticks(self, index: int) -> None:
        stage = self.stages[index]
        if self.alive(index) and stage.phase != "over":
            self.stage_acts(index, stage.tick(self.now))
            self.later(TICK_MS, lambda: self.stage_ticks(index))

    def stage_acts(self, index: int, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case Tell(message):
                    self.later(
                        self.delay(), lambda m=message: self.asker_hears(index, m), ("up", index)
                    )
                case Forward(forwarded):
                    self.later(self.rng.randint(5, 40), lambda s=forwarded: self.done(index, s))
                case Push(pushed):
                    self.lane(index + 1, pushed)
                    self.feed(index)
                case End():
                    self.stage_over_ms[index] = self.now
                    self.later(self.delay(), lambda: self.asker_loses(index), ("up", index))

    def done(self, index: int, forwarded: Step) -> None:
        if self.alive(index):
            stage = self.stages[index]
            self.stage_acts(index, stage.computed(forwarded.tensors, 5, self.now))

    def lane(self, index: int, pushed: Step) -> None:
        size = pushed.rows * WIDTH * 4

        def arrive() -> None:
            if index == len(self.stages):
                self.asker_gets(pushed.encode(), size)
            else:
                self.lane_in[index].append((pushed.encode(), size))
                self.feed(index)

        self.later(self.delay(), arrive, ("lane", index))

    def feed(self, index: int) -> None:
        stage = self.stages[index]
        if self.alive(index) and stage.computing is None and self.lane_in[index]:
            header, size = self.lane_in[index].pop(0)
            self.stage_acts(index, stage.step(header, size, self.now))

    def stage_hears(self, index: int, message: Control) -> None:
        if self.alive(index) and self.stages[index].phase != "over":
            self.stage_acts(index, self.stages[index].control(message, 77, self.now))

    # the asker

    def asker_acts(self, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case Tell(message, index):
                    self.later(
                        self.delay(),
                        lambda i=index, m=message: self.stage_hears(i, m),
                        ("down", index),
                    )
                case End(error):
                    assert error is None or isinstance(error, RingError)
                    self.error = error
                    self.asker_over_ms = self.now
                    for index in range(len(self.stages)):
                        self.later(
                            self.delay(), lambda i=index: self.stage_loses(i), ("down", index)
                        )

    def asker_ticks(self) -> None:
        if self.asker.phase != "over":
            self.asker_acts(self.asker.tick(self.now))
            self.later(TICK_MS, self.asker_ticks)

    def asker_hears(self, index: int, message: Control) -> None:
        if self.asker.phase == "over":
            return
        before = self.asker.phase
        self.asker_acts(self.asker.control(index, message, self.now))
        if (before, self.asker.phase) == ("opening", "running"):
            self.push(40)  # the prompt: two chunks under way at once
            self.push(1)

    def push(self, rows: int) -> None:
        self.lane(0, self.asker.push(self._next, tensors(rows), self.now))
        self._next += rows

    def asker_gets(self, header: bytes, size: int) -> None:
        if self.asker.phase != "running":
            return
        self.replies.append(self.asker.reply(header, size).start)
        if len(self.replies) == self.tokens:
            self.asker_acts(self.asker.close())
        elif len(self.replies) > 1:
            self.push(1)

    def asker_loses(self, index: int) -> None:
        if self.asker.phase != "over":
            self.asker_acts(self.asker.eof(index))

    def stage_loses(self, index: int) -> None:
        if self.alive(index) and self.stages[index].phase != "over":
            self.stage_acts(index, self.stages[index].eof())

    # what happens to stages

    def kill(self, index: int) -> None:
        self.dead.add(index)
        self.later(self.delay(), lambda: self.asker_loses(index))
        if index + 1 < len(self.stages):
            self.later(self.delay(), lambda: self.lane_breaks(index + 1, LOST_PREVIOUS))
        if index > 0:
            self.later(self.delay(), lambda: self.lane_breaks(index - 1, LOST_NEXT))

    def lane_breaks(self, index: int, code: str) -> None:
        if self.alive(index):
            self.stage_acts(index, self.stages[index].fail(code, "A lane broke."))


def test_an_undisturbed_answer_is_complete() -> None:
    for seed in range(20):
        ring = Ring(seed, stages=1 + seed % 4, tokens=6)
        ring.run()
        assert ring.replies == [0, 40, 41, 42, 43, 44]
        assert ring.error is None
        assert ring.asker.phase == "over"
        assert [view.totals for view in ring.asker.stages] == [Closed(6, 30, 77)] * len(ring.stages)
        assert len(ring.stage_over_ms) == len(ring.stages)
        assert ring.now < 10_000


@pytest.mark.parametrize("how", ["kill", "freeze"])
def test_a_stage_lost_at_any_moment_ends_the_answer_in_time_and_by_name(how: str) -> None:
    whole = Ring(5, stages=3, tokens=6)
    whole.run()
    named = 0
    for index in range(3):
        for moment in range(1, whole.events):
            ring = Ring(5, stages=3, tokens=6)
            hurt_ms = 0

            def hurt(ring: Ring = ring, index: int = index) -> None:
                nonlocal hurt_ms
                hurt_ms = ring.now
                if how == "kill":
                    ring.kill(index)
                else:
                    ring.frozen.add(index)

            ring.run(moment, hurt)
            assert ring.asker_over_ms is not None
            assert ring.asker_over_ms - hurt_ms <= (5_000 if how == "freeze" else 1_000) + 100
            if ring.error is not None:
                assert ring.error.stage == index
                assert ring.error.message.startswith(f"m{index} ")
                named += 1
            for other, stage in enumerate(ring.stages):
                if other != index:
                    assert stage.phase == "over"
                    assert ring.stage_over_ms[other] - ring.asker_over_ms <= 100
    assert named > 100


def test_stages_free_everything_when_the_asker_freezes() -> None:
    ring = Ring(9, stages=2, tokens=400)

    def freeze() -> None:
        ring.asker.phase = "over"  # it neither ticks nor hears, and its streams stay up

    ring.run(40, freeze)
    assert all(stage.phase == "over" for stage in ring.stages)
    assert max(ring.stage_over_ms.values()) <= ASKER_SILENCE_MS + 3 * TICK_MS
