"""Whose dates are not to be believed.

Owns the tables `forum_clocks` and `forum_arrived_late` and the sentence that a reader is told. A
date is its author's claim; what can be held against it are the author's own earlier records, the
post that is answered, and the time at which a member heard of it that was listening.

`forum_clocks` keeps of each author only records that are dated after all earlier ones of its
chain, so that the latest date before any place is found at once.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence

from permesh.chains import runs
from permesh.records import Record

from . import rules


def note(cursor: sqlite3.Cursor, records: Iterable[Record]) -> None:
    for run in runs(records):
        _note(cursor, run)


def _note(cursor: sqlite3.Cursor, run: Sequence[Record]) -> None:
    """All of one author and next to each other in its chain."""
    author, first, last = run[0].header.author, run[0].header.seq, run[-1].header.seq
    new = [(record.header.seq, record.header.created_ms) for record in run]
    latest_ms = max(created_ms for _, created_ms in new)
    known: list[tuple[int, int]] = []
    for row in cursor.execute(
        "SELECT seq, created_ms FROM forum_clocks WHERE author = ?1 AND seq >= coalesce("
        "(SELECT max(seq) FROM forum_clocks WHERE author = ?1 AND seq <= ?2), ?2) ORDER BY seq",
        (author, first),
    ):
        if row[0] > last and row[1] > latest_ms:
            break  # this one and what follows are dated after all of these
        known.append(row)
    kept: dict[int, int] = {}
    high = -1
    for seq, created_ms in sorted({*known, *new}, key=lambda place: (place[0], -place[1])):
        if created_ms > high:
            kept[seq] = high = created_ms
    cursor.executemany(
        "DELETE FROM forum_clocks WHERE author = ? AND seq = ?",
        [(author, seq) for seq, created_ms in known if kept.get(seq) != created_ms],
    )
    before = dict(known)
    cursor.executemany(
        "INSERT INTO forum_clocks VALUES (?, ?, ?)",
        [(author, *place) for place in kept.items() if before.get(place[0]) != place[1]],
    )


def late(
    connection: sqlite3.Connection,
    post: bytes,
    author: bytes,
    seq: int,
    created_ms: int,
    reply_to: bytes | None,
) -> str:
    """Why a post's date is not to be believed, in one sentence, or ``""``."""
    if reply_to is not None:
        row = connection.execute(
            "SELECT created_ms FROM forum_posts WHERE id = ?", (reply_to,)
        ).fetchone()
        if row is not None and created_ms < row[0] - rules.PARENT_TOLERANCE_MS:
            return "It is dated before the post that it answers."
    row = connection.execute(
        "SELECT created_ms FROM forum_clocks WHERE author = ? AND seq < ?"
        " ORDER BY seq DESC LIMIT 1",
        (author, seq),
    ).fetchone()
    if row is not None and created_ms < row[0] - rules.CHAIN_TOLERANCE_MS:
        return "It is dated before something that its author wrote earlier."
    if connection.execute("SELECT 1 FROM forum_arrived_late WHERE post = ?", (post,)).fetchone():
        return "It came more than an hour after its date, while this member was listening."
    return ""
