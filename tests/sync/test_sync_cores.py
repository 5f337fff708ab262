"""One side asks, the other answers; who breaks the rules ends the session with a fault."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from permesh.errors import Refused
from permesh.p2p import limits, sync, sync_messages
from permesh.p2p.sync import Answerer, Asker, FindMissing, Finished, Offers, ReadIds, Send, TakeIn
from permesh.p2p.sync_messages import Answer, Ask, Ids, ListIds, Records, Want, decode, encode
from permesh.records import MAX_BODY_BYTES, MAX_UINT, Record, pack
from permesh.store import SCOPE_CONTENT, SCOPE_IDENTITY, Sum, fingerprint
from tests.simulator import Author, MemoryStore

NOTHING = Sum(0, fingerprint(0, 0))


def store_of(*records: Record) -> MemoryStore:
    store = MemoryStore()
    store.save(records)
    return store


def some_records(number: int, name: str = "a", body: bytes = b"") -> list[Record]:
    author = Author(name)
    return [author.credential(), *(author.write(body) for _ in range(number))]


class Conversation:
    """An asker and an answerer on two stores, and all that they said."""

    def __init__(self, own: MemoryStore, theirs: MemoryStore, offers: Sequence[bytes] = ()) -> None:
        self.own, self.theirs, self.offers = own, theirs, offers
        self.asker, self.answerer = Asker(), Answerer()
        self.said: list[sync_messages.Message] = []
        self.taken: list[Record] = []
        self.offered: list[bytes] = []
        self.end: Finished | None = None

    def run(self) -> Finished:
        self._ask(self.asker.start(self.own.sums()))
        assert self.end is not None
        return self.end

    def _ask(self, actions: list[sync.Action]) -> None:
        for action in actions:
            match action:
                case Send(data):
                    self.said.append(decode(data))
                    self._answer(self.answerer.received(data))
                case FindMissing(ids):
                    self._ask(self.asker.missing(self.own.missing(ids)))
                case TakeIn(wires):
                    self.taken += [Record.from_wire(wire) for wire in wires]
                    self.own.save(self.taken)
                case Offers(blobs):
                    self.offered += blobs
                case Finished():
                    self.end = action

    def _answer(self, actions: list[sync.Action]) -> None:
        for action in actions:
            match action:
                case Send(data):
                    assert len(data) <= limits.SYNC_MESSAGE_BYTES
                    self.said.append(decode(data))
                    self._ask(self.asker.received(data))
                case sync.ReadSums():
                    self._answer(self.answerer.sums(self.theirs.sums(), self.offers))
                case ReadIds(scope, after, limit):
                    self._answer(self.answerer.ids(self.theirs.ids(scope, after, limit)))
                case sync.ReadWires(ids, size):
                    self._answer(self.answerer.wires(*self.theirs.wires(ids, size)))
                case Finished(fault):
                    raise AssertionError(fault)


# -- two that keep the rules


def test_equal_stores_cost_one_round_trip() -> None:
    records = some_records(20)
    talk = Conversation(store_of(*records), store_of(*reversed(records)))
    assert talk.run() == Finished()
    assert [type(message) for message in talk.said] == [Ask, Answer]


def test_nothing_is_listed_of_a_peer_that_has_nothing() -> None:
    talk = Conversation(store_of(*some_records(3)), store_of())
    assert talk.run() == Finished()
    assert len(talk.said) == 2


def test_what_is_lacking_comes_and_credentials_come_first() -> None:
    theirs = store_of(*some_records(30, "a"), *some_records(30, "b"))
    own = store_of(*some_records(10, "a"), *some_records(5, "c"))
    talk = Conversation(own, theirs)
    assert talk.run() == Finished()
    assert set(theirs.records) <= set(own.records)
    assert talk.taken[0].header.kind == "identity.credential"
    assert len(talk.taken) == len({r.id for r in talk.taken}) == 20 + 31


def test_only_the_scope_that_differs_is_listed() -> None:
    author = Author("a")
    credential, note = author.credential(), author.write()
    talk = Conversation(store_of(credential), store_of(credential, note))
    talk.run()
    assert [m.scope for m in talk.said if isinstance(m, ListIds)] == [SCOPE_CONTENT]


def test_many_records_come_in_pages_wants_and_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "PAGE_IDS", 50)
    monkeypatch.setattr(limits, "WANT_IDS", 20)
    theirs = store_of(*some_records(230))
    own = store_of(*list(theirs.records.values())[::7])
    talk = Conversation(own, theirs)
    assert talk.run() == Finished()
    assert own.sums() == theirs.sums()
    pages = [m for m in talk.said if isinstance(m, Ids) and m.scope == SCOPE_CONTENT]
    assert [len(page.ids) for page in pages] == [50, 50, 50, 50, 30]
    assert all(len(m.ids) <= 20 for m in talk.said if isinstance(m, Want))


def test_large_records_come_in_bounded_batches() -> None:
    theirs = store_of(*some_records(20, body=bytes(MAX_BODY_BYTES)))
    own = store_of()
    talk = Conversation(own, theirs)
    assert talk.run() == Finished()
    assert own.sums() == theirs.sums()
    assert len([m for m in talk.said if isinstance(m, Records)]) >= 3


def test_offers_come_with_the_answer() -> None:
    blobs = [bytes([n]) * limits.OFFER_BYTES for n in range(limits.OFFERS)]
    talk = Conversation(store_of(), store_of(), blobs)
    assert talk.run() == Finished()
    assert talk.offered == blobs


def test_a_record_that_the_peer_lists_and_does_not_give_is_counted() -> None:
    theirs = store_of(*some_records(5))
    gone = list(theirs.records)[-1]
    talk = Conversation(store_of(), theirs)
    del theirs.records[gone]  # and it still lists it
    wires_of = theirs.wires
    theirs.wires = lambda ids, size: (  # type: ignore[method-assign]
        wires_of([item for item in ids if item != gone], size)[0],
        len(ids),
    )
    assert talk.run() == Finished(withheld=1)
    assert len(talk.own.records) == 5


def test_a_driver_may_leave_records_to_another_pull() -> None:
    asker = asker_at_page()
    ids = [bytes([n]) * 32 for n in (1, 2, 3)]
    asker.received(encode(Ids(SCOPE_CONTENT, tuple(ids), more=False)))
    assert asker.missing([]) == [Finished()]


# -- an answerer that breaks the rules


def asker_at_page(count: int = 10) -> Asker:
    """An asker that waits for the first page of the content of ``count`` records."""
    asker = Asker()
    asker.start([NOTHING, NOTHING])
    (sent,) = asker.received(encode(Answer((NOTHING, Sum(count, b"f" * 32)), ())))
    assert sent == Send(encode(ListIds(SCOPE_CONTENT, b"")))
    return asker


def asker_at_records(wanted: Sequence[Record]) -> Asker:
    asker = asker_at_page()
    ids = tuple(sorted(record.id for record in wanted))
    assert asker.received(encode(Ids(SCOPE_CONTENT, ids, more=False))) == [FindMissing(ids)]
    assert asker.missing(ids) == [Send(encode(Want(ids)))]
    return asker


def page(*numbers: int, more: bool = True, scope: int = SCOPE_CONTENT) -> bytes:
    return encode(Ids(scope, tuple(n.to_bytes(32, "big") for n in numbers), more))


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (b"", "format.msgpack"),
        (pack([9]), "sync.malformed"),
        (page(3, 2), "sync.malformed"),  # not ascending
        (page(2, 2), "sync.malformed"),  # twice
        (pack([4, 1, [b"i" * 31], False]), "sync.malformed"),
        (page(1, scope=SCOPE_IDENTITY), "sync.wrong_page"),
        (page(), "sync.wrong_page"),  # nothing, and more of it
        (encode(Records((), 0)), "sync.out_of_turn"),
        (encode(Ask((NOTHING, NOTHING))), "sync.out_of_turn"),
        (encode(Answer((NOTHING, NOTHING), ())), "sync.out_of_turn"),
        (b"x" * (limits.SYNC_MESSAGE_BYTES + 1), "format.too_long"),
    ],
)
def test_a_wrong_page_ends_the_session(data: bytes, fault: str) -> None:
    assert asker_at_page().received(data) == [Finished(fault)]


def test_a_repeated_page_ends_the_session() -> None:
    asker = asker_at_page()
    asker.received(page(1, 2, 3))
    asker.missing([])
    assert asker.received(page(3, 4)) == [Finished("sync.repeated_page")]


def test_pages_without_end_end_the_session(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "PAGE_IDS", 4)
    asker = asker_at_page(count=10)
    said = []
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
    monkeypatch.setattr(limits, "LISTED_IDS", 6)
    asker = asker_at_page(count=MAX_UINT)
    asker.received(page(1, 2, 3))
    assert asker.missing([]) == [Send(encode(ListIds(SCOPE_CONTENT, (3).to_bytes(32, "big"))))]
    asker.received(page(4, 5, 6))
    assert asker.missing([]) == [Finished()]


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


def test_a_message_before_its_question_ends_the_session() -> None:
    assert Asker().received(encode(Answer((NOTHING, NOTHING), ()))) == [
        Finished("sync.out_of_turn")
    ]


# -- an asker that breaks the rules


def answering() -> Answerer:
    answerer = Answerer()
    answerer.received(encode(Ask((NOTHING, NOTHING))))
    return answerer


def test_a_session_begins_with_the_question_of_sums_and_has_one() -> None:
    for data in (encode(ListIds(1, b"")), encode(Want((b"i" * 32,)))):
        assert Answerer().received(data) == [Finished("sync.out_of_turn")]
    assert answering().received(encode(Ask((NOTHING, NOTHING)))) == [Finished("sync.out_of_turn")]
    for data in (encode(Answer((NOTHING, NOTHING), ())), page(1), encode(Records((), 0))):
        assert answering().received(data) == [Finished("sync.out_of_turn")]


def test_questions_without_end_end_the_session(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "QUESTIONS", 3)
    answerer = answering()
    ask = encode(ListIds(1, b""))
    assert [type(answerer.received(ask)[0]) for _ in range(3)] == [ReadIds, ReadIds, Finished]


@pytest.mark.parametrize(
    "fields",
    [
        None, [], 7, [0], [7, []], [True, []], ["1"],
        [1, []], [1, [[0, b"f" * 32]]], [1, [[0, b"f" * 32]] * 3], [1, [[0, b"f" * 31]] * 2],
        [1, [[-1, b"f" * 32]] * 2], [1, [[True, b"f" * 32]] * 2], [1, [None, None]],
        [2, [[0, b"f" * 32]] * 2], [2, [[0, b"f" * 32]] * 2, [b"x" * 4097]],
        [2, [[0, b"f" * 32]] * 2, [b"x"] * 65],
        [3, 2, b""], [3, -1, b""], [3, True, b""], [3, 1, b"i"], [3, 1, None],
        [4, 1, [], 0], [4, 1, [b"i" * 32]], [4, True, [], False],
        [4, 1, [n.to_bytes(32, "big") for n in range(limits.PAGE_IDS + 1)], False],
        [5, []], [5, [b"i" * 32, b"i" * 32]], [5, [None]],
        [5, [n.to_bytes(32, "big") for n in range(limits.WANT_IDS + 1)]],
        [6, [], -1], [6, [], limits.WANT_IDS], [6, [], True], [6, None, 0],
        [6, [None] * (limits.WANT_IDS + 1), 0],
    ],
)  # fmt: skip
def test_a_message_out_of_form_is_refused(fields: Any) -> None:
    data = pack(fields)
    with pytest.raises(Refused):
        decode(data)
    assert answering().received(data)[0] == Finished("sync.malformed")


def test_the_largest_messages_fit_the_limit() -> None:
    ids = tuple(n.to_bytes(32, "big") for n in range(limits.PAGE_IDS))
    assert len(encode(Ids(1, ids, more=True))) <= limits.SYNC_MESSAGE_BYTES
    offers = tuple(bytes(limits.OFFER_BYTES) for _ in range(limits.OFFERS))
    answer = Answer((Sum(MAX_UINT, b"f" * 32),) * 2, offers)
    assert len(encode(answer)) <= limits.SYNC_MESSAGE_BYTES
    assert decode(encode(answer)) == answer


wild = st.recursive(
    st.integers(0, 7) | st.binary(max_size=3) | st.just(b"i" * 32) | st.booleans() | st.none(),
    lambda inner: st.lists(inner, max_size=4),
)


@settings(max_examples=120, deadline=None)
@given(wild, st.sampled_from([Answerer, answering, asker_at_page, Asker]))
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


@settings(max_examples=80, deadline=None)
@given(st.binary(max_size=60))
def test_only_refused_leaves_the_decoder(data: bytes) -> None:
    try:
        message = decode(data)
    except Refused:
        return
    assert encode(message) == data
