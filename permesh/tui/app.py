"""The Textual application: look, commands, and the main screen.

Owns what belongs to no single screen. The client, the clock and the file of what was seen are
passed in.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

from textual.app import App, SystemCommand
from textual.binding import Binding, BindingType
from textual.screen import Screen

from permesh.display import clean_line

from .link import Backoff
from .main_screen import MainScreen
from .model import MeshModel
from .ports import Clock, MeshClient
from .seen import Seen
from .themes import DARK, LIGHT
from .widgets.top_bar import VIEWS

MAX_ROOM_COMMANDS = 200  # rooms offered in the command palette


class PermeshApp(App[None]):
    """permesh in the terminal."""

    TITLE = "permesh"
    CSS_PATH = Path("permesh.tcss")
    ENABLE_COMMAND_PALETTE = True
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+q", "quit", "Quit", show=False, priority=True),
    ]

    def __init__(
        self,
        client: MeshClient,
        clock: Clock,
        seen: Seen | None = None,
        backoff: Backoff | None = None,
    ) -> None:
        super().__init__()
        self.model = MeshModel(seen or Seen())
        self.main = MainScreen(client, self.model, clock, backoff or Backoff())
        self.register_theme(DARK)
        self.register_theme(LIGHT)
        self.theme = DARK.name

    def get_default_screen(self) -> Screen[None]:
        return self.main

    def action_toggle_theme(self) -> None:
        self.theme = LIGHT.name if self.current_theme.dark else DARK.name

    def watch_theme(self) -> None:
        if self.main.is_mounted:
            self.main.redraw()

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        main = self.main
        if screen is main:
            for view, title in VIEWS.items():
                words = f"Go to {title.lower()}"
                yield SystemCommand(
                    words, f"Show the {view} view", lambda view=view: main.action_view(view)
                )
            yield SystemCommand("New room", "Make a room to talk in", main.action_new_room)
            yield SystemCommand("Invite", "Show the line that invites somebody", main.action_invite)
            yield SystemCommand(
                "My Chronicle", "Show the public record of this member", main.action_own_chronicle
            )
            yield SystemCommand(
                "Proposals", "Show what registrars decide together", main.action_proposals
            )
            for room_id, name in list(main.rooms())[:MAX_ROOM_COMMANDS]:
                # Names could hold markup; rooms are offered without their brackets.
                words = f"Open #{clean_line(name).replace('[', '(')}"
                yield SystemCommand(
                    words, "Show this room", lambda room_id=room_id: main.open_room(room_id)
                )
        yield SystemCommand("Light or dark", "Change the look", self.action_toggle_theme)
        yield from super().get_system_commands(screen)
