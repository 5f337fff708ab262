"""The admission log: what is certified counts, whatever the order in which it is heard of."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from permesh.errors import Refused
from permesh.identity import log as limits
from permesh.identity.checkpoint import Checkpoint, Contradiction, Vote
from permesh.identity.entry import Approval, Entry, RegistrarChange, Release, Resolution
from permesh.identity.genesis import MAX_REGISTRARS
from permesh.identity.log import AdmissionLog, Batch
from permesh.identity.owner import OwnerStatement
from permesh.identity.registry import Registry
from permesh.records import MAX_BODY_BYTES

from .people import START_MS, Person, append, genesis, seed, wallet

NAMES = ("ann", "ben", "cleo", "dora")
MESH = genesis("log", NAMES[:3])
ANN, BEN, CLEO, DORA, EMIL, FAY = (Person(name, MESH) for name in (*NAMES, "emil", "fay"))
FOUR = genesis("four", NAMES)
OF_FOUR = [Person(name, FOUR) for name in NAMES]

# What a log is fed with: a batch and its author, a vote, or a resolution.
Input = tuple[bytes, Batch] | Vote | Entry


def feed(log: AdmissionLog, *inputs: Input) -> AdmissionLog:
    for one in inputs:
        take_in(log, one)
        log.advance()
    return log


def take_in(log: AdmissionLog, one: Input) -> None:
    if isinstance(one, Vote):
        log.add_vote(one)
    elif isinstance(one, Entry):
        content = one.content()
        assert isinstance(content, Resolution)
        log.add_resolution(content, one.approvals)
    else:
        log.add_batch(*one)


def proposed(
    log: AdmissionLog,
    proposer: Person,
    *entries: Entry,
    by: Iterable[Person] = (),
    attempt: int = 0,
) -> list[Input]:
    """A batch after the present state, and the others' votes."""
    batch = proposer.proposes(log, entries, attempt)
    return [(proposer.address, batch), *(one.votes(batch.checkpoint) for one in by)]


def follow(log: AdmissionLog, *args: Any, **kwargs: Any) -> list[Input]:
    """The same, taken in by ``log``."""
    inputs = proposed(log, *args, **kwargs)
    feed(log, *inputs)
    return inputs


def told(log: AdmissionLog) -> Any:
    """Everything on which members are to agree."""
    registry, entries = log.registry, list(log.entries())
    return log.size, log.root, registry.seats(), registry.registrars, entries, log.contradiction


def code(action: Callable[[], Any]) -> str:
    with pytest.raises(Refused) as caught:
        action()
    assert caught.value.message
    return caught.value.code


def release(at: int) -> Entry:
    entry = Entry.of(Release("0.2.0", seed("runtime"), True, at))
    return ANN.approves(entry)


def adds(member: Person, by: Person) -> Entry:
    return by.approves(Entry.of(RegistrarChange(member.address, b"", START_MS)))


# -- growing ---------------------------------------------------------------------------------------


def test_it_begins_with_the_founders() -> None:
    log = AdmissionLog(MESH)
    assert log.size == 3
    assert [entry for _, entry in log.entries()] == [Entry.founder(one) for one in MESH.registrars]
    assert (log.steps(), log.advance()) == ([], [])
    assert log.root == AdmissionLog(MESH).root != AdmissionLog(FOUR).root


def test_a_batch_counts_once_a_quorum_has_signed() -> None:
    log = AdmissionLog(MESH)
    batch, vote = proposed(log, ANN, ANN.admits(DORA), ANN.admits(EMIL), by=[CLEO])
    take_in(log, batch)
    assert log.advance() == []
    assert log.size == 3
    take_in(log, vote)
    assert log.advance() == [DORA.address, EMIL.address]
    assert (log.size, log.root) == (5, batch[1].checkpoint.root)
    certificate = log.steps()[-1].certificate
    certificate.verify(MESH.mesh_id, log.registry.registrars, log.registry.quorum)
    assert [one.certificate for one in log.steps()] == [certificate]
    before = told(log)
    assert told(feed(log, BEN.votes(batch[1].checkpoint), batch, vote)) == before


