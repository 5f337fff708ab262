"""The import contract as it is when programs run: lazy imports and plug-ins included."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = ["mlx", "mlx_lm", "transformers", "libp2p", "eth_account", "textual", "fastapi", "trio"]


def loaded_by(statement: str) -> set[str]:
    """The heavy packages that a fresh interpreter has loaded after ``statement``."""
    program = f"{statement}\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    modules = json.loads(done.stdout.splitlines()[-1])
    return {name for name in modules if name in HEAVY}


@pytest.mark.parametrize(
    ("statement", "allowed"),
    [
        # A command that is typed often must start fast.
        ("import permesh.cli", set()),
        ("import permesh.client", set()),
        ("import permesh.tui", {"textual"}),
        # A crash in a model must not end the daemon, so no model code is in it.
        ("import permesh.daemon", {"libp2p", "eth_account", "fastapi", "trio"}),
        ("import permesh.doctor", {"eth_account", "trio"}),
        # What a peer's bytes reach in the engine is MLX, and never a key or a connection.
        ("import permesh.inference.engine.process", {"mlx", "mlx_lm", "transformers", "trio"}),
    ],
)
def test_a_program_loads_only_its_own_rooms(statement: str, allowed: set[str]) -> None:
    assert loaded_by(statement) <= allowed


def recursion_limit_after(statement: str) -> int:
    done = subprocess.run(
        [sys.executable, "-c", f"{statement}\nimport sys\nprint(sys.getrecursionlimit())"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return int(done.stdout.splitlines()[-1])


def test_deep_input_raises_rather_than_overflows_the_stack() -> None:
    assert recursion_limit_after("import permesh.daemon") == 1000
    # When this fails, the work-around in identity/wallet.py is no longer needed.
    assert recursion_limit_after("import eth_account") > 1000
