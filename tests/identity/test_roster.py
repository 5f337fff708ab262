"""The roster: which records are valid, and that only what is held matters, never its order."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from permesh.errors import Refused
from permesh.identity import roster as roster_module
from permesh.identity.credential import LIFE_MS, SKEW_MS, Admission
from permesh.identity.hello import Proof
from permesh.identity.roster import (
    ADMISSION,
    CREDENTIAL,
    CREDENTIALS_PER_EPOCH,
    REQUEST,
    REQUEST_LIFE_MS,
    REQUESTS_IN_ALL,
    REQUESTS_PER_SPONSOR,
    Request,
    Roster,
    admission_body,
    subject,
)
from permesh.records import Record, pack, seal

from .hostile import damaged
from .people import START_MS, Person, genesis, seed, wallet

NOTE = "test.note"
NOW = START_MS + 60_000


def code(action: Callable[[], Any]) -> str:
    with pytest.raises(Refused) as caught:
        action()
    assert caught.value.message
    return caught.value.code


def folded(*records: Record) -> Roster:
    """Each is checked before it is taken in, as everywhere else."""
    roster = Roster(genesis())
    for record in records:
        roster.check(record, NOW)
        roster.apply(record)
    return roster


def refused(roster: Roster, record: Record, now_ms: int = NOW) -> str:
    return code(lambda: roster.check(record, now_ms))


# -- members ---------------------------------------------------------------------------------------


def test_founders_are_members_before_any_record() -> None:
    roster = Roster(genesis())
    assert [(one.number, one.name, one.is_registrar) for one in roster.members()] == [
        (1, "ann", True),
        (2, "ben", True),
    ]
    ann = roster.member(wallet("ann agent").address)
    assert ann is not None
    assert ann.owner == wallet("ann owner").address
    assert ann.admitted_by == ann.agent
    assert ann.credential is None
    assert roster.next_number() == 3


def test_a_member_comes_in_by_a_registrars_record() -> None:
    ann, cleo = Person("ann"), Person("cleo")
    roster = folded(ann.shows(), ann.heard(cleo.proof()))
    assert [one.enrolment.agent for one in roster.pending(NOW)] == [cleo.address]
    record = ann.admits(cleo, roster.next_number())
    roster.check(record, NOW)
    assert roster.apply(record) == [cleo.address]
    member = roster.member(cleo.address)
    assert member is not None
    assert (member.number, member.name, member.is_registrar) == (3, "cleo", False)
    assert member.admitted_by == ann.address
    assert (member.requested_ms, member.admitted_ms) == (START_MS, START_MS)
    assert roster.pending(NOW) == []
    assert roster.next_number() == 4
    assert roster.enrolment(cleo.address) == cleo.enrolment
    cleo.admission = roster.admission(cleo.address)
    roster.check(shown := cleo.shows(), NOW)
    roster.apply(shown)
    assert roster.credential(cleo.address) == cleo.credential()
    assert roster.session_key(cleo.address, 1) == cleo.key().public
    assert roster.session_key(cleo.address, 2) is None


def test_a_credential_record_proves_its_author_without_the_registrars() -> None:
    cleo = Person("cleo").admitted(3)
    roster = folded(cleo.shows())
    assert roster.member(cleo.address) is not None
    roster.check(cleo.write(NOTE, b"hello"), NOW)


def test_whom_a_record_is_about() -> None:
    ann, cleo = Person("ann"), Person("cleo")
    assert subject(ann.shows()) == ann.address
    assert subject(ann.heard(cleo.proof())) == cleo.address
    assert subject(ann.admits(cleo, 3)) == cleo.address


# -- the rule for every record ---------------------------------------------------------------------


@pytest.fixture
def ann() -> Person:
    return Person("ann")


@pytest.fixture
def roster(ann: Person) -> Roster:
    return folded(ann.shows())


def test_a_record_of_a_known_epoch_is_valid(ann: Person, roster: Roster) -> None:
    roster.check(ann.write(NOTE, b"hello"), NOW)
    roster.check(ann.write(NOTE, b""), NOW)


def test_a_record_of_another_mesh(roster: Roster) -> None:
    other = Person("ann", genesis("elsewhere"))
    assert refused(roster, other.write(NOTE, b"")) == "record.wrong_mesh"
    assert refused(roster, other.shows()) == "record.wrong_mesh"


def test_a_record_whose_credential_may_come(ann: Person, roster: Roster) -> None:
    assert refused(roster, ann.write(NOTE, b"", epoch=2)) == "record.credential_unknown"
    assert refused(roster, Person("eve").write(NOTE, b"")) == "record.credential_unknown"


def test_a_record_signed_by_somebody_else(ann: Person, roster: Roster) -> None:
    for signer in (Person("eve").key(), ann.key(2)):
        assert refused(roster, ann.write(NOTE, b"", sign=signer.sign)) == "record.signature"
    record = ann.write(NOTE, b"")
    for at in range(0, 64, 7):
        wrong = bytearray(record.signature)
        wrong[at] ^= 4
        assert refused(roster, replace(record, signature=bytes(wrong))) == "record.signature"


def test_a_record_from_the_future(ann: Person, roster: Roster) -> None:
    roster.check(ann.write(NOTE, b"", created_ms=NOW + SKEW_MS), NOW)
    late = ann.write(NOTE, b"", created_ms=NOW + SKEW_MS + 1)
    assert refused(roster, late) == "record.from_future"
    assert refused(roster, ann.shows(2, created_ms=NOW + SKEW_MS + 1)) == "record.from_future"


def test_a_record_outside_its_credentials_life(ann: Person, roster: Roster) -> None:
    first, last = START_MS - SKEW_MS, START_MS + LIFE_MS + SKEW_MS
    later = last + SKEW_MS
    for created in (first, last):
        roster.check(ann.write(NOTE, b"", created_ms=created), later)
        roster.check(ann.shows(created_ms=created), later)
    for created in (first - 1, last + 1):
        outside = ann.write(NOTE, b"", created_ms=created)
        assert refused(roster, outside, later) == "record.outside_credential"
        outside = ann.shows(created_ms=created)
        assert refused(roster, outside, later) == "record.outside_credential"


def test_a_key_that_is_no_point_signs_nothing() -> None:
    """Small-order points, for which anyone could make signatures in a careless library."""
    cleo = Person("cleo").admitted(3)
    for point in (bytes(32), b"\1" + bytes(31), b"\xec" + b"\xff" * 30 + b"\x7f", b"\xff" * 32):
        roster = Roster(genesis())
        roster.add(cleo.proof(session_key=point))
        for signature in (bytes(64), b"\1" + bytes(63), point + bytes(32)):
            forged = cleo.write(NOTE, b"", sign=lambda _, signature=signature: signature)
            assert refused(roster, forged) == "record.signature"


def test_old_epochs_stay_checkable(ann: Person, roster: Roster) -> None:
    old = ann.write(NOTE, b"", epoch=1)
    roster.apply(ann.shows(2))
    roster.check(old, NOW)
    assert roster.credential(ann.address) == ann.credential(2)
    assert roster.session_key(ann.address, 1) == ann.key(1).public


# -- credential records ----------------------------------------------------------------------------


def test_a_credential_record_is_its_own_agents(ann: Person, roster: Roster) -> None:
    cleo = Person("cleo").admitted(3)
    body = cleo.proof().encode()
    assert refused(roster, ann.write(CREDENTIAL, body)) == "credential.wrong_agent"
    assert refused(roster, cleo.write(CREDENTIAL, body, epoch=2)) == "credential.wrong_agent"
    foreign = cleo.write(CREDENTIAL, body, sign=Person("eve").key().sign)
    assert refused(roster, foreign) == "record.signature"


def test_one_that_only_asks_publishes_nothing(roster: Roster) -> None:
    dora = Person("dora")
    assert refused(roster, dora.shows()) == "credential.not_admitted"
    assert code(lambda: roster.add(dora.proof())) == "credential.not_admitted"
    assert refused(roster, dora.write(NOTE, b"")) == "record.credential_unknown"


def test_a_credential_or_an_admission_never_lapses(ann: Person, roster: Roster) -> None:
    """Else the records that they vouch for would outlive them, and newcomers could not check."""
    end = START_MS + LIFE_MS
    assert refused(roster, ann.shows(expires_ms=end)) == "identity.field"
    assert refused(roster, ann.admits(Person("cleo"), 3, expires_ms=end)) == "identity.field"


def test_a_founder_smuggles_in_no_admission(ann: Person) -> None:
    """An admission in a founder's proof would have been folded without a look at it."""
    eve = Person("eve")
    forged = Admission.make(eve.enrolment, 3, START_MS, wallet("ben agent"))
    forged = replace(forged, signature=bytes(65))
    ann.admission = forged
    roster = Roster(genesis())
    assert refused(roster, ann.shows()) == "admission.founder"
    assert roster.member(eve.address) is None


