"""Whatever a request says, the engine refuses it and goes on."""

from __future__ import annotations

import math
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from permesh.errors import PermeshError, Refused
from permesh.inference.catalogue import ModelInfo
from permesh.inference.engine.protocol import MAX_FORWARD_TOKENS, MAX_SESSIONS

from . import tiny
from .desk import Desk, session

WIDTH = 32


@pytest.fixture(scope="module")
def info(tmp_path_factory: pytest.TempPathFactory) -> ModelInfo:
    return tiny.make(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def loaded(info: ModelInfo) -> Desk:
    desk = Desk()
    desk.load(info, 2, 4, ends=False)
    return desk


@pytest.fixture
def stage(loaded: Desk, info: ModelInfo) -> Desk:
    """A middle stage with one open session, session 1, of 40 positions."""
    loaded.operations.sessions.clear()
    open_stage(loaded, info, 1)
    return loaded


def open_stage(desk: Desk, info: ModelInfo, number: int, **changes: Any) -> None:
    fields = {"revision": info.revision, "first": 2, "last": 4, "max_tokens": 40, **changes}
    desk.ask("open", session=session(number), **fields)


def forward(desk: Desk, start: Any, count: int = 1, **changes: Any) -> dict[str, Any]:
    hidden = np.linspace(-1, 1, count * WIDTH, dtype=np.float32)
    fields: dict[str, Any] = {
        "session": session(1),
        "start": start,
        "tensors": [["float32", [1, count, WIDTH]]],
        "payload": hidden.tobytes(),
        **changes,
    }
    return desk.ask("forward", **fields)


def refused(desk: Desk, *args: Any, **changes: Any) -> str:
    with pytest.raises(PermeshError) as caught:
        forward(desk, *args, **changes)
    return caught.value.code


def test_a_stage_answers_with_the_same_shape(stage: Desk) -> None:
    answer = forward(stage, 0, 5)
    assert answer["tensors"] == [["float32", [1, 5, WIDTH]]]
    assert len(answer["payload"]) == 5 * WIDTH * 4
    assert answer["milliseconds"] > 0


def test_replaying_a_step_gives_the_same_answer(stage: Desk) -> None:
    forward(stage, 0, 5)
    once = forward(stage, 5)["payload"]
    forward(stage, 6, 3)
    assert forward(stage, 5)["payload"] == once  # trims four positions
    forward(stage, 0, 5)
    assert forward(stage, 5)["payload"] == once  # and from the start


def test_states_cannot_go_back_but_can_start_again(tmp_path: Path) -> None:
    info = tiny.make(tmp_path, "mamba")
    desk = Desk()
    desk.load(info, 2, 4, ends=False)
    open_stage(desk, info, 1)
    first = forward(desk, 0, 5)["payload"]
    forward(desk, 5)
    assert refused(desk, 3) == "position.no_return"
    assert forward(desk, 0, 5)["payload"] == first


@pytest.mark.parametrize("start", [1, -1, 2**70, 1.0, None, "0", True])
def test_positions_that_do_not_follow(stage: Desk, start: Any) -> None:
    assert refused(stage, start) == "position.out_of_range"
    forward(stage, 0)  # the session is as it was


def test_a_session_takes_no_more_than_it_was_opened_for(stage: Desk) -> None:
    assert refused(stage, 0, 41) == "session.full"
    forward(stage, 0, 40)
    assert refused(stage, 40) == "session.full"


@pytest.mark.parametrize(
    ("tensors", "code"),
    [
        ([["float32", [1, 1, WIDTH + 1]]], "activation.shape"),
        ([["float32", [2, 1, WIDTH]]], "activation.shape"),
        ([["float32", [1, 0, WIDTH]]], "activation.shape"),
        ([["float32", [1, -1, WIDTH]]], "activation.shape"),
        ([["float32", [1, 2**62, WIDTH]]], "activation.shape"),
        ([["float32", [1, MAX_FORWARD_TOKENS + 1, WIDTH]]], "activation.shape"),
        ([["float32", [WIDTH]]], "activation.shape"),
        ([["float32", "1"]], "activation.shape"),
        ([["float32", [1, 1, WIDTH]]] * 2, "activation.shape"),
        ([], "activation.shape"),
        (None, "activation.shape"),
        ([["float64", [1, 1, WIDTH]]], "activation.dtype"),
        ([["int32", [1, 1, WIDTH]]], "activation.dtype"),
        ([["O", [1, 1, WIDTH]]], "activation.dtype"),
        ([["float32", [1, 2, WIDTH]]], "activation.length"),
        ([["float16", [1, 1, WIDTH]]], "activation.length"),
    ],
)
def test_tensors_that_do_not_fit(stage: Desk, tensors: Any, code: str) -> None:
    assert refused(stage, 0, tensors=tensors) == code
    forward(stage, 0)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_numbers_that_are_not_finite(stage: Desk, bad: float, dtype: str) -> None:
    hidden = np.zeros((1, 3, WIDTH), np.float32)
    hidden[0, 1, 7] = bad
    if dtype == "bfloat16":
        payload = (hidden.view(np.uint32) >> 16).astype(np.uint16).tobytes()
    else:
        payload = hidden.astype(dtype).tobytes()
    changes = {"tensors": [[dtype, [1, 3, WIDTH]]], "payload": payload}
    assert refused(stage, 0, **changes) == "activation.not_finite"


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_a_neighbour_on_a_gpu_sends_half_precision(stage: Desk, dtype: str) -> None:
    hidden = np.linspace(-1, 1, WIDTH, dtype=np.float32)
    bits = (hidden.view(np.uint32) >> 16).astype(np.uint16)
    payload = bits if dtype == "bfloat16" else hidden.astype(np.float16)
    rough = forward(stage, 0, tensors=[[dtype, [1, 1, WIDTH]]], payload=payload.tobytes())[
        "payload"
    ]
    exact = forward(stage, 0)["payload"]
    assert np.allclose(np.frombuffer(rough, "f4"), np.frombuffer(exact, "f4"), atol=0.05)


def test_unknown_sessions_and_operations(stage: Desk) -> None:
    assert refused(stage, 0, session=session(2)) == "session.unknown"
    assert refused(stage, 0, session=[1]) == "engine.bad_request"
    for op in ("shutdown", "", None, ["load"], "__init__"):
        with pytest.raises(PermeshError) as caught:
            stage.ask(op)  # type: ignore[arg-type]
        assert caught.value.code == "engine.unknown_op"
    stage.ask("close", session=session(2))  # nothing to close is nothing wrong


def test_ten_thousand_opens(stage: Desk, info: ModelInfo) -> None:
    codes = []
    for number in range(10_000):
        try:
            open_stage(stage, info, number)
        except PermeshError as error:
            codes.append(error.code)
    assert len(stage.operations.sessions) == MAX_SESSIONS
    assert set(codes) == {"session.exists", "engine.too_many_sessions"}
    forward(stage, 0)  # who was there is served


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"first": 4, "last": 2}, "layers.out_of_range"),
        ({"first": 2, "last": 7}, "layers.out_of_range"),
        ({"first": -1}, "layers.out_of_range"),
        ({"first": "2"}, "layers.out_of_range"),
        ({"first": 3, "last": 5}, "layers.not_held"),
        ({"max_tokens": 0}, "session.too_long"),
        ({"max_tokens": 513}, "session.too_long"),
        ({"max_tokens": None}, "session.too_long"),
        ({"revision": "0" * 64}, "model.not_loaded"),
        ({"revision": []}, "engine.bad_request"),
        ({"session": "../../etc"}, "session.invalid"),
        ({"session": 7}, "session.invalid"),
    ],
)
def test_what_cannot_be_opened(
    stage: Desk, info: ModelInfo, changes: dict[str, Any], code: str
) -> None:
    fields = {
        "session": session(3), "revision": info.revision, "first": 2, "last": 4, "max_tokens": 8,
    }  # fmt: skip
    with pytest.raises(PermeshError) as caught:
        stage.ask("open", **{**fields, **changes})
    assert caught.value.code == code


