"""mlx-lm alone, kept loaded in a process of its own and run when it is its turn."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self


@dataclass(frozen=True)
class Run:
    token_ids: list[int]
    ttft_s: float
    decode_tokens_per_s: float


class Reference:
    """`python -m permesh.inference.reference --in-turn`: between turns it uses no processor."""

    def __init__(self, model: Path, prompt: str, max_tokens: int, runs: int) -> None:
        self._process = subprocess.Popen(
            [
                sys.executable, "-m", "permesh.inference.reference", str(model),
                "--prompt", prompt, "--max-tokens", str(max_tokens),
                "--runs", str(runs), "--in-turn",
            ],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
        )  # fmt: skip

    def __enter__(self) -> Self:
        return self

    def run(self) -> Run:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("go\n")
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the reference ended with status {self._process.wait()}")
        told = json.loads(line)
        return Run(told["token_ids"], told["ttft_s"], told["decode_tokens_per_s"])

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.wait()
