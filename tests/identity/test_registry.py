"""The fold over the log's entries: what fits, what follows from it, and that a refusal is no trace.

Signatures are checked before and elsewhere, so most of what is signed here is not.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from random import Random
from typing import Any

import pytest

from permesh.errors import Refused
from permesh.identity.entry import Approval, Entry, RegistrarChange, Release, Resolution
from permesh.identity.owner import MOVE, REPAIR, REVOKE, OwnerStatement
from permesh.identity.person import FOUNDING, VOUCHED
from permesh.identity.registry import APPROVALS_SPAN_MS, Registry, Seat

from .people import DAY_MS, START_MS, Person, genesis, seed, wallet

MESH = genesis("registry", ("ann", "ben", "cleo"), 2)
ANN, BEN, CLEO, DORA, EMIL, FAY = (
    Person(name, MESH) for name in ("ann", "ben", "cleo", "dora", "emil", "fay")
)
NEW = wallet("new agent").address


def approved(entry: Entry, *by: Person, at: int = START_MS) -> Entry:
    approvals = (Approval(one.address, at, bytes(65)) for one in by)
    return entry.approved_by(*entry.approvals, *approvals)


def admits(person: Person, /, *by: Person, **changes: Any) -> Entry:
    enrolment = replace(person.enrolment, **changes)
    return approved(Entry.of(enrolment), *(by or (ANN, BEN)))


def replaces(added: Person | None, removed: Person | None, *by: Person, at: int = 1) -> Entry:
    new, old = (one.address if one else b"" for one in (added, removed))
    return approved(Entry.of(RegistrarChange(new, old, at)), *(by or (ANN, BEN)))


def suspends(person: Person, *by: Person, reason: str = "Away.", at: int = 1) -> Entry:
    return approved(Entry.suspend(person.address, reason, at), *(by or (ANN, BEN)))


def reinstates(person: Person, *by: Person, at: int = 1) -> Entry:
    return approved(Entry.reinstate(person.address, "Back.", at), *(by or (ANN, BEN)))


def releases(accepted: bool, *by: Person, at: int = 1) -> Entry:
    entry = Entry.of(Release("0.2.0", seed("runtime"), accepted, at))
    return approved(entry, *(by or (ANN, BEN)))


def says(person: Person, act: str, **changes: Any) -> Entry:
    """Of its owner; a move is to `NEW` unless it is told otherwise."""
    values: dict[str, Any] = {"owner_signature": bytes(65)}
    if act == MOVE:
        values |= {"new_agent": NEW, "new_agent_signature": bytes(65)}
    elif act == REPAIR:
        values |= {"seq": 7, "record": seed("record")}
    said = OwnerStatement(MESH.mesh_id, act, person.owner.address, person.address, START_MS)
    return Entry.of(replace(said, **values | changes))


def take(registry: Registry, *entries: Entry) -> Registry:
    for entry in entries:
        registry.extend([entry], len(registry._digests) + 1)
    return registry


def folded(*entries: Entry) -> Registry:
    return take(Registry(MESH), *entries)


def state(registry: Registry) -> dict[str, Any]:
    """All of it."""
    return {
        name: dict(value) if isinstance(value, dict) else value
        for name, value in vars(registry).items()
    }


def code(action: Callable[[], Any]) -> str:
    with pytest.raises(Refused) as caught:
        action()
    assert caught.value.message
    return caught.value.code


def refused(registry: Registry, *entries: Entry) -> str:
    """Of the same entries whether they are tried out or taken in; neither leaves a trace."""
    before, first = state(registry), len(registry._digests) + 1
    found = code(lambda: registry.try_out(entries, first))
    assert state(registry) == before
    assert code(lambda: registry.extend(entries, first)) == found
    assert state(registry) == before
    return found


def seat(registry: Registry, person: Person) -> Seat:
    found = registry.seat(person.address)
    assert found is not None
    return found


# -- founders and members --------------------------------------------------------------------------


def test_it_begins_with_the_founders() -> None:
    registry = Registry(MESH)
    assert [(one.number, one.name) for one in registry.seats()] == [
        *enumerate(("ann", "ben", "cleo"), 1)
    ]
    assert seat(registry, ANN).verifier == FOUNDING
    assert registry.registrars == (ANN.address, BEN.address, CLEO.address)
    assert all(registry.may_decide(one) for one in registry.registrars)
    assert seat(registry, ANN).approved_by == ()
    assert seat(registry, ANN).admitted_ms == MESH.created_ms
    assert set(registry.known_registrars) == set(registry.registrars)


@pytest.mark.parametrize("count", range(1, 8))
def test_a_quorum_is_more_than_half(count: int) -> None:
    registry = Registry(genesis("quorum", tuple(f"founder-{at}" for at in range(count))))
    assert registry.quorum > count / 2 >= registry.quorum - 1


def test_a_member_is_whom_enough_registrars_let_in() -> None:
    entry = approved(admits(DORA, CLEO), ANN, at=START_MS + 5)
    registry = folded(entry)
    assert registry.seat(DORA.address) == Seat(
        4, "dora", DORA.owner.address, (DORA.address,), DORA.enrolment.person, VOUCHED,
        START_MS, START_MS + 5, tuple(sorted((ANN.address, CLEO.address))),
    )  # fmt: skip
    assert registry.holds(entry.digest)
    assert not registry.holds(admits(EMIL).digest)
    assert not registry.may_decide(DORA.address)
    assert registry.seat(EMIL.address) is None


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        (admits(EMIL, person=DORA.enrolment.person), "admission.person_taken"),
        (admits(EMIL, person=ANN.enrolment.person), "admission.person_taken"),
        (admits(EMIL, owner=DORA.owner.address), "admission.owner_taken"),
        (admits(EMIL, owner=ANN.owner.address), "admission.owner_taken"),
        (admits(EMIL, owner=DORA.address), "admission.owner_taken"),
        (admits(EMIL, agent=DORA.address), "admission.agent_taken"),
        (admits(EMIL, agent=ANN.address), "admission.agent_taken"),
        (admits(EMIL, agent=DORA.owner.address), "admission.agent_taken"),
        (admits(DORA, requested_ms=START_MS + 9), "admission.person_taken"),
        (admits(DORA), "log.twice"),
        (admits(DORA, ANN, CLEO), "log.twice"),
    ],
)
def test_one_human_has_one_owner_and_one_agent(entry: Entry, expected: str) -> None:
    assert refused(folded(admits(DORA)), entry) == expected
    assert refused(Registry(MESH), admits(DORA), entry) == expected


def test_a_former_key_is_taken_for_ever() -> None:
    registry = folded(admits(DORA), says(DORA, MOVE))
    for agent in (DORA.address, NEW):
        assert refused(registry, admits(EMIL, agent=agent)) == "admission.agent_taken"
        assert refused(registry, admits(EMIL, owner=agent)) == "admission.owner_taken"


def test_a_number_is_the_place_in_the_log() -> None:
    registry = folded(releases(True), admits(DORA), suspends(DORA), admits(EMIL))
    assert [one.number for one in registry.seats()] == [1, 2, 3, 5, 7]


# -- approvals -------------------------------------------------------------------------------------

DECIDED: dict[str, Callable[..., Entry]] = {
    "admission": lambda *by: admits(EMIL, *by),
    "registrars": lambda *by: replaces(DORA, None, *by),
    "suspension": lambda *by: suspends(DORA, *by),
    "release": lambda *by: releases(True, *by),
}
every_kind = pytest.mark.parametrize("decides", DECIDED.values(), ids=list(DECIDED))


@every_kind
def test_it_takes_as_many_as_the_genesis_says(decides: Callable[..., Entry]) -> None:
    registry = folded(admits(DORA))
    for one in (ANN, BEN, CLEO):
        assert refused(registry, decides(one)) == "approval.threshold"
    for two in ((ANN, BEN), (BEN, CLEO), (CLEO, ANN), (ANN, BEN, CLEO)):
        registry.try_out([decides(*two)], 5)


@every_kind
def test_an_approval_too_many_is_refused_if_it_is_nobodys(decides: Callable[..., Entry]) -> None:
    registry = folded(admits(DORA))
    for other in (DORA, EMIL, FAY):
        assert refused(registry, decides(ANN, BEN, other)) == "approval.not_registrar"
        assert refused(registry, decides(ANN, other)) == "approval.not_registrar"


def test_a_former_registrar_decides_nothing() -> None:
    registry = folded(admits(DORA), replaces(None, CLEO))
    assert refused(registry, admits(EMIL, ANN, CLEO)) == "approval.not_registrar"
    assert CLEO.address in registry.known_registrars


def test_a_revoked_registrar_decides_nothing() -> None:
    registry = folded(says(CLEO, REVOKE))
    assert not registry.may_decide(CLEO.address)
    assert CLEO.address in registry.registrars
    assert refused(registry, admits(DORA, ANN, CLEO)) == "approval.not_registrar"
    take(registry, admits(DORA))


def test_nobody_has_a_say_about_itself() -> None:
    registry = folded(admits(DORA))
    for entry in (replaces(None, CLEO, ANN, CLEO), replaces(DORA, CLEO, ANN, BEN, CLEO)):
        assert refused(registry, entry) == "approval.not_registrar"
        assert entry.subject == CLEO.address
    assert refused(registry, suspends(DORA, ANN, DORA)) == "approval.not_registrar"
    assert suspends(DORA).subject == reinstates(DORA).subject == DORA.address
    assert replaces(DORA, None).subject == admits(EMIL).subject == releases(True).subject == b""
    take(registry, replaces(DORA, CLEO))


def test_approvals_far_apart_have_lapsed() -> None:
    registry = Registry(MESH)
    late = START_MS + APPROVALS_SPAN_MS
    assert APPROVALS_SPAN_MS == 30 * DAY_MS
    entry = approved(admits(DORA, BEN), ANN, at=late + 1)
    assert refused(registry, entry) == "approval.lapsed"
    # One more that came too late spoils it: whoever proposes leaves that out.
    entry = approved(admits(DORA, ANN, BEN), CLEO, at=late + 1)
    assert refused(registry, entry) == "approval.lapsed"
    take(registry, approved(admits(DORA, BEN), ANN, at=late))


# -- who decides -----------------------------------------------------------------------------------


def test_a_member_becomes_a_registrar_and_decides() -> None:
    registry = folded(admits(DORA), replaces(DORA, None))
    assert registry.registrars == (ANN.address, BEN.address, CLEO.address, DORA.address)
    assert registry.quorum == 3
    take(registry, admits(EMIL, CLEO, DORA))
    assert seat(registry, EMIL).approved_by == tuple(sorted((CLEO.address, DORA.address)))
    # The entries that change who decides, and those that admitted these.
    assert set(registry.authority) == {4, 5}


def test_a_registrar_that_replaces_another_takes_its_place() -> None:
    registry = folded(admits(DORA), admits(EMIL), replaces(DORA, BEN, ANN, CLEO))
    assert registry.registrars == (ANN.address, DORA.address, CLEO.address)
    take(registry, replaces(EMIL, ANN, DORA, CLEO))
    assert registry.registrars == (EMIL.address, DORA.address, CLEO.address)
    take(registry, replaces(ANN, None, EMIL, CLEO))
    assert registry.registrars == (EMIL.address, DORA.address, CLEO.address, ANN.address)


def test_registrars_are_removed_until_as_many_are_left_as_decide() -> None:
    registry = folded(replaces(None, ANN, BEN, CLEO))
    assert registry.registrars == (BEN.address, CLEO.address)
    assert registry.quorum == 2
    assert refused(registry, replaces(None, BEN, CLEO)) == "registrar.too_few"


def test_a_mesh_has_no_more_registrars_than_a_genesis_may_name() -> None:
    full = genesis("full", tuple(f"founder-{at}" for at in range(32)))
    first, last, late = (Person(name, full) for name in ("founder-0", "founder-31", "late"))
    registry = take(Registry(full), admits(late, first))
    refused(registry, replaces(late, None, first))
    assert len(take(registry, replaces(late, last, first)).registrars) == 32


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        (replaces(EMIL, None), "registrar.not_member"),  # not let in
        (replaces(FAY, None), "registrar.not_member"),  # suspended
        (replaces(BEN, None), "registrar.already"),
        (replaces(BEN, CLEO), "registrar.already"),
        (replaces(None, DORA), "registrar.not_one"),
        (replaces(DORA, EMIL), "registrar.not_one"),
        (replaces(DORA, FAY), "registrar.not_one"),
    ],
)
def test_only_members_become_registrars(entry: Entry, expected: str) -> None:
    assert refused(folded(admits(DORA), admits(FAY), suspends(FAY)), entry) == expected


def test_neither_a_revoked_member_nor_a_former_key_becomes_a_registrar() -> None:
    registry = folded(admits(DORA), says(DORA, REVOKE))
    assert refused(registry, replaces(DORA, None)) == "registrar.not_member"
    take(registry, says(DORA, MOVE))
    assert refused(registry, replaces(DORA, None)) == "registrar.not_member"
    by_new = approved(Entry.of(RegistrarChange(NEW, b"", 1)), ANN, BEN)
    assert take(registry, by_new).may_decide(NEW)


def test_the_same_change_again_is_proposed_afresh() -> None:
    registry = folded(admits(DORA), replaces(DORA, None), replaces(None, DORA))
    assert refused(registry, replaces(DORA, None)) == "log.twice"
    assert refused(registry, replaces(DORA, None, ANN, CLEO)) == "log.twice"
    assert take(registry, replaces(DORA, None, at=2)).may_decide(DORA.address)


# -- suspension ------------------------------------------------------------------------------------


def test_a_suspended_member_is_reinstated() -> None:
    registry = folded(admits(DORA), suspends(DORA, reason="Spam."))
    assert (seat(registry, DORA).suspended, seat(registry, DORA).active) == ("Spam.", False)
    assert refused(registry, suspends(DORA, at=2)) == "suspension.already"
    take(registry, reinstates(DORA))
    assert (seat(registry, DORA).suspended, seat(registry, DORA).active) == (None, True)
    assert refused(registry, reinstates(DORA, at=2)) == "suspension.already"
    assert refused(registry, suspends(DORA, reason="Spam.")) == "log.twice"
    take(registry, suspends(DORA, reason="", at=3))
    assert (seat(registry, DORA).suspended, seat(registry, DORA).active) == ("", False)
    assert seat(registry, DORA).changes == (5, 6, 7)
    assert not seat(take(registry, says(DORA, MOVE)), DORA).active  # whatever its key


@pytest.mark.parametrize("act", [suspends, reinstates])
def test_who_is_not_suspended(act: Callable[[Person], Entry]) -> None:
    registry = folded(admits(DORA), says(DORA, MOVE))
    assert refused(registry, act(EMIL)) == "suspension.unknown"
    assert refused(registry, act(DORA)) == "suspension.unknown"  # a former key
    assert refused(registry, act(CLEO)) == "suspension.registrar"


# -- releases --------------------------------------------------------------------------------------


def test_a_release_is_accepted_and_no_longer() -> None:
    registry = folded(releases(True))
    assert registry.releases[seed("runtime")].accepted
    assert refused(registry, releases(True, BEN, CLEO)) == "log.twice"
    take(registry, releases(False))
    assert not registry.releases[seed("runtime")].accepted
    take(registry, releases(True, at=2))
    assert registry.releases[seed("runtime")].accepted


# -- owners ----------------------------------------------------------------------------------------


def test_an_owner_revokes_its_agents_key() -> None:
    registry = folded(admits(DORA), says(DORA, REVOKE))
    assert (seat(registry, DORA).revoked, seat(registry, DORA).active) == (True, False)
    assert refused(registry, says(DORA, REVOKE, said_ms=START_MS + 1)) == "owner.already"
    assert registry.authority == {}


def test_an_owner_moves_the_id_and_its_number_to_another_key() -> None:
    registry = folded(admits(DORA), says(DORA, REVOKE), says(DORA, MOVE))
    moved = seat(registry, DORA)
    assert moved == registry.seat(NEW)
    assert (moved.number, moved.keys, moved.agent) == (4, (DORA.address, NEW), NEW)
    assert (moved.revoked, moved.active, moved.changes) == (False, True, (5, 6))
    for act in (REVOKE, MOVE):
        new = wallet("newer agent").address if act == MOVE else bytes(20)
        late = says(DORA, act, said_ms=START_MS + 1, new_agent=new)
        assert refused(registry, late) == "owner.old_key"
        take(registry, says(DORA, act, agent=registry.seats()[-1].agent, new_agent=new))
    assert seat(registry, DORA).agent == wallet("newer agent").address
    assert seat(registry, DORA).active


@pytest.mark.parametrize(
    "new", [ANN.address, ANN.owner.address, EMIL.address, EMIL.owner.address], ids=range(4)
)
def test_an_id_is_not_moved_to_a_key_in_use(new: bytes) -> None:
    registry = folded(admits(DORA), admits(EMIL))
    assert refused(registry, says(DORA, MOVE, new_agent=new)) == "owner.agent_taken"
    # Nor back to a former key of its own.
    back = says(DORA, MOVE, agent=NEW, new_agent=DORA.address)
    assert refused(take(registry, says(DORA, MOVE)), back) == "owner.agent_taken"


@pytest.mark.parametrize("act", [REVOKE, MOVE, REPAIR])
def test_nobody_else_speaks_for_an_agent(act: str) -> None:
    registry = folded(admits(DORA))
    for owner in (EMIL.owner.address, ANN.owner.address, DORA.address):
        assert refused(registry, says(DORA, act, owner=owner)) == "owner.not_owner"
    assert refused(registry, says(EMIL, act)) == "owner.not_owner"


def test_an_owner_repairs_a_place_in_its_agents_chain_once() -> None:
    registry = folded(admits(DORA), says(DORA, REPAIR))
    assert registry.repairs == {(DORA.address, 7): seed("record")}
    other = says(DORA, REPAIR, record=seed("another record"))
    assert refused(registry, other) == "owner.already"
    take(registry, says(DORA, REPAIR, seq=8), says(DORA, MOVE))
    # Of a former key too: its chain is read for ever.
    take(registry, says(DORA, REPAIR, seq=9))
    assert set(registry.repairs) == {(DORA.address, seq) for seq in (7, 8, 9)}
    assert seat(registry, DORA).changes == (5, 6, 7, 8)


def test_a_registrar_that_moves_keeps_its_place() -> None:
    registry = folded(says(BEN, MOVE))
    assert registry.registrars == (ANN.address, NEW, CLEO.address)
    assert registry.may_decide(NEW)
    assert not registry.may_decide(BEN.address)
    assert {BEN.address, NEW} <= set(registry.known_registrars)
    assert set(registry.authority) == {4}
    assert refused(registry, admits(DORA, ANN, BEN)) == "approval.not_registrar"


def test_a_revoked_registrar_decides_again_with_its_new_key() -> None:
    registry = folded(says(BEN, REVOKE), says(BEN, MOVE))
    assert registry.registrars == (ANN.address, NEW, CLEO.address)
    assert registry.may_decide(NEW)
    assert set(registry.authority) == {4, 5}
    # What concerns no registrar says nothing of who decides.
    take(registry, admits(DORA, ANN, CLEO), says(DORA, REVOKE))
    assert set(registry.authority) == {4, 5}


# -- what is no entry ------------------------------------------------------------------------------


def test_some_kinds_do_not_stand_in_the_log() -> None:
    resolution = approved(Entry.of(Resolution(3, seed("base"), seed("root"))), ANN, BEN)
    assert refused(Registry(MESH), resolution) == "log.kind"
    another = replace(MESH.registrars[0], agent=NEW, owner=EMIL.address, person=seed("another"))
    assert refused(Registry(MESH), Entry.founder(another)) == "log.kind"
    assert refused(Registry(MESH), Entry.founder(MESH.registrars[0])) == "log.twice"


def test_an_entry_that_cannot_be_read_is_refused() -> None:
    for data in (b"", b"\xc0", DORA.enrolment.encode()[:-1]):
        refused(Registry(MESH), admits(EMIL), replace(admits(DORA), data=data))


# -- no trace --------------------------------------------------------------------------------------

# Everything that fits, in an order in which it does.
HISTORY = (
    admits(DORA), releases(True), admits(EMIL), replaces(DORA, BEN, ANN, CLEO),
    suspends(EMIL, ANN, DORA), says(EMIL, REVOKE), says(EMIL, MOVE), says(EMIL, REPAIR),
    releases(False, CLEO, DORA), says(DORA, REVOKE), says(DORA, MOVE, new_agent=BEN.address[::-1]),
    admits(FAY, ANN, CLEO), replaces(BEN, None, ANN, CLEO), replaces(None, ANN, BEN, CLEO),
)  # fmt: skip


@pytest.mark.parametrize("length", range(len(HISTORY) + 1))
def test_what_is_tried_out_or_refused_leaves_no_trace(length: int) -> None:
    registry = folded(*HISTORY[:length])
    before = state(registry)
    registry.try_out(HISTORY[length:], length + 4)
    assert state(registry) == before
    assert refused(registry, *HISTORY[length:], admits(DORA)) == "log.twice"
    # All at once is the same as one by one.
    registry.extend(HISTORY[length:], length + 4)
    assert state(registry) == state(folded(*HISTORY))
    assert registry.registrars == (BEN.address[::-1], CLEO.address, BEN.address)


def pool() -> Iterable[Entry]:
    """Entries of all kinds, most of which do not fit most of the time."""
    everyone = (ANN, BEN, CLEO, DORA, EMIL, FAY)
    for at, one in enumerate(everyone):
        by = [other for other in everyone[:4] if other is not one]
        for two in (by[:2], by[1:3]):
            yield admits(one, *two)
            yield suspends(one, *two, at=at)
            yield reinstates(one, *two, at=at)
            yield replaces(one, None, *two)
            yield replaces(None, one, *two)
            yield replaces(one, everyone[at - 1], *two)
        yield says(one, REVOKE)
        yield says(one, REPAIR)
        yield says(one, MOVE, new_agent=seed(one.name)[:20])


def test_what_it_says_is_what_the_entries_that_fitted_say() -> None:
    entries = list(pool())
    for number in range(40):
        random, registry, taken = Random(number), Registry(MESH), list[Entry]()
        for _ in range(40):
            chosen = random.choices(entries, k=random.choice((1, 1, 1, 2, 3)))
            before = state(registry)
            try:
                registry.extend(chosen, len(taken) + 4)
            except Refused:
                assert state(registry) == before
            else:
                taken += chosen
        assert taken
        assert state(registry) == state(folded(*taken))
        admitted = [at for at, entry in enumerate(taken, 4) if entry.kind == "admission"]
        assert [one.number for one in registry.seats()] == [1, 2, 3, *admitted]
        assert len({one.person for one in registry.seats()}) == len(registry.seats())
        assert len(set(registry.registrars)) == len(registry.registrars) >= MESH.threshold
