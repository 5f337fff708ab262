"""In which order the tests are handed out, and to how few processes.

Files go to processes whole (``--dist loadfile``), except that a folder whose files share what is
costly to start goes to one process, which starts it once. What takes longest begins first, so that
no process works on alone when the others have ended.
"""

from __future__ import annotations

from pathlib import PurePosixPath

import pytest
from xdist.scheduler import LoadFileScheduling

ROOT = PurePosixPath("tests")
# Three daemons; three engines.
TOGETHER = (ROOT / "daemons", ROOT / "compute")
# Real daemons wait for each other by the clock, so what they run beside should be what has its own
# clock: the simulated meshes.
LONG = (ROOT / "daemons", ROOT / "sync", ROOT / "tui", ROOT / "compute")


def file_of(nodeid: str) -> PurePosixPath:
    return PurePosixPath(nodeid.split("::", 1)[0])


class ByFile(LoadFileScheduling):
    def _split_scope(self, nodeid: str) -> str:
        folder = file_of(nodeid).parent
        return str(folder) if folder in TOGETHER else super()._split_scope(nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> ByFile | None:
    """For what ``--dist loadfile`` asks for; any other choice on the command line stands."""
    return ByFile(config, log) if config.getvalue("dist") == "loadfile" else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def rank(item: pytest.Item) -> int:
        folder = file_of(item.nodeid).parent
        return LONG.index(folder) if folder in LONG else len(LONG)

    items.sort(key=rank)