def test_a_number_is_a_place_in_the_tree() -> None:
    log = AdmissionLog(MESH)
    append(log, ANN, release(1), ANN.admits(DORA), by=[BEN])
    append(log, ANN, ANN.admits(EMIL), by=[BEN])
    assert [(one.name, one.number) for one in log.registry.seats()[3:]] == [
        ("dora", 5),
        ("emil", 6),
    ]
    assert [number for number, _ in log.entries()] == list(range(1, 7))
    for number, entry in log.entries():
        assert log.entry(number) == entry
        for size, root in ((6, log.root), (5, log.steps()[0].certificate.checkpoint.root)):
            if number <= size:
                log.path(number, size).verify(entry.encode(), root, size)
    for seat in log.registry.seats():
        assert getattr(log.entry(seat.number).content(), "name", None) in (seat.name, None)


@pytest.mark.parametrize("voters", range(5))
def test_of_four_witnesses_three_are_a_quorum(voters: int) -> None:
    log = AdmissionLog(FOUR)
    entry = OF_FOUR[0].admits(Person("emil", FOUR))
    checkpoint = log.checkpoint([entry], 0)
    batch = Batch(Vote(checkpoint, wallet("stranger").address, bytes(65)), (entry,))
    feed(log, (OF_FOUR[3].address, batch), *(one.votes(checkpoint) for one in OF_FOUR[:voters]))
    assert log.size == (5 if voters >= 3 else 4)


def test_only_witnesses_votes_count() -> None:
    log = AdmissionLog(MESH)
    batch, *votes = proposed(log, ANN, ANN.admits(DORA), by=[DORA, EMIL, FAY])
    feed(log, batch, *votes, *votes)
    assert log.size == 3
    follow(log, ANN, ANN.admits(DORA), adds(DORA, ANN), by=[BEN])
    assert log.size == 5
    # It is a witness of what comes afterwards, of which three of four are a quorum now.
    inputs = proposed(log, ANN, ANN.admits(EMIL), by=[BEN])
    assert feed(log, *inputs).size == 5
    assert feed(log, DORA.votes(inputs[0][1].checkpoint)).size == 6


def test_a_witness_whose_key_is_revoked_does_not_count() -> None:
    log = AdmissionLog(MESH)
    revoked = Entry.of(OwnerStatement.revoke(MESH.mesh_id, CLEO.owner, CLEO.address, START_MS))
    follow(log, ANN, revoked, by=[CLEO])  # what it signs before is good
    assert log.size == 4
    inputs = proposed(log, ANN, ANN.admits(DORA), by=[CLEO])
    assert feed(log, *inputs).size == 4
    assert feed(log, BEN.votes(inputs[0][1].checkpoint)).size == 5


def test_two_go_on_after_the_owner_of_one_moved_its_revoked_key() -> None:
    two = genesis("two", NAMES[:2])
    ann, ben = Person("ann", two), Person("ben", two)
    log, new = AdmissionLog(two), wallet("ben new agent")
    revoked = OwnerStatement.revoke(two.mesh_id, ben.owner, ben.address, START_MS)
    append(log, ann, Entry.of(revoked), by=[ben])
    moved = OwnerStatement.move(two.mesh_id, ben.owner, ben.address, new, START_MS)
    batch = ann.proposes(log, [Entry.of(moved)])
    feed(log, (ann.address, batch), ben.votes(batch.checkpoint))
    feed(log, Vote.make(batch.checkpoint, new))
    assert log.registry.may_decide(new.address)


