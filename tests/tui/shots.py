"""Pictures of the app with a lived-in mesh.

``python -m tests.tui.shots docs`` writes docs/tui*.svg, the pictures in the README;
``python -m tests.tui.shots --all FOLDER`` writes every screen, to look at while changing the look.
"""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from textual.pilot import Pilot

from permesh.tui.widgets.composer import PostText

from .lived_in import busy_mesh, lived_in_mesh, wide_mesh
from .memory_mesh import MemoryMesh
from .stage import opened, settle

README_SIZE = (110, 32)
SIZES = ((80, 24), (120, 36))


def keys(*pressed: str) -> Callable[[Pilot[None]], Awaitable[None]]:
    async def press(pilot: Pilot[None]) -> None:
        await settle(pilot)
        for key in pressed:
            await pilot.press(key)
            await settle(pilot)

    return press


async def compose(pilot: Pilot[None]) -> None:
    await settle(pilot)
    await pilot.press("r")
    pilot.app.query_one(PostText).insert("Thank you! Trying it now:\n12:26 answers here.")
    await settle(pilot)


@dataclass(frozen=True)
class Scene:
    """What is pressed, and on which mesh."""

    play: Callable[[Pilot[None]], Awaitable[None]]
    mesh: Callable[[], MemoryMesh] = lived_in_mesh
    light: bool = False

    async def run(self, pilot: Pilot[None]) -> None:
        if self.light:
            pilot.app.action_toggle_theme()
        await self.play(pilot)


SCENES: dict[str, Scene] = {
    "rooms": Scene(keys()),
    "forum": Scene(keys(), busy_mesh),
    "forum-light": Scene(keys(), busy_mesh, light=True),
    "hidden": Scene(keys("h"), busy_mesh),
    "thread": Scene(keys("up", "up", "up", "v"), busy_mesh),
    "post": Scene(keys("up", "up", "up", "up", "up", "enter"), busy_mesh),
    "react": Scene(keys("plus"), busy_mesh),
    "label": Scene(keys("l"), busy_mesh),
    "author": Scene(keys("up", "m"), busy_mesh),
    "charter": Scene(keys("C"), busy_mesh),
    "charter-form": Scene(keys("C", "e"), busy_mesh),
    "inbox": Scene(keys("5"), busy_mesh),
    "search": Scene(keys("slash", *"layers"), busy_mesh),
    "members": Scene(keys("2", "down", "down")),
    "mesh": Scene(keys("3"), wide_mesh),
    "card": Scene(keys("4")),
    "chronicle": Scene(keys("2", "down", "down", "c")),
    "proposals": Scene(keys("2", "p")),
    "compose": Scene(compose),
    "help": Scene(keys("question_mark")),
    "light": Scene(keys("t")),
}
# The pictures of the README, by the file's name.
README = {"tui": "forum", "tui-thread": "thread", "tui-mesh": "mesh"}


async def shoot(scene: str, size: tuple[int, int]) -> str:
    async with opened(SCENES[scene].mesh(), size) as pilot:
        await SCENES[scene].run(pilot)
        return without_fonts(pilot.app.export_screenshot(title="permesh"))


def without_fonts(svg: str) -> str:
    """A picture that fetches nothing: it is drawn in whatever monospaced font the reader has."""
    return re.sub(r"@font-face\s*{[^}]*}", "", svg)


def main() -> None:
    folder = Path(sys.argv[-1])
    if "--all" not in sys.argv:
        for name, scene in README.items():
            (folder / f"{name}.svg").write_text(asyncio.run(shoot(scene, README_SIZE)))
        return
    for scene in SCENES:
        for size in SIZES:
            (folder / f"{scene}-{size[0]}.svg").write_text(asyncio.run(shoot(scene, size)))


if __name__ == "__main__":
    main()
