"""Souls of the Chitin registry: nobody passes with a soul that is not theirs, and an endpoint that
lies, babbles or is silent is told from a claim that is false."""

import gzip
import hashlib
import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from itertools import count
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from permesh import chitin
from permesh.chitin import (
    CHAIN_ID,
    MAX_AGE_BLOCKS,
    MAX_ANSWER_BYTES,
    MAX_CLAIM_BYTES,
    Chain,
    SoulClaim,
    check_soul,
    claim_soul,
)
from permesh.errors import PermeshError, Refused
from permesh.identity import wallet
from permesh.identity.genesis import VERSION
from permesh.records import pack, unpack

from .chain import IMPLEMENTATION, OWNER, SLOT, Ledger, Server, Soul, block_hash, reply, serving
from .hostile import damaged, noise, trees

OTHER = bytes.fromhex("0b" * 20)
SAFE = Ledger().safe
CLAIM = SoulClaim("ann-soul", 54, CHAIN_ID, chitin.REGISTRY, IMPLEMENTATION, SAFE, block_hash(SAFE))
METHODS = (
    "eth_chainId",
    "eth_blockNumber",
    "eth_getBlockByNumber",
    "eth_getStorageAt",
    "getTokenIdByName",
    "ownerOf",
    "locked",
    "isSealed",
    "checkSoulValidity",
)


@dataclass
class World:
    """The server and the one client that all tests of the module share: it takes 80 ms to make."""

    server: Server
    chain: Chain

    def claim(self, name: str = "ann-soul") -> SoulClaim:
        return claim_soul(self.chain, name)

    def check(self, claim: SoulClaim = CLAIM, owner: bytes = OWNER, **more: Any) -> None:
        check_soul(self.chain, claim, owner, **more)

    def of(self, ledger: Ledger) -> Ledger:
        self.server.ledger = ledger
        return ledger


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with serving() as server, Chain(server.url) as chain:
        yield World(server, chain)


@pytest.fixture
def ledger(world: World) -> Ledger:
    return world.of(Ledger())


def failure(action: Callable[[], Any]) -> PermeshError:
    """What it raises, which must be presentable: one line without a stranger's bytes or secrets."""
    with pytest.raises(PermeshError) as caught:
        action()
    error = caught.value
    assert error.message.endswith(".")
    assert error.remedy.endswith(".") or not error.code.startswith("chitin.")
    assert str(error).isascii()
    assert str(error).isprintable()
    assert len(str(error)) < 400
    assert "SECRET" not in str(error)
    return error


def refusal(action: Callable[[], Any]) -> str:
    error = failure(action)
    assert isinstance(error, Refused)
    return error.code


def fault(action: Callable[[], Any]) -> str:
    """The code of what the endpoint got wrong, which says nothing of the claim."""
    error = failure(action)
    assert not isinstance(error, Refused)
    return error.code


# -- the claim -------------------------------------------------------------------------------------


def test_a_claim_has_one_encoding() -> None:
    large = replace(CLAIM, token_id=2**256 - 1, name="-".join(["abcdefgh"] * 3) + "-01234")
    for one in (CLAIM, large):
        assert SoulClaim.decode(one.encode()) == one
        assert len(one.encode()) <= MAX_CLAIM_BYTES
    assert CLAIM.encode() == pack(
        [
            VERSION,
            "ann-soul",
            (54).to_bytes(32, "big"),
            8453,
            bytes.fromhex("4DB94aD31BC202831A49Fd9a2Fa354583002F894"),
            IMPLEMENTATION,
            SAFE,
            block_hash(SAFE),
        ]
    )


def test_a_damaged_claim_is_refused_or_is_another_claim() -> None:
    for data in damaged(CLAIM.encode()):
        try:
            assert SoulClaim.decode(data) != CLAIM
        except Refused:
            continue
        assert SoulClaim.decode(data).encode() == data


@given(data=noise())
def test_noise_is_refused(data: bytes) -> None:
    refusal_or_claim(data)


def refusal_or_claim(data: bytes) -> SoulClaim | None:
    try:
        found = SoulClaim.decode(data)
    except Refused:
        return None
    assert found.encode() == data
    return found


