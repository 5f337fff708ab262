"""Whatever two stores hold, one session makes them equal, and tells nothing that neither needs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from permesh.p2p import limits
from permesh.p2p.sync import Finished
from permesh.p2p.sync_messages import Answer, Ask, Contents, Differing, Heads, Lack, Newer, Want
from permesh.records import Record
from permesh.spaces import DAY_MS, SPACE_COMMONS, SPACE_IDENTITY, day_of, space_of
from permesh.store import Store
from tests.simulator import Author, MemoryStore
from tests.sync.conversation import TODAY, Conversation, Side, StoreSide, holds, store_of

ROOM, OTHER_ROOM = b"r" * 32, b"s" * 32
SPACES = (SPACE_IDENTITY, SPACE_COMMONS, ROOM, OTHER_ROOM)
EVERYTHING = dict.fromkeys(SPACES, 0)
DAYS = 4
# So small that a few records need pages, divisions and several wants.
SMALL = {
    "PAGE_IDS": st.integers(4, 9), "WANT_IDS": st.integers(1, 4), "HEADS": st.integers(1, 6),
    "PARTS": st.integers(1, 5), "LISTED_UP_TO": st.integers(1, 4), "DAYS": st.just(DAYS),
    "LISTED_ABOVE": st.sampled_from([0.0, 0.05, 0.5, 1.0]), "BATCH_BYTES": st.integers(1, 2000),
}  # fmt: skip
small_limits = st.fixed_dictionaries(SMALL)


@dataclass(frozen=True)
class Held:
    """Records, and which of them either side has."""

    own: list[Record]
    theirs: list[Record]


@st.composite
def holdings(draw: st.DrawFn, most: int = 40) -> Held:
    """Chains of some authors over some spaces and days, with holes and forks, on either side."""
    authors = [Author(name) for name in "abcde"[: draw(st.integers(1, 5))]]
    # Mostly both, mostly one, or anything.
    sides = draw(st.sampled_from([[3, 3, 3, 1, 2], [1, 1, 3], [2, 2, 3], [1], [2], [0, 1, 2, 3]]))
    spaces = draw(st.sampled_from([SPACES, SPACES, (ROOM,), (SPACE_COMMONS,)]))
    own, theirs = [], []
    steps = draw(
        st.lists(
            st.tuples(
                st.sampled_from(authors), st.sampled_from(spaces), st.integers(0, DAYS - 1),
                st.sampled_from(sides), st.booleans(),
            ),
            min_size=draw(st.sampled_from([0, 20, most])),
            max_size=most,
        )
    )  # fmt: skip
    for number, (author, space, day, side, fork) in enumerate(steps):
        kind = "identity.request" if space == SPACE_IDENTITY else "test.note"
        fields = {}
        if fork and author.seq > 1:
            fields = {"seq": author.seq - 1, "prev": b"p" * 32}
        record = author.write(
            b"%d" % number, kind, space if len(space) == 32 else b"",
            created_ms=(TODAY - day) * DAY_MS, **fields,
        )  # fmt: skip
        own += [record] * (side & 1)
        theirs += [record] * (side >> 1)
    return Held(own, theirs)


@contextmanager
def limited(values: Mapping[str, float]) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in values.items():
            patch.setattr(limits, name, value)
        yield


def unite(held: Held, own: Side, theirs: Side, spaces: Mapping[bytes, int] = EVERYTHING) -> None:
    """One session, after which both hold what either had."""
    talk = Conversation(own, theirs, own_spaces=spaces, their_spaces=spaces)
    assert talk.run() == Finished()
    ids = {record.id for record in (*held.own, *held.theirs)}
    for side in (own, theirs):
        assert side.missing(sorted(ids)) == []
    for space in SPACES:
        assert own.sum(space) == theirs.sum(space)
    # Nothing came that was here, and nothing twice.
    taken, given_ = ({record.id for record in some} for some in (talk.taken, talk.given))
    assert len(taken) == len(talk.taken)
    assert taken == {r.id for r in held.theirs} - {r.id for r in held.own}
    assert len(given_) == len(talk.given)
    assert given_ == {r.id for r in held.own} - {r.id for r in held.theirs}
    # And then there is nothing left to say.
    for one, other in ((own, theirs), (theirs, own)):
        again = Conversation(one, other, own_spaces=spaces, their_spaces=spaces)
        assert again.run() == Finished()
        assert [type(message) for message in again.said] == [Ask, Answer]


@settings(max_examples=150, deadline=None)
@given(holdings(), small_limits)
def test_one_session_makes_two_stores_equal(held: Held, values: Mapping[str, float]) -> None:
    with limited(values):
        unite(held, store_of(*held.own), store_of(*held.theirs))


@settings(max_examples=30, deadline=None)
@given(holdings(), small_limits)
def test_one_session_makes_two_real_stores_equal(held: Held, values: Mapping[str, float]) -> None:
    with limited(values), real_stores(2) as (own, theirs):
        own.save(held.own)
        theirs.save(held.theirs)
        unite(held, own, theirs)


@contextmanager
def real_stores(number: int) -> Iterator[list[StoreSide]]:
    with TemporaryDirectory() as directory, ExitStack() as stack:
        sides = []
        for name in range(number):
            store = Store(Path(directory) / f"{name}.db")
            stack.callback(store.close)
            store.connection.execute("PRAGMA synchronous = OFF")
            sides.append(StoreSide(store))
        yield sides


def test_a_day_of_thousands_of_ids_is_united(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ids that share several digits: the tree is gone down to where they part."""
    monkeypatch.setattr(limits, "LISTED_ABOVE", 1.0)
    monkeypatch.setattr(limits, "LISTED_UP_TO", 1)
    author = Author("a")
    records = [author.write() for _ in range(3000)]
    lacking = {5, 6, 1000, 1500, 1501, 2998}
    own = [r for n, r in enumerate(records) if n not in lacking]
    theirs = [r for n, r in enumerate(records) if n % 500 != 499]
    unite(Held(own, theirs), store_of(*own), store_of(*theirs))