def test_votes_for_another_state_do_not_count() -> None:
    log = AdmissionLog(MESH)
    (batch,) = proposed(log, ANN, ANN.admits(DORA))
    right = batch[1].checkpoint
    for wrong in (
        replace(right, base_root=seed("elsewhere")),
        replace(right, round=1),
        replace(right, root=seed("elsewhere")),
        replace(right, size=right.size + 1),
        replace(right, base_size=right.base_size - 1),
        replace(right, base_size=right.base_size + 1),
    ):
        feed(log, batch, BEN.votes(wrong))
        assert log.size == 3
    assert feed(log, BEN.votes(right)).size == 4


@pytest.mark.parametrize(
    "entry", [EMIL.admits(DORA), ANN.admits(Person("ann-two", MESH, owner_name="ann"))]
)
def test_what_breaks_the_rule_is_not_followed_whoever_signed(entry: Entry) -> None:
    log, grown = AdmissionLog(MESH), AdmissionLog(MESH)
    before, entries = told(log), (ANN.admits(FAY), entry)
    for one in entries:
        grown._append(one)
    checkpoint = Checkpoint(MESH.mesh_id, 3, log.root, 5, grown.root, 0)
    batch = Batch(ANN.votes(checkpoint), entries)
    feed(log, (ANN.address, batch), BEN.votes(checkpoint), CLEO.votes(checkpoint))
    assert told(log) == before
    code(lambda: log.checkpoint(entries, 0))
    assert told(log) == before


# -- proposing -------------------------------------------------------------------------------------


def test_a_plan_takes_what_fits_in_its_order() -> None:
    log = AdmissionLog(MESH)
    twice = Person("dora-two", MESH, person_name="dora")
    wanted = [release(1), ANN.admits(DORA), BEN.admits(DORA), ANN.admits(twice), release(2)]
    assert log.plan([EMIL.admits(FAY), *wanted]) == [wanted[0], wanted[1], wanted[4]]
    assert log.plan([adds(DORA, ANN), wanted[1]]) == [wanted[1]]
    many = [release(at) for at in range(3, limits.MAX_BATCH_ENTRIES + 9)]
    assert log.plan(many) == many[: limits.MAX_BATCH_ENTRIES]
    assert log.size == 3


def test_the_longest_batch_fits_into_a_record() -> None:
    large = genesis("large", tuple(f"founder-{at}" for at in range(MAX_REGISTRARS)))
    log = AdmissionLog(large)
    approvals = [Approval(one.agent, 2**62, bytes(65)) for one in large.registrars]
    entries = [
        Entry.suspend(seed(str(at))[:20], "é" * 200, 2**62).approved_by(*approvals)
        for at in range(12)
    ]
    log.registry.try_out = lambda *_: None  # type: ignore[method-assign]
    chosen = tuple(log.plan(entries))
    assert 4 < len(chosen) < 12
    checkpoint = log.checkpoint(chosen, 2**32 - 1)
    vote = Vote(checkpoint, large.registrars[0].agent, bytes(65))
    batch = Batch(vote, chosen, tuple(seed(str(at)) for at in range(MAX_REGISTRARS)))
    assert len(batch.encode()) <= MAX_BODY_BYTES
    assert Batch.decode(batch.encode()) == batch


# -- order -----------------------------------------------------------------------------------------


def history() -> list[Input]:
    """Four steps, one of them in a later attempt, with others that came to nothing."""
    log = AdmissionLog(MESH)
    inputs = proposed(log, BEN, BEN.admits(FAY), by=[DORA, EMIL], attempt=1)
    inputs += follow(log, ANN, ANN.admits(DORA), release(1), by=[BEN, EMIL])
    inputs += proposed(log, CLEO, CLEO.admits(FAY))
    inputs += follow(log, ANN, adds(DORA, BEN), by=[CLEO])
    inputs += proposed(log, ANN, ANN.admits(EMIL), by=[BEN])
    inputs += follow(log, BEN, ANN.admits(FAY), ANN.admits(EMIL), by=[CLEO, DORA], attempt=1)
    inputs += follow(log, ANN, release(2), by=[BEN, CLEO, DORA])
    assert log.size == 9
    return inputs


