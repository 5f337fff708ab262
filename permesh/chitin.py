"""A soul of the Chitin SoulRegistry on Base, read by Ethereum's JSON-RPC.

Owns the claim that an applicant makes, the endpoint that it is read from, and the checks of it.
Must never know who applies to what, and what a mesh makes of a soul.

The ABI is that of ``src/ChitinSoulRegistry.sol`` in github.com/Tiida-Tech/chitin-contracts, commit
d20564eb67d867561a706bbccbb6179bfb6ade1e; Chitin's own pages name functions that it does not have.
There ``getTokenIdByName`` gives 0 for a name without a soul and never reverts; the other four
revert for a token that does not exist (burnt or never minted), and ``checkSoulValidity`` also when
the soul's ERC-8004 passport is gone. ``locked`` is else always true, and the bool of
``checkSoulValidity`` says that the soul is sealed and its passport, if it has one, is its holder's.
The registry is a proxy whose owner can change its code, so a claim names the code (ERC-1967).

Reads name their block by its hash (EIP-1898: final, and in geth, reth, Nethermind and Erigon), so
that answers from before and after a reorganisation, or from the several nodes behind one endpoint,
do not mix. Whether that hash is on the chain is asked by number. Whoever runs the endpoint can lie
about all of it: a registrar asks one that it trusts.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import Any, TypeVar

import httpx
from eth_abi.abi import decode, encode
from eth_abi.exceptions import DecodingError
from eth_utils.abi import function_signature_to_4byte_selector
from eth_utils.crypto import keccak

from permesh.errors import PermeshError, Refused
from permesh.identity.genesis import VERSION, check_bytes, fields_of, is_uint, require
from permesh.records import pack

CHAIN_ID = 8453  # Base
REGISTRY = bytes.fromhex("4DB94aD31BC202831A49Fd9a2Fa354583002F894")
# ERC-1967: one before a hash, so that no variable of a contract can lie there.
IMPLEMENTATION_SLOT = int.from_bytes(keccak(text="eip1967.proxy.implementation"), "big") - 1
NULLIFIER_TAG = b"permesh/person/chitin/1\x00"
MAX_CLAIM_BYTES = 256
MAX_AGE_BLOCKS = 302_400  # seven days of Base's blocks, one every two seconds
MAX_ANSWER_BYTES = 64 * 1024
# A block lists the hashes of its transactions, 69 bytes each: 19,000 fill Base's 400M gas.
MAX_BLOCK_BYTES = 2 * 1024 * 1024
MAX_SHOWN_CHARS = 80
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{1,30}[a-z0-9]")
_QUANTITY = re.compile(r"0x[0-9a-fA-F]{1,15}")  # below 2**60, and so below records.MAX_UINT
_DATA = re.compile(r"0x([0-9a-fA-F]{2})*")

_Parsed = TypeVar("_Parsed")


class View:
    """A function of a contract that reads: the type of its one argument, and what it returns."""

    def __init__(self, name: str, takes: str, *returns: str) -> None:
        self.selector = function_signature_to_4byte_selector(f"{name}({takes})")
        self.takes = takes
        self.returns = returns


TOKEN_BY_NAME = View("getTokenIdByName", "string", "uint256")
OWNER_OF = View("ownerOf", "uint256", "address")
LOCKED = View("locked", "uint256", "bool")
SEALED = View("isSealed", "uint256", "bool")
# Whether it is valid, who sealed it, and whose the passport is.
VALIDITY = View("checkSoulValidity", "uint256", "bool", "address", "address")


@dataclass(frozen=True, slots=True)
class SoulClaim:
    """The soul that an applicant holds, and the block at which this can be read.

    ``token_id`` is a uint256 above 0; ``registry`` and ``implementation`` (the proxy's at that
    block) are 20-byte addresses, ``block_hash`` is 32 bytes. Making any other raises ``Refused``.
    """

    name: str
    token_id: int
    chain_id: int
    registry: bytes
    implementation: bytes
    block: int
    block_hash: bytes

    def __post_init__(self) -> None:
        _check_name(self.name)
        require(type(self.token_id) is int and 0 < self.token_id < 2**256, "token id")
        require(is_uint(self.chain_id), "chain id")
        check_bytes(self.registry, 20, "registry")
        check_bytes(self.implementation, 20, "implementation")
        require(is_uint(self.block), "block")
        check_bytes(self.block_hash, 32, "block hash")

    def encode(self) -> bytes:
        token_id = self.token_id.to_bytes(32, "big")  # msgpack's integers stop at 64 bits
        code = [self.chain_id, self.registry, self.implementation]
        return pack([VERSION, self.name, token_id, *code, self.block, self.block_hash])

    @classmethod
    def decode(cls, data: bytes) -> SoulClaim:
        name, token_id, *rest = fields_of(data, 7, MAX_CLAIM_BYTES, "soul claim")
        return cls(name, int.from_bytes(check_bytes(token_id, 32, "token id"), "big"), *rest)

    def nullifier(self, mesh: bytes) -> bytes:
        """Stands for the soul in one mesh (32 bytes each), at whichever block it is claimed."""
        where = self.chain_id.to_bytes(8, "big") + self.registry
        soul = where + self.token_id.to_bytes(32, "big")
        return hashlib.sha256(NULLIFIER_TAG + check_bytes(mesh, 32, "mesh") + soul).digest()


class Reverted(PermeshError):
    """The contract refused a call: for most calls, an answer that is of no use."""


class Chain:
    """A JSON-RPC endpoint (http or https), whose every answer is a stranger's.

    What goes wrong with it is a ``PermeshError``: ``chitin.url``, ``chitin.unreachable`` or
    ``chitin.answer``. Its URL often holds a secret key, so errors name the host alone.
    ``timeout`` (seconds) is for each step of a call, and for the body of an answer as a whole.
    """

    def __init__(self, url: str, *, timeout: float = 10.0) -> None:
        try:
            self._url = httpx.URL(url)
        except (httpx.InvalidURL, ValueError, TypeError) as error:
            raise _not_an_endpoint() from error
        if self._url.scheme not in ("http", "https") or not self._url.host:
            raise _not_an_endpoint()
        self._timeout = timeout
        self._calls = 0
        # Compressed, a small answer could unfold to a huge one.
        headers = {"content-type": "application/json", "accept-encoding": "identity"}
        self._client = httpx.Client(timeout=timeout, headers=headers, follow_redirects=False)

    def __enter__(self) -> Chain:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def chain_id(self) -> int:
        return self._ask("eth_chainId", [], _quantity)

    def head(self) -> int:
        """The newest block's number."""
        return self._ask("eth_blockNumber", [], _quantity)

    def block(self, which: int | str) -> tuple[int, bytes] | None:
        """Number and hash of the block with that number or tag, None if there is none."""
        tag = hex(which) if isinstance(which, int) else which
        found = self._ask("eth_getBlockByNumber", [tag, False], _block, MAX_BLOCK_BYTES)
        if found and isinstance(which, int) and found[0] != which:
            raise self.fault("it is about another block")
        return found

    def implementation(self, proxy: bytes, at: Any) -> bytes:
        """The address of an ERC-1967 proxy's code (20 bytes), zero if it is no such proxy."""
        params = [_hex(proxy), f"0x{IMPLEMENTATION_SLOT:064x}", at]
        return _address(self._ask("eth_getStorageAt", params, _values("address"))[0])

    def read(self, contract: bytes, view: View, argument: str | int, at: Any) -> tuple[Any, ...]:
        """What ``view`` returns, addresses as text; ``at`` is a tag or what ``_at`` gives.

        Raises ``Reverted`` if the contract does.
        """
        data = view.selector + encode([view.takes], [argument])
        params = [{"to": _hex(contract), "data": _hex(data)}, at]
        return self._ask("eth_call", params, _values(*view.returns))

    def fault(self, what: str, kind: type[PermeshError] = PermeshError) -> PermeshError:
        return kind(
            "chitin.answer",
            f"The answer of the Ethereum endpoint {_shown(self._url.host)} is of no use: {what}.",
            "Try again, or use another endpoint: one that keeps the state of the last seven days "
            "(an archive node).",
            http_status=502,
        )

    def _ask(
        self,
        method: str,
        params: list[Any],
        parse: Callable[[Any], _Parsed],
        limit: int = MAX_ANSWER_BYTES,
    ) -> _Parsed:
        """One call; ``parse`` raises ``ValueError`` or ``DecodingError`` for a wrong result."""
        self._calls += 1
        request = {"jsonrpc": "2.0", "id": self._calls, "method": method, "params": params}
        content = self._post(json.dumps(request).encode(), limit)
        try:
            answer = json.loads(content)
        except (ValueError, RecursionError) as error:
            raise self.fault(f"{method} gave no JSON") from error
        if not isinstance(answer, dict) or type(answer.get("id")) is not int:
            raise self.fault(f"{method} gave no JSON-RPC answer")
        if answer["id"] != self._calls:
            raise self.fault(f"{method} gave the answer to another call")
        if answer.get("error") is not None:
            raise self._failed(method, answer["error"])
        if "result" not in answer:
            raise self.fault(f"{method} gave no result")
        try:
            return parse(answer["result"])
        except (ValueError, DecodingError) as error:
            raise self.fault(f"{method} gave a result of the wrong form") from error

    def _post(self, body: bytes, limit: int) -> bytes:
        started = monotonic()
        content = bytearray()
        try:
            with self._client.stream("POST", self._url, content=body) as response:
                if response.status_code != 200:
                    raise self.fault(f"HTTP status {response.status_code}")
                for chunk in response.iter_raw():
                    content += chunk
                    if len(content) > limit:
                        raise self.fault(f"it is over {limit} bytes")
                    # httpx's own limit starts anew with every chunk.
                    if monotonic() - started > self._timeout:
                        raise httpx.ReadTimeout("the body takes too long")
        # Not only HTTPError: httpx reads where a redirect leads even if it does not go there.
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            raise PermeshError(
                "chitin.unreachable",
                f"The Ethereum endpoint {_shown(self._url.host)} does not answer "
                f"({type(error).__name__}).",
                "Check its address and the connection, or use another endpoint.",
                http_status=502,
            ) from error
        return bytes(content)

    def _failed(self, method: str, error: Any) -> PermeshError:
        """For an error object. Clients agree on little: a revert has code 3 in geth and reth,
        -32000 in Nethermind and older ones of geth, and in each a message that says so."""
        fields = error if isinstance(error, dict) else {}
        message = fields.get("message")
        text = _shown(message) if isinstance(message, str) else "no message"
        reverted = fields.get("code") == 3 or "revert" in text.lower()
        kind = Reverted if reverted else PermeshError
        return self.fault(f"{method} failed with '{text}'", kind)


