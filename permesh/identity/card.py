"""The Chitin ID card, as data.

Owns what stands on a card and how a number is written. Must never know how a card looks.
"""

from __future__ import annotations

from permesh import schema

from .credential import Credential
from .person import CHITIN, FOUNDING, VOUCHED
from .roster import Member, Roster
from .runtime import runtime_hash, runtime_name

NO_STANDING = "no completed task yet; standing is earned by tasks, which this release has not"


_HUMAN = {
    FOUNDING: "named by the founders in the genesis",
    VOUCHED: "met by the registrars who approved",
    CHITIN: "holds a Chitin soul on Base; one human may hold several",
}


def human(verifier: str) -> str:
    """How a human was seen behind an agent, in words."""
    return _HUMAN.get(verifier, verifier)


def release_of(roster: Roster, runtime_hash: bytes) -> str:
    """Whether the mesh accepts the release that a member claims to run."""
    known = roster.log.registry.releases.get(runtime_hash)
    if known is None:
        return "unknown"
    return "accepted" if known.accepted else "withdrawn"


def vouched_by(roster: Roster, member: Member) -> str:
    """The numbers of the registrars that let it in."""
    found = [roster.member(one) for one in member.seat.approved_by]
    return ", ".join(sorted(agent_number(one.number) for one in found if one))


def agent_number(number: int) -> str:
    return f"AGT-{number:04d}"


def address(raw: bytes) -> str:
    """A 20-byte wallet address as the local API writes it."""
    return "0x" + raw.hex()


def blank_card(*, name: str, agent: str, owner: str, peer_id: str) -> schema.Identity:
    """The card of an identity that belongs to no mesh yet."""
    return schema.Identity(
        name=name,
        number="",
        agent=agent,
        owner=owner,
        peer_id=peer_id,
        session_key="",
        mesh="",
        mesh_id="",
        runtime=runtime_name(),
        runtime_hash=runtime_hash().hex(),
        admitted_ms=0,
        epoch=0,
        issued_ms=0,
        rotates_ms=0,
        expires_ms=0,
        standing=0.0,
        standing_note=NO_STANDING,
    )


def fill_card(
    card: schema.Identity,
    roster: Roster,
    agent: bytes,
    credential: Credential | None,
) -> schema.Identity:
    """The card with what the mesh says of ``agent``."""
    genesis, member = roster.genesis, roster.member(agent)
    told: dict[str, object] = {"mesh": genesis.name, "mesh_id": genesis.mesh_id.hex()}
    if member is not None:
        told |= {
            "number": agent_number(member.number),
            "admitted_ms": member.seat.admitted_ms,
            "verifier": member.seat.verifier,
            "human": human(member.seat.verifier),
            "vouched_by": vouched_by(roster, member),
        }
    if credential is not None:
        told |= {
            "session_key": credential.session_key.hex(),
            "runtime": credential.runtime,
            "runtime_hash": credential.runtime_hash.hex(),
            "release": release_of(roster, credential.runtime_hash),
            "epoch": credential.epoch,
            "issued_ms": credential.issued_ms,
            "rotates_ms": credential.renews_ms,
            "expires_ms": credential.expires_ms,
        }
    return card.model_copy(update=told)
