"""A room's charter: every version, and the form in which a steward writes the next one.

Owns the reading and the writing of rules in words. Texts in it are others': cleaned, never markup.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.widgets import Button, Input, Static

from permesh.display import clean_line
from permesh.errors import PermeshError
from permesh.schema import Charter, NewCharter, Room

from .charter_form import Field, fields_of, read_charter
from .dialogs import Dialog
from .list_window import ListWindow
from .ports import MeshClient
from .room_words import charter_lines
from .widgets.key_bar import KeyBar
from .widgets.row_list import RowList
from .words import cut, fold

LABEL_WIDTH = 11


class CharterList(RowList):
    """The versions, newest first, each whole."""

    def __init__(self) -> None:
        super().__init__()
        self._charters: dict[str, Charter] = {}

    def show_charters(self, charters: Sequence[Charter]) -> None:
        self._charters = {charter.id: charter for charter in charters}
        self.show_keys(list(self._charters), stay=False)
        if self.keys:
            self.select(self.keys[0])

    def lines_of(self, index: int, width: int) -> list[Content]:
        charter = self._charters[self.keys[index]]
        state = (
            ("in force", "$success") if charter.in_force else ("not in force", "$foreground 40%")
        )
        lines = [
            Content.assemble((f"Version {charter.version}", "bold $accent"), "  ", state),
        ]
        for label, words in charter_lines(charter):
            for at, line in enumerate(fold(words, max(10, width - LABEL_WIDTH))):
                head = label if at == 0 else ""
                lines.append(
                    Content.assemble((f"{head:<{LABEL_WIDTH}}", "$foreground 50%"), Content(line))
                )
        return [*(line.truncate(width, ellipsis=True) for line in lines), Content("")]


class CharterWindow(ListWindow):
    """All versions of one room's charter; a steward changes it from here."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("e", "edit", "Change it")]

    def __init__(self, client: MeshClient, room: Room) -> None:
        self._list = CharterList()
        super().__init__(f"Charter of #{room.name}", self._list)
        self._client = client
        self._room = room
        self._now: Charter | None = None

    async def fetch(self) -> Content:
        found = (await self._client.charters(self._room.id)).items
        self._now = next((charter for charter in found if charter.in_force), None)
        self._list.show_charters(found)
        if self._room.steward:
            return Content("You are a steward: e writes the next version.")
        return Content("Its stewards sign each next version.")

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action == "edit":
            return self._room.steward and self._now is not None
        return super().check_action(action, parameters)

    def action_edit(self) -> None:
        if self._now is None:
            return
        form = CharterForm(self._client, self._room, self._now)

        def answered(done: bool | None) -> None:
            if done:
                self.notify("Signed. It is in force where it arrives.", markup=False)
                self.action_ask()

        self.app.push_screen(form, answered)


class CharterForm(Dialog):
    """The next version: what is left as it is stays so. Stays open with the reason."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("ctrl+s", "sign", "Sign it")]

    def __init__(self, client: MeshClient, room: Room, now: Charter) -> None:
        super().__init__()
        self._client = client
        self._room = room
        self._fields: list[Field] = fields_of(now)

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog -wide -form"):
            with VerticalScroll(id="fields", can_focus=False):
                for field in self._fields:
                    with Horizontal(classes="field"):
                        yield Static(field.label, classes="field-label", markup=False)
                        yield Input(
                            field.value, placeholder=field.hint, id=field.name, compact=True
                        )
            yield Static(id="problem", classes="problem", markup=False)
            with Horizontal(classes="buttons"):
                yield Button("Sign it (^s)", id="sign", variant="primary")
        yield KeyBar()

    def on_mount(self) -> None:
        frame = self.query_one(".dialog")
        frame.border_title = Content(f"Charter of #{clean_line(cut(self._room.name, 60))}")
        self.query_one(f"#{self._fields[0].name}", Input).focus()

    def on_input_submitted(self) -> None:
        self.screen.focus_next()

    def on_button_pressed(self) -> None:
        self.action_sign()

    def action_sign(self) -> None:
        typed = {
            field.name: self.query_one(f"#{field.name}", Input).value for field in self._fields
        }
        try:
            charter = read_charter(self._fields, typed)
        except ValueError as error:
            self._say(str(error))
            return
        if charter is None:
            self._say("Nothing is changed yet.")
            return
        self._say("Signing…")
        self._sign(charter)

    @work(group="sign", exclusive=True)
    async def _sign(self, charter: NewCharter) -> None:
        try:
            await self._client.set_charter(self._room.id, charter)
        except PermeshError as error:
            self._say(str(error))
        else:
            self.dismiss(True)

    def _say(self, text: str) -> None:
        self.query_one("#problem", Static).update(clean_line(cut(text, 400)))