def bodies() -> dict[str, tuple[Person, str, bytes]]:
    ann, cleo, dora = Person("ann"), Person("cleo").admitted(3), Person("dora")
    admission = Admission.make(dora.enrolment, 4, START_MS, ann.agent)
    return {
        "founder": (ann, CREDENTIAL, ann.proof().encode()),
        "member": (cleo, CREDENTIAL, cleo.proof().encode()),
        "request": (ann, REQUEST, dora.proof().encode()),
        "admission": (ann, ADMISSION, admission_body(dora.enrolment, admission)),
    }


@pytest.mark.parametrize("which", sorted(bodies()))
def test_no_damaged_body_is_valid(which: str) -> None:
    """Also not when the author itself signs the record around it."""
    author, kind, body = bodies()[which]
    roster = folded(Person("ann").shows())
    life = {"expires_ms": NOW + REQUEST_LIFE_MS} if kind == REQUEST else {}
    roster.check(author.write(kind, body, created_ms=NOW, **life), NOW)
    for other in Random(which).sample(list(damaged(body)), 150):
        record = author.write(kind, other, created_ms=NOW, **life)
        refused(roster, record)
    withheld = replace(author.write(kind, body, created_ms=NOW, **life), body=None)
    assert refused(roster, withheld) == "record.body_missing"
    assert code(lambda: roster.apply(withheld)) == "record.body_missing"


