"""Pulls come at once on connecting, soon on a hint, and on a timer; less from who wastes them."""

from __future__ import annotations

from random import Random

from permesh.p2p import limits, schedule
from permesh.p2p.schedule import Outcome, PullSchedule


def made(*peers: str) -> PullSchedule:
    plan = PullSchedule(Random(1))
    for peer in peers:
        plan.connected(peer, 0)
    return plan


def pull(plan: PullSchedule, peer: str, outcome: Outcome, now: int) -> int:
    """One pull of that peer, and when the next one is due."""
    assert plan.due(now) == [peer]
    plan.finished(peer, outcome, now)
    wait = plan.due_in(now)
    assert wait is not None
    return now + wait


def test_a_new_peer_is_due_at_once_and_then_on_a_jittered_timer() -> None:
    plan = made("p")
    assert plan.due_in(0) == 0
    # The first time anywhere in the period: who connected together is not to fall due together.
    now = pull(plan, "p", Outcome.EQUAL, 0)
    assert schedule.HINT_GAP_MS <= now <= schedule.PERIOD_MS
    times = set()
    for _ in range(20):
        after = pull(plan, "p", Outcome.EQUAL, now)
        times.add(after - now)
        now = after
    low, high = (schedule.PERIOD_MS * (1 + s * schedule.JITTER) for s in (-1, 1))
    assert all(low <= time <= high for time in times)
    assert len(times) > 10


def test_nobody_is_pulled_twice_at_once_and_few_at_all() -> None:
    plan = made(*(f"p{n}" for n in range(10)))
    assert len(plan.due(0)) == limits.PULLS
    assert plan.due(0) == []
    assert plan.due_in(0) is None
    plan.finished("p0", Outcome.EQUAL, 5)
    assert plan.due(5) == ["p4"]


def test_a_hint_brings_a_pull_soon_and_idle_hints_ever_later() -> None:
    plan = made("p")
    now = 0
    waits = []
    for _ in range(8):
        pull(plan, "p", Outcome.EQUAL, now)
        plan.hint("p", now)
        waits.append(plan.due_in(now) or 0)
        now += waits[-1]
    assert waits[:5] == [1_000, 2_000, 4_000, 8_000, 16_000]
    assert max(waits) <= schedule.HINT_GAP_MAX_MS
    pull(plan, "p", Outcome.GAINED, now)
    now += schedule.HINT_GAP_MS
    plan.hint("p", now)
    assert plan.due_in(now) == schedule.HINT_DELAY_MS


def test_a_hint_during_a_pull_brings_another() -> None:
    plan = made("p")
    assert plan.due(0) == ["p"]
    plan.hint("p", 10)
    plan.finished("p", Outcome.GAINED, 20)
    assert plan.due_in(20) == schedule.HINT_GAP_MS


def test_a_hint_from_a_stranger_goes_to_someone_who_is_connected() -> None:
    plan = made()
    plan.hint("stranger", 0)
    assert plan.due_in(0) is None
    plan = made("p")
    now = pull(plan, "p", Outcome.GAINED, 0)
    pull(plan, "p", Outcome.GAINED, now)
    plan.hint("stranger", now + 5_000)
    assert plan.due_in(now + 5_000) == schedule.HINT_DELAY_MS


def test_what_was_left_is_fetched_soon() -> None:
    plan = made("p")
    assert pull(plan, "p", Outcome.AGAIN, 0) == schedule.HINT_GAP_MS


def test_who_breaks_rules_is_asked_ever_less_and_hints_do_not_help() -> None:
    plan = made("p")
    now, waits = 0, []
    for _ in range(8):
        after = pull(plan, "p", Outcome.FAULT, now)
        plan.hint("p", now)
        assert plan.due_in(now) == after - now
        waits.append(after - now)
        now = after
    assert waits[0] >= schedule.PERIOD_MS * (1 - schedule.JITTER)
    assert waits[-1] >= schedule.STRIKE_MAX_MS * (1 - schedule.JITTER)
    assert max(waits) <= schedule.STRIKE_MAX_MS * (1 + schedule.JITTER)


def test_a_broken_pull_is_tried_again_soon_and_one_success_forgives() -> None:
    plan = made("p")
    now = pull(plan, "p", Outcome.FAILED, 0)
    assert now <= schedule.FAILED_MS * (1 + schedule.JITTER)
    now = pull(plan, "p", Outcome.FAILED, now)
    now = pull(plan, "p", Outcome.EQUAL, now)
    after = pull(plan, "p", Outcome.FAILED, now)
    assert after - now <= schedule.FAILED_MS * (1 + schedule.JITTER)


def test_a_peer_that_went_during_its_pull_is_forgotten() -> None:
    plan = made("p")
    plan.due(0)
    plan.gone("p")
    plan.finished("p", Outcome.EQUAL, 5)
    assert plan.due_in(5) is None
    plan.connected("p", 10)
    assert plan.due(10) == ["p"]


def test_a_crowd_is_asked_one_by_one_less_often() -> None:
    few, many = made("p"), made(*(f"p{n}" for n in range(80)))
    start = pull(few, "p", Outcome.EQUAL, 0)
    first = pull(few, "p", Outcome.EQUAL, start) - start
    now = 0
    for _ in range(2):  # the first pulls are spread out, and the second ones follow from them
        last = now
        for _ in range(80):
            now += many.due_in(now) or 0
            for peer in many.due(now):
                many.finished(peer, Outcome.EQUAL, now)
    assert now - last > 4 * first


def test_the_schedule_is_bounded() -> None:
    plan = made(*(f"p{n}" for n in range(limits.PEERS)))
    plan.connected("one more", -1)
    assert "one more" not in plan.due(0)
