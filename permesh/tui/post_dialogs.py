"""The small windows over a post: a reaction, a label, its author, its files.

Each answers through its result and knows nothing of the daemon; what it asks for is passed in.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.widgets import Button, Input, Static

from permesh.display import clean_line
from permesh.errors import PermeshError
from permesh.schema import (
    Attachment,
    Judgement,
    Label,
    NewJudgement,
    NewLabel,
    Reaction,
    Version,
)

from .dialogs import Dialog
from .post_lines import attachment_line, reacted
from .widgets.key_bar import KeyBar
from .widgets.row_list import RowList
from .words import ago, cut, moment

COMMON = ("👍", "🧡", "😄", "🎉", "🤔", "👀", "🙏", "❌")
MAX_SHOWN = 8  # labels


def versions_text(versions: Sequence[Version], now_ms: int) -> str:
    """What a post said, newest first, as one text."""
    parts = []
    for at, version in reversed(list(enumerate(versions, 1))):
        when = f"{moment(version.created_ms)}, {ago(version.created_ms, now_ms)}"
        parts.append(f"── version {at} · {when} ──\n{version.text}")
    return "\n\n".join(parts)


class ReactDialog(Dialog):
    """A digit picks one of the common reactions; another one may be typed."""

    BINDINGS: ClassVar[list[BindingType]] = [
        *(
            Binding(str(at), f"pick('{emoji}')", emoji, show=False)
            for at, emoji in enumerate(COMMON, 1)
        ),
    ]

    def __init__(self, reactions: Sequence[Reaction]) -> None:
        super().__init__()
        self._reactions = reactions
        self.emoji = ""

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog"):
            line = "   ".join(f"{at} {emoji}" for at, emoji in enumerate(COMMON, 1))
            yield Static(line, id="common", markup=False)
            if self._reactions:
                yield Static(reacted(self._reactions), classes="note", markup=False)
            yield Static("Or type another one", classes="label", markup=False)
            yield Input(id="emoji", max_length=16, compact=True)
            yield Static("The same one again takes it back.", classes="note", markup=False)
        yield KeyBar()

    def on_mount(self) -> None:
        frame = self.query_one(".dialog")
        frame.border_title = Content("React")
        frame.can_focus = True
        frame.focus()

    def action_pick(self, emoji: str) -> None:
        self.emoji = emoji
        self.dismiss(True)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        if event.value.strip():
            self.action_pick(event.value.strip())


class LabelDialog(Dialog):
    """Which label and why; the labels that are there stand above."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("ctrl+s", "put('')", "Label", show=False)]
    VALUES = ("hide", "spam", "pin")

    def __init__(self, about: str, own: str, load: Callable[[], Awaitable[list[Label]]]) -> None:
        super().__init__()
        self._about = about
        self._own = own
        self._load = load
        self._mine: set[str] = set()
        self.label: NewLabel | None = None

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog"):
            yield Static(clean_line(self._about), classes="dim", markup=False)
            yield Static("Asking for its labels…", id="labels", classes="note", markup=False)
            yield Static("Why, for everybody to read", classes="label", markup=False)
            yield Input(id="reason", max_length=200, compact=True)
            yield Static(id="problem", classes="problem", markup=False)
            with Horizontal(classes="buttons"):
                for value in self.VALUES:
                    yield Button(value.capitalize(), id=f"label-{value}")
        yield KeyBar()

    def on_mount(self) -> None:
        frame = self.query_one(".dialog")
        frame.border_title = Content("Label this post")
        frame.border_subtitle = Content("signed by you; counts for who goes by your labels")
        self.query_one("#reason", Input).focus()
        self._ask()

    @work(group="labels", exclusive=True)
    async def _ask(self) -> None:
        said = self.query_one("#labels", Static)
        try:
            labels = await self._load()
        except PermeshError as error:
            said.update(clean_line(str(error)))
            return
        self._mine = {one.value for one in labels if one.on and one.author.agent == self._own}
        for value in self._mine.intersection(self.VALUES):
            self.query_one(f"#label-{value}", Button).label = f"Take back {value}"
        lines = [
            clean_line(
                f"{cut(one.value, 32)} by {cut(one.author.name or one.author.agent, 64)}"
                f"{': ' + one.reason if one.reason else ''}"
                f"{'' if one.counts else ' (does not count here)'}"
            )
            for one in labels
            if one.on
        ]
        more = f"\nand {len(lines) - MAX_SHOWN} more" if len(lines) > MAX_SHOWN else ""
        said.update("\n".join(lines[:MAX_SHOWN]) + more or "No labels yet.")

    def on_input_submitted(self) -> None:
        self.query_one(f"#label-{self.VALUES[0]}", Button).focus()

    def on_button_pressed(self, event: Button.Pressed) -> None:
        value = (event.button.id or "").removeprefix("label-")
        reason = self.query_one("#reason", Input).value.strip()
        on = value not in self._mine
        if on and not reason:
            self.query_one("#problem", Static).update("Say why: others decide by it.")
            self.query_one("#reason", Input).focus()
            return
        self.label = NewLabel(value=value, on=on, reason=reason)
        self.dismiss(True)


