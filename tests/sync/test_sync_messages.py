"""Every message has one form and one length at most, and nothing else passes for it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from permesh.errors import Refused
from permesh.p2p import limits
from permesh.p2p.sync import Answerer, Finished
from permesh.p2p.sync_messages import (
    Answer,
    Ask,
    Contents,
    Days,
    Differing,
    Heads,
    Held,
    Lack,
    Message,
    Newer,
    Parts,
    Records,
    Want,
    decode,
    encode,
)
from permesh.records import MAX_BODY_BYTES, MAX_UINT, pack
from permesh.space_index import HEAD_BYTES, Run
from permesh.spaces import MAX_PATH, SPACE_COMMONS, SPACE_IDENTITY, Part, Sum
from tests.simulator import Author

ME = b"m" * 20
ROOM = b"r" * 32
PRINT = b"f" * 16
NAME = b"n" * HEAD_BYTES
IDS = tuple(n.to_bytes(32, "big") for n in range(limits.PAGE_IDS + 1))
HUGE = Sum(MAX_UINT, b"\xff" * 16)
# What a message may hold at most, in as many bytes as that can take.
LARGEST: list[Message] = [
    Ask(ME, MAX_UINT, (Held(ROOM, MAX_UINT, HUGE),) * limits.SPACES),
    Answer(
        (Held(ROOM, MAX_UINT, HUGE),) * limits.SPACES,
        Author("a").write(bytes(MAX_BODY_BYTES), parents=(ROOM,) * 8).to_wire(),
        tuple(bytes(limits.OFFER_BYTES) for _ in range(limits.OFFERS)),
    ),
    Heads(ROOM, MAX_UINT, ((NAME, MAX_UINT),) * limits.HEADS),
    Newer(tuple(Run(ME, MAX_UINT, (item,)) for item in IDS[: limits.PAGE_IDS]), more=True),
    Days(
        ROOM, MAX_UINT, MAX_UINT,
        tuple((MAX_UINT - limits.DAYS + n, HUGE) for n in range(limits.DAYS)),
    ),
    Differing(tuple((MAX_UINT - limits.DAYS + n, HUGE) for n in range(limits.DAYS))),
    Parts(ROOM, (Part(MAX_UINT, "f" * MAX_PATH, listed=True),) * limits.PARTS),
    Contents(((HUGE,) * 16,) * limits.PARTS),
    Contents((IDS[: limits.PAGE_IDS], *[()] * (limits.PARTS - 1))),
    Want(IDS[: limits.WANT_IDS]),
    Records((b"w" * limits.BATCH_BYTES,), limits.WANT_IDS - 1),
    Lack(ROOM, IDS[: limits.PAGE_IDS]),
]  # fmt: skip


@pytest.mark.parametrize("message", LARGEST, ids=lambda message: type(message).__name__)
def test_the_largest_messages_fit_the_limit(message: Message) -> None:
    data = encode(message)
    assert len(data) <= limits.SYNC_MESSAGE_BYTES
    assert decode(data) == message


HELD = [SPACE_COMMONS, 0, 0, PRINT]
SUM16 = [[0] * 16, PRINT * 16]


@pytest.mark.parametrize(
    "fields",
    [
        None, [], 7, [0], [12, []], [True, []], ["1"], [b"1"],
        # Ask
        [1], [1, ME, 0], [1, ME[1:], 0, []], [1, ME, -1, []], [1, ME, True, []], [1, ME, 0, [None]],
        [1, ME, 0, [HELD] * (limits.SPACES + 1)], [1, ME, 0, [[SPACE_COMMONS, 0, 0]]],
        [1, ME, 0, [[b"\x02", 0, 0, PRINT]]], [1, ME, 0, [[b"", 0, 0, PRINT]]],
        [1, ME, 0, [[ROOM[1:], 0, 0, PRINT]]], [1, ME, 0, [[ROOM, -1, 0, PRINT]]],
        [1, ME, 0, [[ROOM, 0, -1, PRINT]]], [1, ME, 0, [[ROOM, 0, True, PRINT]]],
        [1, ME, 0, [[ROOM, 0, 0, PRINT[1:]]]], [1, ME, 0, [[ROOM, 0, 0, None]]],
        # Answer
        [2, [HELD], None], [2, [HELD], b"", []], [2, [7], None, []],
        [2, [None] * (limits.SPACES + 1), None, []], [2, [HELD], None, [b"x" * 4097]],
        [2, [HELD], None, [b"x"] * 65], [2, [HELD], None, [b""]], [2, [HELD], None, [None]],
        # Heads
        [3, ROOM, 0], [3, b"", 0, []], [3, ROOM, None, []], [3, ROOM, 0, [[NAME[1:], 0]]],
        [3, ROOM, 0, [[ME, 0]]], [3, ROOM, 0, [[NAME, -1]]], [3, ROOM, 0, [None]],
        [3, ROOM, 0, [[NAME, 0]] * (limits.HEADS + 1)],
        # Newer
        [4, [], 0], [4, [[ME, 1, []]], False], [4, [[ME[1:], 1, [ROOM]]], False],
        [4, [[ME, True, [ROOM]]], False], [4, [[ME, 1, [b"i"]]], False], [4, [None], False],
        [4, [[ME, 1, [ROOM]], [ME, 2, [ROOM]]], False], [4, [[ME, 1, list(IDS)]], False],
        # Days and Differing
        [5, ROOM, 0, 0], [5, ROOM, 0, []], [5, ROOM, 0, None, []], [5, ROOM, 0, -1, []],
        [5, ROOM, 0, 0, [[0, 0]]], [5, ROOM, 0, 0, [[1, 0, PRINT], [1, 0, PRINT]]],
        [5, ROOM, 0, 0, [[2, 0, PRINT], [1, 0, PRINT]]],
        [5, ROOM, 0, 0, [[n, 0, PRINT] for n in range(limits.DAYS + 1)]],
        [6, None], [6, [[0, 0]]], [6, [[2, 0, PRINT], [1, 0, PRINT]]], [6, [[-1, 0, PRINT]]],
        # Parts
        [7, ROOM, []], [7, ROOM, [None]], [7, ROOM, [[0, "", 1]]], [7, ROOM, [[0, "g", True]]],
        [7, ROOM, [[0, "A", True]]], [7, ROOM, [[0, b"a", True]]], [7, ROOM, [[-1, "", True]]],
        [7, ROOM, [[0, "a" * (MAX_PATH + 1), True]]],
        [7, ROOM, [[0, "", True]] * (limits.PARTS + 1)],
        # Contents
        [8, None], [8, [None]], [8, [[[0] * 15, PRINT * 16]]], [8, [[[0] * 16, PRINT * 15]]],
        [8, [[[-1] * 16, PRINT * 16]]], [8, [[b"i"]]], [8, [[IDS[1], IDS[0]]]],
        [8, [[IDS[0], IDS[0]]]], [8, [list(IDS)]], [8, [[]] * (limits.PARTS + 1)], [8, [[SUM16]]],
        # Want
        [9], [9, [ROOM, ROOM]], [9, [None]], [9, list(IDS[: limits.WANT_IDS + 1])],
        # Records
        [10, [], -1], [10, [], limits.WANT_IDS], [10, [], True], [10, None, 0],
        [10, [None] * (limits.WANT_IDS + 1), 0],
        # Lack
        [11, ROOM, []], [11, b"", [ROOM]], [11, ROOM, [b"i"]], [11, ROOM, [IDS[1], IDS[0]]],
        [11, ROOM, list(IDS)], [11, ROOM, [ROOM], 0],
    ],
)  # fmt: skip
def test_a_message_out_of_form_is_refused(fields: Any) -> None:
    data = pack(fields)
    with pytest.raises(Refused):
        decode(data)
    assert Answerer().received(data)[0] == Finished("sync.malformed")


def test_the_spaces_that_everybody_holds_have_short_names() -> None:
    for space in (SPACE_IDENTITY, SPACE_COMMONS, ROOM):
        message = Heads(space, 3, ((NAME, 1),))
        assert decode(encode(message)) == message


# -- what is in form comes back as it was ----------------------------------------------------------

uints = st.integers(0, MAX_UINT)
ids = st.binary(min_size=32, max_size=32)
ascending = st.sets(ids, max_size=5).map(lambda found: tuple(sorted(found)))
names = st.binary(min_size=20, max_size=20)
spaces = st.sampled_from([SPACE_IDENTITY, SPACE_COMMONS, ROOM])
sums = st.builds(Sum, uints, st.binary(min_size=16, max_size=16))
held = st.builds(Held, spaces, uints, sums)
days = st.dictionaries(uints, sums, max_size=4).map(lambda found: tuple(sorted(found.items())))
parts = st.builds(Part, uints, st.text("0123456789abcdef", max_size=MAX_PATH), st.booleans())
contents = ascending | st.tuples(*[sums] * 16)
runs = st.dictionaries(names, st.tuples(uints, ascending.filter(bool)), max_size=3).filter(
    lambda found: (
        len({i for _, some in found.values() for i in some})
        == sum(len(some) for _, some in found.values())
    )
)
messages = st.one_of(
    st.builds(Ask, names, uints, st.lists(held, max_size=3).map(tuple)),
    st.builds(
        Answer, st.lists(held | st.none(), max_size=3).map(tuple), st.none() | st.just([b"", b""]),
        st.lists(st.binary(min_size=1, max_size=9), max_size=3).map(tuple),
    ),
    st.builds(Heads, spaces, uints, st.lists(st.tuples(st.just(NAME), uints)).map(tuple)),
    st.builds(
        Newer, runs.map(lambda found: tuple(Run(a, *rest) for a, rest in found.items())),
        st.booleans(),
    ),
    st.builds(Days, spaces, uints, uints, days),
    st.builds(Differing, days),
    st.builds(Parts, spaces, st.lists(parts, min_size=1, max_size=3).map(tuple)),
    st.builds(Contents, st.lists(contents, max_size=3).map(tuple)),
    st.builds(Want, st.sets(ids, max_size=4).map(tuple)),
    st.builds(Records, st.lists(st.binary(max_size=9), max_size=3).map(tuple), st.integers(0, 511)),
    st.builds(Lack, spaces, ascending.filter(bool)),
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(messages)
def test_a_message_comes_back_as_it_was(message: Message) -> None:
    assert decode(encode(message)) == message


@settings(max_examples=150, deadline=None)
@given(messages, st.data())
def test_a_message_that_was_changed_is_refused_or_another_one(
    message: Message, data: st.DataObject
) -> None:
    changed = bytearray(encode(message))
    changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    only_refused(bytes(changed[: data.draw(st.integers(0, len(changed)))]))


@settings(max_examples=80, deadline=None)
@given(st.binary(max_size=60))
def test_only_refused_leaves_the_decoder(data: bytes) -> None:
    only_refused(data)


def only_refused(data: bytes) -> None:
    try:
        message = decode(data)
    except Refused:
        return
    assert encode(message) == data
