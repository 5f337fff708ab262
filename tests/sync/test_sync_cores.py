"""One side asks, the other answers, and both end with what the other has."""

from __future__ import annotations

from typing import Any

import pytest

from permesh.p2p import limits
from permesh.p2p.sync import Asker, FindMissing, Finished, Send
from permesh.p2p.sync_messages import (
    Answer,
    Ask,
    Contents,
    Days,
    Heads,
    Held,
    Lack,
    Newer,
    Parts,
    Records,
    Want,
    encode,
)
from permesh.records import MAX_BODY_BYTES
from permesh.space_index import Run
from permesh.spaces import DAY_MS, SPACE_COMMONS, SPACE_IDENTITY, Sum
from tests.simulator import START_MS, Author
from tests.sync.conversation import EVERYWHERE, ME, TODAY, Conversation, some_records, store_of

ROOM = b"r" * 32


def test_equal_stores_cost_one_round_trip() -> None:
    records = some_records(20)
    talk = Conversation(store_of(*records), store_of(*reversed(records)))
    assert talk.run() == Finished()
    assert [type(message) for message in talk.said] == [Ask, Answer]


def test_nothing_is_listed_of_a_peer_that_has_nothing_but_it_is_told() -> None:
    own = store_of(*some_records(3))
    theirs = store_of()
    talk = Conversation(own, theirs)
    assert talk.run() == Finished()
    assert not talk.messages(Heads, Newer)
    assert all(content == () for m in talk.messages(Contents) for content in m.contents)
    assert theirs.sums() == own.sums()
    assert talk.given[0].header.kind == "identity.credential"


def test_two_empty_stores_have_nothing_to_say() -> None:
    talk = Conversation(store_of(), store_of())
    assert talk.run() == Finished()
    assert len(talk.said) == 2


def test_what_is_lacking_comes_and_credentials_come_first() -> None:
    theirs = store_of(*some_records(30, "a"), *some_records(30, "b"))
    own = store_of(*some_records(10, "a"), *some_records(5, "c"))
    talk = Conversation(own, theirs)
    assert talk.run() == Finished()
    assert own.sums() == theirs.sums()
    assert talk.taken[0].header.kind == "identity.credential"
    assert len(talk.taken) == len({r.id for r in talk.taken}) == 20 + 31
    assert talk.given[0].header.kind == "identity.credential"
    assert len(talk.given) == len({r.id for r in talk.given}) == 6


def test_new_records_are_found_by_heads_alone() -> None:
    records = [r for name in "abc" for r in some_records(10, name)]
    own, theirs = store_of(*records[:-5]), store_of(*records)
    talk = Conversation(own, theirs)
    assert talk.run() == Finished()
    assert [type(m) for m in talk.said] == [Ask, Answer, Heads, Newer, Want, Records]
    assert [r.id for r in talk.taken] == [r.id for r in records[-5:]]


def test_a_hole_in_a_chain_is_found_by_its_day() -> None:
    records = some_records(40)
    own, theirs = store_of(*records[:20], *records[21:]), store_of(*records)
    talk = Conversation(own, theirs)
    assert talk.run() == Finished()
    assert talk.taken == [records[20]]
    [days] = talk.messages(Days)
    assert [day for day, _ in days.days] == [TODAY]
    asked = [part for message in talk.messages(Parts) for part in message.parts]
    assert [(part.path, part.listed) for part in asked] == [
        ("", False), (records[20].id.hex()[0], True),
    ]  # fmt: skip


