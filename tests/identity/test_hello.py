"""The bundle of proofs that a peer shows: nobody gets in by altering, mixing or replaying them."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from permesh.errors import Refused
from permesh.identity.credential import LIFE_MS, SKEW_MS, Admission, Credential, Enrolment
from permesh.identity.genesis import Genesis
from permesh.identity.hello import MAX_HELLO_BYTES, Asking, Proof, Verified, check_hello
from permesh.records import pack

from .hostile import changed, damaged, noise
from .people import START_MS, Person, genesis, wallet

ANN = Person("ann")
CLEO = Person("cleo").admitted(3)
DORA = Person("dora")
SHOWN = {"founder": ANN, "member": CLEO, "asking": DORA}


def check(
    hello: bytes,
    person: Person = CLEO,
    now_ms: int = START_MS,
    mesh: Genesis | None = None,
    admission_of: Callable[[bytes], Admission | None] = lambda _: None,
) -> Verified | Asking:
    return check_hello(hello, mesh or genesis(), person.peer_id, now_ms, admission_of)


def code(action: Callable[[], Any]) -> str:
    with pytest.raises(Refused) as caught:
        action()
    assert caught.value.message
    return caught.value.code


@pytest.fixture(params=sorted(SHOWN))
def shown(request: pytest.FixtureRequest) -> Person:
    return SHOWN[request.param]


# -- who is who ------------------------------------------------------------------------------------


def test_a_founder_a_member_and_one_that_asks() -> None:
    found = check(ANN.proof().encode(), ANN)
    assert isinstance(found, Verified)
    assert (found.agent, found.number, found.name) == (ANN.address, 1, "ann")
    assert found.expires_ms == START_MS + LIFE_MS
    found = check(CLEO.proof().encode())
    assert isinstance(found, Verified)
    assert (found.agent, found.number, found.name) == (CLEO.address, 3, "cleo")
    assert check(DORA.proof().encode(), DORA) == Asking(DORA.address, DORA.proof())


def test_the_longest_proof_fits() -> None:
    person = Person("n" * 32).admitted(2**32 - 1)
    proof = person.proof(epoch=65_535, peer_id="p" * 64, runtime="r" * 128)
    assert len(proof.encode()) <= MAX_HELLO_BYTES // 2
    assert Proof.decode(proof.encode()) == proof


# -- damage ----------------------------------------------------------------------------------------


def test_no_damage_is_accepted(shown: Person) -> None:
    for data in damaged(shown.proof().encode()):
        code(lambda data=data: Proof.decode(data).verify(genesis()))
        code(lambda data=data: check(data, shown))


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_no_random_edit_is_accepted(data: st.DataObject) -> None:
    right = CLEO.proof().encode()
    start = data.draw(st.integers(0, len(right)))
    end = data.draw(st.integers(start, min(len(right), start + 40)))
    wrong = right[:start] + data.draw(st.binary(max_size=40)) + right[end:]
    if wrong != right:
        code(lambda: Proof.decode(wrong).verify(genesis()))


def test_no_other_value_of_any_field_is_accepted(shown: Person) -> None:
    proof = shown.proof()
    count = 0
    for part in ("enrolment", "credential", "admission"):
        if getattr(proof, part) is None:
            continue
        for _, other in changed(getattr(proof, part)):
            wrong = replace(proof, **{part: other})
            code(lambda wrong=wrong: wrong.verify(genesis()))
            code(lambda wrong=wrong: Proof.decode(wrong.encode()).verify(genesis()))
            count += 1
    assert count > 60


def test_an_altered_admission_is_not_made_good_by_the_one_we_know() -> None:
    proof = CLEO.proof()
    assert proof.admission is not None
    for _, other in changed(proof.admission):
        wrong = replace(proof, admission=other).encode()
        code(lambda wrong=wrong: check(wrong, admission_of=lambda _: CLEO.admission))


@settings(deadline=None, max_examples=40)
@given(noise(), st.lists(noise(), max_size=4))
def test_noise_is_refused_and_nothing_else_happens(data: bytes, parts: list[bytes]) -> None:
    code(lambda: Proof.decode(data))
    code(lambda: check(data))
    code(lambda: check(pack([1, *parts])))


@pytest.mark.parametrize("admission", [None, False, 0, "", [], b"\0", b"\x90"])
def test_an_admission_that_is_none(admission: Any) -> None:
    parts = [1, CLEO.enrolment.encode(), CLEO.credential().encode(), admission]
    code(lambda: check(pack(parts)))


def test_too_long_a_hello_is_not_decoded() -> None:
    assert code(lambda: check(bytes(MAX_HELLO_BYTES + 1))) == "format.too_long"


# -- mixing and replaying --------------------------------------------------------------------------


def test_the_parts_of_two_people_make_nobody() -> None:
    eve = Person("eve").admitted(4)
    bits = [(one.enrolment, one.credential(), one.admission) for one in (CLEO, eve, ANN)]
    for enrolment, _, _ in bits:
        for _, credential, _ in bits:
            for _, _, admission in bits:
                if (enrolment, credential, admission) in bits:
                    continue
                proof = Proof(enrolment, credential, admission)
                if admission is None and enrolment.agent == credential.agent:
                    assert proof.verify(genesis()) is None  # asks, which is anyone's right
                else:
                    code(lambda proof=proof: proof.verify(genesis()))


def test_a_hello_is_worth_nothing_in_another_mesh() -> None:
    there = genesis("elsewhere")
    for person in (ANN, CLEO, DORA):
        hello = person.proof().encode()
        found = code(lambda person=person, hello=hello: check(hello, person, mesh=there))
        assert found == "credential.wrong_mesh"


def test_an_enrolment_of_another_mesh_does_not_come_along() -> None:
    there = Person("cleo", genesis("elsewhere")).admitted(3)
    proof = Proof(there.enrolment, CLEO.credential(), CLEO.admission)
    assert code(lambda: check(proof.encode())) == "enrolment.wrong_mesh"
    proof = Proof(CLEO.enrolment, CLEO.credential(), there.admission)
    assert code(lambda: check(proof.encode())) == "admission.wrong_mesh"


def test_a_hello_is_worth_nothing_on_another_peer() -> None:
    assert code(lambda: check(CLEO.proof().encode(), DORA)) == "credential.wrong_peer"
    # Nor by writing one's own peer into it.
    stolen = replace(CLEO.credential(), peer_id=DORA.peer_id)
    proof = Proof(CLEO.enrolment, stolen, CLEO.admission)
    assert code(lambda: check(proof.encode(), DORA)) == "credential.signature"


def test_the_clock_decides_to_the_millisecond() -> None:
    hello = CLEO.proof().encode()
    end = START_MS + LIFE_MS + SKEW_MS
    for now in (START_MS - SKEW_MS, START_MS, end):
        assert isinstance(check(hello, now_ms=now), Verified)
    assert code(lambda: check(hello, now_ms=end + 1)) == "credential.expired"
    assert code(lambda: check(hello, now_ms=START_MS - SKEW_MS - 1)) == "credential.not_yet_valid"


# -- founders and registrars -----------------------------------------------------------------------


def forged(enrolment: Enrolment, agent: str, peer_id: str) -> Credential:
    return Credential.make(
        enrolment, wallet(agent), session_key=bytes(32), peer_id=peer_id, runtime="r",
        runtime_hash=bytes(32), epoch=1, issued_ms=START_MS,
    )  # fmt: skip


def test_a_founder_cannot_be_impersonated() -> None:
    # Eve names ann's addresses, and signs with her own keys.
    eve = Person("eve")
    named = replace(eve.enrolment, name="ann", owner=ANN.owner.address, agent=ANN.address)
    proof = Proof(named, forged(named, "eve agent", eve.peer_id), None)
    assert code(lambda: check(proof.encode(), eve)) == "enrolment.signature"
    # She shows ann's own enrolment, with a credential that she made.
    proof = Proof(ANN.enrolment, forged(ANN.enrolment, "eve agent", eve.peer_id), None)
    assert code(lambda: check(proof.encode(), eve)) == "credential.signature"


def test_a_founder_is_the_one_of_the_genesis() -> None:
    # The agent's key is ann's, but the owner or the name is not the one of the genesis.
    for other in (Person("ann", owner_name="eve"),):
        assert code(lambda other=other: check(other.proof().encode(), ANN)) == (
            "enrolment.not_founder"
        )
    renamed = Enrolment.make(genesis().mesh_id, "anne", ANN.owner, ANN.agent, START_MS)
    proof = Proof(renamed, forged(renamed, "ann agent", ANN.peer_id), None)
    assert code(lambda: check(proof.encode(), ANN)) == "enrolment.not_founder"


def test_a_founder_carries_in_no_admission() -> None:
    """Nothing would have checked it, and the roster would have taken it in."""
    assert CLEO.admission is not None
    unsigned = replace(CLEO.admission, signature=bytes(65), number=9)
    for admission in (CLEO.admission, unsigned):
        proof = replace(ANN.proof(), admission=admission)
        assert code(lambda proof=proof: check(proof.encode(), ANN)) == "admission.founder"


@pytest.mark.parametrize("who", ["cleo agent", "ann owner", "eve agent"])
def test_an_admission_by_somebody_else(who: str) -> None:
    admission = Admission.make(DORA.enrolment, 4, START_MS, wallet(who))
    proof = replace(DORA.proof(), admission=admission)
    assert code(lambda: check(proof.encode(), DORA)) == "admission.not_registrar"


def test_an_admission_under_a_founders_number() -> None:
    proof = replace(
        DORA.proof(), admission=Admission.make(DORA.enrolment, 2, START_MS, wallet("ann agent"))
    )
    assert code(lambda: check(proof.encode(), DORA)) == "admission.number"


def test_a_founders_owner_gets_no_second_agent() -> None:
    second = Person("ann-two", owner_name="ann").admitted(7, registrar="ben")
    found = code(lambda: check(second.proof().encode(), second))
    assert found == "admission.owner_taken"


# -- what this side knows --------------------------------------------------------------------------


def test_one_just_admitted_need_not_know_it() -> None:
    admission = Admission.make(DORA.enrolment, 4, START_MS, wallet("ben agent"))
    found = check(DORA.proof().encode(), DORA, admission_of={DORA.address: admission}.get)
    assert isinstance(found, Verified)
    assert found.number == 4
    assert found.proof.admission == admission


def test_an_admission_of_another_enrolment_does_not_count() -> None:
    other = Person("dora", requested_ms=START_MS + 1).admitted(4).admission
    found = check(DORA.proof().encode(), DORA, admission_of=lambda _: other)
    assert isinstance(found, Asking)


def test_the_number_that_stands_is_the_one_we_know() -> None:
    """Two registrars gave one number; the one who lost it was given another, and shows the old."""
    again = Admission.make(CLEO.enrolment, 5, START_MS, wallet("ben agent"))
    found = check(CLEO.proof().encode(), admission_of=lambda _: again)
    assert isinstance(found, Verified)
    assert found.number == 5
    assert found.proof.admission == again


def test_a_wrong_admission_on_our_side_lets_nobody_in() -> None:
    """What is known is checked like what is shown."""
    assert CLEO.admission is not None
    fake = Admission.make(DORA.enrolment, 4, START_MS, wallet("eve agent"))
    found = code(lambda: check(DORA.proof().encode(), DORA, admission_of=lambda _: fake))
    assert found == "admission.not_registrar"
