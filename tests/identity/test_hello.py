"""The bundle that a peer shows: nobody gets in by altering, mixing or replaying what is in it."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from permesh.errors import Refused
from permesh.identity.credential import LIFE_MS, Credential
from permesh.identity.enrolment import MAX_EVIDENCE_BYTES
from permesh.identity.entry import Entry, RegistrarChange
from permesh.identity.genesis import VERSION, Genesis
from permesh.identity.hello import (
    MAX_HELLO_BYTES,
    Asking,
    Hello,
    OwnersVisit,
    Verified,
    check_hello,
    decode_shown,
)
from permesh.identity.log import AdmissionLog
from permesh.identity.owner import OwnerStatement
from permesh.identity.proof import LogProof
from permesh.identity.roster import Roster
from permesh.identity.signed import MAX_STATEMENT_BYTES, SKEW_MS
from permesh.records import pack

from .hostile import changed, damaged, noise
from .people import START_MS, Person, append, genesis, wallet

MESH = genesis()
ANN, BEN, CLEO, DORA, EVE = map(Person, ("ann", "ben", "cleo", "dora", "eve"))


def grown(*entries: Entry) -> AdmissionLog:
    """The log with cleo in it, and what came after."""
    log = AdmissionLog(MESH)
    append(log, ANN, ANN.admits(CLEO), by=[BEN])
    for entry in entries:
        size = log.size
        append(log, ANN, entry, by=[BEN])
        assert log.size == size + 1
    return log


LOG = grown()
SHOWN = {
    "founder": (ANN, ANN.hello(LOG)),
    "member": (CLEO, CLEO.hello(LOG)),
    "asking": (DORA, DORA.asks()),
}


def knowing(log: AdmissionLog | None = None, mesh: Genesis = MESH) -> Roster:
    """A roster that follows ``log``, or holds the genesis alone."""
    roster = Roster(mesh)
    if log is not None:
        roster.log = log
    return roster


def check(
    hello: Hello | bytes,
    person: Person = CLEO,
    now_ms: int = START_MS,
    roster: Roster | None = None,
) -> Verified | Asking:
    shown = hello if isinstance(hello, Hello) else Hello.decode(hello)
    return check_hello(shown, roster or knowing(), person.peer_id, now_ms)


def code(action: Callable[[], Any]) -> str:
    with pytest.raises(Refused) as caught:
        action()
    assert caught.value.message
    return caught.value.code


def refused(hello: Hello | bytes, person: Person = CLEO, **changes: Any) -> str:
    return code(lambda: check(hello, person, **changes))


@pytest.fixture(params=sorted(SHOWN))
def shown(request: pytest.FixtureRequest) -> tuple[Person, Hello]:
    return SHOWN[request.param]


# -- who is who ------------------------------------------------------------------------------------


def test_a_founder_a_member_and_one_that_asks() -> None:
    for roster in (knowing(), knowing(LOG)):
        found = check(ANN.hello(LOG).encode(), ANN, roster=roster)
        assert isinstance(found, Verified)
        assert (found.agent, found.number, found.name) == (ANN.address, 1, "ann")
        assert found.expires_ms == START_MS + LIFE_MS
        found = check(CLEO.hello(LOG).encode(), roster=roster)
        assert found == Verified(CLEO.address, 3, "cleo", CLEO.credential())
        found = check(DORA.asks().encode(), DORA, roster=roster)
        assert found == Asking(DORA.address, DORA.enrolment, DORA.credential())


def test_a_founder_needs_no_proof_nor_a_member_where_it_is_known() -> None:
    assert isinstance(check(Hello(ANN.credential()), ANN), Verified)
    assert isinstance(check(Hello(CLEO.credential()), roster=knowing(LOG)), Verified)
    assert refused(Hello(CLEO.credential())) == "credential.not_admitted"


def test_one_just_let_in_need_not_know_it() -> None:
    found = check(CLEO.asks(), roster=knowing(LOG))
    assert isinstance(found, Verified)
    assert found.number == 3
    assert isinstance(check(CLEO.asks()), Asking)


def test_the_longest_hello_of_one_that_asks_fits() -> None:
    person = Person("n" * 32)
    wish = person.enrols(evidence=bytes(MAX_EVIDENCE_BYTES), requested_ms=2**62)
    hello = Hello(person.credential(epoch=65_535, peer_id="p" * 64, runtime="r" * 128), wish)
    assert len(hello.encode()) <= 2 * MAX_STATEMENT_BYTES
    assert Hello.decode(hello.encode()) == hello


# -- damage ----------------------------------------------------------------------------------------


def test_no_damage_is_accepted(shown: tuple[Person, Hello]) -> None:
    person, hello = shown
    every = [*damaged(hello.encode())]
    for data in Random(person.name).sample(every, min(1500, len(every))):
        refused(data, person)


@settings(deadline=None, max_examples=40)
@given(st.sampled_from(sorted(SHOWN)), st.data())
def test_no_random_edit_is_accepted(which: str, data: st.DataObject) -> None:
    person, hello = SHOWN[which]
    right = hello.encode()
    start = data.draw(st.integers(0, len(right)))
    end = data.draw(st.integers(start, min(len(right), start + 40)))
    wrong = right[:start] + data.draw(st.binary(max_size=40)) + right[end:]
    if wrong != right:
        refused(wrong, person)


@pytest.mark.parametrize("which", ["member", "asking"])
def test_no_other_value_of_any_field_is_accepted(which: str) -> None:
    person, hello = SHOWN[which]
    count = 0
    for part in ("credential", "enrolment"):
        statement = getattr(hello, part)
        for _, other in changed(statement) if statement else ():
            wrong = replace(hello, **{part: other})
            refused(wrong, person)
            refused(wrong.encode(), person)
            count += 1
    assert count > 40


@settings(deadline=None, max_examples=40)
@given(noise(), st.lists(noise(), max_size=4))
def test_noise_is_refused_and_nothing_else_happens(data: bytes, parts: list[bytes]) -> None:
    for wrong in (
        data,
        pack([VERSION, *parts]),
        pack([VERSION, CLEO.credential().encode(), *parts]),
    ):
        for decode in (Hello.decode, decode_shown):
            code(lambda wrong=wrong, decode=decode: decode(wrong))


@pytest.mark.parametrize("part", [None, False, 0, "", [], b"\0", b"\x90"])
def test_a_part_that_is_none(part: Any) -> None:
    credential = CLEO.credential().encode()
    for parts in ([credential, part, b""], [credential, b"", part], [part, b"", b""]):
        code(lambda parts=parts: Hello.decode(pack([VERSION, *parts])))


def test_too_long_a_hello_is_not_decoded() -> None:
    for decode in (Hello.decode, decode_shown):
        assert code(lambda decode=decode: decode(bytes(MAX_HELLO_BYTES + 1))) == "format.too_long"


# -- mixing and replaying --------------------------------------------------------------------------


def test_the_parts_of_two_people_make_nobody() -> None:
    log = AdmissionLog(MESH)
    append(log, ANN, ANN.admits(CLEO), ANN.admits(DORA), by=[BEN])
    people = (ANN, CLEO, DORA, EVE)
    for mine in people:
        for wish in people:
            for proven in people[:3]:
                hello = Hello(mine.credential(), wish.enrolment, LogProof.make(log, proven.address))
                if mine is ANN or mine is proven:
                    found = check(hello, mine)
                    assert isinstance(found, Verified)
                    assert found.agent == mine.address
                elif mine is wish:
                    assert isinstance(check(hello, mine), Asking)  # which is anyone's right
                else:
                    assert refused(hello, mine) == "credential.wrong_agent"


def test_a_hello_is_worth_nothing_in_another_mesh(shown: tuple[Person, Hello]) -> None:
    person, hello = shown
    for now in (START_MS, START_MS + 9 * LIFE_MS):  # whatever its date
        roster = knowing(mesh=genesis("elsewhere"))
        assert refused(hello, person, now_ms=now, roster=roster) == "credential.wrong_mesh"


def test_a_wish_for_another_mesh_does_not_come_along() -> None:
    there = Person("dora", genesis("elsewhere"))
    hello = Hello(DORA.credential(), there.enrolment)
    assert refused(hello, DORA) == "enrolment.wrong_mesh"


def test_a_proof_from_another_mesh_does_not_come_along() -> None:
    there = genesis("elsewhere")
    ann, ben, cleo = (Person(name, there) for name in ("ann", "ben", "cleo"))
    log = AdmissionLog(there)
    append(log, ann, ann.admits(cleo), by=[ben])
    hello = Hello(CLEO.credential(), None, LogProof.make(log, cleo.address))
    assert refused(hello) == "checkpoint.wrong_mesh"


def test_a_hello_is_worth_nothing_on_another_peer(shown: tuple[Person, Hello]) -> None:
    person, hello = shown
    assert refused(hello, EVE) == "credential.wrong_peer"
    # Nor by writing one's own peer into it.
    stolen = replace(hello, credential=replace(person.credential(), peer_id=EVE.peer_id))
    assert refused(stolen, EVE) == "credential.signature"


def test_the_clock_decides_to_the_millisecond() -> None:
    hello = CLEO.hello(LOG)
    end = START_MS + LIFE_MS + SKEW_MS
    for now in (START_MS - SKEW_MS, START_MS, end):
        assert isinstance(check(hello, now_ms=now), Verified)
    assert refused(hello, now_ms=end + 1) == "credential.expired"
    assert refused(hello, now_ms=START_MS - SKEW_MS - 1) == "credential.not_yet_valid"


# -- impersonation ---------------------------------------------------------------------------------


def forged(owner: bytes, signer: str, **changes: Any) -> Credential:
    made = Credential.make(
        MESH.mesh_id, owner, wallet(signer), session_key=bytes(32), peer_id=EVE.peer_id,
        runtime="r", runtime_hash=bytes(32), epoch=1, issued_ms=START_MS,
    )  # fmt: skip
    return replace(made, **changes)


@pytest.mark.parametrize("victim", [ANN, CLEO])
@pytest.mark.parametrize("log", [None, LOG])
def test_nobody_is_impersonated(victim: Person, log: AdmissionLog | None) -> None:
    roster = knowing(log)
    # Eve names the other's agent, and signs with her own key.
    for owner in (victim.owner.address, EVE.owner.address):
        named = forged(owner, "eve agent", agent=victim.address)
        hello = replace(victim.hello(LOG), credential=named)
        assert refused(hello, EVE, roster=roster) == "credential.signature"
    # She names its owner as her own, and shows its proof or its wish.
    for hello, expected in (
        (victim.hello(LOG), "credential.not_admitted"),
        (victim.asks(), "credential.wrong_agent"),
    ):
        hello = replace(hello, credential=forged(victim.owner.address, "eve agent"))
        assert refused(hello, EVE, roster=roster) == expected
    # The agent's key is the right one, but the owner is not the one of the log.
    taken = forged(EVE.owner.address, f"{victim.name} agent")
    hello = replace(victim.hello(LOG), credential=taken)
    assert refused(hello, EVE, roster=roster) == "credential.wrong_owner"


def test_a_wish_that_its_owner_did_not_sign() -> None:
    for part in ("owner_signature", "agent_signature"):
        wish = replace(DORA.enrolment, **{part: getattr(EVE.enrolment, part)})
        hello = Hello(DORA.credential(), wish)
        assert refused(hello, DORA) == "enrolment.signature"
    # The owner is asked for in both, and it is one and the same.
    hello = Hello(forged(EVE.owner.address, "dora agent"), DORA.enrolment)
    assert refused(hello, EVE) == "credential.wrong_agent"


# -- standing --------------------------------------------------------------------------------------

REVOKED = OwnerStatement.revoke(MESH.mesh_id, CLEO.owner, CLEO.address, START_MS)
MOVED = OwnerStatement.move(
    MESH.mesh_id, CLEO.owner, CLEO.address, wallet("cleo-two agent"), START_MS
)
CLEO_TWO = Person("cleo-two", owner_name="cleo")
STANDINGS = {
    "credential.revoked": grown(Entry.of(REVOKED)),
    "member.suspended": grown(ANN.approves(Entry.suspend(CLEO.address, "Spam.", 1))),
    "credential.old_key": grown(Entry.of(MOVED)),
}


@pytest.mark.parametrize("expected", sorted(STANDINGS))
def test_who_is_not_in_good_standing_is_not_served(expected: str) -> None:
    log = STANDINGS[expected]
    # By what it shows itself, by what we know, and by what we know better.
    for hello, roster in (
        (CLEO.hello(log), knowing()),
        (CLEO.hello(log), knowing(log)),
        (CLEO.hello(LOG), knowing(log)),
        (CLEO.asks(), knowing(log)),
    ):
        assert refused(hello, roster=roster) == expected
    assert isinstance(check(CLEO.hello(LOG)), Verified)  # a proof says nothing of what came later


def test_the_reason_of_a_suspension_is_told() -> None:
    log = STANDINGS["member.suspended"]
    with pytest.raises(Refused, match=r"Spam\."):
        check(CLEO.hello(log))
    suspended, back = log.entry(4), ANN.approves(Entry.reinstate(CLEO.address, "", 2))
    again = grown(suspended, back)
    for roster in (knowing(), knowing(again)):
        assert isinstance(check(CLEO.hello(again), roster=roster), Verified)
    # What we know goes before what is shown.
    assert refused(CLEO.hello(again), roster=knowing(log)) == "member.suspended"


def test_a_moved_id_is_served_under_its_number_with_its_new_key() -> None:
    log = grown(Entry.of(REVOKED), Entry.of(MOVED))
    for roster in (knowing(), knowing(log)):
        found = check(CLEO_TWO.hello(log), CLEO_TWO, roster=roster)
        assert isinstance(found, Verified)
        assert (found.agent, found.number, found.name) == (CLEO_TWO.address, 3, "cleo")
        assert refused(CLEO.hello(log), roster=roster) == "credential.old_key"


def revoked_by(statements: Iterable[OwnerStatement], log: AdmissionLog | None) -> Roster:
    """By records that the log does not know of yet."""
    roster = knowing(log)
    for said in statements:
        roster.apply(ANN.tells(said))
    return roster


def test_a_revocation_counts_before_the_log_knows_of_it() -> None:
    for log in (LOG, None):
        roster = revoked_by([REVOKED], log)
        assert refused(CLEO.hello(LOG), roster=roster) == "credential.revoked"
        # But not another owner's, and not another act.
        others = OwnerStatement.revoke(MESH.mesh_id, EVE.owner, CLEO.address, START_MS)
        roster = revoked_by([others, MOVED], log)
        assert isinstance(check(CLEO.hello(LOG), roster=roster), Verified)


def test_former_registrars_let_nobody_in_where_the_log_is_known() -> None:
    mesh = genesis("turned", ("ann", "ben", "cleo"))
    ann, ben, cleo, dora, emil, eve = (
        Person(name, mesh) for name in ("ann", "ben", "cleo", "dora", "emil", "eve")
    )
    log, forged_log = AdmissionLog(mesh), AdmissionLog(mesh)
    append(log, ann, ann.admits(dora), ann.admits(emil), by=[ben])
    for new, old in ((dora, ann), (emil, ben)):
        change = RegistrarChange(new.address, old.address, 1)
        append(log, cleo, cleo.approves(Entry.of(change)), by=[ben, dora])
    assert log.size == 7
    append(forged_log, ann, ann.admits(eve), by=[ben])
    refused(eve.hello(forged_log), eve, roster=knowing(log, mesh))


# -- an owner's visit ------------------------------------------------------------------------------


def test_an_owner_shows_a_statement_alone() -> None:
    for said in (REVOKED, MOVED):
        assert decode_shown(OwnersVisit(said).encode()) == OwnersVisit(said)
    for _, hello in SHOWN.values():
        found = decode_shown(hello.encode())
        assert isinstance(found, Hello)
        assert found.encode() == hello.encode()


def test_no_damaged_visit_is_heard() -> None:
    for data in damaged(OwnersVisit(MOVED).encode()):

        def heard(data: bytes = data) -> None:
            found = decode_shown(data)
            assert isinstance(found, OwnersVisit)
            found.statement.verify(MESH.mesh_id)

        code(heard)