class AuthorDialog(Dialog):
    """How a member is treated here; each key is one change."""

    CHOICES: ClassVar[dict[str, tuple[str, NewJudgement, str]]] = {
        "m": ("mute", NewJudgement(heard="muted"), "Its posts are hidden here."),
        "b": ("block", NewJudgement(heard="blocked"), "Nothing of it is shown here."),
        "u": ("hear it again", NewJudgement(heard="yes"), "It is heard again."),
        "t": ("its labels count", NewJudgement(labels=True), "Its labels count here now."),
        "n": ("they do not", NewJudgement(labels=False), "Its labels do not count here."),
    }
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(key, f"choose('{key}')", words.capitalize())
        for key, (words, _, _) in CHOICES.items()
    ]

    def __init__(self, name: str, load: Callable[[], Awaitable[Judgement | None]]) -> None:
        super().__init__()
        self._name_line = name
        self._load = load
        self.judgement: NewJudgement | None = None
        self.said = ""

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog"):
            yield Static("Asking…", id="now", markup=False)
            yield Static(id="choices", classes="note", markup=False)
        yield KeyBar()

    def on_mount(self) -> None:
        frame = self.query_one(".dialog")
        frame.border_title = Content(self._name_line)
        frame.border_subtitle = Content("yours alone: nobody is told")
        frame.can_focus = True
        frame.focus()
        lines = [
            Content.assemble((f"{key}  ", "bold $accent"), words)
            for key, (words, _, _) in self.CHOICES.items()
        ]
        self.query_one("#choices", Static).update(Content("\n").join(lines))
        self._ask()

    @work(group="judgement", exclusive=True)
    async def _ask(self) -> None:
        now = self.query_one("#now", Static)
        try:
            held = await self._load() or Judgement.model_construct(labels=False, heard="yes")
        except PermeshError as error:
            now.update(clean_line(str(error)))
            return
        heard = {"yes": "heard", "muted": "muted", "blocked": "blocked"}[held.heard]
        labels = "its labels count" if held.labels else "its labels do not count"
        now.update(f"Now: {heard}; {labels}.")

    def action_choose(self, key: str) -> None:
        _, self.judgement, self.said = self.CHOICES[key]
        self.dismiss(True)


class FileList(RowList):
    """The files of one post."""

    def __init__(self, files: Sequence[Attachment]) -> None:
        super().__init__()
        self.files = files

    def on_mount(self) -> None:
        self.show_keys([str(at) for at in range(len(self.files))])
        self.select("0")

    def lines_of(self, index: int, width: int) -> list[Content]:
        return [attachment_line(self.files[index]).truncate(width, ellipsis=True)]


class PickFile(Dialog):
    """Which of a post's files."""

    def __init__(self, files: Sequence[Attachment]) -> None:
        super().__init__()
        self._list = FileList(files)
        self.picked: Attachment | None = None

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog -list"):
            yield self._list
        yield KeyBar()

    def on_mount(self) -> None:
        self.query_one(".dialog").border_title = Content("Which file?")
        self._list.focus()

    def on_row_list_chosen(self, event: RowList.Chosen) -> None:
        event.stop()
        self.picked = self._list.files[int(event.key)]
        self.dismiss(True)
