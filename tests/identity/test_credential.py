"""The three statements: what each signature covers, and when a credential holds."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings

from permesh.errors import Refused
from permesh.identity.credential import (
    LIFE_MS,
    MAX_EPOCH,
    MAX_PEER_ID_BYTES,
    MAX_RUNTIME_BYTES,
    MAX_STATEMENT_BYTES,
    SKEW_MS,
    Admission,
    Credential,
    Enrolment,
)
from permesh.identity.runtime import runtime_hash, runtime_name
from permesh.records import pack

from .hostile import changed, damaged, noise
from .people import START_MS, Person, genesis, seed, wallet

CLEO = Person("cleo").admitted(3)
ENROLMENT, CREDENTIAL = CLEO.enrolment, CLEO.credential()
assert CLEO.admission is not None
ADMISSION: Admission = CLEO.admission

STATEMENTS: dict[str, tuple[Any, Callable[[Any], None]]] = {
    "enrolment": (ENROLMENT, lambda one: one.verify(genesis().mesh_id)),
    "admission": (ADMISSION, lambda one: one.verify(ENROLMENT, genesis())),
    "credential": (CREDENTIAL, lambda one: one.verify(ENROLMENT)),
}


def refusal(action: Callable[[], Any]) -> Refused:
    with pytest.raises(Refused) as caught:
        action()
    assert caught.value.message
    return caught.value


@pytest.fixture(params=sorted(STATEMENTS))
def statement(request: pytest.FixtureRequest) -> tuple[Any, Callable[[Any], None]]:
    return STATEMENTS[request.param]


# -- each statement --------------------------------------------------------------------------------


def test_it_reads_back_and_verifies(statement: tuple[Any, Callable[[Any], None]]) -> None:
    right, verify = statement
    assert type(right).decode(right.encode()) == right
    verify(right)


def test_no_damage_is_accepted(statement: tuple[Any, Callable[[Any], None]]) -> None:
    right, verify = statement
    for data in damaged(right.encode()):
        refusal(lambda data=data: verify(type(right).decode(data)))


def test_no_other_value_of_any_field_is_accepted(
    statement: tuple[Any, Callable[[Any], None]],
) -> None:
    right, verify = statement
    seen = set()
    for name, other in changed(right):
        seen.add(name)
        refusal(lambda other=other: verify(type(right).decode(other.encode())))
        refusal(lambda other=other: verify(other))
    assert seen == set(type(right).__dataclass_fields__)


WRONG = [None, True, -1, 2**63 - 1, "", "a" * 200, "é", b"", b"\0", bytes(33), [], [[]]]


def test_no_other_type_of_any_field_is_accepted(
    statement: tuple[Any, Callable[[Any], None]],
) -> None:
    right, verify = statement
    names = list(type(right).__dataclass_fields__)
    for name in names:
        for value in WRONG:
            other = [1, *(value if one == name else getattr(right, one) for one in names)]
            refusal(lambda other=other: verify(type(right).decode(pack(other))))
    whole = [1, *(getattr(right, one) for one in names)]
    for shape in (
        whole[:-1],
        [*whole, 0],
        [2, *whole[1:]],
        [True, *whole[1:]],
        [],
        None,
        "x",
        whole[1:],
    ):
        refusal(lambda shape=shape: type(right).decode(pack(shape)))


@settings(deadline=None, max_examples=40)
@given(noise())
def test_noise_is_refused_and_nothing_else_happens(data: bytes) -> None:
    for kind in (Enrolment, Admission, Credential):
        refusal(lambda kind=kind: kind.decode(data))


@pytest.mark.parametrize("value", [None, 7, "text", [], {}, 1.5])
def test_what_is_not_even_bytes_is_refused(value: Any) -> None:
    for kind in (Enrolment, Admission, Credential):
        refusal(lambda kind=kind: kind.decode(value))


def test_the_second_form_of_a_signature_is_refused(
    statement: tuple[Any, Callable[[Any], None]],
) -> None:
    order = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
    right, verify = statement
    for name in [one for one in type(right).__dataclass_fields__ if "signature" in one]:
        raw = getattr(right, name)
        s = int.from_bytes(raw[32:64], "big")
        second = raw[:32] + (order - s).to_bytes(32, "big") + bytes([55 - raw[64]])
        refusal(lambda name=name, second=second: verify(replace(right, **{name: second})))


def test_the_longest_statements_fit() -> None:
    person = Person("n" * 32)
    longest = person.credential(
        epoch=MAX_EPOCH, peer_id="p" * MAX_PEER_ID_BYTES, runtime="r" * MAX_RUNTIME_BYTES,
        issued_ms=2**62,
    )  # fmt: skip
    assert len(longest.encode()) <= MAX_STATEMENT_BYTES
    assert Credential.decode(longest.encode()) == longest
    assert Enrolment.decode(person.enrolment.encode()) == person.enrolment


# -- enrolment -------------------------------------------------------------------------------------


def test_an_enrolment_is_for_one_mesh() -> None:
    other = genesis("elsewhere").mesh_id
    assert refusal(lambda: ENROLMENT.verify(other)).code == "enrolment.wrong_mesh"
    replayed = replace(ENROLMENT, mesh=other)
    assert refusal(lambda: replayed.verify(other)).code == "enrolment.signature"


def test_owner_and_agent_are_two_keys() -> None:
    one = wallet("one key")
    enrolment = Enrolment.make(genesis().mesh_id, "one", one, one, START_MS)
    assert refusal(lambda: enrolment.verify(genesis().mesh_id)).code == "identity.field"


def test_both_wallets_sign() -> None:
    swapped = replace(
        ENROLMENT,
        owner_signature=ENROLMENT.agent_signature,
        agent_signature=ENROLMENT.owner_signature,
    )
    one_for_both = replace(ENROLMENT, owner_signature=ENROLMENT.agent_signature)
    for wrong in (swapped, one_for_both):
        assert refusal(lambda wrong=wrong: wrong.verify(ENROLMENT.mesh)).code == (
            "enrolment.signature"
        )


def test_a_name_that_is_none_is_not_signed() -> None:
    code = refusal(lambda: Person("Cleo!")).code
    assert code == "identity.name"


# -- admission -------------------------------------------------------------------------------------


def code_of(admission: Admission, enrolment: Enrolment = ENROLMENT) -> str:
    return refusal(lambda: admission.verify(enrolment, genesis())).code


def test_any_registrar_admits() -> None:
    for registrar in ("ann agent", "ben agent"):
        Admission.make(ENROLMENT, 3, START_MS, wallet(registrar)).verify(ENROLMENT, genesis())


@pytest.mark.parametrize("who", ["cleo agent", "cleo owner", "ann owner", "nobody"])
def test_nobody_else_admits(who: str) -> None:
    admission = Admission.make(ENROLMENT, 3, START_MS, wallet(who))
    assert code_of(admission) == "admission.not_registrar"
    forged = replace(admission, registrar=wallet("ann agent").address)
    assert code_of(forged) == "admission.signature"


def test_an_admission_is_for_one_mesh() -> None:
    there = genesis("elsewhere")
    code = refusal(lambda: ADMISSION.verify(ENROLMENT, there)).code
    assert code == "admission.wrong_mesh"
    assert code_of(replace(ADMISSION, mesh=there.mesh_id)) == "admission.wrong_mesh"


def test_an_admission_is_for_one_enrolment() -> None:
    later = Person("cleo", requested_ms=START_MS + 1).enrolment
    other = Person("dora").enrolment
    for enrolment in (later, other):
        assert code_of(ADMISSION, enrolment) == "admission.wrong_enrolment"


@pytest.mark.parametrize("number", [1, 2])
def test_a_founders_number_is_taken(number: int) -> None:
    admission = Admission.make(ENROLMENT, number, START_MS, wallet("ann agent"))
    assert code_of(admission) == "admission.number"


@pytest.mark.parametrize("number", [0, -1, 2**32, True])
def test_numbers_that_are_none(number: int) -> None:
    data = replace(ADMISSION, number=number).encode()
    assert refusal(lambda: Admission.decode(data)).code == "identity.field"


@pytest.mark.parametrize(
    ("owner", "agent"),
    [("ann owner", "new"), ("new", "ann agent"), ("ann agent", "new"), ("new", "ben owner")],
)
def test_a_founders_key_gets_no_second_agent(owner: str, agent: str) -> None:
    enrolment = Enrolment.make(genesis().mesh_id, "two", wallet(owner), wallet(agent), START_MS)
    enrolment.verify(genesis().mesh_id)
    admission = Admission.make(enrolment, 3, START_MS, wallet("ben agent"))
    assert code_of(admission, enrolment) == "admission.owner_taken"


# -- credential ------------------------------------------------------------------------------------


@pytest.mark.parametrize("life", [1, LIFE_MS])
def test_a_life_of_at_most_72_hours(life: int) -> None:
    CLEO.credential(life_ms=life).verify(ENROLMENT)


@pytest.mark.parametrize("life", [0, -1, LIFE_MS + 1, 2**60])
def test_no_other_life(life: int) -> None:
    credential = CLEO.credential(life_ms=life, issued_ms=START_MS)
    assert refusal(lambda: credential.verify(ENROLMENT)).code == "credential.life"


@pytest.mark.parametrize("epoch", [0, -1, MAX_EPOCH + 1, True])
def test_epochs_that_are_none(epoch: int) -> None:
    data = replace(CREDENTIAL, epoch=epoch).encode()
    assert refusal(lambda: Credential.decode(data)).code == "identity.field"


@pytest.mark.parametrize("text", ["", "a\nb", "\x1b[2J", "é", "\u202e", "x" * 129])
def test_texts_that_are_not_shown(text: str) -> None:
    for name in ("peer_id", "runtime"):
        data = replace(CREDENTIAL, **{name: text}).encode()
        assert refusal(lambda data=data: Credential.decode(data)).code == "identity.field"


def test_a_credential_is_one_agents() -> None:
    for other in (Person("dora"), Person("cleo", owner_name="dora")):
        code = refusal(lambda other=other: CREDENTIAL.verify(other.enrolment)).code
        assert code == "credential.wrong_agent"
    signed_by_owner = Credential.make(
        ENROLMENT, CLEO.owner, session_key=CREDENTIAL.session_key, peer_id=CREDENTIAL.peer_id,
        runtime="r", runtime_hash=bytes(32), epoch=1, issued_ms=START_MS,
    )  # fmt: skip
    assert refusal(lambda: signed_by_owner.verify(ENROLMENT)).code == "credential.signature"


def test_a_credential_is_for_one_mesh() -> None:
    there = Person("cleo", genesis("elsewhere"))
    assert refusal(lambda: CREDENTIAL.verify(there.enrolment)).code == "credential.wrong_mesh"
    replayed = replace(CREDENTIAL, mesh=there.enrolment.mesh)
    assert refusal(lambda: replayed.verify(there.enrolment)).code == "credential.signature"


def test_it_holds_until_the_last_millisecond_of_the_skew_and_not_one_longer() -> None:
    end = CREDENTIAL.expires_ms + SKEW_MS
    for now in (START_MS, CREDENTIAL.expires_ms, end):
        CREDENTIAL.check_current(now)
    error = refusal(lambda: CREDENTIAL.check_current(end + 1))
    assert error.code == "credential.expired"
    assert error.remedy


def test_it_holds_from_the_first_millisecond_of_the_skew_and_not_one_sooner() -> None:
    CREDENTIAL.check_current(START_MS - SKEW_MS)
    error = refusal(lambda: CREDENTIAL.check_current(START_MS - SKEW_MS - 1))
    assert error.code == "credential.not_yet_valid"
    assert "10 minutes" in error.message


def test_the_dates_of_its_records_have_the_same_bounds() -> None:
    session = CREDENTIAL.session
    first, last = START_MS - SKEW_MS, CREDENTIAL.expires_ms + SKEW_MS
    assert [session.covers(one) for one in (first - 1, first, last, last + 1)] == [
        False, True, True, False,
    ]  # fmt: skip


def test_it_is_renewed_at_two_thirds() -> None:
    assert (CREDENTIAL.renews_ms - START_MS) * 3 == LIFE_MS * 2
    assert CLEO.credential(life_ms=900).renews_ms == START_MS + 600


def test_the_runtime_of_this_release_can_be_shown() -> None:
    credential = CLEO.credential(runtime=runtime_name(), runtime_hash=runtime_hash())
    assert Credential.decode(credential.encode()) == credential
    assert credential.runtime.startswith("permesh/")
    assert len(seed("x")) == len(runtime_hash())