def branches() -> tuple[list[Input], Checkpoint, Checkpoint]:
    """Two certificates after the first step, by ann, and what came after each of them."""
    log = AdmissionLog(MESH)
    inputs = follow(log, ANN, ANN.admits(DORA), by=[BEN, CLEO])
    logs = [feed(AdmissionLog(MESH), *inputs) for _ in range(2)]
    one = follow(logs[0], ANN, ANN.admits(EMIL), by=[BEN])
    other = follow(logs[1], ANN, release(1), ANN.admits(FAY), by=[CLEO])
    found = [inputs[0][1].checkpoint for inputs in (one, other)]
    inputs += [*one, *other]
    for log, voter in zip(logs, (BEN, CLEO), strict=True):
        inputs += follow(log, ANN, release(7), by=[voter])
        inputs += proposed(log, voter, release(8), attempt=1)
    return inputs, *sorted(found, key=lambda one: one.root)


def chooses(checkpoint: Checkpoint, *by: Person) -> Entry:
    chosen = Resolution(checkpoint.base_size, checkpoint.base_root, checkpoint.root)
    approvals = [Approval(one.address, START_MS, bytes(65)) for one in by]
    return Entry.of(chosen).approved_by(*approvals)


def over_who_decides() -> list[Input]:
    """One branch removes a witness that has signed the other."""
    log = AdmissionLog(MESH)
    removal = ANN.approves(Entry.of(RegistrarChange(b"", CLEO.address, START_MS)))
    inputs = proposed(log, ANN, release(1), by=[CLEO])
    inputs += follow(log, ANN, removal, by=[BEN])
    return inputs + follow(log, ANN, release(2), by=[BEN])


def in_two_attempts() -> list[Input]:
    """Each of the two ways on is certified twice."""
    log, inputs = AdmissionLog(MESH), list[Input]()
    for at in (1, 2):
        for attempt, voter in ((0, BEN), (1, CLEO)):
            inputs += proposed(log, ANN, release(at), by=[voter], attempt=attempt)
    return inputs


HISTORY = history()
SPLIT, SMALLER, LARGER = branches()
HISTORIES: dict[str, Sequence[Input]] = {
    "agreed": HISTORY,
    "contradiction": SPLIT,
    "resolved": [*SPLIT, chooses(LARGER, CLEO), chooses(LARGER, ANN)],
    "nobody resolved it": [*SPLIT, chooses(LARGER, ANN, DORA), chooses(SMALLER, ANN)],
    "over who decides": over_who_decides(),
    "in two attempts": in_two_attempts(),
    "resolved twice": [*SPLIT, chooses(LARGER, CLEO), chooses(SMALLER, BEN)],
}


@pytest.mark.parametrize("inputs", HISTORIES.values(), ids=list(HISTORIES))
@settings(deadline=None, max_examples=30)
@given(data=st.data())
def test_the_same_inputs_in_any_order_make_the_same_log(
    inputs: Sequence[Input], data: st.DataObject
) -> None:
    order = data.draw(st.permutations(range(len(inputs))))
    some_twice = data.draw(st.lists(st.sampled_from(order), max_size=3))
    log = AdmissionLog(MESH)
    for at in [*order, *some_twice]:
        take_in(log, inputs[at])
        if data.draw(st.booleans()):
            log.advance()
    log.advance()
    assert told(log) == told(feed(AdmissionLog(MESH), *inputs))


def test_what_came_before_its_time_waits() -> None:
    inputs = [one for one in HISTORY if not (isinstance(one, tuple) and one[0] == ANN.address)]
    log = feed(AdmissionLog(MESH), *inputs)
    assert log.size == 3  # certified, but the batches are not here
    (first, second, *rest) = [one for one in HISTORY if one not in inputs]
    assert feed(log, second, *rest).size == 3
    take_in(log, first)
    assert set(log.advance()) == {DORA.address, EMIL.address, FAY.address}
    assert told(log) == told(feed(AdmissionLog(MESH), *HISTORY))


