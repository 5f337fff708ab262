"""What is signed and hashed, computed a second time from the specifications themselves.

EIP-712 by hand with keccak and the ABI, RFC 6962 by its own recursion: no typed-data library and
no tree library has a say, and then those are asked as well.
"""

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import msgpack
import pytest
from eth_abi import encode
from eth_account.messages import SignableMessage, encode_typed_data
from eth_keys import KeyAPI
from eth_keys.backends import NativeECCBackend
from eth_utils import keccak

from permesh.errors import Refused
from permesh.identity import merkle
from permesh.identity.checkpoint import Vote
from permesh.identity.credential import Credential
from permesh.identity.enrolment import Enrolment
from permesh.identity.entry import DECIDED, FOUNDER, OWNER, Approval, Entry
from permesh.identity.genesis import Genesis
from permesh.identity.owner import OwnerStatement
from permesh.identity.person import person_hash, vouched_nullifier
from permesh.identity.wallet import TypedMessage
from tests.vectors import make_identity

from .people import wallet

STORED = Path(__file__).parents[1] / "vectors" / "identity.json"
VECTORS = json.loads(STORED.read_text())
MESH = bytes.fromhex(VECTORS["genesis"]["mesh_id"])
DOMAIN = "EIP712Domain(string name,string version,uint256 chainId,bytes32 salt)"


def sha256(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(parts)).digest()


def test_the_stored_vectors_are_what_this_release_makes() -> None:
    """If this fails by intention, members of two releases cannot read each other."""
    assert make_identity.text() == STORED.read_text()


# -- EIP-712 ---------------------------------------------------------------------------------------


def read(name: str, data: bytes) -> tuple[TypedMessage, Any, bytes]:
    """The message of the struct, what holds its values, and its encoding anew."""
    if name == "Approval":
        entry = Entry.decode(data)
        (approval,) = entry.approvals
        return approval.message(MESH, entry), approval, entry.encode()
    if name == "Checkpoint":
        vote = Vote.decode(data)
        return vote.checkpoint.message(), vote.checkpoint, vote.encode()
    kinds = {"Enrolment": Enrolment, "Credential": Credential, "OwnerStatement": OwnerStatement}
    statement: Any = kinds[name.partition(".")[0]].decode(data)
    return statement.message(), statement, statement.encode()


