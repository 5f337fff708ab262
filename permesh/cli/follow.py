"""`permesh read --follow`: each post of a room once, whatever the daemon does meanwhile.

Owns what has been shown and what that means for the next post. Live events are a hint that
carries the post; after a gap (a restart of the daemon, a listener that lagged) the room is paged
through, since a post that arrives late may stand anywhere in it. Must never poll.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing

from permesh import schema
from permesh.client import Client
from permesh.errors import PermeshError

PAGE = 500
FIRST_WAIT, LONGEST_WAIT = 0.2, 10.0  # seconds between attempts to reach the daemon again
# Ids of posts shown that are remembered; half are forgotten beyond it, the oldest arrivals.
MAX_REMEMBERED = 50_000

_GONE = {"daemon.absent", "daemon.gone", "daemon.slow"}


def newest(client: Client, room: str, limit: int) -> schema.Posts:
    """The newest ``limit`` posts, the newest last; its cursor goes on to older ones."""
    items: list[schema.Post] = []
    cursor: str | None = None
    while True:
        page = client.posts(room, cursor, max(1, min(PAGE, limit - len(items))), order="desc")
        items += page.items[: limit - len(items)]
        cursor = page.next_cursor
        if cursor is None or len(items) >= limit:
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
    ) -> None:
        self._client = client
        self._room = room
        self._room_id: str | None = None
        self._show = show
        self._say = say
        self._wait = wait
        # A post counts as new if it arrived (by the daemon's clock, which is this machine's) since
        # then and was not shown: when it was written says nothing about that.
        self._since_ms = now_ms
        self._shown: dict[str, int] = {}  # id -> received_ms

    def run(self, limit: int) -> None:
        """Never returns by itself; raises what a first reading raises."""
        first = True
        wait = FIRST_WAIT
        while True:
            try:
                with closing(self._client.events()) as events:
                    for name, data in events:
                        if name == "snapshot":
                            self._begin(limit) if first else self._catch_up()
                            first, wait = False, FIRST_WAIT
                        elif isinstance(data, schema.Post):
                            self._live(data)
            except PermeshError as error:
                if first or error.code not in _GONE:
                    raise
            if wait == FIRST_WAIT:
                self._say("permesh: the daemon has gone; waiting for it to come back")
            self._wait(wait)
            wait = min(wait * 2, LONGEST_WAIT)

    def _begin(self, limit: int) -> None:
        for post in newest(self._client, self._room, limit).items:
            self._take(post)

    def _live(self, post: schema.Post) -> None:
        if self._room_id is None:
            self._catch_up()  # the first post tells the id of an empty room that was named
        elif post.room == self._room_id:
            self._take_if_new(post)

    def _catch_up(self) -> None:
        cursor: str | None = None
        while True:
            page = self._client.posts(self._room, cursor, PAGE)
            for post in page.items:
                self._room_id = post.room
                self._take_if_new(post)
            cursor = page.next_cursor
            if cursor is None:
                return

    def _take_if_new(self, post: schema.Post) -> None:
        if post.received_ms >= self._since_ms and post.id not in self._shown:
            self._take(post)

    def _take(self, post: schema.Post) -> None:
        self._room_id = post.room
        self._shown[post.id] = post.received_ms
        self._show(post)
        if len(self._shown) > MAX_REMEMBERED:
            arrivals = sorted(self._shown.values())
            self._since_ms = max(self._since_ms, arrivals[len(arrivals) // 2])
            self._shown = {id_: at for id_, at in self._shown.items() if at >= self._since_ms}
