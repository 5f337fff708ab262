"""An answer in the making, on the member that asks: tokens in, tokens out.

Owns the prompt, sampling and the first and last layers' part of a session. Must never know who
computes the middle.

What is computed, and in which shapes, is what mlx-lm's own `generate` computes: the prompt but its
last token in chunks, then one token at a time. Equal shapes give equal bits, so a greedy answer
is token for token that of the model in one process.
"""

from __future__ import annotations

import math
import secrets
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
from mlx_lm.generate import generate_step
from mlx_lm.models.cache import make_prompt_cache
from mlx_lm.sample_utils import apply_top_p, greedy_sampler

from permesh.errors import Refused
from permesh.inference.engine.loader import LoadedModel
from permesh.inference.engine.protocol import (
    MAX_STOP_CHARACTERS,
    MAX_STOP_STRINGS,
    PREFILL_CHUNK,
)
from permesh.inference.engine.stage import Leg, start_computing
from permesh.inference.engine.text import Writer

MAX_MESSAGES = 1024


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens are chosen; temperature 0 is greedy."""

    temperature: float
    top_p: float
    seed: int
    max_tokens: int
    stop: tuple[str, ...]

    @classmethod
    def from_fields(cls, fields: dict[str, Any]) -> Sampling:
        """Check an `ask_open`'s fields; raises ``Refused`` (``sampling.invalid``)."""
        seed = fields.get("seed")
        stop = fields.get("stop") or []
        sampling = cls(
            temperature=_number(fields, "temperature", 1.0, 0.0, 2.0),
            top_p=_number(fields, "top_p", 1.0, 0.0, 1.0),
            seed=secrets.randbits(32) if seed is None else seed,
            max_tokens=fields.get("max_tokens", 256),
            stop=tuple(stop) if isinstance(stop, list) else (stop,),
        )
        if not _is_int(sampling.max_tokens) or sampling.max_tokens < 1:
            raise _invalid("max_tokens", "a positive integer")
        if not _is_int(sampling.seed) or not -(2**63) <= sampling.seed < 2**64:
            raise _invalid("seed", "a 64-bit integer")
        if len(sampling.stop) > MAX_STOP_STRINGS or not all(
            isinstance(text, str) and 0 < len(text) <= MAX_STOP_CHARACTERS for text in sampling.stop
        ):
            raise _invalid("stop", f"up to {MAX_STOP_STRINGS} short strings")
        return sampling


def _number(fields: dict[str, Any], name: str, default: float, low: float, high: float) -> float:
    value = fields.get(name)
    if value is None:
        return default
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or not low <= value <= high:
        raise _invalid(name, f"a number from {low:g} to {high:g}")
    return float(value)


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _invalid(name: str, wanted: str) -> Refused:
    return Refused("sampling.invalid", f"'{name}' must be {wanted}.")


class Sampler:
    """mlx-lm's sampling, on random numbers of its own, whatever other sessions draw.

    The key is split as MLX splits its global one, so a seed gives the tokens that it gives there.
    """

    def __init__(self, sampling: Sampling) -> None:
        self._key = mx.random.key(sampling.seed % 2**64)
        self._temperature = sampling.temperature
        self._top_p = sampling.top_p

    def __call__(self, logprobs: mx.array) -> mx.array:
        if self._temperature == 0:
            return greedy_sampler(logprobs)
        if 0 < self._top_p < 1:
            logprobs = apply_top_p(logprobs, self._top_p)
        keys = mx.random.split(self._key)
        self._key = keys[0]
        return mx.random.categorical(logprobs * (1 / self._temperature), key=keys[1])


def encode(tokenizer: Any, messages: Any, prompt: Any) -> list[int]:
    """Token ids of a chat, or of plain text; raises ``Refused``."""
    if messages is not None:
        text_or_ids = _apply_template(tokenizer, messages)
        if not isinstance(text_or_ids, str):
            return text_or_ids
        prompt = text_or_ids
    if not isinstance(prompt, str):
        raise Refused("prompt.invalid", "There is neither a list of messages nor a prompt.")
    bos = tokenizer.bos_token
    begins = bos is not None and prompt.startswith(bos)
    return [int(token) for token in tokenizer.encode(prompt, add_special_tokens=not begins)]


