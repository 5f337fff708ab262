"""A window over the main screen with a list that the daemon is asked for.

Owns the asking, and the line that says how it went. What was shown stays when asking again fails.
"""

from __future__ import annotations

from typing import ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Static

from permesh.display import clean_line
from permesh.errors import PermeshError

from .dialogs import Dialog
from .widgets.key_bar import KeyBar
from .widgets.row_list import RowList
from .words import cut

ASKING = "Asking the daemon…"
MAX_HEAD = 400  # characters of an error
MAX_TITLE = 80  # characters; a name is somebody else's


class ListWindow(Dialog):
    """A subclass gives the list, and fetches what is in it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("r", "ask", "Ask again"),
        Binding("escape,q", "close", "Close"),
    ]

    def __init__(self, title: str, rows: RowList) -> None:
        super().__init__()
        self._title = title
        self._rows = rows

    async def fetch(self) -> Content:
        """Ask, show, and answer with what stands above the list; may raise ``PermeshError``."""
        raise NotImplementedError

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog -large"):
            yield Static(classes="head", markup=False)
            yield self._rows
        yield KeyBar()

    def on_mount(self) -> None:
        self.show_title(self._title)
        self._rows.focus()
        self.action_ask()

    def show_title(self, title: str) -> None:
        self.query_one(".dialog").border_title = Content(clean_line(cut(title, MAX_TITLE)))

    def action_ask(self) -> None:
        self.tell(ASKING)
        self._ask()

    @work(group="listing", exclusive=True)
    async def _ask(self) -> None:
        try:
            head = await self.fetch()
        except PermeshError as error:
            self.tell(clean_line(cut(str(error), MAX_HEAD)), problem=True)
        else:
            self.tell(head)
            self.refresh_bindings()

    def tell(self, text: str | Content, *, problem: bool = False) -> None:
        head = self.query_one(".head", Static)
        head.set_class(problem, "-problem")
        head.update(text)
