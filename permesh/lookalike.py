"""Names that are not the same and look the same.

Owns the skeleton of a name: what is left of it once characters that a reader mistakes for one
another are made one. Pure; must never decide what becomes of a name, only say what it resembles.

Rooms are named with [a-z0-9._-] and members with [a-z0-9-]; accents and styled letters are folded
all the same. As in Unicode TR39 the wide letter is spelled out in narrow ones (m as rn, w as vv),
never the other way round: then it does not matter where in a run of them a reader starts.
"""

from __future__ import annotations

import re
import unicodedata

_SPELLED = str.maketrans(
    {"0": "o", "1": "l", "i": "l", "|": "l", "m": "rn", "w": "vv", "d": "cl", "_": "-", ".": "-"}
)
_SEPARATORS = re.compile("-+")


def skeleton(name: str) -> str:
    """Equal for two names that look the same."""
    # Styled letters become plain ones, which may be capitals, whose small ones may have accents.
    plain = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", name).casefold())
    seen = "".join(one for one in plain if unicodedata.category(one)[0] in "LNPS")
    return _SEPARATORS.sub("-", seen.translate(_SPELLED))
