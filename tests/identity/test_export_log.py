"""Papers for strangers: when they hold, and what becomes of them as the log grows."""

from collections.abc import Callable
from typing import Any

from permesh.identity.entry import Entry
from permesh.identity.hello import Hello
from permesh.identity.owner import OwnerStatement
from permesh.identity.proof import LogProof
from permesh.identity.roster import Roster
from permesh.identity.signed import SKEW_MS

from .papers import (
    AFTER,
    ANN,
    BEN,
    CHANGED,
    CLEO,
    DORA,
    EMIL,
    FAY,
    LET_IN,
    MESH,
    admits,
    check,
    code,
    doras,
    forged,
    grown,
    papers,
    refusal,
    replaces,
)
from .people import START_MS, Person, append

MOVED = Person("dora-two", MESH, owner_name="dora")


def decided(entry: Entry) -> Entry:
    return ANN.approves(BEN.approves(entry))


def says(make: Callable[..., OwnerStatement], *more: Any) -> Entry:
    """Of dora's owner about dora's first key."""
    return Entry.of(make(MESH.mesh_id, DORA.owner, DORA.address, *more, START_MS))


# -- when they hold --------------------------------------------------------------------------------


def test_they_hold_as_long_as_the_credential_and_the_clocks_difference() -> None:
    document = doras()
    expires, issued = DORA.credential().expires_ms, DORA.credential().issued_ms
    check(document, expires + SKEW_MS)
    assert code(lambda: check(document, expires + SKEW_MS + 1)) == "credential.expired"
    assert code(lambda: check(document, expires + SKEW_MS + 1000)) == "credential.expired"
    check(document, issued - SKEW_MS)
    assert code(lambda: check(document, issued - SKEW_MS - 1)) == "credential.not_yet_valid"


def test_an_altered_one_is_called_altered_and_not_merely_old() -> None:
    late = DORA.credential().expires_ms + SKEW_MS + 1000
    credential = doras()["credential"]
    later = {**credential, "expires_ms": credential["expires_ms"] + 10**9}
    altered = {**doras(), "credential": later}
    assert code(lambda: check(altered, late)) == "export.altered"


# -- what became of the log meanwhile --------------------------------------------------------------


def test_who_was_let_in_before_registrars_changed_is_shown_before_and_after() -> None:
    early = grown((ANN, [admits(FAY)], [CLEO]))
    before = papers(early, FAY)
    append(early.log, ANN, admits(DORA), by=[BEN])
    append(early.log, BEN, replaces(DORA, ANN, BEN, CLEO), by=[CLEO])
    append(early.log, BEN, admits(EMIL, BEN, DORA), by=[DORA])
    after = papers(early, FAY)
    assert check(before).seat == check(after).seat
    assert [one["size"] for one in before["log"]] == [4]
    assert [(one["size"], one["entries"]) for one in after["log"]] == [
        (5, [4, 5]),
        (6, [6]),
        (7, []),
    ]


def test_who_was_let_in_by_a_later_registrar_shows_how_it_became_one() -> None:
    document = papers(grown(LET_IN, CHANGED, AFTER), EMIL)
    seat = check(document).seat
    assert (seat.number, seat.approved_by) == (6, tuple(sorted((BEN.address, DORA.address))))
    assert [one["entries"] for one in document["log"]] == [[4], [5], [6]]
    assert "0x" + DORA.address.hex() in document["log"][-1]["cosigned_by"]


def test_who_leaves_out_how_registrars_changed_is_not_believed() -> None:
    roster = grown(LET_IN, CHANGED, AFTER)
    proof = LogProof.make(roster.log, EMIL.address)
    for kept in (proof.sections[-1:], proof.sections[1:], proof.sections[::2]):
        shown = Hello(EMIL.credential(), None, LogProof(kept))
        refusal(lambda shown=shown: check(forged(shown)))
    shown = Hello(EMIL.credential(), None, LogProof(proof.sections[:-1]))
    assert code(lambda: check(forged(shown))) == "credential.not_admitted"


def test_a_registrar_that_was_replaced_is_still_a_member() -> None:
    document = papers(grown(LET_IN, CHANGED, AFTER), CLEO)
    assert check(document).seat.number == 3


def refuses_papers(roster: Roster, person: Person) -> None:
    """Neither made, nor believed of one who makes them in another way."""
    assert code(lambda: papers(roster, person)) == "export.not_served"
    shown = Hello(person.credential(), None, LogProof.make(roster.log, person.address))
    assert code(lambda: check(forged(shown))) == "export.not_served"


def test_a_revoked_key_has_no_papers_but_those_of_before_still_read() -> None:
    roster = grown(LET_IN)
    before = papers(roster, DORA)
    append(roster.log, ANN, says(OwnerStatement.revoke), by=[BEN])
    refuses_papers(roster, DORA)
    check(before)  # what came after it no paper can show


def test_who_is_suspended_has_none_until_it_is_reinstated() -> None:
    roster = grown(LET_IN)
    for at in (1, 2):
        append(roster.log, ANN, decided(Entry.suspend(DORA.address, "", at)), by=[BEN])
        refuses_papers(roster, DORA)
        append(roster.log, ANN, decided(Entry.reinstate(DORA.address, "", at)), by=[BEN])
        assert check(papers(roster, DORA)).seat.suspended is None


def test_a_moved_id_is_shown_by_its_new_key_alone() -> None:
    roster = grown(LET_IN)
    before = papers(roster, DORA)
    append(roster.log, ANN, says(OwnerStatement.move, MOVED.agent), by=[BEN])
    refuses_papers(roster, DORA)
    check(before)
    document = papers(roster, MOVED)
    seat = check(document).seat
    assert (seat.number, seat.keys) == (4, (DORA.address, MOVED.address))
    assert document["agent"]["keys"] == ["0x" + one.hex() for one in seat.keys]
    assert document["agent"]["name"] == "dora"


def test_a_key_revoked_and_then_left_behind_gives_the_new_one_its_papers() -> None:
    roster = grown(LET_IN)
    append(roster.log, ANN, says(OwnerStatement.revoke), by=[BEN])
    append(roster.log, ANN, says(OwnerStatement.move, MOVED.agent), by=[BEN])
    refuses_papers(roster, DORA)
    assert not check(papers(roster, MOVED)).seat.revoked
