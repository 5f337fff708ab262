"""Which records are valid, whatever came before them; and which requests are kept of them."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from permesh.errors import Refused
from permesh.identity import roster as roster_module
from permesh.identity.ballot import Ballot, Promise
from permesh.identity.credential import LIFE_MS
from permesh.identity.entry import Entry, RegistrarChange
from permesh.identity.owner import OwnerStatement
from permesh.identity.roster import (
    APPROVAL,
    BALLOT,
    BATCH,
    CREDENTIAL,
    CREDENTIALS_PER_EPOCH,
    KINDS,
    OWNER,
    PROMISE,
    REGISTRARS_OWN,
    REQUEST,
    REQUEST_LIFE_MS,
    REQUESTS_IN_ALL,
    REQUESTS_PER_SPONSOR,
    VOTE,
    Request,
    Roster,
    request_body,
)
from permesh.identity.signed import SKEW_MS
from permesh.records import Record, pack

from .hostile import damaged
from .people import START_MS, Person, append, genesis, seed, wallet

NOTE = "test.note"
NOW = START_MS + 60_000
MESH = genesis()


def code(action: Callable[[], Any]) -> str:
    with pytest.raises(Refused) as caught:
        action()
    assert caught.value.message
    return caught.value.code


def folded(*records: Record) -> Roster:
    """Each is checked before it is taken in, as everywhere else."""
    roster = Roster(MESH)
    for record in records:
        roster.check(record, NOW)
        roster.apply(record)
    return roster


def refused(roster: Roster, record: Record, now_ms: int = NOW) -> str:
    return code(lambda: roster.check(record, now_ms))


@pytest.fixture
def ann() -> Person:
    return Person("ann")


@pytest.fixture
def ben() -> Person:
    return Person("ben")


@pytest.fixture
def roster(ann: Person) -> Roster:
    return folded(ann.shows())


def let_in(roster: Roster, *people: Person) -> None:
    entries = [Person("ann").admits(one) for one in people]
    append(roster.log, Person("ann"), *entries, by=[Person("ben")])
    assert all(roster.member(one.address) for one in people)


# -- every record ----------------------------------------------------------------------------------


def test_a_record_of_another_mesh(roster: Roster) -> None:
    other = Person("ann", genesis("elsewhere"))
    assert refused(roster, other.write(NOTE, b"")) == "record.wrong_mesh"
    assert refused(roster, other.shows()) == "record.wrong_mesh"


def test_a_record_whose_credential_may_come(ann: Person, roster: Roster) -> None:
    assert refused(roster, ann.write(NOTE, b"", epoch=2)) == "record.credential_unknown"
    for kind in (NOTE, *sorted(KINDS - {CREDENTIAL})):
        assert refused(roster, Person("eve").write(kind, b"")) == "record.credential_unknown"


def test_a_record_signed_by_somebody_else(ann: Person, roster: Roster) -> None:
    for signer in (Person("eve").key(), ann.key(2)):
        for kind in (NOTE, APPROVAL):
            assert refused(roster, ann.write(kind, b"", sign=signer.sign)) == "record.signature"
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
        for outside in (ann.write(NOTE, b"", created_ms=created), ann.shows(created_ms=created)):
            assert refused(roster, outside, later) == "record.outside_credential"


def test_a_key_that_is_no_point_signs_nothing(ann: Person) -> None:
    """Small-order points, for which anyone could make signatures in a careless library."""
    for point in (bytes(32), b"\1" + bytes(31), b"\xec" + b"\xff" * 30 + b"\x7f", b"\xff" * 32):
        roster = Roster(MESH)
        roster.add(ann.credential(session_key=point))
        for signature in (bytes(64), b"\1" + bytes(63), point + bytes(32)):
            forged = ann.write(NOTE, b"", sign=lambda _, signature=signature: signature)
            assert refused(roster, forged) == "record.signature"


def test_old_epochs_stay_checkable(ann: Person, roster: Roster) -> None:
    old = ann.write(NOTE, b"", epoch=1)
    roster.check(old, NOW)
    roster.apply(ann.shows(2))
    roster.check(old, NOW)
    assert roster.credential(ann.address) == ann.credential(2)
    assert roster.session_key(ann.address, 1) == ann.key(1).public
    assert roster.session_key(ann.address, 3) is None


def test_a_record_of_no_identity_kind_says_nothing(ann: Person, roster: Roster) -> None:
    assert roster.apply(ann.write("identity.other", b"")) == []


# -- credentials -----------------------------------------------------------------------------------


def test_a_credential_record_is_its_own_agents(ann: Person, ben: Person, roster: Roster) -> None:
    body = ben.credential().encode()
    assert refused(roster, ann.write(CREDENTIAL, body)) == "credential.wrong_agent"
    assert refused(roster, ben.write(CREDENTIAL, body, epoch=2)) == "credential.wrong_agent"
    foreign = ben.write(CREDENTIAL, body, sign=Person("eve").key().sign)
    assert refused(roster, foreign) == "record.signature"


def test_a_credential_record_waits_until_the_log_knows_its_agent(roster: Roster) -> None:
    cleo = Person("cleo")
    shown, note = cleo.shows(), cleo.write(NOTE, b"")
    for record in (shown, note):
        assert refused(roster, record) == "record.credential_unknown"
    let_in(roster, Person("dora"))
    assert refused(roster, shown) == "record.credential_unknown"
    let_in(roster, cleo)
    roster.check(shown, NOW)
    assert refused(roster, note) == "record.credential_unknown"
    assert roster.apply(shown) == [cleo.address]
    roster.check(note, NOW)


def test_a_credential_record_names_the_owner_of_the_log(roster: Roster) -> None:
    cleo = Person("cleo")
    let_in(roster, cleo)
    cleo.owner = wallet("eve owner")
    assert refused(roster, cleo.shows()) == "credential.wrong_owner"


def test_a_moved_id_shows_credentials_of_both_keys(roster: Roster) -> None:
    cleo, after = Person("cleo"), Person("cleo-two", owner_name="cleo")
    let_in(roster, cleo)
    assert refused(roster, after.shows()) == "record.credential_unknown"
    moved = OwnerStatement.move(MESH.mesh_id, cleo.owner, cleo.address, after.agent, START_MS)
    append(roster.log, Person("ann"), Entry.of(moved), by=[Person("ben")])
    for one in (cleo, after):  # what the former key wrote is read for ever
        roster.check(one.shows(), NOW)


def test_no_record_of_who_is_who_ever_lapses(ann: Person, roster: Roster) -> None:
    """Else what rests on it would outlive it, and newcomers could not check."""
    end = START_MS + LIFE_MS
    assert refused(roster, ann.shows(expires_ms=end)) == "identity.field"
    for author, kind, body in bodies().values():
        if author.name == "ann" and kind != REQUEST:
            assert refused(roster, author.write(kind, body, expires_ms=end)) == "identity.field"


# -- bodies ----------------------------------------------------------------------------------------

REVOKED = OwnerStatement.revoke(MESH.mesh_id, wallet("eve owner"), seed("eve")[:20], START_MS)


def bodies() -> dict[str, tuple[Person, str, bytes]]:
    ann, cleo, dora = Person("ann"), Person("cleo"), Person("dora")
    log = Roster(MESH).log
    entries = ann.admits(cleo), ann.admits(dora)
    batch = ann.proposes(log, entries, 2, (seed("promise"), seed("another")))
    ballot = Ballot(log.size, log.root, 4)
    return {
        "founder": (ann, CREDENTIAL, ann.credential().encode()),
        "member": (cleo, CREDENTIAL, cleo.credential().encode()),
        "request": (ann, REQUEST, request_body(dora.enrolment, dora.credential())),
        "owner": (ann, OWNER, REVOKED.encode()),
        "approval": (ann, APPROVAL, entries[0].encode()),
        "batch": (ann, BATCH, batch.encode()),
        "vote": (ann, VOTE, batch.vote.encode()),
        "ballot": (ann, BALLOT, ballot.encode()),
        "promise": (ann, PROMISE, Promise(ballot, batch.vote).encode()),
    }


BODIES = bodies()
every_body = pytest.mark.parametrize("which", sorted(BODIES))


def written(which: str, body: bytes | None = None, **changes: Any) -> Record:
    author, kind, right = BODIES[which]
    life = {"expires_ms": NOW + REQUEST_LIFE_MS} if kind == REQUEST else {}
    return author.write(kind, right if body is None else body, created_ms=NOW, **life, **changes)


def listening() -> Roster:
    roster = folded(Person("ann").shows())
    let_in(roster, Person("cleo"))
    return roster


@every_body
def test_a_body_is_valid_and_damaged_it_is_not(which: str) -> None:
    """Also not when the author itself signs the record around it."""
    roster, right = listening(), BODIES[which][2]
    roster.check(written(which), NOW)
    every = list(damaged(right))
    for other in Random(which).sample(every, min(120, len(every))):
        # What is not signed with a wallet may be changed by its author: into something else.
        if which not in ("ballot", "promise", "batch") or len(other) != len(right):
            refused(roster, written(which, other))
    for other in (b"", b"\xc0", pack([2]), pack([2, *range(9)])):
        refused(roster, written(which, other))


@every_body
def test_a_body_that_is_withheld(which: str) -> None:
    withheld = replace(written(which), body=None)
    assert refused(listening(), withheld) == "record.body_missing"
    code(lambda: listening().apply(withheld))


@pytest.mark.parametrize("which", ["approval", "batch", "vote", "promise"])
def test_no_registrar_hands_on_what_another_signed(ben: Person, which: str) -> None:
    """As if it were its own: each of them answers for its own."""
    roster = folded(Person("ann").shows(), ben.shows())
    _, kind, body = BODIES[which]
    assert refused(roster, ben.write(kind, body)) == "identity.field"


def test_an_approval_record_holds_one_approval(ann: Person, ben: Person, roster: Roster) -> None:
    entry = ann.admits(Person("cleo"))
    both = ben.approves(entry)
    for other in (both, replace(entry, approvals=())):
        refused(roster, ann.write(APPROVAL, other.encode()))
    unsigned = entry.approved_by(replace(entry.approvals[0], signature=bytes(65)))
    assert refused(roster, ann.write(APPROVAL, unsigned.encode())) == "approval.signature"


def test_not_even_a_registrar_admits_who_did_not_sign(ann: Person, roster: Roster) -> None:
    cleo, eve = Person("cleo"), Person("eve")
    cleo.enrolment = replace(cleo.enrolment, owner_signature=eve.enrolment.owner_signature)
    eve = Person("eve", genesis("elsewhere"))
    eve.enrolment = replace(eve.enrolment, mesh=MESH.mesh_id)
    for one in (cleo, eve):
        entry = ann.admits(one)
        assert refused(roster, ann.write(APPROVAL, entry.encode())) == "enrolment.signature"
        batch = ann.proposes(roster.log, [entry])
        assert refused(roster, ann.batch(batch)) == "enrolment.signature"


# -- who writes what -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", sorted(REGISTRARS_OWN))
def test_only_who_decides_or_once_did_writes_what_is_the_registrars(kind: str) -> None:
    cleo, dora = Person("cleo"), Person("dora")
    roster = folded(Person("ann").shows())
    let_in(roster, cleo, dora)
    for one in (cleo, dora):
        roster.apply(one.shows())
    log = roster.log
    batch = cleo.proposes(log, [Person("ann").admits(Person("emil"))])
    ballot = Ballot(log.size, log.root, 1)
    record = cleo.write(
        kind,
        {
            APPROVAL: cleo.admits(Person("emil")).encode(),
            BATCH: batch.encode(),
            VOTE: batch.vote.encode(),
            BALLOT: ballot.encode(),
            PROMISE: Promise(ballot, batch.vote).encode(),
        }[kind],
    )
    # It may be that the log, as it is here, does not say so yet.
    assert refused(roster, record) == "record.credential_unknown"
    for added, removed in ((cleo.address, b""), (b"", cleo.address)):
        change = Person("ann").approves(Entry.of(RegistrarChange(added, removed, 1)))
        by = [Person("ben"), cleo] if removed else [Person("ben")]
        append(log, Person("ann"), change, by=by)
        roster.check(record, NOW)  # whether it decides now is not asked
    assert refused(roster, dora.write(kind, b"\xc0")) == "record.credential_unknown"


def test_a_request_says_when_it_lapses(ann: Person, roster: Roster) -> None:
    dora = Person("dora")
    for life in (1, REQUEST_LIFE_MS, REQUEST_LIFE_MS + SKEW_MS):
        roster.check(ann.heard(dora, NOW, expires_ms=NOW + life), NOW)
    for life in (0, -NOW, -1, REQUEST_LIFE_MS + SKEW_MS + 1):
        record = ann.heard(dora, NOW, expires_ms=NOW + life)
        assert refused(roster, record) == "identity.field"


def test_a_request_is_by_the_one_who_asks(ann: Person, roster: Roster) -> None:
    dora, eve = Person("dora"), Person("eve")
    life = {"expires_ms": NOW + REQUEST_LIFE_MS}
    for enrolment, credential in (
        (dora.enrolment, eve.credential()),
        (dora.enrolment, replace(dora.credential(), owner=eve.owner.address)),
        (replace(dora.enrolment, name="eve"), dora.credential()),
        (dora.enrolment, replace(dora.credential(), epoch=2)),
    ):
        refused(roster, ann.write(REQUEST, request_body(enrolment, credential), **life))
    parts = [dora.enrolment.encode(), dora.credential().encode()]
    for shape in (parts[:1], [*parts, b""], parts[::-1], b"", [None, None], parts[1]):
        refused(roster, ann.write(REQUEST, pack(shape), **life))


def test_any_member_tells_of_what_an_owner_says(roster: Roster) -> None:
    cleo = Person("cleo")
    let_in(roster, cleo)
    roster.apply(cleo.shows())
    roster.check(cleo.tells(REVOKED), NOW)
    unsigned = replace(REVOKED, owner=wallet("ann owner").address)
    assert refused(roster, cleo.tells(unsigned)) == "owner.signature"
    elsewhere = OwnerStatement.revoke(seed("mesh"), wallet("eve owner"), REVOKED.agent, START_MS)
    assert refused(roster, cleo.tells(elsewhere)) == "owner.wrong_mesh"


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
    shown = [ann.shows(1, which) for which in range(count)]
    roster = folded(*shown, *shown)  # the same again takes no more room
    assert len(roster._sessions[ann.address][1]) == CREDENTIALS_PER_EPOCH
    ranked = sorted(range(count), key=lambda which: ann.key(1, which).public)
    for which in ranked[:CREDENTIALS_PER_EPOCH]:
        roster.check(ann.write(NOTE, b"", which=which), NOW)
    for which in ranked[CREDENTIALS_PER_EPOCH:]:
        record = ann.write(NOTE, b"", which=which)
        assert refused(roster, record) == "record.credential_unknown"


# -- requests --------------------------------------------------------------------------------------


def test_a_request_is_heard_by_a_member_and_lapses(ann: Person, roster: Roster) -> None:
    dora = Person("dora")
    roster.check(record := ann.heard(dora, NOW), NOW)
    assert roster.apply(record) == [ann.address, dora.address]
    expected = Request(dora.enrolment, dora.credential(), ann.address, NOW)
    assert roster.pending(NOW) == [expected]
    assert roster.pending(NOW + REQUEST_LIFE_MS - 1) == [expected]
    assert roster.pending(NOW + REQUEST_LIFE_MS) == []
    let_in(roster, dora)
    assert roster.pending(NOW) == []


def heard(sponsor: Person, enrolment: Any, credential: Any, created_ms: int) -> Record:
    body = request_body(enrolment, credential)
    expires = created_ms + REQUEST_LIFE_MS
    return sponsor.write(REQUEST, body, created_ms=created_ms, expires_ms=expires)


def test_the_newest_request_of_one_agent_counts_whoever_heard_it() -> None:
    ann, ben, dora = Person("ann"), Person("ben"), Person("dora")
    records = [
        heard(sponsor, dora.enrolment, dora.credential(epoch), NOW + at)
        for sponsor, epoch, at in ((ann, 1, 0), (ben, 2, 5), (ann, 3, 3))
    ]
    roster = folded(ann.shows(), ben.shows(), *records)
    (request,) = roster.pending(NOW)
    assert (request.sponsor, request.heard_ms) == (ben.address, NOW + 5)
    assert request.credential.epoch == 2


def test_requests_are_bounded_for_a_sponsor_and_in_all() -> None:
    """Who floods through one sponsor pushes out only what that sponsor heard."""
    askers = [Person(f"asker-{number}") for number in range(70)]
    shown = [(one.enrolment, one.credential()) for one in askers]
    sponsors = [Person(f"sponsor-{number}") for number in range(6)]
    roster, quiet = Roster(MESH), Person("quiet")
    roster.apply(sponsors[5].heard(quiet, START_MS))
    for at, parts in enumerate(shown):
        roster.apply(heard(sponsors[0], *parts, NOW + at))
    pending = roster.pending(NOW)
    assert len(pending) == REQUESTS_PER_SPONSOR + 1
    assert pending[0].enrolment == quiet.enrolment
    assert [one.enrolment for one in pending[1:]] == [
        one.enrolment for one in askers[-REQUESTS_PER_SPONSOR:]
    ]
    for sponsor in sponsors[1:5]:
        for at, parts in enumerate(shown):
            roster.apply(heard(sponsor, *parts, NOW + 1000 + at))
    assert len(roster._requests) == REQUESTS_IN_ALL
    assert quiet.address not in {one.enrolment.agent for one in roster.pending(NOW)}


SPONSORS = [Person(f"sponsor-{number}") for number in range(4)]
# Of each asker two credentials, so that one sponsor can hear two things at one moment.
ASKERS = [Person(f"asker-{at}") for at in range(5)]
HEARD = [
    (asker.address, heard(sponsor, asker.enrolment, asker.credential(epoch), NOW + when))
    for sponsor in SPONSORS
    for at, asker in enumerate(ASKERS)
    for epoch, when in ((1, 0), (2, 7 * at % 4), (1, 3), (2, 3))
]


def rank_of(record: Record) -> tuple[int, bytes, bytes]:
    return record.header.created_ms, record.header.body_hash, record.header.author


def kept_by_definition(
    records: Iterable[tuple[bytes, Record]], per_sponsor: int, in_all: int
) -> set[Any]:
    """Per sponsor and asker the newest, per sponsor the newest of those, of those the newest."""
    newest: dict[tuple[bytes, bytes], Record] = {}
    for agent, record in sorted(records, key=lambda one: rank_of(one[1])):
        newest[record.header.author, agent] = record
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
        roster = Roster(MESH)
        records = [HEARD[at] for at in order[:length]]
        for _, record in records:
            roster.apply(record)
    kept = {heard.rank for heard in roster._requests.values()}
    assert kept == kept_by_definition(records, per_sponsor, in_all)
