"""Text on its way out: tokens become words, and a stop string never leaks.

Owns what is shown and when. Must never compute a token.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class StopFilter:
    """Lets text through up to the first stop string, and holds back what may become one."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = [stop for stop in stops if stop]
        self._held = ""
        self.stopped = False

    def push(self, text: str) -> str:
        """The text that may be shown now; sets ``stopped`` at a stop string."""
        if self.stopped:
            return ""
        self._held += text
        at = min(
            (found for stop in self._stops if (found := self._held.find(stop)) >= 0), default=-1
        )
        if at >= 0:
            shown, self._held, self.stopped = self._held[:at], "", True
            return shown
        keep = max((_overlap(self._held, stop) for stop in self._stops), default=0)
        shown = self._held[: len(self._held) - keep]
        self._held = self._held[len(shown) :]
        return shown

    def flush(self) -> str:
        """What was held back, when no more text comes and it is no stop string after all."""
        shown, self._held = self._held, ""
        return shown


def _overlap(text: str, stop: str) -> int:
    """How many characters at the end of ``text`` could begin ``stop``."""
    for length in range(min(len(text), len(stop) - 1), 0, -1):
        if text.endswith(stop[:length]):
            return length
    return 0


class Writer:
    """Tokens in, text to show out, and when to finish."""

    def __init__(self, tokenizer: Any, stops: Sequence[str], max_tokens: int) -> None:
        self._words = tokenizer.detokenizer
        self._ends = tokenizer.eos_token_ids
        self._filter = StopFilter(stops)
        self._left = max_tokens

    @property
    def left(self) -> int:
        """Tokens that may still be added."""
        return self._left

    def add(self, token: int) -> tuple[str, str | None]:
        """The text to show after this token, and "stop" or "length" if it is the last."""
        self._left -= 1
        ended = token in self._ends
        if not ended:
            self._words.add_token(token)
        if ended or self._left <= 0:
            self._finalize()
        shown = self._filter.push(self._words.last_segment)
        if self._filter.stopped:
            return shown, "stop"
        if ended or self._left <= 0:
            return shown + self._filter.flush(), "stop" if ended else "length"
        return shown, None

    def _finalize(self) -> None:
        try:
            self._words.finalize()
        except KeyError:
            # mlx-lm's byte-level detokenizer knows no characters beyond its byte alphabet here,
            # and an added token may have such: the incomplete character stays unsaid.
            return
