"""Whose dates are not to be believed.

Owns the tables `forum_clocks` and `forum_arrived_late` and the sentence that a reader is told. A
date is its author's claim; what can be held against it are the author's own earlier records, the
post that is answered, and the time at which a member heard of it that was listening.

`forum_clocks` keeps of each author only records that are dated after all earlier ones of its
chain, so that the latest date before any place is found at once.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from permesh.records import Record

from . import rules


def note(cursor: sqlite3.Cursor, records: Iterable[Record]) -> None:
    for record in records:
        header = record.header
        place = (header.author, header.seq)
        row = cursor.execute(
            "SELECT created_ms FROM forum_clocks WHERE author = ? AND seq <= ?"
            " ORDER BY seq DESC LIMIT 1",
            place,
        ).fetchone()
        if row is not None and row[0] >= header.created_ms:
            continue
        rows = cursor.execute(
            "SELECT seq, created_ms FROM forum_clocks WHERE author = ? AND seq >= ? ORDER BY seq",
            place,
        )
        passed = []
        for seq, created_ms in rows:
            if created_ms > header.created_ms:
                break
            passed.append((header.author, seq))
        cursor.executemany("DELETE FROM forum_clocks WHERE author = ? AND seq = ?", passed)
        cursor.execute("INSERT INTO forum_clocks VALUES (?, ?, ?)", (*place, header.created_ms))


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
