"""How this member treats others: whose labels count for it, and whom it does not hear.

Owns the table `judgements` and the choice whether labels of stewards count. Nothing here is told
to anybody; must never know what a label does.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, field
from typing import Literal

from permesh.errors import PermeshError

Heard = Literal["yes", "muted", "blocked"]
HEARD: tuple[Heard, ...] = ("yes", "muted", "blocked")  # by their numbers in the table

# Each view asks for all of them.
MAX_JUDGEMENTS = 4_096
_STEWARDS = "stewards"


@dataclass(frozen=True, slots=True)
class Judges:
    """Agents are 20-byte addresses. ``stewards``: whether labels of a room's stewards count in
    their room; labels of ``labellers`` count everywhere."""

    stewards: bool = True
    labellers: frozenset[bytes] = field(default_factory=frozenset)
    muted: frozenset[bytes] = field(default_factory=frozenset)
    blocked: frozenset[bytes] = field(default_factory=frozenset)

    @property
    def unheard(self) -> frozenset[bytes]:
        return self.muted | self.blocked


@dataclass(frozen=True, slots=True)
class Judged:
    agent: bytes
    labels: bool
    heard: Heard


def load(connection: sqlite3.Connection) -> Judges:
    rows = judged(connection)
    return Judges(
        stewards=_counts_stewards(connection),
        labellers=frozenset(row.agent for row in rows if row.labels),
        muted=frozenset(row.agent for row in rows if row.heard == "muted"),
        blocked=frozenset(row.agent for row in rows if row.heard == "blocked"),
    )


def judged(connection: sqlite3.Connection) -> list[Judged]:
    """Everyone of whom this member thinks otherwise than of others, by address."""
    rows = connection.execute("SELECT agent, labels, heard FROM judgements ORDER BY agent")
    return [Judged(bytes(agent), bool(labels), HEARD[heard]) for agent, labels, heard in rows]


def judge(
    cursor: sqlite3.Cursor, agent: bytes, *, labels: bool | None = None, heard: Heard | None = None
) -> Judged:
    """Change what is given; raises ``judgements.too_many``."""
    row = cursor.execute(
        "SELECT labels, heard FROM judgements WHERE agent = ?", (agent,)
    ).fetchone()
    before = row or (0, 0)
    after = Judged(
        agent,
        bool(before[0]) if labels is None else labels,
        HEARD[before[1]] if heard is None else heard,
    )
    if not after.labels and after.heard == "yes":
        cursor.execute("DELETE FROM judgements WHERE agent = ?", (agent,))
        return after
    (count,) = cursor.execute("SELECT count(*) FROM judgements").fetchone()
    if row is None and count >= MAX_JUDGEMENTS:
        raise PermeshError(
            "judgements.too_many",
            f"You have judged {count} members, and {MAX_JUDGEMENTS} is the limit.",
            "Take a judgement back first.",
            http_status=409,
        )
    cursor.execute(
        "INSERT OR REPLACE INTO judgements VALUES (?, ?, ?)",
        (agent, after.labels, HEARD.index(after.heard)),
    )
    return after


def count_stewards(cursor: sqlite3.Cursor, count: bool) -> None:
    cursor.execute("INSERT OR REPLACE INTO choices VALUES (?, ?)", (_STEWARDS, count))


def _counts_stewards(connection: sqlite3.Connection) -> bool:
    row = connection.execute("SELECT value FROM choices WHERE key = ?", (_STEWARDS,)).fetchone()
    return bool(row[0]) if row else True
