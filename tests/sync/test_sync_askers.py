"""An asker that breaks the rules of sync ends the session with a fault."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from permesh.p2p import limits
from permesh.p2p.sync import (
    Answerer,
    FindMissing,
    Finished,
    ReadDays,
    ReadNewer,
    ReadParts,
    ReadWires,
    Send,
    TakeIn,
)
from permesh.p2p.sync_messages import (
    Ask,
    Days,
    Differing,
    Heads,
    Lack,
    Parts,
    Records,
    Want,
    encode,
)
from permesh.records import MAX_UINT, Record
from permesh.spaces import NOTHING, SPACE_COMMONS, Part, Sum
from tests.sync.conversation import ME, answering, ids_of, some_records
from tests.sync.test_sync_rules import ANSWERS


def fetching(*records: Record) -> Answerer:
    """An answerer that was told what it lacks, and waits for it."""
    answerer = answering()
    ids = tuple(sorted(record.id for record in records))
    told = encode(Lack(SPACE_COMMONS, ids))
    assert answerer.received(told) == [FindMissing(SPACE_COMMONS, ids)]
    assert answerer.missing(ids) == [Send(encode(Want(ids)))]
    return answerer


QUESTIONS = [
    Heads(SPACE_COMMONS, 0, ()), Days(SPACE_COMMONS, 0, MAX_UINT, ()),
    Parts(SPACE_COMMONS, (Part(1, "", True),)), Want(ids_of(1)), Lack(SPACE_COMMONS, ids_of(1)),
]  # fmt: skip


def test_a_session_begins_with_what_the_asker_holds_and_has_that_once() -> None:
    for question in QUESTIONS:
        assert Answerer().received(encode(question)) == [Finished("sync.out_of_turn")]
    assert answering().received(encode(Ask(ME, 0, ()))) == [Finished("sync.out_of_turn")]
    for data in ANSWERS.values():
        assert Answerer().received(data) == [Finished("sync.out_of_turn")]
        assert answering().received(data) == [Finished("sync.out_of_turn")]


def test_who_has_told_what_is_lacking_gives_it_before_it_asks_more() -> None:
    [record] = some_records(0)
    for question in (*QUESTIONS, Ask(ME, 0, ()), Want(())):
        answerer = fetching(record)
        assert answerer.received(encode(question)) == [Finished("sync.out_of_turn")]
    answerer = fetching(record)
    wire = record.to_wire()
    assert answerer.received(encode(Records((wire,), 0))) == [
        TakeIn((wire,)), Send(encode(Want(()))),
    ]  # fmt: skip
    assert answerer.withheld == 0
    # Then it is not being given anything any more.
    assert answerer.received(encode(Records((), 0))) == [Finished("sync.out_of_turn")]


def test_an_asker_gives_what_was_wanted_and_gets_on_with_it() -> None:
    one, other = some_records(1)
    assert fetching(one).received(encode(Records((other.to_wire(),), 0))) == [
        Finished("sync.unasked")
    ]
    assert fetching(one).received(encode(Records((), 1))) == [Finished("sync.no_progress")]
    answerer = fetching(one, other)
    assert answerer.received(encode(Records((), 0))) == [Send(encode(Want(())))]
    assert answerer.withheld == 2


def test_who_tells_much_and_gives_nothing_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "WANT_IDS", 4)
    monkeypatch.setattr(limits, "WITHHELD", 10)
    answerer = answering()
    ids = ids_of(*range(1, 41))
    answerer.received(encode(Lack(SPACE_COMMONS, ids)))
    said: Sequence[Any] = answerer.missing(ids)
    batches = 0
    while said == [Send(encode(Want(ids[4 * batches : 4 * batches + 4])))]:
        batches += 1
        said = answerer.received(encode(Records((), 0)))
    assert said == [Finished()]
    assert answerer.withheld == 12


def test_a_million_ids_of_a_space_that_is_not_held_are_a_few_questions() -> None:
    """Each message costs a look into the store at most, and their number is limited."""
    answerer = answering()
    ids = ids_of(*range(1, limits.PAGE_IDS + 1))
    for _ in range(-(-1_000_000 // limits.PAGE_IDS)):
        [look] = answerer.received(encode(Lack(b"u" * 32, ids)))
        assert isinstance(look, FindMissing)
        assert answerer.missing([]) == [Send(encode(Want(())))]
    assert answerer.withheld == 0


def test_questions_without_end_end_the_session(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "QUESTIONS", 3)
    for question, answer in zip(QUESTIONS[:3], (ReadNewer, ReadDays, ReadParts), strict=True):
        answerer = answering()
        said = [type(answerer.received(encode(question))[0]) for _ in range(3)]
        assert said == [answer, answer, Finished]
    answerer = answering()
    for _ in range(2):
        assert isinstance(answerer.received(encode(QUESTIONS[3]))[0], ReadWires)
    assert answerer.received(encode(QUESTIONS[3])) == [Finished("sync.endless")]


def test_days_beyond_the_page_that_was_asked_for_are_not_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answerer = answering()
    same, own, other = (Sum(1, bytes([n]) * 16) for n in range(3))
    answerer.received(encode(Days(SPACE_COMMONS, 2, 9, ((2, same), (4, other), (5, other)))))
    here = {2: same, 3: own, 4: own, 10: own}
    differing = Differing(((3, own), (4, own), (5, NOTHING)))
    assert answerer.days(here) == [Send(encode(differing))]
    monkeypatch.setattr(limits, "DAYS", 2)
    assert answerer.days(here) == [Send(encode(Differing(differing.days[1:])))]
