"""Pictures of the app with a lived-in mesh.

``python -m tests.tui.shots docs`` writes docs/tui.svg, the picture in the README;
``python -m tests.tui.shots --all FOLDER`` writes every screen, to look at while changing the look.
"""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

from textual.pilot import Pilot

from permesh.tui.widgets.composer import PostText

from .lived_in import lived_in_mesh
from .stage import opened, settle

README_SIZE = (110, 32)
SIZES = ((80, 24), (120, 36))


def keys(*pressed: str) -> Callable[[Pilot[None]], Awaitable[None]]:
    async def press(pilot: Pilot[None]) -> None:
        await settle(pilot)
        await pilot.press(*pressed)
        await settle(pilot)

    return press


async def compose(pilot: Pilot[None]) -> None:
    await settle(pilot)
    await pilot.press("r")
    pilot.app.query_one(PostText).insert("Thank you! Trying it now:\n12:26 answers here.")
    await settle(pilot)


SCENES: dict[str, Callable[[Pilot[None]], Awaitable[None]]] = {
    "rooms": keys(),
    "members": keys("2", "down", "down"),
    "mesh": keys("3"),
    "card": keys("4"),
    "chronicle": keys("2", "down", "down", "c"),
    "proposals": keys("2", "p"),
    "compose": compose,
    "help": keys("question_mark"),
    "light": keys("t"),
}


async def shoot(scene: str, size: tuple[int, int]) -> str:
    async with opened(lived_in_mesh(), size) as pilot:
        await SCENES[scene](pilot)
        return without_fonts(pilot.app.export_screenshot(title="permesh"))


def without_fonts(svg: str) -> str:
    """A picture that fetches nothing: it is drawn in whatever monospaced font the reader has."""
    return re.sub(r"@font-face\s*{[^}]*}", "", svg)


def main() -> None:
    folder = Path(sys.argv[-1])
    if "--all" not in sys.argv:
        (folder / "tui.svg").write_text(asyncio.run(shoot("rooms", README_SIZE)))
        return
    for scene in SCENES:
        for size in SIZES:
            (folder / f"{scene}-{size[0]}.svg").write_text(asyncio.run(shoot(scene, size)))


if __name__ == "__main__":
    main()
