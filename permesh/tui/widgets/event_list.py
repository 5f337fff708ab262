"""The events of a Chronicle, each with its date and kind above its text."""

from __future__ import annotations

from collections.abc import Sequence

from textual.content import Content

from permesh.display import clean_line
from permesh.schema import ChronicleEvent
from permesh.tui.words import cut, fold, moment

from .row_list import RowList

MAX_TEXT = 1_000  # characters of one event; the longest that a mesh makes has 300 and its names
INDENT = 2
NO_DATE = "no date"

KIND_STYLES = {
    "admission": "bold $success",
    "title": "bold $accent",
    "suspension": "bold $warning",
    "key": "bold $primary",
    "rotation": "$foreground 60%",
    "task": "bold $foreground",
    "fault": "bold $error",
}


def date_of(event: ChronicleEvent) -> str:
    return moment(event.at_ms) if event.at_ms else NO_DATE


def text_of(event: ChronicleEvent) -> str:
    """What others wrote, made safe; of a text that nobody can have meant, its beginning."""
    return clean_line(cut(event.text, MAX_TEXT))


class EventList(RowList):
    """Oldest first, opened at the newest."""

    stick_to_end = True

    def __init__(self) -> None:
        super().__init__()
        self._events: Sequence[ChronicleEvent] = ()

    def show_events(self, events: Sequence[ChronicleEvent]) -> None:
        follow = self.following
        self._events = events
        self.show_keys([str(at) for at in range(len(events))], stay=not follow)
        if self.cursor is None and self.keys:
            self.select(self.keys[-1], reveal=False)
        if follow:
            self._scroll_now(self._starts[-1])

    def lines_of(self, index: int, width: int) -> list[Content]:
        event = self._events[index]
        style = KIND_STYLES[event.kind]
        head = Content.assemble(
            (f"{date_of(event):<20}", "$foreground 60%"),
            ("  ", ""),
            (event.kind, style),
            (f"  entry {event.entry}" if event.entry else "", "$foreground 40%"),
        )
        below = "$foreground 60%" if event.kind == "rotation" else "$foreground"
        texts = [Content.styled(line, below) for line in self._folded(index, width)]
        lines = [head, *(Content.assemble(" " * INDENT, text) for text in texts)]
        return [line.truncate(width, ellipsis=True) for line in lines]

    def height_of(self, index: int, width: int) -> int:
        return 1 + len(self._folded(index, width))

    def _folded(self, index: int, width: int) -> list[str]:
        return fold(text_of(self._events[index]), width - INDENT)