def claim_soul(
    chain: Chain, name: str, *, registry: bytes = REGISTRY, chain_id: int = CHAIN_ID
) -> SoulClaim:
    """Claim the soul of that name at the newest safe block; raises ``PermeshError``, ``Refused``.

    A safe block is some minutes old and in Ethereum's own chain already, so that it stays: the
    latest could be reorganised away before anyone reads the claim.
    """
    _check_name(name)
    _must(chain.chain_id() == chain_id, "chain")
    newest = chain.block("safe")
    if newest is None:
        raise chain.fault("it knows no safe block")
    number, block_hash = newest
    at = _at(block_hash)
    implementation = chain.implementation(registry, at)
    _must(any(implementation), "implementation")
    token_id = _token_id(chain, name, registry, at)
    return SoulClaim(name, token_id, chain_id, registry, implementation, number, block_hash)


def check_soul(
    chain: Chain,
    claim: SoulClaim,
    owner: bytes,
    *,
    implementations: frozenset[bytes] = frozenset(),
    registry: bytes = REGISTRY,
    chain_id: int = CHAIN_ID,
) -> None:
    """Raise ``Refused`` unless ``owner`` (20 bytes) holds the soul, at the claim's block and now.

    ``implementations`` are the codes of the registry that are known; empty means any. What the
    endpoint gets wrong is a ``PermeshError`` that is not ``Refused``: it says nothing of the claim.
    """
    _must((claim.registry, claim.chain_id) == (registry, chain_id), "registry")
    _must(not implementations or claim.implementation in implementations, "unknown_implementation")
    _must(chain.chain_id() == chain_id, "chain")
    head = chain.head()
    _must(claim.block <= head, "ahead")
    _must(claim.block >= head - MAX_AGE_BLOCKS, "old")
    found = chain.block(claim.block)
    _must(found, "block")
    _must(found == (claim.block, claim.block_hash), "block_hash")
    at = _at(claim.block_hash)
    implementation = chain.implementation(registry, at)
    _must(any(implementation) and implementation == claim.implementation, "implementation")
    _must(_token_id(chain, claim.name, registry, at) == claim.token_id, "token")
    _check_held(chain, claim, owner, at)
    _must(chain.read(registry, SEALED, claim.token_id, at)[0], "unsealed")
    try:
        _check_held(chain, claim, owner, "latest")
    except Refused as error:
        message = "The soul was held by its owner when claimed, and is not now."
        raise Refused("chitin.revoked", message, error.remedy) from error


