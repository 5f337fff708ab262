"""The rooms of the mesh with what is unread in each."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from textual.content import Content

from permesh.display import clean_line
from permesh.schema import Room
from permesh.tui.words import cut

from .row_list import RowList

MOST_SHOWN = 999  # unread posts; more are shown as "999+"
MAX_NAME = 80  # characters


class RoomList(RowList):
    """One line a room. ``open_room`` is the one whose posts are shown."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._rooms: dict[str, Room] = {}
        self._written: Collection[str] = ()
        self.open_room: str | None = None

    def show_rooms(
        self, rooms: Sequence[Room], open_room: str | None, written: Collection[str]
    ) -> None:
        """Rooms in order; ``written`` are those in which a draft waits."""
        self._rooms = {room.id: room for room in rooms}
        self._written = written
        self.open_room = open_room
        self.show_keys([room.id for room in rooms])
        if self.cursor is None:
            self.select(open_room)

    def height_of(self, index: int, width: int) -> int:  # noqa: ARG002 - of every width
        return 1

    def lines_of(self, index: int, width: int) -> list[Content]:
        room = self._rooms[self.keys[index]]
        is_open = room.id == self.open_room
        unread = room.unread if room.followed else 0
        counts = [
            ("✎", "$foreground 50%") if room.id in self._written and not is_open else None,
            (f"@{_count(room.mentions)}", "bold $warning") if room.mentions else None,
            (_count(unread), "bold $accent") if unread else None,
        ]
        marks = Content(" ").join([Content.styled(*one) for one in counts if one])
        if not room.followed:
            name_style = "$foreground 45%"
        else:
            name_style = "bold" if unread else "bold $accent" if is_open else "$foreground 85%"
        taken = marks.cell_length + (2 if marks.cell_length else 1)
        name = Content.assemble(
            ("# " if room.followed else "○ ", "$accent" if is_open else "$foreground 35%"),
            ("≈" if room.looks_like else "", "bold $warning"),
            (clean_line(cut(room.name, MAX_NAME)), name_style),
        ).truncate(max(1, width - taken), ellipsis=True)
        gap = " " * max(0, width - name.cell_length - marks.cell_length - 1)
        return [Content.assemble(name, gap, marks)]


def _count(count: int) -> str:
    return f"{MOST_SHOWN}+" if count > MOST_SHOWN else str(count)