@pytest.mark.parametrize(
    ("field", "value"),
    [
        (1, "an"),
        (1, "a" * 33),
        (1, "Ann-soul"),
        (1, "-ann"),
        (1, "ann-"),
        (1, "ann_soul"),
        (1, "ann-soul\n"),
        (1, b"ann-soul"),
        (2, bytes(32)),
        (2, b"\x36"),
        (2, bytes(31) + b"\x36\x00"),
        (2, 54),
        (3, -1),
        (3, True),
        (3, bytes(8)),
        (4, bytes(19)),
        (4, None),
        (5, bytes(21)),
        (5, "0x" + "c0de" * 10),
        (6, -1),
        (6, False),
        (6, "safe"),
        (7, bytes(31)),
        (7, 0),
        (0, VERSION + 1),
        (0, True),
    ],
)
def test_no_field_of_a_claim_has_another_form(field: int, value: Any) -> None:
    content = unpack(CLAIM.encode(), limit=MAX_CLAIM_BYTES)
    content[field] = value
    code = refusal(lambda: SoulClaim.decode(pack(content)))
    assert code in {1: ("chitin.name",), 0: ("identity.version", "identity.field")}.get(
        field, ("identity.field",)
    )


@pytest.mark.parametrize("token_id", [0, -1, 2**256, True, "54"])
def test_a_token_id_is_a_uint256_above_zero(token_id: Any) -> None:
    assert refusal(lambda: replace(CLAIM, token_id=token_id)) == "identity.field"


def test_a_nullifier_is_of_the_soul_and_the_mesh_alone() -> None:
    mesh = bytes(range(32))
    content = (
        b"permesh/person/chitin/1\x00"
        + mesh
        + bytes.fromhex("0000000000002105")
        + bytes.fromhex("4db94ad31bc202831a49fd9a2fa354583002f894")
        + bytes(31)
        + b"\x36"
    )
    assert CLAIM.nullifier(mesh) == hashlib.sha256(content).digest()
    later = replace(
        CLAIM, name="renamed", implementation=OTHER, block=SAFE + 9, block_hash=bytes(32)
    )
    assert later.nullifier(mesh) == CLAIM.nullifier(mesh)
    others = {
        CLAIM.nullifier(bytes(32)),
        replace(CLAIM, token_id=55).nullifier(mesh),
        replace(CLAIM, registry=OTHER).nullifier(mesh),
        replace(CLAIM, chain_id=84532).nullifier(mesh),
    }
    assert len(others | {CLAIM.nullifier(mesh)}) == 5
    assert refusal(lambda: CLAIM.nullifier(bytes(31))) == "identity.field"


def test_the_constants_are_those_of_the_standards() -> None:
    assert f"0x{chitin.IMPLEMENTATION_SLOT:064x}" == SLOT
    assert chitin.OWNER_OF.selector.hex() == "6352211e"  # ERC-721
    assert chitin.LOCKED.selector.hex() == "b45a3c0e"  # EIP-5192
    assert wallet.CHAIN_ID == CHAIN_ID


# -- what holds ------------------------------------------------------------------------------------


@pytest.mark.usefixtures("ledger")
def test_a_soul_is_claimed_at_the_safe_block_and_holds(world: World) -> None:
    assert world.claim() == CLAIM
    world.check()
    world.check(implementations=frozenset({OTHER, IMPLEMENTATION}))


def test_reads_are_of_the_claims_block_and_then_of_the_latest(world: World, ledger: Ledger) -> None:
    pinned = {"blockHash": "0x" + block_hash(SAFE).hex()}
    world.claim()
    assert ledger.asked[1] == ("eth_getBlockByNumber", ["safe", False])
    assert [params[-1] for _, params in ledger.asked[2:]] == [pinned] * 2
    ledger.asked.clear()
    world.check()
    assert [params[-1] for method, params in ledger.asked if method == "eth_getStorageAt"] == [
        pinned
    ]
    assert [params[-1] for method, params in ledger.asked if method == "eth_call"] == [
        *[pinned] * 5,
        *["latest"] * 3,
    ]


