"""Gossip: telling everyone at once about what is new, as a hint that may be lost.

Owns the batching of this member's new records into few messages, and the form and limits of a
message. No I/O: a driver publishes what `Gossiper.due` gives, and takes in what `decode` gives.
Must never be relied on: what does not arrive is completed by `permesh/p2p/sync.py`.

The first record of a quiet time leaves at once; a burst fills messages that are spaced evenly. A
message names the newest record that it tells of (`heads`), so that a receiver who finds a gap
pulls, and after a burst that is too large for gossip it is all that is sent.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from permesh.errors import Refused
from permesh.records import MAX_UINT, Record, pack, unpack
from permesh.spaces import space_of

from . import limits
from .sync_messages import read_offers, read_space

# A message's own framing, and each record's, are below these.
_FRAME_BYTES = 6 * 1024
_RECORD_FRAME_BYTES = 16


@dataclass(frozen=True, slots=True)
class NewRecords:
    """Records in wire form, not looked into, and (space, author, seq) of the sender's newest."""

    wires: tuple[Any, ...]
    heads: tuple[tuple[bytes, bytes, int], ...]


@dataclass(frozen=True, slots=True)
class Offer:
    """Ephemeral offers, a few bytes each, that this room does not look into."""

    blobs: tuple[bytes, ...]


def encode(message: NewRecords | Offer) -> bytes:
    match message:
        case NewRecords(wires, heads):
            return pack([1, list(wires), [list(head) for head in heads]])
        case Offer(blobs):
            return pack([2, list(blobs)])


def decode(data: bytes) -> NewRecords | Offer:
    """Parse and check one message; raises ``Refused``."""
    fields = unpack(data, limit=limits.GOSSIP_BYTES)
    if not (isinstance(fields, list) and fields and type(fields[0]) is int):
        raise _malformed()  # True equals 1
    match fields:
        case [1, list(wires), list(heads)] if len(wires) <= limits.GOSSIP_RECORDS:
            return NewRecords(tuple(wires), _read_heads(heads))
        case [2, list(blobs)]:
            return Offer(read_offers(blobs))
    raise _malformed()


def _read_heads(values: list[Any]) -> tuple[tuple[bytes, bytes, int], ...]:
    if len(values) > limits.GOSSIP_HEADS:
        raise _malformed()
    heads = []
    for value in values:
        match value:
            case [space, bytes(author), int(seq)] if (
                len(author) == 20 and not isinstance(seq, bool) and 0 <= seq <= MAX_UINT
            ):
                heads.append((read_space(space), author, seq))
            case _:
                raise _malformed()
    return tuple(heads)


def _malformed() -> Refused:
    return Refused("format.shape", "The peer sent a gossip message that is not well formed.")


class Gossiper:
    """This member's outgoing gossip."""

    def __init__(self) -> None:
        self._records: deque[Record] = deque()
        self._bytes = 0
        # Told of without their records: seq by space and author.
        self._heads: dict[tuple[bytes, bytes], int] = {}
        self._offers: deque[bytes] = deque()  # encoded messages
        self._next_ms: int | None = None
        self._offered_last = False

    def add(self, record: Record) -> None:
        """Tell of a record that is durable here."""
        self._records.append(record)
        self._bytes += _size(record)
        if len(self._records) > limits.BACKLOG_RECORDS or self._bytes > limits.BACKLOG_BYTES:
            for waiting in self._records:
                self._heads[_place(waiting)] = waiting.header.seq
            self._records.clear()
            self._bytes = 0

    def offer(self, blobs: Sequence[bytes]) -> None:
        """Tell of all offers that now hold, in place of those that still wait to be told."""
        self._offers.clear()
        batch: list[bytes] = []
        for blob in blobs[: limits.OFFERS]:
            if sum(map(len, batch)) + len(blob) > limits.GOSSIP_BYTES - _FRAME_BYTES:
                self._offers.append(encode(Offer(tuple(batch))))
                batch = []
            batch.append(blob)
        if batch:
            self._offers.append(encode(Offer(tuple(batch))))

    def due_in(self, now_ms: int) -> int | None:
        """Milliseconds until `due` has a message; None if nothing waits."""
        if not (self._records or self._heads or self._offers):
            return None
        return 0 if self._next_ms is None else max(0, self._next_ms - now_ms)

    def due(self, now_ms: int) -> bytes | None:
        """The message to publish now, if one waits and its turn has come."""
        if self.due_in(now_ms) != 0:
            return None
        self._next_ms = now_ms + limits.GOSSIP_SPACING_MS
        waiting = self._records or self._heads
        if self._offers and not (self._offered_last and waiting):
            self._offered_last = True
            return self._offers.popleft()
        self._offered_last = False
        return self._batch()

    def _batch(self) -> bytes:
        wires: list[Any] = []
        heads, self._heads = self._heads, {}
        room = limits.GOSSIP_BYTES - _FRAME_BYTES
        while self._records and len(wires) < limits.GOSSIP_RECORDS:
            size = _size(self._records[0])
            if size > room:
                break
            record = self._records.popleft()
            room -= size
            self._bytes -= size
            wires.append(record.to_wire())
            heads[_place(record)] = record.header.seq
        told = list(heads.items())[: limits.GOSSIP_HEADS]
        return encode(NewRecords(tuple(wires), tuple((*place, seq) for place, seq in told)))


def _place(record: Record) -> tuple[bytes, bytes]:
    header = record.header
    return space_of(header.kind, header.room), header.author


def _size(record: Record) -> int:
    return (
        len(record.header_bytes)
        + len(record.signature)
        + len(record.body or b"")
        + _RECORD_FRAME_BYTES
    )
