"""An answerer that breaks the rules of sync ends the session with a fault."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from permesh.errors import Refused
from permesh.p2p import limits
from permesh.p2p.sync import (
    Answerer,
    Asker,
    FindMissing,
    Finished,
    ReadDays,
    ReadHeads,
    ReadParts,
    ReadSum,
    Send,
    TakeIn,
)
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
from permesh.records import MAX_UINT, Record, pack
from permesh.space_index import Run
from permesh.spaces import (
    DIGITS,
    MAX_PATH,
    NOTHING,
    SPACE_COMMONS,
    SPACE_IDENTITY,
    Content,
    Part,
    Sum,
)
from tests.sync.conversation import ME, TODAY, answering, ids_of, some_records

AUTHOR = b"a" * 20


def claim(count: int, space: bytes = SPACE_COMMONS, from_day: int = 0) -> Held:
    return Held(space, from_day, Sum(count, b"f" * 16))


# -- an answerer that breaks the rules -------------------------------------------------------------


def asker_at_answer() -> Asker:
    asker = Asker()
    asker.start(ME, 0, [Held(SPACE_COMMONS, 0, NOTHING)])
    return asker


def asker_at_page(count: int = 10) -> Asker:
    """An asker that waits for what is newer in a space of ``count`` records."""
    asker = asker_at_answer()
    answer = encode(Answer((claim(count),), None, ()))
    assert asker.received(answer) == [ReadHeads(SPACE_COMMONS)]
    assert asker.heads([]) == [Send(encode(Heads(SPACE_COMMONS, 0, ())))]
    return asker


def asker_at_days(*own: tuple[int, Sum], from_day: int = 0) -> Asker:
    """An asker that waits to be told which days differ."""
    asker = Asker()
    asker.start(ME, 0, [Held(SPACE_COMMONS, from_day, Sum(1, b"o" * 16))])
    answer = encode(Answer((claim(1, from_day=from_day),), None, ()))
    assert asker.received(answer) == [ReadDays(SPACE_COMMONS, from_day)]
    asker.days(dict(own))
    return asker


def asker_at_contents(count: int = 1000) -> Asker:
    """An asker that waits for the sixteen sums of a day of ``count`` records."""
    asker = asker_at_days((TODAY, Sum(count, b"o" * 16)))
    asked = encode(Parts(SPACE_COMMONS, (Part(TODAY, "", False),)))
    differing = encode(Differing(((TODAY, Sum(count, b"t" * 16)),)))
    assert asker.received(differing) == [Send(asked)]
    return asker


def asker_at_list() -> Asker:
    """An asker that waits for the ids of a part: those of today that begin with a seven."""
    asker = asker_at_contents()
    assert asker.received(encode(Contents((sixteen({"7": 3}),)))) == [
        ReadParts(SPACE_COMMONS, (Part(TODAY, "", False),))
    ]
    [asked] = asker.parts([sixteen({})])
    assert asked == Send(encode(Parts(SPACE_COMMONS, (Part(TODAY, "7", True),))))
    return asker


def sixteen(counts: dict[str, int]) -> Content:
    return tuple(Sum(counts[d], b"c" * 16) if d in counts else NOTHING for d in DIGITS)


def asker_at_records(wanted: Sequence[Record]) -> Asker:
    asker = asker_at_page()
    ids = tuple(sorted(record.id for record in wanted))
    page = encode(Newer((Run(AUTHOR, 9, ids),), False))
    assert asker.received(page) == [FindMissing(SPACE_COMMONS, ids)]
    assert asker.missing(ids) == [Send(encode(Want(ids)))]
    return asker


def asker_at_want() -> Asker:
    """An asker that has told what the other lacks."""
    asker = asker_at_days((TODAY, Sum(2, b"o" * 16)))
    differing = encode(Differing(((TODAY, NOTHING),)))
    asked = encode(Parts(SPACE_COMMONS, (Part(TODAY, "", True),)))
    assert asker.received(differing) == [Send(asked)]
    asker.received(encode(Contents(((),))))
    told = encode(Lack(SPACE_COMMONS, ids_of(1, 2)))
    assert asker.parts([ids_of(1, 2)]) == [Send(told)]
    return asker


def page(*numbers: int, more: bool = True, author: bytes = AUTHOR) -> bytes:
    """A page of ids that follow each other, by their seqs."""
    runs = (Run(author, numbers[-1], ids_of(*numbers)),) if numbers else ()
    return encode(Newer(runs, more))


ASKERS = [
    asker_at_answer, asker_at_page, asker_at_days, asker_at_contents, asker_at_list, asker_at_want,
    lambda: asker_at_records(some_records(1)),
]  # fmt: skip
ANSWERS = {
    Answer: encode(Answer((None,), None, ())),
    Newer: page(1),
    Differing: encode(Differing(())),
    Contents: encode(Contents(())),
    Records: encode(Records((), 0)),
    Want: encode(Want(())),
}


@pytest.mark.parametrize(
    ("make", "kind"),
    zip(ASKERS, [Answer, Newer, Differing, Contents, Contents, Want, Records], strict=True),
)
def test_an_answer_to_another_question_ends_the_session(
    make: Callable[[], Asker], kind: type
) -> None:
    for other, data in ANSWERS.items():
        if other is not kind:
            assert make().received(data) == [Finished("sync.out_of_turn")]
    questions = (Heads(SPACE_COMMONS, 0, ()), Lack(SPACE_COMMONS, ids_of(1)), Ask(ME, 0, ()))
    for question in questions:
        assert make().received(encode(question)) == [Finished("sync.out_of_turn")]


def test_a_message_before_its_question_ends_the_session() -> None:
    for data in ANSWERS.values():
        assert Asker().received(data) == [Finished("sync.out_of_turn")]


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (b"", "format.msgpack"),
        (pack([9]), "sync.malformed"),
        (pack([12, []]), "sync.malformed"),
        (pack([4, [[AUTHOR, 1, [b"i" * 31]]], False]), "sync.malformed"),
        (pack([4, [[AUTHOR, 1, [b"i" * 32] * 2]], False]), "sync.malformed"),  # twice
        (page(), "sync.endless"),  # nothing, and more of it
        (b"x" * (limits.SYNC_MESSAGE_BYTES + 1), "format.too_long"),
    ],
)
def test_a_wrong_page_ends_the_session(data: bytes, fault: str) -> None:
    assert asker_at_page().received(data) == [Finished(fault)]


@pytest.mark.parametrize(
    "answer",
    [
        Answer((), None, ()),
        Answer((None, None), None, ()),
        Answer((claim(1, SPACE_IDENTITY),), None, ()),
        Answer((claim(1, b"r" * 32),), None, ()),
    ],
)
def test_an_answer_about_other_spaces_ends_the_session(answer: Answer) -> None:
    assert asker_at_answer().received(encode(answer)) == [Finished("sync.wrong_answer")]


def test_an_answer_from_before_the_day_that_was_asked_for_ends_the_session() -> None:
    asker = Asker()
    asker.start(ME, 0, [Held(SPACE_COMMONS, 7, NOTHING)])
    answer = Answer((claim(1, from_day=6),), None, ())
    assert asker.received(encode(answer)) == [Finished("sync.wrong_answer")]


def test_a_repeated_page_ends_the_session() -> None:
    asker = asker_at_page()
    asker.received(page(1, 2, 3))
    asker.missing([])
    assert asker.received(page(2, 3)) == [Finished("sync.repeated_page")]


def test_pages_without_end_end_the_session(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "PAGE_IDS", 4)
    asker = asker_at_page(count=10)
    said: Sequence[Any] = []
    for start in range(1, 100, 4):
        said = asker.received(page(*range(start, start + 4)))
        if isinstance(said[0], Finished):
            break
        asker.missing([])
    assert said == [Finished("sync.endless")]
    assert start == 13  # ten announced, and a page that may have come in between


def test_a_listing_stops_at_its_limit_even_if_more_was_announced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "QUESTIONS", 4)
    asker = asker_at_page(count=MAX_UINT)
    for first in (1, 4):
        asker.received(page(first, first + 1, first + 2))
        assert isinstance(asker.missing([])[0], Send)
    asker.received(page(7, 8, 9))
    assert asker.missing([]) == [Finished(left=True)]


def test_days_that_were_not_asked_for_end_the_session(monkeypatch: pytest.MonkeyPatch) -> None:
    asker = asker_at_days(from_day=TODAY)
    too_early = encode(Differing(((TODAY - 1, Sum(1, b"t" * 16)),)))
    assert asker.received(too_early) == [Finished("sync.wrong_answer")]
    monkeypatch.setattr(limits, "DAYS", 1)
    asker = asker_at_days(*((day, Sum(1, b"o" * 16)) for day in (5, 7)))
    assert asker.received(encode(Differing(((6, Sum(1, b"t" * 16)),)))) == [
        Finished("sync.wrong_answer")
    ]
    asker = asker_at_days(*((day, Sum(1, b"o" * 16)) for day in (5, 7)))
    older = Days(SPACE_COMMONS, 0, 6, ((5, Sum(1, b"o" * 16)),))
    assert asker.received(encode(Differing(()))) == [Send(encode(older))]
    assert asker.received(encode(Differing(((7, Sum(1, b"t" * 16)),)))) == [
        Finished("sync.wrong_answer")
    ]


@pytest.mark.parametrize(
    "contents",
    [
        (), (sixteen({}), sixteen({})), ((),), (ids_of(1),),
    ],
)  # fmt: skip
def test_contents_that_are_not_what_was_asked_for_end_the_session(
    contents: tuple[Content, ...],
) -> None:
    asker = asker_at_contents()
    assert asker.received(encode(Contents(contents))) == [Finished("sync.wrong_answer")]


@pytest.mark.parametrize(
    "contents",
    [
        (sixteen({}),),  # sums where ids were asked for
        ((b"\x7f" * 32, b"\x81" + bytes(31)),),  # the second is of another part
        ((b"\x6f" * 32,),),
        ((b"\x70" * 32,), (b"\x71" * 32,)),
    ],
)
def test_ids_of_another_part_end_the_session(contents: tuple[Content, ...]) -> None:
    assert asker_at_list().received(encode(Contents(contents))) == [Finished("sync.wrong_answer")]
    right = encode(Contents(((b"\x70" + bytes(31), b"\x7f" * 32),)))
    assert asker_at_list().received(right) == [ReadParts(SPACE_COMMONS, (Part(TODAY, "7", True),))]


def test_sums_that_never_fit_come_to_an_end_and_hold_little(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Every part is said to differ, and so are all of its parts."""
    monkeypatch.setattr(limits, "PARTS_IN_SPACE", 300)
    monkeypatch.setattr(limits, "PARTS", 16)
    asker = asker_at_days()
    said: Sequence[Any] = asker.received(encode(Differing(((TODAY, Sum(MAX_UINT, b"t" * 16)),))))
    differs: Content = tuple(Sum(MAX_UINT, b"t" * 16) for _ in DIGITS)
    rounds = asked = 0
    while isinstance(said[0], Send):
        [send] = said
        message = decode(send.data)
        assert isinstance(message, Parts)
        asked += len(message.parts)
        rounds += 1
        assert all(part.listed == (len(part.path) == MAX_PATH) for part in message.parts)
        asker.received(
            encode(Contents(tuple(() if part.listed else differs for part in message.parts)))
        )
        said = asker.parts([() if part.listed else sixteen({}) for part in message.parts])
        assert len(asker._parts) <= 300
    assert said == [Finished(fruitless=True, left=True)]
    assert asked <= 300
    assert rounds <= 300 / 16 + 16


