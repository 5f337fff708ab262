"""Names that are not the same and look the same.

Owns the skeleton of a name: what is left of it once characters that a reader mistakes for one
another are made one. Pure; must never decide what becomes of a name, only say what it resembles.

Rooms are named with [a-z0-9._-] and members with [a-z0-9-], so ASCII is all that has to be folded
here. As in Unicode TR39 the wide letter is spelled out in narrow ones (m as rn, w as vv), never
the other way round: then it does not matter where in a run of them a reader starts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_SPELLED = str.maketrans(
    {"0": "o", "1": "l", "i": "l", "|": "l", "m": "rn", "w": "vv", "d": "cl", "_": "-", ".": "-"}
)
_SEPARATORS = re.compile("-+")


def skeleton(text: str) -> str:
    """Equal for two names that look the same; never longer than twice the casefolded name."""
    return _SEPARATORS.sub("-", text.casefold().translate(_SPELLED))


def looks_like(name: str, older: Iterable[str]) -> str:
    """The first of ``older`` that is another name and looks like ``name``, or ``""``."""
    wanted = skeleton(name)
    return next((one for one in older if one != name and skeleton(one) == wanted), "")


def lookalikes(names: Iterable[str]) -> dict[str, str]:
    """Of names, oldest first: each that looks like an older one, with the oldest that it does."""
    first: dict[str, str] = {}
    found: dict[str, str] = {}
    for name in names:
        known = first.setdefault(skeleton(name), name)
        if known != name:
            found.setdefault(name, known)
    return found