@settings(max_examples=150, deadline=None)
@given(
    holdings(),
    small_limits,
    st.fixed_dictionaries({
        "DAYS": st.integers(1, 2), "PARTS_IN_SPACE": st.integers(10, 40),
        "LACKED_IDS": st.integers(4, 9), "QUESTIONS": st.integers(14, 40),
    }),
)  # fmt: skip
def test_where_a_session_meets_its_limits_some_more_make_two_stores_equal(
    held: Held, small: Mapping[str, float], smaller: Mapping[str, float]
) -> None:
    own, theirs = store_of(*held.own), store_of(*held.theirs)
    sides = [own, theirs]
    with limited({**small, **smaller, "WANT_IDS": 4}):
        idle = 0
        while own.sums() != theirs.sums():
            before = len(own.records) + len(theirs.records)
            end = Conversation(*sides, own_spaces=EVERYTHING, their_spaces=EVERYTHING).run()
            assert not end.fault
            assert not end.withheld
            idle = idle + 1 if len(own.records) + len(theirs.records) == before else 0
            # What one side has too much to tell, the other one asks for.
            assert idle < 2
            sides.reverse()
    assert set(own.records) == {record.id for record in (*held.own, *held.theirs)}


# -- who begins on a later day, or does not follow -------------------------------------------------


@settings(max_examples=100, deadline=None)
@given(
    holdings(),
    small_limits,
    st.lists(st.integers(-1, DAYS), min_size=4, max_size=4),
    st.lists(st.booleans(), min_size=4, max_size=4),
)
def test_what_is_before_the_later_first_day_is_neither_asked_nor_told(
    held: Held, values: Mapping[str, float], floors: list[int], followed: list[bool]
) -> None:
    spaces = [dict(EVERYTHING), dict(EVERYTHING)]
    for number, room in enumerate((ROOM, OTHER_ROOM)):
        for side in (0, 1):
            spaces[side][room] = TODAY - floors[2 * number + side]
            if not followed[2 * number + side]:
                del spaces[side][room]
    own_spaces, their_spaces = spaces
    own = store_of(*(r for r in held.own if holds(own_spaces, r)))
    theirs = store_of(*(r for r in held.theirs if holds(their_spaces, r)))
    before = set(own.records), set(theirs.records)
    with limited(values):
        talk = Conversation(own, theirs, own_spaces=own_spaces, their_spaces=their_spaces)
        assert talk.run() == Finished()
    known = {record.id: record for record in (*held.own, *held.theirs)}
    shared = {
        i
        for i, record in known.items()
        if holds(own_spaces, record) and holds(their_spaces, record)
    }
    either = before[0] | before[1]
    for side, had in ((own, before[0]), (theirs, before[1])):
        assert set(side.records) == had | (shared & either)
    assert talk.asked <= shared
    mentioned = {
        item for message in talk.messages(Newer, Contents, Want, Lack) for item in ids_in(message)
    }
    assert mentioned <= shared
    days = {(message.space, day) for message in talk.messages(Heads) for day in [message.from_day]}
    for space, from_day in days:
        assert from_day == max(own_spaces[space], their_spaces[space])


def ids_in(message: Newer | Contents | Want | Lack) -> list[bytes]:
    match message:
        case Newer(runs):
            return [item for run in runs for item in run.ids]
        case Contents(contents):
            return [item for c in contents for item in c if isinstance(item, bytes)]
        case _:
            return list(message.ids)


@settings(max_examples=40, deadline=None)
@given(holdings(), holdings())
def test_what_comes_during_a_session_does_no_harm(held: Held, meanwhile: Held) -> None:
    """Each side saves other records between the messages: no fault, and the next one completes."""

    class Busy(MemoryStore):
        late: list[Record]

        def missing(self, ids):  # type: ignore[no-untyped-def]
            self.save(self.late[:1])
            del self.late[:1]
            return super().missing(ids)

        def contents(self, space, parts, limit):  # type: ignore[no-untyped-def]
            found = super().contents(space, parts, limit)
            self.save(self.late[:1])
            del self.late[:1]
            return found

    own, theirs = Busy(), Busy()
    own.late, theirs.late = list(meanwhile.own), list(meanwhile.theirs)
    own.save(held.own)
    theirs.save(held.theirs)
    with limited({"PAGE_IDS": 4, "WANT_IDS": 2, "PARTS": 2, "LISTED_UP_TO": 1}):
        for _ in range(2 * len(own.late + theirs.late) + 6):
            end = Conversation(own, theirs, own_spaces=EVERYTHING, their_spaces=EVERYTHING).run()
            assert not end.fault
            assert not end.withheld
        assert own.sums() == theirs.sums()


def test_every_day_of_a_page_is_answered_for() -> None:
    """A day that one side lacks altogether counts as one that differs."""
    author = Author("a")
    records = [author.write(created_ms=(TODAY - n) * DAY_MS) for n in range(6)]
    own, theirs = store_of(*records[:4]), store_of(*records[2:])
    talk = Conversation(own, theirs)
    assert talk.run() == Finished()
    [differing] = talk.messages(Differing)
    expected = sorted(day_of(r.header.created_ms) for r in (*records[:2], *records[4:]))
    assert [day for day, _ in differing.days] == expected
    assert own.sums() == theirs.sums()
    assert {space_of(r.header.kind, r.header.room) for r in records} == {SPACE_COMMONS}