def test_only_the_day_that_differs_is_looked_into() -> None:
    author = Author("a")
    records = [author.credential()]
    for day in range(30):
        author.now_ms = START_MS - (30 - day) * DAY_MS
        records += [author.write() for _ in range(5)]
    own, theirs = store_of(*records[:70], *records[71:]), store_of(*records)
    talk = Conversation(own, theirs)
    assert talk.run() == Finished()
    assert talk.taken == [records[70]]
    asked = {part.day for message in talk.messages(Parts) for part in message.parts}
    assert asked == {records[70].header.created_ms // DAY_MS}


def test_of_many_ids_of_a_day_few_are_listed() -> None:
    records = some_records(4000)
    own, theirs = store_of(*records[:1000], *records[1001:]), store_of(*records)
    talk = Conversation(own, theirs)
    assert talk.run() == Finished()
    assert talk.taken == [records[1000]]
    listed = [
        item
        for message in talk.messages(Contents)
        for content in message.contents
        for item in content
        if isinstance(item, bytes)
    ]
    assert len(listed) <= limits.LISTED_UP_TO
    assert len(talk.said) <= 2 + 2 + 2 + 2 * 4 + 2  # opening, heads, days, four digits, the record


def test_where_much_differs_the_ids_are_listed_at_once() -> None:
    records = some_records(1000)
    own, theirs = store_of(*records[::2], *records[-1:]), store_of(*records)
    talk = Conversation(own, theirs)
    assert talk.run() == Finished()
    assert own.sums() == theirs.sums()
    [message] = talk.messages(Parts)
    assert [(part.path, part.listed) for part in message.parts] == [("", True)]


def test_only_the_space_that_differs_is_gone_through() -> None:
    author = Author("a")
    credential, note = author.credential(), author.write()
    talk = Conversation(store_of(credential), store_of(credential, note))
    talk.run()
    assert [message.space for message in talk.messages(Heads, Days)] == [SPACE_COMMONS]


def test_a_room_is_compared_only_where_both_hold_it() -> None:
    author = Author("a")
    credential, post = author.credential(), author.write(room=ROOM)
    own, theirs = store_of(credential), store_of(credential, post)
    talk = Conversation(own, theirs, their_spaces={**EVERYWHERE, ROOM: 0})
    assert talk.run() == Finished()
    talk = Conversation(own, theirs, own_spaces={**EVERYWHERE, ROOM: 0})
    assert talk.run() == Finished()
    assert talk.messages(Answer)[0].spaces[2] is None
    assert len(own.records) == 1
    both = {**EVERYWHERE, ROOM: 0}
    assert Conversation(own, theirs, own_spaces=both, their_spaces=both).run() == Finished()
    assert own.sums() == theirs.sums()


@pytest.mark.parametrize("swapped", [False, True])
def test_of_two_who_begin_on_different_days_the_later_counts(swapped: bool) -> None:
    author = Author("a")
    days = range(TODAY - 9, TODAY + 1)
    records = [author.write(created_ms=day * DAY_MS, room=ROOM) for day in days]
    early, late = {ROOM: TODAY - 9}, {ROOM: TODAY - 4}
    wide, narrow = store_of(*records[:6], *records[7:]), store_of(*records[5:7])
    first, second = (narrow, wide) if swapped else (wide, narrow)
    talk = Conversation(
        first, second,
        own_spaces=late if swapped else early, their_spaces=early if swapped else late,
    )  # fmt: skip
    assert talk.run() == Finished()
    assert talk.messages(Answer)[0].spaces[0].from_day == TODAY - 4
    assert set(narrow.records) == {r.id for r in records[5:]}
    assert set(wide.records) == {r.id for r in records}
    assert not talk.asked & {r.id for r in records[:5]}


def test_equal_spaces_that_begin_on_different_days_are_found_equal() -> None:
    author = Author("a")
    records = [author.write(created_ms=(TODAY - n) * DAY_MS, room=ROOM) for n in (5, 4, 1, 0)]
    talk = Conversation(
        store_of(*records), store_of(*records[2:]),
        own_spaces={ROOM: 0}, their_spaces={ROOM: TODAY - 2},
    )  # fmt: skip
    assert talk.run() == Finished()
    assert not talk.messages(Want, Lack, Records)


def test_many_records_come_in_pages_wants_and_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "PAGE_IDS", 50)
    monkeypatch.setattr(limits, "WANT_IDS", 20)
    records = some_records(230)
    own, theirs = store_of(records[0]), store_of(*records)
    talk = Conversation(own, theirs)
    assert talk.run() == Finished()
    assert own.sums() == theirs.sums()
    pages = [sum(len(run.ids) for run in m.runs) for m in talk.messages(Newer)]
    assert pages == [50, 50, 50, 50, 30]
    assert all(len(m.ids) <= 20 for m in talk.messages(Want))


