"""What one member sees: what is hidden from it, and by what.

Owns the verdicts that depend on who looks and when: labels of those whom it goes by, whom it does
not hear, and how an author stands now. They are made on reading, for one page at a time; what
records alone decide is in the tables already (`permesh/forum/verdicts.py`).
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from permesh.records import NO_ROOM

from . import judgements, rules, verdicts
from .charter import PER_HOUR, breach, breach_of_standing
from .charters import Cache, Version

MAX_TARGETS = 10_000
_VARIABLES = 500
_ROOMS = 256  # of one author, that are looked at


@dataclass(frozen=True, slots=True)
class LabelRow:
    """The last word of its author on a post or an agent, in one room."""

    id: bytes
    room: bytes
    target: bytes
    author: bytes
    value: str
    on: bool
    reason: str
    created_ms: int


@dataclass(frozen=True, slots=True)
class Hidden:
    """``code`` is one of `rules`; ``rule`` one of the charter ``by``; ``label`` what hides it."""

    code: str
    rule: str = ""
    by: Version | None = None
    label: LabelRow | None = None


@dataclass(frozen=True, slots=True)
class Onlooker:
    """This member, and what it asks of others: how an agent stands, whether it is a founder, and
    the record from which its chain goes on after a fork."""

    me: bytes
    standing: Callable[[bytes], float]
    is_founder: Callable[[bytes], bool]
    repaired: Callable[[bytes], bytes | None]


class Sight:
    """One look at one state of the database; to be thrown away after it."""

    def __init__(self, connection: sqlite3.Connection, onlooker: Onlooker) -> None:
        self.connection = connection
        self.me = onlooker.me
        self.charters = Cache(connection)
        self.judges = judgements.load(connection)
        self._onlooker = onlooker
        self._standing: dict[tuple[bytes, bytes], str] = {}
        self._fates: dict[bytes, verdicts.Fate | None] = {}

    # -- posts ---------------------------------------------------------------------------------

    def hidden(self, posts: Sequence[bytes]) -> dict[bytes, Hidden]:
        """Those of ``posts`` that are hidden from this member."""
        found: dict[bytes, Hidden] = {}
        for some in _chunks(posts):
            rows = self.connection.execute(
                "SELECT id, room, author, judged, hidden, rule FROM forum_posts"
                f" WHERE id IN ({_marks(some)})",
                some,
            ).fetchall()
            labels = self._hiding_labels([row[0] for row in rows], {row[2] for row in rows})
            for row in rows:
                hidden = self._verdict(row, labels)
                if hidden is not None:
                    found[row[0]] = hidden
        return found

    def _verdict(self, row: Sequence[object], labels: dict[bytes, list[LabelRow]]) -> Hidden | None:
        identity, room, author, judged, code, rule = row
        assert isinstance(identity, bytes)
        assert isinstance(room, bytes)
        assert isinstance(author, bytes)
        by = self.charters.get(judged) if isinstance(judged, bytes) else None
        if code:
            return Hidden(str(code), str(rule), by)
        if by is not None and (broken := self._breach_of_standing(by, author)):
            return Hidden(rules.RULE, broken, by)
        if author != self.me and author in self.judges.blocked:
            return Hidden(rules.BLOCK)
        if author != self.me and author in self.judges.muted:
            return Hidden(rules.MUTE)
        for label in (*labels.get(identity, ()), *labels.get(author, ())):
            if self.counts(label, room):
                return Hidden(rules.LABEL, label=label)
        return None

    def _breach_of_standing(self, by: Version, author: bytes) -> str:
        key = (by.id, author)
        if key not in self._standing:
            self._standing[key] = breach_of_standing(
                by.charter, author, self._onlooker.standing(author),
                self._onlooker.is_founder(author),
            )  # fmt: skip
        return self._standing[key]

    # -- labels --------------------------------------------------------------------------------

    def labels(self, targets: Sequence[bytes]) -> list[LabelRow]:
        """The last word of each author, room and value on posts or agents, taken back or not."""
        return [label for some in _chunks(targets) for label in self._labels(some, "")]

    def _labels(self, targets: Sequence[bytes], condition: str) -> list[LabelRow]:
        rows = self.connection.execute(
            "SELECT id, room, target, author, value, is_on, reason, created_ms, max(seq)"
            f" FROM forum_labels WHERE target IN ({_marks(targets)}) AND hidden = ''{condition}"
            " GROUP BY target, room, author, value ORDER BY created_ms, id",
            targets,
        )
        return [
            LabelRow(identity, room, target, author, value, bool(is_on), reason, created_ms)
            for identity, room, target, author, value, is_on, reason, created_ms, _ in rows
        ]

    def _hiding_labels(
        self, posts: Sequence[bytes], authors: set[bytes]
    ) -> dict[bytes, list[LabelRow]]:
        found: defaultdict[bytes, list[LabelRow]] = defaultdict(list)
        for some in _chunks([*posts, *authors]):
            for label in self._labels(some, f" AND value IN {rules.HIDING}"):
                if label.on:
                    found[label.target].append(label)
        return found

    def targets(self, room: bytes) -> list[bytes]:
        """Posts and agents that somebody by whom this member goes has ever labelled to be hidden
        in that room, at most `MAX_TARGETS`."""
        by = {self.me, *self.judges.labellers}
        if self.judges.stewards:
            by.update(self.charters.in_force(room).charter.stewards)
        rows = self.connection.execute(
            f"SELECT DISTINCT target FROM forum_labels WHERE room IN (?, ?)"
            f" AND value IN {rules.HIDING} AND author IN ({_marks(tuple(by))}) LIMIT {MAX_TARGETS}",
            (room, NO_ROOM, *by),
        )
        return [row[0] for row in rows]

    def counts(self, label: LabelRow, room: bytes) -> bool:
        """Whether this member goes by its author, on a post of that room or on who writes there:
        by itself, by whom it has chosen, and by the room's stewards."""
        if label.author in self.judges.labellers or label.author == self.me:
            return len(label.target) == 20 or label.room == room
        if label.room not in (room, NO_ROOM) or not self.judges.stewards:
            return False
        return self.is_steward(label.author, room)

    def counts_at_all(self, label: LabelRow) -> bool:
        """As `counts`, in the room of the post, or, of a member, in any in which it writes."""
        if len(label.target) == 32:
            rooms = "SELECT room FROM forum_posts WHERE id = ?"
        else:
            rooms = f"SELECT DISTINCT room FROM forum_posts WHERE author = ? LIMIT {_ROOMS}"
        found = self.connection.execute(rooms, (label.target,)).fetchall()
        return any(self.counts(label, room) for (room,) in found)

    def is_steward(self, agent: bytes, room: bytes) -> bool:
        shown = self.connection.execute(
            "SELECT 1 FROM forum_rooms WHERE id = ? AND hidden = ''", (room,)
        ).fetchone()
        return shown is not None and agent in self.charters.in_force(room).charter.stewards

    # -- authors -------------------------------------------------------------------------------

    def is_frozen(self, agent: bytes) -> bool:
        """Whether its chain forked, and no repair says how it goes on."""
        if agent not in self._fates:
            self._fates[agent] = verdicts.fate(
                self.connection, agent, self._onlooker.repaired(agent)
            )
        found = self._fates[agent]
        return found is not None and found.forked

    def would_hide(
        self,
        table: str,
        now_ms: int,
        room: bytes | None = None,
        text_bytes: int = 0,
        file_bytes: int = 0,
    ) -> Hidden | None:
        """Why what this member wrote now would be hidden from every member; ``table`` is where it
        would stand, and ``room`` where a post or an edit would."""
        if self.is_frozen(self.me):
            return Hidden(rules.FORK)
        span = now_ms // rules.RATE_SPAN_MS
        if verdicts.is_full(self.connection, table, self.me, span):
            return Hidden(rules.RATE)
        if room is None:
            return None
        by = self.charters.in_force(room)
        broken = breach(by.charter, self.me, text_bytes, file_bytes)
        most = by.charter.posts_per_hour if table == verdicts.POSTS else 0
        if not broken and most:
            (number,) = self.connection.execute(
                "SELECT count(*) FROM forum_posts WHERE author = ? AND span = ? AND room = ?"
                " AND hidden = ''",
                (self.me, span, room),
            ).fetchone()
            broken = PER_HOUR if number >= most else ""
        broken = broken or self._breach_of_standing(by, self.me)
        return Hidden(rules.RULE, broken, by) if broken else None


def _chunks(items: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    for start in range(0, len(items), _VARIABLES):
        yield items[start : start + _VARIABLES]


def _marks(items: Sequence[bytes]) -> str:
    return ",".join("?" * len(items))