# -- admission records -----------------------------------------------------------------------------


def test_only_registrars_admit(ann: Person) -> None:
    cleo, dora = Person("cleo").admitted(3), Person("dora")
    roster = folded(ann.shows(), cleo.shows())
    assert refused(roster, cleo.admits(dora, 4)) == "admission.not_registrar"
    # Nor does a member hand on what a registrar signed as if it were its own record …
    signed = Admission.make(dora.enrolment, 4, START_MS, ann.agent)
    handed_on = cleo.write(ADMISSION, admission_body(dora.enrolment, signed))
    assert refused(roster, handed_on) == "admission.not_registrar"
    # … nor one registrar another's.
    signed = Admission.make(dora.enrolment, 4, START_MS, wallet("ben agent"))
    handed_on = ann.write(ADMISSION, admission_body(dora.enrolment, signed))
    assert refused(roster, handed_on) == "admission.not_registrar"
    assert roster.member(dora.address) is None


def test_not_even_a_registrar_admits_who_did_not_sign(ann: Person, roster: Roster) -> None:
    cleo, eve = Person("cleo"), Person("eve")
    cleo.enrolment = replace(cleo.enrolment, owner_signature=eve.enrolment.owner_signature)
    assert refused(roster, ann.admits(cleo, 3)) == "enrolment.signature"
    eve = Person("eve", genesis("elsewhere"))
    eve.enrolment = replace(eve.enrolment, mesh=genesis().mesh_id)
    assert refused(roster, ann.admits(eve, 3)) == "enrolment.signature"


def test_an_admission_record_of_other_shapes(ann: Person, roster: Roster) -> None:
    cleo = Person("cleo")
    right = Admission.make(cleo.enrolment, 3, START_MS, ann.agent)
    parts = [cleo.enrolment.encode(), right.encode()]
    for shape in (parts[:1], [*parts, b""], parts[::-1], b"", [None, None], parts[1]):
        refused(roster, ann.write(ADMISSION, pack(shape)))


@pytest.mark.parametrize("number", [1, 2])
def test_no_admission_takes_a_founders_number(ann: Person, roster: Roster, number: int) -> None:
    assert refused(roster, ann.admits(Person("cleo"), number)) == "admission.number"


def test_one_owner_has_one_agent() -> None:
    ann, ben = Person("ann"), Person("ben")
    first, second = Person("cleo"), Person("cleo-two", owner_name="cleo")
    roster = folded(ann.shows(), ben.shows(), ann.admits(first, 3), ben.admits(second, 4))
    assert [one.name for one in roster.members()] == ["ann", "ben", "cleo"]
    assert roster.owner_is_taken(first.owner.address)
    assert not roster.owner_is_taken(wallet("eve owner").address)
    assert roster.next_number() == 5