def test_what_the_peer_lacks_is_told_in_pages_and_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "PAGE_IDS", 50)
    monkeypatch.setattr(limits, "WANT_IDS", 20)
    records = some_records(230)
    own, theirs = store_of(*records), store_of(*records[::7])
    talk = Conversation(own, theirs)
    assert talk.run() == Finished()
    assert own.sums() == theirs.sums()
    assert len(talk.messages(Lack)) >= 4
    assert all(len(m.ids) <= 50 for m in talk.messages(Lack))


def test_what_is_too_much_to_tell_is_left_to_the_peer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "PAGE_IDS", 20)
    monkeypatch.setattr(limits, "LACKED_IDS", 60)
    records = some_records(230)
    own, theirs = store_of(*records), store_of(records[0])
    assert Conversation(own, theirs).run() == Finished()
    assert len(theirs.records) == 1 + 60
    assert Conversation(theirs, own).run() == Finished()
    assert own.sums() == theirs.sums()


def test_parts_beyond_the_limit_are_left_and_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "PARTS_IN_SPACE", 40)
    monkeypatch.setattr(limits, "PARTS", 8)
    records = some_records(2000)
    lacking = set(range(50, 2000, 40))
    own = store_of(*(r for n, r in enumerate(records) if n not in lacking))
    theirs = store_of(*records)
    sessions = 0
    while own.sums() != theirs.sums():
        before = len(own.records)
        end = Conversation(own, theirs).run()
        assert len(own.records) > before
        assert end == Finished(left=own.sums() != theirs.sums())
        sessions += 1
    assert sessions > 1


def test_days_beyond_the_limit_come_page_by_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "DAYS", 5)
    author = Author("a")
    records = [author.write(created_ms=day * DAY_MS) for day in range(100, 123)]
    own = store_of(*records[:1], *records[2:20], records[22])
    theirs = store_of(*records[:12], *records[13:])
    talk = Conversation(own, theirs)
    assert talk.run() == Finished()
    assert own.sums() == theirs.sums()
    pages = talk.messages(Days)
    assert [len(m.days) for m in pages] == [5, 5, 5, 5]
    assert [m.from_day for m in pages[:-1]] == [page.to_day + 1 for page in pages[1:]]


def test_more_days_than_fit_on_the_other_side_take_more_sessions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "DAYS", 5)
    author = Author("a")
    records = [author.write(created_ms=day * DAY_MS) for day in range(100, 123)]
    own, theirs = store_of(records[-1]), store_of(*records)
    for missing in (18, 13, 8, 3, 0):
        assert not Conversation(own, theirs).run().fault
        own_days = len(own.records)
        assert len(records) - own_days <= missing
    assert own.sums() == theirs.sums()


def test_a_space_of_too_many_authors_is_compared_by_its_days(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "HEADS", 3)
    records = [r for name in "abcdefgh" for r in some_records(2, name)]
    own, theirs = store_of(*records[:12]), store_of(*records)
    talk = Conversation(own, theirs)
    assert talk.run() == Finished()
    assert own.sums() == theirs.sums()
    assert not talk.messages(Heads)


def test_two_authors_of_one_short_name_hide_nothing_from_each_other() -> None:
    one, other = b"same name" + bytes(11), b"same name" + bytes(10) + b"\1"
    writers = [Author("a"), Author("b")]
    records = [
        writer.write(author=address)
        for writer, address in zip(writers, (one, other), strict=True)
        for _ in range(12)
    ]
    own, theirs = store_of(*records[:4], *records[12:20]), store_of(*records)
    talk = Conversation(own, theirs)
    assert talk.run() == Finished()
    assert own.sums() == theirs.sums()
    assert len(talk.messages(Newer)) == 1


