"""Records are kept, kept waiting or refused, and what waits is bounded."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from permesh.errors import Refused
from permesh.p2p import limits
from permesh.p2p.intake import Intake
from permesh.records import Record
from tests.simulator import CREDENTIAL, REMOVAL, REMOVALS, START_MS, Author, CheapRoster


def door(roster: CheapRoster | None = None) -> Intake:
    return Intake(roster or CheapRoster(), no_format, REMOVALS)


def no_format(_record: Record) -> None:
    """Every body is in form."""


def refusal(intake: Intake, record: Record) -> str:
    with pytest.raises(Refused) as caught:
        intake.judge(record, "peer", START_MS)
    return caught.value.code


def test_a_record_waits_for_its_credential_and_is_judged_again() -> None:
    roster = CheapRoster()
    intake = door(roster)
    author = Author("a")
    credential, note = author.credential(), author.write()
    assert not intake.judge(note, "peer", START_MS)
    assert not intake.judge(note, "peer", START_MS)
    assert intake.waiting == 1
    assert intake.judge(credential, "peer", START_MS)
    roster.apply(credential)
    assert intake.release() == [("peer", note)]
    assert intake.waiting == 0
    assert intake.judge(note, "peer", START_MS)
    assert intake.release() == []


def test_what_is_forged_is_refused_and_does_not_wait() -> None:
    author = Author("a")
    intake = door(CheapRoster([author.credential()]))
    note = author.write()
    forged = Record.from_wire([note.header_bytes, bytes(64), note.body])
    assert refusal(intake, forged) == "record.signature"
    assert intake.waiting == 0


def test_a_forged_copy_does_not_keep_the_true_record_out_of_the_pool() -> None:
    author = Author("a")
    intake = door()
    note = author.write()
    forged = Record.from_wire([note.header_bytes, bytes(64), note.body])
    assert not intake.judge(forged, "evil", START_MS)
    assert not intake.judge(note, "peer", START_MS)
    assert [record for _, record in intake.release()] == [forged, note]


def test_a_record_from_the_future_is_nobodys_fault_and_is_not_kept() -> None:
    class Ahead(CheapRoster):
        def check(self, record: Record, now_ms: int) -> None:  # noqa: ARG002 - the roster's form
            raise Refused("record.from_future", "Later.")

    intake = door(Ahead())
    assert not intake.judge(Author("a").write(), "peer", START_MS)
    assert intake.waiting == 0


def test_the_format_of_a_body_is_checked_after_the_signature() -> None:
    def check(_record: Record) -> None:
        raise Refused("forum.post", "Not in form.")

    author = Author("a")
    intake = Intake(CheapRoster([author.credential()]), check)
    assert refusal(intake, author.write()) == "forum.post"
    assert not intake.judge(Author("stranger").write(), "peer", START_MS)


def test_one_peer_cannot_fill_the_pool() -> None:
    intake = door()
    author = Author("a")
    for _ in range(limits.LATER_PER_PEER + 10):
        assert not intake.judge(author.write(), "evil", START_MS)
    assert intake.waiting == limits.LATER_PER_PEER
    intake.judge(author.write(), "peer", START_MS)
    assert intake.waiting == limits.LATER_PER_PEER + 1
    assert len(intake.release()) == limits.LATER_PER_PEER + 1
    intake.judge(author.write(), "evil", START_MS)
    assert intake.waiting == 1


def test_the_pool_drops_its_oldest_at_its_limit() -> None:
    intake = door()
    author = Author("a")
    records = [author.write() for _ in range(limits.LATER_RECORDS + 5)]
    for number, record in enumerate(records):
        intake.judge(record, f"peer {number % 50}", START_MS)
    assert [record for _, record in intake.release()] == records[5:]


def test_the_pool_is_bounded_in_bytes() -> None:
    intake = door()
    author = Author("a")
    number = limits.LATER_BYTES // (32 * 1024) + 10
    for n in range(number):
        intake.judge(author.write(bytes(32 * 1024)), f"peer {n % 50}", START_MS)
    held = sum(len(r.body or b"") for _, r in intake.release())
    assert limits.LATER_BYTES - 80_000 <= held <= limits.LATER_BYTES


# -- records without their bodies ------------------------------------------------------------------

ROOM = b"r" * 32


def bare(record: Record, removal: Record | None = None) -> list[Any]:
    """The record as it travels without its body."""
    return [record.header_bytes, record.signature, removal and removal.to_wire()]


def taking(author: Author, *targets: Record, **fields: Any) -> Record:
    """What takes the records back, if nothing is said otherwise."""
    values = {"kind": REMOVAL, "room": ROOM, "parents": tuple(t.id for t in targets), **fields}
    return author.write(b"taken back", **values)


def test_a_record_without_its_body_is_refused() -> None:
    note = Author("a").write()
    with pytest.raises(Refused) as caught:
        door().open(bare(note))
    assert caught.value.code == "record.body_missing"
    assert door().open(note.to_wire()) == note


def test_a_record_whose_author_took_it_back_is_whole_without_its_body() -> None:
    author = Author("a")
    note = author.write(b"secret", room=ROOM)
    removal = taking(author, note)
    record = door().open(bare(note, removal))
    assert (record.id, record.body, record.removal) == (note.id, None, removal)
    intake = door()
    assert not intake.judge(record, "peer", START_MS)  # a credential is awaited, as for any other
    intake = door(CheapRoster([author.credential()]))
    assert intake.judge(record, "peer", START_MS)


@pytest.mark.parametrize(
    "removal",
    [
        lambda _author, note: taking(Author("b"), note),  # another author's
        lambda author, note: taking(author, note, room=b"s" * 32),  # of another room
        lambda author, note: taking(author, note, room=b""),
        lambda author, note: taking(author, note, mesh=b"m" * 32),  # of another mesh
        lambda author, note: taking(author, note, kind="test.note"),  # of another kind
        lambda author, _note: taking(author, author.write()),  # of another record
        lambda author, _note: taking(author),
    ],
)
def test_a_body_is_missed_unless_its_own_author_took_it_back(removal: Any) -> None:
    author = Author("a")
    note = author.write(room=ROOM)
    with pytest.raises(Refused) as caught:
        door().open(bare(note, removal(author, note)))
    assert caught.value.code == "record.body_missing"


@pytest.mark.parametrize("kind", [CREDENTIAL, "identity.request", "forum.room", REMOVAL])
def test_what_nobody_may_take_back_comes_with_its_body(kind: str) -> None:
    author = Author("a")
    record = author.write(b"needed", kind, ROOM)
    with pytest.raises(Refused) as caught:
        door().open(bare(record, taking(author, record)))
    assert caught.value.code == "record.body_missing"
    with pytest.raises(Refused):  # where nothing may be taken back, nothing is
        Intake(CheapRoster(), no_format).open(bare(author.write(), taking(author, record)))


def test_a_removal_comes_with_its_own_body() -> None:
    author = Author("a")
    note = author.write(room=ROOM)
    removal = taking(author, note)
    wire = bare(note, removal)
    for rest in (None, bare(removal), 7, b""):
        wire[2] = [removal.header_bytes, removal.signature, rest]
        with pytest.raises(Refused):
            door().open(wire)
    deep = note.to_wire()
    for _ in range(20):
        deep = [note.header_bytes, note.signature, deep]
    with pytest.raises(Refused):
        door().open(deep)


def test_both_signatures_are_checked() -> None:
    author = Author("a")
    note = author.write(room=ROOM)
    removal = taking(author, note)
    intake = door(CheapRoster([author.credential()]))
    forged = [removal.header_bytes, bytes(64), removal.body]
    record = intake.open([note.header_bytes, note.signature, forged])
    assert refusal(intake, record) == "record.signature"
    record = intake.open([note.header_bytes, bytes(64), removal.to_wire()])
    assert refusal(intake, record) == "record.signature"
    assert intake.waiting == 0


def test_the_removals_format_is_checked_and_what_is_left_of_a_record_without_a_body() -> None:
    checked: list[Record] = []

    def check(record: Record) -> None:
        checked.append(record)
        if record.body == b"odd":
            raise Refused("forum.removal", "Not in form.")

    author = Author("a")
    note = author.write(room=ROOM)
    good, odd = taking(author, note), author.write(b"odd", REMOVAL, ROOM, parents=(note.id,))
    intake = Intake(CheapRoster([author.credential()]), check, REMOVALS)
    taken, strange = intake.open(bare(note, good)), intake.open(bare(note, odd))
    assert intake.judge(taken, "peer", START_MS)
    assert refusal(intake, strange) == "forum.removal"
    assert checked == [taken, good, strange, odd]


@settings(max_examples=60, deadline=None)
@given(
    st.recursive(
        st.none() | st.integers(0, 3) | st.binary(max_size=70) | st.text(max_size=3),
        lambda inner: st.lists(inner, max_size=4),
    )
)
def test_only_refused_leaves_the_door(wire: Any) -> None:
    with pytest.raises(Refused):
        door().open(wire)
