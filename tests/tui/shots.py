"""Pictures of the app with a lived-in mesh: `python tests/tui/shots.py docs` writes docs/tui.svg.

`python tests/tui/shots.py --all DIR` writes every screen, to look at while changing the style.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

from memory_mesh import NOW, MemoryMesh, lived_in_mesh
from textual.pilot import Pilot

from permesh.tui.app import PermeshApp
from permesh.tui.main_screen import GATHER_SECONDS
from permesh.tui.widgets.composer import PostText

Scene = Callable[[Pilot[None]], Awaitable[None]]


async def settle(pilot: Pilot[None]) -> None:
    """Let workers, gathered events and drawings come to rest."""
    for _ in range(4):
        await pilot.pause(GATHER_SECONDS / 2)
        asking = [worker for worker in pilot.app.workers if worker.group != "link"]
        if asking:
            await pilot.app.workers.wait_for_complete(asking)
    await pilot.pause()


async def forum(pilot: Pilot[None]) -> None:
    pilot.app.query_one(PostText).cursor_blink = False


async def members(pilot: Pilot[None]) -> None:
    await pilot.press("2", "down")


async def mesh(pilot: Pilot[None]) -> None:
    await pilot.press("3")


async def card(pilot: Pilot[None]) -> None:
    await pilot.press("4")


async def compose(pilot: Pilot[None]) -> None:
    await forum(pilot)
    await pilot.press("r")
    pilot.app.query_one(PostText).insert("Thank you! Trying it now:\n12:18 answers here.")


async def help_(pilot: Pilot[None]) -> None:
    await pilot.press("question_mark")


async def light(pilot: Pilot[None]) -> None:
    await forum(pilot)
    await pilot.press("t")


SCENES: dict[str, Scene] = {
    "forum": forum,
    "members": members,
    "mesh": mesh,
    "card": card,
    "compose": compose,
    "help": help_,
    "light": light,
}


async def shoot(scene: Scene, size: tuple[int, int], data: MemoryMesh | None = None) -> str:
    app = PermeshApp(data or lived_in_mesh(), lambda: NOW)
    async with app.run_test(size=size) as pilot:
        await settle(pilot)
        await scene(pilot)
        await settle(pilot)
        return app.export_screenshot(title="permesh")


def main() -> None:
    every, folder = "--all" in sys.argv, Path(sys.argv[-1])
    if not every:
        (folder / "tui.svg").write_text(asyncio.run(shoot(forum, (110, 32))))
        return
    for name, scene in SCENES.items():
        for size in ((80, 24), (120, 36)):
            path = folder / f"{name}-{size[0]}.svg"
            path.write_text(asyncio.run(shoot(scene, size)))


if __name__ == "__main__":
    main()
