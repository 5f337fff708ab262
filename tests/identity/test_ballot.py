"""How the witnesses agree: always on one order, and in the end on all that is ready.

The simulator in witnesses.py checks by itself that no two logs differ, that nobody signs twice in
one round or below a promise, and that no promise hides a vote.
"""

from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any

import pytest

from permesh.errors import Refused
from permesh.identity.ballot import BALLOTS_PER_WITNESS, PATIENCE_MS, Ballot, Promise
from permesh.identity.checkpoint import MAX_ROUND, Checkpoint, Vote
from permesh.identity.entry import Approval, Entry, Resolution
from permesh.identity.owner import REVOKE, OwnerStatement

from .people import seed
from .witnesses import (
    DAY,
    MINUTE,
    SECOND,
    SLOWEST,
    UNSIGNED,
    Body,
    Record,
    Witness,
    World,
    agent,
    approved,
    change,
    chaos,
    make_quick,
    quiet,
    release,
)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    make_quick(monkeypatch)


def code(action: Callable[[], Any]) -> str:
    with pytest.raises(Refused) as caught:
        action()
    assert caught.value.message
    return caught.value.code


@pytest.mark.parametrize("witnesses", [1, 2, 3, 4, 5])
def test_the_witnesses_agree_whatever_happens(witnesses: int) -> None:
    worlds = [chaos(number, witnesses) for number in range(50)]
    for world in worlds:
        world.run(MINUTE + 2 * SLOWEST)  # all is said and heard
        world.run(10 * MINUTE, lambda world=world: world.settled)
        assert world.settled
    assert sum(len(one.agreed) - witnesses for one in worlds) > 50
    if witnesses > 1:  # it was not too easy
        assert sum(one.ballots for one in worlds) > 40
        rounds = {number for one in worlds for signed in one.signed.values() for number in signed}
        assert len(rounds) > witnesses


# -- rounds ----------------------------------------------------------------------------------------


def sizes(world: World) -> list[int]:
    return [one.log.size for one in world.all]


def test_the_owner_of_the_first_round_proposes_at_once() -> None:
    world = quiet(3)
    world.approve(world.all[2], release(1))
    world.run(SECOND)
    assert sizes(world) == [4, 4, 4]
    assert world.ballots == 0
    assert {number for signed in world.signed.values() for number in signed} == {0}
    assert all(one.ordering.wait_ms(one.me, world.now) is None for one in world.all)


def test_if_it_is_away_the_next_one_takes_over_after_its_patience() -> None:
    world = quiet(3, 1, 2)
    _, second, third = world.all
    world.approve(second, release(1))
    assert second.ordering.wait_ms(second.me, 0) == PATIENCE_MS
    world.run(PATIENCE_MS - 1)
    assert second.ordering.wait_ms(second.me, world.now) == 1
    # The third waits for the second's turn to pass as well.
    assert third.ordering.wait_ms(third.me, world.now) > PATIENCE_MS - SECOND
    assert sizes(world) == [3, 3, 3]
    world.run(PATIENCE_MS + SECOND)
    assert sizes(world) == [3, 4, 4]
    assert world.ballots == 1


@pytest.mark.parametrize("witnesses", [2, 3, 5])
def test_those_who_outbid_each_other_come_to_an_end(witnesses: int) -> None:
    """News takes longer than anyone's patience, at first."""
    ballots = 0
    for number in range(8):
        world = World(number, witnesses)
        world.slowest = 40 * PATIENCE_MS
        for one in world.all:
            world.approve(one, release(1))
        world.all[0].up = witnesses == 2
        world.run(DAY)
        assert world.settled
        assert len(world.agreed) == witnesses + 1
        assert world.ballots < 10 * witnesses
        ballots += world.ballots
    assert ballots > 8


@pytest.mark.parametrize("up", range(3))
def test_one_that_is_alone_does_not_write_for_ever(up: int) -> None:
    world = quiet(3, up)
    for at in range(5):
        world.at(at * DAY, world.approve, world.all[up], release(at))
    world.run(60 * DAY)
    assert sizes(world) == [3, 3, 3]
    assert world.ballots == 1
    assert len(world.all[up].records) <= 5 + 3  # with a batch, a ballot and a promise
    # And goes on where it stood when the others are back.
    world.heal()
    world.run(world.now + MINUTE)
    assert sizes(world) == [8, 8, 8]


def test_a_few_that_cannot_decide_write_ever_less() -> None:
    world = quiet(5, 1, 2)
    world.approve(world.all[1], release(1))
    world.run(30 * DAY)
    assert world.ballots < 100
    world.run(60 * DAY)
    assert world.ballots < 150


