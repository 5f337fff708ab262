"""A Chitin ID card in its frame."""

from __future__ import annotations

from typing import ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.widgets import Static

from permesh.tui.card import CLAIM, Card, draw


class CardView(VerticalScroll, can_focus=True):
    """Shows one card, redrawn to the width it has."""

    def __init__(self, *, id: str | None = None, hint: str = "") -> None:
        super().__init__(id=id)
        self._card: Card | None = None
        self._hint = hint

    def compose(self) -> ComposeResult:
        yield Static(self._hint, classes="card", markup=False)

    def show_card(self, card: Card | None) -> None:
        self._card = card
        self._redraw()

    def on_resize(self, _: events.Resize) -> None:
        self._redraw()

    def _redraw(self) -> None:
        frame = self.query_one(".card", Static)
        if self._card is None:
            frame.border_title = frame.border_subtitle = None
            frame.update(self._hint)
            return
        frame.border_title, frame.border_subtitle = "Chitin ID", CLAIM
        width = min(self.scrollable_content_region.width, 74) - 6
        frame.update(draw(self._card, max(20, width), self.app.current_theme.dark))


class OwnCard(CardView):
    """The card of this member itself."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("c", "screen.own_chronicle", "Chronicle"),
    ]
