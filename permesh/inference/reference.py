"""The unsplit model in one process, to compare with: `python -m permesh.inference.reference`.

Owns the command line of the comparison; what computes is `engine/reference.py`, in this process.
Prints one JSON object: {token_ids, text, finish_reason, prompt_tokens, ttft_s,
decode_tokens_per_s, backend}.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from permesh.errors import PermeshError
from permesh.inference.engine.blas import load_blas


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m permesh.inference.reference")
    parser.add_argument("folder", type=Path, help="a model's folder")
    parser.add_argument("--prompt", required=True, help="what the user says")
    parser.add_argument("--max-tokens", type=int, default=64)
    parser.add_argument("--runs", type=int, default=1, help="time this many, report each")
    parser.add_argument("--in-turn", action="store_true", help="wait for a line before each run")
    chosen = parser.parse_args(arguments)
    blas = load_blas()
    # Imports MLX, which takes the BLAS that is loaded by then.
    from permesh.inference.engine.reference import generate

    try:
        messages = [{"role": "user", "content": chosen.prompt}]
        runs = generate(chosen.folder, messages, chosen.max_tokens, chosen.runs)
        _print_runs(runs, blas.name, chosen.in_turn)
    except PermeshError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _print_runs(runs: Iterator[dict[str, Any]], backend: str, in_turn: bool) -> None:
    while not in_turn or sys.stdin.readline():
        run = next(runs, None)  # each is computed only now
        if run is None:
            return
        print(json.dumps({**run, "backend": backend}), flush=True)


if __name__ == "__main__":
    sys.exit(main())
