"""The side that answers a session."""

from __future__ import annotations

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
    Newer,
    Parts,
    Records,
    Want,
    decode,
    encode,
)
from permesh.space_index import Run
from permesh.spaces import NOTHING, Content, Sum

from .actions import (
    Action,
    FindMissing,
    Finished,
    ReadDays,
    ReadHeld,
    ReadNewer,
    ReadParts,
    Send,
    TakeIn,
)
from .exchange import Fetch, Give


class Answerer:
    """The answering side of one session: it holds nothing but the wants of one message."""

    def __init__(self) -> None:
        self._begun = False
        self._questions = 0
        self._listed = Days(b"", 0, 0, ())
        self._give = Give()
        self._fetch = Fetch()
        self._fetching = False

    @property
    def withheld(self) -> int:
        """How many records the asker told of and then did not give."""
        return self._fetch.withheld

    def received(self, data: bytes) -> list[Action]:
        """A message of the peer, once the last one was answered."""
        try:
            message = decode(data)
        except Refused as error:
            return [Finished(error.code)]
        self._questions += not self._fetching
        if self._questions > limits.QUESTIONS:
            return [Finished("sync.endless")]
        if self._begun == isinstance(message, Ask) or self._fetching != isinstance(
            message, Records
        ):
            return [Finished("sync.out_of_turn")]
        match message:
            case Ask(author, length, spaces):
                self._begun = True
                asked = tuple((held.space, held.from_day) for held in spaces)
                return [ReadHeld(author, length, asked)]
            case Heads(space, from_day, heads):
                return [ReadNewer(space, from_day, heads)]
            case Days(space, from_day):
                self._listed = message
                return [ReadDays(space, from_day)]
            case Parts(space, parts):
                return [ReadParts(space, parts)]
            case Want(ids) if ids:
                return self._give.read(ids)
            case Lack(space, ids):
                return [FindMissing(space, ids)]
            case Records():
                return self._records(message)
        return [Finished("sync.out_of_turn")]

    def held(
        self, spaces: Sequence[Held | None], own: Any, offers: Sequence[bytes]
    ) -> list[Action]:
        return [Send(encode(Answer(tuple(spaces), own, tuple(offers))))]

    def newer(self, runs: Sequence[Run], more: bool) -> list[Action]:
        return [Send(encode(Newer(tuple(runs), more)))]

    def days(self, days: Mapping[int, Sum]) -> list[Action]:
        listed, to_day = dict(self._listed.days), self._listed.to_day
        differing = {
            day: item for day, item in days.items() if day <= to_day and listed.get(day) != item
        }
        differing.update((day, NOTHING) for day in listed if day not in days)
        newest = sorted(differing.items())[-limits.DAYS :]
        return [Send(encode(Differing(tuple(newest))))]

    def parts(self, contents: Sequence[Content]) -> list[Action]:
        return [Send(encode(Contents(tuple(contents))))]

    def missing(self, ids: Sequence[bytes]) -> list[Action]:
        """Which of the ids of `FindMissing` to fetch."""
        self._fetch.queue.extend(ids)
        return self._want()

    def _want(self) -> list[Action]:
        if self._fetch.withheld > limits.WITHHELD:
            return [Finished()]
        want = self._fetch.next_want()
        self._fetching = bool(want.ids)
        return [Send(encode(want))]

    def _records(self, message: Records) -> list[Action]:
        fault = self._fetch.take(message)
        if fault:
            return [Finished(fault)]
        taken: list[Action] = [TakeIn(message.wires)] if message.wires else []
        return taken if message.left else taken + self._want()

    def wires(self, wires: Sequence[Any], done: int) -> list[Action]:
        return self._give.send(wires, done)
