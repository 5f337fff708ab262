"""The unsplit run that demo and benchmark compare with."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from . import tiny
from .desk import Ring, text, token_ids

PROMPT = "what do you compare with"


def test_it_gives_the_tokens_of_a_ring(tmp_path: Path) -> None:
    info = tiny.make(tmp_path, "qwen3")
    command = [sys.executable, "-m", "permesh.inference.reference", str(info.path)]
    done = subprocess.run(
        [*command, "--prompt", PROMPT, "--max-tokens", "24", "--runs", "2"],
        capture_output=True, text=True, timeout=90, check=True,
    )  # fmt: skip
    runs = [json.loads(line) for line in done.stdout.splitlines()]
    messages = [{"role": "user", "content": PROMPT}]
    steps = Ring(info).answer(messages=messages, temperature=0, max_tokens=24)
    for run in runs:
        assert run["token_ids"] == token_ids(steps)
        assert run["text"] == text(steps)
        assert run["ttft_s"] > 0
        assert run["decode_tokens_per_s"] > 0
        assert run["backend"]
    assert len(runs) == 2


def test_a_folder_that_is_no_model_is_one_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "permesh.inference.reference", str(tmp_path / "nope")]
    done = subprocess.run([*command, "--prompt", "x"], capture_output=True, text=True, timeout=90)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
