"""A whole text, however long, to scroll through.

Owns wrapping and scrolling. Only the lines in view are styled: a text area takes half a second
for each screenful of a post of 32 KiB in one line.
"""

from __future__ import annotations

from textual import events
from textual.content import Content
from textual.geometry import Size
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.visual import Visual

from permesh.display import clean


class LongText(ScrollView, can_focus=True):
    """Plain text: another member's, so cleaned and never markup."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self._paragraphs = clean(text).split("\n")
        self._lines: list[Content] = []
        self._wrapped_for = 0

    def on_resize(self, _: events.Resize) -> None:
        width = self.scrollable_content_region.width
        if width < 1 or width == self._wrapped_for:
            return
        self._wrapped_for = width
        self._lines = [
            line
            for paragraph in self._paragraphs
            for line in (Content(paragraph).wrap(width) if paragraph else [Content("")])
        ]
        self.virtual_size = Size(width, len(self._lines))
        self.refresh()

    def render_line(self, y: int) -> Strip:
        width, line = self.scrollable_content_region.width, y + round(self.scroll_y)
        style = self.visual_style
        if line >= len(self._lines):
            return Strip.blank(width, style.rich_style)
        strips = Visual.to_strips(self, self._lines[line], width, 1, style, pad=True)
        return strips[0] if strips else Strip.blank(width, style.rich_style)
