"""Ethereum wallets: the owner's and the agent's, and what they sign (EIP-712).

Owns keystore files, typed messages, their signatures and the recovery of a signer; it alone
imports eth_account. Must never know what the messages mean. Wallets sign rarely (0.8 ms to check
with coincurve, 17 ms without); session keys sign everything else.
"""

from __future__ import annotations

import json
import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eth_account import Account
from eth_account.messages import SignableMessage, encode_typed_data
from eth_account.signers.local import LocalAccount

from permesh.errors import PermeshError, Refused

from .files import write_secret

# Importing eth_account sets the whole process's limit to 100,000 (by way of py_ecc), with which
# deeply nested input overflows the C stack instead of raising. This is Python's own default.
RECURSION_LIMIT = 1000
sys.setrecursionlimit(RECURSION_LIMIT)

# Chitin lives on Base, and a wallet shows this chain beside what it is asked to sign.
CHAIN_ID = 8453
DOMAIN_TYPE = [
    {"name": "name", "type": "string"},
    {"name": "version", "type": "string"},
    {"name": "chainId", "type": "uint256"},
    {"name": "salt", "type": "bytes32"},
]
PLAIN_FORMAT = "permesh-plain-1"
MAX_KEYSTORE_BYTES = 64 * 1024
# n * r * p: twice what `save` asks for (2**18, 8, 1). Memory goes with it, 128 bytes for each.
MAX_SCRYPT_COST = 2**22
_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141


@dataclass(frozen=True, slots=True)
class TypedMessage:
    """An EIP-712 struct under permesh's domain, whose salt is the mesh id: a signature made for
    one mesh is worth nothing in another.

    ``fields`` are (type, name, value); addresses are 20 bytes, bytes32 are 32 bytes.
    """

    mesh: bytes
    primary: str
    fields: tuple[tuple[str, str, Any], ...]

    def signable(self) -> SignableMessage:
        return encode_typed_data(full_message=self.full_message())

    def full_message(self) -> dict[str, Any]:
        """The struct as wallets and other libraries take it."""
        return {
            "domain": {
                "name": "permesh",
                "version": "1",
                "chainId": CHAIN_ID,
                "salt": self.mesh,
            },
            "types": {
                "EIP712Domain": DOMAIN_TYPE,
                self.primary: [{"type": kind, "name": name} for kind, name, _ in self.fields],
            },
            "primaryType": self.primary,
            "message": {
                name: "0x" + value.hex() if kind == "address" else value
                for kind, name, value in self.fields
            },
        }


class Wallet:
    """A secp256k1 key that signs typed messages."""

    def __init__(self, account: LocalAccount) -> None:
        self._account = account
        self.address: bytes = bytes.fromhex(account.address[2:])

    @classmethod
    def create(cls) -> Wallet:
        return cls(Account.create())

    @classmethod
    def from_key(cls, key: bytes) -> Wallet:
        return cls(Account.from_key(key))

    def sign(self, message: TypedMessage) -> bytes:
        """65 bytes: r, s (always the lower one), v (27 or 28)."""
        return bytes(self._account.sign_message(message.signable()).signature)

    def save(self, path: Path, passphrase: str | None) -> None:
        """Write a new keystore, encrypted (scrypt) if there is a passphrase; never overwrites."""
        if passphrase:
            content = Account.encrypt(bytes(self._account.key), passphrase, kdf="scrypt")
        else:
            content = {
                "format": PLAIN_FORMAT,
                "address": self.address.hex(),
                "privateKey": bytes(self._account.key).hex(),
            }
        write_secret(path, json.dumps(content).encode())

    @classmethod
    def load(cls, path: Path, passphrase: str | None) -> Wallet:
        """Raises ``PermeshError``: ``wallet.missing``, ``wallet.unreadable``, ``wallet.damaged``,
        ``wallet.passphrase_needed``, ``wallet.passphrase``.

        Opening an encrypted keystore takes about a second: that is scrypt's purpose.
        """
        content = read_keystore(path)
        encrypted = is_encrypted(content)
        if encrypted and not passphrase:
            raise PermeshError(
                "wallet.passphrase_needed",
                f"The keystore {path.name} is encrypted.",
                "Give its passphrase at the prompt, with --passphrase-fd, or once with: "
                "permesh passphrase keep",
            )
        try:
            if encrypted:
                _check_scrypt(content["crypto"]["kdfparams"])
                key = bytes(Account.decrypt(content, passphrase or ""))
            else:
                key = bytes.fromhex(content["privateKey"])
            wallet = cls.from_key(key)
            named = bytes.fromhex(content["address"].removeprefix("0x"))
        except Exception as error:  # eth_keyfile trips over wrong types in as many ways
            if encrypted and str(error) == "MAC mismatch":
                raise PermeshError(
                    "wallet.passphrase",
                    f"The passphrase does not open the keystore {path.name}.",
                    "Try again; nobody can recover a forgotten passphrase.",
                ) from error
            raise _damaged(path) from error
        # The MAC does not cover all of an encrypted keystore, so one flipped digit can give
        # another key: its address tells.
        if named != wallet.address:
            raise _damaged(path)
        return wallet


def read_keystore(path: Path) -> dict[str, Any]:
    """The keystore's JSON as it is; raises ``wallet.missing``, ``.unreadable``, ``.damaged``."""
    try:
        with path.open("rb") as file:
            content = json.loads(file.read(MAX_KEYSTORE_BYTES))
    except FileNotFoundError as error:
        raise PermeshError(
            "wallet.missing", f"There is no keystore {path}.", "Run: permesh init --name NAME"
        ) from error
    except OSError as error:
        raise PermeshError(
            "wallet.unreadable",
            f"The keystore {path} cannot be read: {error.strerror}.",
            "Check that it is a file, and yours.",
        ) from error
    except (ValueError, RecursionError) as error:
        raise _damaged(path) from error
    if not isinstance(content, dict):
        raise _damaged(path)
    return content


def is_encrypted(content: dict[str, Any]) -> bool:
    return content.get("format") != PLAIN_FORMAT


def recover(message: TypedMessage, signature: bytes) -> bytes:
    """The 20-byte address that signed; raises ``Refused("wallet.signature")``.

    Refuses the second, malleated form of a signature (high s), so that each has one encoding.
    """
    if len(signature) != 65 or signature[64] not in (27, 28):
        raise Refused("wallet.signature", "A wallet signature has the wrong form.")
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:64], "big")
    if not (0 < r < _ORDER and 0 < s <= _ORDER // 2):
        raise Refused("wallet.signature", "A wallet signature is out of range.")
    try:
        address = Account.recover_message(message.signable(), signature=signature)
    except Exception as error:  # eth_keys and coincurve raise several unrelated types
        raise Refused("wallet.signature", "A wallet signature matches no key.") from error
    return bytes.fromhex(address[2:])


def _check_scrypt(params: dict[str, Any]) -> None:
    """Raise ``ValueError`` for numbers with which scrypt would take all memory, or for ever."""
    costs = [params[name] for name in ("n", "r", "p")]
    if not all(type(cost) is int and 0 < cost <= MAX_SCRYPT_COST for cost in costs):
        raise ValueError("scrypt's parameters")
    if math.prod(costs) > MAX_SCRYPT_COST or params["dklen"] != 32:
        raise ValueError("scrypt's parameters")


def _damaged(path: Path) -> PermeshError:
    return PermeshError(
        "wallet.damaged",
        f"The keystore {path} is damaged.",
        "Put back a copy of it; without the key, this identity is lost.",
    )
