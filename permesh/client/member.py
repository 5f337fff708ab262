"""The calls about this member, the mesh and its models.

Owns the paths, queries and bodies. Must never open a connection.
"""

from __future__ import annotations

from urllib.parse import quote

from permesh import schema

from .calls import PAGE, Call, Request, body_of, get, page, segment, send

# Serving loads weights and tests them against the whole model first.
SERVE_SECONDS = 900.0


def status() -> Call[schema.Status]:
    return get(schema.Status, "/status")


def identity() -> Call[schema.Identity]:
    return get(schema.Identity, "/identity")


def members(cursor: str | None = None, limit: int = PAGE) -> Call[schema.Members]:
    return page(schema.Members, "/members", cursor, limit)


def admit(agent: str, person: str | None = None) -> Call[schema.Member]:
    """``agent``: an address, a unique prefix of one, a name, or an AGT number."""
    admission = body_of(schema.Admit(person=person))
    return send(schema.Member, "POST", f"/members/{segment(agent)}/admit", admission)


def chronicle(agent: str) -> Call[schema.Chronicle]:
    """``agent``: an address, a unique prefix of one, a name, or an AGT number."""
    return get(schema.Chronicle, f"/members/{segment(agent)}/chronicle")


def proposals() -> Call[schema.Proposals]:
    return get(schema.Proposals, "/proposals")


def propose(wanted: schema.NewProposal) -> Call[schema.Proposal]:
    return send(schema.Proposal, "POST", "/proposals", body_of(wanted))


def approve(proposal: str) -> Call[schema.Proposal]:
    """``proposal``: its id, or a unique beginning of it."""
    return send(schema.Proposal, "POST", f"/proposals/{segment(proposal)}/approve")


def releases() -> Call[schema.Releases]:
    return get(schema.Releases, "/releases")


def tell_owner(statement: str) -> Call[schema.Told]:
    """``statement``: an owner's, as canonical bytes in hex."""
    return send(schema.Told, "POST", "/owner", {"statement": statement})


def invite() -> Call[schema.Invite]:
    return send(schema.Invite, "POST", "/mesh/invite")


def models(cursor: str | None = None, limit: int = PAGE) -> Call[schema.Models]:
    return page(schema.Models, "/models", cursor, limit)


def serve(name: str, layers: str = "") -> Call[schema.Span]:
    return Call(schema.Span, "POST", _serving(name), body={"layers": layers}, seconds=SERVE_SECONDS)


def stop_serving(name: str) -> Request:
    return Request("DELETE", _serving(name))


def _serving(name: str) -> str:
    return f"/models/{quote(name, safe='')}/serve"