def test_a_second_agent_is_told_from_a_member_when_it_shows_its_proof() -> None:
    ann = Person("ann")
    first, second = Person("cleo"), Person("cleo-two", owner_name="cleo").admitted(4, "ben")
    roster = folded(ann.shows(), ann.admits(first, 3))
    assert second.proof().verify(genesis()) == 4  # by its signatures alone
    assert roster.add(second.proof()) is None
    assert roster.add(first.admitted(3).proof()) == roster.member(first.address) is not None


def test_one_number_goes_to_one_agent() -> None:
    """Two registrars that do not hear of each other give the same one; the loser is asked anew."""
    ann, ben = Person("ann"), Person("ben")
    cleo, dora = Person("cleo"), Person("dora")
    records = [ann.shows(), ben.shows(), ann.admits(cleo, 3), ben.admits(dora, 3)]
    roster = folded(*records, ann.heard(cleo.proof()), ann.heard(dora.proof()))
    assert [one.number for one in roster.members()] == [1, 2, 3]
    (waiting,) = roster.pending(NOW)
    loser = next(one for one in (cleo, dora) if one.address == waiting.enrolment.agent)
    again = ben.admits(loser, roster.next_number())
    roster.check(again, NOW)
    roster.apply(again)
    assert {one.name: one.number for one in roster.members()}[loser.name] == 4
    assert roster.pending(NOW) == []


def test_a_number_far_ahead_does_not_end_the_mesh() -> None:
    ann = Person("ann")
    roster = folded(ann.shows(), ann.admits(Person("cleo"), 2**32 - 1))
    assert roster.next_number() == 3
    record = ann.admits(Person("dora"), roster.next_number())
    roster.check(record, NOW)
    roster.apply(record)
    assert [one.number for one in roster.members()] == [1, 2, 3, 2**32 - 1]


# -- requests --------------------------------------------------------------------------------------


def test_a_request_is_heard_by_a_member_and_lapses(ann: Person, roster: Roster) -> None:
    dora = Person("dora")
    roster.check(record := ann.heard(dora.proof(), NOW), NOW)
    assert roster.apply(record) == [dora.address]
    expected = Request(dora.enrolment, dora.credential(), ann.address, NOW)
    assert roster.pending(NOW) == [expected]
    assert roster.pending(NOW + REQUEST_LIFE_MS - 1) == [expected]
    assert roster.pending(NOW + REQUEST_LIFE_MS) == []
    alien = Person("eve").heard(dora.proof())
    assert refused(roster, alien) == "record.credential_unknown"


def test_a_request_says_when_it_lapses(ann: Person, roster: Roster) -> None:
    proof = Person("dora").proof()
    for life in (0, -NOW, -1, REQUEST_LIFE_MS + SKEW_MS + 1):
        record = ann.heard(proof, NOW, expires_ms=NOW + life)
        assert refused(roster, record) == "identity.field"


def test_a_request_shows_no_admission(ann: Person, roster: Roster) -> None:
    record = ann.write(
        REQUEST, Person("dora").admitted(4).proof().encode(), expires_ms=NOW + REQUEST_LIFE_MS
    )
    assert refused(roster, record) == "identity.field"


def test_the_newest_request_of_one_agent_counts_whoever_heard_it() -> None:
    ann, ben, dora = Person("ann"), Person("ben"), Person("dora")
    records = [
        ann.heard(dora.proof(1), NOW),
        ben.heard(dora.proof(2), NOW + 5),
        ann.heard(dora.proof(3), NOW + 3),
    ]
    roster = folded(ann.shows(), ben.shows(), *records)
    (request,) = roster.pending(NOW)
    assert (request.sponsor, request.heard_ms) == (ben.address, NOW + 5)
    assert request.credential.epoch == 2


