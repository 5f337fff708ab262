"""Authors of records for tests: chains, a signature that costs nothing, and who is known."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any

from permesh.errors import Refused
from permesh.records import Record, seal
from permesh.removal import Removals
from permesh.spaces import SPACE_IDENTITY, space_of

MESH = bytes(range(32))
START_MS = 1_700_000_000_000
CREDENTIAL = "identity.credential"
NOTE = "test.note"
# By it an author takes back the notes that are its parents.
REMOVAL = "test.removal"
REMOVALS = Removals(
    frozenset({NOTE}), lambda record: record.header.parents if record.header.kind == REMOVAL else ()
)


@cache
def address(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()[:20]


def cheap_sign(author: bytes) -> Callable[[bytes], bytes]:
    """Not a signature, but it differs by author and id, and costs a microsecond."""
    return lambda record_id: hashlib.sha512(author + record_id).digest()


@dataclass
class Author:
    """Someone who seals a chain of records."""

    name: str
    seq: int = 0
    prev: bytes = b""
    now_ms: int = START_MS

    @property
    def address(self) -> bytes:
        return address(self.name)

    def write(
        self, body: bytes = b"hello", kind: str = NOTE, room: bytes = b"", **fields: Any
    ) -> Record:
        self.now_ms += 1
        values: dict[str, Any] = {
            "mesh": MESH, "kind": kind, "author": self.address, "epoch": 1, "seq": self.seq,
            "prev": self.prev, "created_ms": self.now_ms, "body": body, "room": room,
            "sign": cheap_sign(self.address),
        }  # fmt: skip
        record = seal(**{**values, **fields})
        self.seq, self.prev = record.header.seq + 1, record.id
        return record

    def credential(self) -> Record:
        return self.write(self.address, CREDENTIAL)


def is_identity(record: Record) -> bool:
    return space_of(record.header.kind, record.header.room) == SPACE_IDENTITY


class CheapRoster:
    """Knows the authors whose credential record it has applied."""

    def __init__(self, records: Iterable[Record] = ()) -> None:
        self.known: set[bytes] = set()
        self.checked = 0
        for record in records:
            self.apply(record)

    def check(self, record: Record, now_ms: int) -> None:  # noqa: ARG002 - the roster's form
        self.checked += 1
        header = record.header
        if header.kind != CREDENTIAL and header.author not in self.known:
            raise Refused("record.credential_unknown", "Nobody that is known here.")
        if record.signature != cheap_sign(header.author)(record.id):
            raise Refused("record.signature", "Forged.")

    def apply(self, record: Record) -> list[bytes]:
        self.known.add(record.header.author)
        return [record.header.author]
