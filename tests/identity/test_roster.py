"""The roster: what members' records say together, whatever the order in which they come."""

from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from permesh.errors import Refused
from permesh.identity import undecided
from permesh.identity.entry import Entry, RegistrarChange, Release, Resolution
from permesh.identity.genesis import Genesis
from permesh.identity.owner import OwnerStatement
from permesh.identity.registry import APPROVALS_SPAN_MS
from permesh.identity.roster import (
    APPROVAL,
    CREDENTIALS_PER_EPOCH,
    STATEMENTS_PER_KEY,
    Roster,
)
from permesh.records import Record

from .people import START_MS, Person, append, genesis, seed, wallet

NOW = START_MS + 60_000
MESH = genesis()
OF_THREE = genesis("three", ("ann", "ben", "cleo"), 2)


def folded(*records: Record, mesh: Genesis = MESH) -> Roster:
    """Each is checked before it is taken in, as everywhere else."""
    roster = Roster(mesh)
    for record in records:
        roster.check(record, NOW)
        roster.apply(record)
    return roster


@pytest.fixture
def ann() -> Person:
    return Person("ann")


@pytest.fixture
def ben() -> Person:
    return Person("ben")


@pytest.fixture
def roster(ann: Person, ben: Person) -> Roster:
    return folded(ann.shows(), ben.shows())


def three() -> tuple[Roster, Person, Person, Person]:
    """Of these, two decide."""
    people = [Person(name, OF_THREE) for name in ("ann", "ben", "cleo")]
    return folded(*(one.shows() for one in people), mesh=OF_THREE), *people


def let_in(roster: Roster, *people: Person) -> None:
    append(roster.log, Person("ann"), *map(Person("ann").admits, people), by=[Person("ben")])
    assert all(roster.member(one.address) for one in people)


def release(at: int) -> Entry:
    return Entry.of(Release("0.2.0", seed("runtime"), True, at))


# -- members ---------------------------------------------------------------------------------------


def test_founders_are_members_before_any_record() -> None:
    roster = Roster(MESH)
    assert [(one.number, one.name, one.is_registrar) for one in roster.members()] == [
        (1, "ann", True),
        (2, "ben", True),
    ]
    ann = roster.member(wallet("ann agent").address)
    assert ann is not None
    assert (ann.seat.owner, ann.credential, ann.revoked) == (
        wallet("ann owner").address,
        None,
        False,
    )


def test_a_member_comes_in_by_registrars_records(ann: Person, ben: Person, roster: Roster) -> None:
    cleo = Person("cleo")
    request = ann.heard(cleo)
    roster.check(request, NOW)
    assert roster.apply(request) == [ann.address, cleo.address]
    assert [one.enrolment.agent for one in roster.pending(NOW)] == [cleo.address]
    entry = Entry.of(cleo.enrolment)
    approval = ann.approval(entry)
    roster.check(approval, NOW)
    assert roster.apply(approval) == [ann.address]
    assert (roster.undecided(), roster.ready()) == ([entry], [ann.admits(cleo)])
    proposal = ann.proposes(roster.log, roster.ready())
    for record, about in (
        (ann.batch(proposal), [ann.address]),
        (ben.vote(proposal.checkpoint), [ben.address, cleo.address]),
    ):
        assert roster.member(cleo.address) is None
        roster.check(record, NOW)
        assert roster.apply(record) == about
    member = roster.member(cleo.address)
    assert member is not None
    assert (member.number, member.name, member.is_registrar) == (3, "cleo", False)
    assert member.seat.approved_by == (ann.address,)
    assert (roster.pending(NOW), roster.undecided(), roster.ready()) == ([], [], [])
    # A late approval of what is decided says nothing new.
    roster.apply(ben.approval(entry))
    assert roster.undecided() == []


def test_a_moved_id_keeps_its_number_and_its_former_key_leads_to_it(roster: Roster) -> None:
    cleo, after = Person("cleo"), Person("cleo-two", owner_name="cleo")
    let_in(roster, cleo)
    said = OwnerStatement.move(MESH.mesh_id, cleo.owner, cleo.address, after.agent, START_MS)
    record = Person("ann").tells(said)
    assert roster.apply(record) == [wallet("ann agent").address, cleo.address, after.address]
    assert roster.member(after.address) is None
    assert roster.ready() == [Entry.of(said)]
    append(roster.log, Person("ann"), *roster.ready(), by=[Person("ben")])
    assert roster.ready() == []
    roster.apply(after.shows())
    member = roster.member(after.address)
    assert member is not None
    assert (member.number, member.agent, member.credential) == (
        3,
        after.address,
        after.credential(),
    )
    assert roster.member(cleo.address) == member
    assert [one.number for one in roster.members()] == [1, 2, 3]


# -- what owners say -------------------------------------------------------------------------------


