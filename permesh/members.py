"""Members in the API's shapes, and the finding of one by what people call it.

Must never know HTTP, nor who is connected but by what it is told.
"""

from __future__ import annotations

from typing import Literal

from . import schema
from .async_store import AsyncStore
from .errors import NotFound, PermeshError
from .forks import Fork
from .identity.card import address, agent_number, human, release_of, vouched_by
from .identity.chronicle import chronicle
from .identity.credential import Credential
from .identity.entry import Entry
from .identity.registry import Seat
from .identity.roster import CREDENTIAL, Member, Request, Roster
from .store import Store

# In one chronicle: half a year of rotations, every two days.
MAX_ROTATIONS = 100


def shown_member(roster: Roster, member: Member, online: set[str]) -> schema.Member:
    """``online`` are the addresses of the agents that are connected."""
    credential, seat = member.credential, member.seat
    state: Literal["registrar", "member", "suspended", "revoked"] = "member"
    if member.revoked:
        state = "revoked"
    elif seat.suspended is not None:
        state = "suspended"
    elif member.is_registrar:
        state = "registrar"
    return schema.Member(
        agent=address(member.agent),
        owner=address(seat.owner),
        number=agent_number(member.number),
        name=member.name,
        state=state,
        verifier=seat.verifier,
        human=human(seat.verifier),
        vouched_by=vouched_by(roster, member),
        note=seat.suspended or "",
        keys=[address(key) for key in seat.keys],
        requested_ms=seat.requested_ms,
        admitted_ms=seat.admitted_ms,
        epoch=credential.epoch if credential else 0,
        expires_ms=credential.expires_ms if credential else 0,
        runtime=credential.runtime if credential else "",
        runtime_hash=credential.runtime_hash.hex() if credential else "",
        release=release_of(roster, credential.runtime_hash) if credential else "",
        peer_id=credential.peer_id if credential else "",
        online=address(member.agent) in online,
    )


def shown_request(roster: Roster, request: Request) -> schema.Member:
    """One that asks to be let in."""
    wish = request.enrolment
    return schema.Member(
        agent=address(wish.agent),
        owner=address(wish.owner),
        number="",
        name=wish.name,
        state="pending",
        verifier=wish.verifier,
        human=human(wish.verifier),
        approvals=len(roster.approvals(Entry.of(wish))),
        needed=roster.genesis.threshold,
        requested_ms=wish.requested_ms,
        runtime=request.credential.runtime,
        runtime_hash=request.credential.runtime_hash.hex(),
        peer_id=request.credential.peer_id,
    )


async def read_chronicle(store: AsyncStore, roster: Roster, reference: str) -> schema.Chronicle:
    """Of a member by what people call it; raises ``members.unknown``."""
    seat = find_seat(roster, reference)

    def read(reading: Store) -> tuple[list[Credential], list[Fork], int]:
        credentials, forks, total = [], [], 0
        for key in seat.keys:
            total += reading.count_identity_records_of(key, CREDENTIAL)
            found = reading.identity_records_of(key, CREDENTIAL, MAX_ROTATIONS)
            credentials += [Credential.decode(one.body) for one in found]
            forks += reading.forks_of(key)
        return credentials, forks, total

    credentials, forks, total = await store.read(read)
    newest = sorted(credentials, key=lambda one: -one.issued_ms)[:MAX_ROTATIONS]
    return chronicle(roster, seat, newest, forks, total - len(newest))


def find_seat(roster: Roster, reference: str) -> Seat:
    """By number, name, address, or a unique beginning of one; raises ``members.unknown``."""
    wanted = reference.lower()
    seats = roster.log.registry.seats()
    exact = [
        one
        for one in seats
        if wanted in (agent_number(one.number).lower(), *map(address, one.keys))
    ]
    named = [one for one in seats if wanted == one.name]
    begun = [one for one in seats if len(wanted) > 2 and address(one.agent).startswith(wanted)]
    found = exact or list({one.number: one for one in (*named, *begun)}.values())
    if len(found) > 1:
        raise PermeshError(
            "members.ambiguous",
            f"'{reference[:64]}' stands for {len(found)} members.",
            "Give the number that 'permesh members' shows.",
            http_status=409,
        )
    if not found:
        raise NotFound(
            "members.unknown",
            f"There is no member '{reference[:64]}'.",
            "See who is one: permesh members",
        )
    return found[0]
