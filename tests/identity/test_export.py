"""Papers for strangers: what they say, and that nothing in them can be changed."""

import base64
import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from permesh.errors import Refused
from permesh.identity.checkpoint import Contradiction
from permesh.identity.export import (
    CONTRADICTION_TYPE,
    CREDENTIAL_TYPE,
    GENESIS_TYPE,
    MAX_DOCUMENT_BYTES,
    check_contradiction,
    check_document,
    contradiction_document,
    genesis_document,
    read_genesis,
    read_json,
)
from permesh.identity.genesis import VERSION
from permesh.identity.hello import MAX_HELLO_BYTES, Hello
from permesh.identity.proof import LogProof
from permesh.identity.roster import Roster
from permesh.records import pack

from .hostile import noise
from .papers import (
    AFTER,
    ANN,
    BEN,
    CHANGED,
    DORA,
    ELSEWHERE,
    EMIL,
    LET_IN,
    MESH,
    check,
    code,
    doras,
    forged,
    grown,
    papers,
    refusal,
    torn,
    travelled,
)
from .people import START_MS, Person, genesis

# -- what they say ---------------------------------------------------------------------------------


def test_a_genesis_reads_back_and_says_who_founded_it() -> None:
    document = travelled(genesis_document(MESH))
    assert read_genesis(document) == MESH
    assert document["type"] == GENESIS_TYPE
    assert document["mesh"] == {"id": MESH.mesh_id.hex(), "name": "papers"}
    assert document["threshold"] == 2
    assert [(one["number"], one["name"]) for one in document["registrars"]] == [
        ("AGT-0001", "ann"),
        ("AGT-0002", "ben"),
        ("AGT-0003", "cleo"),
    ]
    assert document["registrars"][1]["agent"] == "0x" + BEN.address.hex()
    assert document["registrars"][1]["owner"] == "0x" + BEN.owner.address.hex()


def test_a_members_papers_say_who_it_is_and_who_let_it_in() -> None:
    document = papers(grown(LET_IN), DORA)
    checked = check(document)
    assert (checked.genesis, checked.credential) == (MESH, DORA.credential())
    assert (checked.seat.number, checked.seat.name) == (4, "dora")
    agent, shown = document["agent"], document["credential"]
    assert (agent["number"], agent["name"]) == ("AGT-0004", "dora")
    assert agent["address"] == "0x" + DORA.address.hex()
    assert agent["owner"] == "0x" + DORA.owner.address.hex()
    assert (agent["verifier"], agent["human"]) == (
        "vouched",
        "met by the registrars who approved",
    )
    assert agent["approved_by"] == ["0x" + one.hex() for one in sorted((ANN.address, BEN.address))]
    assert shown["peer_id"] == DORA.peer_id
    assert shown["runtime_is"] == "claimed by the member itself"
    assert [one["entries"] for one in document["log"]] == [[4]]
    assert len(document["log"][0]["cosigned_by"]) == 2


def test_a_founders_papers_need_nothing_of_the_log() -> None:
    for roster in (Roster(MESH), grown(LET_IN)):
        document = papers(roster, ANN)
        assert (document["log"], document["agent"]["approved_by"]) == ([], [])
        assert document["agent"]["verifier"] == "founding"
        assert check(document).seat.number == 1


def test_whoever_is_not_in_the_log_has_no_papers() -> None:
    assert code(lambda: papers(Roster(MESH), DORA)) == "log.unknown"
    asking = Hello(DORA.credential(), DORA.enrolment, None)
    unproven = Hello(DORA.credential(), None, None)
    empty = Hello(DORA.credential(), None, LogProof(()))
    for shown, why in (
        (asking, "export.no_proof"),
        (unproven, "export.no_proof"),
        (empty, "credential.not_admitted"),
    ):
        assert code(lambda shown=shown: check(forged(shown))) == why


def test_a_log_that_contradicts_itself_is_proven_to_anyone() -> None:
    assert contradiction_document(grown(LET_IN, CHANGED)) is None
    document = DOCUMENTS["contradiction"]
    assert check_contradiction(document, MESH) == (ANN.address,)
    assert document["signed_both"] == ["0x" + ANN.address.hex()]
    assert (document["after_entry"], [way["size"] for way in document["ways"]]) == (5, [6, 6])
    for way, other in zip(document["ways"], document["ways"][::-1], strict=True):
        assert way["root"] != other["root"]
        assert "0x" + ANN.address.hex() in way["cosigned_by"]
    refusal(lambda: check_contradiction(document, ELSEWHERE))


