"""What is signed, computed a second time from EIP-712 itself: no typed-data library has a say."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from eth_abi import encode
from eth_keys import KeyAPI
from eth_keys.backends import NativeECCBackend
from eth_utils import keccak

from permesh.identity.credential import Admission, Credential, Enrolment
from permesh.identity.genesis import Genesis
from permesh.identity.wallet import TypedMessage

from .people import wallet

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "identity.json").read_text())
STATEMENTS = {"Enrolment": Enrolment, "Admission": Admission, "Credential": Credential}
DOMAIN = "EIP712Domain(string name,string version,uint256 chainId,bytes32 salt)"


def by_hand(mesh: bytes, type_string: str, values: dict[str, Any]) -> bytes:
    """keccak(0x1901, domain separator, hashStruct(message)), as EIP-712 defines them."""
    domain = keccak(
        encode(
            ["bytes32", "bytes32", "bytes32", "uint256", "bytes32"],
            [keccak(text=DOMAIN), keccak(text="permesh"), keccak(text="1"), 8453, mesh],
        )
    )
    kinds, words = ["bytes32"], [keccak(text=type_string)]
    for member in type_string[type_string.index("(") + 1 : -1].split(","):
        kind, name = member.split(" ")
        value = values[name]
        if kind == "string":
            kind, value = "bytes32", keccak(text=value)
        elif kind in ("address", "bytes32"):
            value = bytes.fromhex(value)
        kinds.append(kind)
        words.append(value)
    return keccak(b"\x19\x01" + domain + keccak(encode(kinds, words)))


def signed_digest(message: TypedMessage) -> bytes:
    signable = message.signable()
    return keccak(b"\x19" + signable.version + signable.header + signable.body)


@pytest.fixture(params=sorted(STATEMENTS))
def vector(request: pytest.FixtureRequest) -> tuple[Any, dict[str, Any]]:
    found = VECTORS["structs"][request.param]
    return STATEMENTS[request.param].decode(bytes.fromhex(found["encoded"])), found


def test_the_digest_is_what_eip_712_says(vector: tuple[Any, dict[str, Any]]) -> None:
    statement, found = vector
    mesh = bytes.fromhex(VECTORS["genesis"]["mesh_id"])
    assert by_hand(mesh, found["type"], found["values"]).hex() == found["digest"]
    assert signed_digest(statement.message()).hex() == found["digest"]


def test_every_value_of_the_struct_is_signed(vector: tuple[Any, dict[str, Any]]) -> None:
    statement, found = vector
    shown = {
        name: value.hex() if isinstance(value, bytes) else value
        for _, name, value in statement.message().fields
    }
    assert shown == found["values"]
    # All but the version, the mesh (the domain's salt) and the signatures themselves.
    signed = len(found["values"]) + 1 + len(found["signatures"])
    assert len(type(statement).__dataclass_fields__) == signed


def test_the_signatures_are_those_of_the_named_keys(vector: tuple[Any, dict[str, Any]]) -> None:
    statement, found = vector
    pure_python = KeyAPI(NativeECCBackend())
    for name, signature in found["signatures"].items():
        raw = bytes.fromhex(signature)
        assert wallet(name).sign(statement.message()) == raw
        seen = pure_python.Signature(raw[:64] + bytes([raw[64] - 27]))
        signer = pure_python.ecdsa_recover(bytes.fromhex(found["digest"]), seen)
        assert signer.to_canonical_address() == wallet(name).address


def test_the_encoded_forms_are_stable(vector: tuple[Any, dict[str, Any]]) -> None:
    statement, found = vector
    assert statement.encode().hex() == found["encoded"]


def test_the_mesh_id_is_the_hash_of_the_genesis() -> None:
    encoded = bytes.fromhex(VECTORS["genesis"]["encoded"])
    expected = hashlib.sha256(b"permesh/genesis/1\x00" + encoded).hexdigest()
    assert expected == VECTORS["genesis"]["mesh_id"]
    assert Genesis.decode(encoded).mesh_id.hex() == expected
