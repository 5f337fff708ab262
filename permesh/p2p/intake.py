"""The door for records: what comes from a peer is kept, kept waiting, or refused with a code.

Owns the order of the checks, cheapest first, and the bounded pool of records whose author's
credential is not known yet. No I/O and no clock. Must never know how a record came or where it
will be stored; whether it is valid is the roster's word.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from permesh.errors import Refused
from permesh.records import Record
from permesh.removal import NO_REMOVALS, Removals

from . import limits

# Another record may mend this one: it waits in the pool.
CREDENTIAL_UNKNOWN = "record.credential_unknown"
# Time may mend this one, and a peer whose clock is ahead of ours is not hostile: it is left where
# it is until a later sync finds it in the present.
FROM_FUTURE = "record.from_future"


class Roster(Protocol):
    """What is asked of `permesh/identity/roster.py`."""

    def check(self, record: Record, now_ms: int) -> None:
        """Raises ``Refused`` unless the record is valid."""
        ...

    def apply(self, record: Record) -> list[bytes]:
        """Take in an identity record; returns the agents of whom it says something."""
        ...


@dataclass(frozen=True, slots=True)
class Waiting:
    record: Record
    peer_id: str
    size: int


class Intake:
    """``check_format`` knows the formats of the kinds that this release understands, also of a
    record whose body was taken away."""

    def __init__(
        self,
        roster: Roster,
        check_format: Callable[[Record], None],
        removals: Removals = NO_REMOVALS,
    ) -> None:
        self._roster = roster
        self._removals = removals
        self._check_format = check_format
        # By id and signature: a forged copy must not keep the true record out of the pool.
        self._later: OrderedDict[tuple[bytes, bytes], Waiting] = OrderedDict()
        self._later_bytes = 0
        self._per_peer: Counter[str] = Counter()

    def open(self, wire: Any) -> Record:
        """Out of its wire form: shape, lengths, hashes; no signature yet. Raises ``Refused``."""
        record = Record.from_wire(wire)
        if record.body is None and not self._removals.proves(record):
            # Nobody has shown that the author took it away, so who sends none is withholding it.
            raise Refused("record.body_missing", "The record came without its body.")
        return record

    def judge(self, record: Record, peer_id: str, now_ms: int) -> bool:
        """True: valid, save it. False: not now, and nobody's fault. Raises ``Refused``."""
        try:
            self._roster.check(record, now_ms)
            if record.removal is not None:
                self._roster.check(record.removal, now_ms)
        except Refused as error:
            if error.code == CREDENTIAL_UNKNOWN:
                self._keep_for_later(record, peer_id)
            elif error.code != FROM_FUTURE:
                raise
            return False
        self._check_format(record)
        if record.removal is not None:
            self._check_format(record.removal)
        return True

    def release(self) -> list[tuple[str, Record]]:
        """Empty the pool because the roster has changed: each is to be judged again."""
        return [(item.peer_id, item.record) for item in map(self._drop, list(self._later))]

    @property
    def waiting(self) -> int:
        return len(self._later)

    def _keep_for_later(self, record: Record, peer_id: str) -> None:
        key = (record.id, record.signature)
        if key in self._later or self._per_peer[peer_id] >= limits.LATER_PER_PEER:
            return
        size = len(record.header_bytes) + len(record.body or b"")
        self._later[key] = Waiting(record, peer_id, size)
        self._later_bytes += size
        self._per_peer[peer_id] += 1
        # What is dropped is still at the peer that had it, and comes with a later sync.
        while len(self._later) > limits.LATER_RECORDS or self._later_bytes > limits.LATER_BYTES:
            self._drop(next(iter(self._later)))

    def _drop(self, key: tuple[bytes, bytes]) -> Waiting:
        item = self._later.pop(key)
        self._later_bytes -= item.size
        self._per_peer[item.peer_id] -= 1
        if not self._per_peer[item.peer_id]:
            del self._per_peer[item.peer_id]
        return item
