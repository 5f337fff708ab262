"""The Textual application: look, commands, and the main screen.

Owns what belongs to no single screen. The client, the clock and the file of drafts are passed in.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

from textual.app import App, SystemCommand
from textual.binding import Binding, BindingType
from textual.screen import Screen

from .commands import main_commands, post_commands
from .draft_file import DraftFile
from .drafts import Drafts
from .help import Help
from .link import Backoff
from .main_screen import MainScreen
from .model import MeshModel
from .ports import Clock, MeshClient
from .themes import DARK, LIGHT
from .thread_screen import ThreadScreen


class PermeshApp(App[None]):
    """permesh in the terminal."""

    TITLE = "permesh"
    CSS_PATH = Path("permesh.tcss")
    ENABLE_COMMAND_PALETTE = True
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+q", "leave", "Quit", show=False, priority=True),
    ]

    def __init__(
        self,
        client: MeshClient,
        clock: Clock,
        file: DraftFile | None = None,
        backoff: Backoff | None = None,
    ) -> None:
        super().__init__()
        self.model = MeshModel()
        self.drafts = Drafts(client, clock, file or DraftFile())
        self.main = MainScreen(client, self.model, clock, backoff or Backoff(), self.drafts)
        self.register_theme(DARK)
        self.register_theme(LIGHT)
        self.theme = DARK.name

    def get_default_screen(self) -> Screen[None]:
        return self.main

    def action_leave(self) -> None:
        self.main.action_leave()

    def action_help(self) -> None:
        if not isinstance(self.screen, Help):
            self.push_screen(Help())

    def action_toggle_theme(self) -> None:
        self.theme = LIGHT.name if self.current_theme.dark else DARK.name

    def watch_theme(self) -> None:
        if self.main.is_mounted:
            self.main.redraw()

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        if screen is self.main:
            yield from main_commands(self.main)
        elif isinstance(screen, ThreadScreen):
            yield from post_commands(screen.view)
        yield SystemCommand("Light or dark", "Change the look", self.action_toggle_theme)
        yield SystemCommand("Help", "Every key, by where it works", self.action_help)
        yield from super().get_system_commands(screen)
