"""One mesh for all tests of this folder: three engines take seconds to start."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from . import tiny
from .mesh import Mesh


@pytest.fixture(scope="package")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    models = tmp_path_factory.mktemp("models")
    tiny.make(models)
    return models


@pytest.fixture(scope="package")
def shared(models: Path) -> Iterator[Mesh]:
    """Three members, each with its engine process."""
    with Mesh(models) as mesh:
        yield mesh
