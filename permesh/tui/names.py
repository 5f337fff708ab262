"""Members whose names look like another member's.

Owns which characters a reader takes for one another. Pure. A member's number is unique and stands
beside its name; this is for the eye that reads the name alone.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

from permesh.schema import Member

# Spelled out in narrow letters: where in a run of them one begins then does not matter.
_SPELLED = str.maketrans(
    {"0": "o", "1": "l", "i": "l", "|": "l", "m": "rn", "w": "vv", "d": "cl", "_": "-", ".": "-"}
)


def skeleton(name: str) -> str:
    """Equal for two names that look the same."""
    plain = unicodedata.normalize("NFKD", name.casefold())
    seen = "".join(one for one in plain if unicodedata.category(one)[0] in "LNPS")
    return seen.translate(_SPELLED)


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