def test_a_revocation_counts_at_once_if_it_is_the_owners(ann: Person, roster: Roster) -> None:
    cleo, eve = Person("cleo"), Person("eve")
    let_in(roster, cleo)
    false = OwnerStatement.revoke(MESH.mesh_id, eve.owner, cleo.address, START_MS)
    assert roster.apply(ann.tells(false)) == [ann.address]
    member = roster.member(cleo.address)
    assert member is not None
    assert not member.revoked
    assert roster.ready() == []
    true = OwnerStatement.revoke(MESH.mesh_id, cleo.owner, cleo.address, START_MS)
    assert not roster.knows(true)
    assert roster.apply(ann.tells(true)) == [ann.address, cleo.address]
    assert roster.knows(true)
    member = roster.member(cleo.address)
    assert member is not None
    assert (member.revoked, member.seat.revoked) == (True, False)
    # The log hears of it later, and then says so itself.
    assert roster.ready() == [Entry.of(true)]
    append(roster.log, ann, *roster.ready(), by=[Person("ben")])
    member = roster.member(cleo.address)
    assert member is not None
    assert member.seat.revoked


def test_it_may_come_before_the_log_knows_whose_agent_it_is(ann: Person, roster: Roster) -> None:
    cleo, dora = Person("cleo"), Person("dora")
    for one, owner in ((cleo, cleo.owner), (dora, wallet("eve owner"))):
        said = OwnerStatement.revoke(MESH.mesh_id, owner, one.address, START_MS)
        roster.apply(ann.tells(said))
    assert roster.ready() == []
    let_in(roster, cleo, dora)
    assert [(one.name, one.revoked) for one in roster.members()[2:]] == [
        ("cleo", True),
        ("dora", False),
    ]
    assert roster.log.plan(roster.ready()) == [
        Entry.of(OwnerStatement.revoke(MESH.mesh_id, cleo.owner, cleo.address, START_MS))
    ]


@pytest.mark.parametrize("known", [True, False])
def test_what_is_said_of_one_key_is_bounded(known: bool, ann: Person, roster: Roster) -> None:
    cleo = Person("cleo")
    if known:
        let_in(roster, cleo)
    for at in range(STATEMENTS_PER_KEY + 5):
        said = OwnerStatement.revoke(MESH.mesh_id, cleo.owner, cleo.address, START_MS + at)
        roster.apply(ann.tells(said))
    if not known:
        let_in(roster, cleo)
    assert len(roster.ready()) == STATEMENTS_PER_KEY


def test_what_others_say_of_a_key_does_not_silence_its_owner(ann: Person, roster: Roster) -> None:
    cleo, eve = Person("cleo"), Person("eve")
    true = OwnerStatement.revoke(MESH.mesh_id, cleo.owner, cleo.address, START_MS)
    false = [
        said
        for at in range(50)
        if (said := OwnerStatement.revoke(MESH.mesh_id, eve.owner, cleo.address, at)).digest
        < true.digest
    ]
    assert len(false) >= STATEMENTS_PER_KEY
    for said in false:  # as long as nobody knows whose agent it is
        roster.apply(ann.tells(said))
    let_in(roster, cleo)
    roster.apply(ann.tells(true))
    assert roster.is_revoked(cleo.address, cleo.owner.address)


# -- what registrars decide ------------------------------------------------------------------------


def test_an_entry_is_ready_once_enough_have_approved_it() -> None:
    roster, ann, ben, cleo = three()
    dora = Person("dora", OF_THREE)
    entry = Entry.of(dora.enrolment)
    roster.apply(ann.approval(entry))
    assert (roster.approvals(entry), roster.ready()) == (frozenset({ann.address}), [])
    roster.apply(ann.approval(entry))  # the same again
    roster.apply(dora.approval(entry))  # nobody's
    assert (roster.approvals(entry), roster.ready()) == (frozenset({ann.address}), [])
    roster.apply(cleo.approval(entry))
    assert roster.ready() == [cleo.approves(ann.approves(entry))]
    roster.apply(ben.approval(entry))
    assert roster.ready() == [ben.approves(cleo.approves(ann.approves(entry)))]
    assert roster.log.plan(roster.ready()) == roster.ready()
    assert roster.undecided()[0].digest == entry.digest


def test_who_may_not_decide_any_more_is_not_counted() -> None:
    roster, ann, ben, cleo = three()
    for one in (ann, ben):
        roster.apply(one.approval(release(1)))
    revoked = OwnerStatement.revoke(OF_THREE.mesh_id, ben.owner, ben.address, START_MS)
    append(roster.log, ann, Entry.of(revoked), by=[cleo])
    assert roster.approvals(release(1)) == {ann.address}
    assert roster.ready() == []
    roster.apply(cleo.approval(release(1)))
    assert roster.log.plan(roster.ready()) == [cleo.approves(ann.approves(release(1)))]


