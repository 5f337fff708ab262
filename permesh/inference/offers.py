"""Which layers a member says it holds: a signed announcement that expires.

Owns the offer's canonical form, its signature and the book of the newest offer of each member.
Must never open a connection or believe that a member is reachable: an offer is a claim, good for
`LIFE_MS`, and a chain is only built from members that are connected now.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey

from permesh.errors import Refused
from permesh.records import pack, unpack

VERSION = 1
OFFER_TAG = b"permesh/offer/1\x00"
LIFE_MS = 90_000  # three refreshes: one lost message never hides a member, a ghost lives 90 s
REFRESH_MS = 30_000
SKEW_MS = 10 * 60_000  # members' clocks may differ by this much, as with credentials
MAX_SPANS = 8
MAX_MEMBERS = 1024
MAX_LAYERS = 1024  # the deepest published models have under 200
MAX_NAME_BYTES = 128
MAX_PEER_ID_BYTES = 128
MAX_OFFER_BYTES = 4096  # eight spans of the longest names take about 1,800

SessionKeyLookup = Callable[[bytes, int], bytes | None]


@dataclass(frozen=True, slots=True)
class OfferedSpan:
    """Layers ``first`` … ``last - 1`` of the ``layers`` of a model; ``revision`` is 64 hex."""

    model: str
    revision: str
    first: int
    last: int
    layers: int


@dataclass(frozen=True, slots=True)
class Offer:
    """All that one member serves; the empty offer takes everything back."""

    mesh: bytes
    agent: bytes
    epoch: int
    peer_id: str
    created_ms: int
    expires_ms: int
    spans: tuple[OfferedSpan, ...]

    def encode(self) -> bytes:
        """The bytes that are signed."""
        return pack(
            [
                VERSION,
                self.mesh,
                self.agent,
                self.epoch,
                self.peer_id,
                self.created_ms,
                self.expires_ms,
                [[s.model, s.revision, s.first, s.last, s.layers] for s in self.spans],
            ]
        )

    @classmethod
    def decode(cls, data: bytes) -> Offer:
        """Parse and check every field; raises ``Refused``."""
        fields = unpack(data, limit=MAX_OFFER_BYTES)
        _require(isinstance(fields, list) and len(fields) == 8, "shape")
        version, mesh, agent, epoch, peer_id, created, expires, spans = fields
        _require(version == VERSION and _is_uint(version), "version")
        _require(isinstance(mesh, bytes) and len(mesh) == 32, "mesh")
        _require(isinstance(agent, bytes) and len(agent) == 20, "agent")
        _require(_is_uint(epoch), "epoch")
        _require(_is_text(peer_id, MAX_PEER_ID_BYTES), "peer id")
        _require(_is_uint(created) and _is_uint(expires), "times")
        _require(created <= expires <= created + LIFE_MS, "life")
        _require(isinstance(spans, list) and len(spans) <= MAX_SPANS, "spans")
        return cls(mesh, agent, epoch, peer_id, created, expires, tuple(map(_span, spans)))


def _span(fields: Any) -> OfferedSpan:
    _require(isinstance(fields, list) and len(fields) == 5, "span")
    model, revision, first, last, layers = fields
    _require(_is_text(model, MAX_NAME_BYTES), "model name")
    _require(is_revision(revision), "revision")
    _require(all(map(_is_uint, (first, last, layers))), "layers")
    _require(first < last <= layers <= MAX_LAYERS, "layers")
    return OfferedSpan(model, revision, first, last, layers)


def is_revision(value: Any) -> bool:
    """A model revision is 64 lowercase hex digits."""
    return isinstance(value, str) and len(value) == 64 and set(value) <= set("0123456789abcdef")


def _is_uint(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_text(value: Any, limit: int) -> bool:
    return isinstance(value, str) and value.isprintable() and 0 < len(value.encode()) <= limit


def _require(condition: bool, field: str) -> None:
    if not condition:
        raise Refused("offer.field", f"The offer's {field} is not valid.")


def _digest(payload: bytes) -> bytes:
    return hashlib.sha256(OFFER_TAG + payload).digest()


def seal_offer(offer: Offer, sign: Callable[[bytes], bytes]) -> bytes:
    """The wire form; ``sign`` is the session key's, from 32 bytes to 64."""
    payload = offer.encode()
    Offer.decode(payload)  # our own mistakes are caught before anything is signed
    return pack([payload, sign(_digest(payload))])


def open_offer(data: bytes, *, mesh: bytes, session_key: SessionKeyLookup, now_ms: int) -> Offer:
    """Check an offer from anyone, cheapest test first; raises ``Refused``."""
    fields = unpack(data, limit=MAX_OFFER_BYTES)
    _require(
        isinstance(fields, list)
        and len(fields) == 2
        and isinstance(fields[0], bytes)
        and isinstance(fields[1], bytes)
        and len(fields[1]) == 64,
        "shape",
    )
    payload, signature = fields
    offer = Offer.decode(payload)
    if offer.mesh != mesh:
        raise Refused("offer.wrong_mesh", "The offer is for another mesh.")
    if abs(offer.created_ms - now_ms) > SKEW_MS:
        raise Refused("offer.stale", "The offer was made too long ago, or in the future.")
    key = session_key(offer.agent, offer.epoch)
    if key is None:
        raise Refused("offer.unknown_key", "The offer's author is not a known member.")
    try:
        VerifyKey(key).verify(_digest(payload), signature)
    except (BadSignatureError, ValueError, TypeError) as error:
        raise Refused(
            "offer.signature", "The offer's signature does not match its author's key."
        ) from error
    return offer


@dataclass(slots=True)
class _Entry:
    offer: Offer
    dead_ms: int


class OfferBook:
    """The newest offer of each member.

    Life is counted on the reader's own clock from the first hearing, so that a member whose clock
    is wrong is not invisible; an entry stays, dead, until the skew has passed, so that an old
    offer played back does not live again.
    """

    def __init__(self) -> None:
        self._entries: dict[bytes, _Entry] = {}

    def add(self, offer: Offer, now_ms: int) -> bool:
        """Keep a verified offer; False when it is not newer than what is known of that member."""
        known = self._entries.get(offer.agent)
        if known is not None and offer.created_ms <= known.offer.created_ms:
            return False
        if known is None and len(self._entries) >= MAX_MEMBERS:
            self._sweep(now_ms)
            if len(self._entries) >= MAX_MEMBERS:
                raise Refused("offer.too_many", f"More than {MAX_MEMBERS} members offer layers.")
        life = min(offer.expires_ms - offer.created_ms, LIFE_MS)
        self._entries[offer.agent] = _Entry(offer, now_ms + life)
        return True

    def live(self, now_ms: int) -> list[Offer]:
        """Offers with spans that have not expired, by agent."""
        return [
            entry.offer
            for _, entry in sorted(self._entries.items())
            if entry.dead_ms > now_ms and entry.offer.spans
        ]

    def expires_ms(self, agent: bytes) -> int:
        """When that member's offer dies on this clock; 0 when none is known."""
        entry = self._entries.get(agent)
        return entry.dead_ms if entry else 0

    def forget(self, agents: Iterable[bytes]) -> None:
        for agent in agents:
            self._entries.pop(agent, None)

    def _sweep(self, now_ms: int) -> None:
        done = [a for a, e in self._entries.items() if e.dead_ms + 2 * SKEW_MS < now_ms]
        self.forget(done)