def test_nor_do_they_once_they_have_asked_as_often_as_they_may() -> None:
    world = quiet(5, 1, 2)
    world.approve(world.all[1], release(1))
    world.run(3 * 365 * DAY)
    assert world.ballots <= 2 * BALLOTS_PER_WITNESS


def test_a_ballot_that_stands_needs_no_looking_after() -> None:
    world = quiet(3, 0)
    world.approve(world.all[0], release(1))
    world.run(DAY)
    assert world.all[0].ordering.wait_ms(world.all[0].me, world.now) != 0


def test_nor_does_a_log_that_contradicts_itself() -> None:
    world = quiet(3, 1)
    liar, second, third = world.all
    world.loss, world.hostile = 1, {liar.me, third.me}
    world.approve(second, release(1))
    for at in (2, 3):
        record = propose(world, liar, release(at), second)
        tell(world, third, Vote(record.body.checkpoint, third.me, UNSIGNED), second)
    assert second.log.contradiction is not None
    world.run(DAY)
    assert second.ordering.wait_ms(second.me, world.now) is None


def test_who_may_not_decide_does_nothing() -> None:
    world = quiet(4)
    first, second, third, fourth = world.all
    revoke = OwnerStatement(
        world.genesis.mesh_id, REVOKE, seed("owner 0")[:20], first.me, 0, owner_signature=UNSIGNED
    )
    entries = (approved(change(b"", fourth.me, 1), first.me), Entry.of(revoke))
    tell(world, first, first.batch(first.log.checkpoint(entries, 0), entries), *world.all)
    world.run(SECOND)
    assert sizes(world) == [6, 6, 6, 6]
    world.approve(first, release(1))
    world.approve(second, release(2))
    world.approve(fourth, release(3))
    world.run(DAY)
    assert sizes(world) == [7, 7, 7, 7]
    assert {place[0] for place in world.signed if place[1] == 6} == {second.me, third.me}


# -- promises --------------------------------------------------------------------------------------


def tell(world: World, author: Witness, body: Body, *to: Witness) -> Record:
    """Only these hear what that one wrote, and nobody checked."""
    record = world.record(author, body)
    for one in to:
        world.arrive(one, record)
    return record


def propose(world: World, author: Witness, entry: Entry, *to: Witness, **changes: Any) -> Record:
    """A batch of one release, in the first round unless it is told otherwise."""
    entries = (approved(entry, author.me),)
    batch = author.batch(author.log.checkpoint(entries, changes.pop("attempt", 0)), entries)
    return tell(world, author, replace(batch, **changes), *to)


def voted(world: World, witness: Witness) -> dict[int, Checkpoint]:
    """By round, after the founders."""
    log = witness.log.steps()[0].certificate.checkpoint if witness.log.steps() else None
    root = log.base_root if log else witness.log.root
    return world.signed.get((witness.me, len(world.all), root), {})


def test_what_may_have_been_certified_is_proposed_again() -> None:
    world = quiet(4, 1, 2, 3)
    first, second, third, fourth = world.all
    world.loss = 1
    propose(world, first, release(1), second)
    assert set(voted(world, second)) == {0}  # which makes three with one that nobody hears of now
    world.approve(third, release(2))
    world.run(MINUTE)
    for record in [*third.records.values()]:
        world.arrive(fourth, record)
    world.loss = 0
    world.tell_all()
    world.run(2 * MINUTE)
    entries = [approved(release(1), first.me), approved(release(2), third.me)]
    for one in (second, third, fourth):
        assert [entry for _, entry in one.log.entries()][4:] == entries
    for one in (third, fourth):  # in a later round, though theirs was another wish
        assert voted(world, one)
        assert 0 not in voted(world, one)


def test_a_witness_holds_the_owner_of_a_round_to_the_promises() -> None:
    world = quiet(4, 1)
    first, second, third, fourth = world.all
    world.loss = 1
    propose(world, first, release(1), second)
    tell(world, third, third.asks(2), second)
    (mine,) = [one for one in second.records.values() if isinstance(one.body, Promise)]
    theirs = [tell(world, one, Promise(one.asks(2), None), second) for one in (third, fourth)]
    whole = (mine.id, *(one.id for one in theirs))

    def votes(entry: Entry, author: Witness = third, attempt: int = 2, **changes: Any) -> bool:
        before = len(voted(world, second))
        propose(world, author, entry, second, attempt=attempt, **changes)
        return len(voted(world, second)) > before

    assert not votes(release(2), promises=whole)  # the newest vote binds it
    assert not votes(release(4), first, attempt=0)  # below what it promised
    entries = (approved(release(1), first.me),)
    again = third.batch(third.log.checkpoint(entries, 2), entries)
    for promises in ((), whole[:2], whole[1:], (*whole[:2], seed("nobody's")), whole[:1] * 3):
        tell(world, third, replace(again, promises=promises), second)
    tell(world, first, first.batch(again.checkpoint, entries, whole), second)  # not its round
    assert set(voted(world, second)) == {0}
    tell(world, third, replace(again, promises=whole), second)
    assert set(voted(world, second)) == {0, 2}
    assert not votes(release(5), promises=whole)  # once in a round


