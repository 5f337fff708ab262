"""`permesh read --follow`: each post of a room once, whatever the daemon does meanwhile.

Owns what has been shown and what that means for the next post: one that is shown already comes
again only when its author has changed or removed it. After a break, the events go on from the
cursor of the last one; only a daemon that does not know the cursor (another home, or one that was
set back) is paged through anew. Must never poll.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing

from permesh import schema
from permesh.client import Client
from permesh.errors import PermeshError

from .inputs import PAGE, gathered

FIRST_WAIT, LONGEST_WAIT = 0.2, 10.0  # seconds between attempts to reach the daemon again
# Ids of posts shown that are remembered; half are forgotten beyond it, the oldest arrivals.
MAX_REMEMBERED = 50_000

_GONE = {"daemon.absent", "daemon.gone", "daemon.slow"}


def newest(client: Client, room: str, limit: int, *, hidden: bool = False) -> schema.Posts:
    """The newest ``limit`` posts, the newest last; its cursor goes on to older ones."""
    items, cursor = gathered(
        lambda cursor, most: client.posts(room, cursor, most, "desc", hidden=hidden), limit
    )
    return schema.Posts(items=items[::-1], next_cursor=cursor)


class Follower:
    """Shows each post by ``show``; ``say`` tells of the daemon's going and coming."""

    def __init__(
        self,
        client: Client,
        room: str,
        show: Callable[[schema.Post], None],
        say: Callable[[str], None],
        now_ms: int,
        wait: Callable[[float], None] = time.sleep,
        *,
        hidden: bool = False,
    ) -> None:
        self._client = client
        self._room = room
        self._room_id = ""
        self._show = show
        self._say = say
        self._wait = wait
        self._hidden = hidden
        self._me = ""
        self._cursor = ""
        # A post counts as new if it arrived (by the daemon's clock, which is this machine's) since
        # then and was not shown: when it was written says nothing about that.
        self._since_ms = now_ms
        self._shown: dict[str, _Shown] = {}

    def run(self, limit: int) -> None:
        """Never returns by itself; raises what a first reading raises."""
        wait = FIRST_WAIT
        while True:
            try:
                with closing(self._client.events(self._cursor or None)) as events:
                    for event in events:
                        self._take_event(event[1], limit)
                        self._cursor = event.cursor or self._cursor
                        wait = FIRST_WAIT
            except PermeshError as error:
                if error.code == "events.cursor" and self._cursor:
                    self._cursor = ""
                    continue
                if not self._room_id or error.code not in _GONE:
                    raise
            if wait == FIRST_WAIT:
                self._say("permesh: the daemon has gone; waiting for it to come back")
            self._wait(wait)
            wait = min(wait * 2, LONGEST_WAIT)

    def _take_event(self, data: object, limit: int) -> None:
        if isinstance(data, schema.Snapshot):
            self._me = data.status.agent
            if not self._room_id:
                self._room_id = self._client.room(self._room).id
                for post in newest(self._client, self._room, limit, hidden=self._hidden).items:
                    self._take(post)
            elif not self._cursor:
                self._catch_up()
        elif isinstance(data, schema.Post) and data.room == self._room_id:
            self._take_if_new(data)

    def _catch_up(self) -> None:
        cursor: str | None = None
        while True:
            page = self._client.posts(self._room_id, cursor, PAGE, hidden=self._hidden)
            for post in page.items:
                self._take_if_new(post)
            cursor = page.next_cursor
            if cursor is None:
                return

    def _take_if_new(self, post: schema.Post) -> None:
        if post.hidden and not self._hidden and post.author != self._me:
            return
        before = self._shown.get(post.id)
        if before is None:
            if post.received_ms >= self._since_ms:
                self._take(post)
        elif (post.edits, post.removed) != (before.edits, before.removed):
            self._take(post)

    def _take(self, post: schema.Post) -> None:
        self._shown[post.id] = _Shown(post)
        self._show(post)
        if len(self._shown) > MAX_REMEMBERED:
            arrivals = sorted(shown.received_ms for shown in self._shown.values())
            self._since_ms = max(self._since_ms, arrivals[len(arrivals) // 2])
            self._shown = {
                id_: shown
                for id_, shown in self._shown.items()
                if shown.received_ms >= self._since_ms
            }


class _Shown:
    """What is remembered of a post that was shown."""

    __slots__ = ("edits", "received_ms", "removed")

    def __init__(self, post: schema.Post) -> None:
        self.received_ms = post.received_ms
        self.edits = post.edits
        self.removed = post.removed
