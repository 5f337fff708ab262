"""Everything that is signed: no other bytes, and no other value of any field, are accepted."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from permesh.errors import Refused
from permesh.identity.checkpoint import (
    MAX_CERTIFICATE_BYTES,
    MAX_ROUND,
    Certificate,
    Checkpoint,
    Contradiction,
    Vote,
)
from permesh.identity.credential import Credential
from permesh.identity.enrolment import MAX_EVIDENCE_BYTES, Enrolment
from permesh.identity.entry import (
    DECIDED,
    MAX_CONTENT_BYTES,
    MAX_ENTRY_BYTES,
    MAX_REASON_CHARS,
    MAX_RELEASE_CHARS,
    OWNER,
    REINSTATEMENT,
    Approval,
    Entry,
    RegistrarChange,
    Release,
    Resolution,
    Suspension,
)
from permesh.identity.genesis import MAX_REGISTRARS, VERSION, Genesis
from permesh.identity.owner import ACTS, OwnerStatement
from permesh.identity.person import VERIFIERS
from permesh.identity.signed import MAX_STATEMENT_BYTES
from permesh.identity.wallet import TypedMessage
from permesh.records import MAX_UINT, pack, unpack

from .hostile import changed, found_at, noise, places, put_at, trees
from .people import START_MS, Person, genesis, seed, wallet

MESH, ELSEWHERE = genesis().mesh_id, genesis("elsewhere").mesh_id
ANN, BEN, CLEO, DORA = map(Person, ("ann", "ben", "cleo", "dora"))
WITNESSES = [ANN.address, BEN.address]
QUORUM = 2
REPAIRED = seed("record")


@dataclass(frozen=True)
class Case:
    """Something signed, and how it is read and checked."""

    right: Any
    decode: Callable[[bytes], Any]
    verify: Callable[[Any], None] = lambda one: one.verify(MESH)
    encode: Callable[[Any], bytes] = lambda one: one.encode()


def same_mesh(found: Genesis) -> None:
    """A genesis is not signed: its hash is what everyone knows it by."""
    if found.mesh_id != MESH:
        raise Refused("test.other_mesh", "It founds another mesh.", "Take the right one.")


def certified(checkpoint: Checkpoint) -> Certificate:
    votes = sorted((one.address, one.votes(checkpoint)) for one in (ANN, BEN))
    return Certificate(checkpoint, tuple((who, vote.signature) for who, vote in votes))


def by_quorum(one: Certificate | Contradiction) -> None:
    one.verify(MESH, WITNESSES, QUORUM)


CHECKPOINT = Checkpoint(MESH, 2, seed("base"), 5, seed("root"), 3)
CERTIFICATE = certified(CHECKPOINT)
CONTRADICTION = Contradiction(
    CERTIFICATE, certified(replace(CHECKPOINT, size=4, root=seed("branch"), round=4))
)
ENROLMENT = CLEO.enrols(evidence=b"met in person")
REVOKE = OwnerStatement.revoke(MESH, CLEO.owner, CLEO.address, START_MS)
MOVE = OwnerStatement.move(MESH, CLEO.owner, CLEO.address, wallet("cleo new"), START_MS)
REPAIR = OwnerStatement.repair(MESH, CLEO.owner, CLEO.address, 7, REPAIRED, START_MS)
ENTRIES = {
    "admission": ANN.approves(Entry.of(ENROLMENT)),
    "registrars": ANN.approves(Entry.of(RegistrarChange(CLEO.address, BEN.address, START_MS))),
    "suspension": ANN.approves(Entry.suspend(CLEO.address, "Away.", START_MS)),
    "reinstatement": ANN.approves(Entry.reinstate(CLEO.address, "Back.", START_MS)),
    "release": ANN.approves(Entry.of(Release("0.2.0", seed("runtime"), True, START_MS))),
    "resolution": ANN.approves(Entry.of(Resolution(2, seed("base"), seed("root")))),
    "owner": Entry.of(MOVE),
}

CASES = {
    "genesis": Case(genesis(), Genesis.decode, same_mesh),
    "enrolment": Case(ENROLMENT, Enrolment.decode),
    "credential": Case(CLEO.credential(), Credential.decode),
    "revoke": Case(REVOKE, OwnerStatement.decode),
    "move": Case(MOVE, OwnerStatement.decode),
    "repair": Case(REPAIR, OwnerStatement.decode),
    **{f"entry of {kind}": Case(entry, Entry.decode) for kind, entry in ENTRIES.items()},
    "vote": Case(ANN.votes(CHECKPOINT), Vote.decode),
    "certificate": Case(
        CERTIFICATE,
        lambda data: Certificate.of(unpack(data, limit=MAX_CERTIFICATE_BYTES)),
        by_quorum,
        lambda one: pack(one.fields()),
    ),
    "contradiction": Case(CONTRADICTION, Contradiction.decode, by_quorum),
}
every_case = pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))
few = settings(deadline=None, max_examples=20)

# What may be said of hostile input, by the name that other programs know it by.
CODES = {
    "identity.field", "identity.name", "identity.version",
    "format.too_long", "format.msgpack", "format.not_canonical", "format.integer", "format.text",
    "format.too_deep", "format.too_many", "format.type",
    "enrolment.wrong_mesh", "enrolment.signature",
    "credential.wrong_mesh", "credential.life", "credential.signature",
    "owner.wrong_mesh", "owner.signature", "approval.signature",
    "checkpoint.wrong_mesh", "checkpoint.signature", "checkpoint.shrinks",
    "checkpoint.witness", "checkpoint.quorum", "contradiction.none",
    "test.other_mesh",
}  # fmt: skip


def malformed(code: str) -> bool:
    """Bytes that are no statement at all, for which there is nothing that a person could do."""
    return code == "identity.field" or code.startswith("format.")


def check_refusal(error: Refused) -> None:
    """A known code, one sentence, and a remedy if what is wrong has one."""
    assert error.code in CODES
    plain = re.sub(r"'[^']*'|\"[^\"]*\"", "''", error.message)
    assert re.fullmatch(r"[A-Z0-9].*[^.]\.", plain)
    assert ". " not in plain
    assert error.message.isprintable()
    assert malformed(error.code) or error.remedy


def refusal(action: Callable[[], Any]) -> Refused:
    with pytest.raises(Refused) as caught:
        action()
    check_refusal(caught.value)
    return caught.value


def encoded(encode: Callable[[], bytes]) -> bytes:
    try:
        return encode()
    except Refused:  # it has no canonical form, so nobody can send it
        assume(False)
        raise


def must_refuse(case: Case, data: bytes) -> None:
    """Unless it is the right thing itself; nothing but ``Refused`` may be raised."""
    try:
        found = case.decode(data)
        case.verify(found)
    except Refused as error:
        check_refusal(error)
    else:
        assert (data, found) == (case.encode(case.right), case.right)


# -- every structure -------------------------------------------------------------------------------


@every_case
def test_it_reads_back_and_verifies(case: Case) -> None:
    data = case.encode(case.right)
    assert case.decode(data) == case.right
    assert case.encode(case.decode(data)) == data
    case.verify(case.right)


def others_of(case: Case) -> Iterator[tuple[str, Any]]:
    yield from changed(case.right)
    if isinstance(case.right, Entry):
        if not case.right.approvals:
            yield "approvals", replace(case.right, approvals=ENTRIES["release"].approvals)
        for _, content in changed(case.right.content()):
            yield "data", replace(case.right, data=content.encode())


@every_case
def test_no_other_value_of_any_field_is_accepted(case: Case) -> None:
    seen = set()
    for name, other in others_of(case):
        seen.add(name)
        refusal(lambda other=other: case.verify(case.decode(case.encode(other))))
    assert seen == {one.name for one in fields(case.right)}


ADDRESSES = [who.address for who in (ANN, BEN, CLEO, DORA)] + [wallet("cleo owner").address]
HASHES = [MESH, ELSEWHERE, seed("root"), seed("base"), seed("runtime"), bytes(32)]
SIGNATURES = [ENROLMENT.owner_signature, ENROLMENT.agent_signature, MOVE.owner_signature]
WORDS = [*ACTS, *VERIFIERS, *sorted(DECIDED), OWNER, "cleo", "dora", ""]


def drawn(draw: Callable[[Any], Any], value: Any) -> Any:
    """Another value of the same type, as a rule one that could well stand there."""
    match value:
        case bool():
            return not value
        case int():
            near = [value + 1, value - 1, value + START_MS, True, -1, MAX_UINT]
            return draw(st.sampled_from(near) | st.integers(0, MAX_UINT))
        case str():
            return draw(st.sampled_from(WORDS) | st.text(max_size=12))
        case bytes():
            known = [one for one in ADDRESSES + HASHES + SIGNATURES if len(one) == len(value)]
            same = st.binary(min_size=len(value), max_size=len(value))
            return draw(st.sampled_from([*known, b"", value + b"\0"]) | same)
        case tuple():
            at = draw(st.integers(0, len(value) - 1))
            way = draw(st.integers(0, 3))
            if way == 0:
                return value[:at] + value[at + 1 :]
            if way == 1:
                return (*value, value[at])
            return (*value[:at], drawn(draw, value[at]), *value[at + 1 :])
        case _:
            assert is_dataclass(value)
            names = [one.name for one in fields(value) if getattr(value, one.name) != ()]
            name = draw(st.sampled_from(names))
            if isinstance(value, Entry) and name == "data" and draw(st.booleans()):
                return replace(value, data=drawn(draw, value.content()).encode())
            return replace(value, **{name: drawn(draw, getattr(value, name))})


@every_case
@few
@given(data=st.data())
def test_no_value_that_could_stand_there_is_accepted(case: Case, data: st.DataObject) -> None:
    must_refuse(case, encoded(lambda: case.encode(drawn(data.draw, case.right))))


@every_case
@few
@given(data=st.data())
def test_no_flipped_inserted_or_missing_bytes_are_accepted(case: Case, data: st.DataObject) -> None:
    raw = case.encode(case.right)
    for _ in range(3):
        at = data.draw(st.integers(0, len(raw) - 1))
        gone, put = data.draw(st.tuples(st.integers(0, 3), st.binary(max_size=3)))
        must_refuse(case, raw[:at] + put + raw[at + gone :])
        must_refuse(case, raw[:at] + bytes([raw[at] ^ 1 << gone]) + raw[at + 1 :])


@every_case
def test_no_longer_spelling_is_accepted(case: Case) -> None:
    """In msgpack, a length may be written in more bytes than it takes."""
    raw = case.encode(case.right)
    longer = [raw[:at] + b"\xc5\0" + raw[at + 1 :] for at, byte in enumerate(raw) if byte == 0xC4]
    for data in (*longer, b"\xdc\0" + bytes([raw[0] & 15]) + raw[1:], raw + b"\xc0"):
        refusal(lambda data=data: case.verify(case.decode(data)))


@every_case
@few
@given(data=st.data())
def test_nothing_else_in_any_place_is_accepted(case: Case, data: st.DataObject) -> None:
    """Any value of any type, or what stands elsewhere in the same statement."""
    tree = unpack(case.encode(case.right), limit=MAX_ENTRY_BYTES)
    everywhere = list(places(tree))
    here = data.draw(st.sampled_from(everywhere), "here")
    elsewhere = st.sampled_from(everywhere).map(lambda path: found_at(tree, path))
    value = data.draw(trees | elsewhere, "value")
    must_refuse(case, encoded(lambda: pack(put_at(tree, here, value))))


DECODERS = [
    *{case.decode for case in CASES.values()},
    RegistrarChange.decode, Suspension.decode, Release.decode, Resolution.decode,
]  # fmt: skip


@settings(deadline=None, max_examples=60)
@given(noise())
def test_noise_is_refused_and_nothing_else_happens(data: bytes) -> None:
    for decode in DECODERS:
        refusal(lambda decode=decode: decode(data))
    for kind in sorted(DECIDED | {OWNER}):
        refusal(lambda kind=kind: Entry(kind, data).verify(MESH))


@pytest.mark.parametrize("value", [None, 7, "text", [], {}, 1.5])
def test_what_is_not_even_bytes_is_refused(value: Any) -> None:
    for decode in (
        Enrolment.decode, Credential.decode, OwnerStatement.decode, Entry.decode, Vote.decode,
        Checkpoint.of, Certificate.of, Approval.of,
    ):  # fmt: skip
        assert refusal(lambda decode=decode: decode(value)).code == "identity.field"


@pytest.mark.parametrize("name", [one for one in CASES if one != "certificate"])
def test_another_version_says_so(name: str) -> None:
    case = CASES[name]
    tree = unpack(case.encode(case.right), limit=MAX_ENTRY_BYTES)
    assert tree[0] == VERSION
    for version in (0, 1, VERSION + 1, True, str(VERSION), None, []):
        error = refusal(lambda version=version: case.decode(pack([version, *tree[1:]])))
        assert (error.code, error.remedy) == ("identity.version", "Upgrade permesh.")


# -- what a signature is not good for --------------------------------------------------------------


def messages() -> list[TypedMessage]:
    statements = [ENROLMENT, CLEO.credential(), REVOKE, MOVE, REPAIR, CHECKPOINT]
    approvals = [one.approvals[0].message(MESH, one) for one in ENTRIES.values() if one.approvals]
    return [one.message() for one in statements] + approvals


def test_each_kind_of_statement_is_signed_under_its_own_name() -> None:
    bodies = [one.signable().body for one in messages()]
    assert len(set(bodies)) == len(bodies)
    shapes = {tuple((kind, name) for kind, name, _ in one.fields) for one in messages()}
    names = {one.primary for one in messages()}
    assert names == {"Enrolment", "Credential", "OwnerStatement", "Approval", "Checkpoint"}
    assert len(shapes) == len(names)


@pytest.mark.parametrize("name", [name for name in CASES if name != "genesis"])
def test_nothing_is_worth_anything_in_another_mesh(name: str) -> None:
    case = CASES[name]
    if isinstance(case.right, Certificate | Contradiction):
        error = refusal(lambda: case.right.verify(ELSEWHERE, WITNESSES, QUORUM))
    else:
        error = refusal(lambda: case.right.verify(ELSEWHERE))
        if hasattr(case.right, "mesh"):  # and not when it claims to be of that mesh
            moved = replace(case.right, mesh=ELSEWHERE)
            assert refusal(lambda: moved.verify(ELSEWHERE)).code.endswith(".signature")
    assert error.code.endswith((".wrong_mesh", ".signature"))


def test_an_approval_is_of_one_entry_and_one_kind() -> None:
    for entry in ENTRIES.values():
        for other in ENTRIES.values():
            if entry is not other and entry.approvals and other.approvals:
                moved = replace(other, approvals=entry.approvals)
                code = refusal(lambda moved=moved: moved.verify(MESH)).code
                assert code == "approval.signature"
    suspension = ENTRIES["suspension"]
    turned = replace(suspension, kind=REINSTATEMENT)
    assert (turned.data, turned.content()) == (suspension.data, suspension.content())
    assert refusal(lambda: turned.verify(MESH)).code == "approval.signature"


def test_the_approvals_are_no_part_of_what_is_approved() -> None:
    """How many it takes is counted elsewhere; each is checked, stands once, and in one order."""
    bare = Entry.suspend(CLEO.address, "Away.", START_MS)
    both = BEN.approves(ANN.approves(bare))
    both.verify(MESH)
    assert both.digest == bare.digest == replace(both, approvals=both.approvals[:1]).digest
    Entry.decode(both.encode())
    for wrong in (both.approvals[::-1], both.approvals[:1] * 2, ()):
        data = replace(both, approvals=wrong).encode()
        assert refusal(lambda data=data: Entry.decode(data)).code == "identity.field"
    forged = replace(both.approvals[1], signature=both.approvals[0].signature)
    one_wrong = replace(both, approvals=(both.approvals[0], forged))
    assert refusal(lambda: one_wrong.verify(MESH)).code == "approval.signature"


def test_an_entry_is_approved_if_and_only_if_it_is_decided() -> None:
    statement = Entry.of(REVOKE)
    data = ANN.approves(statement).encode()
    assert refusal(lambda: Entry.decode(data)).code == "identity.field"
    founder = Entry.founder(genesis().registrars[0])
    assert Entry.decode(founder.encode()) == founder
    assert refusal(lambda: founder.verify(MESH)).code == "identity.field"


# -- what is well signed, and still not right ------------------------------------------------------


def enrols(**changes: Any) -> Enrolment:
    """Signed by both, whatever it says."""
    unsigned = replace(ENROLMENT, **changes)
    by_owner, by_agent = (one.sign(unsigned.message()) for one in (CLEO.owner, CLEO.agent))
    return replace(unsigned, owner_signature=by_owner, agent_signature=by_agent)


def says(right: OwnerStatement, **changes: Any) -> OwnerStatement:
    unsigned = replace(right, **changes)
    new = wallet("cleo new").sign(unsigned.message()) if right is MOVE else b""
    return replace(
        unsigned, owner_signature=CLEO.owner.sign(unsigned.message()), new_agent_signature=new
    )


def votes(**changes: Any) -> Vote:
    return ANN.votes(replace(CHECKPOINT, **changes))


def suspends(reason: str) -> Entry:
    return ANN.approves(Entry.suspend(CLEO.address, reason, START_MS))


def released(**changes: Any) -> Entry:
    release = Release("0.2.0", seed("runtime"), True, START_MS)
    return ANN.approves(Entry.of(replace(release, **changes)))


def change(added: bytes, removed: bytes, proposed_ms: int = START_MS) -> Entry:
    return ANN.approves(Entry.of(RegistrarChange(added, removed, proposed_ms)))


SIGNED_BUT_WRONG = {
    "one key as owner and agent": enrols(owner=CLEO.address),
    "an unknown verifier": enrols(verifier="rumour"),
    "founders are named by the genesis": enrols(verifier="founding"),
    "evidence too long": enrols(evidence=bytes(MAX_EVIDENCE_BYTES + 1)),
    "a name that is none": enrols(name="Cleo!"),
    "a revocation with a new key": says(REVOKE, new_agent=DORA.address),
    "a revocation of a record": says(REVOKE, record=REPAIRED),
    "a revocation with a place": says(REVOKE, seq=1),
    "a move to nowhere": says(MOVE, new_agent=bytes(20)),
    "a move with a record": says(MOVE, record=REPAIRED),
    "a move with a place": says(MOVE, seq=1),
    "a move to the same key": says(MOVE, new_agent=CLEO.address),
    "a move to the owner's key": says(MOVE, new_agent=CLEO.owner.address),
    "a repair with no record": says(REPAIR, record=bytes(32)),
    "a repair with a new key": says(REPAIR, new_agent=DORA.address),
    "an owner that is the agent": says(REVOKE, agent=CLEO.owner.address),
    "an unknown act": says(REVOKE, act="forget"),
    "a change of nothing": change(b"", b""),
    "a change of one for itself": change(CLEO.address, CLEO.address),
    "a change of no key": change(CLEO.address[:19], b""),
    "a change before all dates": change(CLEO.address, b"", -1),
    "a reason too long": suspends("x" * (MAX_REASON_CHARS + 1)),
    "a reason of two lines": suspends("one\ntwo"),
    "a reason that a terminal obeys": suspends("\x1b[2J"),
    "a version too long": released(version="1" * (MAX_RELEASE_CHARS + 1)),
    "a release of no hash": released(runtime_hash=bytes(31)),
    "a release that is almost accepted": released(accepted=1),
    "a resolution of no size": ANN.approves(Entry.of(Resolution(-1, bytes(32), bytes(32)))),
    "a checkpoint that does not grow": votes(size=2),
    "a checkpoint that shrinks": votes(size=1),
    "a round beyond all": votes(round=MAX_ROUND + 1),
}


@pytest.mark.parametrize("what", SIGNED_BUT_WRONG.values(), ids=list(SIGNED_BUT_WRONG))
def test_a_right_signature_does_not_make_it_right(what: Any) -> None:
    code = refusal(lambda: type(what).decode(what.encode()).verify(MESH)).code
    assert code in ("identity.field", "identity.name", "checkpoint.shrinks")


def test_a_certificate_takes_a_quorum_of_the_witnesses_and_nobody_else() -> None:
    alone = replace(CERTIFICATE, signatures=CERTIFICATE.signatures[:1])
    assert refusal(lambda: by_quorum(alone)).code == "checkpoint.quorum"
    alone.verify(MESH, WITNESSES, 1)
    only_ann = [ANN.address]
    code = refusal(lambda: CERTIFICATE.verify(MESH, only_ann, 1)).code
    assert code == "checkpoint.witness"


def test_what_does_not_contradict_is_no_contradiction() -> None:
    other_base = certified(replace(CHECKPOINT, base_root=seed("other"), root=seed("branch")))
    later = certified(replace(CHECKPOINT, round=9))
    for other in (CERTIFICATE, later, other_base):
        wrong = Contradiction(CERTIFICATE, other)
        assert refusal(lambda wrong=wrong: by_quorum(wrong)).code == "contradiction.none"
    assert CONTRADICTION.both == tuple(sorted(WITNESSES))


# -- limits ----------------------------------------------------------------------------------------


def test_the_longest_of_all_fit() -> None:
    enrolment = Person("n" * 32).enrols(evidence=bytes(MAX_EVIDENCE_BYTES), requested_ms=MAX_UINT)
    assert len(enrolment.encode()) <= MAX_STATEMENT_BYTES
    contents = [
        Entry.of(enrolment),
        Entry.suspend(CLEO.address, "\U0001f41a" * MAX_REASON_CHARS, MAX_UINT),
        Entry.of(Release("\u754c" * MAX_RELEASE_CHARS, seed("x"), True, MAX_UINT)),
    ]
    wallets = [wallet(f"registrar {number}") for number in range(MAX_REGISTRARS)]
    for entry in contents:
        assert len(entry.data) <= MAX_CONTENT_BYTES
        full = entry.approved_by(*(Approval(one.address, MAX_UINT, bytes(65)) for one in wallets))
        assert len(full.encode()) <= MAX_ENTRY_BYTES
        assert Entry.decode(full.encode()) == full
    checkpoint = Checkpoint(MESH, MAX_UINT - 1, bytes(32), MAX_UINT, bytes(32), MAX_ROUND)
    signatures = tuple(sorted((one.address, bytes(65)) for one in wallets))
    certificate = Certificate(checkpoint, signatures)
    assert len(pack(certificate.fields())) <= MAX_CERTIFICATE_BYTES
    contradiction = Contradiction(certificate, certificate)
    assert Contradiction.decode(contradiction.encode()) == contradiction