def contradiction(found: Contradiction, proof: LogProof) -> Any:
    data = pack([VERSION, found.encode(), proof.encode()])
    return {**DOCUMENTS["contradiction"], "encoded": base64.b64encode(data).decode()}


def test_what_contradicts_nothing_is_no_contradiction() -> None:
    log = torn().log
    found = log.contradiction
    assert found is not None
    registrars = LogProof.of_registrars(log, 5)
    check_contradiction(contradiction(found, registrars), MESH)
    same = contradiction(Contradiction(found.one, found.one), registrars)
    assert code(lambda: check_contradiction(same, MESH)) == "contradiction.none"
    # Of the founders alone, one that signed is none.
    unknown = contradiction(found, LogProof(()))
    assert code(lambda: check_contradiction(unknown, MESH)) == "checkpoint.witness"
    alone = replace(found.one, signatures=found.one.signatures[:1])
    few = contradiction(Contradiction(alone, found.other), registrars)
    assert code(lambda: check_contradiction(few, MESH)) == "checkpoint.quorum"


# -- no leaf can be changed ------------------------------------------------------------------------

DOCUMENTS: dict[str, Any] = {
    "genesis": travelled(genesis_document(MESH)),
    "credential": doras(),
    "founder": papers(Roster(MESH), ANN),
    "later": papers(grown(LET_IN, CHANGED, AFTER), EMIL),
    "contradiction": travelled(contradiction_document(torn())),
}
KINDS = list(DOCUMENTS)

Place = tuple[str | int, ...]


def holds(kind: str, document: Any) -> None:
    """Raises unless it does."""
    if kind == "genesis":
        read_genesis(document)
    elif kind == "contradiction":
        check_contradiction(document, MESH)
    else:
        check(document)


def places(tree: Any, here: Place = ()) -> Iterator[tuple[Place, Any]]:
    """Every part of a document, itself first."""
    yield here, tree
    for key in tree if isinstance(tree, dict) else range(len(tree) if type(tree) is list else 0):
        yield from places(tree[key], (*here, key))


def put(tree: Any, place: Place, change: Callable[[Any], Any]) -> Any:
    """The document with ``change`` made to the part in that place."""
    if not place:
        return change(tree)
    key, *deeper = place
    copy: Any = dict(tree) if isinstance(tree, dict) else list(tree)
    copy[key] = put(tree[key], tuple(deeper), change)
    return copy


def without(tree: Any, place: Place) -> Any:
    *above, key = place

    def drop(part: Any) -> Any:
        if isinstance(part, dict):
            return {name: value for name, value in part.items() if name != key}
        return [value for at, value in enumerate(part) if at != key]

    return put(tree, tuple(above), drop)


def others(value: Any) -> Iterator[Any]:
    for other in (
        None,
        True,
        False,
        0,
        1,
        -1,
        2**70,
        1.5,
        float("nan"),
        "",
        "0",
        "é\ud800",
        [],
        {},
    ):
        if type(other) is not type(value) or other != value:
            yield other
    yield [value]
    yield {"": value}
    if isinstance(value, str):
        yield from (value + "0", value[1:], value[:-1], value.swapcase() + " ", "0x" + value)
    elif isinstance(value, int):
        yield from (value + 1, value - 1, float(value), str(value))
    elif isinstance(value, list):
        yield from ([*value, *(value[:1] or ["0"])], {str(at): one for at, one in enumerate(value)})
        if len(value) > 1:
            yield value[::-1]
    elif isinstance(value, dict):
        yield {**value, "extra": None}
        yield {**value, "": {}}
        yield list(value.items())


@pytest.mark.parametrize("kind", KINDS)
def test_it_holds_as_it_is_and_in_whatever_order_its_keys_stand(kind: str) -> None:
    document = DOCUMENTS[kind]
    holds(kind, document)
    holds(kind, json.loads(json.dumps(document, sort_keys=True, indent=3)))
    holds(kind, dict(reversed(document.items())))


@pytest.mark.parametrize("kind", KINDS)
def test_no_part_can_be_replaced_left_out_or_added(kind: str) -> None:
    document = DOCUMENTS[kind]
    seen = 0
    # Everything is tried on one paper of each kind, and some of it on the others.
    every = 5 if kind in ("founder", "later") else 1
    for at, (place, value) in enumerate(places(document)):
        altered = [
            put(document, place, lambda _, other=other: other)
            for other in [*others(value)][at % every :: every]
        ]
        if place:
            altered.append(without(document, place))
        for one in altered:
            found = code(lambda one=one: holds(kind, one))
            assert found.startswith("export.") or place == ("encoded",)
            seen += 1
    assert seen > 100


