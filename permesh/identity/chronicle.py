"""The Chronicle: an agent's permanent public record, as a fold over records.

Owns what is told of an agent and in which words. Nothing in it is an opinion: each line follows
from an entry of the log, a credential, or two signatures that contradict each other. Tasks join it
with the release that has them. Must never read a clock, a file or a socket.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from permesh import schema
from permesh.forks import Fork
from permesh.schema import ChronicleEvent

from .card import address, agent_number, human
from .credential import Credential
from .entry import Entry, RegistrarChange, Suspension
from .owner import MOVE, REPAIR, OwnerStatement
from .person import FOUNDING
from .registry import Seat
from .roster import Roster

Kind = Literal["title", "suspension", "key"]


def chronicle(
    roster: Roster,
    seat: Seat,
    credentials: Iterable[Credential],
    forks: Iterable[Fork],
    left_out: int = 0,
) -> schema.Chronicle:
    """Of the agent in ``seat``; ``credentials`` and ``forks`` are of all its keys."""
    events = [
        *_admission(roster, seat),
        *_decided(roster, seat),
        *(_rotation(one) for one in credentials),
        *(_fork(roster, one) for one in forks),
        *_double_votes(roster, seat),
    ]
    return schema.Chronicle(
        agent=address(seat.agent),
        number=agent_number(seat.number),
        name=seat.name,
        items=sorted(events, key=lambda one: (one.at_ms, one.entry, one.text)),
        left_out=left_out,
    )


def _admission(roster: Roster, seat: Seat) -> list[ChronicleEvent]:
    if seat.verifier == FOUNDING:
        told = "named a registrar by the genesis"
    else:
        told = f"admitted by {_names(roster, seat.approved_by)}; {human(seat.verifier)}"
    return [ChronicleEvent(at_ms=seat.admitted_ms, kind="admission", text=told, entry=seat.number)]


def _decided(roster: Roster, seat: Seat) -> list[ChronicleEvent]:
    """What the log says later: in the seat's own entries, and in those about registrars."""
    log, keys = roster.log, set(seat.keys)
    founders = len(roster.genesis.registrars)
    numbers = {*seat.changes, *(n for n in log.registry.authority if n > founders)}
    found = []
    for number in sorted(numbers - {seat.number}):
        entry = log.entry(number)
        told = _told(roster, entry, keys)
        if told is not None:
            kind, at_ms, text = told
            found.append(ChronicleEvent(at_ms=at_ms, kind=kind, text=text, entry=number))
    return found


def _told(roster: Roster, entry: Entry, keys: set[bytes]) -> tuple[Kind, int, str] | None:
    content = entry.content()
    by = _names(roster, (one.registrar for one in entry.approvals))
    at_ms = entry.decided_ms
    match content:
        case RegistrarChange(added, removed):
            if added in keys:
                return "title", at_ms, f"became a registrar, approved by {by}"
            if removed in keys:
                return "title", at_ms, f"ceased to be a registrar, approved by {by}"
            return None
        case Suspension(reason=reason):
            verb = "suspended" if entry.kind == "suspension" else "reinstated"
            why = f": {reason}" if reason else ""
            return "suspension", at_ms, f"{verb} by {by}{why}"
        case OwnerStatement(act=act, agent=agent) if agent in keys:
            if act == MOVE:
                told = f"moved by its owner from {address(agent)} to {address(content.new_agent)}"
            elif act == REPAIR:
                told = f"chain repaired by its owner at {content.seq} with {content.record.hex()}"
            else:
                told = f"key {address(agent)} revoked by its owner"
            return "key", content.said_ms, told
    return None


def _rotation(credential: Credential) -> ChronicleEvent:
    told = (
        f"epoch {credential.epoch} began; claims {credential.runtime}, "
        f"hash {credential.runtime_hash.hex()}"
    )
    return ChronicleEvent(at_ms=credential.issued_ms, kind="rotation", text=told)


def _fork(roster: Roster, fork: Fork) -> ChronicleEvent:
    chosen = roster.log.registry.repairs.get((fork.author, fork.seq))
    state = f"; its owner chose {chosen.hex()}" if chosen else "; not repaired"
    told = (
        f"signed two records at {fork.seq} of its chain: {fork.id_a.hex()} and "
        f"{fork.id_b.hex()}{state}"
    )
    return ChronicleEvent(at_ms=0, kind="fault", text=told)


def _double_votes(roster: Roster, seat: Seat) -> list[ChronicleEvent]:
    return [
        ChronicleEvent(
            at_ms=0,
            kind="fault",
            text=f"signed two checkpoints after entry {one.base_size} of the log: "
            f"{one.root.hex()} and {other.root.hex()}",
        )
        for key in seat.keys
        for one, other in roster.log.double_votes(key)
    ]


def _names(roster: Roster, agents: Iterable[bytes]) -> str:
    found = [roster.member(agent) for agent in agents]
    return ", ".join(f"{one.name} ({agent_number(one.number)})" for one in found if one) or "nobody"