def test_what_came_from_elsewhere_meanwhile_is_not_fruitless() -> None:
    asker = asker_at_page(3)
    assert asker.received(page(more=False)) == [ReadSum(SPACE_COMMONS, 0)]
    assert asker.summed(Sum(3, b"f" * 16)) == [Finished()]


def test_a_record_that_nobody_asked_for_ends_the_session() -> None:
    one, other = some_records(1, "a")[1], some_records(1, "b")[1]
    assert asker_at_records([one]).received(encode(Records((other.to_wire(),), 0))) == [
        Finished("sync.unasked")
    ]
    twice = (one.to_wire(), one.to_wire())
    assert asker_at_records([one]).received(encode(Records(twice, 0))) == [Finished("sync.unasked")]
    for wire in (None, [], [None, b"", b""], b"", 7):
        said = asker_at_records([one]).received(encode(Records((wire,), 0)))
        assert said == [Finished("sync.unasked")]


def test_batches_must_get_on() -> None:
    records = some_records(3)[1:]
    asker = asker_at_records(records)
    assert asker.received(encode(Records((), 3))) == [Finished("sync.no_progress")]
    asker = asker_at_records(records)
    first = (records[0].to_wire(),)
    assert asker.received(encode(Records(first, 2))) == [TakeIn(first)]
    assert asker.received(encode(Records((), 2))) == [Finished("sync.no_progress")]


# -- whatever comes --------------------------------------------------------------------------------

wild = st.recursive(
    st.integers(0, 12) | st.binary(max_size=3) | st.just(b"i" * 32) | st.just(b"\x01")
    | st.just(AUTHOR) | st.booleans() | st.none() | st.just("7"),
    lambda inner: st.lists(inner, max_size=4),
)  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(wild, st.sampled_from([Answerer, answering, Asker, *ASKERS]))
def test_no_message_gets_more_out_of_a_side_than_a_fault(
    value: Any, make: Callable[[], Asker | Answerer]
) -> None:
    data = msgpack.packb(value)
    actions = make().received(data)
    try:
        decode(data)
    except Refused:
        assert len(actions) == 1
        assert isinstance(actions[0], Finished)
        assert actions[0].fault
