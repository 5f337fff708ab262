"""The genesis names a mesh by its hash, and an invite carries it whole or not at all."""

import base64
import hashlib
from collections.abc import Callable, Iterable
from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from permesh.errors import Refused
from permesh.identity.genesis import (
    INVITE_PREFIX,
    MAX_ADDRESS_BYTES,
    MAX_BOOTSTRAP,
    MAX_GENESIS_BYTES,
    MAX_INVITE_BYTES,
    MAX_REGISTRARS,
    VERSION,
    Genesis,
    Invite,
    Registrar,
    check_name,
)
from permesh.records import pack

from .hostile import changed, damaged, noise
from .people import START_MS, genesis, nullifier, seed

ADDRESSES = ("/ip4/203.0.113.7/tcp/9470/p2p/12D3KooWExample", "/dns4/mesh.example.org/tcp/1")
INVITE = Invite(genesis(), ADDRESSES)
ANN, BEN = genesis().registrars


def registrars(count: int, name: str = "n" * 32) -> tuple[Registrar, ...]:
    return tuple(
        Registrar(seed(f"owner {one}")[:20], seed(f"agent {one}")[:20], name, seed(f"person {one}"))
        for one in range(count)
    )


def refusal(action: Callable[[], Any]) -> Refused:
    with pytest.raises(Refused) as caught:
        action()
    return caught.value


# -- genesis ---------------------------------------------------------------------------------------


def test_it_reads_back() -> None:
    assert Genesis.decode(genesis().encode()) == genesis()


def test_any_damage_is_refused_or_is_another_mesh() -> None:
    data = genesis().encode()
    for other in damaged(data):
        try:
            found = Genesis.decode(other)
        except Refused:
            continue
        assert found.mesh_id != genesis().mesh_id
        assert found.encode() == other


def test_any_other_field_is_another_mesh() -> None:
    seen = set()
    for name, other in changed(genesis()):
        seen.add(name)
        assert other.mesh_id != genesis().mesh_id
    assert seen == {one.name for one in fields(Genesis)}


def test_any_other_field_of_a_registrar_is_another_mesh() -> None:
    for first, second in ((ANN, BEN), (BEN, ANN)):
        for _, other in changed(first):
            pair = (other, second) if first is ANN else (second, other)
            assert replace(genesis(), registrars=pair).mesh_id != genesis().mesh_id


@pytest.mark.parametrize(
    "broken",
    [
        {"registrars": ()},
        {"registrars": registrars(MAX_REGISTRARS + 1)},
        {"registrars": (ANN, ANN)},
        {"registrars": (ANN, replace(BEN, owner=ANN.owner))},
        {"registrars": (ANN, replace(BEN, agent=ANN.agent))},
        {"registrars": (replace(ANN, agent=ANN.owner), BEN)},
        {"registrars": (replace(ANN, owner=bytes(19)), BEN)},
        {"registrars": (replace(ANN, agent=bytes(21)), BEN)},
        {"registrars": (replace(ANN, name="A"), BEN)},
        {"registrars": (replace(ANN, person=b""), BEN)},
        {"registrars": (replace(ANN, person=bytes(31)), BEN)},
        {"registrars": (replace(ANN, person=bytes(33)), BEN)},
        {"name": ""},
        {"name": "Mesh"},
        {"salt": bytes(15)},
        {"salt": bytes(17)},
        {"created_ms": -1},
        {"created_ms": True},
    ],
)
def test_what_founds_no_mesh_is_refused(broken: dict[str, Any]) -> None:
    data = replace(genesis(), **broken).encode()
    assert refusal(lambda: Genesis.decode(data)).code in ("identity.field", "identity.name")


def test_one_person_founds_once() -> None:
    twice = replace(genesis(), registrars=(ANN, replace(BEN, person=ANN.person)))
    error = refusal(lambda: Genesis.decode(twice.encode()))
    assert error.code == "identity.field"
    assert "person" in error.message