# -- contradictions --------------------------------------------------------------------------------


def test_two_certificates_after_one_state_stop_the_log() -> None:
    log = feed(AdmissionLog(MESH), *SPLIT)
    assert (log.size, log.root) == (SMALLER.size, SMALLER.root)
    found = log.contradiction
    assert found is not None
    assert (found.one.checkpoint, found.other.checkpoint) == (SMALLER, LARGER)
    before = told(log)
    follow(log, ANN, release(9), by=[BEN, CLEO])
    assert told(log) == before


def test_who_was_undone_is_told_of() -> None:
    inputs = [one for one in SPLIT if isinstance(one, tuple)]
    votes = [one for one in SPLIT if isinstance(one, Vote)]
    late = [one for one in votes if one.checkpoint == SMALLER and one.witness != ANN.address]
    log = feed(AdmissionLog(MESH), *inputs, *(one for one in votes if one not in late))
    assert log.size > LARGER.size
    assert log.contradiction is None
    agent = {5: EMIL.address, 6: FAY.address}
    for one in late:
        take_in(log, one)
    assert {agent[LARGER.size], agent[SMALLER.size]} <= set(log.advance())
    assert log.root == SMALLER.root
    assert log.registry.seat(agent[LARGER.size]) is None


def test_its_proof_convinces_who_holds_the_genesis_alone() -> None:
    log = AdmissionLog(MESH)
    one, _ = proposed(log, ANN, ANN.admits(DORA), by=[BEN])
    other, _ = proposed(log, ANN, ANN.admits(EMIL), by=[CLEO])
    feed(log, one, other, BEN.votes(one[1].checkpoint), CLEO.votes(other[1].checkpoint))
    found = log.contradiction
    assert found is not None
    shown = Contradiction.decode(found.encode())
    registry = Registry(MESH)
    shown.verify(MESH.mesh_id, registry.registrars, registry.quorum)
    assert shown.both == (ANN.address,)
    for wrong in (
        Contradiction(shown.one, shown.one),
        Contradiction(shown.one, replace(shown.other, signatures=shown.one.signatures)),
        Contradiction(shown.one, replace(shown.other, signatures=shown.other.signatures[:1])),
    ):
        code(lambda wrong=wrong: wrong.verify(MESH.mesh_id, registry.registrars, registry.quorum))


def test_the_same_way_on_in_two_attempts_is_no_contradiction() -> None:
    log = AdmissionLog(MESH)
    inputs = proposed(log, ANN, ANN.admits(DORA), by=[BEN])
    inputs += proposed(log, BEN, ANN.admits(DORA), by=[CLEO], attempt=1)
    assert feed(log, *inputs).contradiction is None
    assert log.size == 4


def test_everyone_who_signed_both_is_named() -> None:
    log, (ann, ben, cleo, dora) = AdmissionLog(FOUR), OF_FOUR
    inputs = proposed(log, ann, ann.admits(Person("emil", FOUR)), by=[ben, cleo, dora])
    inputs += proposed(log, ben, ben.admits(Person("fay", FOUR)), by=[ann, cleo, dora], attempt=1)
    found = feed(log, *inputs).contradiction
    assert found is not None
    assert set(found.both) == {one.address for one in OF_FOUR}


# -- resolution ------------------------------------------------------------------------------------


