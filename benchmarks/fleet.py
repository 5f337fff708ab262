"""Three real daemons on loopback, in homes of their own, for the time of a measurement."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console

from permesh.config import find_home, load_config
from permesh.demo import Demo, fetch, stop


class Fleet:
    """The demo's three members, founded and connected; atlas asks, birch and coral serve."""

    def __init__(self, console: Console) -> None:
        home = find_home()
        self.models = load_config(home).models_directory(home)
        self._root = Path(tempfile.mkdtemp(prefix="permesh-", dir="/tmp"))
        self.demo = Demo(self._root, self.models, console)

    def __enter__(self) -> Self:
        try:
            fetch(self.demo)
            self.demo.found()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop()

    def _stop(self) -> None:
        stop(self.demo.members)
        shutil.rmtree(self._root, ignore_errors=True)
