"""A header has one encoding, a record one id, and hostile bytes get no further than `Refused`."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nacl.signing import SigningKey

from permesh import records
from permesh.errors import Refused
from permesh.records import MAX_BODY_BYTES, MAX_UINT, Header, Record, pack, seal, unpack

KEY = SigningKey(bytes(range(32)))


def sign(data: bytes) -> bytes:
    return KEY.sign(data).signature


def make(**changes: Any) -> Record:
    values: dict[str, Any] = {
        "mesh": b"m" * 32, "kind": "test.note", "author": b"a" * 20, "epoch": 1, "seq": 0,
        "prev": b"", "created_ms": 1_700_000_000_000, "body": b"hello", "sign": sign,
    }  # fmt: skip
    return seal(**{**values, **changes})


def fields_of(record: Record) -> list[Any]:
    return list(msgpack.unpackb(record.header_bytes))


def refusal(data: bytes) -> str:
    with pytest.raises(Refused) as caught:
        Record.decode(data)
    return caught.value.code


def with_header(header: bytes, body: bytes = b"hello") -> bytes:
    return bytes(msgpack.packb([header, b"s" * 64, body]))


# -- the canonical form


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-MAX_UINT, MAX_UINT)
    | st.binary(max_size=40)
    | st.text(max_size=20).map(lambda text: text if _packs(text) else "plain"),
    lambda inner: st.lists(inner, max_size=5),
    max_leaves=8,  # and so no deeper than a message may be
)


def _packs(text: str) -> bool:
    try:
        pack(text)
    except Refused:
        return False
    return True


@settings(max_examples=60, deadline=None)
@given(values)
def test_what_is_packed_is_unpacked_the_same(value: Any) -> None:
    data = pack(value)
    assert unpack(data, limit=len(data)) == value


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "format.msgpack"),
        (b"\xc1", "format.msgpack"),  # never used by msgpack
        (b"\x01\x01", "format.msgpack"),  # a second value
        (b"\x92\x01", "format.msgpack"),  # cut short
        (b"\x80", "format.type"),  # an empty map
        (b"\x81\x01\x01", "format.msgpack"),
        (b"\xcb" + bytes(8), "format.type"),  # a float
        (b"\xcc\x01", "format.not_canonical"),  # 1 in two bytes
        (b"\xd0\xff", "format.not_canonical"),  # -1 in two bytes
        (b"\xdc\x00\x01\x01", "format.not_canonical"),  # a list with a long head
        (b"\xd9\x01a", "format.not_canonical"),
        (b"\xc5\x00\x01a", "format.not_canonical"),
        (b"\xcf" + b"\xff" * 8, "format.integer"),
        (b"\xd3\x80" + bytes(7), "format.integer"),
        (b"\xd4\x01a", "format.msgpack"),  # an extension
        (b"\xd6\xff" + bytes(4), "format.msgpack"),  # a timestamp
        (b"\xa1\xff", "format.msgpack"),  # not UTF-8
        (b"\xa3\xed\xa0\x80", "format.msgpack"),  # a surrogate in UTF-8
        (b"\xa3e\xcc\x81", "format.text"),  # e and an accent: not NFC
        (b"\x91" * 9 + b"\x01", "format.too_deep"),
        (b"\x91" * 9 + b"\xc4\x00", "format.too_deep"),
        (b"\x91" * 8 + b"\x90", "format.too_deep"),
        (b"\x91" * 5000, "format.msgpack"),
        (b"\xdd\xff\xff\xff\xff", "format.msgpack"),
        (b"\xc6\xff\xff\xff\xff", "format.msgpack"),
    ],
)
def test_bytes_that_are_not_canonical_are_refused(data: bytes, code: str) -> None:
    with pytest.raises(Refused) as caught:
        unpack(data, limit=10_000)
    assert caught.value.code == code


def test_eight_lists_within_each_other_pass() -> None:
    value: Any = b""
    for _ in range(records.MAX_DEPTH):
        value = [value]
    assert unpack(pack(value), limit=20) == value


def test_limits_hold_at_the_byte_and_at_the_item() -> None:
    data = pack(b"x" * 100)
    assert unpack(data, limit=len(data)) == b"x" * 100
    with pytest.raises(Refused, match="over"):
        unpack(data, limit=len(data) - 1)
    items = [None] * records.MAX_ITEMS
    assert unpack(pack(items), limit=1 << 20) == items
    with pytest.raises(Refused, match="more than"):
        pack([*items, None])
    with pytest.raises(Refused, match="more than"):
        pack([items, [None]])
    with pytest.raises(Refused):
        unpack(b"\xdd" + (records.MAX_ITEMS + 1).to_bytes(4, "big") + b"\xc0" * 70_000,
               limit=1 << 20)  # fmt: skip


@pytest.mark.parametrize("value", [1.5, {}, {1: 2}, object(), 2**63, {1}, "\ud800", "e\u0301"])
def test_what_does_not_belong_is_not_packed(value: Any) -> None:
    with pytest.raises(Refused):
        pack([value])


# -- the header and the record


def test_a_record_survives_its_encoding() -> None:
    record = make(room=b"r" * 32, parents=(b"p" * 32,), expires_ms=5, seq=3, prev=b"q" * 32)
    again = Record.decode(record.encode())
    assert again == record
    again.verify(bytes(KEY.verify_key))
    assert again.id == hashlib.sha256(b"permesh/record/1\x00" + record.header_bytes).digest()


def test_the_id_stands_still() -> None:
    # Changing the format by accident would break every mesh that exists.
    assert make().id.hex() == ("e85787f2918dad9b6f12ff2da7d824950c36403d1dc61b734feac556d2f12b1d")


def test_a_record_without_its_body_keeps_its_id() -> None:
    record = make()
    bare = Record.from_wire([record.header_bytes, record.signature, None])
    assert bare.id == record.id
    bare.verify(bytes(KEY.verify_key))


@pytest.mark.parametrize(
    ("index", "value"),
    [
        (1, b"m" * 31), (1, "m" * 32), (2, ""), (2, "k" * 49), (2, b"note"), (3, b"r" * 31),
        (4, b"a" * 19), (4, b"a" * 32), (5, -1), (5, True), (6, -1), (6, None), (6, 1),
        (7, b"p" * 32), (8, -5), (8, b""), (9, [b"p" * 31]), (9, [b"p" * 32] * 9), (9, b""),
        (10, b"h" * 31), (11, MAX_BODY_BYTES + 1), (11, 4), (12, -1), (12, False),
    ],
)  # fmt: skip
def test_a_header_with_a_wrong_field_is_refused(index: int, value: Any) -> None:
    fields = fields_of(make())
    fields[index] = value
    header = bytes(msgpack.packb(fields))
    assert refusal(with_header(header)) == "record.field"


def test_a_header_of_another_shape_or_version_is_refused() -> None:
    fields = fields_of(make())
    assert refusal(with_header(pack(fields[:-1]))) == "record.field"
    assert refusal(with_header(pack([*fields, 0]))) == "record.field"
    assert refusal(with_header(pack([2, *fields[1:]]))) == "record.version"
    assert refusal(with_header(pack([True, *fields[1:]]))) == "record.version"
    assert refusal(with_header(pack(7))) == "record.field"
    assert refusal(with_header(b"x" * 2000)) == "format.too_long"


@pytest.mark.parametrize(
    "wire",
    [
        [], [b"", b"", b""], "text", 7, None, [None, b"s" * 64, None], [b"h", b"s" * 63, b""],
        [b"h", "s" * 64, b""], [b"h", b"s" * 64, "body"], [b"h", b"s" * 64, b"", b""],
    ],
)  # fmt: skip
def test_a_wire_form_of_another_shape_is_refused(wire: Any) -> None:
    with pytest.raises(Refused):
        Record.from_wire(wire)


def test_the_body_must_be_the_one_that_was_signed() -> None:
    record = make()
    assert refusal(pack([record.header_bytes, record.signature, b"hellp"])) == "record.field"
    assert refusal(pack([record.header_bytes, record.signature, b"hell"])) == "record.field"


def test_a_body_of_32_kib_passes_and_one_byte_more_does_not() -> None:
    record = make(body=bytes(MAX_BODY_BYTES))
    assert Record.decode(record.encode()) == record
    with pytest.raises(Refused) as caught:
        make(body=bytes(MAX_BODY_BYTES + 1))
    assert caught.value.code == "record.body_too_long"


def test_the_largest_record_fits_its_limit() -> None:
    parents = tuple(bytes([n]) * 32 for n in range(8))
    record = make(
        body=bytes(MAX_BODY_BYTES), parents=parents, room=b"r" * 32, kind="k" * 48,
        seq=MAX_UINT, prev=b"p" * 32, epoch=MAX_UINT, created_ms=MAX_UINT, expires_ms=MAX_UINT,
    )  # fmt: skip
    assert len(record.header_bytes) <= records.MAX_HEADER_BYTES
    assert Record.decode(record.encode()) == record


@pytest.mark.parametrize("part", ["signature", "key", "header"])
def test_a_forged_record_does_not_verify(part: str) -> None:
    record = make()
    key = bytes(KEY.verify_key)
    if part == "signature":
        record = Record.from_wire([record.header_bytes, bytes(64), record.body])
    elif part == "key":
        key = bytes(SigningKey.generate().verify_key)
    else:
        other = make(created_ms=1)
        record = Record.from_wire([other.header_bytes, record.signature, record.body])
    with pytest.raises(Refused) as caught:
        record.verify(key)
    assert caught.value.code == "record.signature"


@pytest.mark.parametrize("key", [b"", b"k" * 31, bytes(32), b"\xff" * 32])
def test_a_key_that_is_none_is_refused(key: bytes) -> None:
    with pytest.raises(Refused):
        make().verify(key)


def test_our_own_mistakes_are_caught_before_signing() -> None:
    def never(_data: bytes) -> bytes:
        raise AssertionError("signed")

    with pytest.raises(Refused):
        make(author=b"short", sign=never)
    with pytest.raises(Refused):
        make(seq=1, prev=b"", sign=never)


# -- hostile bytes


@settings(max_examples=80, deadline=None)
@given(st.binary(max_size=200))
def test_only_refused_leaves_the_decoders(data: bytes) -> None:
    for decode in (Record.decode, Header.decode, lambda d: unpack(d, limit=150)):
        with suppress(Refused):
            decode(data)


wild = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.binary(max_size=70)
    | st.text(max_size=10) | st.floats(),
    lambda inner: st.lists(inner, max_size=14) | st.dictionaries(st.text(max_size=2), inner,
                                                                 max_size=2),
    max_leaves=30,
)  # fmt: skip


@settings(max_examples=80, deadline=None)
@given(wild)
def test_only_refused_leaves_for_any_msgpack(value: Any) -> None:
    data = bytes(msgpack.packb(value, use_bin_type=True))
    for decode in (Record.decode, Header.decode):
        with pytest.raises(Refused):
            decode(data)
    with pytest.raises(Refused):
        Record.from_wire(value)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_flipped_byte_is_refused_or_another_record(data: st.DataObject) -> None:
    record = make(parents=(b"p" * 32,))
    encoded = bytearray(record.encode())
    place = data.draw(st.integers(0, len(encoded) - 1))
    encoded[place] ^= data.draw(st.integers(1, 255))
    try:
        changed = Record.decode(bytes(encoded))
    except Refused:
        return
    assert changed != record
    with pytest.raises(Refused):
        changed.verify(bytes(KEY.verify_key))
