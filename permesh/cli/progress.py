"""Progress bars for work that goes through stages, on standard error."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from . import output


class _Bytes(DownloadColumn):
    """Nothing where there are no bytes to count, as while a model is converted."""

    def render(self, task: Task) -> Text:
        return super().render(task) if task.total or task.completed else Text()


class StageBars:
    """One bar for each stage; ``update`` is what `fetch_model` calls."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._progress = Progress(
            TextColumn("{task.description:<12}"),
            BarColumn(),
            _Bytes(),
            TimeRemainingColumn(),
            console=output.console(stderr=True),
            disable=quiet,
        )
        self._bars: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bars:  # ending without a bar prints an empty line
            self._progress.stop()

    def update(self, stage: str, done: int, total: int) -> None:
        """``done`` of ``total`` bytes; a ``total`` of 0 is one that is not known yet."""
        if stage not in self._bars:
            self._progress.start()
            self._bars[stage] = self._progress.add_task(stage, total=total or None)
        self._progress.update(self._bars[stage], completed=done, total=total or None)
