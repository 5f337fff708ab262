"""The forum as tables, kept up as records come, change, and go.

Owns the forum's `Projection`, and in which order a batch of records is taken in. What stands in
which table is `permesh/forum/batch.py`'s, what is hidden `verdicts.py`'s. Must never sign, send or
wait, nor know who looks.

Posts are ordered by (created_ms, id); ``created_ms`` is the author's claim and no more. Names of
rooms are local: the first room of a name that arrived here has it, later ones are `name~1a2b`, so
that nobody takes a name over by claiming an earlier date. What is the same everywhere is the id.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from permesh.errors import Refused
from permesh.records import NO_ROOM, Record

from . import clocks, kinds, rules, tables
from .batch import Batch
from .kinds import Content


class ForumView:
    """The forum's `Projection`: see `permesh/store.py`.

    ``repaired`` gives the record from which an agent's owner says that its chain goes on; when its
    answer changes, `refresh_authors` is to be called. ``listening_since_ms`` gives the time since
    which this member has been hearing of a room without a break, None if it does not now, as while
    the view is being rebuilt: what comes more than an hour after its date all the same is late.
    """

    name = "forum"
    version = 4

    def __init__(
        self,
        *,
        repaired: Callable[[bytes], bytes | None] = lambda _agent: None,
        listening_since_ms: Callable[[bytes], int | None] = lambda _room: None,
    ) -> None:
        self._repaired = repaired
        self._listening_since_ms = listening_since_ms

    def reset(self, cursor: sqlite3.Cursor) -> None:
        for name in tables.NAMES:
            cursor.execute(f"DROP TABLE IF EXISTS {name}")
        for statement in (*tables.TABLES, *tables.LASTING):
            cursor.execute(statement)

    def apply(self, cursor: sqlite3.Cursor, records: Sequence[Record], now_ms: int) -> None:
        clocks.note(cursor, records)
        batch = Batch(cursor)
        for author in dict.fromkeys(record.header.author for record in records):
            batch.freeze(author, self._repaired(author))
        forms = [(record, form) for record in records if (form := _read(record)) is not None]
        for record, form in forms:
            if record.header.kind == kinds.ROOM:
                batch.add_room(record, form)
            elif record.header.kind == kinds.CHARTER:
                batch.add_charter(record, form)
        batch.settle_rooms()
        for record, form in forms:
            header = record.header
            if header.kind == kinds.POST:
                batch.add_post(record, form, now_ms)
                self._note_arrival(cursor, record, now_ms)
            elif header.kind == kinds.EDIT:
                batch.add_edit(record, form)
            elif header.kind == kinds.REACTION:
                batch.add_reaction(record, form)
            elif header.kind == kinds.LABEL:
                batch.add_label(record, form)
        # What they name may have come in the same batch, with its body.
        for record, form in forms:
            if record.header.kind == kinds.REMOVAL:
                batch.remove(record, form)
        batch.settle_posts()

    def forget(self, cursor: sqlite3.Cursor, records: Sequence[Record]) -> None:
        batch = Batch(cursor)
        gone = [record for record in records if record.header.kind in kinds.KINDS]
        batch.drop(gone)
        batch.settle_posts()

    def refresh_authors(self, cursor: sqlite3.Cursor, agents: Iterable[bytes]) -> None:
        """Show and hide what the repairs of these agents' chains say now."""
        batch = Batch(cursor)
        for agent in agents:
            batch.freeze(agent, self._repaired(agent))
        batch.settle_rooms()
        batch.settle_posts()

    def _note_arrival(self, cursor: sqlite3.Cursor, record: Record, now_ms: int) -> None:
        created_ms = record.header.created_ms
        since_ms = self._listening_since_ms(record.header.room)
        if (
            since_ms is not None
            and since_ms <= created_ms
            and now_ms - created_ms > rules.ARRIVAL_TOLERANCE_MS
        ):
            cursor.execute("INSERT OR IGNORE INTO forum_arrived_late VALUES (?)", (record.id,))


def _read(record: Record) -> Any:
    """What its body says; None for other kinds and for what is out of form, which are not shown.

    Form is checked at the door as well, but a record may be older than its rule. Of a removed post
    the place stays.
    """
    header, body = record.header, record.body
    if header.kind not in kinds.KINDS:
        return None
    if body is None:
        removed_post = header.kind == kinds.POST and header.room != NO_ROOM
        return _REMOVED if removed_post and len(header.parents) <= 1 else None
    try:
        return kinds.read_record(record)
    except Refused:
        return None


_REMOVED = Content("")
