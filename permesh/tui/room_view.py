"""The open room: its head, its posts as threads, and the field to write in.

Owns the loaded part of each room that was open lately, and when a room counts as read. Asks the
daemon through the client, always in a worker; a failure leaves what was there and says what to do.
"""

from __future__ import annotations

from textual import work
from textual.content import Content
from textual.message import Message
from textual.timer import Timer
from textual.widgets import Static

from permesh.display import clean_line
from permesh.errors import PermeshError
from permesh.schema import Follow, MarkRead, Post, Room

from .conversation import Conversation
from .posts import PAGE, Added, PostWindow
from .room_words import notices, title
from .thread_screen import ThreadScreen
from .widgets.composer import Composer
from .widgets.post_list import PostList

FIRST_ROOM = "Rooms are where members talk.\nPress n to make the first one."
MAX_WINDOWS = 8  # rooms whose posts are kept, so that going back is at once
READ_SECONDS = 0.4  # that the end of a room is in view before it counts as read


class RoomView(Conversation):
    """Shows one room at a time."""

    class RoomsChanged(Message):
        """What is known of the rooms changed: what is unread, which are followed."""

    _windows: dict[str, PostWindow]

    def on_mount(self) -> None:
        self._windows = {}
        self._open: str | None = None
        self._below = 0  # posts that came while the reader was further up
        self._older_asked = False
        self.reading: Timer | None = None
        self.with_hidden = False
        self.show_room()
        self.watch(self.query_one(PostList), "scroll_y", self._scrolled, init=False)

    @property
    def open_id(self) -> str | None:
        return self._open

    @property
    def room(self) -> Room | None:
        return self.model.rooms.get(self._open or "")

    @property
    def window(self) -> PostWindow | None:
        return self._windows.get(self._open or "")

    def find(self, post_id: str) -> Post | None:
        window = self.window
        return window.posts.get(post_id) if window else None

    # What happened in the mesh

    def live_post(self, post: Post) -> None:
        """A post came in or changed; it is drawn with the next `posts_changed`."""
        window = self._windows.get(post.room)
        if window is None:
            return
        if post.hidden and post.author != self.model.own and not self.with_hidden:
            window.drop(post.id)
            return
        if window.add(post) in (Added.SHOWN, Added.BEYOND) and post.room == self._open:
            self._below += not self.query_one(PostList).following

    def took(self, post: Post) -> None:
        self.live_post(post)
        self.posts_changed()

    def posts_changed(self) -> None:
        self._show_posts()
        self.show_head()
        self._read_soon()

    def refetch(self, *, missed: bool = True) -> None:
        """The daemon is there again. Unless its events go on where they broke off, everything may
        have changed: the rooms not in view are asked for when opened again."""
        if not missed and self.window is not None and self.window.loaded:
            return
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
            self.keep_draft()
            self._open, self._below, self._older_asked = room_id, 0, False
            window = self._windows.pop(room_id, None) or PostWindow(room_id)
            self._windows[room_id] = window
            while len(self._windows) > MAX_WINDOWS:
                del self._windows[next(iter(self._windows))]
            self.query_one(PostList).forget()
            self.write_to(self.drafts.last_of(room_id).place)
            self.show_room()
        self._fetch_newest()

    def restored(self) -> None:
        """Drafts came from the daemon: show the room's latest, unless something is being typed."""
        typing = bool(self.query_one(Composer).text)
        if self._open is not None and not typing:
            self.write_to(self.drafts.last_of(self._open).place)
        else:
            self.show_draft()

    # Drawing

    def show_room(self) -> None:
        self.show_head()
        self._show_posts()
        self.show_draft()

    def show_head(self) -> None:
        room, head = self.room, self.query_one("#room-head", Static)
        if room is None:
            head.update("")
            return
        lines = [title(room, self._below), *notices(room, self.with_hidden)]
        head.update(Content("\n").join(lines))

    def _show_posts(self) -> None:
        posts, window, room = self.query_one(PostList), self.window, self.room
        posts.own, posts.can_write = self.model.own, room is not None
        posts.look_alike(self.model.lookalikes)
        if window is None or room is None:
            posts.say_when_empty(FIRST_ROOM if self.model.status else "Waiting for the daemon…")
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
        if self.query_one(PostList).at_end:
            if self._below:
                self._below = 0
                self.show_head()
            self._read_soon()

    # What counts as read

    def _read_soon(self) -> None:
        """The end of the room is in view: in a moment it counts as read. The marks of what was
        unread stay until the room is opened again, so that one sees what is new."""
        room, posts = self.room, self.query_one(PostList)
        if room is None or not (room.unread or room.mentions) or self.reading is not None:
            return
        if posts.at_end and self.in_view and self.model.online:
            self.reading = self.set_timer(READ_SECONDS, self._mark_read)

    def _mark_read(self) -> None:
        self.reading = None
        window, posts = self.window, self.query_one(PostList)
        newest = window.newest if window else None
        if newest is not None and posts.at_end and self.in_view:
            self._tell_read(newest.room, newest.id)

    @property
    def in_view(self) -> bool:
        return self.screen is self.app.screen and all(
            widget.display for widget in self.ancestors_with_self if widget is not self.app
        )

    @work(group="read")
    async def _tell_read(self, room_id: str, post_id: str) -> None:
        try:
            room = await self.client.mark_read(room_id, MarkRead(post=post_id))
        except PermeshError:
            return  # it stays unread, and is told again when it is next in view
        self.model.take_rooms([room])
        self.post_message(self.RoomsChanged())

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
            page = await self.client.posts(room_id, None, PAGE, "desc", hidden=self.with_hidden)
        except PermeshError as error:
            posts.say_when_empty(f"{clean_line(error.message)}\n{clean_line(error.remedy)}")
            return
        window.show_newest(page)
        if room_id == self._open:
            await posts.prepare(window.rows())
            self._below = 0
            self.posts_changed()

    @work(group="older")
    async def _older(self, window: PostWindow, cursor: str) -> None:
        try:
            page = await self.client.posts(
                window.room, cursor, PAGE, "desc", hidden=self.with_hidden
            )
        except PermeshError as error:
            self.tell(error)
            return
        finally:
            self._older_asked = False
        if window.older_cursor == cursor:  # else the window began anew in the meantime
            window.show_older(page)
        if window is self.window:
            await self.query_one(PostList).prepare(window.rows())
            self.posts_changed()

    def begin_anew(self) -> None:
        if self.window is not None:
            self.window.posts.clear()
            self.query_one(PostList).forget()
            self._fetch_newest()

    # What may be done with posts, besides `PostActions`

    def do(self, what: str, key: str | None) -> None:
        window = self.window
        if what == "newest":
            self.begin_anew()
        elif what == "older":
            if window is not None and window.older_cursor and not self._older_asked:
                self._older_asked = True
                self._older(window, window.older_cursor)
        elif what == "hidden":
            self.with_hidden = not self.with_hidden
            self._windows = {id: one for id, one in self._windows.items() if id == self._open}
            self.begin_anew()
            said = "Hidden posts are shown, with why." if self.with_hidden else "Hidden posts go."
            self.notify(said, markup=False)
        else:
            super().do(what, key)

    def do_unfold(self, post: Post) -> None:
        if self.window is not None and self.window.toggle_fold(post.id):
            self._show_posts()

    def do_thread(self, post: Post) -> None:
        self.app.push_screen(
            ThreadScreen(self.client, self.model, self.clock, self.drafts, post, self.with_hidden)
        )

    def judged(self) -> None:
        self.begin_anew()

    @work(group="follow", exclusive=True)
    async def toggle_follow(self, room: Room) -> None:
        """Follow a room, or no longer: then its records go from this machine."""
        try:
            changed = await self.client.follow(room.id, Follow(followed=not room.followed))
        except PermeshError as error:
            self.tell(error)
            return
        self.model.take_rooms([changed])
        self.post_message(self.RoomsChanged())
        if room.id == self._open:
            self.begin_anew()
        word = "You follow" if changed.followed else "You no longer follow"
        self.notify(f"{word} #{clean_line(room.name)}.", markup=False)
