"""Frames come out as they went in, however the socket cuts them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from permesh.errors import PermeshError
from permesh.inference.engine.protocol import (
    MAX_HEADER_BYTES,
    MAX_PAYLOAD_BYTES,
    PREFIX,
    READ_BYTES,
    Deframer,
    encode_prefix,
)


def push(frames: Deframer, data: bytes, step: int) -> list[tuple[dict[str, Any], bytes]]:
    """Feed bytes ``step`` at a time, as a socket would."""
    out, at = [], 0
    while at < len(data):
        room = frames.buffer()
        assert len(room) > 0  # a read of no bytes would look like the end of the stream
        count = min(len(room), step, len(data) - at)
        room[:count] = data[at : at + count]
        frames.received(count)
        at += count
        while (frame := frames.next_frame()) is not None:
            out.append((frame[0], bytes(frame[1])))
    return out


@settings(deadline=None)
@given(
    payloads=st.lists(st.binary(max_size=300), max_size=8),
    step=st.integers(1, 200),
)
def test_small_frames(payloads: list[bytes], step: int) -> None:
    data = b"".join(encode_prefix({"n": n}, len(p)) + p for n, p in enumerate(payloads))
    expected = [({"n": n}, p) for n, p in enumerate(payloads)]
    assert push(Deframer(), data, step) == expected


@pytest.mark.parametrize("step", [1000, READ_BYTES, 10**7])
def test_long_headers_and_payloads(step: int) -> None:
    header = {"text": "x" * (3 * READ_BYTES)}
    payload = bytes(range(256)) * 2000
    data = (encode_prefix(header, len(payload)) + payload) * 2 + encode_prefix({"last": 1}, 0)
    expected = [(header, payload), (header, payload), ({"last": 1}, b"")]
    assert push(Deframer(), data, step) == expected


@pytest.mark.parametrize(
    "frame",
    [
        PREFIX.pack(MAX_HEADER_BYTES + 1, 0),
        PREFIX.pack(1, MAX_PAYLOAD_BYTES + 1),
        PREFIX.pack(1, 0) + b"\x01",  # no map
        PREFIX.pack(1, 0) + b"\xc1",  # no msgpack
        PREFIX.pack(2, 0) + b"\x81\xa1",  # half a map
    ],
)
def test_what_is_no_frame(frame: bytes) -> None:
    with pytest.raises(ValueError, match="frame"):
        push(Deframer(), frame, 100)


def test_a_message_that_is_too_long_is_not_sent() -> None:
    with pytest.raises(PermeshError) as refused:
        encode_prefix({"prompt": "x" * MAX_HEADER_BYTES}, 0)
    assert refused.value.code == "engine.too_long"
