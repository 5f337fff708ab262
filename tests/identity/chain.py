"""A small Ethereum chain with a registry of souls, behind a real JSON-RPC server on loopback.

It is honest unless told to lie. What it answers is encoded here, with none of the code under test.
"""

from __future__ import annotations

import hashlib
import json
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import eth_abi
from eth_utils import keccak

REGISTRY = "0x4DB94aD31BC202831A49Fd9a2Fa354583002F894".lower()
SLOT = "0x360894a13ba1a3210667c828492db98dca3e2076cc3735a920a3ca505d382bbc"
IMPLEMENTATION = bytes.fromhex("c0de" * 10)
OWNER = bytes.fromhex("0a" * 20)
SIGNATURES = (
    "getTokenIdByName(string)",
    "ownerOf(uint256)",
    "locked(uint256)",
    "isSealed(uint256)",
    "checkSoulValidity(uint256)",
)
FUNCTIONS = {keccak(text=one)[:4]: one.partition("(")[0] for one in SIGNATURES}
REVERT = (3, "execution reverted")


def block_hash(number: int) -> bytes:
    return hashlib.sha256(b"block %d" % number).digest()


class Failed(Exception):
    """A JSON-RPC error object: code and message."""


@dataclass
class Soul:
    owner: bytes = OWNER
    locked: bool = True
    sealed: bool = True
    valid: bool = True
    passport: bool = True  # without it, the contract's own check of validity reverts


@dataclass
class Ledger:
    """The chain. ``souls`` and ``names`` are as at every block, ``now`` as at the latest if given.

    ``lies`` replaces the result of a method or of a function of the registry; ``errors`` answers
    one with a JSON-RPC error instead. ``http`` replaces the whole answer, bytes and all.
    """

    chain_id: int = 8453
    head: int = 40_000_000
    safe: int = 39_999_900
    implementation: bytes = IMPLEMENTATION
    names: dict[str, int] = field(default_factory=lambda: {"ann-soul": 54})
    souls: dict[int, Soul] = field(default_factory=lambda: {54: Soul()})
    now: dict[int, Soul] | None = None
    lies: dict[str, Callable[[Any], Any]] = field(default_factory=dict)
    errors: dict[str, Any] = field(default_factory=dict)
    envelope: Callable[[dict[str, Any]], Any] | None = None
    http: Callable[[BaseHTTPRequestHandler, bytes], None] | None = None
    asked: list[tuple[str, list[Any]]] = field(default_factory=list)

    def answer(self, request: dict[str, Any]) -> Any:
        method, params = request["method"], request["params"]
        self.asked.append((method, params))
        answer = {"jsonrpc": "2.0", "id": request["id"]}
        try:
            name, result = self._result(method, params)
            if name in self.errors:
                return answer | {"error": self.errors[name]}
            answer["result"] = self.lies[name](result) if name in self.lies else result
        except Failed as error:
            answer["error"] = dict(zip(("code", "message"), error.args, strict=True))
        return self.envelope(answer) if self.envelope else answer

    def _result(self, method: str, params: list[Any]) -> tuple[str, Any]:
        if method == "eth_chainId":
            return method, hex(self.chain_id)
        if method == "eth_blockNumber":
            return method, hex(self.head)
        if method == "eth_getBlockByNumber":
            return method, self._block(*params)
        if method == "eth_getStorageAt":
            contract, slot, at = params
            assert (contract, slot) == (REGISTRY, SLOT)
            self._known(at)
            return method, "0x" + eth_abi.encode(
                ["bytes32"], [bytes(12) + self.implementation]
            ).hex()
        assert method == "eth_call", method
        call, at = params
        assert call["to"] == REGISTRY
        data = bytes.fromhex(call["data"][2:])
        name = FUNCTIONS[data[:4]]
        souls = self.now if self._known(at) == self.head and self.now is not None else self.souls
        try:
            result = self._call(name, data[4:], souls)
        except Failed:
            if name in self.lies or name in self.errors:
                return name, None
            raise
        return name, "0x" + result.hex()

    def _block(self, tag: str, whole: bool) -> dict[str, Any] | None:
        assert whole is False
        number = {"safe": self.safe, "latest": self.head}.get(tag)
        number = int(tag, 16) if number is None else number
        if number > self.head:
            return None
        return {"number": hex(number), "hash": "0x" + block_hash(number).hex(), "transactions": []}

    def _known(self, at: Any) -> int:
        if at == "latest":
            return self.head
        for number in (self.safe, self.head):
            if at == {"blockHash": "0x" + block_hash(number).hex()}:
                return number
        raise Failed(-32000, "missing trie node")

    def _call(self, name: str, data: bytes, souls: dict[int, Soul]) -> bytes:
        if name == "getTokenIdByName":
            (title,) = eth_abi.decode(["string"], data)
            return eth_abi.encode(["uint256"], [self.names.get(title, 0)])
        (token,) = eth_abi.decode(["uint256"], data)
        soul = souls.get(token)
        if soul is None:
            raise Failed(*REVERT)
        if name == "ownerOf":
            return eth_abi.encode(["address"], [soul.owner])
        if name == "locked":
            return eth_abi.encode(["bool"], [soul.locked])
        if name == "isSealed":
            return eth_abi.encode(["bool"], [soul.sealed])
        if not soul.passport:
            raise Failed(*REVERT)
        words = [soul.valid and soul.sealed, bytes(20), soul.owner]
        return eth_abi.encode(["bool", "address", "address"], words)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    server: Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        assert self.headers["Content-Type"] == "application/json"
        assert self.headers["Accept-Encoding"] == "identity"
        ledger = self.server.ledger
        if ledger.http:
            ledger.http(self, body)
            return
        reply(self, json.dumps(ledger.answer(json.loads(body))).encode())

    def log_message(self, *_: Any) -> None:
        pass


def reply(handler: BaseHTTPRequestHandler, body: bytes, status: int = 200, **headers: str) -> None:
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


class Server(ThreadingHTTPServer):
    """Serves ``ledger``, which a test replaces; ``crashes`` are its own errors."""

    daemon_threads = True
    block_on_close = False
    ledger: Ledger

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}/v2/SECRETKEY"
        self.crashes: list[str] = []

    def handle_error(self, *_: Any) -> None:
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):  # a client may hang up when it has heard enough
            self.crashes.append(repr(error))


@contextmanager
def serving() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
    assert server.crashes == []
