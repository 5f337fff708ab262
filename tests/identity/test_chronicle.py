"""The Chronicle: what is told of an agent, in which words and in which order."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import pytest
import trio

from permesh import members, schema
from permesh.async_store import AsyncStore
from permesh.errors import PermeshError
from permesh.forks import Fork
from permesh.identity.chronicle import chronicle
from permesh.identity.credential import Credential
from permesh.identity.entry import Entry, RegistrarChange, Release
from permesh.identity.owner import OwnerStatement
from permesh.identity.person import CHITIN
from permesh.identity.roster import Roster
from permesh.members import find_seat, read_chronicle
from permesh.records import Record
from permesh.store import Store

from .people import DAY_MS, RUNTIME, START_MS, Person, append, genesis, seed

MESH = genesis("chronicle", ("ann", "ben", "cleo"), 2)
ANN, BEN, CLEO, DORA, EMIL = (Person(name, MESH) for name in ("ann", "ben", "cleo", "dora", "emil"))
BY_BOTH = ", ".join(
    f"{one.name} (AGT-{number:04d})"
    for number, one in sorted(enumerate((ANN, BEN), 1), key=lambda pair: pair[1].address)
)
NOTE = "forum.post"


def named(person: Person) -> str:
    return "0x" + person.address.hex()


def decided(entry: Entry, *by: Person, at: int = START_MS) -> Entry:
    """Approved by ann and ben, unless others are named, one after the other."""
    for number, one in enumerate(by or (ANN, BEN)):
        entry = one.approves(entry, at + number)
    return entry


def change(added: Person | None, removed: Person | None, at: int = 1) -> Entry:
    new, old = (one.address if one else b"" for one in (added, removed))
    return Entry.of(RegistrarChange(new, old, at))


def says(person: Person, make: Callable[..., OwnerStatement], *more: Any, at: int) -> Entry:
    return Entry.of(make(MESH.mesh_id, person.owner, person.address, *more, at))


def grow(roster: Roster, *entries: Entry) -> Roster:
    for entry in entries:
        size = roster.log.size
        append(roster.log, ANN, entry, by=[BEN, CLEO, DORA])
        assert roster.log.size == size + 1
    return roster


def with_dora(*entries: Entry) -> Roster:
    return grow(Roster(MESH), decided(Entry.of(DORA.enrolment)), *entries)


def told_of(
    roster: Roster,
    person: Person,
    credentials: Iterable[Credential] = (),
    forks: Iterable[Fork] = (),
) -> schema.Chronicle:
    seat = roster.seat(person.address)
    assert seat is not None
    return chronicle(roster, seat, credentials, forks)


def lines(told: schema.Chronicle, kind: str) -> list[tuple[int, int, str]]:
    """Date, entry of the log and words of each event of a kind."""
    return [(one.at_ms, one.entry, one.text) for one in told.items if one.kind == kind]


# -- what is told ----------------------------------------------------------------------------------


def test_a_founder_was_named_by_the_genesis() -> None:
    told = told_of(Roster(MESH), BEN)
    assert (told.agent, told.number, told.name) == (named(BEN), "AGT-0002", "ben")
    assert told.left_out == 0
    assert [(one.kind, one.entry) for one in told.items] == [("admission", 2)]
    assert lines(told, "admission") == [
        (MESH.created_ms, 2, "named a registrar by the genesis"),
    ]


def test_of_a_member_it_is_told_who_let_it_in_and_how_its_human_was_seen() -> None:
    assert lines(told_of(with_dora(), DORA), "admission") == [
        (START_MS + 1, 4, f"admitted by {BY_BOTH}; met by the registrars who approved")
    ]
    soul = DORA.enrols(verifier=CHITIN, evidence=b"soul")
    [(_, _, text)] = lines(told_of(grow(Roster(MESH), decided(Entry.of(soul))), DORA), "admission")
    assert text.endswith("; holds a Chitin soul on Base; one human may hold several")


def test_a_title_is_told_of_those_who_got_and_lost_it_alone() -> None:
    roster = with_dora(
        decided(Entry.of(EMIL.enrolment)),
        decided(change(DORA, None), at=START_MS + 10),
        decided(change(EMIL, CLEO), at=START_MS + 20),
        decided(change(None, DORA), at=START_MS + 30),
    )
    assert lines(told_of(roster, DORA), "title") == [
        (START_MS + 11, 6, f"became a registrar, approved by {BY_BOTH}"),
        (START_MS + 31, 8, f"ceased to be a registrar, approved by {BY_BOTH}"),
    ]
    assert lines(told_of(roster, EMIL), "title") == [
        (START_MS + 21, 7, f"became a registrar, approved by {BY_BOTH}"),
    ]
    assert lines(told_of(roster, CLEO), "title") == [
        (START_MS + 21, 7, f"ceased to be a registrar, approved by {BY_BOTH}"),
    ]
    assert lines(told_of(roster, BEN), "title") == []


def test_a_suspension_and_its_end_are_told_with_their_reasons() -> None:
    roster = with_dora(
        decided(Entry.suspend(DORA.address, "Away.", 1), at=START_MS + 10),
        decided(Entry.reinstate(DORA.address, "", 2), BEN, CLEO, at=START_MS + 20),
        decided(Entry.suspend(DORA.address, "", 3), at=START_MS + 30),
    )
    by_others = ", ".join(
        f"{one.name} (AGT-{number:04d})"
        for number, one in sorted(((2, BEN), (3, CLEO)), key=lambda pair: pair[1].address)
    )
    assert lines(told_of(roster, DORA), "suspension") == [
        (START_MS + 11, 5, f"suspended by {BY_BOTH}: Away."),
        (START_MS + 21, 6, f"reinstated by {by_others}"),
        (START_MS + 31, 7, f"suspended by {BY_BOTH}"),
    ]
    assert lines(told_of(roster, ANN), "suspension") == []


def test_a_rotation_is_told_with_what_the_agent_claims_to_run() -> None:
    credentials = [DORA.credential(epoch, issued_ms=START_MS + epoch) for epoch in (1, 2)]
    claims = f"claims {RUNTIME}, hash {seed('runtime').hex()}"
    assert lines(told_of(with_dora(), DORA, credentials), "rotation") == [
        (START_MS + 1, 0, f"epoch 1 began; {claims}"),
        (START_MS + 2, 0, f"epoch 2 began; {claims}"),
    ]


@pytest.mark.parametrize("person", [DORA, ANN], ids=["a member", "a registrar"])
def test_what_an_owner_does_about_a_key_is_told_under_every_key(person: Person) -> None:
    new = Person(f"{person.name}-two", MESH, owner_name=person.name)
    roster = with_dora()
    for entry in (
        says(person, OwnerStatement.revoke, at=START_MS + 100),
        says(person, OwnerStatement.move, new.agent, at=START_MS + 200),
    ):
        append(roster.log, BEN, entry, by=[CLEO])
    assert roster.log.size == 6
    expected = [
        (START_MS + 100, 5, f"key {named(person)} revoked by its owner"),
        (START_MS + 200, 6, f"moved by its owner from {named(person)} to {named(new)}"),
    ]
    for key in (person, new):
        told = told_of(roster, key)
        assert (told.agent, told.name) == (named(new), person.name)
        assert lines(told, "key") == expected
    for other in (BEN, CLEO, EMIL if person is DORA else DORA):
        if roster.seat(other.address) is not None:
            assert lines(told_of(roster, other), "key") == []


def test_nothing_of_a_release_stands_in_anybodys_record() -> None:
    roster = with_dora(decided(Entry.of(Release("0.2.0", seed("runtime"), True, 1))))
    assert [one.kind for one in told_of(roster, ANN).items] == ["admission"]
    assert [one.kind for one in told_of(roster, DORA).items] == ["admission"]


ONE, OTHER = sorted((seed("one"), seed("other")))


def test_two_records_at_one_place_are_told_as_they_are() -> None:
    fork = Fork(DORA.address, 7, ONE, OTHER)
    words = f"signed two records at 7 of its chain: {ONE.hex()} and {OTHER.hex()}"
    assert lines(told_of(with_dora(), DORA, forks=[fork]), "fault") == [
        (0, 0, f"{words}; not repaired")
    ]
    repair = says(DORA, OwnerStatement.repair, 7, OTHER, at=START_MS + 5)
    told = told_of(with_dora(repair), DORA, forks=[fork])
    assert lines(told, "fault") == [(0, 0, f"{words}; its owner chose {OTHER.hex()}")]
    elsewhere = says(DORA, OwnerStatement.repair, 8, OTHER, at=START_MS + 5)
    told = told_of(with_dora(elsewhere), DORA, forks=[fork])
    assert lines(told, "fault") == [(0, 0, f"{words}; not repaired")]


def test_a_repair_is_told_as_the_owners_act() -> None:
    roster = with_dora(says(DORA, OwnerStatement.repair, 7, ONE, at=START_MS + 5))
    assert lines(told_of(roster, DORA), "key") == [
        (START_MS + 5, 5, f"chain repaired by its owner at 7 with {ONE.hex()}")
    ]


def test_a_witness_that_signed_twice_is_told_on() -> None:
    roster = Roster(MESH)
    log = roster.log
    first, second = (log.checkpoint([decided(Entry.of(one.enrolment))], 0) for one in (DORA, EMIL))
    log.add_vote(CLEO.votes(first))
    log.add_vote(ANN.votes(second))
    assert lines(told_of(roster, CLEO), "fault") == []
    log.add_vote(CLEO.votes(log.checkpoint([decided(Entry.of(EMIL.enrolment))], 1)))
    assert lines(told_of(roster, CLEO), "fault") == []  # in another attempt it may
    log.add_vote(CLEO.votes(second))
    assert lines(told_of(roster, CLEO), "fault") == [
        (
            0,
            0,
            "signed two checkpoints after entry 3 of the log: "
            f"{first.root.hex()} and {second.root.hex()}",
        )
    ]
    assert lines(told_of(roster, ANN), "fault") == []


# -- in which order --------------------------------------------------------------------------------


def everything_of(person: Person) -> tuple[Roster, Person, list[Credential], list[Fork]]:
    roster = with_dora(
        decided(Entry.suspend(person.address, "Away.", 1), at=START_MS + 10),
        says(person, OwnerStatement.revoke, at=START_MS + 5),  # said before, heard later
        decided(Entry.reinstate(person.address, "", 2), at=START_MS + 20),
    )
    credentials = [
        person.credential(epoch, issued_ms=START_MS + at) for epoch, at in enumerate((1, 30, 11), 1)
    ]
    forks = [Fork(person.address, seq, ONE, OTHER) for seq in (3, 12)]
    return roster, person, credentials, forks


def test_it_is_told_in_the_order_of_the_dates() -> None:
    told = told_of(*everything_of(DORA)).items
    assert [(one.at_ms, one.kind, one.entry) for one in told] == [
        (0, "fault", 0),
        (0, "fault", 0),
        (START_MS + 1, "rotation", 0),
        (START_MS + 1, "admission", 4),
        (START_MS + 5, "key", 6),
        (START_MS + 11, "rotation", 0),
        (START_MS + 11, "suspension", 5),
        (START_MS + 21, "suspension", 7),
        (START_MS + 30, "rotation", 0),
    ]


def test_the_order_in_which_things_were_found_changes_nothing() -> None:
    roster, person, credentials, forks = everything_of(DORA)
    expected = told_of(roster, person, credentials, forks)
    random = Random(7)
    for _ in range(10):
        random.shuffle(credentials)
        random.shuffle(forks)
        assert told_of(roster, person, credentials, forks) == expected


# -- from a store ----------------------------------------------------------------------------------


@dataclass
class Kept:
    """A roster, and a database that holds what its members wrote."""

    roster: Roster
    path: Path

    def save(self, *records: Record) -> None:
        store = Store(self.path)
        store.save(records, START_MS)
        store.close()

    def append(self, person: Person, branch: bytes) -> Record:
        """One more record of a chain that was repaired with ``branch``."""
        store = Store(self.path)
        record = store.append(
            person.address,
            lambda head: note(person, b"more", seq=head.seq + 1, prev=head.id),
            START_MS,
            branch,
        )
        store.close()
        return record

    def read(self, reference: str) -> schema.Chronicle:
        async def read() -> schema.Chronicle:
            store = await AsyncStore.open(self.path)
            try:
                return await read_chronicle(store, self.roster, reference)
            finally:
                await store.aclose()

        return trio.run(read)


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    return Kept(with_dora(), tmp_path / "permesh.db")


def dora() -> Person:
    """At the beginning of her chain."""
    return Person("dora", MESH)


def note(person: Person, body: bytes, **place: Any) -> Record:
    return person.write(NOTE, body, **place)


def rotations(person: Person, *epochs: int) -> list[Record]:
    return [
        person.write(
            "identity.credential",
            person.credential(epoch, issued_ms=START_MS + epoch * DAY_MS).encode(),
            epoch=epoch,
        )
        for epoch in epochs
    ]


def epochs(told: schema.Chronicle) -> list[str]:
    return [text.split()[1] for _, _, text in lines(told, "rotation")]


def test_credentials_and_forks_are_read_from_the_store(kept: Kept) -> None:
    person = dora()
    written = [*rotations(person, 1), note(person, b"hello"), *rotations(person, 2)]
    other = note(person, b"another", seq=1, prev=written[0].id)
    kept.save(*written, other, *rotations(Person("ben", MESH), 1, 2, 3))
    told = kept.read("dora")
    assert epochs(told) == ["1", "2"]
    assert [text.partition(":")[0] for _, _, text in lines(told, "fault")] == [
        "signed two records at 1 of its chain"
    ]
    assert epochs(kept.read("ben")) == ["1", "2", "3"]
    assert epochs(kept.read("ann")) == []


def test_what_was_signed_with_a_former_key_belongs_to_it_still(kept: Kept) -> None:
    old, new = dora(), Person("dora-two", MESH, owner_name="dora")
    first = note(old, b"hello", epoch=1)
    kept.save(first, note(old, b"other", seq=0, prev=b""), *rotations(old, 1), *rotations(new, 2))
    grow(kept.roster, says(DORA, OwnerStatement.move, new.agent, at=START_MS))
    for reference in ("dora", named(old), named(new)):
        told = kept.read(reference)
        assert (told.agent, epochs(told)) == (named(new), ["1", "2"])
        assert len(lines(told, "fault")) == 1


def left_out(kept: Kept, count: int) -> tuple[list[str], int]:
    new = Person("dora-two", MESH, owner_name="dora")  # from the third epoch on
    kept.save(*rotations(dora(), 1, 2), *rotations(new, *range(3, count + 1)))
    grow(kept.roster, says(DORA, OwnerStatement.move, new.agent, at=START_MS))
    told = kept.read("dora")
    return epochs(told), told.left_out


@pytest.mark.parametrize(("count", "first", "missing"), [(3, 1, 0), (4, 1, 0), (5, 2, 1)])
def test_of_many_rotations_the_newest_are_told(
    kept: Kept, monkeypatch: pytest.MonkeyPatch, count: int, first: int, missing: int
) -> None:
    monkeypatch.setattr(members, "MAX_ROTATIONS", 4)
    shown = [str(epoch) for epoch in range(first, count + 1)]
    assert left_out(kept, count) == (shown, missing)


def test_all_that_are_left_out_are_counted(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(members, "MAX_ROTATIONS", 4)
    assert left_out(kept, 9) == (["6", "7", "8", "9"], 5)


def forked(kept: Kept) -> tuple[Person, list[Record]]:
    """Dora's chain goes on in two ways at 1; returns the shorter one."""
    person = dora()
    written = [*rotations(person, 1), *(note(person, b"hello") for _ in range(4))]
    chosen = note(person, b"chosen", seq=1, prev=written[0].id)
    kept.save(*written, chosen)
    grow(kept.roster, says(DORA, OwnerStatement.repair, 1, chosen.id, at=START_MS))
    return person, [chosen]


