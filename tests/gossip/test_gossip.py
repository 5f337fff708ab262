"""Few messages whatever the burst, the first one at once, and no message that is not in form."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from permesh.errors import Refused
from permesh.p2p import gossip, limits
from permesh.p2p.gossip import Gossiper, NewRecords, Offer
from permesh.records import MAX_BODY_BYTES, MAX_UINT, Record, pack
from permesh.spaces import SPACE_COMMONS, SPACE_IDENTITY
from tests.simulator import Author

ROOM = b"r" * 32
HEAD = [ROOM, b"a" * 20, 1]


def drain(gossiper: Gossiper, now: int = 0) -> list[tuple[int, bytes]]:
    """All that is due from now on, each with its time."""
    sent = []
    while (wait := gossiper.due_in(now)) is not None:
        now += wait
        data = gossiper.due(now)
        assert data is not None
        sent.append((now, data))
    return sent


def records_in(sent: list[tuple[int, bytes]]) -> list[Record]:
    messages = [gossip.decode(data) for _, data in sent]
    return [Record.from_wire(w) for m in messages if isinstance(m, NewRecords) for w in m.wires]


def test_the_first_record_of_a_quiet_time_leaves_at_once() -> None:
    gossiper = Gossiper()
    author = Author("a")
    assert gossiper.due_in(0) is None
    assert gossiper.due(0) is None
    for now in (1000, 5000):
        record = author.write()
        gossiper.add(record)
        assert gossiper.due_in(now) == 0
        message = gossip.decode(gossiper.due(now) or b"")
        head = (SPACE_COMMONS, author.address, record.header.seq)
        assert message == NewRecords((record.to_wire(),), (head,))
        assert gossiper.due_in(now) is None


def test_a_burst_fills_messages_that_are_spaced() -> None:
    gossiper = Gossiper()
    author = Author("a")
    records = [author.write() for _ in range(500)]
    gossiper.add(records[0])
    first = gossiper.due(0)
    assert first is not None
    for record in records[1:]:
        gossiper.add(record)
    sent = [(0, first), *drain(gossiper)]
    assert records_in(sent) == records
    assert [at for at, _ in sent] == [n * limits.GOSSIP_SPACING_MS for n in range(len(sent))]
    assert len(sent) == 1 + -(-499 // limits.GOSSIP_RECORDS)


def test_messages_are_bounded_in_bytes_too() -> None:
    gossiper = Gossiper()
    author = Author("a")
    records = [author.write(bytes(MAX_BODY_BYTES)) for _ in range(10)]
    for record in records:
        gossiper.add(record)
    sent = drain(gossiper)
    assert all(len(data) <= limits.GOSSIP_BYTES for _, data in sent)
    assert records_in(sent) == records
    assert len(sent) == 5


def test_a_backlog_that_is_too_long_becomes_a_hint() -> None:
    gossiper = Gossiper()
    author, other = Author("a"), Author("b")
    gossiper.add(other.write())
    for _ in range(limits.BACKLOG_RECORDS):
        record = author.write()
        gossiper.add(record)
    (only,) = drain(gossiper)
    told = (
        (SPACE_COMMONS, other.address, 0),
        (SPACE_COMMONS, author.address, record.header.seq),
    )
    assert gossip.decode(only[1]) == NewRecords((), told)
    after = author.write()
    gossiper.add(after)
    assert records_in(drain(gossiper, 10_000)) == [after]


def test_the_newest_record_of_each_space_is_told() -> None:
    gossiper = Gossiper()
    author = Author("a")
    gossiper.add(author.credential())
    for room in (b"", ROOM, b"s" * 32, ROOM):
        gossiper.add(author.write(room=room))
    (only,) = drain(gossiper)
    message = gossip.decode(only[1])
    assert isinstance(message, NewRecords)
    assert message.heads == tuple(
        (space, author.address, seq)
        for space, seq in ((SPACE_IDENTITY, 0), (SPACE_COMMONS, 1), (ROOM, 4), (b"s" * 32, 3))
    )


def test_a_full_message_has_room_for_as_many_heads_as_may_be(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "BACKLOG_RECORDS", 70)
    author = Author("a", seq=2**40, prev=b"p" * 32)
    waiting = [author.write(room=number.to_bytes(32, "big")) for number in range(71)]
    large = [author.write(bytes(MAX_BODY_BYTES)) for _ in range(2)]
    for length in range(20_000, 30_000, 50):
        gossiper = Gossiper()
        for record in (*waiting, *large, author.write(bytes(length))):  # the first are too many
            gossiper.add(record)
        data = gossiper.due(0)
        assert data is not None
        message = gossip.decode(data)
        assert isinstance(message, NewRecords)
        assert len(message.heads) == limits.GOSSIP_HEADS
        assert 2 <= len(message.wires) <= 3


def test_a_backlog_that_is_too_large_becomes_a_hint() -> None:
    gossiper = Gossiper()
    author = Author("a")
    for _ in range(limits.BACKLOG_BYTES // MAX_BODY_BYTES + 1):
        gossiper.add(author.write(bytes(MAX_BODY_BYTES)))
    assert len(drain(gossiper)) <= 2


def test_offers_go_between_records_and_the_newest_replace_what_waits() -> None:
    gossiper = Gossiper()
    author = Author("a")
    for _ in range(130):
        gossiper.add(author.write())
    gossiper.offer([b"old"])
    gossiper.offer([b"new", b"other"])
    kinds = [type(gossip.decode(data)) for _, data in drain(gossiper)]
    assert kinds == [Offer, NewRecords, NewRecords, NewRecords]
    full = [bytes([n]) * limits.OFFER_BYTES for n in range(limits.OFFERS + 5)]
    gossiper.offer(full)
    gossiper.add(author.write())
    sent = drain(gossiper, 100_000)
    messages = [gossip.decode(data) for _, data in sent]
    blobs = [blob for m in messages if isinstance(m, Offer) for blob in m.blobs]
    assert blobs == full[: limits.OFFERS]
    assert isinstance(messages[1], NewRecords)
    gossiper.offer([])
    assert gossiper.due_in(0) is None


@pytest.mark.parametrize(
    "fields",
    [
        None, [], 7, [0], [3, []], [True, [], []], [1], [1, []], [1, b"", []], [1, [], b""],
        [1, [None] * (limits.GOSSIP_RECORDS + 1), []],
        [1, [], [HEAD] * (limits.GOSSIP_HEADS + 1)],
        [1, [], [[ROOM, b"a" * 19, 1]]], [1, [], [[ROOM, b"a" * 20, -1]]],
        [1, [], [[ROOM, b"a" * 20, True]]],
        [1, [], [[b"a" * 20, 1]]], [1, [], [[*HEAD, 1]]], [1, [], [None]],
        [1, [], [[b"", b"a" * 20, 1]]], [1, [], [[b"\x02", b"a" * 20, 1]]],
        [1, [], [[None, b"a" * 20, 1]]], [1, [], [["r" * 32, b"a" * 20, 1]]],
        [2], [2, b""], [2, [7]], [2, [b""]], [2, [b"x" * (limits.OFFER_BYTES + 1)]],
        [2, [b"x"] * (limits.OFFERS + 1)], [2, [b"x"], 0],
    ],
)  # fmt: skip
def test_a_message_out_of_form_is_refused(fields: Any) -> None:
    with pytest.raises(Refused):
        gossip.decode(pack(fields))


def test_a_message_over_the_limit_is_refused() -> None:
    with pytest.raises(Refused):
        gossip.decode(pack([1, [bytes(limits.GOSSIP_BYTES)], []]))


def test_the_widest_heads_pass() -> None:
    message = NewRecords((), ((ROOM, b"a" * 20, MAX_UINT),) * limits.GOSSIP_HEADS)
    assert gossip.decode(gossip.encode(message)) == message


@settings(max_examples=80, deadline=None)
@given(
    st.recursive(
        st.integers(0, 3) | st.binary(max_size=24) | st.booleans(),
        lambda inner: st.lists(inner, max_size=4),
    )
)
def test_only_refused_leaves_the_decoder(value: Any) -> None:
    for data in (msgpack.packb(value), msgpack.packb(value)[:-1]):
        try:
            message = gossip.decode(data)
        except Refused:
            continue
        assert gossip.encode(message) == data


def test_rates_are_kept_per_key_and_for_a_bounded_number_of_keys() -> None:
    rates: limits.Rates[int] = limits.Rates(3, 2.0)
    assert [rates.take(1, 0) for _ in range(4)] == [True, True, True, False]
    assert rates.take(2, 0)
    assert not rates.take(1, 499)
    assert rates.take(1, 500)
    assert not rates.take(1, 400)  # a clock that runs back gives nothing
    assert rates.take(1, 10_000, 3)
    assert not rates.take(1, 10_000)
    for key in range(10, 10 + limits.RATE_KEYS):
        rates.take(key, 10_000)
    assert rates.take(1, 10_000)  # forgotten, and so given its burst again
