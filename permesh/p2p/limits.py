"""How much of anything a peer may ask, send or make us hold, as far as records go.

Owns the numbers and the counters of rates. Time is passed in, in milliseconds of any clock that
does not run backwards.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Generic, TypeVar

from permesh.records import MAX_RECORD_BYTES

# -- sync
PAGE_IDS = 4096  # 139 KiB: a page is one message
WANT_IDS = 512
BATCH_BYTES = 256 * 1024  # of records in one message
TAKEN_ASIDE = 6  # messages of records in check or on their way to the disk while the next one comes
# Room for a full batch, or for an answer with all spaces, all offers and a record.
SYNC_MESSAGE_BYTES = 384 * 1024
SPACES = 2 + 1024  # identity, the commons, and the rooms that a member may follow
HEADS = 4096  # authors; a space with more is compared by its days
DAYS = 4096  # eleven years
PARTS = 512  # asked for in one message; sixteen sums are 300 bytes
# Of a space in one session: 400,000 ids that differ evenly are found by fewer. What is left is
# found by the next session, which begins with less.
PARTS_IN_SPACE = 16_384
LISTED_UP_TO = 16  # ids that are listed rather than divided once more
LISTED_ABOVE = 0.05  # difference in counts from which a list costs less than its division
# What an asker tells an answerer that it lacks; more is left to the answerer's own pull.
LACKED_IDS = 8 * 4096
WITHHELD = 4096  # records that a peer lists and does not give, before it is asked for no more
# What one inbound session may ask: a million ids, all of them wanted, is 256 pages and 2,048 wants.
QUESTIONS = 4096
# And how fast one peer may: what each costs to answer is read from the disk.
QUESTION_BURST = 1024
QUESTIONS_PER_SECOND = 32.0

# -- gossip
GOSSIP_RECORDS = 64
GOSSIP_BYTES = 96 * 1024
GOSSIP_SPACING_MS = 250  # four messages a second: each costs every py-libp2p receiver 6-12 ms
GOSSIP_HEADS = 64
# What waits for its turn in gossip; beyond it a hint is sent and sync carries the records.
BACKLOG_RECORDS = 2048
BACKLOG_BYTES = 1024 * 1024
# What may wait to be taken in; gossip is a hint, so what does not fit is left to sync.
INBOX_MESSAGES = 128
# Per peer that forwards: a member forwards what many wrote, so this only bounds our own work.
FORWARDER_BURST = 256
FORWARDER_PER_SECOND = 64.0
# Per author: a thousand at once, and then what four full messages a second carry.
AUTHOR_BURST = 1024
AUTHOR_PER_SECOND = 256.0
RATE_KEYS = 4096
# Of the commons, which everybody holds for good: so much of one author at once, and so much a day.
# What is over waits at the peer that has it, so a flood of rooms fills no disk in a hurry. The same
# holds of identity, but for what registrars alone may write: a member signs a credential every
# three days, and passes on what others say of themselves.
COMMONS_BURST = 4096
COMMONS_PER_SECOND = 1024 / 86_400
# What is over is not asked for again for so long, as far as it is remembered.
PUT_OFF_S = 3_600.0
PUT_OFF_RECORDS = 65_536
# Of records that everybody holds, so many are taken from a peer in one session for nothing.
VAIN_RECORDS = 4096
CLAIM_S = 30.0  # for which one session keeps others from fetching the same

# -- offers
OFFERS = 64
OFFER_BYTES = 4 * 1024

# -- the driver
PULLS = 4  # at once, one per peer
PEERS = 1024  # that the schedule knows
SESSIONS = 16  # inbound at once …
SESSIONS_PER_PEER = 2  # … of which one may be on its way out
SESSION_BURST = 20
SESSION_PER_SECOND = 2.0
OPEN_S = 10.0
MESSAGE_S = 15.0  # for the peer's next message; it may have to wait for its disk
SESSION_S = 300.0  # whole; what was taken in is kept, and the next pull goes on from there
PUBLISH_S = 5.0
SLICE_S = 0.005  # of checking records, before other tasks of the loop have their turn

# -- intake
LATER_RECORDS = 1024
LATER_BYTES = 8 * 1024 * 1024
LATER_PER_PEER = 256

assert BATCH_BYTES >= MAX_RECORD_BYTES
assert OFFERS * (OFFER_BYTES + 3) < SYNC_MESSAGE_BYTES

_K = TypeVar("_K")


class TokenBucket:
    """Up to ``burst`` at once, and ``per_second`` in the long run."""

    __slots__ = ("_burst", "_per_ms", "_since", "_tokens")

    def __init__(self, burst: int, per_second: float, now_ms: int) -> None:
        self._burst = float(burst)
        self._per_ms = per_second / 1000
        self._tokens = self._burst
        self._since = now_ms

    def take(self, now_ms: int, number: int = 1) -> bool:
        """Take ``number`` if they are there; otherwise take none and say so."""
        passed = max(0, now_ms - self._since)
        self._since = max(self._since, now_ms)
        self._tokens = min(self._burst, self._tokens + passed * self._per_ms)
        if self._tokens < number:
            return False
        self._tokens -= number
        return True


class PutOff:
    """Ids of records that are not to be asked for before `PUT_OFF_S` have passed; the last ones."""

    def __init__(self) -> None:
        self._until: OrderedDict[bytes, int] = OrderedDict()

    def add(self, identity: bytes, now_ms: int) -> None:
        self._until.pop(identity, None)
        self._until[identity] = now_ms + int(PUT_OFF_S * 1000)
        if len(self._until) > PUT_OFF_RECORDS:
            self._until.popitem(last=False)

    def wanted(self, ids: Sequence[bytes], now_ms: int) -> list[bytes]:
        """Those that may be asked for."""
        while self._until and next(iter(self._until.values())) <= now_ms:
            self._until.popitem(last=False)
        return [item for item in ids if item not in self._until]


class Rates(Generic[_K]):
    """A bucket for each key, for the ``RATE_KEYS`` keys that were used last."""

    def __init__(self, burst: int, per_second: float) -> None:
        self._burst = burst
        self._per_second = per_second
        self._buckets: OrderedDict[_K, TokenBucket] = OrderedDict()

    def take(self, key: _K, now_ms: int, number: int = 1) -> bool:
        bucket = self._buckets.pop(key, None)
        if bucket is None:
            bucket = TokenBucket(self._burst, self._per_second, now_ms)
            while len(self._buckets) >= RATE_KEYS:
                self._buckets.popitem(last=False)
        self._buckets[key] = bucket
        return bucket.take(now_ms, number)