def _apply_template(tokenizer: Any, messages: Any) -> list[int] | str:
    known = isinstance(messages, list) and 0 < len(messages) <= MAX_MESSAGES
    if not known or not all(
        isinstance(message, dict)
        and isinstance(message.get("role"), str)
        and isinstance(message.get("content"), str)
        for message in messages
    ):
        raise Refused("prompt.invalid", "Messages need a role and a content, both text.")
    if not tokenizer.has_chat_template:
        return "\n".join(message["content"] for message in messages)
    try:
        ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True)
    except Exception as error:
        # The template is a program that came with the model, and it raises what it likes: most
        # often that roles must alternate.
        raise Refused("prompt.template", f"The model's chat template refuses: {error}") from error
    return [int(token) for token in ids]


def chunks_of(prompt_tokens: int, size: int) -> list[tuple[int, int]]:
    """mlx-lm's way through a prompt: all but the last token in chunks, then the last alone."""
    last = prompt_tokens - 1
    starts = range(0, last, size)
    return [*((start, min(start + size, last)) for start in starts), (last, prompt_tokens)]


@dataclass(frozen=True, slots=True)
class Step:
    """What one `ask_step` came to; ``value`` is for the ring, None at the end or in prefill."""

    token: int | None = None
    text: str = ""
    finish_reason: str | None = None
    logprob: float | None = None
    start: int = 0
    value: Any = None


@dataclass(frozen=True, slots=True)
class Choice:
    """A token to be computed, and what the first layers make of it: None where it is the last."""

    token: mx.array
    logprob: mx.array
    value: Any


class Ask:
    """What both kinds of asking share: the prompt's chunks, in order, and the words."""

    def __init__(self, loaded: LoadedModel, ids: list[int], sampling: Sampling) -> None:
        if not ids:
            raise Refused("prompt.invalid", "The prompt is empty.")
        if len(ids) >= loaded.context:
            raise Refused(
                "prompt.too_long",
                f"The prompt has {len(ids)} tokens, and the model takes {loaded.context - 1}.",
                "Shorten it.",
            )
        self.ids = ids
        self.chunks = chunks_of(len(ids), PREFILL_CHUNK)
        self.max_tokens = min(sampling.max_tokens, loaded.context - len(ids))
        self.finished = False
        self._sampler = Sampler(sampling)
        self._writer = Writer(loaded.read_tokenizer(), sampling.stop, self.max_tokens)
        self._next_chunk = 0

    def _take_chunk(self, chunk: Any) -> tuple[int, int]:
        number = self._next_chunk
        if not _is_int(chunk) or chunk != number or number >= len(self.chunks):
            raise Refused("position.out_of_range", f"Chunk {chunk!r} is not next.")
        self._next_chunk += 1
        return self.chunks[number]

    def _say(self, token: int, logprob: float) -> Step:
        text, why = self._writer.add(token)
        self.finished = why is not None
        return Step(token, text, why, logprob)

    def _check_unfinished(self) -> None:
        if self.finished:
            raise Refused("session.finished", "This answer is complete.")


