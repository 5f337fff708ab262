"""Wallets: whose signature it is, in one spelling only, and keystores that fail in clear words."""

import copy
import json
import os
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account
from eth_keys import keys
from eth_keys.backends import CoinCurveECCBackend
from hypothesis import given, settings
from hypothesis import strategies as st

from permesh.errors import PermeshError, Refused
from permesh.identity.wallet import PLAIN_FORMAT, TypedMessage, Wallet, recover

from .people import seed, wallet

ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
MESSAGE = TypedMessage(bytes(32), "Word", (("string", "text", "yes"), ("uint64", "number", 7)))
SIGNATURE = wallet("ann agent").sign(MESSAGE)


def parts(signature: bytes) -> tuple[int, int, int]:
    return (
        int.from_bytes(signature[:32], "big"),
        int.from_bytes(signature[32:64], "big"),
        signature[64],
    )


def joined(r: int, s: int, v: int) -> bytes:
    return r.to_bytes(32, "big") + s.to_bytes(32, "big") + bytes([v])


def refused(signature: bytes) -> str:
    with pytest.raises(Refused) as caught:
        recover(MESSAGE, signature)
    return caught.value.code


# -- signatures ------------------------------------------------------------------------------------


def test_signatures_are_checked_by_coincurve_and_not_twenty_times_slower() -> None:
    assert isinstance(keys.backend, CoinCurveECCBackend)
    assert isinstance(Account._keys.backend, CoinCurveECCBackend)


def test_the_signer_is_recovered() -> None:
    assert recover(MESSAGE, SIGNATURE) == wallet("ann agent").address


def test_every_signature_has_the_low_s() -> None:
    for number in range(24):
        message = TypedMessage(bytes(32), "Word", (("uint64", "number", number),))
        _, s, v = parts(wallet("ann agent").sign(message))
        assert s <= ORDER // 2
        assert v in (27, 28)


def test_the_malleated_second_form_is_refused() -> None:
    r, s, v = parts(SIGNATURE)
    # The same signature to secp256k1, which would recover the same signer.
    second = joined(r, ORDER - s, 27 + 28 - v)
    assert Account.recover_message(MESSAGE.signable(), signature=second).lower() == (
        "0x" + wallet("ann agent").address.hex()
    )
    assert refused(second) == "wallet.signature"


@pytest.mark.parametrize("v", [0, 1, 2, 26, 29, 35, 36, 255])
def test_only_27_and_28_are_recovery_values(v: int) -> None:
    r, s, _ = parts(SIGNATURE)
    assert refused(joined(r, s, v)) == "wallet.signature"


@pytest.mark.parametrize("r", [0, ORDER, 2**256 - 1])
def test_r_out_of_range_is_refused(r: int) -> None:
    _, s, v = parts(SIGNATURE)
    assert refused(joined(r, s, v)) == "wallet.signature"