def test_requests_are_bounded_for_a_sponsor_and_in_all() -> None:
    """Who floods through one sponsor pushes out only what that sponsor heard."""
    askers = [Person(f"asker-{number}").proof() for number in range(70)]
    sponsors = [Person(f"sponsor-{number}") for number in range(6)]
    roster = Roster(genesis())
    quiet = Person("quiet").proof()
    roster.apply(sponsors[5].heard(quiet, START_MS))
    for at, proof in enumerate(askers):
        roster.apply(sponsors[0].heard(proof, NOW + at))
    pending = roster.pending(NOW)
    assert len(pending) == REQUESTS_PER_SPONSOR + 1
    assert pending[0].enrolment == quiet.enrolment
    assert [one.enrolment for one in pending[1:]] == [
        one.enrolment for one in askers[-REQUESTS_PER_SPONSOR:]
    ]
    for sponsor in sponsors[1:5]:
        for at, proof in enumerate(askers):
            roster.apply(sponsor.heard(proof, NOW + 1000 + at))
    assert len(roster._requests) == REQUESTS_IN_ALL
    assert quiet.enrolment.agent not in {one.enrolment.agent for one in roster.pending(NOW)}


SPONSORS = [Person(f"sponsor-{number}") for number in range(4)]
# Of each asker two proofs, so that one sponsor can hear two things at one moment.
ASKERS = [(asker.proof(1), asker.proof(2)) for asker in (Person(f"asker-{at}") for at in range(5))]
HEARD = [
    sponsor.heard(proof, NOW + when)
    for sponsor in SPONSORS
    for at, proofs in enumerate(ASKERS)
    for proof, when in ((proofs[0], 0), (proofs[1], 7 * at % 4), (proofs[0], 3), (proofs[1], 3))
]


def rank_of(record: Record) -> tuple[int, bytes, bytes]:
    return record.header.created_ms, record.header.body_hash, record.header.author


def kept_by_definition(records: Iterable[Record], per_sponsor: int, in_all: int) -> set[Any]:
    """Per sponsor and asker the newest, per sponsor the newest of those, of those the newest."""
    newest: dict[tuple[bytes, bytes], Record] = {}
    for record in sorted(records, key=rank_of):
        newest[record.header.author, subject(record)] = record
    by_sponsor: dict[bytes, list[Record]] = {}
    for record in sorted(newest.values(), key=rank_of):
        by_sponsor.setdefault(record.header.author, []).append(record)
    kept = [record for some in by_sponsor.values() for record in some[-per_sponsor:]]
    return {rank_of(record) for record in sorted(kept, key=rank_of)[-in_all:]}


@settings(deadline=None, max_examples=50)
@given(
    st.permutations(range(len(HEARD))),
    st.integers(0, len(HEARD)),
    st.integers(1, 5),
    st.integers(1, 12),
)
def test_which_requests_are_kept_does_not_depend_on_their_order(
    order: list[int], length: int, per_sponsor: int, in_all: int
) -> None:
    with pytest.MonkeyPatch.context() as limits:
        limits.setattr(roster_module, "REQUESTS_PER_SPONSOR", per_sponsor)
        limits.setattr(roster_module, "REQUESTS_IN_ALL", in_all)
        roster = Roster(genesis())
        records = [HEARD[at] for at in order[:length]]
        for record in records:
            roster.apply(record)
    kept = {heard.rank for heard in roster._requests.values()}
    assert kept == kept_by_definition(records, per_sponsor, in_all)


# -- contradictions and bounds ---------------------------------------------------------------------


def test_an_agent_that_contradicts_itself_is_checked_by_each_of_its_keys(ann: Person) -> None:
    roster = folded(ann.shows(1, 0), ann.shows(1, 1))
    for which in (0, 1):
        roster.check(ann.write(NOTE, b"", which=which), NOW)
    assert refused(roster, ann.write(NOTE, b"", which=2)) == "record.signature"
    keys = [ann.key(1, which).public for which in (0, 1)]
    newest = roster.credential(ann.address)
    assert newest is not None
    assert newest.session_key == roster.session_key(ann.address, 1) == min(keys)


def test_too_many_contradictions_are_bounded_and_nobody_elses_fault(ann: Person) -> None:
    """Members who hold a record of a key that is not kept have it in good faith."""
    count = CREDENTIALS_PER_EPOCH + 3
    roster = folded(*(ann.shows(1, which) for which in range(count)))
    assert len(roster._sessions[ann.address][1]) == CREDENTIALS_PER_EPOCH
    ranked = sorted(range(count), key=lambda which: ann.key(1, which).public)
    for which in ranked[:CREDENTIALS_PER_EPOCH]:
        roster.check(ann.write(NOTE, b"", which=which), NOW)
    for which in ranked[CREDENTIALS_PER_EPOCH:]:
        record = ann.write(NOTE, b"", which=which)
        assert refused(roster, record) == "record.credential_unknown"