class SplitAsk(Ask):
    """The asker of a ring: layers ``[0, a)`` here, the middle elsewhere, ``[b, layers)`` here."""

    def __init__(
        self, loaded: LoadedModel, split: tuple[int, int], ids: list[int], sampling: Sampling
    ) -> None:
        super().__init__(loaded, ids, sampling)
        limit = len(ids) + self.max_tokens
        self._head = Leg(loaded.stage(0, split[0]), limit)
        self._tail = Leg(loaded.stage(split[1], loaded.layers), limit)
        self._away: deque[tuple[int, int]] = deque()  # (start, positions) now in the ring
        self._ahead: Choice | None = None  # made of what `_tail` has built ahead

    @property
    def broken(self) -> bool:
        return self._head.broken or self._tail.broken

    @property
    def tail_entry(self) -> Any:
        return self._tail.stage.entry

    @property
    def head_exit(self) -> Any:
        return self._head.stage.exit

    def prefill(self, chunk: Any) -> Step:
        """Embed the prompt's next chunk and take it through the first layers."""
        start, end = self._take_chunk(chunk)
        tokens = mx.array([self.ids[start:end]])
        value = self._head.run(end - start, tokens=tokens)
        self._head.settle(self.head_exit.parts(value))
        self._away.append((start, end - start))
        return Step(start=start, value=value)

    def step(self, start: Any, value: Any, positions: int) -> Step:
        """Take what the ring answered through the last layers; a token unless prefilling."""
        self._check_unfinished()
        if not self._away or (start, positions) != self._away[0]:
            raise Refused(
                "position.out_of_range",
                f"{positions} positions from {start!r} are not what the ring owes.",
            )
        self._away.popleft()
        out = self._tail.run(positions, value=value)
        end = start + positions
        if end < len(self.ids):
            self._tail.settle()  # `out` is dropped, so neither norm nor head is computed
            return Step(start=start)
        return self._choose(out, end)

    def prepare(self) -> None:
        """Build the next step before the ring's answer is there, down to what follows from it."""
        if self.finished or len(self._away) != 1 or self._away[0][0] < len(self.ids):
            return
        logits = self._tail.prepare()
        if logits is not None and self._ahead is None:
            self._ahead = self._build_choice(logits)

    def _build_choice(self, logits: mx.array) -> Choice:
        logits = logits[:, -1, :]
        logprobs = logits - mx.logsumexp(logits, keepdims=True)
        chosen = self._sampler(logprobs)
        logprob = mx.take_along_axis(logprobs, chosen[:, None], axis=-1)
        value = self._head.run(1, tokens=chosen[None]) if self._writer.left > 1 else None
        return Choice(chosen, logprob, value)

    def _choose(self, logits: mx.array, end: int) -> Step:
        """Sample a token and set out with it, in one go: the ring waits for both."""
        choice, self._ahead = self._ahead or self._build_choice(logits), None
        start_computing(choice.token, choice.logprob)
        if choice.value is not None:
            start_computing(self.head_exit.parts(choice.value))
        step = self._say(int(choice.token), float(choice.logprob))
        if self.finished or choice.value is None:
            return step
        self._away.append((end, 1))
        return Step(step.token, step.text, None, step.logprob, end, choice.value)


class LocalAsk(Ask):
    """The whole model here: mlx-lm's own generator, a token at a time."""

    broken = False

    def __init__(self, loaded: LoadedModel, ids: list[int], sampling: Sampling) -> None:
        super().__init__(loaded, ids, sampling)
        self._model = loaded.model
        self._caches = make_prompt_cache(self._model)
        self._tokens: Iterator[Any] | None = None

    def prefill(self, chunk: Any) -> Step:
        """Compute the prompt's next chunk; the last one is left to the first step."""
        start, end = self._take_chunk(chunk)
        if end < len(self.ids):
            try:
                self._model(mx.array([self.ids[start:end]]), cache=self._caches)
                mx.eval([cache.state for cache in self._caches])
            except BaseException:
                self.broken = True
                raise
            mx.clear_cache()
        return Step(start=start)

    def step(self) -> Step:
        """The next token."""
        self._check_unfinished()
        if self._next_chunk < len(self.chunks):
            raise Refused("position.out_of_range", "The prompt is not computed yet.")
        if self._tokens is None:
            self._tokens = generate_step(
                mx.array(self.ids[-1:]),
                self._model,
                mx.default_stream(mx.default_device()),
                max_tokens=self.max_tokens,
                sampler=self._sampler,
                prompt_cache=self._caches,
            )
        try:
            token, logprobs = next(self._tokens)
        except BaseException:
            self.broken = True
            raise
        return self._say(int(token), float(logprobs[token]))