def test_a_soul_of_another_registry_and_chain_holds_where_that_is_asked(
    world: World, ledger: Ledger
) -> None:
    ledger.chain_id = 84532
    there = claim_soul(world.chain, "ann-soul", chain_id=84532)
    world.check(there, chain_id=84532)
    assert there == replace(CLAIM, chain_id=84532)


def test_a_claim_of_just_seven_days_holds(world: World, ledger: Ledger) -> None:
    ledger.head = SAFE + MAX_AGE_BLOCKS
    world.check()
    ledger.head += 1
    assert refusal(world.check) == "chitin.old"


def test_a_block_of_the_head_holds(world: World, ledger: Ledger) -> None:
    at_head = replace(CLAIM, block=ledger.head, block_hash=block_hash(ledger.head))
    world.check(at_head)


# -- what is refused -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["", "an", "a" * 33, "Ann", "ann-", "-ann", "a b", 7, None])
def test_what_is_no_name_is_not_asked_for(world: World, ledger: Ledger, name: Any) -> None:
    assert refusal(lambda: world.claim(name)) == "chitin.name"
    assert ledger.asked == []


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"names": {}}, "unknown_name"),
        ({"chain_id": 1}, "chain"),
        ({"implementation": bytes(20)}, "implementation"),
    ],
)
def test_no_claim_is_made_of_what_is_not_there(
    world: World, change: dict[str, Any], code: str
) -> None:
    world.of(Ledger(**change))
    assert refusal(world.claim) == f"chitin.{code}"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"chain_id": 84532}, "chain"),
        ({"head": SAFE - 1}, "ahead"),
        ({"head": SAFE + MAX_AGE_BLOCKS + 1}, "old"),
        ({"lies": {"eth_getBlockByNumber": lambda _: None}}, "block"),
        (
            {"lies": {"eth_getBlockByNumber": lambda block: block | {"hash": "0x" + "11" * 32}}},
            "block_hash",
        ),
        ({"implementation": OTHER}, "implementation"),
        ({"names": {}}, "unknown_name"),
        ({"names": {"ann-soul": 55}, "souls": {54: Soul(), 55: Soul()}}, "token"),
        ({"souls": {}}, "absent"),
        ({"souls": {54: Soul(owner=OTHER)}}, "owner"),
        ({"souls": {54: Soul(locked=False)}}, "unlocked"),
        ({"souls": {54: Soul(valid=False)}}, "invalid"),
        ({"souls": {54: Soul(passport=False)}}, "invalid"),
        # The source's checkSoulValidity looks at the seal as well; this is the seal's own check.
        ({"lies": {"isSealed": lambda _: "0x" + "00" * 32}}, "unsealed"),
        ({"souls": {54: Soul(sealed=False)}}, "invalid"),
    ],
)
def test_a_soul_that_does_not_hold_at_its_block_is_refused(
    world: World, change: dict[str, Any], code: str
) -> None:
    # What has come right since does not count.
    world.of(Ledger(now={54: Soul()}, **change))
    assert refusal(world.check) == f"chitin.{code}"


@pytest.mark.parametrize(
    "now",
    [
        {},
        {54: Soul(owner=OTHER)},
        {54: Soul(locked=False)},
        {54: Soul(valid=False)},
        {54: Soul(sealed=False)},
        {54: Soul(passport=False)},
    ],
)
def test_a_soul_that_holds_no_longer_is_refused(world: World, now: dict[int, Soul]) -> None:
    world.of(Ledger(now=now))
    assert world.claim() == CLAIM
    assert refusal(world.check) == "chitin.revoked"


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ({"claim": replace(CLAIM, registry=OTHER)}, "registry"),
        ({"claim": replace(CLAIM, chain_id=84532)}, "registry"),
        ({"registry": OTHER}, "registry"),
        ({"chain_id": 84532}, "registry"),
        ({"implementations": frozenset({OTHER})}, "unknown_implementation"),
        ({"owner": OTHER}, "owner"),
        ({"owner": b""}, "owner"),
        ({"claim": replace(CLAIM, name="bob-soul")}, "unknown_name"),
        ({"claim": replace(CLAIM, token_id=55)}, "token"),
        ({"claim": replace(CLAIM, token_id=54 + 2**255)}, "token"),
        ({"claim": replace(CLAIM, implementation=OTHER)}, "implementation"),
        ({"claim": replace(CLAIM, block=SAFE - 1)}, "block_hash"),
        ({"claim": replace(CLAIM, block=2**63 - 1)}, "ahead"),
        ({"claim": replace(CLAIM, block=0)}, "old"),
        ({"claim": replace(CLAIM, block_hash=bytes(32))}, "block_hash"),
    ],
)
@pytest.mark.usefixtures("ledger")
def test_a_claim_that_differs_from_the_chain_is_refused(
    world: World, arguments: dict[str, Any], code: str
) -> None:
    assert refusal(lambda: world.check(**arguments)) == f"chitin.{code}"


