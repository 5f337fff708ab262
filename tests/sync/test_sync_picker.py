"""What is asked for by its ids alone comes if it is there, and nothing else does."""

from __future__ import annotations

import pytest

from permesh.p2p import limits
from permesh.p2p.sync import Finished, Picker, Send, TakeIn
from permesh.p2p.sync_messages import Differing, Message, Records, Want, encode
from tests.sync.conversation import ids_of, some_records


def test_nothing_is_asked_for_where_nothing_lacks() -> None:
    assert Picker().start([]) == [Finished()]


def test_records_come_in_wants_and_batches_and_some_may_not_be_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "WANT_IDS", 3)
    records = some_records(4)
    ids = [record.id for record in records]
    wires = [record.to_wire() for record in records]
    picker = Picker()
    assert picker.start(ids) == [Send(encode(Want(tuple(ids[:3]))))]
    assert picker.received(encode(Records((wires[0],), 2))) == [TakeIn((wires[0],))]
    second = Send(encode(Want(tuple(ids[3:]))))
    assert picker.received(encode(Records((wires[2],), 0))) == [TakeIn((wires[2],)), second]
    assert picker.received(encode(Records((), 0))) == [Finished()]


@pytest.mark.parametrize(
    ("message", "fault"),
    [
        (Records((some_records(0, "other")[0].to_wire(),), 0), "sync.unasked"),
        (Records((), 1), "sync.no_progress"),
        (Want(ids_of(1)), "sync.out_of_turn"),
        (Differing(()), "sync.out_of_turn"),
        (b"\xc1", "format.msgpack"),
    ],
)
def test_who_answers_otherwise_ends_the_session(message: Message | bytes, fault: str) -> None:
    [record] = some_records(0)
    picker = Picker()
    picker.start([record.id])
    data = message if isinstance(message, bytes) else encode(message)
    assert picker.received(data) == [Finished(fault)]