@pytest.mark.parametrize("kind", KINDS)
def test_the_part_that_was_altered_is_named(kind: str) -> None:
    document = DOCUMENTS[kind]
    for place, value in places(document):
        if place and isinstance(value, str | int) and place[-1] not in ("type", "version"):
            name = "".join(f"[{one}]" if type(one) is int else f".{one}" for one in place)[1:]
            if name == "encoded":
                continue
            wrong = put(document, place, lambda was: was + type(was)(1))
            error = refusal(lambda wrong=wrong: holds(kind, wrong))
            assert (error.code, error.message) == (
                "export.altered",
                f"'{name}' is not what was signed.",
            )
    hostile = {**document, "\x1b[2J" * 40: 1}
    assert len(refusal(lambda: holds(kind, hostile)).message) < 120


def respelt(text: str) -> Iterator[str]:
    """Other spellings of the same bytes, or what lax readers take for them."""
    yield from (text + "\n", " " + text, text[:20] + "\n" + text[20:], text + "=", text + "AA==")
    if "=" in text:
        yield text.rstrip("=")
        last = text.rstrip("=")[-1]
        alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
        near = alphabet[alphabet.index(last) ^ 1]
        spelt = text.rstrip("=")[:-1] + near + "=" * text.count("=")
        assert base64.b64decode(spelt) == base64.b64decode(text)
        yield spelt
    if set("+/") & set(text):
        yield text.translate(str.maketrans("+/", "-_"))


@pytest.mark.parametrize("kind", KINDS)
def test_the_bytes_have_one_spelling(kind: str) -> None:
    document = DOCUMENTS[kind]
    for text in respelt(document["encoded"]):
        refusal(lambda text=text: holds(kind, {**document, "encoded": text}))


@pytest.mark.parametrize("length", [1, 2, 3])
def test_unused_bits_at_the_end_are_no_second_spelling(length: int) -> None:
    document = travelled(genesis_document(genesis("m" * length)))
    read_genesis(document)
    for text in respelt(document["encoded"]):
        refusal(lambda text=text: read_genesis({**document, "encoded": text}))


@pytest.mark.parametrize(
    ("kind", "step"), [("genesis", 1), ("credential", 5), ("later", 29), ("contradiction", 13)]
)
def test_no_byte_that_was_signed_can_be_changed(kind: str, step: int) -> None:
    document = DOCUMENTS[kind]
    data = base64.b64decode(document["encoded"])
    for at in range(0, len(data), step):
        for other in (
            data[:at] + bytes([data[at] ^ (1 << at % 8)]) + data[at + 1 :],
            data[:at] + data[at + 1 :],
            data[:at],
            data + data[: at + 1],
        ):
            text = base64.b64encode(other).decode()
            refusal(lambda text=text: holds(kind, {**document, "encoded": text}))


def test_words_that_fit_other_bytes_do_not_help() -> None:
    """Whoever makes the words again as the check makes them has still to sign."""
    mine = replace(DORA.credential(), peer_id=ANN.peer_id)
    proof = LogProof.make(grown(LET_IN).log, DORA.address)
    assert code(lambda: check(forged(Hello(mine, None, proof)))) == "credential.signature"
    stolen = Person("emil", MESH, owner_name="dora").credential()
    assert code(lambda: check(forged(Hello(stolen, None, proof)))) == "credential.not_admitted"
    owner = replace(DORA, owner_name="emil").credential()  # the agent signs for another owner
    assert owner.owner == EMIL.owner.address
    assert code(lambda: check(forged(Hello(owner, None, proof)))) == "credential.not_admitted"


def test_another_meshs_genesis_makes_nothing_of_it() -> None:
    assert code(lambda: check(DOCUMENTS["credential"], mesh=ELSEWHERE)) == "credential.wrong_mesh"
    renamed = replace(MESH, name="paperz")
    assert code(lambda: check(DOCUMENTS["founder"], mesh=renamed)) == "credential.wrong_mesh"


