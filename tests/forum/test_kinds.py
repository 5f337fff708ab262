"""What a forum record must look like at the door."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from permesh.errors import Refused
from permesh.forum import kinds
from permesh.forum.charter import Charter
from permesh.forum.kinds import Content, File, Label
from permesh.records import MAX_BODY_BYTES, Record, pack
from tests.simulator import Author

ROOM, POST_ID, FILE = b"r" * 32, b"p" * 32, b"f" * 32
AGENT, OTHER = b"a" * 20, b"b" * 20
FIELDS = Charter("purpose", stewards=(AGENT,)).fields()


def post(body: bytes = b"hello", **fields: Any) -> Record:
    return Author("a").write(body, kinds.POST, **{"room": ROOM, **fields})


def room(body: bytes = b"", **fields: Any) -> Record:
    return Author("a").write(body or pack(["lobby", "purpose"]), kinds.ROOM, **fields)


def after_post(kind: str, value: Any, **fields: Any) -> Record:
    return Author("a").write(pack(value), kind, **{"room": ROOM, "parents": (POST_ID,), **fields})


def said(*changes: Any) -> Record:
    """A post in today's form, with a field of its body changed."""
    value: list[Any] = ["hello", b"c" * 32, [POST_ID], [AGENT], [[FILE, 5, "a.txt", "text/plain"]]]
    for place, change in zip(changes[::2], changes[1::2], strict=True):
        value[place] = change
    return post(pack(value))


def charter(*changes: Any) -> Record:
    value: list[Any] = [2, *FIELDS]
    for place, change in zip(changes[::2], changes[1::2], strict=True):
        value[place] = change
    return after_post(kinds.CHARTER, value)


def test_what_is_in_form_passes() -> None:
    for record in (
        post(), post(parents=(POST_ID,)), post("né\n\t👋".encode()), room(), said(), charter(),
        said(0, ""), said(1, b"", 2, [], 3, [], 4, []), room(pack(["lobby", *FIELDS])),
        charter(3, [2, 5000, [AGENT, OTHER]]), charter(6, [AGENT, OTHER]),
        after_post(kinds.EDIT, ["hello", b"", [], [], []]),
        after_post(kinds.REMOVAL, [[POST_ID, ROOM]]), after_post(kinds.REACTION, ["👍", False]),
        after_post(kinds.LABEL, [0, POST_ID, "off-topic", True, "a reason"]),
        after_post(kinds.LABEL, [1, AGENT, "spam", True, ""], parents=()),
        after_post(kinds.LABEL, [1, AGENT, "spam", True, ""], parents=(), room=b""),
        Author("a").write(b"\xff", "other.kind"), Author("a").write(b"\xff", "forum.later"),
    ):  # fmt: skip
        kinds.check_record(record)
    assert kinds.read_room(pack(["a" * 64, "p" * 4096]), AGENT) == (
        "a" * 64, Charter("p" * 4096, stewards=(AGENT,)),
    )  # fmt: skip


@pytest.mark.parametrize(
    "record",
    [
        post(room=b""), post(parents=(POST_ID, b"q" * 32)), post(expires_ms=5), post(b""),
        post(b"  \n"), post(b"\xff"), post(b"a\x1b[31m"), post(b"a\x00"), post(b"a\r\n"),
        post("e\u0301".encode()), post("\x85".encode()),
        room(room=ROOM), room(parents=(POST_ID,)), room(expires_ms=1), room(b"\xc1"),
        room(pack([])), room(pack(["lobby"])), room(pack(["lobby", b"p"])),
        room(pack(["lobby", "p", "q"])), room(pack(["", "p"])), room(pack(["Lobby", "p"])),
        room(pack(["a b", "p"])), room(pack(["a~b", "p"])), room(pack(["a" * 65, "p"])),
        room(pack(["lobby\n", "p"])), room(pack(["lobby", "p" * 4097])),
        room(pack(["lobby", "p\x1b"])), room(pack("lobby")), room(pack([5, *FIELDS])),
        said(0, " ", 4, []), said(0, 5), said(0, "a\x07"), said(1, b"c"), said(2, [b"x"]),
        said(2, [POST_ID] * 2), said(2, [bytes([n]) * 32 for n in range(9)]), said(3, [POST_ID]),
        said(3, [bytes([n]) * 20 for n in range(33)]), said(4, [[FILE, 0, "a", ""]]),
        said(4, [[FILE, 2**23 + 1, "a", ""]]), said(4, [[FILE, 5, "", ""]]),
        said(4, [[FILE, 5, "../a", ""]]), said(4, [[FILE, 5, "..", ""]]),
        said(4, [[FILE, 5, "a\nb", ""]]), said(4, [[FILE, 5, "a" * 256, ""]]),
        said(4, [[FILE, 5, "a\\b", ""]]), said(4, [[FILE, 5, "a", "text plain"]]),
        said(4, [[FILE, True, "a", ""]]), said(4, [[FILE, 5, "a", "é"]]),
        said(4, [[FILE, 5, "a", ""]] * 9), said(4, [[FILE, 5, "a"]]), post(pack(["hello"])),
        charter(0, 1), charter(0, True), charter(0, 2**40), charter(1, 5), charter(2, "x" * 4097),
        charter(3, [4, 0, []]), charter(3, [0, -1, []]), charter(3, [2, 0, [OTHER, AGENT]]),
        charter(3, [2, 0, [AGENT, AGENT]]), charter(3, [2, 0, [POST_ID]]), charter(3, [0, 0]),
        charter(3, [2, 0, [n.to_bytes(20, "big") for n in range(257)]]),
        charter(4, [32_769, 0, 0]), charter(4, [0, 0]), charter(5, [36_501, 0]), charter(6, []),
        charter(6, [n.to_bytes(20, "big") for n in range(33)]), charter(6, [OTHER, AGENT]),
        after_post(kinds.CHARTER, [2, *FIELDS], parents=()),
        after_post(kinds.CHARTER, [2, *FIELDS], room=b""),
        after_post(kinds.EDIT, ["hello", b"", [], [], []], parents=()),
        after_post(kinds.REMOVAL, [[]]), after_post(kinds.REMOVAL, [[ROOM]]),
        after_post(kinds.REMOVAL, [POST_ID]), after_post(kinds.REMOVAL, [[POST_ID]], room=b""),
        after_post(kinds.REMOVAL, [[POST_ID, *(n.to_bytes(32, "big") for n in range(64))]]),
        after_post(kinds.REACTION, ["👍"]), after_post(kinds.REACTION, ["x", True]),
        after_post(kinds.REACTION, ["👍", 1]), after_post(kinds.REACTION, ["👍", True], parents=()),
        after_post(kinds.LABEL, [0, ROOM, "spam", True, ""]),
        after_post(kinds.LABEL, [0, POST_ID, "spam", True, ""], parents=()),
        after_post(kinds.LABEL, [0, POST_ID, "spam", True, ""], room=b""),
        after_post(kinds.LABEL, [1, AGENT, "spam", True, ""]),
        after_post(kinds.LABEL, [1, POST_ID, "spam", True, ""], parents=()),
        after_post(kinds.LABEL, [2, POST_ID, "spam", True, ""]),
        after_post(kinds.LABEL, [0, POST_ID, "Spam", True, ""]),
        after_post(kinds.LABEL, [0, POST_ID, "spam", 1, ""]),
        after_post(kinds.LABEL, [0, POST_ID, "spam", True, "r" * 201]),
        after_post(kinds.LABEL, [0, POST_ID, "spam", True, "a\x1b"]),
    ],
)  # fmt: skip
def test_what_is_out_of_form_is_refused(record: Record) -> None:
    with pytest.raises(Refused):
        kinds.check_record(record)


