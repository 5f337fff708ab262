"""What shows to a stranger with the genesis alone that somebody is in the log."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from permesh.errors import Refused
from permesh.identity.checkpoint import Certificate
from permesh.identity.entry import Entry, RegistrarChange, Release
from permesh.identity.genesis import MAX_REGISTRARS
from permesh.identity.log import AdmissionLog
from permesh.identity.owner import OwnerStatement
from permesh.identity.proof import MAX_PROOF_BYTES, LogProof, Section
from permesh.identity.registry import Seat
from permesh.records import pack, unpack

from .hostile import changed, damaged, found_at, noise, others, places, put_at
from .people import START_MS, Person, append, genesis, wallet

MESH = genesis("proof", ("ann", "ben", "cleo"), 1)
ANN, BEN, CLEO, DORA, EMIL, FAY, GUS = (
    Person(name, MESH) for name in ("ann", "ben", "cleo", "dora", "emil", "fay", "gus")
)
DORA_TWO = Person("dora-two", MESH, owner_name="dora")
MESH_ID = MESH.mesh_id


def code(action: Callable[[], Any]) -> str:
    with pytest.raises(Refused) as caught:
        action()
    assert caught.value.message
    return caught.value.code


def replaces(added: bytes, removed: bytes, by: Person, at: int = 1) -> Entry:
    return by.approves(Entry.of(RegistrarChange(added, removed, at)))


def revokes(person: Person) -> Entry:
    return Entry.of(OwnerStatement.revoke(MESH_ID, person.owner, person.address, START_MS))


def moves(person: Person, new: str) -> Entry:
    said = OwnerStatement.move(MESH_ID, person.owner, person.address, wallet(new), START_MS)
    return Entry.of(said)


def repairs(person: Person) -> Entry:
    seven = bytes([7]) * 32
    said = OwnerStatement.repair(MESH_ID, person.owner, person.address, 3, seven, START_MS)
    return Entry.of(said)


def shown(log: AdmissionLog, agent: bytes) -> Seat | None:
    """By a proof that has travelled."""
    proof = LogProof.make(log, agent)
    decoded = LogProof.decode(proof.encode())
    assert decoded.encode() == proof.encode()
    return decoded.seat(log.genesis, agent)


def shows_all(log: AdmissionLog) -> bool:
    """Whether of every key that ever was in the log the proof says what the log says."""
    keys = [key for seat in log.registry.seats() for key in seat.keys]
    return [shown(log, key) for key in keys] == [log.registry.seat(key) for key in keys]


# -- what it shows ---------------------------------------------------------------------------------


def test_a_founder_needs_none() -> None:
    log = AdmissionLog(MESH)
    proof = LogProof.make(log, ANN.address)
    assert proof.sections == ()
    assert proof.seat(MESH, ANN.address) == log.registry.seat(ANN.address)
    assert proof.seat(MESH, DORA.address) is None
    append(log, ANN, ANN.admits(DORA), by=[BEN])
    assert LogProof.make(log, ANN.address).sections == ()


def test_of_a_stranger_there_is_none() -> None:
    assert code(lambda: LogProof.make(AdmissionLog(MESH), DORA.address)) == "log.unknown"


def test_a_member_is_shown_by_one_section() -> None:
    log = AdmissionLog(MESH)
    append(log, ANN, ANN.admits(EMIL), ANN.admits(DORA), by=[BEN])
    append(log, ANN, ANN.admits(FAY), by=[CLEO])
    proof = LogProof.make(log, DORA.address)
    (section,) = proof.sections
    assert [path.index for path, _ in section.entries] == [5]
    assert section.certificate == log.steps()[-1].certificate
    seat = proof.seat(MESH, DORA.address)
    assert seat == log.registry.seat(DORA.address)
    assert seat is not None
    assert seat.number == 5
    # It is about nobody else.
    assert proof.seat(MESH, EMIL.address) is None


def history(log: AdmissionLog) -> Iterator[None]:
    """Stops after each step. Who decides changes in the middle of a batch, too."""
    steps: list[tuple[Person, list[Entry], list[Person]]] = [
        (ANN, [ANN.admits(DORA)], [BEN]),
        (ANN, [ANN.admits(EMIL), replaces(DORA.address, b"", BEN)], [CLEO]),
        (BEN, [DORA.admits(FAY), repairs(EMIL)], [CLEO, DORA]),
        (ANN, [replaces(EMIL.address, ANN.address, BEN)], [BEN, DORA]),
        (BEN, [BEN.approves(Entry.suspend(ANN.address, "Away.", 1)), revokes(FAY)], [CLEO, EMIL]),
        (DORA, [replaces(b"", CLEO.address, BEN), moves(FAY, "fay new")], [CLEO, EMIL]),
        (DORA, [BEN.approves(Entry.reinstate(ANN.address, "", 1)), EMIL.admits(GUS)], [EMIL]),
        (BEN, [revokes(DORA)], [EMIL]),
        (BEN, [moves(DORA, "dora-two agent")], [EMIL]),
        (BEN, [moves(ANN, "ann new")], [DORA_TWO]),
    ]
    yield
    for proposer, entries, by in steps:
        size = log.size
        append(log, proposer, *entries, by=by)
        assert log.size == size + len(entries)
        yield


def test_everyones_proof_says_at_any_time_what_the_log_says() -> None:
    log = AdmissionLog(MESH)
    for _ in history(log):
        assert shows_all(log)
    assert len(LogProof.make(log, GUS.address).sections) > 4
    seat = shown(log, DORA_TWO.address)
    assert seat is not None
    assert (seat.keys, seat.active) == ((DORA.address, DORA_TWO.address), True)


def test_a_proof_shows_those_who_became_registrars_with_a_later_key() -> None:
    log, new = AdmissionLog(MESH), DORA_TWO.address
    append(log, ANN, ANN.admits(DORA), moves(DORA, "dora-two agent"), by=[BEN])
    append(log, ANN, replaces(new, b"", ANN), ANN.admits(EMIL), by=[BEN])
    assert shows_all(log)


def test_a_proof_still_fits_when_registrars_have_changed_often() -> None:
    mesh = genesis("changeable", ("ann",))
    log, decides = AdmissionLog(mesh), Person("ann", mesh)
    for at in range(12):
        follows = Person(f"member-{at}", mesh)
        append(log, decides, decides.admits(follows))
        change = RegistrarChange(follows.address, decides.address, 1)
        both = RegistrarChange(follows.address, b"", 1)
        append(log, decides, decides.approves(Entry.of(both)))
        append(log, decides, follows.approves(Entry.of(replace(change, added=b""))), by=[follows])
        decides = follows
    assert log.size == 37
    assert shown(log, decides.address) == log.registry.seat(decides.address)


# -- forgeries -------------------------------------------------------------------------------------


def grown() -> AdmissionLog:
    """All that is told of dora, fay and gus stands in several sections."""
    log = AdmissionLog(MESH)
    for _ in history(log):
        pass
    return log


LOG = grown()
FAYS = LogProof.make(LOG, FAY.address)


def with_last(proof: LogProof, certificate: Certificate) -> LogProof:
    *before, last = proof.sections
    return LogProof((*before, replace(last, certificate=certificate)))


def small() -> tuple[AdmissionLog, LogProof]:
    log = AdmissionLog(MESH)
    append(log, ANN, ANN.admits(DORA), by=[BEN])
    return log, LogProof.make(log, DORA.address)


SMALL_LOG, SMALL = small()


def test_fewer_than_a_quorum_prove_nothing() -> None:
    certificate = SMALL.sections[0].certificate
    for signatures in ((), certificate.signatures[:1], certificate.signatures[1:]):
        proof = with_last(SMALL, replace(certificate, signatures=signatures))
        assert code(lambda proof=proof: proof.seat(MESH, DORA.address)) == "checkpoint.quorum"
    twice = with_last(SMALL, replace(certificate, signatures=certificate.signatures[:1] * 2))
    assert code(lambda: LogProof.decode(twice.encode())) == "identity.field"


@pytest.mark.parametrize("who", [[DORA], [ANN, DORA], [ANN, EMIL], [ANN, BEN, DORA]])
def test_others_signatures_prove_nothing(who: list[Person]) -> None:
    checkpoint = SMALL.sections[0].certificate.checkpoint
    signatures = sorted((one.address, one.votes(checkpoint).signature) for one in who)
    proof = with_last(SMALL, Certificate(checkpoint, tuple(signatures)))
    assert code(lambda: proof.seat(MESH, DORA.address)) == "checkpoint.witness"


def test_a_quorum_does_not_let_in_whom_registrars_did_not() -> None:
    """Witnesses say in what order entries stand; they do not stand for approvals."""
    bad = DORA.approves(Entry.of(EMIL.enrolment))
    log = AdmissionLog(MESH)
    log._append(bad)
    checkpoint = replace(SMALL.sections[0].certificate.checkpoint, root=log.root)
    votes = sorted((one.address, one.votes(checkpoint).signature) for one in (ANN, BEN))
    section = Section(Certificate(checkpoint, tuple(votes)), ((log.path(4, 4), bad),))
    proof = LogProof((section,))
    assert code(lambda: proof.seat(MESH, EMIL.address)) == "approval.not_registrar"


def test_nor_is_an_approval_or_a_wish_forged() -> None:
    (section,) = SMALL.sections
    ((path, entry),) = section.entries
    for _, other in changed(entry):
        proof = LogProof((replace(section, entries=((path, other),)),))
        code(lambda proof=proof: proof.seat(MESH, DORA.address))
    log, bad = AdmissionLog(MESH), replace(entry, approvals=BEN.admits(EMIL).approvals)
    log._append(bad)
    checkpoint = replace(section.certificate.checkpoint, root=log.root)
    votes = sorted((one.address, one.votes(checkpoint).signature) for one in (ANN, BEN))
    proof = LogProof((Section(Certificate(checkpoint, tuple(votes)), ((log.path(4, 4), bad),)),))
    assert code(lambda: proof.seat(MESH, DORA.address)) == "approval.signature"


def test_a_proof_of_another_mesh_is_none() -> None:
    for other in (genesis("elsewhere", ("ann", "ben", "cleo")), genesis("proof", ("ann", "ben"))):
        code(lambda other=other: SMALL.seat(other, DORA.address))
        assert LogProof(()).seat(other, DORA.address) is None


def test_former_registrars_do_not_sign_what_came_after_them() -> None:
    """Nor is a change of registrars left out."""
    last = FAYS.sections[-1].certificate.checkpoint
    votes = tuple(sorted((one.address, one.votes(last).signature) for one in (ANN, CLEO)))
    forged = with_last(FAYS, Certificate(last, votes))
    assert code(lambda: forged.seat(MESH, FAY.address)) == "checkpoint.witness"
    for at in range(1, len(FAYS.sections)):
        proof = LogProof(FAYS.sections[at:])
        code(lambda proof=proof: proof.seat(MESH, FAY.address))


def less(proof: LogProof) -> Iterable[LogProof]:
    """With a section or an entry left out, or two sections swapped."""
    sections = proof.sections
    for at, section in enumerate(sections):
        before, after = sections[:at], sections[at + 1 :]
        yield LogProof((*before, *after))
        yield LogProof((*before, section, section, *after))
        yield LogProof((*before, *after[:1], section, *after[1:]))
        for where in range(len(section.entries)):
            rest = section.entries[:where] + section.entries[where + 1 :]
            yield LogProof((*before, replace(section, entries=rest), *after))


def test_what_is_left_out_leaves_at_most_what_was_so_before() -> None:
    log, was = AdmissionLog(MESH), list[Any]()
    for _ in history(log):
        seat = log.registry.seat(FAY.address)
        was.append(seat and replace(seat, changes=()))
    kept = set()
    for proof in less(FAYS):
        try:
            seat = LogProof.decode(proof.encode()).seat(MESH, FAY.address)
        except Refused:
            continue
        assert (seat and replace(seat, changes=())) in was
        kept.add(seat)
    assert len(kept) > 2


def test_entries_are_shown_in_their_order() -> None:
    log = AdmissionLog(MESH)
    append(log, ANN, ANN.admits(DORA), by=[BEN])
    append(log, ANN, ANN.approves(Entry.suspend(DORA.address, "", 1)), repairs(DORA), by=[BEN])
    append(log, ANN, ANN.approves(Entry.reinstate(DORA.address, "", 1)), by=[BEN])
    append(log, ANN, ANN.approves(Entry.suspend(DORA.address, "", 2)), by=[BEN])
    proof = LogProof.make(log, DORA.address)
    assert proof.seat(MESH, DORA.address) == log.registry.seat(DORA.address)
    ((admission, first, _repair, back, again),) = (section.entries for section in proof.sections)
    for wrong in ((admission, again, back), (admission, back, first), (admission, first, first)):
        turned = LogProof((replace(proof.sections[0], entries=wrong),))
        found = code(lambda turned=turned: turned.seat(MESH, DORA.address))
        assert found in ("log.order", "suspension.already")


def test_who_decided_when_is_shown_to_one_who_holds_the_genesis_alone() -> None:
    log = AdmissionLog(MESH)
    for _ in history(log):
        shown = LogProof.decode(LogProof.of_registrars(LOG, log.size).encode()).registry(MESH)
        assert (shown.registrars, shown.quorum) == (log.registry.registrars, log.registry.quorum)
        assert [one for one in shown.registrars if shown.may_decide(one)] == [
            one for one in shown.registrars if log.registry.may_decide(one)
        ]


def same_or_refused(data: bytes, agent: bytes, expected: Seat | None) -> bool:
    """Whether it was refused."""
    try:
        seat = LogProof.decode(data).seat(MESH, agent)
    except Refused:
        return True
    assert seat == expected
    return False


def test_no_damaged_byte_is_of_use() -> None:
    expected = SMALL_LOG.registry.seat(DORA.address)
    right = SMALL.encode()
    assert not same_or_refused(right, DORA.address, expected)
    refused = [same_or_refused(data, DORA.address, expected) for data in damaged(right)]
    assert all(refused)


@pytest.mark.parametrize("person", [FAY, GUS, DORA])
def test_no_other_value_of_any_field_is_of_use(person: Person) -> None:
    right = LogProof.make(LOG, person.address).encode()
    tree, expected = unpack(right, limit=MAX_PROOF_BYTES), LOG.registry.seat(person.address)
    leaves = [path for path in places(tree) if not isinstance(found_at(tree, path), list)]
    refused = [
        same_or_refused(pack(put_at(tree, path, value)), person.address, expected)
        for path in Random(person.name).sample(leaves, 100)
        for value in others(found_at(tree, path))
    ]
    assert len(refused) > 400
    assert all(refused)


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_no_random_edit_is_of_use(data: st.DataObject) -> None:
    right = FAYS.encode()
    start = data.draw(st.integers(0, len(right)))
    end = data.draw(st.integers(start, min(len(right), start + 40)))
    wrong = right[:start] + data.draw(st.binary(max_size=40)) + right[end:]
    same_or_refused(wrong, FAY.address, LOG.registry.seat(FAY.address))


@settings(deadline=None, max_examples=60)
@given(noise())
def test_noise_is_refused(data: bytes) -> None:
    assert same_or_refused(data, DORA.address, None) or data == LogProof(()).encode()


# -- its size --------------------------------------------------------------------------------------


def test_a_plain_members_proof_is_small() -> None:
    mesh = genesis("small", ("ann",))
    log, ann, last = AdmissionLog(mesh), Person("ann", mesh), Person("n" * 32, mesh)
    append(log, ann, *(ann.approves(release(at)) for at in range(60)))
    append(log, ann, ann.admits(last))
    assert len(LogProof.make(log, last.address).encode()) < 2048
    assert shown(log, last.address) == log.registry.seat(last.address)


def release(at: int) -> Entry:
    return Entry.of(Release("0.2.0", bytes(32), True, at))


def test_the_proof_of_a_mesh_with_many_registrars_fits() -> None:
    names = tuple(f"founder-{at}" for at in range(MAX_REGISTRARS))
    mesh = genesis("crowd", names, 17)
    log, last = AdmissionLog(mesh), Person("n" * 32, mesh)
    registrars = [Person(name, mesh) for name in names]
    entry = Entry.of(last.enrolment)
    for one in registrars[:17]:
        entry = one.approves(entry)
    append(log, registrars[0], entry, by=registrars[8:24])
    proof = LogProof.make(log, last.address)
    assert len(proof.sections[0].certificate.signatures) == 17
    assert len(proof.encode()) < MAX_PROOF_BYTES // 4
    assert shown(log, last.address) == log.registry.seat(last.address)
