"""Reconciliation: how one member pulls from another what it lacks.

Owns the two sides of a session as state machines without I/O: each input gives a list of actions
for a driver to carry out in order, and the driver brings back what they asked for. Must never
verify a record: what comes in is passed on in wire form.

One side asks, the other answers; for the other direction there is another session. The asker
sends a sum per scope, so equal stores cost one round trip. Where sums differ it goes through the
answerer's ids page by page, finds what it lacks, and wants it; identity records come first, so
that credentials are here before what they sign. Plain lists cost 34 bytes a record: cheaper than
ranges for small stores, and ranges (NIP-77) can come in `Asker` and `Answerer` alone.

An answerer that is asked for more than it should, and an asker that is told what it did not ask,
end the session with a fault. What was taken in until then is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from permesh.errors import Refused
from permesh.records import record_id
from permesh.store import SCOPES, Sum

from . import limits
from .sync_messages import Answer, Ask, Ids, ListIds, Message, Records, Want, decode, encode


@dataclass(frozen=True, slots=True)
class Send:
    data: bytes


@dataclass(frozen=True, slots=True)
class FindMissing:
    """Ask the store which of these are not here; `Asker.missing` takes the answer, a subset."""

    ids: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class TakeIn:
    """Check and keep these records, whose ids were asked for, before the next message is read."""

    wires: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Offers:
    """Ephemeral offers that the peer passed on."""

    blobs: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class ReadSums:
    """`Answerer.sums` takes the store's sums and the offers to pass on."""


@dataclass(frozen=True, slots=True)
class ReadIds:
    """`Answerer.ids` takes the ids of a page, one more than a page if there are more."""

    scope: int
    after: bytes
    limit: int


@dataclass(frozen=True, slots=True)
class ReadWires:
    """`Answerer.wires` takes what `Store.wires` returns."""

    ids: tuple[bytes, ...]
    max_bytes: int


@dataclass(frozen=True, slots=True)
class Finished:
    """The session is over. ``fault`` is a code if the peer broke the rules.

    ``withheld`` counts records that the peer listed and then did not give.
    """

    fault: str = ""
    withheld: int = 0


Action = Send | FindMissing | TakeIn | Offers | ReadSums | ReadIds | ReadWires | Finished


class Asker:
    """The pulling side. Start with `start`; after `Finished` nothing more may be put in."""

    def __init__(self) -> None:
        self._own: tuple[Sum, ...] = ()
        self._theirs: tuple[Sum, ...] = ()
        self._scopes: list[int] = []  # still to be gone through, the first one is being listed
        self._after = b""
        self._listed = 0  # ids of this scope so far
        self._more = False
        self._lacking: list[bytes] = []  # of this page, not yet asked for
        self._open: set[bytes] = set()  # asked for, not yet here
        self._left = 0
        self._withheld = 0
        self._expects: type[Message] | None = None

    def start(self, sums: Sequence[Sum]) -> list[Action]:
        self._own = tuple(sums)
        return self._say(Ask(self._own), Answer)

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
            case Answer(sums, offers):
                return self._answered(sums, offers)
            case Ids():
                return self._page(message)
            case Records():
                return self._records(message)
        return [Finished("sync.out_of_turn")]

    def missing(self, ids: Sequence[bytes]) -> list[Action]:
        """Which of the page's ids to fetch; may be fewer than are missing."""
        self._lacking = list(ids)
        return self._go_on()

    def _answered(self, sums: tuple[Sum, ...], offers: tuple[bytes, ...]) -> list[Action]:
        self._theirs = sums
        self._scopes = [
            scope
            for scope, own, theirs in zip(SCOPES, self._own, sums, strict=True)
            if theirs.count and own != theirs
        ]
        told: list[Action] = [Offers(offers)] if offers else []
        return told + (self._list() if self._scopes else [Finished()])

    def _list(self) -> list[Action]:
        return self._say(ListIds(self._scopes[0], self._after), Ids)

    def _page(self, page: Ids) -> list[Action]:
        if page.scope != self._scopes[0] or (page.more and not page.ids):
            return [Finished("sync.wrong_page")]
        if page.ids and page.ids[0] <= self._after:
            return [Finished("sync.repeated_page")]
        self._listed += len(page.ids)
        # New records may come to the answerer while it is listed, but not without end.
        if self._listed > self._theirs[page.scope].count + limits.PAGE_IDS:
            return [Finished("sync.endless")]
        self._more = page.more
        if page.ids:
            self._after = page.ids[-1]
            return [FindMissing(page.ids)]
        return self._go_on()

    def _go_on(self) -> list[Action]:
        if self._lacking:
            now, self._lacking = (
                self._lacking[: limits.WANT_IDS],
                self._lacking[limits.WANT_IDS :],
            )
            self._open = set(now)
            self._left = len(now)
            return self._say(Want(tuple(now)), Records)
        if self._more and self._listed < limits.LISTED_IDS:
            return self._list()
        self._scopes.pop(0)
        self._after, self._listed, self._more = b"", 0, False
        return self._list() if self._scopes else [Finished(withheld=self._withheld)]

    def _records(self, message: Records) -> list[Action]:
        for wire in message.wires:
            header = wire[0] if isinstance(wire, list) and wire else None
            identity = record_id(header) if isinstance(header, bytes) else b""
            if identity not in self._open:
                return [Finished("sync.unasked")]
            self._open.discard(identity)
        if message.left >= self._left:
            return [Finished("sync.no_progress")]
        self._left = message.left
        taken: list[Action] = [TakeIn(message.wires)] if message.wires else []
        if message.left:
            self._expects = Records
            return taken
        self._withheld += len(self._open)
        return taken + self._go_on()

    def _say(self, message: Message, expects: type[Message]) -> list[Action]:
        self._expects = expects
        return [Send(encode(message))]


class Answerer:
    """The answering side of one session: it holds nothing but the wants of one message."""

    def __init__(self) -> None:
        self._begun = False
        self._questions = 0
        self._scope = 0
        self._wants: tuple[bytes, ...] = ()

    def received(self, data: bytes) -> list[Action]:
        """A message of the peer, once the last one was answered."""
        try:
            message = decode(data)
        except Refused as error:
            return [Finished(error.code)]
        self._questions += 1
        if self._questions > limits.QUESTIONS:
            return [Finished("sync.endless")]
        if self._begun == isinstance(message, Ask):
            return [Finished("sync.out_of_turn")]
        match message:
            case Ask():
                self._begun = True
                return [ReadSums()]
            case ListIds(scope, after):
                self._scope = scope
                return [ReadIds(scope, after, limits.PAGE_IDS + 1)]
            case Want(ids):
                self._wants = ids
                return [ReadWires(ids, limits.BATCH_BYTES)]
        return [Finished("sync.out_of_turn")]

    def sums(self, sums: Sequence[Sum], offers: Sequence[bytes]) -> list[Action]:
        return [Send(encode(Answer(tuple(sums), tuple(offers))))]

    def ids(self, ids: Sequence[bytes]) -> list[Action]:
        page = tuple(ids[: limits.PAGE_IDS])
        return [Send(encode(Ids(self._scope, page, more=len(ids) > len(page))))]

    def wires(self, wires: Sequence[Any], done: int) -> list[Action]:
        self._wants = self._wants[done:]
        sent: list[Action] = [Send(encode(Records(tuple(wires), len(self._wants))))]
        return [*sent, ReadWires(self._wants, limits.BATCH_BYTES)] if self._wants else sent
