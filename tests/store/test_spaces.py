"""How sets of ids are divided and summed: every part adds up to the whole."""

from __future__ import annotations

import hashlib
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from permesh.spaces import (
    DAY_MS,
    DIGITS,
    FINGERPRINT_BYTES,
    MAX_PATH,
    NOTHING,
    SPACE_COMMONS,
    SPACE_IDENTITY,
    DayIndex,
    Part,
    Sum,
    day_of,
    fingerprint,
    space_of,
)

ROOM = b"r" * 32
EDGES = [bytes(32), b"\xff" * 32, b"\x0f" + b"\xff" * 31, b"\x10" + bytes(31), b"\xf0" + bytes(31)]
# Close together, so that long paths have something below them.
ids = st.sampled_from(EDGES) | st.binary(min_size=32, max_size=32) | st.builds(
    lambda high, low: high * 31 + low, st.sampled_from([b"\x00", b"\x77", b"\xff"]),
    st.binary(min_size=1, max_size=1),
)  # fmt: skip
sets = st.sets(ids, max_size=40)
paths = st.text(DIGITS, max_size=MAX_PATH) | st.sampled_from(["0", "f", "0" * 16, "f" * 16, "77"])


def summed(some: set[bytes]) -> Sum:
    return Sum(len(some), fingerprint(len(some), sum(int.from_bytes(i, "big") for i in some)))


@settings(max_examples=150, deadline=None)
@given(sets, paths)
def test_a_part_has_the_ids_that_begin_with_its_digits(some: set[bytes], path: str) -> None:
    index = DayIndex(some)
    below = {item for item in some if item.hex().startswith(path)}
    assert index.ids(path) == sorted(below)
    assert index.sum(path) == summed(below)
    assert len(index) == len(some)


@settings(max_examples=150, deadline=None)
@given(sets, st.text(DIGITS, max_size=MAX_PATH - 1))
def test_the_sums_of_the_parts_add_up(some: set[bytes], path: str) -> None:
    index = DayIndex(some)
    children = index.children(path)
    assert len(children) == 16
    assert children == tuple(index.sum(path + digit) for digit in DIGITS)
    assert sum(child.count for child in children) == index.sum(path).count
    parts = [index.ids(path + digit) for digit in DIGITS]
    assert [item for part in parts for item in part] == index.ids(path)


@pytest.mark.parametrize("path", ["", "0", "f", "0" * MAX_PATH, "f" * MAX_PATH])
def test_of_nothing_every_part_is_nothing(path: str) -> None:
    index = DayIndex([])
    assert index.sum(path) == NOTHING
    assert index.ids(path) == []
    assert index.children(path) == (NOTHING,) * 16
    assert index.content(Part(0, path, listed=True), 10) == ()


def test_the_first_and_the_last_id_of_all_are_in_the_first_and_the_last_part() -> None:
    low, high = bytes(32), b"\xff" * 32
    index = DayIndex([high, low])
    for length in range(1, MAX_PATH + 1):
        assert index.ids("0" * length) == [low]
        assert index.ids("f" * length) == [high]
        assert index.ids("7" * length) == []
    assert index.ids("") == [low, high]


def test_a_content_is_a_list_or_sixteen_sums_and_no_longer_than_the_limit() -> None:
    some = sorted(hashlib.sha256(bytes([n])).digest() for n in range(100))
    index = DayIndex(reversed(some))
    assert index.content(Part(0, "", listed=True), 1000) == tuple(some)
    assert index.content(Part(0, "", listed=True), 7) == tuple(some[:7])
    assert index.content(Part(0, "", listed=True), 0) == ()
    assert index.content(Part(0, "", listed=False), 0) == index.children("")


@settings(max_examples=100, deadline=None)
@given(st.lists(ids, max_size=12), st.randoms(use_true_random=False))
def test_the_order_of_ids_does_not_matter(some: list[bytes], random: Random) -> None:
    shuffled = random.sample(some, len(some))
    assert DayIndex(some).sum("") == DayIndex(shuffled).sum("")


@settings(max_examples=100, deadline=None)
@given(sets, sets)
def test_sums_are_equal_exactly_when_the_sets_are(one: set[bytes], other: set[bytes]) -> None:
    assert (DayIndex(one).sum("") == DayIndex(other).sum("")) == (one == other)


def test_a_fingerprint_is_of_the_count_and_of_the_sum_modulo_two_to_the_256() -> None:
    total = 2**256 - 1 + 2
    assert fingerprint(2, total) == fingerprint(2, 1)
    assert fingerprint(1, 1) != fingerprint(2, 1)
    assert len(fingerprint(2**64 - 1, total)) == FINGERPRINT_BYTES
    expected = hashlib.sha256((3).to_bytes(8, "big") + (5).to_bytes(32, "big")).digest()[:16]
    assert fingerprint(3, 5) == expected
    assert Sum(0, fingerprint(0, 0)) == NOTHING


@pytest.mark.parametrize(
    ("kind", "room", "space"),
    [
        ("identity.credential", b"", SPACE_IDENTITY),
        ("identity.request", ROOM, SPACE_IDENTITY),
        ("identity.", b"", SPACE_IDENTITY),
        ("identity", ROOM, ROOM),
        ("Identity.request", ROOM, ROOM),
        ("forum.room", b"", SPACE_COMMONS),
        ("forum.room", ROOM, SPACE_COMMONS),
        ("forum.charter", ROOM, SPACE_COMMONS),
        ("mesh.addresses", b"", SPACE_COMMONS),
        ("mesh.addresses", ROOM, SPACE_COMMONS),
        ("forum.post", ROOM, ROOM),
        ("forum.roomy", ROOM, ROOM),
        ("forum.post", b"", SPACE_COMMONS),
        ("of.a.later.release", ROOM, ROOM),
        ("of.a.later.release", b"", SPACE_COMMONS),
    ],
)
def test_a_record_belongs_to_one_space(kind: str, room: bytes, space: bytes) -> None:
    assert space_of(kind, room) == space


def test_a_day_is_counted_from_1970_on() -> None:
    assert [day_of(ms) for ms in (0, DAY_MS - 1, DAY_MS, 20_000 * DAY_MS)] == [0, 0, 1, 20_000]