def test_what_can_be_refused_without_the_endpoint_is(world: World, ledger: Ledger) -> None:
    refusal(lambda: world.check(registry=OTHER))
    refusal(lambda: world.check(implementations=frozenset({OTHER})))
    assert ledger.asked == []


def test_a_registry_without_code_is_refused_though_the_claim_says_so(world: World) -> None:
    world.of(Ledger(implementation=bytes(20)))
    bare = replace(CLAIM, implementation=bytes(20))
    assert refusal(lambda: world.check(bare)) == "chitin.implementation"


@given(
    field=st.integers(0, len(fields(SoulClaim))),  # the first is the version
    value=trees
    | st.binary(min_size=20, max_size=20)
    | st.binary(min_size=32, max_size=32)
    | st.integers(SAFE - 1000, SAFE + 1000)
    | st.from_regex(r"[a-z0-9-]{3,32}", fullmatch=True),
)
@settings(deadline=None)
def test_a_claim_with_any_other_field_is_refused(world: World, field: int, value: Any) -> None:
    world.of(Ledger())
    content = unpack(CLAIM.encode(), limit=MAX_CLAIM_BYTES)
    content[field] = value
    try:
        data = pack(content)
    except Refused:  # not canonical, so nothing that could be sent
        return
    changed = refusal_or_claim(data)
    if changed is not None and changed != CLAIM:
        assert refusal(lambda: world.check(changed)).startswith("chitin.")


# -- an endpoint's wrong answers -------------------------------------------------------------------

WORD = "00" * 31 + "01"
WRONG_RESULTS: tuple[Any, ...] = (
    None,
    True,
    1,
    1.5,
    "",
    "0x",
    "0",
    "1f",
    "0X01",
    "0x1g",
    " 0x1",
    "0x1\n",
    "0x-1",
    "0x" + "f" * 16,
    "0x" + "f" * 31,
    "0x" + WORD[2:],
    "0x" + WORD + "00",
    "0x" + WORD * 4,
    WORD,
    "00" + WORD,
    "0x " + WORD[1:],
    "0x" + "\u0660" * 64,
    "\ud800",
    [],
    ["0x" + WORD],
    {},
    {"number": "0x1"},
)


@pytest.mark.parametrize("method", METHODS)
def test_a_result_of_the_wrong_form_is_the_endpoints_fault(
    world: World, ledger: Ledger, method: str
) -> None:
    for result in WRONG_RESULTS:
        ledger.lies[method] = lambda _, result=result: result
        no_block = method == "eth_getBlockByNumber" and result is None
        assert (refusal if no_block else fault)(world.check) == (
            "chitin.block" if no_block else "chitin.answer"
        ), result


@pytest.mark.parametrize(
    ("method", "words"),
    [
        ("eth_getStorageAt", ["01" * 32]),  # an address has twelve zero bytes before it
        ("ownerOf", ["01" * 32]),
        ("locked", ["00" * 31 + "02"]),  # a bool is 0 or 1
        ("isSealed", ["ff" * 32]),
        ("checkSoulValidity", ["00" * 31 + "02", "00" * 32, "00" * 32]),
        ("checkSoulValidity", [WORD, "01" * 32, "00" * 32]),
        ("checkSoulValidity", [WORD]),
        ("locked", [WORD, WORD]),
    ],
)
def test_padding_and_length_are_the_abis(
    world: World, ledger: Ledger, method: str, words: list[str]
) -> None:
    ledger.lies[method] = lambda _: "0x" + "".join(words)
    assert fault(world.check) == "chitin.answer"