def test_of_several_votes_the_newest_binds() -> None:
    world = quiet(4, 2)
    first, second, third, fourth = world.all
    world.loss = 1
    old, new = (
        ((entry,), one.log.checkpoint([entry], attempt))
        for attempt, one in enumerate((first, second))
        for entry in [approved(release(attempt), one.me)]
    )
    votes = [Vote(old[1], first.me, UNSIGNED), Vote(new[1], second.me, UNSIGNED), None]
    promises = tuple(
        tell(world, one, Promise(third.asks(7), vote), third).id
        for one, vote in zip((first, second, fourth), votes, strict=True)
    )
    for entries, _ in (old, new):
        checkpoint = fourth.log.checkpoint(entries, 7)
        tell(world, fourth, fourth.batch(checkpoint, entries, promises), third)
        assert set(voted(world, third)) == (set() if entries is old[0] else {7})


def test_promises_of_which_none_voted_bind_nobody() -> None:
    world = quiet(3, 1)
    _, second, third = world.all
    world.loss = 1
    tell(world, third, third.asks(2), second)
    (mine,) = [one for one in second.records.values() if isinstance(one.body, Promise)]
    theirs = tell(world, third, Promise(third.asks(2), None), second)
    propose(world, third, release(2), second, attempt=2, promises=(mine.id, theirs.id))
    assert set(voted(world, second)) == {2}


def test_votes_for_one_way_on_bind_together_whatever_their_rounds() -> None:
    world = quiet(4, 3)
    first, second, third, fourth = world.all
    world.loss = 1
    entries = (approved(release(1), first.me),)
    made = [first.log.checkpoint(entries, attempt) for attempt in range(3)]
    world.approve(fourth, release(2))
    world.run(MINUTE)  # it asks for round 3, and hears what these three have voted for last
    for one, checkpoint in zip((first, second, third), made, strict=True):
        vote = Vote(checkpoint, one.me, UNSIGNED)
        tell(world, one, Promise(fourth.asks(3), vote), fourth)
    # In round 0 these may have been three of four, long ago. The batch comes last.
    tell(world, first, first.batch(made[0], entries), fourth)
    assert voted(world, fourth)[3].root == made[0].root


def test_who_has_not_heard_a_ballot_asks_no_more_often() -> None:
    world = quiet(4, 0)
    first, _, third, _ = world.all
    world.loss = 1
    promises = [tell(world, one, Promise(one.asks(6), None), first).id for one in world.all[1:]]
    propose(world, third, release(1), first, attempt=6, promises=tuple(promises))
    assert set(voted(world, first)) == {6}  # by the promises alone: the ballot is on its way
    world.run(DAY)
    assert world.ballots == 1


