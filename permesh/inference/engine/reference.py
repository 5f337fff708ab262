"""What a split answer is compared with: mlx-lm's own generation, on weights loaded alike.

Owns nothing that serves. The weights, their type, the BLAS and the prompt's chunks are those of
the engine; the generation is `mlx_lm.stream_generate`, untouched.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx_lm.generate import stream_generate

from permesh.inference.engine.asker import encode
from permesh.inference.engine.loader import LoadedModel
from permesh.inference.engine.protocol import PREFILL_CHUNK


def generate(
    folder: Path, messages: list[dict[str, str]], max_tokens: int, runs: int = 1
) -> Iterator[dict[str, Any]]:
    """Answer greedily, ``runs`` times; times are in seconds, from the text to the first token."""
    loaded = LoadedModel.open(folder)
    loaded.hold(0, loaded.layers, True)
    tokenizer = loaded.read_tokenizer()
    try:
        for _ in range(runs):
            began = time.perf_counter()
            ids = encode(tokenizer, messages, None)
            tokens: list[int] = []
            texts: list[str] = []
            first, answer = began, None
            for answer in stream_generate(
                loaded.model,
                tokenizer,
                ids,
                max_tokens=max_tokens,
                prefill_step_size=PREFILL_CHUNK,
            ):
                if not tokens:
                    first = time.perf_counter()
                tokens.append(answer.token)
                texts.append(answer.text)
            took = time.perf_counter() - first
            yield {
                "token_ids": tokens,
                "text": "".join(texts),
                "finish_reason": answer.finish_reason if answer else None,
                "prompt_tokens": len(ids),
                "ttft_s": first - began,
                "decode_tokens_per_s": (len(tokens) - 1) / took if len(tokens) > 1 else 0.0,
            }
    finally:
        mx.clear_streams()