@pytest.mark.parametrize(
    "lie",
    [
        lambda block: block | {"number": hex(SAFE - 1)},
        lambda block: block | {"number": None},
        lambda block: block | {"hash": None},
        lambda block: block | {"hash": "0x"},
        lambda block: {"hash": block["hash"]},
        lambda block: {"number": block["number"]},
        lambda block: [block],
        lambda block: block["hash"],
    ],
)
def test_a_block_of_the_wrong_form_is_the_endpoints_fault(
    world: World, ledger: Ledger, lie: Callable[[Any], Any]
) -> None:
    ledger.lies["eth_getBlockByNumber"] = lie
    assert fault(world.check) == "chitin.answer"


def test_an_endpoint_without_a_safe_block_is_of_no_use(world: World, ledger: Ledger) -> None:
    ledger.lies["eth_getBlockByNumber"] = lambda _: None
    assert fault(world.claim) == "chitin.answer"


@pytest.mark.parametrize(
    "change",
    [
        lambda answer: answer | {"id": answer["id"] + 1},
        lambda answer: answer | {"id": None},
        lambda answer: answer | {"id": str(answer["id"])},
        lambda answer: answer | {"id": True},
        lambda answer: answer | {"id": float(answer["id"])},
        lambda answer: {"result": answer["result"]},
        lambda answer: {"id": answer["id"], "jsonrpc": "2.0"},
        lambda answer: [answer],
        lambda answer: json.dumps(answer),
        lambda _: None,
        lambda _: 7,
    ],
)
@pytest.mark.parametrize("action", [World.claim, World.check])
def test_an_answer_of_the_wrong_form_is_the_endpoints_fault(
    world: World, ledger: Ledger, change: Any, action: Callable[[World], Any]
) -> None:
    ledger.envelope = change
    assert fault(lambda: action(world)) == "chitin.answer"


@pytest.mark.parametrize(
    "error",
    [
        {"code": -32000, "message": "missing trie node"},
        {"code": -32005, "message": "rate limit exceeded", "data": {"see": "https://x"}},
        {"code": -32602},
        {"message": 7},
        {"message": ["revert"]},
        {"code": [], "message": {}},
        {},
        [],
        "execution reverted",
        False,
        0,
    ],
)
@pytest.mark.parametrize("method", METHODS)
def test_an_error_is_the_endpoints_fault(
    world: World, ledger: Ledger, method: str, error: Any
) -> None:
    ledger.errors[method] = error
    assert fault(world.check) == "chitin.answer"


@pytest.mark.parametrize(
    "error",
    [
        {"code": 3, "message": "execution reverted", "data": "0x7e273289"},
        {"code": 3},
        {"code": -32000, "message": "execution reverted"},
        {"code": -32000, "message": "VM Exception while processing transaction: Reverted"},
    ],
)
def test_a_revert_says_of_some_reads_that_there_is_no_such_soul(
    world: World, error: dict[str, Any]
) -> None:
    outcomes = {}
    for method in METHODS:
        world.of(Ledger(errors={method: error}))
        outcomes[method] = failure(world.check).code
    refused = {"ownerOf": "chitin.absent", "checkSoulValidity": "chitin.invalid"}
    assert outcomes == dict.fromkeys(METHODS, "chitin.answer") | refused


def test_an_error_that_is_null_is_none(world: World, ledger: Ledger) -> None:
    ledger.envelope = lambda answer: answer | {"error": None}
    world.check()


def test_an_endpoints_words_are_shown_short_and_plain(world: World, ledger: Ledger) -> None:
    words = "sorry\x1b[2J\r\n\u202egnol\x07" + "x" * 5000
    ledger.errors["locked"] = {"code": 1, "message": words}
    shown = failure(world.check).message
    assert "'sorry?[2J???gnol?" in shown
    assert shown.count("x") < 80


