"""What a ring answers is what mlx-lm answers in one process, token for token."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from mlx_lm.generate import stream_generate
from mlx_lm.sample_utils import make_sampler
from mlx_lm.utils import load

from permesh.errors import PermeshError
from permesh.inference.catalogue import ModelInfo
from permesh.inference.engine import asker

from . import tiny
from .desk import Desk, Ring, session, text, token_ids

MESSAGES = [{"role": "user", "content": "tell me something about nothing at all"}]
LONG = [{"role": "user", "content": "abc" * 60}]


@pytest.fixture(scope="module")
def info(tmp_path_factory: pytest.TempPathFactory) -> ModelInfo:
    return tiny.make(tmp_path_factory.mktemp("models"), "gemma3_text")


@pytest.fixture(scope="module")
def ring(info: ModelInfo) -> Ring:
    return Ring(info)


@pytest.fixture(scope="module")
def local(info: ModelInfo) -> Desk:
    desk = Desk()
    desk.load(info, 0, 6, ends=True)
    return desk


def plain(info: ModelInfo, messages: Any, count: int, seed: int | None = None) -> tuple[Any, str]:
    """Token ids and text by mlx-lm alone."""
    model, tokenizer = load(str(info.path))
    prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True)
    sampler = None
    if seed is not None:
        mx.random.seed(seed)
        sampler = make_sampler(temp=0.9, top_p=0.8)
    answers = list(
        stream_generate(
            model,
            tokenizer,
            prompt,
            max_tokens=count,
            sampler=sampler,
            prefill_step_size=asker.PREFILL_CHUNK,
        )
    )
    return [answer.token for answer in answers], "".join(answer.text for answer in answers)


def answer_locally(desk: Desk, info: ModelInfo, number: int, **asked: Any) -> list[dict[str, Any]]:
    name = session(number)
    opened = desk.ask("ask_open", session=name, revision=info.revision, split=None, **asked)
    for chunk in range(len(opened["chunks"])):
        assert "payload" not in desk.ask("ask_prefill", session=name, chunk=chunk)
    steps = [desk.ask("ask_step", session=name)]
    while steps[-1]["finish_reason"] is None:
        steps.append(desk.ask("ask_step", session=name))
    desk.ask("ask_close", session=name)
    return steps


@pytest.mark.parametrize("messages", [MESSAGES, LONG])
def test_greedy(
    ring: Ring, local: Desk, info: ModelInfo, messages: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Small chunks, so that a prompt has several.
    monkeypatch.setattr(asker, "PREFILL_CHUNK", 64)
    expected = plain(info, messages, 40)
    asked = {"messages": messages, "temperature": 0, "max_tokens": 40}
    split = ring.answer(**asked)
    whole = answer_locally(local, info, 2, **asked)
    assert (token_ids(split), text(split)) == expected
    assert (token_ids(whole), text(whole)) == expected
    assert split[-1]["finish_reason"] == "length"


def test_a_seed_gives_mlx_lms_own_draw(ring: Ring, local: Desk, info: ModelInfo) -> None:
    asked = {"messages": MESSAGES, "temperature": 0.9, "top_p": 0.8, "max_tokens": 20}
    expected, _ = plain(info, MESSAGES, 20, seed=11)
    assert token_ids(ring.answer(seed=11, **asked)) == expected
    assert token_ids(answer_locally(local, info, 3, seed=11, **asked)) == expected
    assert token_ids(ring.answer(seed=12, **asked)) != expected
    # Without a seed, two answers differ: 20 draws from hundreds of tokens.
    assert token_ids(ring.answer(**asked)) != token_ids(ring.answer(**asked))


def test_sessions_do_not_draw_from_each_other(local: Desk, info: ModelInfo) -> None:
    asked = {"messages": MESSAGES, "temperature": 1.0, "max_tokens": 10}
    alone = token_ids(answer_locally(local, info, 4, seed=5, **asked))
    names = [session(5), session(6)]
    for seed, name in zip((5, 6), names, strict=True):
        opened = local.ask(
            "ask_open", session=name, revision=info.revision, split=None, seed=seed, **asked
        )
        for chunk in range(len(opened["chunks"])):
            local.ask("ask_prefill", session=name, chunk=chunk)
    together: list[list[int]] = [[], []]
    for _ in range(10):
        for tokens, name in zip(together, names, strict=True):
            tokens.append(local.ask("ask_step", session=name)["token"])
    for name in names:
        local.ask("ask_close", session=name)
    assert together[0] == alone
    assert together[1] != alone


def test_a_stop_string_ends_an_answer_and_never_shows(ring: Ring, info: ModelInfo) -> None:
    _, whole = plain(info, MESSAGES, 40)
    stop = whole[15:19]
    asked = {"messages": MESSAGES, "temperature": 0, "max_tokens": 40}
    steps = ring.answer(stop=[stop], **asked)
    assert text(steps) == whole[: whole.find(stop)]
    assert steps[-1]["finish_reason"] == "stop"


def test_the_end_token_ends_an_answer(tmp_path: Path) -> None:
    info = tiny.make(tmp_path)
    expected, _ = plain(info, MESSAGES, 10)
    config = info.path / "config.json"
    settings = json.loads(config.read_text())
    config.write_text(json.dumps({**settings, "eos_token_id": expected[3]}))
    steps = Ring(info).answer(messages=MESSAGES, temperature=0, max_tokens=10)
    ended = expected.index(expected[3])
    assert token_ids(steps) == expected[: ended + 1]
    assert steps[-1]["finish_reason"] == "stop"
    assert "payload" not in steps[-1]


def test_each_step_says_how_likely_its_token_was(ring: Ring) -> None:
    steps = ring.answer(messages=MESSAGES, temperature=0, max_tokens=3)
    assert all(-20 < step["logprob"] < 0 for step in steps)


def test_the_context_bounds_an_answer(local: Desk, info: ModelInfo) -> None:
    asked = {"revision": info.revision, "split": None, "temperature": 0, "max_tokens": 500}
    opened = local.ask("ask_open", session=session(7), messages=LONG, **asked)
    assert opened["max_tokens"] == 512 - opened["prompt_tokens"]
    local.ask("ask_close", session=session(7))
    with pytest.raises(PermeshError) as refused:
        local.ask("ask_open", session=session(7), prompt="x" * 600, **asked)
    assert refused.value.code == "prompt.too_long"


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"messages": []}, "prompt.invalid"),
        ({"messages": [{"role": "user"}]}, "prompt.invalid"),
        ({"messages": None, "prompt": None}, "prompt.invalid"),
        ({"prompt": ""}, "prompt.invalid"),
        ({"temperature": float("nan")}, "sampling.invalid"),
        ({"temperature": -1}, "sampling.invalid"),
        ({"top_p": 2}, "sampling.invalid"),
        ({"seed": "x"}, "sampling.invalid"),
        ({"max_tokens": 0}, "sampling.invalid"),
        ({"max_tokens": True}, "sampling.invalid"),
        ({"stop": [""]}, "sampling.invalid"),
        ({"stop": ["x"] * 17}, "sampling.invalid"),
        ({"split": [0, 3]}, "layers.out_of_range"),
        ({"split": [2, 6]}, "layers.out_of_range"),
        ({"split": [5, 2]}, "layers.out_of_range"),
        ({"split": 3}, "engine.bad_request"),
    ],
)
def test_what_cannot_be_asked(ring: Ring, fields: dict[str, Any], code: str) -> None:
    asked = {"revision": ring.revision, "split": [2, 5], "prompt": "abc", **fields}
    with pytest.raises(PermeshError) as refused:
        ring.asker.ask("ask_open", session=session(9), **asked)
    assert refused.value.code == code
    assert not ring.asker.operations.sessions


def test_a_chat_template_that_refuses_is_quoted(tmp_path: Path) -> None:
    info = tiny.make(tmp_path)
    path = info.path / "tokenizer_config.json"
    path.write_text(path.read_text().replace("{% for", "{{ raise_exception('no system') }}{% for"))
    with pytest.raises(PermeshError, match="no system") as refused:
        Ring(info).answer(messages=MESSAGES)
    assert refused.value.code == "prompt.template"