def test_the_same_credential_again_takes_no_more_room(ann: Person, roster: Roster) -> None:
    for _ in range(10):
        roster.apply(ann.shows())
        roster.add(ann.proof())
    assert len(roster._sessions[ann.address][1]) == 1


# -- order -----------------------------------------------------------------------------------------


def history() -> list[Record]:
    """Everything at once: conflicts of owner and number, contradictions, renewals, requests."""
    ann, ben = Person("ann"), Person("ben")
    cleo, dora, emil = Person("cleo"), Person("dora"), Person("emil")
    cleo_two = Person("cleo-two", owner_name="cleo")
    cleo_again = Person("cleo", requested_ms=START_MS + 9)
    ann_again = Person("ann", requested_ms=START_MS + 9)
    records = [ann.shows(1), ben.shows(1), ann.shows(2), ben.shows(2)]
    records += [ben.shows(3, which) for which in range(CREDENTIALS_PER_EPOCH + 2)]
    records.append(ben.shows(2, created_ms=START_MS + 77))
    records.append(ann_again.shows(2, seq=9, prev=bytes(32)))
    records += [
        ann.admits(cleo, 3), ben.admits(cleo_two, 3), ben.admits(cleo_two, 4),
        ann.admits(cleo_again, 5), ben.admits(dora, 5), ann.admits(dora, 6), ben.admits(emil, 9),
    ]  # fmt: skip
    records += [dora.admitted(5, "ben").shows(1), emil.admitted(9, "ben").shows(4)]
    records.append(cleo_again.admitted(5).shows(1))
    asking = [Person(f"asker-{number}") for number in range(3)]
    for sponsor in (ann, ben, dora):
        for at, one in enumerate([*asking, emil, cleo_two]):
            records.append(sponsor.heard(one.proof(), NOW + at % 2))
    return records


HISTORY = history()
AGENTS = sorted({record.header.author for record in HISTORY} | {subject(one) for one in HISTORY})


def told(roster: Roster) -> Any:
    return (
        roster.members(),
        roster.pending(NOW),
        roster.next_number(),
        roster._sessions,
        [
            (
                roster.member(agent),
                roster.admission(agent),
                roster.enrolment(agent),
                roster.credential(agent),
                [roster.session_key(agent, epoch) for epoch in range(5)],
            )
            for agent in AGENTS
        ],
    )


def test_the_history_is_valid_and_full_of_conflicts() -> None:
    roster = folded(*HISTORY)
    # dora's 5 stands: cleo, who has the other 5 as well, already has 3.
    numbers = {one.name: one.number for one in roster.members()}
    assert numbers == {"ann": 1, "ben": 2, "cleo": 3, "dora": 5, "emil": 9}
    assert len(roster.pending(NOW)) >= 3


def test_the_same_records_in_any_order_make_the_same_roster() -> None:
    expected = told(folded(*HISTORY))
    random = Random(7)
    for _ in range(40):
        order = random.sample(HISTORY, len(HISTORY)) + random.sample(HISTORY, 6)  # some twice
        roster = Roster(genesis())
        for record in order:
            roster.apply(record)
            if random.random() < 0.1:
                roster.members()  # looking changes nothing
        assert told(roster) == expected


def test_what_was_valid_stays_valid_whatever_comes_after() -> None:
    """Whether a record counts must not depend on who heard what first."""
    cleo = Person("cleo").admitted(9)
    roster = folded(cleo.shows())
    note = cleo.write(NOTE, b"hello")
    roster.check(note, NOW)
    for record in HISTORY:
        roster.apply(record)
    member = roster.member(cleo.address)
    assert member is not None
    assert member.number == 3  # another admission stands for it by now
    roster.check(note, NOW)


def test_a_sealed_record_of_no_identity_kind_says_nothing(roster: Roster) -> None:
    record = seal(
        mesh=genesis().mesh_id, kind="identity.other", author=bytes(20), epoch=1, seq=0, prev=b"",
        created_ms=NOW, body=seed("x"), sign=lambda _: bytes(64),
    )  # fmt: skip
    assert roster.apply(record) == []
    proof = Proof(Person("dora").enrolment, Person("dora").credential(), None)
    assert proof.verify(genesis()) is None