@pytest.mark.parametrize("count", [1, 2, 3, MAX_REGISTRARS])
def test_a_threshold_is_what_the_registrars_can_reach(count: int) -> None:
    mesh = replace(genesis(), registrars=registrars(count))
    for threshold in {1, count // 2 + 1, count}:
        whole = replace(mesh, threshold=threshold)
        assert Genesis.decode(whole.encode()) == whole
    for threshold in (0, count + 1, -1, 2**63 - 1, True, False, None, "1", b"\1", [1]):
        broken = replace(mesh, threshold=threshold).encode()
        error = refusal(lambda broken=broken: Genesis.decode(broken))
        assert error.code == "identity.field"
        assert "threshold" in error.message


def test_the_threshold_is_part_of_what_the_mesh_is() -> None:
    both = replace(genesis(), threshold=2)
    assert Genesis.decode(both.encode()).threshold == 2
    assert both.mesh_id != genesis().mesh_id


def test_the_scope_follows_from_the_salt_and_from_nothing_else() -> None:
    expected = hashlib.sha256(b"permesh/scope/1\0" + genesis().salt).digest()
    assert genesis().scope == expected
    for name, other in changed(genesis()):
        assert (other.scope == expected) == (name != "salt")
    assert genesis().mesh_id != genesis().scope


def test_persons_of_two_meshes_do_not_match() -> None:
    there = genesis("elsewhere")
    assert not {one.person for one in there.registrars} & {ANN.person, BEN.person}
    assert ANN.person == nullifier(genesis().scope, "ann")


def test_the_largest_genesis_fits() -> None:
    largest = Genesis(
        "m" * 32, 2**62, seed("salt")[:16], registrars(MAX_REGISTRARS), MAX_REGISTRARS
    )
    assert len(largest.encode()) <= MAX_GENESIS_BYTES
    assert Genesis.decode(largest.encode()) == largest


def whole(version: Any = VERSION) -> list[Any]:
    return [
        version, "mesh", START_MS, bytes(16),
        [[bytes(20), b"\1" * 20, "a", bytes(32)]], 1,
    ]  # fmt: skip


@pytest.mark.parametrize("version", [0, 1, 3, 255, True, "2", None, [], b"\2"])
def test_another_version_says_so(version: Any) -> None:
    assert Genesis.decode(pack(whole())).name == "mesh"
    error = refusal(lambda: Genesis.decode(pack(whole(version))))
    assert error.code == "identity.version"
    assert error.remedy == "Upgrade permesh."


@pytest.mark.parametrize("at", range(6))
def test_another_shape_is_refused(at: int) -> None:
    right = whole()
    for wrong in (right[:at] + right[at + 1 :], [*right[: at + 1], *right[at:]]):
        code = refusal(lambda wrong=wrong: Genesis.decode(pack(wrong))).code
        assert code in ("identity.field", "identity.version")
    founder = right[4][0]
    for wrong in (founder[:3], [*founder, 0], founder[::-1], [], None, "x", b""):
        broken = [*right[:4], [wrong], 1]
        assert refusal(lambda broken=broken: Genesis.decode(pack(broken))).code.startswith(
            "identity."
        )


@pytest.mark.parametrize("name", ["a", "0", "a-b", "a" * 32, "0-9", "a--b"])
def test_names_that_are_valid(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize(
    "name", ["", "-", "a-", "-a", "A", "ä", "a b", "a\n", "a" * 33, "a_b", "\x1b[2J", None, 7, b"a"]
)
def test_names_that_are_not(name: Any) -> None:
    error = refusal(lambda: check_name(name))
    assert error.code == "identity.name"
    assert error.message.isprintable()


# -- invites ---------------------------------------------------------------------------------------


def test_an_invite_reads_back_whatever_surrounds_it() -> None:
    for line in (INVITE.line(), f"  {INVITE.line()}\n", f"\r\n{INVITE.line()}\t"):
        assert Invite.parse(line) == INVITE
    assert Invite.parse(Invite(genesis(), ()).line()).bootstrap == ()


def test_the_largest_invite_can_be_read() -> None:
    largest = Invite(
        Genesis("m" * 32, 2**62, seed("salt")[:16], registrars(MAX_REGISTRARS), MAX_REGISTRARS),
        ("/" + "a" * (MAX_ADDRESS_BYTES - 1),) * MAX_BOOTSTRAP,
    )
    assert len(largest.line()) <= MAX_INVITE_BYTES
    assert Invite.parse(largest.line()) == largest


def codes(lines: Iterable[str]) -> set[str]:
    return {refusal(lambda line=line: Invite.parse(line)).code for line in lines}


def test_a_line_cut_short_is_told() -> None:
    line, head = INVITE.line(), len(INVITE_PREFIX)
    assert codes(line[:length] for length in range(head)) == {"invite.not_one"}
    assert codes(line[:length] for length in range(head, len(line))) == {"invite.mistyped"}


def test_a_mistyped_character_is_told() -> None:
    line = INVITE.line()
    for at in range(len(INVITE_PREFIX), len(line)):
        others = {"A", "b", "-", "=", "+", " ", "é"} - {line[at]}
        assert codes(line[:at] + one + line[at + 1 :] for one in others) == {"invite.mistyped"}
    assert codes(line + more for more in ("A", "=", "==", "AAAA", line)) == {"invite.mistyped"}


def test_an_invite_has_one_spelling() -> None:
    """The last character of base64 may have bits that stand for nothing."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    for length in (1, 2, 3):
        line = Invite(genesis(), ("/" * length,)).line()
        others = [line[:-1] + last for last in alphabet if last != line[-1]]
        assert codes(others) == {"invite.mistyped"}


@pytest.mark.parametrize(
    "addresses",
    [
        ("/ip4/1.2.3.4",) * (MAX_BOOTSTRAP + 1),
        ("ip4/1.2.3.4",),
        ("",),
        ("/" + "a" * MAX_ADDRESS_BYTES,),
        ("/dns4/\x1b[2Jevil",),
        ("/dns4/a\nb",),
        ("/dns4/\u202eevil",),
        (b"/ip4",),
        (7,),
        (None,),
        (["/ip4"],),
    ],
)
def test_addresses_that_are_none_are_refused(addresses: tuple[Any, ...]) -> None:
    line = Invite(genesis(), addresses).line()
    assert refusal(lambda: Invite.parse(line)).code == "identity.field"


@pytest.mark.parametrize("line", ["", "permesh", "permesh2:AAAA", "https://x", "PERMESH1:AA"])
def test_what_is_no_invite_is_told_what_one_is(line: str) -> None:
    error = refusal(lambda: Invite.parse(line))
    assert error.code == "invite.not_one"
    assert INVITE_PREFIX in error.remedy


def test_a_line_without_end_is_not_decoded() -> None:
    assert refusal(lambda: Invite.parse(INVITE_PREFIX + "A" * 10**7)).code == "identity.field"


@settings(deadline=None, max_examples=40)
@given(st.text(max_size=60), noise())
def test_noise_is_refused_and_nothing_else_happens(text: str, data: bytes) -> None:
    refusal(lambda: Invite.parse(text))
    refusal(lambda: Invite.parse(INVITE_PREFIX + text))
    refusal(lambda: Invite.parse(INVITE_PREFIX + base64.urlsafe_b64encode(data).decode()))
    refusal(lambda: Genesis.decode(data))
