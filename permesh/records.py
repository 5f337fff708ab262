"""The signed record: what everything that lasts is made of.

Owns the header's canonical form, its id, its signature and its limits. Must never know what a
kind means, who a member is, or where a record is kept: those are the rooms above.

A header is a canonical msgpack *array* (no maps, no floats, shortest integers, NFC strings), so
that the same header has one encoding and one id. Its id is SHA-256 over a domain tag and the
exact bytes; the author's session key (Ed25519) signs the id. The body travels beside the header
and is named by its hash, so a removed body leaves the author's chain verifiable.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgpack
from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey

from .errors import Refused

VERSION = 1
ID_TAG = b"permesh/record/1\x00"
MAX_BODY_BYTES = 32 * 1024
MAX_PARENTS = 8
MAX_KIND_BYTES = 48
# Generous for eleven fields with eight parents (8 * 34 bytes); anything longer is not a header.
MAX_HEADER_BYTES = 1024
MAX_RECORD_BYTES = MAX_HEADER_BYTES + MAX_BODY_BYTES + 128
# In one message, at all depths. Each costs a receiver half a microsecond of checking, however few
# bytes it has, and a list's claimed length is allocated before its items are seen.
MAX_ITEMS = 65_536
MAX_DEPTH = 8  # lists within lists
MAX_UINT = 2**63 - 1  # SQLite's largest integer, and far beyond any date or sequence number

NO_ROOM = b""


def pack(value: Any) -> bytes:
    """Encode a tree of lists, ints, bytes, str, bool and None canonically; refuse the rest."""
    _check_canonical(value, depth=0)
    return bytes(msgpack.packb(value, use_bin_type=True))


def unpack(data: bytes, *, limit: int) -> Any:
    """Decode canonical msgpack of at most ``limit`` bytes; raises ``Refused`` on anything else.

    Re-encodes and compares, so two byte strings never stand for one value.
    """
    if len(data) > limit:
        raise Refused("format.too_long", f"A message of {len(data)} bytes is over {limit}.")
    try:
        value = msgpack.unpackb(
            data,
            raw=False,
            use_list=True,
            strict_map_key=True,
            max_str_len=limit,
            max_bin_len=limit,
            max_array_len=min(limit, MAX_ITEMS),
            max_map_len=0,
            max_ext_len=0,
        )
        again = pack(value)
    except Refused:
        raise
    except (ValueError, TypeError, RecursionError, OverflowError, msgpack.UnpackException) as error:
        raise Refused("format.msgpack", "The bytes are not canonical msgpack.") from error
    if again != data:
        raise Refused("format.not_canonical", "The bytes are not in canonical form.")
    return value


def _check_canonical(value: Any, depth: int, seen: int = 0) -> int:
    """Raise ``Refused`` unless ``value`` has one encoding; returns ``seen`` plus its items."""
    if value is None or isinstance(value, bool | bytes):
        pass
    elif isinstance(value, int):
        if not -MAX_UINT <= value <= MAX_UINT:
            raise Refused("format.integer", "An integer is out of range.")
    elif isinstance(value, str):
        _check_text(value)
    elif isinstance(value, list | tuple):
        if depth >= MAX_DEPTH:
            raise Refused("format.too_deep", "The message is nested too deeply.")
        if seen + len(value) > MAX_ITEMS:
            raise Refused("format.too_many", f"The message has more than {MAX_ITEMS} items.")
        for item in value:
            # Most items are ids, in pages, or the numbers of a header.
            kind = type(item)
            if kind is bytes or (kind is int and 0 <= item <= MAX_UINT):
                seen += 1
            else:
                seen = _check_canonical(item, depth + 1, seen)
    else:
        raise Refused("format.type", f"A {type(value).__name__} does not belong in a record.")
    return seen + 1


def _check_text(value: str) -> None:
    if value.isascii():
        return
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise Refused("format.text", "A string is not valid Unicode.") from error
    if not is_nfc(value):
        raise Refused("format.text", "A string is not in Unicode normal form NFC.")


def is_nfc(text: str) -> bool:
    """Whether a text is in normal form NFC, said alike by every release of Python.

    What a later Unicode has made of a character that an earlier one did not know must not part
    members: characters newer than Unicode 3.2, of which Python keeps the tables, count as letters
    that combine with nothing. So what is NFC by any later table is NFC by this.
    """
    if unicodedata.is_normalized("NFC", text):
        return True
    old = unicodedata.ucd_3_2_0
    known = "".join(one if old.category(one) != "Cn" else "\ufffd" for one in text)
    return unicodedata.is_normalized("NFC", known)


def _require(condition: bool, field: str) -> None:
    if not condition:
        raise Refused("record.field", f"The record's {field} is not valid.")


def _is_uint(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_UINT


def _is_bytes(value: Any, *lengths: int) -> bool:
    return isinstance(value, bytes) and len(value) in lengths


@dataclass(frozen=True, slots=True)
class Header:
    """What an author signs. All ids are 32 bytes, ``author`` is a 20-byte wallet address.

    ``room`` is empty for records of the mesh itself; ``prev`` is empty for the author's first
    record (``seq`` 0); ``expires_ms`` is 0 for a record that never expires.
    """

    mesh: bytes
    kind: str
    room: bytes
    author: bytes
    epoch: int
    seq: int
    prev: bytes
    created_ms: int
    parents: tuple[bytes, ...]
    body_hash: bytes
    body_length: int
    expires_ms: int = 0

    def encode(self) -> bytes:
        return pack(
            [
                VERSION,
                self.mesh,
                self.kind,
                self.room,
                self.author,
                self.epoch,
                self.seq,
                self.prev,
                self.created_ms,
                list(self.parents),
                self.body_hash,
                self.body_length,
                self.expires_ms,
            ]
        )

    @classmethod
    def decode(cls, data: bytes) -> Header:
        """Parse and check every field; raises ``Refused``."""
        fields = unpack(data, limit=MAX_HEADER_BYTES)
        _require(isinstance(fields, list) and len(fields) == 13, "shape")
        version, mesh, kind, room, author, epoch, seq, prev, created, parents, *rest = fields
        body_hash, body_length, expires = rest
        if version != VERSION or isinstance(version, bool):
            raise Refused(
                "record.version",
                f"The record has format version {version!r}, and this release knows {VERSION}.",
                "Upgrade permesh.",
            )
        _require(_is_bytes(mesh, 32), "mesh")
        _require(isinstance(kind, str) and 0 < len(kind.encode()) <= MAX_KIND_BYTES, "kind")
        _require(_is_bytes(room, 0, 32), "room")
        _require(_is_bytes(author, 20), "author")
        _require(_is_uint(epoch), "epoch")
        _require(_is_uint(seq), "seq")
        _require(_is_bytes(prev, 0 if seq == 0 else 32), "prev")
        _require(_is_uint(created), "created_ms")
        _require(isinstance(parents, list) and len(parents) <= MAX_PARENTS, "parents")
        _require(all(_is_bytes(parent, 32) for parent in parents), "parents")
        _require(_is_bytes(body_hash, 32), "body_hash")
        _require(_is_uint(body_length) and body_length <= MAX_BODY_BYTES, "body_length")
        _require(_is_uint(expires), "expires_ms")
        return cls(
            mesh, kind, room, author, epoch, seq, prev, created,
            tuple(parents), body_hash, body_length, expires,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Record:
    """A header's exact bytes, the signature over its id, and the body if it is here.

    A record whose author has taken its body away travels with the ``removal`` that did so, in the
    body's place, so that whoever receives it sees that nobody withholds anything.
    """

    id: bytes
    header: Header
    header_bytes: bytes
    signature: bytes
    body: bytes | None
    removal: Record | None = None

    def encode(self) -> bytes:
        return pack(self.to_wire())

    def to_wire(self) -> list[Any]:
        """The record as a list that may stand inside a larger canonical message."""
        rest = self.body if self.removal is None else self.removal.to_wire()
        return [self.header_bytes, self.signature, rest]

    @classmethod
    def decode(cls, data: bytes) -> Record:
        return cls.from_wire(unpack(data, limit=MAX_RECORD_BYTES))

    @classmethod
    def from_wire(cls, fields: Any) -> Record:
        """Check form, lengths and body hash, but not yet the signature; raises ``Refused``."""
        _require(isinstance(fields, list) and len(fields) == 3, "shape")
        header_bytes, signature, body = fields
        removal = None
        if isinstance(body, list):
            _require(len(body) == 3 and isinstance(body[2], bytes), "removal")
            removal, body = cls.from_wire(body), None
        _require(isinstance(header_bytes, bytes), "header")
        _require(_is_bytes(signature, 64), "signature")
        _require(body is None or isinstance(body, bytes), "body")
        header = Header.decode(header_bytes)
        if body is not None:
            _require(len(body) == header.body_length, "body_length")
            _require(hashlib.sha256(body).digest() == header.body_hash, "body_hash")
        return cls(record_id(header_bytes), header, header_bytes, signature, body, removal)

    def verify(self, session_key: bytes) -> None:
        """Check the author's signature against the epoch's Ed25519 key; raises ``Refused``."""
        try:
            VerifyKey(session_key).verify(self.id, self.signature)
        except (BadSignatureError, ValueError, TypeError) as error:
            raise Refused(
                "record.signature", "The record's signature does not match its author's key."
            ) from error


def record_id(header_bytes: bytes) -> bytes:
    return hashlib.sha256(ID_TAG + header_bytes).digest()


def seal(
    *,
    mesh: bytes,
    kind: str,
    author: bytes,
    epoch: int,
    seq: int,
    prev: bytes,
    created_ms: int,
    body: bytes,
    sign: Callable[[bytes], bytes],
    room: bytes = NO_ROOM,
    parents: tuple[bytes, ...] = (),
    expires_ms: int = 0,
) -> Record:
    """Make and sign a record; ``sign`` takes the 32-byte id and returns 64 bytes."""
    if len(body) > MAX_BODY_BYTES:
        raise Refused(
            "record.body_too_long",
            f"The body has {len(body)} bytes and the limit is {MAX_BODY_BYTES} (32 KiB).",
            "Shorten it, or split it into several posts.",
        )
    header = Header(
        mesh, kind, room, author, epoch, seq, prev, created_ms,
        parents, hashlib.sha256(body).digest(), len(body), expires_ms,
    )  # fmt: skip
    header_bytes = header.encode()
    Header.decode(header_bytes)  # our own mistakes are caught here, before anything is signed
    identity = record_id(header_bytes)
    return Record(identity, header, header_bytes, sign(identity), body)
