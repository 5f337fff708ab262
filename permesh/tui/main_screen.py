"""The main screen: four views under one bar, fed by the daemon's events.

Owns the folding of events into the model and when each view is drawn. Events are gathered for a
moment before drawing, so that a burst of posts costs a few drawings, not one each.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from pydantic import BaseModel
from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.screen import Screen
from textual.widget import Widget
from textual.widgets import ContentSwitcher

from permesh.display import clean, clean_line
from permesh.errors import PermeshError
from permesh.schema import Chronicle, Post

from .card import own_card
from .chronicle_window import ChronicleWindow
from .dialogs import Confirm, Help, KeyHelp, NewRoom, OneLine
from .forum_view import ForumView
from .link import Backoff, follow
from .members_view import MembersView
from .model import MAX_MEMBERS, MAX_ROOMS, MeshModel, Part
from .ports import Clock, MeshClient
from .proposals_window import ProposalsWindow
from .widgets.card_view import CardView, OwnCard
from .widgets.key_bar import KeyBar
from .widgets.member_list import MemberList
from .widgets.mesh_view import MeshView
from .widgets.post_list import PostList
from .widgets.top_bar import VIEWS, Alarm, Banner, Tab, TopBar

GATHER_SECONDS = 0.05  # events that come within this are drawn together
TICK_SECONDS = 30.0  # relative times are drawn anew this often
LIST_PAGE = 200  # rooms or members asked for at a time

FIRST_FOCUS: dict[str, type[Widget]] = {
    "forum": PostList,
    "members": MemberList,
    "mesh": MeshView,
    "card": CardView,
}

KEY_HELP: tuple[KeyHelp, ...] = (
    (
        "Anywhere",
        (
            ("1 - 4", "rooms, members, mesh, card"),
            ("tab", "next part of the screen"),
            ("^p", "every command by name"),
            ("t", "light or dark"),
            ("?", "this help"),
            ("q", "leave"),
        ),
    ),
    (
        "Posts",
        (
            ("↑ ↓", "one post (or k j)"),
            ("g G", "oldest loaded, newest"),
            ("c", "write a post"),
            ("r", "reply to the selected one"),
            ("enter", "read it whole"),
            ("y", "copy it"),
        ),
    ),
    (
        "Rooms",
        (
            ("enter", "open the room"),
            ("[ ]", "previous, next room"),
            ("n", "make a room"),
        ),
    ),
    (
        "Writing",
        (
            ("^s", "send (or ctrl+enter)"),
            ("^r", "not as a reply"),
            ("esc", "back; the draft is kept"),
        ),
    ),
    (
        "Members",
        (
            ("a", "let the selected one in"),
            ("c", "its Chronicle, also in Card"),
            ("p", "what registrars decide"),
            ("i", "the line to invite with"),
        ),
    ),
)


class MainScreen(Screen[None]):
    """What the reader sees from start to end."""

    BINDINGS: ClassVar[list[BindingType]] = [
        *(
            Binding(key, f"screen.view('{view}')", VIEWS[view], show=False)
            for view, key in TopBar.KEYS.items()
        ),
        Binding("t", "app.toggle_theme", "Light or dark", show=False),
        Binding("question_mark", "screen.help", "Help", key_display="?"),
        Binding("q", "screen.leave", "Quit"),
    ]
    HORIZONTAL_BREAKPOINTS = [  # noqa: RUF012 - declared without ClassVar in Screen
        (0, "-narrow"),
        (100, "-wide"),
        (140, "-very-wide"),
    ]

    def __init__(
        self, client: MeshClient, model: MeshModel, clock: Clock, backoff: Backoff
    ) -> None:
        super().__init__()
        self._client = client
        self._model = model
        self._clock = clock
        self._backoff = backoff
        self._changed = Part.NONE
        self._posts_changed = False
        self.gathering = False

    def compose(self) -> ComposeResult:
        yield TopBar()
        yield Alarm()
        yield Banner()
        with ContentSwitcher(initial="forum"):
            yield ForumView(self._client, self._model, self._clock, id="forum")
            yield MembersView(self._client, self._model, self._clock, id="members")
            yield MeshView(self._model, self._clock, id="mesh")
            yield OwnCard(id="card", hint="Asking the daemon for your card…")
        yield KeyBar()

    def on_mount(self) -> None:
        self.query_one(PostList).focus()
        self._draw_frame()
        self.run_worker(follow(self._client, self._take, self._lost, self._backoff), group="link")
        self.set_interval(TICK_SECONDS, self._tick)

    # Events in

    def _take(self, data: BaseModel) -> None:
        if isinstance(data, Post):
            self._forum.live_post(data)
            self._posts_changed = True
        self._gather(self._model.apply(data))

    def _lost(self, problem: PermeshError) -> None:
        self._gather(self._model.lost(problem))

    def _gather(self, part: Part) -> None:
        self._changed |= part
        if not self.gathering:
            self.gathering = True
            self.set_timer(GATHER_SECONDS, self._draw)

    def _draw(self) -> None:
        """Draw what changed since the last time, and ask for what events do not carry."""
        changed, self._changed = self._changed, Part.NONE
        posts_changed, self._posts_changed = self._posts_changed, False
        self.gathering = False
        if Part.ROOMS in changed:
            self._forum.rooms_changed()
        if posts_changed:
            self._forum.posts_changed()
        if changed & (Part.STATUS | Part.MEMBERS | Part.SPANS):
            self._draw_view()
        self._draw_frame()
        if not self._model.online:
            return
        if Part.LINK in changed:
            self._forum.refetch()
        if Part.LISTS in changed:
            self._complete_lists()
        if changed & (Part.SPANS | Part.LINK):
            self._fetch_models()
        if changed & (Part.STATUS | Part.LINK):
            self._fetch_card()

    def _draw_frame(self) -> None:
        self.query_one(TopBar).show_state(self._model, self.view)
        self.query_one(Alarm).show_state(self._model)
        self.query_one(Banner).show_state(self._model)

    def _draw_view(self) -> None:
        """Draw the view in front; the others are drawn when they come there."""
        if self.view == "members":
            self.query_one(MembersView).members_changed()
        elif self.view == "mesh":
            self.query_one(MeshView).show_mesh()

    def _tick(self) -> None:
        self._forum.tick()
        self._draw_view()

    # Asking

    @work(group="lists", exclusive=True)
    async def _complete_lists(self) -> None:
        """Ask for rooms and members: a snapshot may hold only the beginning of long lists."""
        held = dict(self._model.rooms), dict(self._model.members)
        try:
            rooms = await self._client.rooms(None, LIST_PAGE)
            self._model.take_rooms(rooms.items)
            while rooms.next_cursor and len(self._model.rooms) < MAX_ROOMS:
                rooms = await self._client.rooms(rooms.next_cursor, LIST_PAGE)
                self._model.take_rooms(rooms.items)
            members = await self._client.members(None, LIST_PAGE)
            self._model.take_members(members.items)
            while members.next_cursor and len(self._model.members) < MAX_MEMBERS:
                members = await self._client.members(members.next_cursor, LIST_PAGE)
                self._model.take_members(members.items)
        except PermeshError:
            return  # the event stream tells that the daemon went away, and asks again after
        if held != (self._model.rooms, self._model.members):
            self._gather(Part.ROOMS | Part.MEMBERS)

    @work(group="models", exclusive=True)
    async def _fetch_models(self) -> None:
        try:
            self._model.models = (await self._client.models()).items
        except PermeshError:
            return
        self._draw_view()

    @work(group="card", exclusive=True)
    async def _fetch_card(self) -> None:
        try:
            identity = await self._client.identity()
        except PermeshError:
            return
        self.query_one("#card", CardView).show_card(own_card(identity, self._clock()))

    # Views

    @property
    def view(self) -> str:
        return self.query_one(ContentSwitcher).current or "forum"

    @property
    def _forum(self) -> ForumView:
        return self.query_one(ForumView)

    def action_view(self, view: str) -> None:
        self.query_one(ContentSwitcher).current = view
        target = self.query_one(f"#{view}")
        wanted = FIRST_FOCUS[view]
        focus: Widget = target if isinstance(target, wanted) else target.query_one(wanted)
        focus.focus()
        if view == "forum":
            self._forum.rooms_changed()
        self._draw_view()
        self._draw_frame()

    def on_tab_clicked(self, event: Tab.Clicked) -> None:
        event.stop()
        self.action_view(event.view)

    def action_help(self) -> None:
        self.app.push_screen(Help(KEY_HELP))

    def action_leave(self) -> None:
        """Leave; with something half written only after a question."""
        rooms = self._forum.unsent()
        if not rooms:
            self.app.exit()
            return
        names = ", ".join(f"#{clean_line(name)}" for name in rooms)
        question = Confirm("Leave?", Content(f"What you wrote in {names} is not sent."), "Leave")

        def answered(leave: bool | None) -> None:
            if leave:
                self.app.exit()

        self.app.push_screen(question, answered)

    def redraw(self) -> None:
        """Colours changed: draw everything anew."""
        self._forum.tick()
        self._gather(Part.STATUS | Part.ROOMS | Part.MEMBERS)

    def rooms(self) -> Iterable[tuple[str, str]]:
        """(id, name) of each room, for the command palette."""
        return [(room.id, room.name) for room in self._model.sorted_rooms()]

    def open_room(self, room_id: str) -> None:
        self.action_view("forum")
        self._forum.open(room_id)

    # Windows on what the daemon tells when asked

    def action_own_chronicle(self) -> None:
        status = self._model.status

        async def load() -> Chronicle:
            agent = status.agent if status else (await self._client.identity()).agent
            return await self._client.chronicle(agent)

        name = f"{status.name} {status.number}" if status else "this member"
        self.app.push_screen(ChronicleWindow(name, load))

    def action_proposals(self) -> None:
        status = self._model.status
        window = ProposalsWindow(
            self._client.proposals,
            self._client.approve,
            own=status.number if status else "",
            may_approve=self._model.is_registrar,
        )
        self.app.push_screen(window)

    # Making rooms, inviting

    def action_new_room(self) -> None:
        dialog = NewRoom(self._client.create_room)

        def made(done: bool | None) -> None:
            if done and dialog.room is not None:
                self._model.take_rooms([dialog.room])
                self.open_room(dialog.room.id)

        self.app.push_screen(dialog, made)

    def action_invite(self) -> None:
        self._invite()

    @work(group="invite", exclusive=True)
    async def _invite(self) -> None:
        try:
            invite = await self._client.invite()
        except PermeshError as error:
            self.notify(clean(str(error)), title="No invitation", severity="error", markup=False)
            return
        about = (
            "Hand this line to whoever should join. It lets nobody in by itself: "
            "a registrar admits each one."
        )
        self.app.push_screen(OneLine("Invitation", about, invite.line))
