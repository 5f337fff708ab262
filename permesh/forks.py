"""The proof that an author signed two records that cannot both stand in one chain.

Owns when two records contradict each other and the table that keeps the proofs. Must never decide
what becomes of their author.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from .chains import runs
from .records import MAX_UINT, Record


@dataclass(frozen=True, slots=True)
class Fork:
    """Two signed records that cannot both stand in one chain; ``seq`` is the lower one's."""

    author: bytes
    seq: int
    id_a: bytes
    id_b: bytes


def note_forks(cursor: sqlite3.Cursor, records: Iterable[Record]) -> None:
    """Keep the proof where a stored record and one of these cannot both stand in a chain.

    Either they have one seq, or they are neighbours and the later one names another ``prev``.
    """
    for run in runs(records):
        if not _is_chain(cursor, run):
            for record in run:
                _note_fork(cursor, record)


def _is_chain(cursor: sqlite3.Cursor, run: Sequence[Record]) -> bool:
    """Whether what is stored from before a run to after it is one record after the other."""
    header, last = run[0].header, run[-1].header.seq
    around = cursor.execute(
        "SELECT seq, id, prev FROM records WHERE author = ? AND seq BETWEEN ? AND ?"
        " ORDER BY seq LIMIT ?",
        (header.author, header.seq - 1, min(last + 1, MAX_UINT), last - header.seq + 4),
    ).fetchall()
    return all(
        after[0] == before[0] + 1 and after[2] == before[1] for before, after in pairwise(around)
    )


def _note_fork(cursor: sqlite3.Cursor, record: Record) -> None:
    """Each question stops at its first answer, so a chain of many forks costs no more than one."""
    header = record.header
    seq = header.seq
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
