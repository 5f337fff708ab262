"""What asker and stages say to each other: control messages, and the header of a step.

Owns their canonical forms and limits; all of it may come from a hostile member, and only
``Refused`` leaves a decoder. Must never know the order in which they make sense: that is
`permesh/inference/session.py`.

Control messages are canonical msgpack arrays on the session's libp2p stream, ``[version, name,
…]``. A step's header is fixed binary, because it is read once per hop and token.
"""

from __future__ import annotations

import functools
import math
import re
import struct
from dataclasses import dataclass
from typing import Any

from permesh.errors import Refused
from permesh.records import pack, unpack

from .offers import MAX_LAYERS, MAX_PEER_ID_BYTES

PROTOCOL = "/permesh/session/1"
VERSION = 1
MAX_CONTROL_BYTES = 2048
SESSION_BYTES = 16
REVISION_BYTES = 32

MAX_CODE = 48
MAX_TEXT = 300
MAX_WINDOW = 8
MAX_POSITIONS = 1 << 20  # no model here has a longer context
MAX_ROWS = 512  # of one prefill chunk
MAX_TENSORS = 8
MAX_DIMENSIONS = 6
MAX_STEP_BYTES = 64 * 1024 * 1024  # what a lane and an engine take

_CODE = re.compile(r"[a-z][a-z0-9_.]*")
_UINT = 2**53  # counters
_LANES = ("tls", "libp2p")


@dataclass(frozen=True, slots=True)
class Open:
    """Asker → stage: hold a cache for these layers, and push what comes out to ``next_peer``.

    ``session`` names this stage's part alone: the lane into it carries it as its purpose, and so
    does the lane out of it with ``next_session``. Frames are taken from ``previous_peer`` only.
    ``window`` is how many steps may be under way at once.
    """

    session: bytes
    revision: bytes
    first: int
    last: int
    max_tokens: int
    window: int
    previous_peer: str
    next_peer: str
    next_session: bytes


@dataclass(frozen=True, slots=True)
class Opened:
    """Stage → asker: ready, with the window that it agrees to and the kind of its lane."""

    window: int
    lane: str


@dataclass(frozen=True, slots=True)
class Fail:
    """Stage → asker: it will not, or cannot any more. The session is over."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Beat:
    """Either way: alive; a stage adds how many steps it has finished."""

    steps: int


@dataclass(frozen=True, slots=True)
class Close:
    """Asker → stage: enough."""


@dataclass(frozen=True, slots=True)
class Closed:
    """Stage → asker: everything is freed; this is what it came to."""

    steps: int
    compute_us: int
    bytes_sent: int


Control = Open | Opened | Fail | Beat | Close | Closed


def encode_control(message: Control) -> bytes:
    name = type(message).__name__.lower()
    fields = [getattr(message, field) for field in message.__dataclass_fields__]
    return pack([VERSION, name, *fields])


def decode_control(data: bytes) -> Control:
    """Parse and check every field; raises ``Refused``."""
    fields = unpack(data, limit=MAX_CONTROL_BYTES)
    _require(isinstance(fields, list) and len(fields) >= 2, "shape")
    version, name, *values = fields
    _require(_within(version, VERSION, VERSION), "version")
    checks = _CHECKS.get(name) if isinstance(name, str) else None
    if checks is None:
        raise Refused("session.message", "The session message has an unknown name.")
    kind, rules = checks
    _require(len(values) == len(rules), "shape")
    for value, (field, rule) in zip(values, rules, strict=True):
        _require(rule(value), field)
    message: Control = kind(*values)
    if isinstance(message, Open):
        _require(message.first < message.last, "layers")
    return message


def _require(condition: bool, field: str) -> None:
    if not condition:
        raise Refused("session.message", f"The session message's {field} is not valid.")


def _within(value: Any, low: int, high: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _is_id(value: Any) -> bool:
    return isinstance(value, bytes) and len(value) == SESSION_BYTES


def _is_peer(value: Any) -> bool:
    return isinstance(value, str) and value.isalnum() and len(value) <= MAX_PEER_ID_BYTES


def _is_code(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= MAX_CODE and bool(_CODE.fullmatch(value))


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= MAX_TEXT and value.isprintable()


def _is_count(value: Any) -> bool:
    return _within(value, 0, _UINT)


_CHECKS: dict[str, tuple[Any, tuple[tuple[str, Any], ...]]] = {
    "open": (
        Open,
        (
            ("session", _is_id),
            ("revision", lambda v: isinstance(v, bytes) and len(v) == REVISION_BYTES),
            ("layers", lambda v: _within(v, 1, MAX_LAYERS)),
            ("layers", lambda v: _within(v, 1, MAX_LAYERS)),
            ("max_tokens", lambda v: _within(v, 1, MAX_POSITIONS)),
            ("window", lambda v: _within(v, 1, MAX_WINDOW)),
            ("previous_peer", _is_peer),
            ("next_peer", _is_peer),
            ("next_session", _is_id),
        ),
    ),
    "opened": (
        Opened,
        (("window", lambda v: _within(v, 1, MAX_WINDOW)), ("lane", lambda v: v in _LANES)),
    ),
    "fail": (Fail, (("code", _is_code), ("message", _is_text))),
    "beat": (Beat, (("steps", _is_count),)),
    "close": (Close, ()),
    "closed": (
        Closed,
        (("steps", _is_count), ("compute", _is_count), ("bytes", _is_count)),
    ),
}


def plain(text: str) -> str:
    """An error's own words, cut and cleaned so that they may travel in a `Fail`."""
    return "".join(ch if ch.isprintable() else " " for ch in text)[:MAX_TEXT]