def test_a_stage_holds_only_middle_layers(info: ModelInfo) -> None:
    desk = Desk()
    desk.load(info, 0, 6, ends=True)
    for first, last in ((0, 3), (3, 6)):
        with pytest.raises(Refused):
            open_stage(desk, info, 1, first=first, last=last)


def test_an_asker_and_a_stage_are_not_taken_for_each_other(info: ModelInfo, stage: Desk) -> None:
    with pytest.raises(Refused):
        stage.ask("ask_step", session=session(1))
    with pytest.raises(Refused):
        stage.ask("ask_prefill", session=session(1), chunk=0)
    desk = Desk()
    desk.load(info, 0, 6, ends=True)
    desk.ask("ask_open", session=session(1), revision=info.revision, split=[2, 4], prompt="abcdef")
    assert refused(desk, 0) == "session.wrong_kind"


def test_the_ring_owes_what_was_sent_and_nothing_else(info: ModelInfo) -> None:
    desk = Desk()
    desk.load(info, 0, 6, ends=True)
    name = session(1)
    desk.ask("ask_open", session=name, revision=info.revision, split=[2, 4], prompt="abcdef")
    moved = desk.ask("ask_prefill", session=name, chunk=0)
    for start, count in ((1, 5), (0, 4), (5, 1)):
        with pytest.raises(Refused) as caught:
            desk.ask(
                "ask_step", bytes(count * WIDTH * 4), session=name, start=start,
                tensors=[["float32", [1, count, WIDTH]]],
            )  # fmt: skip
        assert caught.value.code == "position.out_of_range"
    for chunk in (0, 2, True, "1", None):
        with pytest.raises(Refused):
            desk.ask("ask_prefill", session=name, chunk=chunk)
    step = desk.ask("ask_step", moved["payload"], session=name, start=0, tensors=moved["tensors"])
    assert step["token"] is None
    with pytest.raises(Refused):  # the same answer again
        desk.ask("ask_step", moved["payload"], session=name, start=0, tensors=moved["tensors"])


