"""The credential: what its signature covers, how long it holds, and where."""

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import pytest
from eth_account import Account
from hypothesis import given, settings
from hypothesis import strategies as st

from permesh.errors import Refused
from permesh.identity.credential import (
    HOUR_MS,
    LIFE_MS,
    MAX_EPOCH,
    MAX_PEER_ID_BYTES,
    MAX_RUNTIME_BYTES,
    Credential,
)
from permesh.identity.genesis import VERSION
from permesh.identity.runtime import runtime_hash, runtime_name
from permesh.identity.signed import MAX_STATEMENT_BYTES, SKEW_MS
from permesh.identity.wallet import CHAIN_ID
from permesh.records import pack

from .hostile import changed, damaged, noise
from .people import START_MS, Person, genesis, seed, wallet

ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
MESH, ELSEWHERE = genesis().mesh_id, genesis("elsewhere").mesh_id
CLEO = Person("cleo")
CREDENTIAL = CLEO.credential()


def refusal(action: Callable[[], Any]) -> Refused:
    with pytest.raises(Refused) as caught:
        action()
    assert caught.value.message
    return caught.value


def code_of(credential: Credential, mesh: bytes = MESH) -> str:
    return refusal(lambda: credential.verify(mesh)).code


# -- what it is ------------------------------------------------------------------------------------


def test_it_reads_back_and_verifies() -> None:
    assert Credential.decode(CREDENTIAL.encode()) == CREDENTIAL
    CREDENTIAL.verify(MESH)
    CREDENTIAL.check_current(START_MS)


def test_no_damage_is_accepted() -> None:
    for data in damaged(CREDENTIAL.encode()):
        refusal(lambda data=data: Credential.decode(data).verify(MESH))


def test_no_other_value_of_any_field_is_accepted() -> None:
    seen = set()
    for name, other in changed(CREDENTIAL):
        seen.add(name)
        refusal(lambda other=other: Credential.decode(other.encode()).verify(MESH))
        refusal(lambda other=other: other.verify(MESH))
    assert seen == {one.name for one in fields(Credential)}


WRONG = [None, True, -1, 2**63 - 1, "", "a" * 200, "é", b"", b"\0", bytes(33), [], [[]]]


def test_no_other_type_of_any_field_is_accepted() -> None:
    names = [one.name for one in fields(Credential)]
    whole = [VERSION, *(getattr(CREDENTIAL, one) for one in names)]
    for at in range(1, len(whole)):
        for value in WRONG:
            data = pack([*whole[:at], value, *whole[at + 1 :]])
            refusal(lambda data=data: Credential.decode(data).verify(MESH))
    for shape in (whole[:-1], [*whole, 0], [1, *whole[1:]], [True, *whole[1:]], [], None, "x"):
        refusal(lambda shape=shape: Credential.decode(pack(shape)))


@settings(deadline=None, max_examples=40)
@given(noise() | st.none() | st.integers() | st.text(max_size=4) | st.lists(st.none()))
def test_noise_is_refused_and_nothing_else_happens(data: Any) -> None:
    refusal(lambda: Credential.decode(data))


def test_the_longest_credential_fits() -> None:
    longest = CLEO.credential(
        epoch=MAX_EPOCH, peer_id="p" * MAX_PEER_ID_BYTES, runtime="r" * MAX_RUNTIME_BYTES,
        issued_ms=2**62,
    )  # fmt: skip
    assert len(longest.encode()) <= MAX_STATEMENT_BYTES
    assert Credential.decode(longest.encode()) == longest
    longest.verify(MESH)


@pytest.mark.parametrize("epoch", [0, -1, MAX_EPOCH + 1, True])
def test_epochs_that_are_none(epoch: int) -> None:
    data = replace(CREDENTIAL, epoch=epoch).encode()
    assert refusal(lambda: Credential.decode(data)).code == "identity.field"


@pytest.mark.parametrize("text", ["", "a\nb", "\x1b[2J", "é", "\u202e", "x" * 129])
def test_texts_that_are_not_shown(text: str) -> None:
    for name in ("peer_id", "runtime"):
        data = replace(CREDENTIAL, **{name: text}).encode()
        assert refusal(lambda data=data: Credential.decode(data)).code == "identity.field"


