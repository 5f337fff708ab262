import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from permesh.config import Home
from tests.api.fakenode import Daemon, running


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
