"""What feeds the main screen: the daemon's events, and the questions that events raise.

Owns the folding of events into the model and when the daemon is asked for what they do not carry.
Events are gathered for a moment before drawing, so that a burst of posts costs a few drawings,
not one each.
"""

from __future__ import annotations

from pydantic import BaseModel
from textual import work
from textual.screen import Screen
from textual.timer import Timer

from permesh.errors import PermeshError
from permesh.schema import Identity, Inbox, Lagged, Post, Snapshot

from .drafts import Drafts
from .link import Backoff, follow
from .model import MAX_MEMBERS, MAX_ROOMS, MeshModel, Part
from .ports import Clock, MeshClient

GATHER_SECONDS = 0.05  # events that come within this are drawn together
COUNT_SECONDS = 2.0  # after a post, counts of its room are asked for anew at most this often
TICK_SECONDS = 30.0  # relative times are drawn anew this often
LIST_PAGE = 200  # rooms or members asked for at a time
MAX_COUNTED = 20  # rooms whose counts are asked for at once


class Feeding(Screen[None]):
    """A subclass draws: it says what `drawn`, `settled` and the others do."""

    def __init__(
        self,
        client: MeshClient,
        model: MeshModel,
        clock: Clock,
        backoff: Backoff,
        drafts: Drafts,
    ) -> None:
        super().__init__()
        self.client = client
        self.model = model
        self.clock = clock
        self.drafts = drafts
        self._backoff = backoff
        self._changed = Part.NONE
        self._live: list[Post] = []
        self._missed = False
        self._counting: Timer | None = None
        self.gathering = False

    # What a subclass says

    def draw(self, changed: Part, live: list[Post]) -> None:
        """Draw what changed; ``live`` are posts that came or changed."""
        raise NotImplementedError

    def caught_up(self, *, missed: bool) -> None:
        """The daemon is there; unless ``missed``, its events go on where they broke off."""
        raise NotImplementedError

    def drafts_settled(self, posted: list[Post]) -> None:
        """Drafts came from the daemon; those of ``posted`` had been posted."""
        raise NotImplementedError

    def show_identity(self, identity: Identity) -> None:
        raise NotImplementedError

    def show_inbox(self, inbox: Inbox) -> None:
        raise NotImplementedError

    # Events in

    def start_feeding(self) -> None:
        self.run_worker(follow(self.client, self._take, self._lost, self._backoff), group="link")
        self.set_interval(TICK_SECONDS, self.tick)

    def tick(self) -> None:
        """Time passed."""

    def _take(self, data: BaseModel, resumed: bool) -> None:
        if isinstance(data, Post):
            self._live.append(data)
            self._count_soon()
        elif isinstance(data, Lagged) or (isinstance(data, Snapshot) and not resumed):
            self._missed = True
        self.gather(self.model.apply(data))

    def _lost(self, problem: PermeshError) -> None:
        self.gather(self.model.lost(problem))

    def gather(self, part: Part) -> None:
        """Draw these parts in a moment."""
        self._changed |= part
        if not self.gathering:
            self.gathering = True
            self.set_timer(GATHER_SECONDS, self._draw_gathered)

    def _draw_gathered(self) -> None:
        changed, self._changed = self._changed, Part.NONE
        live, self._live = self._live, []
        self.gathering = False
        self.draw(changed, live)
        if not self.model.online:
            return
        if Part.LINK in changed:
            missed, self._missed = self._missed, False
            self.caught_up(missed=missed)
            self._settle_drafts()
            self.fetch_inbox()
        if Part.LISTS in changed:
            self._complete_lists()
        if changed & (Part.SPANS | Part.LINK):
            self._fetch_models()
        if changed & (Part.STATUS | Part.LINK):
            self._fetch_card()

    # Asking

    @work(group="lists", exclusive=True)
    async def _complete_lists(self) -> None:
        """Ask for rooms and members: a snapshot may hold only the beginning of long lists."""
        held = dict(self.model.rooms), dict(self.model.members)
        try:
            rooms = await self.client.rooms(None, LIST_PAGE)
            self.model.take_rooms(rooms.items)
            while rooms.next_cursor and len(self.model.rooms) < MAX_ROOMS:
                rooms = await self.client.rooms(rooms.next_cursor, LIST_PAGE)
                self.model.take_rooms(rooms.items)
            members = await self.client.members(None, LIST_PAGE)
            self.model.take_members(members.items)
            while members.next_cursor and len(self.model.members) < MAX_MEMBERS:
                members = await self.client.members(members.next_cursor, LIST_PAGE)
                self.model.take_members(members.items)
        except PermeshError:
            return  # the event stream tells that the daemon went away, and asks again after
        if held != (self.model.rooms, self.model.members):
            self.gather(Part.ROOMS | Part.MEMBERS)

    @work(group="models", exclusive=True)
    async def _fetch_models(self) -> None:
        try:
            self.model.models = (await self.client.models()).items
        except PermeshError:
            return
        self.gather(Part.MODELS)

    @work(group="card", exclusive=True)
    async def _fetch_card(self) -> None:
        try:
            identity = await self.client.identity()
        except PermeshError:
            return
        self.show_identity(identity)

    @work(group="settle", exclusive=True)
    async def _settle_drafts(self) -> None:
        """Bring drafts back, and find out which of them were posted before a break."""
        try:
            await self.drafts.restore()
            self.drafts_settled([])
            self.drafts_settled(await self.drafts.settle(self.model.own))
        except PermeshError:
            return
        await self.drafts.save()

    def _count_soon(self) -> None:
        if self._counting is None:
            self._counting = self.set_timer(COUNT_SECONDS, self._count)

    def _count(self) -> None:
        self._counting = None
        self._fetch_counts()
        self.fetch_inbox()

    @work(group="counts", exclusive=True)
    async def _fetch_counts(self) -> None:
        stale = list(self.model.stale_rooms)[:MAX_COUNTED]
        self.model.stale_rooms.clear()
        try:
            rooms = [await self.client.room(room_id) for room_id in stale]
        except PermeshError:
            return
        if any(self.model.rooms.get(room.id) != room for room in rooms):
            self.model.take_rooms(rooms)
            self.gather(Part.ROOMS)

    @work(group="inbox", exclusive=True)
    async def fetch_inbox(self) -> None:
        """Ask how many items are unread; the inbox view asks for itself."""
        try:
            inbox = await self.client.inbox(None, 1, unread=True)
        except PermeshError:
            return
        self.show_inbox(inbox)