def test_the_runtime_of_this_release_can_be_shown() -> None:
    credential = CLEO.credential(runtime=runtime_name(), runtime_hash=runtime_hash())
    assert Credential.decode(credential.encode()) == credential
    assert credential.runtime.startswith("permesh/")


# -- whose it is, and where ------------------------------------------------------------------------


def test_a_credential_is_for_one_mesh() -> None:
    error = refusal(lambda: CREDENTIAL.verify(ELSEWHERE))
    assert (error.code, bool(error.remedy)) == ("credential.wrong_mesh", True)
    replayed = replace(CREDENTIAL, mesh=ELSEWHERE)
    error = refusal(lambda: Credential.decode(replayed.encode()).verify(ELSEWHERE))
    assert (error.code, bool(error.remedy)) == ("credential.signature", True)


@pytest.mark.parametrize("who", ["cleo owner", "dora agent", "ann agent"])
def test_the_agents_wallet_alone_signs(who: str) -> None:
    signed = replace(CREDENTIAL, signature=wallet(who).sign(CREDENTIAL.message()))
    assert code_of(signed) == "credential.signature"
    # The other's wallet may sign for itself, with whatever owner: the log says whose it is.
    theirs = replace(CREDENTIAL, agent=wallet(who).address, owner=seed("any")[:20])
    replace(theirs, signature=wallet(who).sign(theirs.message())).verify(MESH)


def test_owner_and_agent_are_two_keys() -> None:
    one = wallet("one key")
    credential = Credential.make(
        MESH, one.address, one, session_key=bytes(32), peer_id="p", runtime="r",
        runtime_hash=bytes(32), epoch=1, issued_ms=START_MS,
    )  # fmt: skip
    assert code_of(credential) == "identity.field"


def signed_elsewhere(**domain: Any) -> Credential:
    """The same credential, signed with another domain and without any code of permesh."""
    whole = CREDENTIAL.message().full_message()
    whole["domain"] = {**whole["domain"], **domain}
    types = {
        "name": "string", "version": "string", "chainId": "uint256",
        "verifyingContract": "address", "salt": "bytes32",
    }  # fmt: skip
    whole["types"]["EIP712Domain"] = [
        {"name": name, "type": kind} for name, kind in types.items() if name in whole["domain"]
    ]
    key = seed("cleo agent")
    signature = Account.sign_typed_data(key, full_message=whole).signature
    return replace(CREDENTIAL, signature=bytes(signature))


def test_a_signature_by_another_library_is_the_same() -> None:
    assert signed_elsewhere() == CREDENTIAL
    assert signed_elsewhere(chainId=8453) == CREDENTIAL


@pytest.mark.parametrize(
    "domain",
    [
        {"chainId": 1},
        {"chainId": 0},
        {"chainId": CHAIN_ID + 1},
        {"chainId": 84532},
        {"name": "permesh2"},
        {"name": ""},
        {"version": "2"},
        {"version": "0"},
        {"salt": ELSEWHERE},
        {"salt": bytes(32)},
        {"verifyingContract": "0x" + "00" * 20},
    ],
    ids=str,
)
def test_a_signature_for_another_domain_is_refused(domain: dict[str, Any]) -> None:
    assert code_of(signed_elsewhere(**domain)) == "credential.signature"


# -- the forms of a signature ----------------------------------------------------------------------


def with_signature(signature: bytes) -> Credential:
    return replace(CREDENTIAL, signature=signature)


def test_the_second_form_of_a_signature_is_refused() -> None:
    """Whoever sees (r, s) can make (r, n - s), by the same key: it would be a second credential."""
    raw = CREDENTIAL.signature
    s = int.from_bytes(raw[32:64], "big")
    for v in (27, 28):
        second = with_signature(raw[:32] + (ORDER - s).to_bytes(32, "big") + bytes([v]))
        assert code_of(Credential.decode(second.encode())) == "credential.signature"


