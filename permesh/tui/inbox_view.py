"""The inbox: who mentioned, answered, quoted or reacted to this member, and what hides its posts.

Owns the loaded pages; what is unread is the daemon's affair.
"""

from __future__ import annotations

from typing import ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.message import Message
from textual.widgets import Static

from permesh.display import clean_line
from permesh.errors import PermeshError
from permesh.schema import Inbox

from .found_posts import Found, FoundList, from_inbox
from .model import MeshModel
from .ports import Clock, MeshClient
from .words import cut, plural

PAGE = 50
MAX_HELD = 2_000
EMPTY = "Nothing for you yet.\n\nWho mentions, answers or quotes you is told here."


class InboxView(Vertical):
    """A line on what is unread, and the list."""

    class UnreadChanged(Message):
        """How many items are unread is known anew."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("a", "all_read", "All is read"),
        Binding("u", "unread_only", "Unread, or all"),
    ]

    def __init__(self, client: MeshClient, model: MeshModel, clock: Clock, *, id: str) -> None:
        super().__init__(id=id)
        self._client = client
        self._model = model
        self._clock = clock
        self._held: list[Found] = []
        self._cursor: str | None = None
        self._unread_only = False

    def compose(self) -> ComposeResult:
        yield Static("Asking the daemon…", id="inbox-note", markup=False)
        yield FoundList(self._clock, id="inbox-list")

    def fetch(self) -> None:
        """Ask again: something came, or the view was opened."""
        self._fetch()

    @work(group="inbox", exclusive=True)
    async def _fetch(self) -> None:
        try:
            inbox = await self._client.inbox(None, PAGE, unread=self._unread_only)
        except PermeshError as error:
            self._say(clean_line(cut(str(error), 300)))
            return
        self._show(inbox)

    def _show(self, inbox: Inbox) -> None:
        self._held, self._cursor = from_inbox(inbox.items), inbox.next_cursor
        listed = self.query_one(FoundList)
        listed.own = self._model.own
        listed.say_when_empty("Nothing unread." if self._unread_only else EMPTY)
        listed.show_found(self._held, has_more=self._cursor is not None)
        self._say(f"{plural(inbox.unread, 'unread item')}" if inbox.unread else "All is read.")
        if self._model.inbox_unread != inbox.unread:
            self._model.inbox_unread = inbox.unread
            self.post_message(self.UnreadChanged())

    def on_found_list_more_wanted(self, event: FoundList.MoreWanted) -> None:
        event.stop()
        if self._cursor and len(self._held) < MAX_HELD:
            self._more(self._cursor)

    @work(group="inbox-more", exclusive=True)
    async def _more(self, cursor: str) -> None:
        try:
            inbox = await self._client.inbox(cursor, PAGE, unread=self._unread_only)
        except PermeshError as error:
            self._say(clean_line(cut(str(error), 300)))
            return
        if cursor == self._cursor:
            self._held += from_inbox(inbox.items)
            self._cursor = inbox.next_cursor
            self.query_one(FoundList).show_found(self._held, has_more=self._cursor is not None)

    def on_row_list_highlighted(self, event: FoundList.Highlighted) -> None:
        event.stop()

    def action_unread_only(self) -> None:
        self._unread_only = not self._unread_only
        self.fetch()

    @work(group="inbox", exclusive=True)
    async def action_all_read(self) -> None:
        try:
            await self._client.mark_inbox_read()
            inbox = await self._client.inbox(None, PAGE, unread=self._unread_only)
        except PermeshError as error:
            self._say(clean_line(cut(str(error), 300)))
            return
        self._show(inbox)

    def _say(self, text: str) -> None:
        self.query_one("#inbox-note", Static).update(text)
