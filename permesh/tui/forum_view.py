"""The forum screen: rooms at the left, the open room's threads and the composer at the right.

Owns which room is open, the loaded part of each, and the drafts. Asks the daemon through the
client, always in a worker; a failure leaves what was there and says what to do.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.widgets import Static

from permesh.display import clean, clean_line
from permesh.errors import PermeshError
from permesh.schema import Post, Room

from .dialogs import Reader
from .model import MeshModel
from .ports import Clock, MeshClient
from .posts import PAGE, Added, PostWindow
from .widgets.composer import Composer, PostText
from .widgets.post_list import PostList
from .widgets.room_list import RoomList
from .words import plural

NO_ROOMS = "No rooms yet.\n\nPress n to\nmake one."
FIRST_ROOM = "Rooms are where members talk.\nPress n to make the first one."
MAX_WINDOWS = 8  # rooms whose posts are kept, so that going back is at once


@dataclass
class Draft:
    """What is being written in one room."""

    text: str = ""
    reply_to: Post | None = None
    sending: bool = False
    problem: str = ""


@dataclass
class Drafts:
    """A draft for each room that has one."""

    by_room: dict[str, Draft] = field(default_factory=dict)

    def of(self, room: str) -> Draft:
        return self.by_room.setdefault(room, Draft())


class ForumView(Horizontal):
    """Rooms, threads, and writing."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("n", "screen.new_room", "New room"),
        Binding("left_square_bracket", "open_next(-1)", "Previous room", show=False),
        Binding("right_square_bracket", "open_next(1)", "Next room", show=False),
    ]

    def __init__(self, client: MeshClient, model: MeshModel, clock: Clock, *, id: str) -> None:
        super().__init__(id=id)
        self._client = client
        self._model = model
        self._clock = clock
        self._windows: dict[str, PostWindow] = {}
        self._drafts = Drafts()
        self._open: str | None = None
        self._below = 0  # posts that came while the reader was further up
        self._older_asked = False

    def compose(self) -> ComposeResult:
        yield RoomList(id="rooms")
        with Vertical(id="room"):
            yield Static(id="room-head", markup=False)
            yield PostList(self._clock, id="posts")
            yield Composer(id="composer")

    def on_mount(self) -> None:
        self._show_room()
        self.watch(self.query_one(PostList), "scroll_y", self._scrolled, init=False)

    @property
    def open_room(self) -> Room | None:
        return self._model.rooms.get(self._open or "")

    @property
    def _window(self) -> PostWindow | None:
        return self._windows.get(self._open or "")

    # What happened in the mesh

    def rooms_changed(self) -> None:
        """Draw the rooms; open the liveliest one when none is open."""
        if self.open_room is None and self._model.rooms:
            liveliest = max(self._model.rooms.values(), key=lambda room: room.last_post_ms)
            self.open(liveliest.id)
            return
        if self.open_room is None:
            self._show_posts()
        self._mark_seen()
        self._show_rooms()
        self._show_head()

    def live_post(self, post: Post) -> None:
        """A post came in; it is drawn with the next `posts_changed`."""
        window = self._windows.get(post.room)
        if window is None:
            return
        added = window.add(post)
        if post.room == self._open and added is not Added.KNOWN:
            self._below += not self.query_one(PostList).following

    def posts_changed(self) -> None:
        self._show_posts()
        self._show_head()

    def refetch(self) -> None:
        """Everything may have changed: the rooms not in view are asked for when opened again."""
        for room in [room for room in self._windows if room != self._open]:
            del self._windows[room]
        self._fetch_newest()

    def tick(self) -> None:
        """Time passed: draw the relative times anew."""
        self.query_one(PostList).refresh_rows()

    # Rooms

    def open(self, room_id: str) -> None:
        """Show a room, its draft, and its newest posts."""
        if room_id != self._open:
            self._keep_draft()
            self._open, self._below, self._older_asked = room_id, 0, False
            window = self._windows.pop(room_id, None) or PostWindow(room_id)
            self._windows[room_id] = window
            while len(self._windows) > MAX_WINDOWS:
                del self._windows[next(iter(self._windows))]
            self.query_one(PostList).forget()
            self._show_room()
        self._mark_seen()
        self._show_rooms()
        self._fetch_newest()

    def _mark_seen(self) -> None:
        if self._open and self.display and self._model.mark_seen(self._open):
            self._show_rooms()

    def action_open_next(self, by: int) -> None:
        rooms = [room.id for room in self._model.sorted_rooms()]
        if rooms:
            at = rooms.index(self._open) if self._open in rooms else 0
            self.open(rooms[(at + by) % len(rooms)])
            self.query_one(RoomList).select(self._open)

    def on_row_list_chosen(self, event: RoomList.Chosen) -> None:
        event.stop()
        if isinstance(event.rows, RoomList):
            self.open(event.key)
            self.query_one(PostList).focus()
        elif isinstance(event.rows, PostList) and event.rows.selected is not None:
            self.app.push_screen(Reader(event.rows.selected.post, self._clock()))

    # Drawing

    def _show_rooms(self) -> None:
        rooms = [(room, self._model.unread(room)) for room in self._model.sorted_rooms()]
        listed = self.query_one(RoomList)
        listed.say_when_empty(NO_ROOMS if self._model.status else "")
        listed.show_rooms(rooms, self._open)

    def _show_room(self) -> None:
        self._show_head()
        self._show_posts()
        room = self.open_room
        self.query_one(Composer).display = room is not None
        if room is not None:
            draft = self._drafts.of(room.id)
            composer = self.query_one(Composer)
            composer.show(room.name, draft.text, draft.reply_to, sending=draft.sending)
            composer.note("Sending…" if draft.sending else draft.problem, error=bool(draft.problem))

    def _show_head(self) -> None:
        room, head = self.open_room, self.query_one("#room-head", Static)
        if room is None:
            head.update("")
            return
        below = f"  ↓ {self._below} new, press G" if self._below else ""
        head.update(
            Content.assemble(
                ("# ", "$accent"),
                (clean_line(room.name), "bold"),
                (f"  {plural(room.posts, 'post')}", "$foreground 50%"),
                (below, "bold $accent"),
                (f"  {clean_line(room.purpose)}" if room.purpose else "", "$foreground 60%"),
            )
        )

    def _show_posts(self) -> None:
        posts, window, room = self.query_one(PostList), self._window, self.open_room
        posts.can_write = room is not None
        if window is None or room is None:
            posts.say_when_empty(FIRST_ROOM if self._model.status else "Waiting for the daemon…")
            return
        if window.loaded:
            posts.say_when_empty("Nothing here yet.\nPress c to write the first post.")
        posts.show_rows(
            window.rows(),
            has_older=window.older_cursor is not None,
            beginning=f"the beginning of #{clean_line(room.name)}",
            newest_dropped=window.newest_dropped,
        )

    def _scrolled(self) -> None:
        if self._below and self.query_one(PostList).at_end:
            self._below = 0
            self._show_head()

    # Reading

    def _fetch_newest(self) -> None:
        if self._open is not None:
            self._newest(self._open)

    @work(group="newest", exclusive=True)
    async def _newest(self, room_id: str) -> None:
        posts = self.query_one(PostList)
        window = self._windows.setdefault(room_id, PostWindow(room_id))
        if not window.loaded:
            posts.say_when_empty("Loading…")
        try:
            page = await self._client.posts(room_id, None, PAGE, "desc")
        except PermeshError as error:
            posts.say_when_empty(f"{clean_line(error.message)}\n{clean_line(error.remedy)}")
            return
        window.show_newest(page)
        if room_id == self._open:
            self._below = 0
            self.posts_changed()

    def on_post_list_newest_wanted(self, event: PostList.NewestWanted) -> None:
        event.stop()
        if self._window is not None:
            self._window.posts.clear()
            self.query_one(PostList).forget()
            self._fetch_newest()

    def on_post_list_older_wanted(self, event: PostList.OlderWanted) -> None:
        event.stop()
        window = self._window
        if window is not None and window.older_cursor and not self._older_asked:
            self._older_asked = True
            self._older(window, window.older_cursor)

    @work(group="older")
    async def _older(self, window: PostWindow, cursor: str) -> None:
        try:
            page = await self._client.posts(window.room, cursor, PAGE, "desc")
        except PermeshError as error:
            self._tell(error)
            return
        finally:
            self._older_asked = False
        if window.older_cursor == cursor:  # else the window began anew in the meantime
            window.show_older(page)
        if window is self._window:
            self.posts_changed()

    def _tell(self, error: PermeshError) -> None:
        self.notify(clean(str(error)), title="That did not work", severity="error", markup=False)

    # Writing

    def _keep_draft(self) -> None:
        if self._open is not None:
            draft = self._drafts.of(self._open)
            if not draft.sending:
                draft.text = self.query_one(Composer).text

    def unsent(self) -> list[str]:
        """The names of the rooms with something written and not sent."""
        self._keep_draft()
        written = {id for id, draft in self._drafts.by_room.items() if draft.text.strip()}
        return [room.name for room in self._model.sorted_rooms() if room.id in written]

    def on_post_list_compose_wanted(self, event: PostList.ComposeWanted) -> None:
        event.stop()
        if self._open is None or self._window is None:
            return
        if event.reply_to is not None:
            draft = self._drafts.of(self._open)
            draft.reply_to = self._window.posts.get(event.reply_to)
            self.query_one(Composer).show_reply(draft.reply_to)
        self.query_one(PostText).focus()

    def on_post_list_copy_wanted(self, event: PostList.CopyWanted) -> None:
        event.stop()
        post = self._window.posts.get(event.key) if self._window else None
        if post is not None:
            self.app.copy_to_clipboard(clean(post.text))
            self.notify("The post is in the clipboard.", markup=False)

    def on_post_text_left(self, event: PostText.Left) -> None:
        event.stop()
        self._keep_draft()
        self.query_one(PostList).focus()

    def on_post_text_reply_dropped(self, event: PostText.ReplyDropped) -> None:
        event.stop()
        if self._open is not None:
            self._drafts.of(self._open).reply_to = None
            self.query_one(Composer).show_reply(None)

    def on_composer_send_wanted(self, event: Composer.SendWanted) -> None:
        event.stop()
        room = self.open_room
        if room is None:
            return
        draft = self._drafts.of(room.id)
        if not draft.sending:
            draft.text, draft.sending, draft.problem = event.text, True, ""
            self._show_room()
            self._send(room.id, draft)

    @work(group="send")
    async def _send(self, room_id: str, draft: Draft) -> None:
        """One post on its way. The draft goes only when the daemon has said that it is stored."""
        reply_to = draft.reply_to.id if draft.reply_to else None
        try:
            post = await self._client.post(room_id, draft.text, reply_to)
        except PermeshError as error:
            draft.sending, draft.problem = False, str(error)
            if room_id == self._open:
                self._show_room()
            return
        self._drafts.by_room.pop(room_id, None)
        window = self._windows.get(room_id)
        if window is not None:
            window.add(post)
        if room_id == self._open:
            self._show_room()
            posts = self.query_one(PostList)
            posts.select(post.id)
            posts.focus()
