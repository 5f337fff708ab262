"""The posts of a room or of a thread, as indented rows.

Owns which post is selected, what of each is drawn, and when more are wanted. What a post looks
like is `post_lines`' affair; what becomes of a key is the view's. Only posts in view are drawn;
of the others the height is known.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.content import Content
from textual.message import Message

from permesh.tui.ports import Clock
from permesh.tui.post_lines import Drawing, draw_post
from permesh.tui.posts import Row

from .row_list import RowList

TOP = "top"  # keys of the two rows that are not posts; a post's key is its hex id
BOTTOM = "bottom"
MAX_WIDTH = 110  # cells; longer lines are hard to read
NEAR_TOP = 2  # lines from the top at which older posts are asked for
NEAR_END = 60  # lines before the end at which the next page of a thread is asked for
MAX_DRAWN = 400  # posts whose lines are kept
SLICE = 20  # posts measured at once; then the app may answer to keys

# Asks for something that needs a selected post, and whether a removed post is good enough.
ON_A_POST = {
    "reply": True, "quote": False, "edit": False, "remove": False, "react": False, "label": True,
    "author": True, "copy": False, "copy_id": True, "versions": False, "thread": True,
    "fetch": False, "unfold": True,
}  # fmt: skip


class PostList(RowList):
    """Rows are posts, between a first row on what is older and a last one on what is newer."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("c", "want('compose')", "Compose"),
        Binding("r", "want('reply')", "Reply"),
        Binding("enter", "choose", "Open"),
        Binding("v", "want('thread')", "Thread"),
        Binding("plus", "want('react')", "React", key_display="+", show=False),
        Binding("e", "want('edit')", "Edit"),
        Binding("d", "want('remove')", "Remove", show=False),
        Binding("Q", "want('quote')", "Quote", show=False),
        Binding("l", "want('label')", "Label", show=False),
        Binding("m", "want('author')", "Author", show=False),
        Binding("o", "want('fetch')", "Fetch file", show=False),
        Binding("x", "want('unfold')", "Unfold", show=False),
        Binding("h", "want('hidden')", "Hidden posts", show=False),
        Binding("V", "want('versions')", "Versions", show=False),
        Binding("y", "want('copy')", "Copy", show=False),
        Binding("Y", "want('copy_id')", "Copy id", show=False),
        Binding("G,end", "to_newest", "Newest", show=False),
    ]

    clicks_to_choose = 2
    stick_to_end = True

    class Wanted(Message):
        """The reader wants ``what`` done with the post ``key`` (None: with none).

        Besides `ON_A_POST`: compose, hidden, older, newest and next.
        """

        def __init__(self, what: str, key: str | None) -> None:
            super().__init__()
            self.what = what
            self.key = key

    def __init__(self, clock: Clock, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._clock = clock
        self._rows: dict[str, Row] = {}
        self._heights: dict[str, tuple[Row, int, int]] = {}  # by post: row, width, lines
        self._drawn: dict[str, tuple[Row, int, list[Content]]] = {}
        self._top_text = ""
        self.own = ""  # this member's agent
        self.lookalikes: Mapping[str, str] = {}  # by agent: whose name it looks like
        self.has_older = False
        self.has_next = False
        self.can_write = False
        self.in_thread = False  # whether a whole thread is what is shown

    @property
    def selected(self) -> Row | None:
        return self._rows.get(self.cursor_key or "")

    async def prepare(self, rows: Iterable[Row]) -> None:
        """Measure posts before they are shown, a few at a time, so that keys are not held up."""
        width = min(self.text_width, MAX_WIDTH)
        if width < 1:
            return
        for at, row in enumerate(rows):
            self._height(row, width)
            if at % SLICE == SLICE - 1:
                await asyncio.sleep(0)

    def show_rows(
        self,
        rows: Sequence[Row],
        *,
        has_older: bool = False,
        beginning: str = "",
        newest_dropped: bool = False,
        has_next: bool = False,
        follow: bool | None = None,
    ) -> None:
        """Show threads. Who reads the end stays at the end (unless ``follow`` says no), who reads
        above stays there."""
        if follow is None:
            follow = self.following and not newest_dropped
        fresh = not self._rows
        self._rows = {row.post.id: row for row in rows}
        self._heights = {key: held for key, held in self._heights.items() if key in self._rows}
        self.has_older, self.has_next = has_older, has_next
        self._top_text = "↑  older posts" if has_older else beginning
        keys = [row.post.id for row in rows]
        if keys:
            top = [TOP] if self._top_text else []
            keys = [*top, *keys, *([BOTTOM] if newest_dropped or has_next else [])]
        self.show_keys(keys, stay=not follow)
        if self.cursor is None and keys:
            self.select(keys[-1] if self.stick_to_end else keys[0], reveal=False)
        if self.stick_to_end and (follow or fresh):
            self._scroll_now(self._starts[-1])

    def _anchor(self) -> tuple[str, int] | None:
        """A post, not the row above them all: older posts come in between."""
        anchor = super()._anchor()
        if anchor is not None and anchor[0] == TOP and len(self.keys) > 1:
            return self.keys[1], round(self.scroll_y) - self._starts[1]
        return anchor

    def forget(self) -> None:
        """Show nothing, so that what is shown next begins at its end."""
        self._rows, self.has_older, self.has_next, self.following = {}, False, False, True
        self._heights.clear()
        self.show_keys([], stay=False)
        self.refresh_bindings()

    # Looks

    def refresh_rows(self) -> None:
        self._drawn.clear()
        super().refresh_rows()

    def lines_of(self, index: int, width: int) -> list[Content]:
        key, width = self.keys[index], min(width, MAX_WIDTH)
        if key == TOP:
            return [Content.styled(self._top_text, "$foreground 40%").center(width), Content("")]
        if key == BOTTOM:
            text = "↓  more" if self.has_next else "↓  newer posts — press G"
            return [Content(""), Content.styled(text, "$accent").center(width)]
        row = self._rows[key]
        guide = Content.styled("│ " * row.depth, "$foreground 20%")
        lines = [Content.assemble(guide, line) for line in self._post(row, width)]
        return [*lines, Content("")] if self._ends_thread(index) else lines

    def height_of(self, index: int, width: int) -> int:
        row = self._rows.get(self.keys[index])
        if row is None:
            return 2
        return self._height(row, min(width, MAX_WIDTH)) + self._ends_thread(index)

    def look_alike(self, lookalikes: Mapping[str, str]) -> None:
        """Say whose names look like others'; what is drawn may have another height then."""
        if lookalikes != self.lookalikes:
            self.lookalikes = dict(lookalikes)
            self._heights.clear()
            self.refresh_rows()

    def _height(self, row: Row, width: int) -> int:
        held = self._heights.get(row.post.id)
        if held is not None and held[1] == width and _same(held[0], row):
            return held[2]
        lines = len(self._post(row, width))
        self._heights[row.post.id] = row, width, lines
        return lines

    def _post(self, row: Row, width: int) -> list[Content]:
        held = self._drawn.get(row.post.id)
        if held is not None and held[1] == width and _same(held[0], row):
            return held[2]
        drawing = Drawing(self._clock(), self.app.current_theme.dark, self.own, self.lookalikes)
        lines = draw_post(row, max(12, width - 2 * row.depth), drawing)
        while len(self._drawn) >= MAX_DRAWN:
            del self._drawn[next(iter(self._drawn))]
        self._drawn[row.post.id] = row, width, lines
        return lines

    def _ends_thread(self, index: int) -> bool:
        following = self._rows.get(self.keys[index + 1]) if index + 1 < len(self.keys) else None
        return following is None or following.opens_thread

    # Keys

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action == "want":
            return self.may_want(str(parameters[0]))
        if action == "choose":
            return self.cursor is not None
        return super().check_action(action, parameters)

    def may_want(self, what: str) -> bool:
        if what in ("compose", "hidden"):
            return self.can_write
        row = self.selected
        if row is None:
            return what not in ON_A_POST
        post = row.post
        if what == "thread":
            return not self.in_thread
        if what == "edit":
            return post.author == self.own and not post.removed
        if what == "remove":
            return post.author == self.own and not post.removed
        if what == "fetch":
            return bool(post.attachments) and not post.removed
        if what == "versions":
            return bool(post.edits)
        return ON_A_POST.get(what, True) or not post.removed

    def select(self, key: str | None, *, reveal: bool = True) -> None:
        moved = key != self.cursor_key
        super().select(key, reveal=reveal)
        if moved:  # other keys may work on this post
            self.refresh_bindings()

    def action_want(self, what: str) -> None:
        self.post_message(self.Wanted(what, self.selected.post.id if self.selected else None))

    def action_to_newest(self) -> None:
        if BOTTOM in self.keys:
            self.post_message(self.Wanted("newest", None))
        else:
            self.action_to_last()

    def action_choose(self) -> None:
        if self.cursor_key == BOTTOM:
            self.post_message(self.Wanted("next" if self.has_next else "newest", None))
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
        if self.has_next and new_value > old_value and new_value > self.max_scroll_y - NEAR_END:
            self.post_message(self.Wanted("next", None))

    def _want_older(self) -> None:
        if self.has_older:
            self.post_message(self.Wanted("older", None))


def _same(drawn: Row, row: Row) -> bool:
    """Whether a row as it was drawn still looks the same."""
    return (
        drawn.post is row.post
        and drawn.depth == row.depth
        and drawn.answers == row.answers
        and len(drawn.folded) == len(row.folded)
    )