@pytest.mark.parametrize("checkpoint", [SMALLER, LARGER])
def test_registrars_choose_the_way_on(checkpoint: Checkpoint) -> None:
    log = feed(AdmissionLog(MESH), *SPLIT, chooses(checkpoint, CLEO))
    assert log.contradiction is None
    assert log.size == checkpoint.size + 1  # with what had come after it
    assert log.steps()[1].certificate.checkpoint == checkpoint
    follow(log, ANN, release(9), by=[BEN])
    assert log.size == checkpoint.size + 2
    # Before it is needed, the choice is heard as well.
    early = feed(AdmissionLog(MESH), chooses(checkpoint, CLEO), *SPLIT)
    assert told(early) == told(feed(AdmissionLog(MESH), *SPLIT, chooses(checkpoint, CLEO)))


def test_who_signed_both_has_no_say() -> None:
    log = feed(AdmissionLog(MESH), *SPLIT)
    before = told(log)
    feed(log, chooses(LARGER, ANN), chooses(LARGER, DORA, EMIL), chooses(SMALLER, ANN))
    assert told(log) == before
    feed(log, chooses(replace(LARGER, root=seed("elsewhere")), BEN, CLEO))
    feed(log, chooses(replace(LARGER, base_root=seed("elsewhere")), BEN, CLEO))
    assert told(log) == before
    assert feed(log, chooses(LARGER, BEN)).contradiction is None


def test_it_takes_as_many_as_the_genesis_says() -> None:
    mesh = genesis("log of two", NAMES[:3], 2)
    log = AdmissionLog(mesh)
    ann, ben, cleo = (Person(name, mesh) for name in NAMES[:3])
    inputs = [
        proposed(log, ann, ben.approves(ann.admits(Person(name, mesh))), by=[by])
        for name, by in (("emil", ben), ("fay", cleo))
    ]
    feed(log, *inputs[0], *inputs[1])
    chosen = inputs[0][0][1].checkpoint
    assert feed(log, chooses(chosen, ann, ben)).contradiction is not None
    assert feed(log, chooses(chosen, cleo)).contradiction is None
    assert log.root == chosen.root


def test_if_all_signed_both_all_have_a_say() -> None:
    alone = genesis("alone", NAMES[:1])
    ann, log = Person("ann", alone), AdmissionLog(alone)
    inputs = [
        one
        for name in ("emil", "fay")
        for one in proposed(log, ann, ann.admits(Person(name, alone)))
    ]
    assert feed(log, *inputs).contradiction is not None
    for _, batch in inputs:
        log = feed(AdmissionLog(alone), *inputs, chooses(batch.checkpoint, ann))
        assert (log.contradiction, log.root) == (None, batch.checkpoint.root)


# -- limits ----------------------------------------------------------------------------------------


def junk(at: int) -> Checkpoint:
    log = AdmissionLog(MESH)
    return Checkpoint(MESH.mesh_id, 3, log.root, 4, seed(f"junk {at}"), at)


def test_what_one_witness_signs_for_one_state_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "VOTES_PER_WITNESS", 40)
    log, entry = AdmissionLog(MESH), release(1)
    for at in range(limits.VOTES_PER_WITNESS + 9):
        log.add_batch(ANN.address, Batch(Vote(junk(at), ANN.address, bytes(65)), (entry,)))
    assert len(log.votes()) == limits.VOTES_PER_WITNESS
    assert len(log.candidates()) == limits.BATCHES_PER_AUTHOR
    # It costs nobody else anything.
    follow(log, BEN, BEN.admits(DORA), by=[CLEO], attempt=1)
    assert log.size == 4


def test_what_a_witness_floods_with_keeps_nobody_from_following() -> None:
    log = AdmissionLog(MESH)
    inputs = proposed(log, ANN, ANN.admits(DORA), by=[BEN])
    for at in range(limits.BATCHES_PER_AUTHOR):
        batch = Batch(Vote(junk(at), ANN.address, bytes(65)), (release(at),))
        take_in(log, (ANN.address, batch))
    assert feed(log, *inputs).size == 3  # certified, and not here
    (_, lacking), _ = inputs
    assert log.wanted == lacking.checkpoint
    assert feed(log, inputs[0]).size == 4  # offered again
    assert log.wanted is None
