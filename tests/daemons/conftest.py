"""Three real daemons on loopback with a tiny model, founded once for all tests of this folder."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from permesh.demo import Demo, stop
from tests.compute import tiny

MODEL = tiny.NAME


@pytest.fixture(scope="package")
def root() -> Iterator[Path]:
    """A short path: a Unix socket's has little room."""
    path = Path(tempfile.mkdtemp(prefix="pm-", dir="/tmp"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="package")
def fleet(root: Path) -> Iterator[Demo]:
    """atlas (the registrar), birch and coral, admitted and connected, with a room and a model."""
    models = root / "models"
    models.mkdir()
    tiny.make(models)
    demo = Demo(root, models, Console(quiet=True))
    try:
        demo.found()
        demo.talk()
        yield demo
    finally:
        stop(demo.members)
