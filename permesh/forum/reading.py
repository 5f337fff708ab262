"""What a member reads of the forum.

Owns the questions of `node.ForumNode` that change nothing. Must never write.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal, TypeVar

from permesh import schema
from permesh.async_store import AsyncStore
from permesh.records import Record
from permesh.store import Store

from . import charters, finding, pages
from .batch import read_current
from .reader import Reader
from .sight import Sight

_T = TypeVar("_T")

# Of a post's texts and of a room's charters: a hundred of the longest are three megabytes.
MAX_VERSIONS = 100


class Reading:
    def __init__(self, store: AsyncStore, reader: Reader) -> None:
        self._store = store
        self._reader = reader

    async def rooms(
        self, cursor: str | None = None, limit: int = 100, *, followed: bool | None = None
    ) -> schema.Rooms:
        def look(sight: Sight) -> schema.Rooms:
            ids, more = pages.rooms(sight.connection, cursor, limit, followed)
            return schema.Rooms(items=self._reader.rooms(sight, ids), next_cursor=more)

        return await self.look(look)

    async def room(self, room: str) -> schema.Room:
        return await self.look(
            lambda sight: self._reader.show_room(
                sight.connection, finding.find_room(sight.connection, room)
            )
        )

    async def charters(self, room: str) -> schema.Charters:
        """Those that count, newest first; the newest `MAX_VERSIONS`."""

        def look(sight: Sight) -> schema.Charters:
            found = finding.find_room(sight.connection, room)
            versions = charters.counting(sight.connection, found, MAX_VERSIONS)
            return schema.Charters(
                items=[self._reader.charter(sight, found, version[0]) for version in versions]
            )

        return await self.look(look)

    async def posts(
        self,
        room: str,
        cursor: str | None = None,
        limit: int = 100,
        order: Literal["asc", "desc"] = "asc",
        *,
        hidden: bool = False,
    ) -> schema.Posts:
        def look(sight: Sight) -> schema.Posts:
            place = finding.find_room(sight.connection, room)
            newest_first = order == "desc"
            page = pages.posts(
                sight, place, cursor, limit, newest_first=newest_first, hidden=hidden
            )
            return self._reader.page(sight, page)

        return await self.look(look)

    async def thread(
        self, post: str, cursor: str | None = None, limit: int = 100, *, hidden: bool = False
    ) -> schema.Posts:
        def look(sight: Sight) -> schema.Posts:
            found = finding.find_post(sight.connection, post)
            return self._reader.page(
                sight, pages.thread(sight, found, cursor, limit, hidden=hidden)
            )

        return await self.look(look)

    async def read_post(self, post: str) -> schema.Post:
        return await self.look(
            lambda sight: self.show_post(sight, finding.find_post(sight.connection, post))
        )

    async def versions(self, post: str) -> schema.Versions:
        """What it said, oldest first; of a removed one nothing. Of very many edits the last
        `MAX_VERSIONS`."""

        def look(sight: Sight) -> schema.Versions:
            found = finding.find_post(sight.connection, post)
            rows = sight.connection.execute(
                "SELECT id, created_ms FROM forum_posts WHERE id = ?1 AND NOT removed"
                " UNION ALL SELECT id, created_ms FROM ("
                "  SELECT e.id, e.created_ms, e.seq FROM forum_edits AS e"
                "  JOIN forum_posts AS p ON p.id = e.post AND p.author = e.author"
                "  AND p.room = +e.room AND NOT p.removed"
                "  WHERE e.post = ?1 AND e.hidden = '' ORDER BY e.seq DESC LIMIT ?2)",
                (found, MAX_VERSIONS),
            ).fetchall()
            return schema.Versions(
                items=[
                    schema.Version(
                        id=identity.hex(),
                        created_ms=created_ms,
                        text=read_current(sight.connection, identity).text,
                    )
                    for identity, created_ms in [*rows[:1], *reversed(rows[1:])]
                ]
            )

        return await self.look(look)

    async def file(self, file: str) -> schema.Attachment:
        """One that some post here names, as that post describes it."""

        def look(sight: Sight) -> schema.Attachment:
            wanted, post = finding.find_file(sight.connection, file)
            (current,) = sight.connection.execute(
                "SELECT current FROM forum_posts WHERE id = ?", (post,)
            ).fetchone()
            named = read_current(sight.connection, current).files
            return self._reader.attachment(next(one for one in named if one.hash == wanted))

        return await self.look(look)

    async def forks(self) -> schema.Forks:
        """Proofs that chains forked: of each record the header, which is what was signed."""

        def look(store: Store) -> schema.Forks:
            items = []
            for fork in store.forks():
                pair = [store.get(identity) for identity in (fork.id_a, fork.id_b)]
                first, second = (
                    replace(record, body=None).encode().hex() for record in pair if record
                )
                repaired = self._reader.onlooker.repaired(fork.author)
                items.append(
                    schema.ForkProof(
                        author=self._reader.named(fork.author),
                        seq=fork.seq,
                        first=first,
                        second=second,
                        repaired=repaired.hex() if repaired else "",
                    )
                )
            return schema.Forks(items=items)

        return await self._store.read(look)

    async def shown(self, records: Sequence[Record]) -> list[schema.Room | schema.Post]:
        """What of these records is to be told, rooms first: for live events."""
        return await self._store.read(lambda store: self._reader.shown(store.connection, records))

    async def labels(self, post: str) -> schema.Labels:
        def look(sight: Sight) -> schema.Labels:
            found = finding.find_post(sight.connection, post)
            rows = sight.labels(found)
            return schema.Labels(items=[self._reader.label(sight, row) for row in rows])

        return await self.look(look)

    async def look(self, look: Callable[[Sight], _T]) -> _T:
        return await self._store.read(lambda store: look(self._reader.sight(store.connection)))

    def show_post(self, sight: Sight, post: bytes) -> schema.Post:
        (shown,) = self._reader.posts(sight, [post], sight.hidden([post]))
        return shown
