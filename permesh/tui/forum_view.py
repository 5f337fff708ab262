"""The forum screen: rooms at the left, the open one at the right.

Owns which room is chosen and the way from the list to the room and back.
"""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal

from permesh.schema import Post, Room

from .charter_window import CharterWindow
from .drafts import Drafts
from .model import MeshModel
from .ports import Clock, MeshClient
from .room_view import RoomView
from .widgets.post_list import PostList
from .widgets.room_list import RoomList

NO_ROOMS = "No rooms yet.\n\nPress n to\nmake one."


class ForumView(Horizontal):
    """Rooms, threads, and writing."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("n", "screen.new_room", "New room", show=False),
        Binding("f", "follow", "Follow", show=False),
        Binding("C", "charter", "Charter", show=False),
        Binding("left_square_bracket", "open_next(-1)", "Previous room", show=False),
        Binding("right_square_bracket", "open_next(1)", "Next room", show=False),
    ]

    def __init__(
        self, client: MeshClient, model: MeshModel, clock: Clock, drafts: Drafts, *, id: str
    ) -> None:
        super().__init__(id=id)
        self._client = client
        self._model = model
        self._drafts = drafts
        self._view = RoomView(client, model, clock, drafts, id="room")

    def compose(self) -> ComposeResult:
        yield RoomList(id="rooms")
        yield self._view

    @property
    def view(self) -> RoomView:
        return self._view

    @property
    def pointed_at(self) -> Room | None:
        """The room that the reader means: the selected one in the list, else the open one."""
        rooms = self.query_one(RoomList)
        chosen = rooms.cursor_key if rooms.has_focus else self._view.open_id
        return self._model.rooms.get(chosen or "")

    # What happened in the mesh

    def rooms_changed(self) -> None:
        """Draw the rooms; open the liveliest one when none is open."""
        view = self._view
        if view.room is None and self._model.rooms:
            liveliest = max(
                self._model.rooms.values(), key=lambda room: (room.followed, room.last_post_ms)
            )
            self.open(liveliest.id)
            return
        if view.room is None:
            view.posts_changed()
        self._show_rooms()
        view.show_head()

    def live_post(self, post: Post) -> None:
        self._view.live_post(post)

    # Rooms

    def open(self, room_id: str) -> None:
        self._view.open(room_id)
        self._show_rooms()

    def _show_rooms(self) -> None:
        listed = self.query_one(RoomList)
        listed.say_when_empty(NO_ROOMS if self._model.status else "")
        listed.show_rooms(self._model.sorted_rooms(), self._view.open_id, self._drafts.rooms())

    def action_open_next(self, by: int) -> None:
        rooms = [room.id for room in self._model.sorted_rooms()]
        if rooms:
            at = rooms.index(self._view.open_id) if self._view.open_id in rooms else 0
            self.open(rooms[(at + by) % len(rooms)])
            self.query_one(RoomList).select(self._view.open_id)

    def on_row_list_chosen(self, event: RoomList.Chosen) -> None:
        event.stop()
        if isinstance(event.rows, RoomList):
            self.open(event.key)
            self.query_one(PostList).focus()
        elif isinstance(event.rows, PostList) and event.rows.selected is not None:
            self._view.read(event.rows.selected.post)

    def action_follow(self) -> None:
        if self.pointed_at is not None:
            self._view.toggle_follow(self.pointed_at)

    def action_charter(self) -> None:
        room = self.pointed_at
        if room is not None:
            self.app.push_screen(CharterWindow(self._client, room))