_AGAIN = "Claim the soul again, and apply with the new claim."
_ASK = "Ask a registrar which registry of souls the mesh takes."
_REFUSALS = {
    "name": (
        "This is not a soul's name.",
        "It has 3 to 32 of a-z, 0-9 and '-', with no dash at either end.",
    ),
    "registry": ("The soul is of another registry than the one asked.", _ASK),
    "unknown_implementation": ("The registry runs a code that is not known here.", _ASK),
    "chain": ("The Ethereum endpoint is not of the registry's chain.", "Use an endpoint of Base."),
    "ahead": ("The claim's block is still to come.", _AGAIN),
    "old": ("The claim's block is older than seven days.", _AGAIN),
    "block": ("The claim's block does not exist.", _AGAIN),
    "block_hash": ("The claim's block is not the one on the chain.", _AGAIN),
    "implementation": ("The registry does not run the code that the claim names.", _AGAIN),
    "unknown_name": (
        "The registry has no soul of that name.",
        "Check the name; a soul made just now can be claimed in some minutes.",
    ),
    "token": ("The soul of that name is another one than claimed.", _AGAIN),
    "absent": ("The soul does not exist.", "A burnt soul is gone: claim another one."),
    "owner": ("Another wallet holds the soul.", "Apply with the wallet that holds it."),
    "unlocked": ("The soul can be handed on.", _ASK),
    "unsealed": ("The soul is not sealed.", "Have it sealed, then claim it again."),
    "invalid": (
        "The registry says that the soul is not valid.",
        "It must be sealed, and its passport be held by the wallet that holds the soul.",
    ),
}


