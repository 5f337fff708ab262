"""The posts of a room as threads.

Owns how a post looks and when older ones are wanted. Post texts are hostile: they pass
`permesh.display` and are wrapped as plain text; a long one shows its beginning and opens whole in
the reader.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.content import Content
from textual.message import Message

from permesh.display import clean, clean_line
from permesh.tui.ports import Clock
from permesh.tui.posts import MAX_POSTS, Row
from permesh.tui.words import ago, colour_of

from .row_list import RowList

MAX_LINES = 16  # of a post shown in the list
TOP = "top"  # keys of the two rows that are not posts; a post's key is its hex id
BOTTOM = "bottom"
MAX_WIDTH = 110  # cells; longer lines are hard to read
NEAR_TOP = 2  # lines from the top at which older posts are asked for


class PostList(RowList):
    """Rows are posts, between a first row on what is older and a last one on what is newer."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("c", "compose", "Compose"),
        Binding("r", "reply", "Reply"),
        Binding("enter", "choose", "Open"),
        Binding("y", "copy", "Copy", show=False),
        Binding("G,end", "to_newest", "Newest", show=False),
    ]

    clicks_to_choose = 2
    stick_to_end = True

    class OlderWanted(Message):
        """The reader came to the first loaded post."""

    class NewestWanted(Message):
        """The reader wants the end of the room."""

    class ComposeWanted(Message):
        """The reader wants to write; ``reply_to`` is a post's id, or None."""

        def __init__(self, reply_to: str | None) -> None:
            super().__init__()
            self.reply_to = reply_to

    class CopyWanted(Message):
        """The reader wants the text of post ``key``."""

        def __init__(self, key: str) -> None:
            super().__init__()
            self.key = key

    def __init__(self, clock: Clock, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._clock = clock
        self._rows: dict[str, Row] = {}
        self._wrapped: dict[tuple[str, int], list[Content]] = {}
        self._top_text = ""
        self.has_older = False
        self.can_write = False

    @property
    def selected(self) -> Row | None:
        return self._rows.get(self.cursor_key or "")

    def show_rows(
        self, rows: Sequence[Row], *, has_older: bool, beginning: str, newest_dropped: bool
    ) -> None:
        """Show threads. Who reads the end stays at the end; who reads above stays there."""
        follow = self.following and not newest_dropped
        fresh = not self._rows
        self._rows = {row.post.id: row for row in rows}
        self._wrapped = {key: value for key, value in self._wrapped.items() if key[0] in self._rows}
        self.has_older = has_older
        self._top_text = "↑  older posts" if has_older else beginning
        keys = [row.post.id for row in rows]
        if keys:
            keys = [TOP, *keys, *([BOTTOM] if newest_dropped else [])]
        self.show_keys(keys, stay=not follow)
        if self.cursor is None and keys:
            self.select(keys[-1], reveal=False)
        if follow or fresh:
            self._scroll_now(self._starts[-1])

    def _anchor(self) -> tuple[str, int] | None:
        """A post, not the row above them all: older posts come in between."""
        anchor = super()._anchor()
        if anchor is not None and anchor[0] == TOP and len(self.keys) > 1:
            return self.keys[1], round(self.scroll_y) - self._starts[1]
        return anchor

    def forget(self) -> None:
        """Show nothing, so that what is shown next begins at its end."""
        self._rows, self.has_older, self.following = {}, False, True
        self.show_keys([], stay=False)
        self.refresh_bindings()

    # Looks

    def lines_of(self, index: int, width: int) -> list[Content]:
        key, width = self.keys[index], min(width, MAX_WIDTH)
        if key == TOP:
            return [Content.styled(self._top_text, "$foreground 40%").center(width), Content("")]
        if key == BOTTOM:
            text = "↓  newer posts — press G"
            return [Content(""), Content.styled(text, "$accent").center(width)]
        row = self._rows[key]
        guide = Content.styled("│ " * row.depth, "$foreground 20%")
        inner = _inner_width(row, width)
        lines = [self._header(row, inner), *self._text(row, inner)]
        lines = [Content.assemble(guide, line) for line in lines]
        return [*lines, Content("")] if self._ends_thread(index) else lines

    def height_of(self, index: int, width: int) -> int:
        row = self._rows.get(self.keys[index])
        if row is None:
            return super().height_of(index, width)
        inner = _inner_width(row, min(width, MAX_WIDTH))
        return 1 + len(self._text(row, inner)) + self._ends_thread(index)

    def _ends_thread(self, index: int) -> bool:
        following = self._rows.get(self.keys[index + 1]) if index + 1 < len(self.keys) else None
        return following is None or following.opens_thread

    def _header(self, row: Row, width: int) -> Content:
        post = row.post
        name = clean_line(post.author_name) or "?"
        colour = colour_of(post.author, self.app.current_theme.dark)
        when = ago(post.created_ms, self._clock())
        parts: list[tuple[str, str]] = [
            (name, f"bold {colour}"),
            (f"  {clean_line(post.author_number)}", "$foreground 40%"),
        ]
        if row.answers:
            parts.append((f"  ↳ {clean_line(row.answers)}", "$foreground 50%"))
        left = Content.assemble(*parts).truncate(max(1, width - len(when) - 2), ellipsis=True)
        gap = " " * max(1, width - left.cell_length - len(when) - 1)
        return Content.assemble(left, gap, (when, "$foreground 40%"))

    def _text(self, row: Row, width: int) -> list[Content]:
        """The wrapped beginning of a post's text, and how much more there is."""
        key = row.post.id, width
        lines = self._wrapped.get(key)
        if lines is None:
            if len(self._wrapped) >= 2 * MAX_POSTS:  # of widths that are gone
                self._wrapped.clear()
            lines = self._wrapped[key] = _beginning(row.post.text, width)
        return lines

    # Keys

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action == "compose":
            return self.can_write
        if action in ("reply", "choose"):
            return self.cursor is not None
        return super().check_action(action, parameters)

    def select(self, key: str | None, *, reveal: bool = True) -> None:
        first = self.cursor is None
        super().select(key, reveal=reveal)
        if first:  # now there is something to reply to
            self.refresh_bindings()

    def action_compose(self) -> None:
        self.post_message(self.ComposeWanted(None))

    def action_reply(self) -> None:
        if self.selected is not None:
            self.post_message(self.ComposeWanted(self.selected.post.id))

    def action_copy(self) -> None:
        if self.selected is not None:
            self.post_message(self.CopyWanted(self.selected.post.id))

    def action_to_newest(self) -> None:
        if BOTTOM in self.keys:
            self.post_message(self.NewestWanted())
        else:
            self.action_to_last()

    def action_choose(self) -> None:
        if self.cursor_key == BOTTOM:
            self.post_message(self.NewestWanted())
        elif self.cursor_key == TOP:
            self._want_older()
        else:
            super().action_choose()

    def action_to_first(self) -> None:
        super().action_to_first()
        self._want_older()

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        super().watch_scroll_y(old_value, new_value)
        if new_value < old_value and new_value <= NEAR_TOP:
            self._want_older()

    def _want_older(self) -> None:
        if self.has_older:
            self.post_message(self.OlderWanted())


def _inner_width(row: Row, width: int) -> int:
    return max(12, width - 2 * row.depth)


def _beginning(text: str, width: int) -> list[Content]:
    """At most `MAX_LINES` lines. Only as much of the text is wrapped as could be shown."""
    shown = clean(text[: MAX_LINES * width]).rstrip("\n").split("\n", MAX_LINES)
    lines: list[Content] = []
    for paragraph in shown[:MAX_LINES]:
        lines.extend(Content(paragraph).wrap(width) if paragraph else [Content("")])
        if len(lines) > MAX_LINES:
            break
    cut = len(lines) > MAX_LINES or len(shown) > MAX_LINES or len(text) > MAX_LINES * width
    if not cut:
        return lines
    more = Content.styled("…  the whole post: enter", "$foreground 50%")
    return [*lines[: MAX_LINES - 1], more]