def test_large_records_come_in_bounded_batches() -> None:
    theirs = store_of(*some_records(20, body=bytes(MAX_BODY_BYTES)))
    own = store_of()
    talk = Conversation(own, theirs)
    assert talk.run() == Finished()
    assert own.sums() == theirs.sums()
    assert len(talk.messages(Records)) >= 3


def test_large_records_go_in_bounded_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    own = store_of(*some_records(40, body=bytes(MAX_BODY_BYTES)))
    theirs = store_of()
    monkeypatch.setattr(limits, "QUESTIONS", 10)  # batches are no questions
    talk = Conversation(own, theirs)
    assert talk.run() == Finished()
    assert own.sums() == theirs.sums()
    assert len(talk.messages(Records)) >= 6


def test_offers_come_with_the_answer() -> None:
    blobs = [bytes([n]) * limits.OFFER_BYTES for n in range(limits.OFFERS)]
    talk = Conversation(store_of(), store_of(), blobs)
    assert talk.run() == Finished()
    assert talk.offered == blobs


@pytest.mark.parametrize("length", [0, 1, 4, 5, 9])
def test_who_asks_is_given_its_own_last_record_if_it_does_not_know_it(length: int) -> None:
    author = Author("me")
    records = [author.write(room=ROOM) for _ in range(5)]
    assert author.address == ME
    talk = Conversation(store_of(), store_of(*records), length=length)
    assert talk.run() == Finished()
    assert talk.taken == (records[-1:] if length < 5 else [])


# -- records that do not come ----------------------------------------------------------------------


class Withholding:
    """Lists what it does not give."""

    def __init__(self, store: Any, kept_back: set[bytes]) -> None:
        self._store = store
        self._kept_back = kept_back

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def wires(self, ids: list[bytes], size: int) -> tuple[list[Any], int]:
        given = [item for item in ids if item not in self._kept_back]
        return self._store.wires(given, size)[0], len(ids)


def test_a_record_that_the_peer_lists_and_does_not_give_is_counted() -> None:
    records = some_records(5)
    own = store_of()
    talk = Conversation(own, Withholding(store_of(*records), {records[-1].id}))
    # It is asked for as new, and once more since the sums still differ.
    assert talk.run() == Finished(withheld=2)
    assert len(own.records) == 5


def test_a_record_that_the_asker_tells_of_and_does_not_give_is_counted() -> None:
    records = some_records(5)
    theirs = store_of()
    talk = Conversation(Withholding(store_of(*records), {records[-1].id}), theirs)
    assert talk.run() == Finished()
    assert talk.answerer.withheld == 1
    assert len(theirs.records) == 5


def test_who_withholds_much_is_asked_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "WANT_IDS", 4)
    monkeypatch.setattr(limits, "WITHHELD", 10)
    records = some_records(100)[1:]
    ids = {record.id for record in records}
    talk = Conversation(store_of(), Withholding(store_of(*records), ids))
    assert talk.run() == Finished(withheld=12)


def test_questions_of_the_asker_come_to_an_end_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "QUESTIONS", 6)
    monkeypatch.setattr(limits, "WANT_IDS", 10)
    records = some_records(100)
    own, theirs = store_of(), store_of(*records)
    end = Conversation(own, theirs).run()
    assert end == Finished(left=True)
    assert 20 <= len(own.records) < 100


def test_a_driver_may_leave_records_to_another_pull() -> None:
    asker = Asker()
    nothing, something = Sum(0, b"f" * 16), Sum(3, b"g" * 16)
    asker.start(ME, 0, [Held(SPACE_IDENTITY, 0, nothing)])
    asker.received(encode(Answer((Held(SPACE_IDENTITY, 0, something),), None, ())))
    assert asker.heads([]) == [Send(encode(Heads(SPACE_IDENTITY, 0, ())))]
    ids = tuple(bytes([n]) * 32 for n in (1, 2, 3))
    run = Run(ME, 2, ids)
    assert asker.received(encode(Newer((run,), False))) == [FindMissing(SPACE_IDENTITY, ids)]
    [asked] = asker.missing([])
    assert not isinstance(asked, Send)  # nothing is fetched; the sums are compared
    assert asker.summed(something) == [Finished()]
