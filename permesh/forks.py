"""The proof that an author signed two records that cannot both stand in one chain.

Owns when two records contradict each other and the table that keeps the proofs. Must never decide
what becomes of their author.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from typing import Any

from .records import MAX_UINT, Record


@dataclass(frozen=True, slots=True)
class Fork:
    """Two signed records that cannot both stand in one chain; ``seq`` is the lower one's."""

    author: bytes
    seq: int
    id_a: bytes
    id_b: bytes


def note_fork(cursor: sqlite3.Cursor, record: Record) -> None:
    """Keep the proof if a stored record and this one cannot both stand in the author's chain.

    Either they have one seq, or they are neighbours and the later one names another ``prev``.
    Each question stops at its first answer, so a chain of many forks costs no more than one.
    """
    header = record.header
    seq = header.seq
    around = cursor.execute(
        "SELECT id, seq, prev FROM records WHERE author = ? AND seq BETWEEN ? AND ? LIMIT 4",
        (header.author, seq - 1, min(seq + 1, MAX_UINT)),
    ).fetchall()
    # Itself and a neighbour on either side, which is nearly always all.
    if len(around) < 4 and all(
        other == record.id
        or (at == seq - 1 and other == header.prev)
        or (at == seq + 1 and prev == record.id)
        for other, at, prev in around
    ):
        return
    conflicts: list[tuple[str, tuple[Any, ...], int]] = [("seq = ?", (seq,), seq)]
    if seq > 0:
        conflicts.append(("seq = ? AND id <> ?", (seq - 1, header.prev), seq - 1))
    if seq < MAX_UINT:
        conflicts.append(("seq = ? AND prev <> ?", (seq + 1, record.id), seq))
    for condition, values, at in conflicts:
        other = cursor.execute(
            f"SELECT id FROM records WHERE author = ? AND id <> ? AND {condition} LIMIT 1",
            (header.author, record.id, *values),
        ).fetchone()
        if other is not None:
            cursor.execute(
                "INSERT INTO forks VALUES (?, ?, ?, ?) ON CONFLICT (author, seq) DO NOTHING",
                (header.author, at, *sorted((other[0], record.id))),
            )