@pytest.fixture(params=sorted(VECTORS["structs"]))
def vector(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    return request.param, VECTORS["structs"][request.param]


def members(type_string: str) -> list[tuple[str, str]]:
    listed = type_string[type_string.index("(") + 1 : -1].split(",")
    return [(kind, name) for kind, name in (one.split(" ") for one in listed)]


def by_hand(mesh: bytes, type_string: str, values: dict[str, Any]) -> bytes:
    """keccak(0x1901, domain separator, hashStruct(message)), as EIP-712 defines them."""
    domain = keccak(
        encode(
            ["bytes32", "bytes32", "bytes32", "uint256", "bytes32"],
            [keccak(text=DOMAIN), keccak(text="permesh"), keccak(text="1"), 8453, mesh],
        )
    )
    kinds, words = ["bytes32"], [keccak(text=type_string)]
    for kind, name in members(type_string):
        value = values[name]
        if kind == "string":
            kind, value = "bytes32", keccak(text=value)
        elif kind == "bytes":
            kind, value = "bytes32", keccak(bytes.fromhex(value))
        elif kind in ("address", "bytes32"):
            value = bytes.fromhex(value)
        else:
            assert kind == "uint64"
            assert 0 <= value < 2**64
        kinds.append(kind)
        words.append(value)
    return keccak(b"\x19\x01" + domain + keccak(encode(kinds, words)))


def digest_of(signable: SignableMessage) -> str:
    return keccak(b"\x19" + signable.version + signable.header + signable.body).hex()


def test_every_struct_that_is_signed_has_a_vector() -> None:
    assert set(VECTORS["structs"]) == {
        "Enrolment", "Credential", "Approval", "Checkpoint",
        "OwnerStatement.revoke", "OwnerStatement.move", "OwnerStatement.repair",
    }  # fmt: skip


def test_the_digest_is_what_eip_712_says(vector: tuple[str, dict[str, Any]]) -> None:
    name, found = vector
    message, _, _ = read(name, bytes.fromhex(found["encoded"]))
    assert by_hand(MESH, found["type"], found["values"]).hex() == found["digest"]
    assert digest_of(message.signable()) == found["digest"]


def test_the_digest_is_what_another_library_says(vector: tuple[str, dict[str, Any]]) -> None:
    name, found = vector
    signable = encode_typed_data(
        domain_data={"name": "permesh", "version": "1", "chainId": 8453, "salt": MESH},
        message_types={
            name.partition(".")[0]: [
                {"type": kind, "name": member} for kind, member in members(found["type"])
            ]
        },
        message_data={
            member: "0x" + found["values"][member]
            if kind in ("address", "bytes", "bytes32")
            else found["values"][member]
            for kind, member in members(found["type"])
        },
    )
    assert digest_of(signable) == found["digest"]


@pytest.mark.parametrize("wrong", ["mesh", "type", "values"])
def test_another_mesh_type_or_value_has_another_digest(
    vector: tuple[str, dict[str, Any]], wrong: str
) -> None:
    _, found = vector
    mesh, kind, values = MESH, found["type"], found["values"]
    if wrong == "values":
        for name, value in values.items():
            other = value + (1 if isinstance(value, int) else "00")
            if isinstance(value, str) and re.fullmatch("([0-9a-f]{40}|[0-9a-f]{64})", value):
                other = value[::-1] if value[::-1] != value else "1" * len(value)
            assert by_hand(mesh, kind, {**values, name: other}).hex() != found["digest"]
    elif wrong == "mesh":
        assert by_hand(mesh[::-1], kind, values).hex() != found["digest"]
    else:
        assert by_hand(mesh, kind.replace("(", "2("), values).hex() != found["digest"]


def test_every_value_of_the_struct_is_signed(vector: tuple[str, dict[str, Any]]) -> None:
    name, found = vector
    message, statement, _ = read(name, bytes.fromhex(found["encoded"]))
    shown = {
        name: value.hex() if isinstance(value, bytes) else value
        for _, name, value in message.fields
    }
    assert shown == found["values"]
    assert found["type"].partition("(")[0] == name.partition(".")[0] == message.primary
    # All but the mesh, which is the domain's salt, and the signatures themselves.
    own = {one.name for one in fields(statement)}
    unsigned = {one for one in own if one.endswith("signature")} | {"mesh"}
    snake = {re.sub("([A-Z])", r"_\1", one).lower() for one in found["values"]}
    of_the_entry = {"kind", "entry"} if isinstance(statement, Approval) else set()
    assert snake - of_the_entry == {one.removesuffix("_number") for one in own - unsigned}


def test_the_signatures_are_those_of_the_named_keys(vector: tuple[str, dict[str, Any]]) -> None:
    name, found = vector
    message, _, _ = read(name, bytes.fromhex(found["encoded"]))
    pure_python = KeyAPI(NativeECCBackend())
    assert found["signatures"]
    for who, signature in found["signatures"].items():
        raw = bytes.fromhex(signature)
        assert wallet(who).sign(message) == raw
        assert signature in found["encoded"]
        seen = pure_python.Signature(raw[:64] + bytes([raw[64] - 27]))
        signer = pure_python.ecdsa_recover(bytes.fromhex(found["digest"]), seen)
        assert signer.to_canonical_address() == wallet(who).address


def test_the_encoded_forms_are_stable_and_verify(vector: tuple[str, dict[str, Any]]) -> None:
    name, found = vector
    data = bytes.fromhex(found["encoded"])
    assert read(name, data)[2] == data
    kinds: dict[str, Any] = {"Approval": Entry, "Checkpoint": Vote, "Enrolment": Enrolment}
    kinds |= {"Credential": Credential, "OwnerStatement": OwnerStatement}
    kinds[name.partition(".")[0]].decode(data).verify(MESH)


def test_an_encoded_form_is_an_array_of_the_values_in_their_order(
    vector: tuple[str, dict[str, Any]],
) -> None:
    name, found = vector
    data = bytes.fromhex(found["encoded"])
    values = [
        bytes.fromhex(found["values"][one]) if kind in ("address", "bytes", "bytes32") else
        found["values"][one]
        for kind, one in members(found["type"])
    ]  # fmt: skip
    signatures = [bytes.fromhex(one) for one in found["signatures"].values()]
    if name == "Approval":
        kind, digest, decided, registrar = values
        entry = VECTORS["entries"][kind]
        assert entry["digest"] == digest.hex()
        expected = [2, kind, bytes.fromhex(entry["data"]), [[registrar, decided, *signatures]]]
    elif name == "Checkpoint":
        witness = wallet("ann agent").address
        expected = [2, [MESH, *values], witness, *signatures]
    else:
        no_second = [b""] if name in ("OwnerStatement.revoke", "OwnerStatement.repair") else []
        expected = [2, MESH, *values, *signatures, *no_second]
    assert msgpack.packb(expected, use_bin_type=True) == data


# -- what is hashed --------------------------------------------------------------------------------


def test_the_mesh_id_is_the_hash_of_the_genesis() -> None:
    found = VECTORS["genesis"]
    encoded = bytes.fromhex(found["encoded"])
    named = [
        [bytes.fromhex(owner), bytes.fromhex(agent), name, bytes.fromhex(person)]
        for owner, agent, name, person in found["registrars"]
    ]
    salt = bytes.fromhex(found["salt"])
    whole = [2, found["name"], found["created_ms"], salt, named, found["threshold"]]
    assert msgpack.packb(whole, use_bin_type=True) == encoded
    assert sha256(b"permesh/genesis/2\x00", encoded) == MESH
    genesis = Genesis.decode(encoded)
    assert (genesis.mesh_id, genesis.encode()) == (MESH, encoded)


def test_the_scope_is_the_hash_of_the_salt() -> None:
    found = VECTORS["genesis"]
    expected = sha256(b"permesh/scope/1\x00", bytes.fromhex(found["salt"]))
    assert expected.hex() == found["scope"]
    assert Genesis.decode(bytes.fromhex(found["encoded"])).scope == expected


@pytest.mark.parametrize("found", VECTORS["persons"], ids=lambda one: ascii(one["text"]))
def test_a_persons_nullifier_is_two_hashes(found: dict[str, str]) -> None:
    scope = bytes.fromhex(VECTORS["genesis"]["scope"])
    person = sha256(b"permesh/handle/1\x00", found["plain"].encode())
    assert person == person_hash(found["text"]) == bytes.fromhex(found["hash"])
    nullifier = sha256(b"permesh/person/vouched/1\x00", scope, person)
    assert nullifier == vouched_nullifier(scope, person) == bytes.fromhex(found["nullifier"])


def test_the_founders_nullifiers_are_made_in_the_same_way() -> None:
    scope = bytes.fromhex(VECTORS["genesis"]["scope"])
    for _, _, name, nullifier in VECTORS["genesis"]["registrars"]:
        person = sha256(b"permesh/handle/1\x00", f"{name}@example.org".encode())
        assert sha256(b"permesh/person/vouched/1\x00", scope, person).hex() == nullifier


def test_every_kind_of_entry_has_a_vector() -> None:
    assert set(VECTORS["entries"]) == DECIDED | {FOUNDER, OWNER}


@pytest.mark.parametrize("kind", sorted(VECTORS["entries"]))
def test_an_entrys_digest_is_of_its_kind_and_content_alone(kind: str) -> None:
    found = VECTORS["entries"][kind]
    data = bytes.fromhex(found["data"])
    packed = msgpack.packb([kind, data], use_bin_type=True)
    assert sha256(b"permesh/entry/1\x00", packed).hex() == found["digest"]
    entry = Entry.decode(bytes.fromhex(found["encoded"]))
    assert (entry.kind, entry.data, entry.digest.hex()) == (kind, data, found["digest"])
    assert entry.encode().hex() == found["encoded"]
    version, *rest = msgpack.unpackb(bytes.fromhex(found["encoded"]))
    assert (version, rest[:2], bool(rest[2])) == (2, [kind, data], kind in DECIDED)


# -- RFC 6962 --------------------------------------------------------------------------------------


def split(leaves: list[bytes]) -> int:
    """The largest power of two that is smaller than how many there are."""
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return k


def tree_hash(leaves: list[bytes]) -> bytes:
    """MTH of section 2.1."""
    if not leaves:
        return sha256()
    if len(leaves) == 1:
        return sha256(b"\x00", leaves[0])
    k = split(leaves)
    return sha256(b"\x01", tree_hash(leaves[:k]), tree_hash(leaves[k:]))


def audit_path(m: int, leaves: list[bytes]) -> list[tuple[int, bytes]]:
    """PATH of section 2.1.1, and with each hash whether it stands on the left (1) or right (0)."""
    if len(leaves) == 1:
        return []
    k = split(leaves)
    if m < k:
        return [*audit_path(m, leaves[:k]), (0, tree_hash(leaves[k:]))]
    return [*audit_path(m - k, leaves[k:]), (1, tree_hash(leaves[:k]))]


def grown(leaves: list[bytes]) -> merkle.Tree:
    tree = merkle.Tree()
    for number, leaf in enumerate(leaves, 1):
        assert tree.append(leaf) == number
    return tree


LEAVES = [bytes.fromhex(one) for one in VECTORS["log"]["leaves"]]
RFC = {name: list(map(bytes.fromhex, found)) for name, found in VECTORS["log"]["rfc6962"].items()}


@pytest.mark.parametrize("size", range(1, 9))
def test_the_roots_are_those_of_certificate_transparency(size: int) -> None:
    leaves, root = RFC["leaves"][:size], RFC["roots"][size - 1]
    assert tree_hash(leaves) == root
    assert grown(leaves).root() == grown(RFC["leaves"]).root(size) == root


def test_the_reference_vectors_are_not_made_here() -> None:
    assert len(RFC["leaves"]) == len(RFC["roots"]) == 8
    first = "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
    last = "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"
    assert (RFC["roots"][0].hex(), RFC["roots"][7].hex()) == (first, last)
    assert merkle.Tree().root() == tree_hash([]) == sha256(b"")


@pytest.mark.parametrize("size", range(1, 10))
def test_a_tree_of_every_size_has_the_root_and_the_paths_of_the_rfc(size: int) -> None:
    leaves = LEAVES[:size]
    assert tree_hash(leaves).hex() == VECTORS["log"]["roots"][size - 1]
    tree = grown(leaves)
    assert tree.root() == grown(LEAVES).root(size) == tree_hash(leaves)
    for number, leaf in enumerate(leaves, 1):
        path = tree.path(number, size)
        upwards = audit_path(number - 1, leaves)
        assert path.hashes == (sha256(b"\x00", leaf), *(one for _, one in upwards))
        assert (path.index, path.size, len(path.rule)) == (number, size, len(upwards) + 1)
        sides = bytes(side for side, _ in upwards)
        assert path.rule[:-1] == sides
        path.verify(leaf, tree_hash(leaves), len(leaves))


def test_the_stored_paths_lead_to_the_root() -> None:
    root = tree_hash(LEAVES)
    assert len(VECTORS["log"]["paths"]) == len(LEAVES) == 9
    for number, (found, leaf) in enumerate(zip(VECTORS["log"]["paths"], LEAVES, strict=True), 1):
        own, *upwards = map(bytes.fromhex, found["hashes"])
        rule = bytes.fromhex(found["rule"])
        assert own == sha256(b"\x00", leaf)
        folded = own
        for side, other in zip(rule, upwards, strict=False):
            folded = sha256(b"\x01", *((other, folded) if side else (folded, other)))
        assert folded == root
        merkle.Path(number, 9, rule, (own, *upwards)).verify(leaf, root, 9)


def refused(action: Callable[[], Any]) -> str:
    with pytest.raises(Refused) as caught:
        action()
    return caught.value.code


def test_a_leaf_and_a_node_are_never_the_same() -> None:
    """Two leaves' hashes, given as one leaf's data, do not make the tree above them."""
    two = grown(LEAVES[:2])
    node = sha256(b"\x00", LEAVES[0]) + sha256(b"\x00", LEAVES[1])
    assert grown([node]).root() != two.root()
    path = merkle.Path(1, 1, b"\0", (two.root(),))
    assert refused(lambda: path.verify(node, two.root(), two.size)) == "log.path"