def test_unloading_closes_what_used_it(info: ModelInfo) -> None:
    desk = Desk()
    desk.load(info, 2, 4, ends=False)
    open_stage(desk, info, 1)
    assert desk.ask("unload", revision=info.revision) == {"weight_total": 0}
    assert refused(desk, 0) == "session.unknown"
    desk.ask("unload", revision=info.revision)


def test_a_computation_that_fails_ends_its_session_alone(stage: Desk, info: ModelInfo) -> None:
    open_stage(stage, info, 2)
    leg: Any = stage.operations.sessions[session(1)].work
    leg._caches = leg._caches[:1]  # what a fault in a model's own code might come to
    assert refused(stage, 0) == "model.cannot_split"
    assert refused(stage, 0) == "session.unknown"
    forward(stage, 0, session=session(2))


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=6,
)
OPERATIONS = ("open", "forward", "close", "ask_open", "ask_prefill", "ask_step", "unload")
FIELDS = (
    *("session", "start", "tensors", "first", "last", "max_tokens", "revision", "split"),
    *("messages", "prompt", "temperature", "stop", "chunk", "seed"),
)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    op=st.sampled_from(OPERATIONS),
    fields=st.dictionaries(st.sampled_from(FIELDS), values),
    payload=st.binary(max_size=200),
)
def test_nothing_but_a_refusal_leaves_an_operation(
    stage: Desk, op: str, fields: dict[str, Any], payload: bytes
) -> None:
    fields.setdefault("session", session(1))
    with suppress(PermeshError):
        stage.ask(op, payload, **fields)
    assert stage.ask("stats")["models"]


def test_a_session_whose_next_step_cannot_be_built_is_gone(
    stage: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any) -> None:
        raise ValueError("a model's own code")

    monkeypatch.setattr("permesh.inference.engine.stage.Leg.prepare", fails)
    forward(stage, 0)
    assert refused(stage, 1) == "session.unknown"