def test_a_fork_that_its_owner_repaired_is_told_so(kept: Kept) -> None:
    _, [chosen] = forked(kept)
    [(_, _, fault)] = lines(kept.read("dora"), "fault")
    assert fault.startswith("signed two records at 1 of its chain: ")
    assert fault.endswith(f"; its owner chose {chosen.id.hex()}")


def test_a_chain_that_goes_on_after_a_repair_is_not_called_forked_again(kept: Kept) -> None:
    person, [chosen] = forked(kept)
    for _ in range(6):
        kept.append(person, chosen.id)
    faults = [text for _, _, text in lines(kept.read("dora"), "fault")]
    assert [text for text in faults if "not repaired" in text] == []


@pytest.mark.parametrize(
    "beyond",
    [
        False,
        True,
    ],
    ids=["beside the old branch", "beyond it"],
)
def test_a_chain_that_forks_again_is_told_on_again(kept: Kept, beyond: bool) -> None:
    person, [chosen] = forked(kept)
    for _ in range(6 if beyond else 2):
        last = kept.append(person, chosen.id)
    seq = last.header.seq
    again = note(person, b"again", seq=seq, prev=last.header.prev)
    kept.save(again)
    faults = [text for _, _, text in lines(kept.read("dora"), "fault")]
    one, other = sorted((last.id, again.id))
    words = f"signed two records at {seq} of its chain: {one.hex()} and {other.hex()}; not repaired"
    assert words in faults
    assert len(faults) == 2