@pytest.mark.parametrize("v", [0, 1, 2, 26, 29, 31, 35, 36, 255])
def test_another_recovery_number_is_refused(v: int) -> None:
    """Other libraries take 0 and 1 for 27 and 28, and more: a signature would have two forms."""
    other = with_signature(CREDENTIAL.signature[:64] + bytes([v]))
    assert code_of(Credential.decode(other.encode())) == "credential.signature"


def test_the_other_parity_is_another_key() -> None:
    raw = CREDENTIAL.signature
    assert code_of(with_signature(raw[:64] + bytes([55 - raw[64]]))) == "credential.signature"


@pytest.mark.parametrize("number", [0, 1, ORDER - 1, ORDER, ORDER + 1, 2**256 - 1])
def test_numbers_out_of_range_are_refused(number: int) -> None:
    raw, part = CREDENTIAL.signature, number.to_bytes(32, "big")
    for signature in (part + raw[32:], raw[:32] + part + raw[64:], part + part + raw[64:]):
        assert code_of(with_signature(signature)) == "credential.signature"


@pytest.mark.parametrize("length", [0, 1, 64, 66, 130])
def test_a_signature_of_another_length_is_refused(length: int) -> None:
    raw = (CREDENTIAL.signature * 2)[:length]
    assert code_of(with_signature(raw)) == "credential.signature"
    data = with_signature(raw).encode()
    assert refusal(lambda: Credential.decode(data)).code == "identity.field"


# -- how long it holds -----------------------------------------------------------------------------


@pytest.mark.parametrize("life", [1, HOUR_MS, LIFE_MS])
def test_a_life_of_at_most_72_hours(life: int) -> None:
    CLEO.credential(life_ms=life).verify(MESH)


@pytest.mark.parametrize("life", [0, -1, 72 * HOUR_MS + 1, 2**60])
def test_no_other_life(life: int) -> None:
    error = refusal(lambda: CLEO.credential(life_ms=life).verify(MESH))
    assert (error.code, bool(error.remedy)) == ("credential.life", True)


def test_it_lasts_72_hours_unless_it_is_said() -> None:
    assert CREDENTIAL.expires_ms - CREDENTIAL.issued_ms == 72 * 3_600_000


def test_it_holds_until_the_last_millisecond_of_the_skew_and_not_one_longer() -> None:
    end = CREDENTIAL.expires_ms + SKEW_MS
    for now in (START_MS, CREDENTIAL.expires_ms, end):
        CREDENTIAL.check_current(now)
    for now in (end + 1, 2**63 - 1):
        error = refusal(lambda now=now: CREDENTIAL.check_current(now))
        assert (error.code, bool(error.remedy)) == ("credential.expired", True)


def test_it_holds_from_the_first_millisecond_of_the_skew_and_not_one_sooner() -> None:
    CREDENTIAL.check_current(START_MS - SKEW_MS)
    error = refusal(lambda: CREDENTIAL.check_current(START_MS - SKEW_MS - 1))
    assert (error.code, bool(error.remedy)) == ("credential.not_yet_valid", True)
    assert "10 minutes" in error.message
    assert refusal(lambda: CREDENTIAL.check_current(0)).code == "credential.not_yet_valid"


def test_its_signature_is_not_asked_what_time_it_is() -> None:
    """An expired credential still shows who wrote the records of its epoch."""
    old = CLEO.credential(issued_ms=0)
    old.verify(MESH)
    assert refusal(lambda: old.check_current(START_MS)).code == "credential.expired"


def test_the_dates_of_its_records_have_the_same_bounds() -> None:
    session = CREDENTIAL.session
    first, last = START_MS - SKEW_MS, CREDENTIAL.expires_ms + SKEW_MS
    assert [session.covers(one) for one in (first - 1, first, last, last + 1)] == [
        False, True, True, False,
    ]  # fmt: skip


def test_it_is_renewed_at_two_thirds() -> None:
    assert (CREDENTIAL.renews_ms - START_MS) * 3 == LIFE_MS * 2
    assert CLEO.credential(life_ms=900).renews_ms == START_MS + 600