def _must(condition: object, code: str) -> None:
    """Raise the refusal of that code unless the condition is true."""
    if not condition:
        raise Refused(f"chitin.{code}", *_REFUSALS[code])


def _check_name(name: Any) -> None:
    _must(isinstance(name, str) and _NAME.fullmatch(name), "name")


def _check_held(chain: Chain, claim: SoulClaim, owner: bytes, at: Any) -> None:
    registry, token_id = claim.registry, claim.token_id
    try:
        holder = _address(chain.read(registry, OWNER_OF, token_id, at)[0])
    except Reverted as error:
        raise Refused("chitin.absent", *_REFUSALS["absent"]) from error
    _must(holder == owner, "owner")
    _must(chain.read(registry, LOCKED, token_id, at)[0], "unlocked")
    try:
        valid = chain.read(registry, VALIDITY, token_id, at)[0]
    except Reverted:
        valid = False  # the passport that it is bound to is gone
    _must(valid, "invalid")


def _token_id(chain: Chain, name: str, registry: bytes, at: Any) -> int:
    token_id: int = chain.read(registry, TOKEN_BY_NAME, name, at)[0]
    _must(token_id, "unknown_name")
    return token_id


def _not_an_endpoint() -> PermeshError:
    return PermeshError(
        "chitin.url",
        "This is not the address of an Ethereum endpoint.",
        "Give one that begins with https:// (or http://, on this machine).",
    )


def _at(block_hash: bytes) -> dict[str, str]:
    return {"blockHash": _hex(block_hash)}


def _hex(data: bytes) -> str:
    return "0x" + data.hex()


def _shown(text: str) -> str:
    """A stranger's text, short and without anything that a terminal would obey."""
    return "".join(one if " " <= one <= "~" else "?" for one in text[:MAX_SHOWN_CHARS])


def _quantity(value: Any) -> int:
    if not isinstance(value, str) or not _QUANTITY.fullmatch(value):
        raise ValueError("not a quantity")
    return int(value, 16)


def _data(value: Any, length: int) -> bytes:
    if not isinstance(value, str) or len(value) != 2 + 2 * length or not _DATA.fullmatch(value):
        raise ValueError("not data of that length")
    return bytes.fromhex(value[2:])


def _values(*types: str) -> Callable[[Any], tuple[Any, ...]]:
    """A parser of values of these static types, each a word of 32 bytes."""
    return lambda result: decode(types, _data(result, 32 * len(types)))


def _address(text: str) -> bytes:
    return bytes.fromhex(text.removeprefix("0x"))


def _block(value: Any) -> tuple[int, bytes] | None:
    if value is None:
        return None
    if not isinstance(value, dict):
        raise ValueError("not a block")
    return _quantity(value.get("number")), _data(value.get("hash"), 32)
