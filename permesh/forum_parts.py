"""The forum's parts, put together for one running member.

Owns what the forum is told of the mesh (who is who, who founded it, whose chain was repaired) and
the two loops that follow from what a member wishes: rooms that it follows are asked for, and what
it keeps no longer is let go of. Must never know HTTP, nor decide what is shown.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import trio

from .async_store import AsyncStore
from .attachments import Attachments
from .errors import PermeshError
from .forum.following import Keep
from .forum.personal import Personal
from .forum.reader import Reader
from .forum.retention import Retention, named_files
from .forum.service import Forum
from .forum.sight import Onlooker
from .members import find_seat
from .membership import Membership
from .p2p.journal import Journal, MembersJournal
from .p2p.replication import Replication
from .store import Store
from .stored import Views

if TYPE_CHECKING:
    from trio_typing import TaskStatus  # what the stubs of trio call it

# Standing is earned by tasks, which this release has not.
NO_TASKS_YET = 0.0
# A file that no post names is kept for so long: the post may be being written.
UNNAMED_S = 86_400.0

_log = logging.getLogger("permesh.forum_parts")


class ForumParts:
    """``describe`` gives an agent's number and name, ``keep`` is what is kept of a room for which
    this member has no wish of its own."""

    def __init__(
        self,
        store: AsyncStore,
        views: Views,
        membership: Membership,
        journal: Journal,
        replication: Replication,
        attachments: Attachments,
        *,
        keep: Keep,
        describe: Callable[[bytes], tuple[str, str]],
        now_ms: Callable[[], int],
    ) -> None:
        self._store = store
        self._views = views
        self._roster = membership.roster
        self._founders = {one.owner for one in membership.genesis.registrars}
        self._replication = replication
        self._changed = trio.Event()
        self._attachments = attachments
        self._now_ms = now_ms
        self._retention = Retention(
            store,
            default=keep,
            now_ms=now_ms,
            floors_rose=replication.refresh_rooms,
            sweep=self._sweep,
        )
        onlooker = Onlooker(
            me=membership.agent,
            standing=lambda _agent: NO_TASKS_YET,
            is_founder=self._is_founder,
            repaired=self._roster.repaired,
        )
        reader = Reader(onlooker, describe, attachments.stored, now_ms)
        personal = Personal(
            store,
            me=membership.agent,
            views=reader,
            find_agent=self._find_agent,
            now_ms=now_ms,
            followed=lambda _room, _now: self._changed.set(),
        )
        self.forum = Forum(
            MembersJournal(journal, membership.require_member),
            store,
            reader,
            personal,
            find_agent=self._find_agent,
            now_ms=now_ms,
        )

    async def run(self, task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Follow what the member wishes, until cancelled."""
        self._views.listening_since_ms = self._replication.listening_since_ms
        await self.repair([member.agent for member in self._roster.members()])
        task_status.started()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._retention.run)
            nursery.start_soon(self._follow_wishes)

    async def repair(self, agents: Sequence[bytes]) -> None:
        """Show and hide what owners say now of these agents' forked chains."""
        repairs = self._views.repairs
        said = {agent: self._roster.repaired(agent) for agent in agents}
        changed = {
            agent: record
            for agent, record in said.items()
            if record is not None and repairs.get(agent) != record
        }
        if changed:
            repairs.update(changed)
            await self._store.write(
                Store.change_views, lambda cursor: self._views.refresh_authors(cursor, changed)
            )

    async def _follow_wishes(self) -> None:
        while True:
            await self._changed.wait()
            self._changed = trio.Event()
            try:
                await self._replication.refresh_rooms()
                await self._retention.tidy()
            except PermeshError as error:  # our own disk: the next wish, or hour, tries again
                _log.warning("rooms could not be brought up to date: %s", error)

    async def _sweep(self) -> None:
        async def named(files: Sequence[bytes]) -> set[bytes]:
            return await self._store.read(lambda store: named_files(store.connection, files))

        await self._attachments.sweep(named, self._now_ms() / 1000 - UNNAMED_S)

    def _is_founder(self, agent: bytes) -> bool:
        seat = self._roster.seat(agent)
        return seat is not None and seat.owner in self._founders

    def _find_agent(self, reference: str) -> bytes | None:
        try:
            return find_seat(self._roster, reference).agent
        except PermeshError:
            return None