Tensors = tuple[tuple[str, tuple[int, ...]], ...]

_STEP = struct.Struct(">BBII")  # version, number of tensors, number, start
_TENSOR = struct.Struct(">BB")  # dtype, dimensions; each a 32-bit integer after it
_SIZES = {
    "float32": 4, "float16": 2, "bfloat16": 2,
    "int32": 4, "uint32": 4, "int64": 8, "uint8": 1,
}  # fmt: skip
_DTYPES = tuple(_SIZES)  # their places are their numbers on the wire: only ever append


@dataclass(frozen=True, slots=True)
class Step:
    """Activations of some tokens, the first of them at position ``start``.

    ``tensors`` are (dtype, shape) pairs, the first of shape (1, rows, …); the payload is their
    values, one tensor after the other. A stage trims its cache to ``start`` first, so a step that
    is sent again does no harm, and a rollback needs no message. ``number`` counts the steps.
    """

    number: int
    start: int
    tensors: Tensors

    @property
    def rows(self) -> int:
        return self.tensors[0][1][1]

    def encode(self) -> bytes:
        head = _STEP.pack(VERSION, len(self.tensors), self.number, self.start)
        return head + _encode_tensors(self.tensors)


def decode_step(header: bytes, payload_bytes: int) -> Step:
    """Parse a step's header against the length of its payload; raises ``Refused``."""
    if len(header) < _STEP.size:
        raise Refused("step.header", "A step's header is too short.")
    version, count, number, start = _STEP.unpack_from(header)
    if version != VERSION:
        raise Refused("step.header", "A step's header is of an unknown version.")
    tensors = _decode_tensors(header[_STEP.size :], count)
    if payload_bytes != _payload_bytes(tensors):
        raise Refused("step.shape", "A step's payload does not have its shape.")
    return Step(number, start, tensors)


def check_tensors(value: Any) -> Tensors:
    """The engine's own ``tensors`` field (lists) as a `Step` holds it; raises ``Refused``."""
    try:
        tensors = tuple((str(dtype), tuple(map(int, shape))) for dtype, shape in value)
        _decode_tensors(_encode_tensors(tensors), len(tensors))
    except (TypeError, ValueError, struct.error) as error:
        raise Refused("step.shape", "The engine's tensors cannot be sent.") from error
    return tensors


# One decode step has the shape of the one before it, so both directions are looked up.
@functools.lru_cache(maxsize=256)
def _encode_tensors(tensors: Tensors) -> bytes:
    return b"".join(
        _TENSOR.pack(_DTYPES.index(dtype), len(shape)) + struct.pack(f">{len(shape)}I", *shape)
        for dtype, shape in tensors
    )


@functools.lru_cache(maxsize=256)
def _decode_tensors(data: bytes, count: int) -> Tensors:
    tensors, at = [], 0
    if not 0 < count <= MAX_TENSORS:
        raise Refused("step.shape", "A step has no tensors, or too many.")
    for _ in range(count):
        if len(data) < at + _TENSOR.size:
            raise Refused("step.header", "A step's header is too short.")
        dtype, dimensions = _TENSOR.unpack_from(data, at)
        at += _TENSOR.size
        if dtype >= len(_DTYPES) or not 0 < dimensions <= MAX_DIMENSIONS:
            raise Refused("step.shape", "A step's tensor is of an unknown kind.")
        if len(data) < at + 4 * dimensions:
            raise Refused("step.header", "A step's header is too short.")
        shape = struct.unpack_from(f">{dimensions}I", data, at)
        at += 4 * dimensions
        tensors.append((_DTYPES[dtype], shape))
    main = tensors[0][1]
    if at != len(data) or len(main) < 2 or main[0] != 1 or not 0 < main[1] <= MAX_ROWS:
        raise Refused("step.shape", "A step's shape is out of range.")
    if not 0 < _payload_bytes(tuple(tensors)) <= MAX_STEP_BYTES:
        raise Refused("step.shape", "A step's shape is out of range.")
    return tuple(tensors)


@functools.lru_cache(maxsize=256)
def _payload_bytes(tensors: Tensors) -> int:
    return sum(math.prod(shape) * _SIZES[dtype] for dtype, shape in tensors)
