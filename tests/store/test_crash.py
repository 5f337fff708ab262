"""A process that is killed at any moment keeps what it had confirmed, and its chain goes on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from permesh.store import Store
from tests.store.crashing_writer import AUTHOR, make


@pytest.mark.parametrize("confirmed", [1, 37])
def test_what_was_confirmed_survives_sigkill_and_the_chain_does_not_fork(
    tmp_path: Path, confirmed: int
) -> None:
    path = tmp_path / "permesh.db"
    said: list[bytes] = []
    for _life in range(2):
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.store.crashing_writer", str(path)],
            stdout=subprocess.PIPE,
            cwd=Path(__file__).parents[2],
        )
        assert process.stdout is not None
        said += [bytes.fromhex(process.stdout.readline().decode()) for _ in range(confirmed)]
        process.kill()  # SIGKILL, in the middle of the next save
        rest = process.stdout.read().decode().splitlines()
        process.wait()
        process.stdout.close()
        said += [bytes.fromhex(line) for line in rest if len(line) == 64]
    store = Store(path)
    assert store.missing(said) == []
    store.append(AUTHOR, make, 1)
    chain = store.by_author(AUTHOR, 0, 10_000)
    assert [record.header.seq for record in chain] == list(range(len(chain)))
    assert len(said) + 1 <= len(chain) <= len(said) + 3
    assert store.forks() == []
    assert store.connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    store.close()
