"""The first line: where one is, where one can go, and who one is; and what is told below it."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.content import Content
from textual.geometry import Size
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Static

from permesh.display import clean_line
from permesh.tui.model import MeshModel
from permesh.tui.words import colour_of, cut, fold, plural

VIEWS: dict[str, str] = {
    "forum": "Rooms",
    "members": "Members",
    "mesh": "Mesh",
    "card": "Card",
    "inbox": "Inbox",
    "search": "Search",
}

ALARM_LINES = 2
MAX_ALARM = 1_000  # characters of it that are looked at; one in plain words has 200

OUTSIDE = {
    "none": "This home belongs to no mesh yet.",
    "asking": "Asking to be let in.",
    "pending": "A registrar has to let you in.",
    "refused": "The mesh refused this member.",
}


class Tab(Static):
    """The name of a view; a click goes there."""

    class Clicked(Message):
        def __init__(self, view: str) -> None:
            super().__init__()
            self.view = view

    def __init__(self, view: str) -> None:
        super().__init__(id=f"tab-{view}", classes="tab", markup=False)
        self.view = view

    def on_click(self) -> None:
        self.post_message(self.Clicked(self.view))


class TopBar(Horizontal):
    """Tabs at the left, this member and its mesh at the right."""

    KEYS: ClassVar[dict[str, str]] = {view: str(at) for at, view in enumerate(VIEWS, 1)}

    def compose(self) -> ComposeResult:
        for view in VIEWS:
            yield Tab(view)
        yield Static(id="who", markup=False)

    def show_state(self, model: MeshModel, view: str) -> None:
        waiting = model.pending if model.is_registrar else 0
        marks = {"forum": model.unread, "members": waiting, "inbox": model.inbox_unread}
        for name, title in VIEWS.items():
            tab = self.query_one(f"#tab-{name}", Tab)
            mark = marks.get(name, 0)
            tab.update(
                Content.assemble(
                    (f"{self.KEYS[name]} ", "$foreground 40%"),
                    title,
                    (f" {min(mark, 999)}" if mark else "", "bold $accent"),
                )
            )
            tab.set_class(name == view, "-active")
        self.query_one("#who", Static).update(self._who(model))

    def _who(self, model: MeshModel) -> Content:
        status = model.status
        if status is None:
            return Content.styled("permesh", "$foreground 50%")
        mark = ("● ", "$success" if model.online else "$error")
        wide = self.app.size.width >= 100
        mesh = clean_line(status.mesh.name)
        peers = f"{plural(len(status.peers), 'peer')}  " if wide else ""
        return Content.assemble(
            (f"{peers}", "$foreground 50%"),
            (f"{mesh}  " if mesh else "", "$foreground 70%"),
            mark,
            (clean_line(status.name), f"bold {colour_of(status.agent, self._dark)}"),
            (f" {clean_line(status.number)}" if wide else "", "$foreground 50%"),
        )

    @property
    def _dark(self) -> bool:
        return self.app.current_theme.dark


class Alarm(Widget):
    """What stops the log of admissions, on every page until it is gone; hidden otherwise.

    Names of members stand in it. It never takes more than `ALARM_LINES`; the mesh page has it
    whole.
    """

    def __init__(self) -> None:
        super().__init__(id="alarm")
        self._text = ""

    def show_state(self, model: MeshModel) -> None:
        text = clean_line(cut(model.contradiction, MAX_ALARM))
        if text != self._text:
            self._text = text
            self.refresh(layout=True)
        self.display = bool(text)

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:  # noqa: ARG002
        return len(self._lines(width))

    def render(self) -> Content:
        return Content("\n").join(self._lines(self.size.width))

    def _lines(self, width: int) -> list[Content]:
        width = max(2, width - 2)
        lines = fold(self._text, width)
        shown, left = lines[: ALARM_LINES - 1], lines[ALARM_LINES - 1 :]
        if left:  # what finds no room is cut off where one sees it
            shown.append(" ".join(left[:2]))
        return [
            Content.assemble("  " if at else "! ", Content(line).truncate(width, ellipsis=True))
            for at, line in enumerate(shown)
        ]


class Banner(Static):
    """Says what keeps the app from being useful, and what to do; hidden when all is well."""

    def __init__(self) -> None:
        super().__init__(id="banner", markup=False)

    def show_state(self, model: MeshModel) -> None:
        what, next_ = "", ""
        offline = not model.online and model.problem is not None
        if offline and model.problem is not None:
            what = clean_line(str(model.problem))
            next_ = "Trying again by itself; what you write is kept."
        elif model.status is not None and model.status.mesh.state in OUTSIDE:
            mesh = model.status.mesh
            what, next_ = OUTSIDE[mesh.state], clean_line(mesh.detail)
            if mesh.state == "none" and not next_:
                next_ = "Found one with: permesh mesh create NAME"
        self.display = bool(what)
        self.set_class(offline, "-offline")
        self.update(Content(f"{what}\n{next_}".rstrip()))
