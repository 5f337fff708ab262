"""Offers: canonical, signed, expiring."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from nacl.signing import SigningKey

from permesh.errors import Refused
from permesh.inference import offers
from permesh.inference.offers import (
    LIFE_MS,
    MAX_MEMBERS,
    MAX_SPANS,
    SKEW_MS,
    Offer,
    OfferBook,
    OfferedSpan,
    open_offer,
    seal_offer,
)
from permesh.records import pack, unpack

MESH, AGENT, NOW = b"m" * 32, b"a" * 20, 1_700_000_000_000
KEY = SigningKey(b"k" * 32)
SPAN = OfferedSpan("smollm2-135m", "ab" * 32, 6, 18, 30)
OFFER = Offer(MESH, AGENT, 3, "12D3KooWpeer", NOW, NOW + LIFE_MS, (SPAN,))


def sign(digest: bytes) -> bytes:
    return KEY.sign(digest).signature


def session_key(agent: bytes, epoch: int) -> bytes | None:
    return bytes(KEY.verify_key) if (agent, epoch) == (AGENT, 3) else None


def take(data: bytes, now_ms: int = NOW) -> Offer:
    return open_offer(data, mesh=MESH, session_key=session_key, now_ms=now_ms)


def test_an_offer_comes_out_as_it_went_in() -> None:
    assert take(seal_offer(OFFER, sign)) == OFFER
    full = replace(OFFER, spans=(replace(SPAN, model="x" * 128),) * MAX_SPANS)
    assert take(seal_offer(full, sign)) == full


@pytest.mark.parametrize(
    "change",
    [
        {"mesh": b"short"},
        {"agent": b"a" * 21},
        {"epoch": -1},
        {"peer_id": ""},
        {"peer_id": "line\nbreak"},
        {"expires_ms": NOW + LIFE_MS + 1},
        {"expires_ms": NOW - 1},
        {"spans": (SPAN,) * (MAX_SPANS + 1)},
        {"spans": (replace(SPAN, first=18),)},
        {"spans": (replace(SPAN, last=31),)},
        {"spans": (replace(SPAN, layers=5000),)},
        {"spans": (replace(SPAN, revision="AB" * 32),)},
        {"spans": (replace(SPAN, revision="ab"),)},
        {"spans": (replace(SPAN, model="x" * 129),)},
    ],
)
def test_fields_out_of_range_are_refused_on_both_sides(change: dict[str, object]) -> None:
    wrong = replace(OFFER, **change)  # type: ignore[arg-type]
    with pytest.raises(Refused):
        seal_offer(wrong, sign)
    payload = wrong.encode()
    with pytest.raises(Refused):
        take(pack([payload, sign(offers._digest(payload))]))


def test_what_is_wrong_with_an_offer_is_said_by_code() -> None:
    sealed = seal_offer(OFFER, sign)
    payload, signature = unpack(sealed, limit=4096)

    def code(data: bytes, now_ms: int = NOW) -> str:
        with pytest.raises(Refused) as refusal:
            take(data, now_ms)
        return refusal.value.code

    assert code(seal_offer(replace(OFFER, mesh=b"x" * 32), sign)) == "offer.wrong_mesh"
    assert code(seal_offer(replace(OFFER, epoch=4), sign)) == "offer.unknown_key"
    assert code(sealed, NOW + SKEW_MS + 1) == "offer.stale"
    assert code(sealed, NOW - SKEW_MS - 1) == "offer.stale"
    assert code(pack([payload, b"s" * 64])) == "offer.signature"
    assert code(pack([payload, sign(payload[:32])])) == "offer.signature"
    other = replace(OFFER, spans=()).encode()
    assert code(pack([other, signature])) == "offer.signature"
    assert code(b"\x00" * 5000) == "format.too_long"


def test_no_damaged_bytes_do_more_than_be_refused() -> None:
    rng = random.Random(11)
    sealed = seal_offer(OFFER, sign)
    for _ in range(400):
        data = bytearray(sealed)
        for _ in range(rng.randint(1, 4)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        if bytes(data) != sealed:
            with pytest.raises(Refused):
                take(bytes(data))


def test_the_newest_offer_of_a_member_counts_and_the_empty_one_takes_back() -> None:
    book = OfferBook()
    newer = replace(OFFER, created_ms=NOW + 5, spans=(replace(SPAN, first=7),))
    assert book.add(newer, NOW)
    assert not book.add(OFFER, NOW)
    assert book.live(NOW) == [newer]
    assert book.add(replace(OFFER, created_ms=NOW + 6, spans=()), NOW)
    assert book.live(NOW) == []


def test_an_offer_dies_on_the_reader_s_clock_and_playing_it_back_does_not_wake_it() -> None:
    book = OfferBook()
    slow = replace(OFFER, created_ms=NOW - SKEW_MS, expires_ms=NOW - SKEW_MS + LIFE_MS)
    assert book.add(slow, NOW)  # its author's clock is behind: it lives all the same
    assert book.live(NOW + LIFE_MS - 1) == [slow]
    assert book.expires_ms(AGENT) == NOW + LIFE_MS
    assert book.live(NOW + LIFE_MS) == []
    assert not book.add(slow, NOW + LIFE_MS)
    assert book.live(NOW + LIFE_MS) == []


def test_the_book_is_bounded_and_makes_room_for_the_living() -> None:
    book = OfferBook()

    def offer(number: int, now_ms: int) -> Offer:
        agent = number.to_bytes(20, "big")
        return replace(OFFER, agent=agent, created_ms=now_ms, expires_ms=now_ms + LIFE_MS)

    for number in range(MAX_MEMBERS):
        book.add(offer(number, NOW), NOW)
    with pytest.raises(Refused, match="members offer"):
        book.add(offer(MAX_MEMBERS, NOW), NOW)
    later = NOW + LIFE_MS + 2 * SKEW_MS + 1
    assert book.add(offer(MAX_MEMBERS, later), later)
    assert len(book.live(later)) == 1
