"""A list of posts from anywhere: what search finds, and what the inbox tells.

Owns the two or three lines of each: where it stands, what it is about, how it begins.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.content import Content

from permesh.display import clean_line
from permesh.schema import InboxItem, Post

from .ports import Clock
from .post_lines import hidden_words, name_of
from .widgets.row_list import RowList
from .words import ago, colour_of, cut

SHOWN = 240  # characters of a post
MAX_SAID = 200
NEAR_END = 20  # lines before the end at which more are asked for


@dataclass(frozen=True, slots=True)
class Found:
    """One row: ``said`` stands before the post, ``at_ms`` is when it happened."""

    key: str
    post: Post
    at_ms: int
    said: str = ""
    unread: bool = False


def from_search(posts: Sequence[Post]) -> list[Found]:
    return [Found(post.id, post, post.created_ms) for post in posts]


def from_inbox(items: Sequence[InboxItem]) -> list[Found]:
    return [
        Found(
            f"{item.kind} {item.post.id} {item.by.agent} {item.at_ms}",
            item.post,
            item.at_ms,
            cut(item.text, MAX_SAID),
            item.unread,
        )
        for item in items
    ]


class FoundList(RowList):
    """Newest first; the next page is asked for near the end."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("enter", "choose", "Open in its thread")]
    clicks_to_choose = 2

    class MoreWanted(RowList.Highlighted):
        """The reader came near the end."""

    def __init__(self, clock: Clock, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._clock = clock
        self._found: dict[str, Found] = {}
        self.own = ""
        self.has_more = False

    def show_found(self, found: Sequence[Found], *, has_more: bool) -> None:
        self._found = {one.key: one for one in found}
        self.has_more = has_more
        self.show_keys(list(self._found))
        if self.cursor is None and self.keys:
            self.select(self.keys[0])
        self.refresh_bindings()

    @property
    def selected(self) -> Found | None:
        return self._found.get(self.cursor_key or "")

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action == "choose":
            return self.cursor is not None
        return super().check_action(action, parameters)

    def height_of(self, index: int, width: int) -> int:  # noqa: ARG002 - of every width
        return 4 if self._found[self.keys[index]].said else 3

    def lines_of(self, index: int, width: int) -> list[Content]:
        found = self._found[self.keys[index]]
        post = found.post
        when = ago(found.at_ms, self._clock())
        head = Content.assemble(
            ("• ", "bold $accent") if found.unread else "",
            (f"#{clean_line(cut(post.room_name, 64))}  ", "$accent"),
            (name_of(post), f"bold {colour_of(post.author, self.app.current_theme.dark)}"),
            (f"  {clean_line(cut(post.author_number, 16))}", "$foreground 40%"),
        ).truncate(max(1, width - len(when) - 2), ellipsis=True)
        gap = " " * max(1, width - head.cell_length - len(when) - 1)
        lines = [Content.assemble(head, gap, (when, "$foreground 40%"))]
        if found.said:
            lines.append(Content.styled(clean_line(found.said), "$foreground 80%"))
        lines += [self._text(post), Content("")]
        return [line.truncate(width, ellipsis=True) for line in lines]

    def _text(self, post: Post) -> Content:
        if post.removed:
            return Content.styled("removed by its author", "$foreground 40%")
        if post.hidden:
            return Content.styled(hidden_words(post, self.own), "$foreground 45%")
        return Content.styled(clean_line(" ".join(post.text[:SHOWN].split())), "$foreground 60%")

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        super().watch_scroll_y(old_value, new_value)
        if self.has_more and new_value >= self.max_scroll_y - NEAR_END:
            self.post_message(self.MoreWanted(self, self.cursor_key or ""))

    def select(self, key: str | None, *, reveal: bool = True) -> None:
        super().select(key, reveal=reveal)
        if self.has_more and self.keys and key == self.keys[-1]:
            self.post_message(self.MoreWanted(self, key or ""))
