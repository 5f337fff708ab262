"""What is said about files: one encoding, hard limits, and answers that fit their question."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from permesh.errors import PermeshError, Refused
from permesh.p2p.blobs import (
    CHUNK_BYTES,
    MAX_FILE_BYTES,
    MESSAGE_BYTES,
    Absent,
    Chunk,
    Have,
    Message,
    RangeReader,
    Read,
    Size,
    decode,
    encode,
    ranges,
)
from permesh.records import pack

HASH = bytes(range(32))
hashes = st.binary(min_size=32, max_size=32)
messages = st.one_of(
    st.builds(Have, hashes),
    st.builds(Size, st.integers(0, MAX_FILE_BYTES)),
    st.builds(Read, hashes, st.integers(0, 2**40), st.integers(1, 2**40)),
    st.builds(Chunk, st.binary(min_size=1, max_size=2048)),
    st.just(Absent()),
)


@given(messages)
def test_what_is_encoded_is_decoded(message: Message) -> None:
    assert decode(encode(message)) == message


def test_a_full_chunk_fits_into_a_message() -> None:
    assert len(encode(Chunk(bytes(CHUNK_BYTES)))) <= MESSAGE_BYTES


@given(st.binary(max_size=200))
def test_of_any_bytes_only_a_refusal_comes(data: bytes) -> None:
    try:
        message = decode(data)
    except Refused:
        return
    assert encode(message) == data


@pytest.mark.parametrize(
    "fields",
    [
        [],
        [1],
        [1, HASH[:31]],
        [True, HASH],
        [2, -1],
        [2, True],
        [2, b"1"],
        [3, HASH, -1, 1],
        [3, HASH, 0, 0],
        [3, HASH, 0],
        [3, HASH, True, 1],
        [4, b""],
        [4, "text"],
        [5, 1],
        [6],
        1,
        None,
    ],
)
def test_what_is_not_well_formed_is_refused(fields: object) -> None:
    with pytest.raises(Refused) as caught:
        decode(pack(fields))
    assert caught.value.code == "blob.malformed"


def test_a_file_that_no_post_may_have_is_refused() -> None:
    with pytest.raises(Refused) as caught:
        decode(pack([2, MAX_FILE_BYTES + 1]))
    assert caught.value.code == "blob.wrong_size"


def test_a_message_that_is_longer_than_a_chunk_is_refused() -> None:
    with pytest.raises(Refused) as caught:
        decode(pack([4, bytes(CHUNK_BYTES + 100)]))
    assert caught.value.code == "format.too_long"


@given(st.integers(0, MAX_FILE_BYTES), st.integers(1, MAX_FILE_BYTES))
def test_the_chunks_of_a_range_are_the_range(offset: int, length: int) -> None:
    at = offset
    chunks = list(ranges(offset, length))
    for start, size in chunks:
        assert start == at
        assert 0 < size <= CHUNK_BYTES
        at += size
    assert at == offset + length
    assert len(chunks) == -(-length // CHUNK_BYTES)


@given(st.integers(1, 3 * CHUNK_BYTES), st.data())
def test_a_reader_takes_what_it_asked_for_and_nothing_else(
    length: int, data: st.DataObject
) -> None:
    reader = RangeReader(length)
    expected = list(ranges(0, length))
    wrong_at = data.draw(st.integers(0, len(expected)))
    for number, (_, size) in enumerate(expected):
        if number == wrong_at:
            other = data.draw(st.integers(1, CHUNK_BYTES).filter(size.__ne__))
            with pytest.raises(Refused) as caught:
                reader.received(encode(Chunk(bytes(other))))
            assert caught.value.code == "blob.wrong_chunk"
            return
        assert reader.received(encode(Chunk(bytes(size)))) == bytes(size)
    assert reader.left == 0


def test_a_reader_is_told_that_the_file_is_gone() -> None:
    with pytest.raises(PermeshError) as caught:
        RangeReader(10).received(encode(Absent()))
    assert not isinstance(caught.value, Refused)
    assert caught.value.code == "blob.absent"


@pytest.mark.parametrize("message", [Have(HASH), Size(10), Read(HASH, 0, 10)])
def test_a_reader_refuses_what_answers_another_question(message: Message) -> None:
    with pytest.raises(Refused) as caught:
        RangeReader(10).received(encode(message))
    assert caught.value.code == "blob.out_of_turn"