def test_a_ballot_too_far_ahead_is_not_promised() -> None:
    world = quiet(3, 1)
    first, second, third = world.all

    def answered(author: Witness, attempt: int) -> bool:
        before = len(second.records)
        tell(world, author, author.asks(attempt), second)
        return len(second.records) > before + 1

    assert not answered(third, 5)
    assert not answered(first, MAX_ROUND // 3 * 3)
    assert not answered(third, 1)  # another one's
    assert answered(third, 2)  # and with it the one that was too far
    assert second.ordering._promised(second.me) == 5
    assert not answered(first, 3)
    assert not answered(first, 9)
    assert answered(first, 6)
    assert second.ordering._promised(second.me) == 9


@pytest.mark.parametrize(
    "decode",
    [
        lambda base: Ballot.decode(Ballot(*base, 0).encode()),
        lambda base: Ballot.decode(Ballot(*base, MAX_ROUND + 1).encode()),
        lambda base: Ballot.decode(Ballot(base[0], base[1][:-1], 1).encode()),
        lambda base: promise(base, base, 2),
        lambda base: promise(base, base, 3),
        lambda base: promise(base, (base[0] + 1, base[1]), 1),
        lambda base: promise(base, (base[0], seed("elsewhere")), 1),
    ],
)
def test_what_is_no_ballot_and_no_promise(decode: Callable[[tuple[int, bytes]], Any]) -> None:
    base = (3, seed("base"))
    assert code(lambda: decode(base)) == "identity.field"
    assert Ballot.decode(Ballot(*base, MAX_ROUND).encode()) == Ballot(*base, MAX_ROUND)
    promise(base, base, 1)


def promise(asked: tuple[int, bytes], seen: tuple[int, bytes], attempt: int) -> None:
    """One for round 2, with a vote in another."""
    vote = Vote(Checkpoint(bytes(32), *seen, 9, seed("root"), attempt), agent(0), UNSIGNED)
    for one in (Promise(Ballot(*asked, 2), vote), Promise(Ballot(*asked, 2), None)):
        assert Promise.decode(one.encode()) == one


# -- those who lie ---------------------------------------------------------------------------------


def test_who_proposes_two_things_at_once_is_named_at_worst() -> None:
    contradictions = 0
    for number in range(60):
        world, random = World(number, 3), Random(number)
        liar, *others = world.all
        liar.up, world.slowest, world.hostile = False, 8 * SECOND, {liar.me}
        for at in (1, 2):
            record = propose(world, liar, release(at))
            for one in others:
                world.at(random.randrange(8 * SECOND), world.arrive, one, record)
        world.run(MINUTE)
        one, other = (witness.log for witness in others)
        assert one.size == other.size == 4
        assert (one.root, one.contradiction) == (other.root, other.contradiction)
        if one.contradiction:
            contradictions += 1
            assert one.contradiction.both == (liar.me,)
            # Nobody goes on before it is resolved.
            world.approve(others[0], release(3))
            world.run(DAY)
            assert {size for _, size, _ in world.signed} == {3}
        assert [len(one.double_votes(witness.me)) for witness in world.all] == [1, 0, 0]
    assert 10 < contradictions < 50


def test_nobody_is_blamed_for_a_vote_that_another_one_hid() -> None:
    world = quiet(5, 1, 2, 3, 4)
    liar, second, third, fourth, fifth = world.all
    world.loss, world.hostile = 1, {liar.me}
    propose(world, liar, release(1), second, third)  # certified by these three
    lie = tell(world, liar, Promise(liar.asks(3), None), fourth, fifth)
    world.approve(fourth, release(2))
    world.run(MINUTE)
    world.loss, world.sides = 0, world.sides | {second.me: 1, third.me: 2}
    world.tell_all()
    world.run(2 * MINUTE)
    (other,) = voted(world, fifth).values()
    tell(world, liar, Vote(other, liar.me, UNSIGNED), fourth, fifth)
    assert fourth.log.size == fifth.log.size == 6
    for one in [lie, *fourth.records.values()]:
        world.arrive(second, one)
    world.split(1)
    world.tell_all()
    world.run(3 * MINUTE)
    found = second.log.contradiction
    assert found is not None
    assert found == fifth.log.contradiction
    assert found.both == (liar.me,)


@pytest.mark.parametrize("shown", [True, False])
def test_a_vote_for_what_nobody_can_follow_keeps_nobody_from_going_on(shown: bool) -> None:
    world = quiet(3, 1, 2)
    liar, second, third = world.all
    entry, grown = approved(release(1), agent(9)), liar.log._tree.copy()
    grown.append(entry.encode())
    bad = Checkpoint(world.genesis.mesh_id, 3, liar.log.root, 4, grown.root(), 0)
    if shown:
        tell(world, liar, liar.batch(bad, (entry,)), second, third)
    for attempt in range(1, 40):
        vote = Vote(bad, liar.me, UNSIGNED)
        tell(world, liar, Promise(liar.asks(attempt), vote), second, third)
    world.approve(second, release(2))
    world.run(DAY)
    assert sizes(world) == [3, 4, 4]


def test_a_promise_on_one_branch_outlasts_the_time_on_another() -> None:
    world = quiet(3, 1)
    liar, second, third = world.all
    world.loss, world.hostile = 1, {liar.me, third.me}
    base, two = liar.log.root, tuple(approved(release(at), liar.me) for at in (1, 2))
    longer = liar.log.checkpoint(two, 0)
    shorter = [
        (approved(release(at), liar.me),) for at in range(3, 99)
    ]  # of which one makes a larger root, so that it is left for the other
    one, checkpoint = next(
        (one, found) for one in shorter if (found := liar.log.checkpoint(one, 0)).root > longer.root
    )
    tell(world, liar, liar.batch(checkpoint, one), second)
    tell(world, third, Ballot(4, checkpoint.root, 2), second)
    assert world.promised[second.me, 4, checkpoint.root] == 2
    tell(world, liar, liar.batch(longer, two), second)
    tell(world, third, Vote(longer, third.me, UNSIGNED), second)
    assert second.log.root == longer.root
    chosen = Resolution(3, base, checkpoint.root)
    second.log.add_resolution(chosen, [Approval(second.me, 0, UNSIGNED)])
    second.log.advance()
    assert second.log.root == checkpoint.root
    more = (approved(release(100), liar.me),)
    tell(world, liar, liar.batch(second.log.checkpoint(more, 0), more), second)
    assert (second.me, 4, checkpoint.root) not in world.signed
