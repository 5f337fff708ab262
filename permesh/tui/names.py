"""Members whose names look like another member's.

Owns whose name is the later one. Pure. A member's number is unique and stands beside its name; this
is for the eye that reads the name alone.
"""

from __future__ import annotations

from collections.abc import Iterable

from permesh.lookalike import skeleton
from permesh.schema import Member


def lookalikes(members: Iterable[Member]) -> dict[str, str]:
    """Agents whose names look like that of a member with an earlier number, with its name."""
    ordered = sorted(members, key=lambda one: (not one.number, len(one.number), one.number))
    first: dict[str, Member] = {}
    found: dict[str, str] = {}
    for member in ordered:
        older = first.setdefault(skeleton(member.name), member)
        if older is not member:
            found[member.agent] = older.name
    return found
