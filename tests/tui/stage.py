"""Opens the app on a mesh in memory, and waits for what should come to pass."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import ParamSpec

from textual.pilot import Pilot
from textual.widgets import Input

from permesh.tui import conversation, room_view, search_view
from permesh.tui.app import PermeshApp
from permesh.tui.draft_file import DraftFile
from permesh.tui.feeding import GATHER_SECONDS
from permesh.tui.link import Backoff
from permesh.tui.widgets.composer import PostText
from permesh.tui.widgets.post_list import PostList

from .memory_mesh import NOW, MemoryMesh

room_view.READ_SECONDS = 0.02
conversation.SAVE_SECONDS = 0.02
search_view.TYPING_SECONDS = 0.02
Given = ParamSpec("Given")
QUICK = Backoff(first=0.01, most=0.02)
TRIES = 150
ASKING = {
    "newest",
    "older",
    "send",
    "lists",
    "models",
    "card",
    "invite",
    "make",
    "listing",
    "approve",
    "answered",
    "drafts",
    "read",
    "thread",
    "action",
    "reading",
    "files",
    "settle",
    "counts",
    "inbox",
    "inbox-more",
    "search",
    "search-more",
    "follow",
    "sign",
    "leave",
    "labels",
    "judgement",
}


def played(scene: Callable[Given, Awaitable[None]]) -> Callable[Given, None]:
    """A test written as a coroutine."""

    @functools.wraps(scene)
    def play(*given: Given.args, **named: Given.kwargs) -> None:
        asyncio.run(scene(*given, **named))

    return play


def make_app(mesh: MemoryMesh, file: DraftFile | None = None) -> PermeshApp:
    return PermeshApp(mesh, lambda: NOW, file, QUICK)


@asynccontextmanager
async def opened(
    mesh: MemoryMesh, size: tuple[int, int] = (80, 24), file: DraftFile | None = None
) -> AsyncIterator[Pilot[None]]:
    """The app at rest on ``mesh``, its first room open."""
    async with make_app(mesh, file).run_test(size=size, notifications=True) as pilot:
        await settle(pilot)
        yield pilot


async def settle(pilot: Pilot[None]) -> None:
    """Let workers, gathered events and drawings come to rest; the stream of events stays."""
    app = pilot.app
    await pilot.pause()
    still_cursors(app)
    while busy(app):
        await pilot.pause(GATHER_SECONDS / 5)
    await pilot.pause()
    still_cursors(app)


def busy(app: PermeshApp) -> bool:
    """Whether something is under way: the daemon was not heard yet, or asked, or not drawn."""
    unheard = app.model.status is None and app.model.problem is None
    drawing = app.main.gathering or app.main.forum.view.reading is not None
    return unheard or drawing or any(worker.group in ASKING for worker in app.workers)


def still_cursors(app: PermeshApp) -> None:
    for field in (*app.screen.query(PostText), *app.screen.query(Input)):
        field.cursor_blink = False


async def until(pilot: Pilot[None], happened: Callable[[], object]) -> None:
    """Wait for something that should happen; fails with what the screen shows if it does not."""
    for _ in range(TRIES):
        if happened():
            return
        await pilot.pause(0.01)
    raise AssertionError(f"It did not happen. The screen shows:\n{shown(pilot)}")


def shown(pilot: Pilot[None]) -> str:
    """The text on the screen, line by line."""
    screen = pilot.app.screen
    strips = screen._compositor.render_strips(screen.size)
    return "\n".join(strip.text.rstrip() for strip in strips)


def texts(pilot: Pilot[None]) -> list[str]:
    """The posts in the list, from top to bottom."""
    rows = pilot.app.screen_stack[0].query_one(PostList)._rows
    return [row.post.text for row in rows.values()]


async def write(pilot: Pilot[None], text: str) -> None:
    """Type into the composer, without the cost of a key press for each letter."""
    await pilot.press("c")
    pilot.app.query_one(PostText).insert(text)
    await pilot.pause()