def test_one_kind_of_paper_is_not_taken_for_the_other() -> None:
    assert code(lambda: check(DOCUMENTS["genesis"])) == "export.type"
    assert code(lambda: read_genesis(DOCUMENTS["credential"])) == "export.type"
    assert code(lambda: check(DOCUMENTS["contradiction"])) == "export.type"
    assert code(lambda: check_contradiction(DOCUMENTS["credential"], MESH)) == "export.type"
    genesis_bytes = DOCUMENTS["genesis"]["encoded"]
    refusal(lambda: check({**DOCUMENTS["credential"], "encoded": genesis_bytes}))


@pytest.mark.parametrize("version", [0, 2, 1.0, True, "1", None, [1]])
def test_a_later_version_is_told_to_upgrade(version: object) -> None:
    for kind in ("genesis", "credential"):
        altered = {**DOCUMENTS[kind], "version": version}
        error = refusal(lambda kind=kind, altered=altered: holds(kind, altered))
        if version != 1.0 or version is True:
            assert (error.code, error.remedy) == ("export.version", "Upgrade permesh.")


# -- what is no paper at all -----------------------------------------------------------------------


def test_a_key_that_stands_twice_is_no_json() -> None:
    for kind in ("genesis", "credential"):
        text = json.dumps(DOCUMENTS[kind])
        for once, twice in (
            ('"version": 1', '"version": 1, "version": 1'),
            ('"mesh": {', '"mesh": null, "mesh": {'),
            ('"name": "papers"', '"name": "papers", "n\\u0061me": "papers"'),
        ):
            assert once in text
            data = text.replace(once, twice, 1).encode()
            assert json.loads(data) == DOCUMENTS[kind]  # who is lax sees nothing of it
            assert code(lambda data=data: read_json(data)) == "export.not_json"


@pytest.mark.parametrize(
    "data",
    [
        b"", b"{", b"nothing", b"{'type': 1}", b"\xff\xfe\xfd", b"{} {}", b'{"a": 1,}',
        b"[" * 100_000, b'{"a":' * 10_000, b"1" * 5_000, b'"\xc3', b"PK\x03\x04",
    ],
    ids=lambda data: repr(data[:8]),
)  # fmt: skip
def test_what_is_no_json_is_refused(data: bytes) -> None:
    error = refusal(lambda: read_json(data))
    assert error.code == "export.not_json"
    assert error.remedy


def test_a_file_without_end_is_refused_unread() -> None:
    padded = json.dumps(DOCUMENTS["credential"]).encode()
    assert len(padded) < MAX_DOCUMENT_BYTES / 4
    assert read_json(padded.ljust(MAX_DOCUMENT_BYTES)) == DOCUMENTS["credential"]
    assert code(lambda: read_json(padded.ljust(MAX_DOCUMENT_BYTES + 1))) == "export.too_long"
    endless = {**DOCUMENTS["credential"], "encoded": "A" * (2 * MAX_HELLO_BYTES + 4)}
    assert code(lambda: check(endless)) == "export.encoded"


@pytest.mark.parametrize(
    "kind",
    [
        "genesis",
        "credential",
        "contradiction",
    ],
)
def test_whatever_is_refused_says_what_to_do(kind: str) -> None:
    for text in ("", "AAAA", DOCUMENTS[kind]["encoded"][:-40]):
        altered = {**DOCUMENTS[kind], "encoded": text}
        assert refusal(lambda altered=altered: holds(kind, altered)).remedy


jsons = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=20,
)
almost = st.fixed_dictionaries(
    {
        "type": st.sampled_from([GENESIS_TYPE, CREDENTIAL_TYPE, CONTRADICTION_TYPE]) | jsons,
        "version": st.just(1) | jsons,
        "encoded": noise().map(lambda data: base64.b64encode(data).decode()) | jsons,
    },
    optional={"mesh": jsons, "log": jsons, "agent": jsons, "registrars": jsons},
)


@settings(deadline=None)
@given(jsons | almost)
def test_any_other_json_is_refused_and_nothing_else_is_raised(document: Any) -> None:
    refusal(lambda: read_genesis(document))
    refusal(lambda: check_document(document, MESH, START_MS))
    refusal(lambda: check_contradiction(document, MESH))


@settings(deadline=None)
@given(st.data())
def test_no_part_can_be_any_other_json(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(KINDS))
    document = DOCUMENTS[kind]
    place, value = data.draw(st.sampled_from([*places(document)]))
    other = data.draw(jsons)
    if json.dumps(other) != json.dumps(value):
        refusal(lambda: holds(kind, put(document, place, lambda _: other)))


@settings(deadline=None)
@given(st.binary(max_size=200) | jsons.map(lambda one: json.dumps(one).encode()))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    with suppress(Refused):
        read_json(data)
