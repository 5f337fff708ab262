"""The last line: the keys that work right now.

Owns one line of text. Textual's own footer builds and styles a widget for every key each time the
focus moves, which costs more than drawing the rest of the screen.
"""

from __future__ import annotations

from textual import events
from textual.content import Content
from textual.geometry import Size
from textual.screen import Screen
from textual.widget import Widget

GAP = "   "


class KeyBar(Widget):
    """Keys with what they do; a click on one presses it. What finds no room is left out."""

    def __init__(self) -> None:
        super().__init__()
        self._places: list[tuple[int, int, str]] = []  # first cell, last cell + 1, key

    def on_mount(self) -> None:
        self.screen.bindings_updated_signal.subscribe(self, self._changed)

    def _changed(self, _: Screen[object]) -> None:
        self.refresh()

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:  # noqa: ARG002
        return 1

    def _keys(self) -> list[tuple[str, str, str]]:
        """(key, how it is shown, what it does) of each key to show, the palette's last."""
        shown: dict[str, tuple[str, str, str]] = {}
        palette = self.app.COMMAND_PALETTE_BINDING
        for _, binding, enabled, _ in self.screen.active_bindings.values():
            if binding.show and enabled and binding.key != palette:
                entry = binding.key, self.app.get_key_display(binding), binding.description
                shown.setdefault(binding.action, entry)
        if palette in self.screen.active_bindings:
            shown[palette] = palette, "^p", "Commands"
        return list(shown.values())

    def render(self) -> Content:
        line, self._places = Content(" "), []
        for key, display, words in self._keys():
            entry = Content.assemble((display, "bold $footer-key-foreground"), f" {words}")
            start = line.cell_length
            if start + entry.cell_length > self.size.width:
                break
            self._places.append((start, start + entry.cell_length, key))
            line = Content.assemble(line, entry, GAP)
        return line

    def on_click(self, event: events.Click) -> None:
        for start, end, key in self._places:
            if start <= event.x < end:
                self.app.simulate_key(key)