@pytest.mark.parametrize("order", range(6))
def test_whatever_came_first_the_same_is_told(tmp_path: Path, order: int) -> None:
    told = []
    for number in range(2):
        kept = Kept(with_dora(), tmp_path / f"{number}.db")
        person = dora()
        written = [*rotations(person, 1), *(note(person, b"hello") for _ in range(4))]
        chosen = [note(person, b"chosen", seq=1, prev=written[0].id)]
        for at in range(3):
            chosen.append(note(person, b"more", seq=2 + at, prev=chosen[-1].id))
        grow(kept.roster, says(DORA, OwnerStatement.repair, 1, chosen[0].id, at=START_MS))
        records = written + chosen
        if number:
            Random(order).shuffle(records)
        for record in records:
            kept.save(record)
        told.append(kept.read("dora"))
    assert told[0] == told[1]


# -- of whom ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "reference",
    ["dora", "DORA", "AGT-0004", "agt-0004", named(DORA), named(DORA).upper(), named(DORA)[:6]],
)
def test_a_member_is_found_by_what_people_call_it(kept: Kept, reference: str) -> None:
    assert kept.read(reference).number == "AGT-0004"


@pytest.mark.parametrize("reference", ["", "0x", "dor", "AGT-4", "AGT-0005", "emil", named(EMIL)])
def test_whoever_is_no_member_has_no_chronicle(kept: Kept, reference: str) -> None:
    with pytest.raises(PermeshError) as caught:
        kept.read(reference)
    assert (caught.value.code, caught.value.http_status) == ("members.unknown", 404)


def called(name: str, agent: str) -> Person:
    """Another person whose agent is called ``name``."""
    person = Person(agent, MESH)
    person.name = name
    person.enrolment = person.enrols(person=seed(agent))
    return person


def test_a_name_that_two_bear_stands_for_neither() -> None:
    twin = called("dora", "twin")
    roster = with_dora(decided(Entry.of(twin.enrolment)))
    with pytest.raises(PermeshError) as caught:
        find_seat(roster, "dora")
    assert (caught.value.code, caught.value.http_status) == ("members.ambiguous", 409)
    assert find_seat(roster, "AGT-0005").agent == twin.address


def test_a_name_like_a_number_does_not_stand_before_the_number() -> None:
    roster = with_dora(decided(Entry.of(called("agt-0001", "sly").enrolment)))
    assert find_seat(roster, "AGT-0001").agent == ANN.address
    assert find_seat(roster, "agt-0001").agent == ANN.address


def test_a_name_like_the_beginning_of_an_address_stands_for_neither() -> None:
    sly = called(named(DORA)[:10], "sly")
    with pytest.raises(PermeshError) as caught:
        find_seat(with_dora(decided(Entry.of(sly.enrolment))), named(DORA)[:10])
    assert caught.value.code == "members.ambiguous"