def test_a_record_whose_body_is_not_here_is_refused() -> None:
    record = post()
    with pytest.raises(Refused):
        kinds.check_record(Record.from_wire([record.header_bytes, record.signature, None]))


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 300) | st.text(max_size=4)
    | st.sampled_from([b"", AGENT, POST_ID]),
    lambda inner: st.lists(inner, max_size=7),
    max_leaves=20,
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=40) | VALUES, st.sampled_from(sorted(kinds.KINDS)))
def test_only_refused_leaves_for_any_body(value: Any, kind: str) -> None:
    try:
        body = value if isinstance(value, bytes) else pack(value)
        parents = () if kind == kinds.ROOM else (POST_ID,)
        record = Author("a").write(
            body, kind, room=b"" if kind == kinds.ROOM else ROOM, parents=parents
        )
        kinds.check_record(record)
    except Refused:
        pass


def test_bodies_say_what_was_put_in_them() -> None:
    content = Content("hé", b"c" * 32, (POST_ID,), (AGENT,), (File(FILE, 5, "a b.txt", "x/y"),))
    assert kinds.read_post(kinds.post_body(content)) == content
    assert kinds.read_post("hé".encode()) == Content("hé")
    rules = Charter("p", "o", "members", 1500, (AGENT,), 1, 2, 3, 4, 5, (AGENT, OTHER))
    assert kinds.read_room(kinds.room_body("lobby", rules), OTHER) == ("lobby", rules)
    assert kinds.read_charter(kinds.charter_body(7, rules)) == (7, rules)
    assert kinds.read_removal(kinds.removal_body((POST_ID,))) == (POST_ID,)
    assert kinds.read_reaction(kinds.reaction_body("🎉", False)) == ("🎉", False)
    label = Label(True, AGENT, "spam", False, "why")
    assert kinds.read_label(kinds.label_body(label)) == label


def test_a_body_is_never_both_text_and_array() -> None:
    assert kinds.post_body(Content("x"))[0] == 0x95
    for first in range(0x90, 0xA0):
        with pytest.raises(UnicodeDecodeError):
            bytes([first, 0x80, 0x80]).decode()


def test_removals_name_what_they_take_away_and_never_raise() -> None:
    good = after_post(kinds.REMOVAL, [[POST_ID, ROOM]])
    assert kinds.removed_ids(good) == (POST_ID, ROOM)
    for record in (post(), after_post(kinds.REMOVAL, [[ROOM]]), after_post(kinds.REMOVAL, 5)):
        assert kinds.removed_ids(record) == ()
    bare = Record(good.id, good.header, good.header_bytes, good.signature, None)
    assert kinds.removed_ids(bare) == ()


def test_a_heap_of_accents_costs_no_time() -> None:
    heap = "a" + "\u0301" * 8000 + "\u0323" * 8000
    began = time.process_time()
    with pytest.raises(Refused):
        kinds.read_post(heap.encode())
    assert time.process_time() - began < 0.2  # normalising it takes three times that


def test_a_body_full_of_text_passes() -> None:
    kinds.check_record(post(b"x" * MAX_BODY_BYTES))
