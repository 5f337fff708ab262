"""The rooms of the mesh with what is unread in each."""

from __future__ import annotations

from collections.abc import Sequence

from textual.content import Content

from permesh.display import clean_line
from permesh.schema import Room

from .row_list import RowList

MOST_SHOWN = 999  # unread posts; more are shown as "999+"


class RoomList(RowList):
    """One line a room. ``open_room`` is the one whose posts are shown."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._rooms: dict[str, tuple[Room, int]] = {}
        self.open_room: str | None = None

    def show_rooms(self, rooms: Sequence[tuple[Room, int]], open_room: str | None) -> None:
        """``rooms``: each with its unread count, in order."""
        self._rooms = {room.id: (room, unread) for room, unread in rooms}
        self.open_room = open_room
        self.show_keys([room.id for room, _ in rooms])
        if self.cursor is None:
            self.select(open_room)

    def lines_of(self, index: int, width: int) -> list[Content]:
        room, unread = self._rooms[self.keys[index]]
        is_open = room.id == self.open_room
        count = "" if not unread else f"{MOST_SHOWN}+" if unread > MOST_SHOWN else str(unread)
        name_style = "bold" if unread else "bold $accent" if is_open else "$foreground 85%"
        room_for_name = max(1, width - len(count) - (2 if count else 1))
        name = Content.assemble(
            ("# ", "$accent" if is_open else "$foreground 35%"),
            (clean_line(room.name), name_style),
        ).truncate(room_for_name, ellipsis=True)
        gap = " " * max(0, width - name.cell_length - len(count) - 1)
        return [Content.assemble(name, gap, (count, "bold $accent"))]