def dated(roster: Roster, entry: Entry, *approvals: tuple[Person, int]) -> None:
    for person, at in approvals:
        roster.apply(person.write(APPROVAL, person.approves(entry, at).encode()))


def test_an_approval_that_lapsed_keeps_no_others_from_counting() -> None:
    roster, ann, ben, cleo = three()
    late = START_MS + APPROVALS_SPAN_MS + 1
    dated(roster, release(1), (ann, START_MS), (ben, late))
    assert roster.ready() == []
    dated(roster, release(1), (cleo, late + 1))
    (ready,) = roster.ready()
    assert {one.registrar for one in ready.approvals} == {ben.address, cleo.address}
    assert roster.log.plan([ready]) == [ready]


def test_nobody_stops_the_others_with_a_date_far_ahead() -> None:
    roster, ann, ben, cleo = three()
    dated(roster, release(1), (ann, START_MS), (ben, START_MS + 1), (cleo, 2**62))
    assert roster.log.plan(roster.ready())


def test_nobody_stops_its_own_removal_by_approving_it() -> None:
    roster, ann, ben, cleo = three()
    removal = Entry.of(RegistrarChange(b"", cleo.address, START_MS))
    for one in (ann, ben, cleo):
        roster.apply(one.approval(removal))
    assert roster.log.plan(roster.ready())


