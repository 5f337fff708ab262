"""Whom to dial and when, as plain state: the clock is a number."""

from __future__ import annotations

import random

from permesh.p2p.redial import LONGEST_S, MAX_ADDRESSES, MAX_TARGETS, PENDING_S, Redial

HERE = ("/ip4/192.0.2.1/tcp/1",)


def book() -> Redial:
    return Redial(random.Random(7))


def names(redial: Redial, now: float) -> list[str]:
    return [target.peer_id for target in redial.due(now)]


def test_a_new_target_is_due_at_once_and_only_once() -> None:
    redial = book()
    redial.add("a", HERE, 10.0)
    assert redial.next_at() == 10.0
    assert names(redial, 10.0) == ["a"]
    assert names(redial, 1000.0) == []
    assert redial.next_at() == float("inf")


def test_intervals_grow_to_a_minute_and_never_end() -> None:
    redial = book()
    redial.add("a", HERE, 0.0, bootstrap=True)
    now, waits = 0.0, []
    for _ in range(40):
        assert names(redial, now) == ["a"]
        redial.failed("a", now)
        waits.append(redial.next_at() - now)
        assert names(redial, redial.next_at() - 0.001) == []
        now = redial.next_at()
    assert waits[0] <= 1.0
    assert all(LONGEST_S / 2 <= wait <= LONGEST_S for wait in waits[10:])
    assert len(set(waits[10:])) > 20  # jitter


def test_who_waits_to_be_let_in_asks_again_soon() -> None:
    redial = book()
    redial.add("a", HERE, 0.0)
    now = 0.0
    for _ in range(20):
        assert names(redial, now) == ["a"]
        redial.failed("a", now, pending=True)
        assert redial.next_at() - now <= PENDING_S
        now = redial.next_at()


def test_a_member_that_is_lost_is_looked_for_at_once_whatever_came_before() -> None:
    redial = book()
    redial.add("a", HERE, 0.0)
    for now in range(8):
        redial.due(100.0 * now)
        redial.failed("a", 100.0 * now)
    redial.due(10_000.0)
    redial.connected("a", 10_000.0)
    assert names(redial, 20_000.0) == []
    redial.failed("a", 20_000.0)
    assert redial.next_at() - 20_000.0 <= 1.0


def test_addresses_are_merged_the_newest_first_and_limited() -> None:
    redial = book()
    redial.add("a", ("/old", "/both"), 0.0)
    redial.add("a", ("/new", "/both"), 1.0)
    (target,) = redial.due(2.0)
    assert target.addresses == ("/new", "/both", "/old")
    redial.add("a", tuple(f"/{index}" for index in range(100)), 3.0)
    assert len(target.addresses) == MAX_ADDRESSES


def test_a_full_book_forgets_who_was_away_for_longest_but_never_a_bootstrap() -> None:
    redial = book()
    redial.add("bootstrap", HERE, 0.0, bootstrap=True)
    for index in range(MAX_TARGETS + 5):
        redial.add(f"m{index}", HERE, 1.0 + index)
    due = names(redial, 10_000.0)
    assert len(due) == MAX_TARGETS
    assert "bootstrap" in due
    assert "m0" not in due
    assert f"m{MAX_TARGETS + 4}" in due