# -- an endpoint's wrong HTTP ----------------------------------------------------------------------


def honest(ledger: Ledger, body: bytes) -> bytes:
    return json.dumps(ledger.answer(json.loads(body))).encode()


@pytest.mark.parametrize("status", [201, 204, 301, 302, 307, 400, 401, 404, 429, 500, 503])
def test_only_status_200_answers(world: World, ledger: Ledger, status: int) -> None:
    ledger.http = lambda handler, body: reply(
        handler, b"" if status == 204 else honest(ledger, body), status, Location="/elsewhere"
    )
    error = failure(world.check)
    assert error.code == "chitin.answer"
    assert str(status) in error.message
    assert len(ledger.asked) <= 1  # and it went nowhere else


@pytest.mark.parametrize(
    "location", ["http://[", "http://\xff\xfe", "//", "x" * 70_000, "http://a:99999/", "\x00"]
)
def test_a_redirect_to_nowhere_is_an_error_too(world: World, ledger: Ledger, location: str) -> None:
    ledger.http = lambda handler, _: reply(handler, b"", 307, Location=location)
    assert fault(world.check) in ("chitin.answer", "chitin.unreachable")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"<html>busy</html>",
        b"\xff\xfe\x00",
        b"[" * 60_000,
        b'{"id":1,"result":' + b"9" * 60_000 + b"}",
        b"nan",
        gzip.compress(b"{}", mtime=0),
    ],
)
def test_what_is_not_json_is_the_endpoints_fault(world: World, ledger: Ledger, body: bytes) -> None:
    ledger.http = lambda handler, _: reply(handler, body)
    assert fault(world.check) == "chitin.answer"


def test_a_compressed_answer_is_not_unfolded(world: World, ledger: Ledger) -> None:
    ledger.http = lambda handler, body: reply(
        handler, gzip.compress(honest(ledger, body)), Content_Encoding="gzip"
    )
    assert fault(world.check) == "chitin.answer"


def padded(ledger: Ledger, size: int) -> Callable[[Any, bytes], None]:
    return lambda handler, body: reply(handler, honest(ledger, body).ljust(size))


def test_an_answer_is_at_most_64_kib(world: World, ledger: Ledger) -> None:
    ledger.http = padded(ledger, MAX_ANSWER_BYTES)
    world.check()
    ledger.http = padded(ledger, MAX_ANSWER_BYTES + 1)
    assert fault(world.check) == "chitin.answer"


def test_a_full_block_is_read_and_a_larger_one_is_not(world: World, ledger: Ledger) -> None:
    hashes = ["0x" + "11" * 32] * 19_000
    ledger.lies["eth_getBlockByNumber"] = lambda block: block | {"transactions": hashes}
    assert world.claim() == CLAIM
    ledger.lies["eth_getBlockByNumber"] = lambda block: block | {"x": "x" * 2**21}
    assert fault(world.claim) == "chitin.answer"


def test_an_endless_answer_is_cut_off(world: World, ledger: Ledger) -> None:
    sent: list[int] = []
    cut = threading.Event()

    def pour(handler: Any, _: bytes) -> None:
        handler.send_response(200)
        handler.end_headers()
        try:
            for number in range(64):
                handler.wfile.write(bytes(2**20))
                sent.append(number)
        finally:
            handler.close_connection = True
            cut.set()

    ledger.http = pour
    assert fault(world.check) == "chitin.answer"
    assert cut.wait(5)
    assert len(sent) < 64