def test_nobody_pushes_out_what_others_approve(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(undecided, "UNDECIDED", 8)
    roster, ann, ben, cleo = three()
    for at in range(20):
        dated(roster, release(at), (cleo, 2**62))
    dated(roster, release(99), (ann, START_MS), (ben, START_MS))
    assert roster.log.plan(roster.ready())


def test_of_two_approvals_by_one_registrar_the_same_one_counts_everywhere() -> None:
    found = []
    for dates in ((START_MS, START_MS + 1), (START_MS + 1, START_MS)):
        roster, ann, ben, _ = three()
        dated(roster, release(1), *((ann, at) for at in dates), (ben, START_MS))
        found.append(roster.ready())
    assert found[0] == found[1]


def test_a_release_that_stands_in_the_log_waits_no_more(ann: Person, roster: Roster) -> None:
    roster.apply(ann.approval(release(1)))
    batch = ann.proposes(roster.log, roster.ready())
    for record in (ann.batch(batch), Person("ben").vote(batch.checkpoint)):
        roster.apply(record)
    assert roster.log.registry.releases[seed("runtime")].accepted
    assert (roster.undecided(), roster.ready()) == ([], [])


def test_what_owners_say_comes_first(ann: Person, roster: Roster) -> None:
    cleo = Person("cleo")
    let_in(roster, cleo)
    said = OwnerStatement.revoke(MESH.mesh_id, cleo.owner, cleo.address, START_MS)
    for at in (3, 1, 2):
        dated(roster, release(at), (ann, START_MS + at))
    roster.apply(ann.tells(said))
    assert roster.ready() == [
        Entry.of(said),
        *(ann.approves(release(at), START_MS + at) for at in (1, 2, 3)),
    ]
    assert [one.digest for one in roster.undecided()] == [release(at).digest for at in (1, 2, 3)]


def torn(mesh: Genesis) -> tuple[list[Record], list[Record], list[Entry]]:
    """Records of two branches: ann signs both, with ben and with cleo."""
    _, ann, ben, cleo = three()
    entries = [Entry.of(Person(name, mesh).enrolment) for name in ("dora", "emil")]
    base = [one.approval(entry) for entry in entries for one in (ann, ben, cleo)]
    log, branches = Roster(mesh).log, list[Record]()
    for entry, by in zip(entries, (ben, cleo), strict=True):
        batch = ann.proposes(log, [by.approves(ann.approves(entry))])
        branches += [ann.batch(batch), by.vote(batch.checkpoint)]
    return base, branches, entries


def test_what_was_undone_waits_again() -> None:
    base, branches, entries = torn(OF_THREE)
    waiting = []
    for order in (branches, branches[2:] + branches[:2]):
        roster = Roster(OF_THREE)
        for record in (*base, *order):
            roster.apply(record)
        assert roster.log.contradiction is not None
        waiting.append([one.digest for one in roster.undecided()])
    (taken,) = {entry.digest for entry in entries} & {roster.log.entry(4).digest}
    assert waiting == [[entry.digest for entry in entries if entry.digest != taken]] * 2


def test_registrars_choose_a_branch_by_approvals() -> None:
    base, branches, _ = torn(OF_THREE)
    roster = Roster(OF_THREE)
    for record in (*base, *branches):
        roster.apply(record)
    found = roster.log.contradiction
    assert found is not None
    for certificate in (found.other, found.one):
        one = certificate.checkpoint
        chosen = Entry.of(Resolution(one.base_size, one.base_root, one.root))
        fresh = Roster(OF_THREE)
        for record in (*base, *branches):
            fresh.apply(record)
        for person in (Person("ben", OF_THREE), Person("cleo", OF_THREE)):
            assert fresh.log.contradiction is not None
            fresh.apply(person.approval(chosen))
        assert (fresh.log.contradiction, fresh.log.root) == (None, one.root)
        assert chosen.digest not in {entry.digest for entry in fresh.ready()}


# -- order -----------------------------------------------------------------------------------------


def history() -> list[Record]:
    """A small mesh: members come, one decides, one moves, one is revoked; and some nonsense."""
    ann, ben, cleo, dora = (Person(name) for name in ("ann", "ben", "cleo", "dora"))
    after = Person("cleo-two", owner_name="cleo")
    roster, records = Roster(MESH), list[Record]()

    def say(*some: Record) -> None:
        for record in some:
            records.append(record)
            roster.apply(record)

    def decide(*by: Person) -> None:
        """What is ready, proposed by the first in force and cosigned by the others."""
        batch = by[0].proposes(roster.log, roster.log.plan(roster.ready()))
        say(by[0].batch(batch), *(one.vote(batch.checkpoint) for one in by[1:]))

    say(ann.shows(), ben.shows(), ann.shows(2), ann.heard(cleo), ben.heard(dora))
    say(*(ben.shows(3, which) for which in range(CREDENTIALS_PER_EPOCH + 2)))
    say(ann.approval(Entry.of(cleo.enrolment)), ben.approval(Entry.of(cleo.enrolment)))
    say(ann.approval(Entry.of(dora.enrolment)), ben.heard(Person("emil")))
    decide(ann, ben)
    say(cleo.shows(), cleo.heard(Person("emil")), dora.shows())
    say(ben.approval(Entry.of(RegistrarChange(cleo.address, b"", 1))))
    decide(ann, ben)
    said = OwnerStatement.move(MESH.mesh_id, cleo.owner, cleo.address, after.agent, START_MS)
    say(dora.tells(said), cleo.approval(release(1)))
    say(dora.tells(OwnerStatement.revoke(MESH.mesh_id, ben.owner, cleo.address, START_MS)))
    decide(ann, cleo)
    say(after.shows(), after.approval(release(2)), ann.approval(release(3)))
    say(ann.tells(OwnerStatement.revoke(MESH.mesh_id, dora.owner, dora.address, START_MS)))
    say(ann.batch(ann.proposes(roster.log, [ann.approves(release(3))])))
    return records


HISTORY = history()
AGENTS = sorted({record.header.author for record in HISTORY})


def told(roster: Roster) -> Any:
    """Everything on which members are to agree."""
    return (
        roster.members(),
        roster.pending(NOW),
        roster.undecided(),
        roster.log.plan(roster.ready()),
        (roster.log.size, roster.log.root, roster.log.contradiction),
        roster._sessions,
        [(agent, roster.member(agent), roster.credential(agent)) for agent in AGENTS],
    )


def test_the_history_is_full_of_everything() -> None:
    roster = folded(*HISTORY)
    assert [(one.name, one.is_registrar, one.revoked) for one in roster.members()] == [
        ("ann", True, False),
        ("ben", True, False),
        ("cleo", True, False),
        ("dora", False, True),
    ]
    assert roster.log.size == 6
    assert len(roster.undecided()) == 3
    assert len(roster.pending(NOW)) == 1
    assert len(roster.log.plan(roster.ready())) == 3


@settings(deadline=None, max_examples=40)
@given(st.permutations(range(len(HISTORY))), st.randoms(use_true_random=False))
def test_the_same_records_in_any_order_make_the_same_roster(
    order: list[int], random: Random
) -> None:
    roster = Roster(MESH)
    for at in [*order, *random.sample(order, 6)]:  # some twice
        roster.apply(HISTORY[at])
        if random.random() < 0.1:
            roster.members()  # looking changes nothing
            roster.ready()
    assert told(roster) == told(folded(*HISTORY))


def test_what_waits_is_valid_in_the_end() -> None:
    """As it comes: what may become valid is asked again when there is something new."""
    for number in range(8):
        roster, waiting = Roster(MESH), Random(number).sample(HISTORY, len(HISTORY))
        while waiting:
            left = [record for record in waiting if not taken(roster, record)]
            assert len(left) < len(waiting)
            waiting = left
        assert told(roster) == told(folded(*HISTORY))


def taken(roster: Roster, record: Record) -> bool:
    try:
        roster.check(record, NOW)
    except Refused as refused:
        if refused.code != "record.credential_unknown":
            raise
        return False
    roster.apply(record)
    return True
