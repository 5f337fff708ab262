"""Which rooms are held, and from which day on."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from permesh.database import Database
from permesh.errors import PermeshError
from permesh.forum import following
from permesh.forum.following import Followed, Keep, appear, follow, followed, plan_floor

TODAY = 20_000


@pytest.fixture
def cursor(tmp_path: Path) -> Iterator[sqlite3.Cursor]:
    with closing(Database(tmp_path / "permesh.db")) as database:
        yield database.connection.cursor()


def room(number: int) -> bytes:
    return number.to_bytes(32, "big")


# -- which


def test_rooms_are_followed_as_they_appear_until_there_are_64(cursor: sqlite3.Cursor) -> None:
    assert appear(cursor, map(room, range(60))) == [room(n) for n in range(60)]
    assert appear(cursor, map(room, range(50, 70))) == [room(n) for n in range(60, 64)]
    assert list(followed(cursor.connection)) == [room(n) for n in range(64)]


def test_what_was_left_or_came_too_late_is_not_followed_by_itself_again(
    cursor: sqlite3.Cursor,
) -> None:
    appear(cursor, map(room, range(70)))
    follow(cursor, room(3), False)
    assert appear(cursor, map(room, range(70))) == []  # as when views are rebuilt
    assert room(3) not in followed(cursor.connection)
    assert appear(cursor, [room(70)]) == [room(70)]


def test_a_choice_goes_beyond_64_and_ends_at_the_limit(
    cursor: sqlite3.Cursor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "FOLLOWED_MAX", 66)
    appear(cursor, map(room, range(70)))
    follow(cursor, room(68))
    follow(cursor, room(100))
    with pytest.raises(PermeshError) as caught:
        follow(cursor, room(69))
    assert caught.value.code == "follow.too_many"
    follow(cursor, room(68), keep_days=3)  # no new one
    follow(cursor, room(68), False)
    follow(cursor, room(69))
    assert len(followed(cursor.connection)) == 66


def test_a_wish_is_kept_until_another_one(cursor: sqlite3.Cursor) -> None:
    assert follow(cursor, room(1), keep_days=7) == Followed(True, Keep(7, 0), 0)
    following.set_floor(cursor, room(1), 500)
    assert follow(cursor, room(1)) == Followed(True, Keep(7, 0), 500)
    assert follow(cursor, room(1), keep_megabytes=2) == Followed(True, Keep(7, 2), 0)
    following.set_floor(cursor, room(1), 500)
    assert followed(cursor.connection) == {room(1): 500}
    follow(cursor, room(1), False)
    assert following.read(cursor.connection, room(1)) == Followed(False, Keep(7, 2), 500)
    assert follow(cursor, room(1)) == Followed(True, Keep(7, 2), 0)
    assert following.read(cursor.connection, room(2)) == Followed(False, Keep(), 0)


# -- how far back


@pytest.mark.parametrize(
    ("one", "other", "both"),
    [
        (Keep(), Keep(), Keep()),
        (Keep(30, 0), Keep(0, 5), Keep(30, 5)),
        (Keep(30, 9), Keep(7, 10), Keep(7, 9)),
    ],
)
def test_the_stricter_limit_counts(one: Keep, other: Keep, both: Keep) -> None:
    assert one.stricter(other) == other.stricter(one) == both


def test_days_include_today() -> None:
    assert plan_floor({}, Keep(days=1), TODAY) == TODAY
    assert plan_floor({}, Keep(days=7), TODAY) == TODAY - 6
    assert plan_floor({}, Keep(days=36_500), TODAY) == 0


def test_megabytes_drop_whole_days_oldest_first() -> None:
    sizes = {TODAY - 3: 400_000, TODAY - 2: 500_000, TODAY - 1: 400_000, TODAY: 100_000}
    assert plan_floor(sizes, Keep(megabytes=2), TODAY) == 0
    assert plan_floor(sizes, Keep(megabytes=1), TODAY) == TODAY - 2
    assert plan_floor({**sizes, TODAY: 3_000_000}, Keep(megabytes=1), TODAY) == TODAY


def test_a_floor_does_not_sink_by_itself_and_a_clock_that_was_ahead_is_forgiven() -> None:
    assert plan_floor({}, Keep(megabytes=1), TODAY, TODAY - 2) == TODAY - 2
    assert plan_floor({}, Keep(days=3), TODAY, TODAY + 900) == TODAY


@given(
    st.dictionaries(st.integers(TODAY - 50, TODAY + 5), st.integers(0, 2_000_000)),
    st.builds(Keep, days=st.integers(0, 60), megabytes=st.integers(0, 10)),
    st.integers(0, TODAY + 10),
)
def test_the_floor_is_the_lowest_that_the_limits_allow(
    sizes: dict[int, int], keep: Keep, before: int
) -> None:
    floor = plan_floor(sizes, keep, TODAY, before)
    assert min(before, TODAY) <= floor <= TODAY
    left = {day: size for day, size in sizes.items() if day >= floor}
    assert plan_floor(left, keep, TODAY, floor) == floor

    def fits(day: int) -> bool:
        held = sum(size for other, size in sizes.items() if other >= day)
        return (not keep.days or day > TODAY - keep.days) and (
            not keep.megabytes or held <= keep.megabytes * 1_000_000
        )

    if floor < TODAY:
        assert fits(floor)
    if floor > min(before, TODAY):
        assert not fits(floor - 1)
