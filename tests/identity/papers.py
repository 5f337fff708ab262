"""Papers that members of a small mesh show to strangers, from logs that grew in several ways."""

import base64
import json
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest

from permesh.errors import Refused
from permesh.identity.entry import Entry, RegistrarChange
from permesh.identity.export import check_document, credential_document, read_json
from permesh.identity.genesis import Genesis
from permesh.identity.hello import Hello
from permesh.identity.roster import Roster

from .people import START_MS, Person, append, genesis

MESH = genesis("papers", ("ann", "ben", "cleo"), 2)
ELSEWHERE = genesis("elsewhere", ("ann", "ben", "cleo"), 2)
ANN, BEN, CLEO, DORA, EMIL, FAY = (
    Person(name, MESH) for name in ("ann", "ben", "cleo", "dora", "emil", "fay")
)


def refusal(action: Callable[[], Any]) -> Refused:
    with pytest.raises(Refused) as caught:
        action()
    assert caught.value.message
    assert len(str(caught.value)) < 400
    return caught.value


def code(action: Callable[[], Any]) -> str:
    return refusal(action).code


def admits(person: Person, one: Person = ANN, other: Person = BEN) -> Entry:
    return one.approves(other.admits(person))


def replaces(added: Person, removed: Person, one: Person, other: Person, at: int = 1) -> Entry:
    change = RegistrarChange(added.address, removed.address, at)
    return one.approves(other.approves(Entry.of(change)))


def grown(*batches: tuple[Person, list[Entry], list[Person]]) -> Roster:
    roster = Roster(MESH)
    for proposer, entries, by in batches:
        size = roster.log.size
        append(roster.log, proposer, *entries, by=by)
        assert roster.log.size == size + len(entries)
    return roster


LET_IN = (ANN, [admits(DORA)], [BEN])
CHANGED = (ANN, [replaces(DORA, CLEO, ANN, BEN)], [BEN])
AFTER = (BEN, [admits(EMIL, BEN, DORA), admits(FAY, ANN, DORA)], [DORA])


def travelled(document: Any) -> Any:
    """As a stranger reads it."""
    return read_json(json.dumps(document).encode())


def papers(roster: Roster, person: Person, **changes: Any) -> Any:
    return travelled(credential_document(roster, person.credential(**changes)))


def check(document: Any, now_ms: int = START_MS, mesh: Genesis = MESH) -> Any:
    return check_document(document, mesh, now_ms)


@cache
def doras() -> dict[str, Any]:
    return papers(grown(LET_IN), DORA)


def forged(shown: Hello) -> dict[str, Any]:
    """Dora's papers with other bytes in them."""
    return {**doras(), "encoded": base64.b64encode(shown.encode()).decode()}


@cache
def torn() -> Roster:
    """A mesh whose log goes on in two ways: ann signed both, one of the others each."""
    roster = grown(LET_IN, CHANGED)
    batches = [ANN.proposes(roster.log, [admits(one)]) for one in (EMIL, FAY)]
    for batch, other in zip(batches, (BEN, DORA), strict=True):
        roster.log.add_batch(ANN.address, batch)
        roster.log.add_vote(other.votes(batch.checkpoint))
    roster.log.advance()
    assert roster.log.contradiction is not None
    return roster
