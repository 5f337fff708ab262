"""The main screen: six views under one bar.

Owns which view is in front, when each is drawn, and the windows that open over them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.widget import Widget
from textual.widgets import ContentSwitcher, Input

from permesh.display import clean
from permesh.errors import PermeshError
from permesh.schema import Chronicle, Identity, Inbox, NewRoom, Post, Room

from .card import own_card
from .chronicle_window import ChronicleWindow
from .dialogs import MakeRoom, OneLine
from .feeding import Feeding
from .forum_view import ForumView
from .found_posts import FoundList
from .inbox_view import InboxView
from .members_view import MembersView
from .model import Part
from .proposals_window import ProposalsWindow
from .room_view import RoomView
from .search_view import SearchView
from .thread_screen import ThreadScreen
from .widgets.card_view import CardView, OwnCard
from .widgets.key_bar import KeyBar
from .widgets.member_list import MemberList
from .widgets.mesh_view import MeshView
from .widgets.post_list import PostList
from .widgets.top_bar import VIEWS, Alarm, Banner, Tab, TopBar

FIRST_FOCUS: dict[str, type[Widget]] = {
    "forum": PostList,
    "members": MemberList,
    "mesh": MeshView,
    "card": CardView,
    "inbox": FoundList,
    "search": Input,
}


class MainScreen(Feeding):
    """What the reader sees from start to end."""

    BINDINGS: ClassVar[list[BindingType]] = [
        *(
            Binding(key, f"screen.view('{view}')", VIEWS[view], show=False)
            for view, key in TopBar.KEYS.items()
        ),
        Binding("slash", "screen.view('search')", "Search", key_display="/", show=False),
        Binding("t", "app.toggle_theme", "Light or dark", show=False),
        Binding("question_mark", "app.help", "Help", key_display="?"),
        Binding("q", "screen.leave", "Quit"),
        Binding("escape", "screen.view('forum')", "Rooms", show=False),
    ]
    HORIZONTAL_BREAKPOINTS = [  # noqa: RUF012 - declared without ClassVar in Screen
        (0, "-narrow"),
        (100, "-wide"),
        (140, "-very-wide"),
    ]

    def compose(self) -> ComposeResult:
        client, model, clock = self.client, self.model, self.clock
        yield TopBar()
        yield Alarm()
        yield Banner()
        with ContentSwitcher(initial="forum"):
            yield ForumView(client, model, clock, self.drafts, id="forum")
            yield MembersView(client, model, clock, id="members")
            yield MeshView(model, clock, id="mesh")
            yield OwnCard(id="card", hint="Asking the daemon for your card…")
            yield InboxView(client, model, clock, id="inbox")
            yield SearchView(client, clock, id="search")
        yield KeyBar()

    def on_mount(self) -> None:
        self.query_one(PostList).focus()
        self.draw_frame()
        self.start_feeding()

    # What feeds it

    def draw(self, changed: Part, live: list[Post]) -> None:
        for post in live:
            self.forum.live_post(post)
        if Part.ROOMS in changed:
            self.forum.rooms_changed()
        if Part.MEMBERS in changed:
            self.forum.view.query_one(PostList).look_alike(self.model.lookalikes)
        if live:
            self.forum.view.posts_changed()
            for thread in self._threads():
                thread.view.live_posts(live)
        if changed & (Part.STATUS | Part.MEMBERS | Part.SPANS | Part.MODELS):
            self._draw_view()
        self.draw_frame()

    def caught_up(self, *, missed: bool) -> None:
        self.forum.view.refetch(missed=missed)
        if missed:
            for thread in self._threads():
                thread.view.restart()
        if self.view == "inbox":
            self.query_one(InboxView).fetch()

    def drafts_settled(self, posted: list[Post]) -> None:
        for post in posted:
            self.forum.view.took(post)
        self.forum.view.restored()
        for thread in self._threads():
            thread.view.restored()

    def show_identity(self, identity: Identity) -> None:
        self.query_one("#card", CardView).show_card(own_card(identity, self.clock()))

    def show_inbox(self, inbox: Inbox) -> None:
        self.model.inbox_unread = inbox.unread
        self.draw_frame()
        if self.view == "inbox":
            self.query_one(InboxView).fetch()

    def _threads(self) -> Iterable[ThreadScreen]:
        return [screen for screen in self.app.screen_stack if isinstance(screen, ThreadScreen)]

    def draw_frame(self) -> None:
        self.query_one(TopBar).show_state(self.model, self.view)
        self.query_one(Alarm).show_state(self.model)
        self.query_one(Banner).show_state(self.model)

    def _draw_view(self) -> None:
        """Draw the view in front; the others are drawn when they come there."""
        if self.view == "members":
            self.query_one(MembersView).members_changed()
        elif self.view == "mesh":
            self.query_one(MeshView).show_mesh()

    def tick(self) -> None:
        self.forum.view.tick()
        self._draw_view()

    def on_room_view_rooms_changed(self, event: RoomView.RoomsChanged) -> None:
        event.stop()
        self.forum.rooms_changed()
        self.draw_frame()

    def on_inbox_view_unread_changed(self, event: InboxView.UnreadChanged) -> None:
        event.stop()
        self.draw_frame()

    # Views

    @property
    def view(self) -> str:
        return self.query_one(ContentSwitcher).current or "forum"

    @property
    def forum(self) -> ForumView:
        return self.query_one(ForumView)

    def action_view(self, view: str) -> None:
        self.query_one(ContentSwitcher).current = view
        target = self.query_one(f"#{view}")
        wanted = FIRST_FOCUS[view]
        focus: Widget = target if isinstance(target, wanted) else target.query_one(wanted)
        focus.focus()
        if view == "forum":
            self.forum.rooms_changed()
            self.forum.view.posts_changed()
        elif view == "inbox":
            self.query_one(InboxView).fetch()
        self._draw_view()
        self.draw_frame()

    def on_tab_clicked(self, event: Tab.Clicked) -> None:
        event.stop()
        self.action_view(event.view)

    def action_leave(self) -> None:
        """Leave; what is half written is kept, by the daemon or beside its socket."""
        self.forum.view.keep_draft()
        self._leave()

    @work(group="leave", exclusive=True)
    async def _leave(self) -> None:
        self.drafts.save_in_file()
        await self.app.workers.wait_for_complete(
            [worker for worker in self.app.workers if worker.group == "drafts"]
        )
        self.app.exit()

    def redraw(self) -> None:
        """Colours changed: draw everything anew."""
        self.forum.view.tick()
        self.gather(Part.STATUS | Part.ROOMS | Part.MEMBERS)

    def rooms(self) -> Iterable[tuple[str, str]]:
        """(id, name) of each room, for the command palette."""
        return [(room.id, room.name) for room in self.model.sorted_rooms()]

    def open_room(self, room_id: str) -> None:
        self.action_view("forum")
        self.forum.open(room_id)

    def open_member(self, agent: str) -> None:
        self.action_view("members")
        self.query_one(MemberList).select(agent)
        self.query_one(MembersView).show_card()

    def open_post(self, post: Post) -> None:
        """A post from anywhere, in its thread."""
        self.app.push_screen(
            ThreadScreen(self.client, self.model, self.clock, self.drafts, post, bool(post.hidden))
        )

    def on_row_list_chosen(self, event: FoundList.Chosen) -> None:
        event.stop()
        if isinstance(event.rows, FoundList) and event.rows.selected is not None:
            self.open_post(event.rows.selected.post)

    # Windows on what the daemon tells when asked

    def action_own_chronicle(self) -> None:
        status = self.model.status

        async def load() -> Chronicle:
            agent = status.agent if status else (await self.client.identity()).agent
            return await self.client.chronicle(agent)

        name = f"{status.name} {status.number}" if status else "this member"
        self.app.push_screen(ChronicleWindow(name, load))

    def action_proposals(self) -> None:
        status = self.model.status
        window = ProposalsWindow(
            self.client.proposals,
            self.client.approve,
            own=status.number if status else "",
            may_approve=self.model.is_registrar,
        )
        self.app.push_screen(window)

    # Making rooms, inviting

    def action_new_room(self) -> None:
        async def make(name: str, purpose: str) -> Room:
            return await self.client.create_room(NewRoom(name=name, purpose=purpose))

        dialog = MakeRoom(make)

        def made(done: bool | None) -> None:
            if done and dialog.room is not None:
                self.model.take_rooms([dialog.room])
                self.open_room(dialog.room.id)

        self.app.push_screen(dialog, made)

    def action_invite(self) -> None:
        self._invite()

    @work(group="invite", exclusive=True)
    async def _invite(self) -> None:
        try:
            invite = await self.client.invite()
        except PermeshError as error:
            self.notify(clean(str(error)), title="No invitation", severity="error", markup=False)
            return
        about = (
            "Hand this line to whoever should join. It lets nobody in by itself: "
            "a registrar admits each one."
        )
        self.app.push_screen(OneLine("Invitation", about, invite.line))
