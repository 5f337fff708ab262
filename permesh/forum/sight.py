"""What one member sees: what is hidden from it, and by what.

Owns the verdicts that depend on who looks and when: labels of those whom it goes by, whom it does
not hear, and how an author stands now. They are made on reading, for one page at a time; what
records alone decide is in the tables already (`permesh/forum/verdicts.py`).
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from permesh.records import NO_ROOM

from . import judgements, rules, verdicts
from .charter import PER_HOUR, breach, breach_of_standing
from .charters import Cache, Version

# Of a room's hidden posts, as far as labels hide them: beyond these their number is too small.
MAX_TARGETS = 1_000
# On one post or agent, of those by whom this member does not go, out of so many rows.
MAX_LABELS = 500
_LABEL_ROWS = 5_000
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
        self._stewards: dict[bytes, tuple[bytes, ...]] = {}

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
            by = self._judges(row[1] for row in rows)
            labels = self._hiding_labels([row[0] for row in rows], {row[2] for row in rows}, by)
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

    def labels(self, target: bytes) -> list[LabelRow]:
        """The last word of each author, room and value on a post or an agent, taken back or not:
        all of those by whom this member may go, and some of others."""
        column = "room FROM forum_posts WHERE id" if len(target) == 32 else (
            "DISTINCT room FROM forum_posts WHERE author"
        )  # fmt: skip
        rooms = self.connection.execute(f"SELECT {column} = ? LIMIT {_ROOMS}", (target,))
        found = self._labels([target], self._judges(row[0] for row in rooms.fetchall()))
        known = {label.id for label in found}
        others = self._last(
            f"(SELECT * FROM forum_labels WHERE target = ? LIMIT {_LABEL_ROWS}) WHERE hidden = ''",
            (target,),
        )
        return found + [label for label in others if label.id not in known][:MAX_LABELS]

    def counting(self, posts: Sequence[bytes]) -> list[LabelRow]:
        """The labels of posts that count here and were not taken back."""
        found: list[LabelRow] = []
        for some in _chunks(posts):
            rooms = dict(
                self.connection.execute(
                    f"SELECT id, room FROM forum_posts WHERE id IN ({_marks(some)})", some
                ).fetchall()
            )
            labels = self._labels(some, self._judges(rooms.values()))
            found += [one for one in labels if one.on and self.counts(one, rooms[one.target])]
        return found

    def _hiding_labels(
        self, posts: Sequence[bytes], authors: set[bytes], by: Sequence[bytes]
    ) -> dict[bytes, list[LabelRow]]:
        found: defaultdict[bytes, list[LabelRow]] = defaultdict(list)
        for some in _chunks([*posts, *authors]):
            for label in self._labels(some, by, f" AND value IN {rules.HIDING}"):
                if label.on:
                    found[label.target].append(label)
        return found

    def _labels(
        self, targets: Sequence[bytes], by: Sequence[bytes], condition: str = ""
    ) -> list[LabelRow]:
        """Of those authors alone: anybody may write any number of labels on anything."""
        return self._last(
            f"forum_labels WHERE target IN ({_marks(targets)}) AND author IN ({_marks(by)})"
            f" AND hidden = ''{condition}",
            (*targets, *by),
        )

    def _last(self, source: str, values: Sequence[bytes]) -> list[LabelRow]:
        rows = self.connection.execute(
            "SELECT id, room, target, author, value, is_on, reason, created_ms, max(seq)"
            f" FROM {source} GROUP BY target, author, value, room ORDER BY created_ms, id",
            values,
        )
        return [
            LabelRow(identity, room, target, author, value, bool(is_on), reason, created_ms)
            for identity, room, target, author, value, is_on, reason, created_ms, _ in rows
        ]

    def _judges(self, rooms: Iterable[bytes]) -> tuple[bytes, ...]:
        """By whom this member may go in these rooms."""
        by = {self.me, *self.judges.labellers}
        if self.judges.stewards:
            for room in set(rooms):
                by.update(self.stewards(room))
        return tuple(by)

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
        return label.author in self.stewards(room)

    def counts_at_all(self, label: LabelRow) -> bool:
        """As `counts`, in the room of the post, or, of a member, in any in which it writes."""
        if len(label.target) == 32:
            rooms = "SELECT room FROM forum_posts WHERE id = ?"
        else:
            rooms = f"SELECT DISTINCT room FROM forum_posts WHERE author = ? LIMIT {_ROOMS}"
        found = self.connection.execute(rooms, (label.target,)).fetchall()
        return any(self.counts(label, room) for (room,) in found)

    def stewards(self, room: bytes) -> tuple[bytes, ...]:
        """None of a room that is hidden."""
        if room not in self._stewards:
            shown = self.connection.execute(
                "SELECT 1 FROM forum_rooms WHERE id = ? AND hidden = ''", (room,)
            ).fetchone()
            stewards = self.charters.in_force(room).charter.stewards if shown else ()
            self._stewards[room] = stewards
        return self._stewards[room]

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
                "SELECT count(*) FROM forum_posts WHERE author = ? AND span = ? AND +room = ?"
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
