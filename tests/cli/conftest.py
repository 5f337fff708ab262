import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

sys.path.append(str(Path(__file__).parents[1] / "api"))  # the node in memory lives there

from fakenode import Daemon, running

from permesh.cli import main
from permesh.config import Home

Permesh = Callable[..., Result]


@pytest.fixture
def home() -> Iterator[Home]:
    """Short, since a Unix socket's path may have 103 bytes only."""
    root = Path(tempfile.mkdtemp(prefix="pm-"))
    yield Home(root)
    shutil.rmtree(root)


@pytest.fixture
def daemon(home: Home) -> Iterator[Daemon]:
    with running(home) as daemon:
        yield daemon


@pytest.fixture
def permesh(home: Home) -> Permesh:
    """Runs one command on the home and returns click's result."""

    def run(*arguments: str, **more: object) -> Result:
        return CliRunner().invoke(main, ["--home", str(home.root), *arguments], **more)

    return run


@pytest.fixture
def environment(home: Home) -> dict[str, str]:
    """For real processes."""
    return {**os.environ, "PERMESH_HOME": str(home.root), "PYTHONUNBUFFERED": "1"}
