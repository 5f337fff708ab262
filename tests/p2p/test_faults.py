"""Faults are counted, forgiven, and at last shut a peer out for a while."""

from __future__ import annotations

from permesh.p2p.faults import FORGIVEN_PER_S, LIMIT, MAX_PEERS, SHUT_OUT_S, Faults


def test_faults_add_up_to_a_shut_out_that_ends() -> None:
    faults = Faults()
    assert [faults.add("a", "x", 30, 0.0) for _ in range(4)] == [False, False, False, True]
    assert faults.counts == {"x": 4}
    assert faults.shut_out("a", 1.0)
    assert not faults.shut_out("b", 1.0)
    assert not faults.shut_out("a", SHUT_OUT_S)
    assert not faults.add("a", "x", 30, SHUT_OUT_S)  # and it starts anew


def test_one_attack_is_enough() -> None:
    assert Faults().add("a", "x", LIMIT, 0.0)


def test_trifles_are_forgiven() -> None:
    faults = Faults()
    step = 10 / FORGIVEN_PER_S
    assert not any(faults.add("a", "x", 10, now * step) for now in range(100))


def test_a_crowd_of_culprits_takes_no_more_room_than_allowed() -> None:
    faults = Faults()
    for index in range(3 * MAX_PEERS):
        faults.add(f"p{index}", "x", 1, 0.0)
        faults.add(f"q{index}", "x", LIMIT, 0.0)
    assert len(faults._scores) == MAX_PEERS
    assert len(faults._shut_out) == MAX_PEERS
