"""A list of rows of any height, drawn line by line.

Owns selection, scrolling and the mouse; knows nothing of what a row means. Only the lines in view
are styled, so that a thousand rows cost what a screenful does. Rows are `Content`, never markup.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.geometry import Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.style import Style
from textual.visual import Visual

GUTTER = 2  # cells at the left of each row, for the mark of the selected one


class RowList(ScrollView, can_focus=True):
    """Rows with keys; a subclass lays out each one in `lines_of`."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "step(-1)", "Up", show=False),
        Binding("down,j", "step(1)", "Down", show=False),
        Binding("pageup", "page(-1)", "Page up", show=False),
        Binding("pagedown", "page(1)", "Page down", show=False),
        Binding("home,g", "to_first", "First", show=False),
        Binding("end,G", "to_last", "Last", show=False),
        Binding("enter", "choose", "Open", show=False),
    ]
    COMPONENT_CLASSES: ClassVar[set[str]] = {"row-list--cursor", "row-list--cursor-blurred"}
    clicks_to_choose = 1
    stick_to_end = False  # whether a view of the end stays there when rows change height

    class Highlighted(Message):
        """The selection moved to the row of ``key``."""

        def __init__(self, rows: RowList, key: str) -> None:
            super().__init__()
            self.rows = rows
            self.key = key

        @property
        def control(self) -> RowList:
            return self.rows

    class Chosen(Highlighted):
        """The row of ``key`` was chosen, by enter or by mouse."""

    def __init__(self, *, id: str | None = None, empty: str = "") -> None:
        super().__init__(id=id)
        self.empty = empty
        self.following = True  # whether the reader last left the view at its end
        self.keys: list[str] = []
        self._cursor_key: str | None = None
        self._starts: list[int] = [0]  # first line of each row, and the end
        self._lines: dict[int, list[Content]] = {}
        self._laid_out_width = 0

    # What a subclass says

    def lines_of(self, index: int, width: int) -> list[Content]:
        """The lines of a row, each at most ``width`` cells; there is at least one."""
        raise NotImplementedError

    def height_of(self, index: int, width: int) -> int:
        """How many lines `lines_of` gives; a subclass may know it for less."""
        return len(self.lines_of(index, width))

    # Rows

    @property
    def cursor(self) -> int | None:
        return self.keys.index(self._cursor_key) if self._cursor_key in self.keys else None

    @property
    def cursor_key(self) -> str | None:
        return self._cursor_key

    @property
    def text_width(self) -> int:
        """Cells for a row's lines; less than one while the list is not on screen."""
        return self.scrollable_content_region.width - GUTTER

    @property
    def at_end(self) -> bool:
        """Whether the last line is in view."""
        return self.scroll_y >= self.max_scroll_y - 1

    def show_keys(self, keys: Sequence[str], *, stay: bool = True) -> None:
        """Show these rows. The row at the top of the view stays where it is if ``stay``."""
        anchor = self._anchor() if stay else None
        self.keys = list(keys)
        if self._cursor_key not in self.keys:
            self._cursor_key = None
        self._lay_out()
        if anchor is not None and anchor[0] in self.keys:
            self._scroll_now(self._starts[self.keys.index(anchor[0])] + anchor[1])

    def refresh_rows(self) -> None:
        """Draw the same rows anew: their content changed."""
        self._lay_out()

    def select(self, key: str | None, *, reveal: bool = True) -> None:
        """Move the selection without telling anyone."""
        if key is not None and key not in self.keys:
            return
        self._cursor_key = key
        if reveal:
            self._reveal()
        self.refresh()

    def _anchor(self) -> tuple[str, int] | None:
        """The first row in view, and how many of its lines are above the view."""
        top = round(self.scroll_y)
        at = self._row_at(top)
        return None if at is None else (self.keys[at], top - self._starts[at])

    def _lay_out(self) -> None:
        self._laid_out_width = self.scrollable_content_region.width
        self._lines.clear()
        width = self._laid_out_width - GUTTER
        if width < 1:  # not on screen yet; `on_resize` comes when it is
            self._starts = list(range(len(self.keys) + 1))
            return
        heights = (self.height_of(index, width) for index in range(len(self.keys)))
        self._starts = [0, *accumulate(heights)]
        self.virtual_size = Size(self._laid_out_width, self._starts[-1])
        self.refresh()

    def _row_at(self, line: int) -> int | None:
        if not self.keys or not 0 <= line < self._starts[-1]:
            return None
        return bisect_right(self._starts, line) - 1

    def _scroll_now(self, line: int) -> None:
        """Scroll at once, also when the rows outgrew the view only now and it has no bar yet."""
        self.scroll_to(y=max(0, line), animate=False, force=True)

    def _reveal(self) -> None:
        """Bring the selected row into view: whole if it fits, its top otherwise."""
        at = self.cursor
        if at is None:
            return
        start, end = self._starts[at], self._starts[at + 1]
        height = self.scrollable_content_region.height
        top = round(self.scroll_y)
        if start < top or end - start > height:
            self._scroll_now(start)
        elif end > top + height:
            self._scroll_now(end - height)

    # Drawing

    def render_line(self, y: int) -> Strip:
        width = self.scrollable_content_region.width
        if not self.keys:
            return self._empty_line(y, width)
        line = y + round(self.scroll_y)
        at = self._row_at(line)
        if at is None:
            return Strip.blank(width, self.visual_style.rich_style)
        lines = self._lines.get(at)
        if lines is None:
            # As laid out, not as wide as now: a new size is drawn before `on_resize` hears of it.
            lines = self._lines[at] = self.lines_of(at, max(1, self._laid_out_width - GUTTER))
        content = lines[line - self._starts[at]]
        if self.keys[at] != self._cursor_key:
            return self._strip(Content.assemble("  ", content), width, self.visual_style)
        name = "row-list--cursor" if self.has_focus else "row-list--cursor-blurred"
        bar = ("▌ ", "$accent" if self.has_focus else "$foreground 30%")
        return self._strip(Content.assemble(bar, content), width, self.get_visual_style(name))

    def _strip(self, content: Content, width: int, style: Style) -> Strip:
        strips = Visual.to_strips(self, content, width, 1, style, pad=True, apply_selection=False)
        return strips[0] if strips else Strip.blank(width, style.rich_style)

    def _empty_line(self, y: int, width: int) -> Strip:
        """The hint, in the middle: a heading, and below it what to do next."""
        lines = [
            line
            for text in self.empty.split("\n")
            for line in Content(text).wrap(max(1, width - 4))
        ]
        above = max(0, (self.scrollable_content_region.height - len(lines)) // 2)
        if not self.empty or not above <= y < above + len(lines):
            return Strip.blank(width, self.visual_style.rich_style)
        line = lines[y - above].stylize("$foreground 60%")
        return self._strip(line.center(width), width, self.visual_style)

    def say_when_empty(self, text: str) -> None:
        if text != self.empty:
            self.empty = text
            self.refresh()

    def on_resize(self, _: events.Resize) -> None:
        if self.scrollable_content_region.width != self._laid_out_width:
            self._lay_out()
        if self.stick_to_end and self.following:
            self._scroll_now(self._starts[-1])

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        super().watch_scroll_y(old_value, new_value)
        self.following = self.at_end

    def on_focus(self) -> None:
        self.refresh()

    def on_blur(self) -> None:
        self.refresh()

    # Keys and mouse

    def action_step(self, by: int) -> None:
        """Move the selection; within a row taller than the view, scroll through it first."""
        at = self.cursor
        if at is None:
            self._move_to(len(self.keys) - 1 if by < 0 else 0)
            return
        top, height = round(self.scroll_y), self.scrollable_content_region.height
        if by > 0 and self._starts[at + 1] > top + height > self._starts[at]:
            self._scroll_now(min(top + 3, self._starts[at + 1] - height))
        elif by < 0 and self._starts[at] < top < self._starts[at + 1]:
            self._scroll_now(max(top - 3, self._starts[at]))
        else:
            self._move_to(at + by)

    def action_page(self, by: int) -> None:
        height = max(1, self.scrollable_content_region.height - 2)
        line = self._starts[self.cursor or 0] + by * height
        at = self._row_at(min(max(0, line), self._starts[-1] - 1))
        self._move_to(at if at is not None else 0)

    def action_to_first(self) -> None:
        self._move_to(0)
        self._scroll_now(0)

    def action_to_last(self) -> None:
        self._move_to(len(self.keys) - 1)
        self._scroll_now(self._starts[-1])

    def action_choose(self) -> None:
        if self._cursor_key is not None:
            self.post_message(self.Chosen(self, self._cursor_key))

    def _move_to(self, at: int) -> None:
        if not self.keys:
            return
        key = self.keys[min(max(0, at), len(self.keys) - 1)]
        moved = key != self._cursor_key
        self.select(key)
        if moved:
            self.post_message(self.Highlighted(self, key))

    def on_click(self, event: events.Click) -> None:
        offset = event.get_content_offset(self)
        at = None if offset is None else self._row_at(offset.y + round(self.scroll_y))
        if at is None:
            return
        self._move_to(at)
        if event.chain >= self.clicks_to_choose:
            self.action_choose()