@pytest.mark.parametrize("s", [0, ORDER // 2 + 1, ORDER - 1, ORDER, 2**256 - 1])
def test_s_out_of_range_is_refused(s: int) -> None:
    r, _, v = parts(SIGNATURE)
    assert refused(joined(r, s, v)) == "wallet.signature"


@pytest.mark.parametrize("signature", [b"", SIGNATURE[:64], SIGNATURE + b"\0", bytes(65)])
def test_another_length_is_refused(signature: bytes) -> None:
    assert refused(signature) == "wallet.signature"


def test_another_mesh_is_another_message() -> None:
    elsewhere = TypedMessage(b"\1" * 32, MESSAGE.primary, MESSAGE.fields)
    assert recover(elsewhere, SIGNATURE) != wallet("ann agent").address


@settings(deadline=None, max_examples=60)
@given(
    st.one_of(
        st.binary(min_size=65, max_size=65),
        st.tuples(st.binary(min_size=64, max_size=64), st.sampled_from([b"\x1b", b"\x1c"])).map(
            b"".join
        ),
        st.binary(max_size=80),
    )
)
def test_bytes_of_others_recover_somebody_else_or_are_refused(signature: bytes) -> None:
    try:
        signer = recover(MESSAGE, signature)
    except Refused:
        return
    assert signer != wallet("ann agent").address


# -- keystores -------------------------------------------------------------------------------------


def failure(path: Path, passphrase: str | None = None) -> str:
    with pytest.raises(PermeshError) as caught:
        Wallet.load(path, passphrase)
    assert caught.value.message
    assert caught.value.remedy
    return caught.value.code


# An encrypted keystore as `save` writes it, but with a scrypt that costs nothing.
LIGHT = Account.encrypt(seed("light"), "opensesame", kdf="scrypt", iterations=2)


def light() -> dict[str, Any]:
    return copy.deepcopy(LIGHT)


def put(path: Path, content: Any) -> Path:
    path.write_text(json.dumps(content))
    return path


def test_an_encrypted_keystore_opens_again_and_shows_no_key(tmp_path: Path) -> None:
    path = tmp_path / "agent.json"
    made = Wallet.create()
    made.save(path, "opensesame")
    content = json.loads(path.read_text())
    assert content["version"] == 3
    assert content["crypto"]["kdf"] == "scrypt"
    assert content["crypto"]["kdfparams"]["n"] >= 2**18
    assert bytes(made._account.key).hex() not in path.read_text()
    assert Wallet.load(path, "opensesame").sign(MESSAGE) == made.sign(MESSAGE)


def test_a_plain_keystore_opens_again_and_says_what_it_is(tmp_path: Path) -> None:
    path = tmp_path / "agent.json"
    made = Wallet.create()
    made.save(path, None)
    assert json.loads(path.read_text())["format"] == PLAIN_FORMAT
    assert Wallet.load(path, None).address == made.address
    assert Wallet.load(path, "not needed").address == made.address


def test_a_keystore_is_its_owners_only_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        wallet("ann agent").save(tmp_path / "agent.json", None)
    finally:
        os.umask(before)
    assert (tmp_path / "agent.json").stat().st_mode & 0o777 == 0o600


def test_a_keystore_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "agent.json"
    wallet("ann agent").save(path, None)
    with pytest.raises(PermeshError) as caught:
        wallet("ben agent").save(path, None)
    assert caught.value.code == "keys.exist"
    assert Wallet.load(path, None).address == wallet("ann agent").address
    assert list(tmp_path.iterdir()) == [path]


def test_the_wrong_passphrase_is_told_from_damage(tmp_path: Path) -> None:
    path = put(tmp_path / "agent.json", light())
    assert failure(path, "opensesamf") == "wallet.passphrase"
    assert failure(path, None) == "wallet.passphrase_needed"
    assert failure(path, "") == "wallet.passphrase_needed"
    assert Wallet.load(path, "opensesame").address == Wallet.from_key(seed("light")).address


def test_a_flipped_digit_that_the_mac_does_not_cover_gives_no_other_key(tmp_path: Path) -> None:
    content = light()
    vector = content["crypto"]["cipherparams"]["iv"]
    content["crypto"]["cipherparams"]["iv"] = f"{int(vector[0], 16) ^ 1:x}{vector[1:]}"
    assert failure(put(tmp_path / "agent.json", content), "opensesame") == "wallet.damaged"


def test_a_key_of_another_address_is_damage(tmp_path: Path) -> None:
    path = tmp_path / "agent.json"
    wallet("ann agent").save(path, None)
    content = json.loads(path.read_text())
    for key in ("11" * 32, content["privateKey"][:-1] + "g", "", "00" * 32, "ff" * 32, "11" * 31):
        assert failure(put(path, {**content, "privateKey": key})) == "wallet.damaged"


WRONG = [None, True, 7, -1, 1e300, "", "zz", "0x", [], {}, ["aa"], {"a": {}}]


@pytest.mark.parametrize("field", ["address", "privateKey"])
@pytest.mark.parametrize("value", WRONG, ids=repr)
def test_a_plain_keystore_of_wrong_types_is_damaged(
    tmp_path: Path, field: str, value: object
) -> None:
    path = tmp_path / "agent.json"
    wallet("ann agent").save(path, None)
    content = json.loads(path.read_text())
    assert failure(put(path, {**content, field: value})) == "wallet.damaged"
    del content[field]
    assert failure(put(path, content)) == "wallet.damaged"


def fields_of(content: Any, at: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    found = [at] if at else []
    if isinstance(content, dict):
        for name, value in content.items():
            found += fields_of(value, (*at, name))
    return found


# What nothing depends on: a name for the file, and a cipher that can only be the one.
IDLE = {("id",), ("crypto", "cipher")}


@pytest.mark.parametrize("at", [one for one in fields_of(light()) if one not in IDLE], ids=".".join)
def test_an_encrypted_keystore_of_wrong_types_is_damaged(
    tmp_path: Path, at: tuple[str, ...]
) -> None:
    path = tmp_path / "agent.json"
    for value in WRONG:
        content = light()
        inner = content
        for name in at[:-1]:
            inner = inner[name]
        inner[at[-1]] = value
        found = failure(put(path, content), "opensesame")
        # A well-formed other salt or MAC: nothing tells it from a wrong passphrase.
        assert found == "wallet.damaged" or (found == "wallet.passphrase" and at[0] == "crypto")
        del inner[at[-1]]
        assert failure(put(path, content), "opensesame") == "wallet.damaged"


@pytest.mark.parametrize(
    ("name", "value"),
    [("n", 2**40), ("n", 2**23), ("r", 2**30), ("p", 2**30), ("p", 10**18), ("dklen", 2**40)],
)
def test_a_keystore_cannot_ask_for_hours_or_for_all_memory(
    tmp_path: Path, name: str, value: int
) -> None:
    content = light()
    content["crypto"]["kdfparams"][name] = value
    assert failure(put(tmp_path / "agent.json", content), "opensesame") == "wallet.damaged"


@pytest.mark.parametrize(
    "content",
    [b"", b"null", b"[]", b"7", b'"text"', b"{", b"\xff\xfe", b"[" * 60_000, b"{}"],
    ids=lambda content: repr(content[:12]),
)
def test_a_file_that_is_no_keystore_is_damaged(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "agent.json"
    path.write_bytes(content)
    assert failure(path, "opensesame") == "wallet.damaged"


def test_a_huge_file_is_not_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "agent.json"
    with path.open("wb") as file:
        file.write(b'{"format": "')
        file.truncate(1 << 36)  # sparse: more than any memory
    assert failure(path) == "wallet.damaged"


def test_what_cannot_be_read_is_said_as_it_is(tmp_path: Path) -> None:
    assert failure(tmp_path / "agent.json") == "wallet.missing"
    (tmp_path / "agent.json").mkdir()
    assert failure(tmp_path / "agent.json") == "wallet.unreadable"
