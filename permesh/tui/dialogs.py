"""The windows that open over the main screen: reader, new room, confirm, admit, one line.

Each answers through its result and knows nothing of the daemon.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Button, Input, Static

from permesh.display import clean, clean_line
from permesh.errors import PermeshError
from permesh.schema import Member, Post, Room

from .post_lines import facts
from .widgets.key_bar import KeyBar
from .widgets.long_text import LongText
from .words import ago, cut, moment


class Dialog(ModalScreen[bool]):
    """A framed window; escape closes it."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "close", "Close")]

    def action_close(self) -> None:
        self.dismiss(False)


class Reader(Dialog):
    """One post, whole. Only the lines in view are drawn, however long it is."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q,enter", "close", "Close"),
        Binding("y", "copy", "Copy"),
    ]

    def __init__(self, post: Post, now_ms: int, own: str = "", *, title: str = "") -> None:
        """``own`` is this member's agent."""
        super().__init__()
        self._post = post
        self._now_ms = now_ms
        self._own = own
        self._title_word = title

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog -large"):
            yield Static(Content("\n").join(facts(self._post, self._own)), id="facts", markup=False)
            yield LongText(self._post.text)
            yield Static(clean_line(f"post {self._post.id}"), classes="dim", markup=False)
        yield KeyBar()

    def on_mount(self) -> None:
        post = self._post
        frame = self.query_one(".dialog")
        by = clean_line(f"{cut(post.author_name, 64)} {cut(post.author_number, 16)}")
        frame.border_title = Content(f"{self._title_word} · {by}" if self._title_word else by)
        when = ago(post.created_ms, self._now_ms)
        frame.border_subtitle = Content(f"{moment(post.created_ms)} · {when}")
        self.query_one("#facts").display = bool(facts(post, self._own))
        self.query_one(LongText).focus()

    def action_copy(self) -> None:
        self.app.copy_to_clipboard(clean(self._post.text))
        self.notify("The post is in the clipboard.", markup=False)


class Confirm(Dialog):
    """A question with two answers; ``lines`` say what it is about."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "agree", "Yes"),
        Binding("n", "close", "No"),
    ]

    def __init__(self, title: str, lines: Content, agree: str) -> None:
        super().__init__()
        self._title = title
        self._lines = lines
        self._agree = agree

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog"):
            yield Static(self._lines, markup=False)
            with Horizontal(classes="buttons"):
                yield Button("Cancel (n)", id="cancel")
                yield Button(f"{self._agree} (y)", id="agree", variant="primary")
        yield KeyBar()

    def on_mount(self) -> None:
        self.query_one(".dialog").border_title = Content(self._title)
        self.query_one("#cancel", Button).focus()

    def action_agree(self) -> None:
        self.dismiss(True)

    def on_button_pressed(self, event: Button.Pressed) -> None:
        self.dismiss(event.button.id == "agree")


class MakeRoom(Dialog):
    """Asks for a name and a purpose, and stays open with the reason when it does not work."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("ctrl+s", "make", "Make the room")]

    def __init__(self, make: Callable[[str, str], Awaitable[Room]]) -> None:
        super().__init__()
        self._make = make
        self.room: Room | None = None

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog"):
            yield Static("Name", classes="label", markup=False)
            yield Input(placeholder="lobby", id="name", max_length=64, compact=True)
            yield Static("Purpose, if you like", classes="label", markup=False)
            yield Input(placeholder="what members talk about here", id="purpose", compact=True)
            yield Static(id="problem", classes="problem", markup=False)
            with Horizontal(classes="buttons"):
                yield Button("Make the room (^s)", id="make", variant="primary")
        yield KeyBar()

    def on_mount(self) -> None:
        self.query_one(".dialog").border_title = Content("New room")

    def on_input_submitted(self, event: Input.Submitted) -> None:
        if event.input.id == "name":
            self.query_one("#purpose", Input).focus()
        else:
            self.action_make()

    def on_button_pressed(self) -> None:
        self.action_make()

    def action_make(self) -> None:
        name = self.query_one("#name", Input).value.strip()
        if not name:
            self._say("A room needs a name, such as lobby.")
            return
        purpose = self.query_one("#purpose", Input).value.strip()
        self._say("Making it…")
        self._ask(name, purpose)

    @work(group="make", exclusive=True)
    async def _ask(self, name: str, purpose: str) -> None:
        try:
            self.room = await self._make(name, purpose)
        except PermeshError as error:
            self._say(str(error))
        else:
            self.dismiss(True)

    def _say(self, text: str) -> None:
        self.query_one("#problem", Static).update(clean_line(text))


class Admit(Dialog):
    """Asks a registrar whom it has met, and stays open with the reason when it does not fit."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("ctrl+s", "admit", "Admit")]

    def __init__(
        self, lines: Content, asks: bool, admit: Callable[[str | None], Awaitable[Member]]
    ) -> None:
        """``asks``: whether the registrar has to name the person."""
        super().__init__()
        self._lines = lines
        self._asks = asks
        self._admit = admit
        self.admitted: Member | None = None

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog"):
            yield Static(self._lines, markup=False)
            if self._asks:
                yield Static("The person whom you have met", classes="label", markup=False)
                yield Input(placeholder="as they named themselves", id="person", compact=True)
            yield Static(id="problem", classes="problem", markup=False)
            with Horizontal(classes="buttons"):
                yield Button("Cancel (esc)", id="cancel")
                yield Button("Admit (^s)", id="agree", variant="primary")
        yield KeyBar()

    def on_mount(self) -> None:
        self.query_one(".dialog").border_title = Content("Let this member in?")
        self.query_one("#person" if self._asks else "#cancel").focus()

    def on_input_submitted(self) -> None:
        self.action_admit()

    def on_button_pressed(self, event: Button.Pressed) -> None:
        if event.button.id == "agree":
            self.action_admit()
        else:
            self.dismiss(False)

    def action_admit(self) -> None:
        person = self.query_one("#person", Input).value.strip() if self._asks else None
        if person == "":
            self._say("Name the person: you vouch for having met them.")
            return
        self._say("Asking…")
        self._ask(person)

    @work(group="admit", exclusive=True)
    async def _ask(self, person: str | None) -> None:
        try:
            self.admitted = await self._admit(person)
        except PermeshError as error:
            self._say(str(error))
        else:
            self.dismiss(True)

    def _say(self, text: str) -> None:
        self.query_one("#problem", Static).update(clean_line(text))


class OneLine(Dialog):
    """Shows a line to hand on, and copies it."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("y", "copy", "Copy")]

    def __init__(self, title: str, about: str, line: str) -> None:
        super().__init__()
        self._title = title
        self._about = about
        self.line = line

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog"):
            yield Static(self._about, markup=False)
            with VerticalScroll(classes="line"):
                yield Static(clean_line(self.line), markup=False)
        yield KeyBar()

    def on_mount(self) -> None:
        self.query_one(".dialog").border_title = Content(self._title)

    def action_copy(self) -> None:
        self.app.copy_to_clipboard(self.line)
        self.notify("The line is in the clipboard.", markup=False)
