"""The side that opened the session.

Owns the order in which spaces, heads, days and parts are gone through, and the limits of that.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from permesh.errors import Refused
from permesh.p2p import limits
from permesh.p2p.sync_messages import (
    Answer,
    Ask,
    Contents,
    Days,
    Differing,
    Heads,
    Held,
    Lack,
    Message,
    Newer,
    Parts,
    Records,
    Want,
    decode,
    encode,
)
from permesh.records import MAX_UINT
from permesh.space_index import Run, head_name
from permesh.spaces import DIGITS, MAX_PATH, NOTHING, Content, Part, Sum

from .actions import (
    Action,
    FindMissing,
    Finished,
    Offers,
    ReadDays,
    ReadHeads,
    ReadParts,
    ReadSum,
    Send,
    TakeIn,
)
from .exchange import Fetch, Give


class Asker:
    """The side that opened the session. Start with `start`; after `Finished` nothing more may be
    put in."""

    def __init__(self) -> None:
        self._own: tuple[Held, ...] = ()
        self._spaces: deque[Held] = deque()  # as they have them, still to be gone through
        self._refuted = False
        self._claim = _NO_CLAIM  # of the whole space
        self._space = Held(b"", 0, NOTHING)  # gone through now, as they have it
        self._heads: dict[bytes, int] = {}
        self._paged = 0
        self._days: list[tuple[int, Sum]] = []  # here, still to be told of; the newest last
        self._to_day = 0
        self._asked_days = Days(b"", 0, 0, ())
        # To be asked for, the last one first, each with how many ids its content weighs as much as
        # and what its sum claims. What falls out is left to another session.
        self._parts: deque[tuple[Part, int, int]] = deque(maxlen=limits.PARTS_IN_SPACE)
        self._asked: tuple[Part, ...] = ()
        self._claims: tuple[int, ...] = ()
        self._asked_in_space = 0
        self._theirs: tuple[Content, ...] = ()
        self._surplus: deque[bytes] = deque()
        self._told = 0
        self._fetch = Fetch()
        self._give = Give()
        self._after_fetch = self._next_space
        self._left = False
        self._questions = 0
        self._expects: type[Message] | None = None

    def start(self, author: bytes, length: int, spaces: Sequence[Held]) -> list[Action]:
        """``length`` is how many records of ``author``, who asks, are known here."""
        self._own = tuple(spaces)
        return self._say(Ask(author, length, self._own), Answer)

    def received(self, data: bytes) -> list[Action]:
        """A message of the peer."""
        try:
            message = decode(data)
        except Refused as error:
            return [Finished(error.code)]
        if self._expects is None or not isinstance(message, self._expects):
            return [Finished("sync.out_of_turn")]
        self._expects = None
        match message:
            case Answer():
                return self._answered(message)
            case Newer(runs, more):
                return self._listed(runs, more)
            case Differing(days):
                return self._days_differ(dict(days))
            case Contents(contents):
                return self._contents(contents)
            case Records():
                return self._records(message)
            case Want(ids):
                return self._give.read(ids) if ids else self._tell()
        return [Finished("sync.out_of_turn")]

    # -- the opening --------------------------------------------------------------------------

    def _answered(self, answer: Answer) -> list[Action]:
        if len(answer.spaces) != len(self._own):
            return [Finished("sync.wrong_answer")]
        for own, held in zip(self._own, answer.spaces, strict=True):
            if held is None:
                continue
            if held.space != own.space or held.from_day < own.from_day:
                return [Finished("sync.wrong_answer")]
            # Where they begin on a later day the sums are of different days and say nothing.
            if held.from_day > own.from_day or held.sum != own.sum:
                self._spaces.append(held)
        told: list[Action] = [Offers(answer.offers)] if answer.offers else []
        if answer.own is not None:
            told.append(TakeIn((answer.own,)))
        return told + self._next_space()

    def _next_space(self) -> list[Action]:
        if not self._spaces:
            return self._finish()
        self._space = self._spaces.popleft()
        self._paged = self._asked_in_space = self._told = 0
        self._parts.clear()
        self._surplus.clear()
        own = next(held for held in self._own if held.space == self._space.space)
        same_days = own.from_day == self._space.from_day
        self._claim = _claim(own.sum, self._space.sum) if same_days else _NO_CLAIM
        # Heads find what is new in one round, but cost bytes for every author: they are worth it
        # where the other has more than we.
        if self._space.sum.count > own.sum.count:
            return [ReadHeads(self._space.space)]
        return self._read_days()

    def _finish(self) -> list[Action]:
        return [Finished("", self._fetch.withheld, self._refuted, self._left)]

    # -- heads ----------------------------------------------------------------------------------

    def heads(self, heads: Sequence[tuple[bytes, int]] | None) -> list[Action]:
        if heads is None:
            return self._read_days()
        self._heads.clear()
        for author, seq in heads:
            name = head_name(author)
            self._heads[name] = min(seq, self._heads.get(name, seq))
        return self._ask_newer()

    def _ask_newer(self) -> list[Action]:
        if len(self._heads) > limits.HEADS:
            return self._read_days()
        heads = tuple(self._heads.items())
        return self._say(Heads(self._space.space, self._space.from_day, heads), Newer)

    def _listed(self, runs: tuple[Run, ...], more: bool) -> list[Action]:
        before = dict(self._heads)  # two authors of one page may share a name
        for run in runs:
            name = head_name(run.author)
            if run.last_seq <= before.get(name, -1):
                return [Finished("sync.repeated_page")]
            self._heads[name] = max(run.last_seq, self._heads.get(name, -1))
        ids = tuple(item for run in runs for item in run.ids)
        self._paged += len(ids)
        # New records may come to the answerer while it is listed, but not without end.
        if (more and not ids) or self._paged > self._space.sum.count + limits.PAGE_IDS:
            return [Finished("sync.endless")]
        self._after_fetch = self._ask_newer if more else self._read_sum
        return [FindMissing(self._space.space, ids)] if ids else self._after_fetch()

    def _read_sum(self) -> list[Action]:
        return [ReadSum(self._space.space, self._space.from_day)]

    def summed(self, own: Sum) -> list[Action]:
        return self._next_space() if own == self._space.sum else self._read_days()

    # -- days and their parts -------------------------------------------------------------------

    def _read_days(self) -> list[Action]:
        return [ReadDays(self._space.space, self._space.from_day)]

    def days(self, days: Mapping[int, Sum]) -> list[Action]:
        """Takes what is here of each day."""
        self._days = sorted(days.items())
        self._to_day = MAX_UINT
        if sum(item.count for item in days.values()) != self._claim:
            self._claim = _NO_CLAIM
        return self._ask_days()

    def _ask_days(self) -> list[Action]:
        """A page at a time, since whoever dates records far back makes days as he likes."""
        page = tuple(self._days[-limits.DAYS :])
        del self._days[-limits.DAYS :]
        from_day = page[0][0] if self._days else self._space.from_day
        self._asked_days = Days(self._space.space, from_day, self._to_day, page)
        self._to_day = from_day - 1
        return self._say(self._asked_days, Differing)

    def _days_differ(self, days: Mapping[int, Sum]) -> list[Action]:
        own = dict(self._asked_days.days)
        if days:
            self._claim = _NO_CLAIM
        for day, theirs in days.items():
            if not self._asked_days.from_day <= day <= self._asked_days.to_day:
                return [Finished("sync.wrong_answer")]
            self._divide(day, "", own.get(day, NOTHING), theirs)
        return self._ask_parts()

    def _divide(self, day: int, path: str, own: Sum, theirs: Sum) -> None:
        """Note that a part of a day is to be looked into, if it is not the same on both sides."""
        if own == theirs:
            return
        most = max(own.count, theirs.count)
        small = theirs.count <= limits.LISTED_UP_TO or own.count == 0
        apart = abs(own.count - theirs.count) > limits.LISTED_ABOVE * most
        listed = (small or apart) and most < limits.PAGE_IDS  # a full list may be cut off
        self._left = self._left or len(self._parts) == self._parts.maxlen
        # Sixteen sums weigh as much as nine ids. Nobody has more ids than that at the last digit.
        weight = most if listed else 9
        part = Part(day, path, listed or len(path) == MAX_PATH)
        self._parts.append((part, weight, _claim(own, theirs)))

    def _ask_parts(self) -> list[Action]:
        asked: list[Part] = []
        claims: list[int] = []
        ids = 0
        while self._parts and len(asked) < limits.PARTS:
            part, weight, claim = self._parts[-1]
            ids += weight
            if asked and ids >= limits.PAGE_IDS:
                break
            asked.append(part)
            claims.append(claim)
            self._parts.pop()
        self._asked_in_space += len(asked)
        if not asked:
            return self._tell()
        if self._asked_in_space > limits.PARTS_IN_SPACE:
            self._left = True
            self._to_day = -1
            return self._tell()
        self._asked, self._claims = tuple(asked), tuple(claims)
        return self._say(Parts(self._space.space, self._asked), Contents)

    def _contents(self, contents: tuple[Content, ...]) -> list[Action]:
        if len(contents) != len(self._asked):
            return [Finished("sync.wrong_answer")]
        for part, theirs in zip(self._asked, contents, strict=True):
            if not _fits(part, theirs):
                return [Finished("sync.wrong_answer")]
        self._theirs = contents
        return [ReadParts(self._space.space, self._asked)]

    def parts(self, contents: Sequence[Content]) -> list[Action]:
        """Takes what is here in the parts that were asked for."""
        lacking: list[bytes] = []
        asked = zip(self._asked, self._claims, contents, self._theirs, strict=True)
        listed = sum(len(theirs) for part, _, _, theirs in asked if part.listed)
        for part, claim, own, theirs in zip(
            self._asked, self._claims, contents, self._theirs, strict=True
        ):
            if not part.listed:
                self._compare_sums(part, claim, own, theirs)
                continue
            here, there = set(own), set(theirs)
            lack = [item for item in theirs if item not in here]
            lacking += lack  # type: ignore[arg-type]  # listed: ids
            # With a full page so much has come there meanwhile that lists may be cut off.
            if listed < limits.PAGE_IDS:
                self._surplus.extend(item for item in own if item not in there)  # type: ignore[misc]  # as above
                self._refuted = self._refuted or (not lack and claim == len(own))
        self._after_fetch = self._ask_parts
        if not lacking:
            return self._ask_parts()
        return [FindMissing(self._space.space, tuple(lacking))]

    def _compare_sums(self, part: Part, claim: int, own: Content, theirs: Content) -> None:
        count = 0
        for digit, mine, other in zip(DIGITS, own, theirs, strict=True):
            assert isinstance(mine, Sum)
            assert isinstance(other, Sum)
            count += mine.count
            self._divide(part.day, part.path + digit, mine, other)
        self._refuted = self._refuted or (own == theirs and claim == count)

    # -- exchanging records ---------------------------------------------------------------------

    def missing(self, ids: Sequence[bytes]) -> list[Action]:
        """Which of the ids of `FindMissing` to fetch; may be fewer than are missing."""
        self._fetch.queue.extend(ids)
        return self._go_on()

    def _go_on(self) -> list[Action]:
        if self._fetch.withheld > limits.WITHHELD:
            return self._finish()
        if self._fetch.queue:
            return self._say(self._fetch.next_want(), Records)
        return self._after_fetch()

    def _records(self, message: Records) -> list[Action]:
        fault = self._fetch.take(message)
        if fault:
            return [Finished(fault)]
        taken: list[Action] = [TakeIn(message.wires)] if message.wires else []
        if message.left:
            self._expects = Records
            return taken
        return taken + self._go_on()

    def _tell(self) -> list[Action]:
        """Say what they lack, a page at a time, then go on to older days or the next space."""
        page = [self._surplus.popleft() for _ in range(min(len(self._surplus), limits.PAGE_IDS))]
        self._told += len(page)
        if not page or self._told > limits.LACKED_IDS:
            self._surplus.clear()
            if self._to_day >= self._space.from_day:
                return self._ask_days()
            self._refuted = self._refuted or self._claim != _NO_CLAIM
            return self._next_space()
        return self._say(Lack(self._space.space, tuple(sorted(page))), Want)

    def wires(self, wires: Sequence[Any], done: int) -> list[Action]:
        sent = self._give.send(wires, done)
        if not self._give.wants:
            self._expects = Want
        return sent

    def _say(self, message: Message, expects: type[Message]) -> list[Action]:
        self._questions += 1
        if self._questions > limits.QUESTIONS:
            self._left = True
            return self._finish()
        self._expects = expects
        return [Send(encode(message))]


_NO_CLAIM = -1


def _claim(own: Sum, theirs: Sum) -> int:
    """Who has other ids, and not fewer, has one that lacks here, and will have it: sets only grow.

    The claim is refuted if the ids here are still as many as this says, and nothing is found.
    """
    return own.count if theirs.count >= own.count else _NO_CLAIM


def _fits(part: Part, content: Content) -> bool:
    """Whether a content is of the kind that was asked for, and within its part."""
    if not part.listed:
        return len(content) == 16 and isinstance(content[0], Sum)
    return all(isinstance(item, bytes) and item.hex().startswith(part.path) for item in content)