@pytest.mark.usefixtures("ledger")
def test_a_body_that_takes_too_long_is_given_up(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks = count(step=6)
    monkeypatch.setattr(chitin, "monotonic", lambda: next(ticks))
    world.check()  # 6 s for each answer
    ticks = count(step=11)
    assert fault(world.check) == "chitin.unreachable"


def test_a_silent_endpoint_is_given_up(world: World, ledger: Ledger) -> None:
    heard = threading.Event()
    ledger.http = lambda handler, _: reply(handler, b"{}", 200 if heard.wait(5) else 500)
    with Chain(world.server.url, timeout=0.02) as chain:
        assert fault(lambda: claim_soul(chain, "ann-soul")) == "chitin.unreachable"
    heard.set()


def test_an_endpoint_that_is_not_there_is_unreachable() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: connections are refused
        with Chain(f"http://127.0.0.1:{taken.getsockname()[1]}/SECRET") as chain:
            error = failure(lambda: claim_soul(chain, "ann-soul"))
    assert error.code == "chitin.unreachable"
    assert "127.0.0.1" in error.message


@pytest.mark.parametrize("url", ["http://a..b/SECRET", "http://127.0.0.1:99999/", "http://%00/"])
def test_an_address_that_nobody_can_have_is_unreachable(url: str) -> None:
    with Chain(url) as chain:
        assert fault(lambda: claim_soul(chain, "ann-soul")) == "chitin.unreachable"


def raw(data: bytes) -> Callable[[Any, bytes], None]:
    def write(handler: Any, _: bytes) -> None:
        handler.wfile.write(data)
        handler.close_connection = True

    return write


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n",
        b"HTTP/1.1 999999 OK\r\n\r\n{}",
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 30_000 + b"\r\n{}",
    ],
)
def test_what_is_not_http_is_unreachable(world: World, ledger: Ledger, data: bytes) -> None:
    ledger.http = raw(data)
    assert fault(world.check) == "chitin.unreachable"


# -- addresses of endpoints ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "",
        "mainnet.base.org",
        "ftp://mainnet.base.org",
        "file:///etc/passwd",
        "ws://mainnet.base.org",
        "http://",
        "https:///v2/SECRET",
        "http://a:b:c/SECRET",
        "http://a\x00b/SECRET",
        "http://\ud800/",
        "http://a/\ud800",
        "http://" + "a" * 70_000,
        None,
        7,
    ],
)
def test_what_is_no_web_address_is_no_endpoint(url: Any) -> None:
    assert fault(lambda: Chain(url)) == "chitin.url"


def test_a_chain_closes_its_client() -> None:
    with Chain("https://mainnet.base.org") as chain:
        client = chain._client
        assert not client.is_closed
    assert client.is_closed


# -- anything at all -------------------------------------------------------------------------------

texts = st.text(max_size=40) | st.from_regex(r"0x[0-9a-fA-F]{0,70}", fullmatch=True)
results = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["number", "hash", "code", "message"]) | texts, inner)
    ),
    max_leaves=8,
)


@given(method=st.sampled_from(METHODS), result=results, way=st.sampled_from(["lies", "errors"]))
@settings(deadline=None, max_examples=40)
def test_nothing_but_a_presentable_error_leaves_whatever_is_answered(
    world: World, method: str, result: Any, way: str
) -> None:
    ledger = world.of(Ledger())
    if way == "lies":
        ledger.lies[method] = lambda _: result
    elif result is not None:
        ledger.errors[method] = result
    for action in (world.claim, world.check):
        with suppress(PermeshError):
            action()
            continue
        assert failure(action).code.startswith("chitin.")


@given(answer=results)
@settings(deadline=None, max_examples=40)
def test_nor_whatever_answer_it_is(world: World, answer: Any) -> None:
    world.of(Ledger(envelope=lambda _: answer))
    assert failure(world.check).code == "chitin.answer"


@given(
    start=st.sampled_from([b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 302 Found\r\n"]),
    headers=st.lists(
        st.tuples(
            st.sampled_from(
                [b"Location", b"Set-Cookie", b"Content-Length", b"Transfer-Encoding", b"Date"]
            ),
            st.binary(max_size=30),
        ),
        max_size=3,
    ),
    body=st.binary(max_size=60),
)
@settings(deadline=None)
def test_nor_whatever_bytes_they_are(
    world: World, start: bytes, headers: list[tuple[bytes, bytes]], body: bytes
) -> None:
    lines = b"".join(name + b": " + value + b"\r\n" for name, value in headers)
    world.of(Ledger(http=raw(start + lines + b"\r\n" + body)))
    assert fault(world.check) in ("chitin.answer", "chitin.unreachable")
