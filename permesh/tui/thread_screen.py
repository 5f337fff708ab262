"""One thread in a window of its own, from its first post on.

Owns the loading of its pages: ten thousand posts open as fast as ten, since a page is asked for
when the reader comes near the end of the last one. Writing works as in a room.
"""

from __future__ import annotations

from typing import ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.screen import Screen
from textual.widgets import Static

from permesh.display import clean_line
from permesh.errors import PermeshError
from permesh.schema import Post, Room

from .conversation import Conversation
from .drafts import Drafts, Place
from .model import MeshModel
from .ports import Clock, MeshClient
from .posts import Added
from .thread_pages import FIRST_PAGE, MAX_POSTS, PAGE, ThreadPages
from .widgets.key_bar import KeyBar
from .widgets.post_list import PostList
from .words import plural


class ThreadView(Conversation):
    """The posts of one thread, each before its replies."""

    def __init__(
        self,
        client: MeshClient,
        model: MeshModel,
        clock: Clock,
        drafts: Drafts,
        post: Post,
        with_hidden: bool,
    ) -> None:
        super().__init__(client, model, clock, drafts, id="thread")
        self._wanted: Post | None = post  # the post to be shown first
        self._post = post
        self._pages = ThreadPages()
        self._with_hidden = with_hidden
        self._asked = False
        self._to_end = False

    def on_mount(self) -> None:
        posts = self.query_one(PostList)
        posts.stick_to_end, posts.own = False, self.model.own
        posts.can_write = posts.in_thread = True
        posts.say_when_empty("Loading…")
        self.write_to(self.own_place())
        self._show_head()
        self._next()
        posts.focus()

    @property
    def room(self) -> Room | None:
        return self.model.rooms.get(self._post.room)

    def find(self, post_id: str) -> Post | None:
        return self._pages.posts.get(post_id)

    def own_place(self) -> Place:
        """An answer to the post by which the thread was opened."""
        return Place(self._post.room, reply_to=self._post.id)

    def live_posts(self, posts: list[Post]) -> None:
        """Posts came in or changed somewhere in the mesh."""
        changed = False
        for post in posts:
            if post.hidden and post.author != self.model.own and not self._with_hidden:
                self._pages.drop(post.id)
                changed = True
            elif self._pages.add(post) in (Added.SHOWN, Added.CHANGED):
                changed = True
        if changed:
            self._show(follow=False)

    def took(self, post: Post) -> None:
        self.live_posts([post])

    def restart(self) -> None:
        """Events may have been missed: read anew what was loaded, at the same place."""
        count = len(self._pages.posts)
        self._wanted = self.find(self.query_one(PostList).cursor_key or "") or self._wanted
        self._pages.restart()
        self._next(at_least=count)

    def _show_head(self) -> None:
        room, pages = self.room, self._pages
        more = " so far" if pages.more else ""
        left_out = f", {MAX_POSTS:,} shown" if pages.full else ""
        self.query_one("#room-head", Static).update(
            Content.assemble(
                ("Thread in # ", "$accent"),
                (clean_line(room.name if room else self._post.room_name), "bold"),
                (f"  {plural(len(pages.posts), 'post')}{more}{left_out}", "$foreground 50%"),
            )
        )

    def _show(self, *, follow: bool) -> None:
        posts, pages = self.query_one(PostList), self._pages
        posts.own = self.model.own
        posts.look_alike(self.model.lookalikes)
        posts.show_rows(pages.rows(), has_next=pages.more, follow=follow)
        if self._wanted is not None and self._wanted.id in pages.posts:
            posts.select(self._wanted.id)
            self._wanted = None
        if self._to_end and not pages.more:
            self._to_end = False
            posts.action_to_last()
        self._show_head()

    @work(group="thread", exclusive=True)
    async def _next(self, at_least: int = 0) -> None:
        """The next page; and on, until the post that is wanted is there."""
        posts, pages = self.query_one(PostList), self._pages
        self._asked = True
        try:
            while not pages.loaded or pages.more:
                limit = PAGE if pages.loaded else FIRST_PAGE
                page = await self.client.thread(
                    self._post.id, pages.cursor, limit, hidden=self._with_hidden
                )
                pages.take(page)
                rows = pages.rows()
                await posts.prepare(rows[-len(page.items) :])
                self._show(follow=False)
                self.show_draft()
                if not (self._to_end or self._wanted or len(pages.posts) < at_least):
                    break
        except PermeshError as error:
            posts.say_when_empty(f"{clean_line(error.message)}\n{clean_line(error.remedy)}")
            if pages.loaded:
                self.tell(error)
        finally:
            self._asked = False
        if not pages.posts:
            posts.say_when_empty("There is nothing of this thread here.")

    def do(self, what: str, key: str | None) -> None:
        if what in ("next", "newest"):
            self._to_end = self._to_end or what == "newest"
            if self._pages.more and not self._asked:
                self._next()
        elif what == "hidden":
            self._with_hidden = not self._with_hidden
            self.restart()
        else:
            super().do(what, key)

    def do_unfold(self, post: Post) -> None:
        if self._pages.toggle_fold(post.id):
            self._show(follow=False)

    def judged(self) -> None:
        self.restart()


class ThreadScreen(Screen[None]):
    """A thread over the main screen; escape goes back."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q", "leave", "Back"),
        Binding("t", "app.toggle_theme", "Light or dark", show=False),
        Binding("question_mark", "app.help", "Help", key_display="?"),
    ]
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (100, "-wide"), (140, "-very-wide")]  # noqa: RUF012

    def __init__(
        self,
        client: MeshClient,
        model: MeshModel,
        clock: Clock,
        drafts: Drafts,
        post: Post,
        with_hidden: bool = False,
    ) -> None:
        super().__init__()
        self.view = ThreadView(client, model, clock, drafts, post, with_hidden)

    def compose(self) -> ComposeResult:
        yield self.view
        yield KeyBar()

    def on_row_list_chosen(self, event: PostList.Chosen) -> None:
        event.stop()
        if isinstance(event.rows, PostList) and event.rows.selected is not None:
            self.view.read(event.rows.selected.post)

    def action_leave(self) -> None:
        self.view.keep_draft()
        self.dismiss(None)
