"""How a mesh is founded by several: the line that each founder gives, and the genesis of all.

Owns the founder's line and the rule for how many decide. Must never read a key.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from permesh.errors import Refused
from permesh.records import pack

from .genesis import (
    MAX_REGISTRARS,
    VERSION,
    Genesis,
    Registrar,
    check_bytes,
    check_name,
    fields_of,
)
from .person import vouched_nullifier

FOUNDER_PREFIX = "permesh-founder1:"
MAX_LINE = 512


@dataclass(frozen=True, slots=True)
class Founder:
    """``person`` is the person's hash, before it is bound to a mesh: see `person.py`."""

    owner: bytes
    agent: bytes
    name: str
    person: bytes

    def line(self) -> str:
        content = pack([VERSION, self.owner, self.agent, self.name, self.person])
        check = hashlib.sha256(content).digest()[:4]
        return FOUNDER_PREFIX + base64.urlsafe_b64encode(content + check).decode().rstrip("=")

    @classmethod
    def parse(cls, line: str) -> Founder:
        """Raises ``Refused``; a line cut short or mistyped is told by its checksum."""
        text = line.strip().removeprefix(FOUNDER_PREFIX)
        if not line.strip().startswith(FOUNDER_PREFIX) or len(line) > MAX_LINE:
            raise Refused(
                "founder.not_one",
                "This is not a founder's line.",
                "Each of the others prints theirs with: permesh id --founder --person WHO",
            )
        try:
            raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError) as error:
            raise _mistyped() from error
        content, check = raw[:-4], raw[-4:]
        if hashlib.sha256(content).digest()[:4] != check:
            raise _mistyped()
        owner, agent, name, person = fields_of(content, 4, MAX_LINE, "founder's line")
        founder = cls(
            check_bytes(owner, 20, "owner"),
            check_bytes(agent, 20, "agent"),
            check_name(name),
            check_bytes(person, 32, "person"),
        )
        # Base64 leaves unused bits at the end: one founder has one spelling.
        if founder.line() != line.strip():
            raise _mistyped()
        return founder


def found(
    name: str, created_ms: int, salt: bytes, founders: Sequence[Founder], threshold: int | None
) -> Genesis:
    """The genesis of all; raises ``Refused`` for founders that are not distinct."""
    count = len(founders)
    chosen = majority(count) if threshold is None else threshold
    if not 0 < chosen <= count or count > MAX_REGISTRARS:
        raise Refused(
            "mesh.threshold",
            f"{chosen} of {count} registrars cannot decide.",
            f"Choose a threshold of 1 to {min(count, MAX_REGISTRARS)}; "
            f"a mesh has at most {MAX_REGISTRARS} registrars.",
        )
    scope = Genesis(name, created_ms, salt, ()).scope
    registrars = tuple(
        Registrar(one.owner, one.agent, one.name, vouched_nullifier(scope, one.person))
        for one in founders
    )
    return Genesis.decode(Genesis(name, created_ms, salt, registrars, chosen).encode())


def majority(count: int) -> int:
    """How many of ``count`` registrars decide unless it is said: more than half, so that no two
    groups decide apart; of two it is both."""
    return count // 2 + 1


def _mistyped() -> Refused:
    return Refused(
        "founder.mistyped",
        "The founder's line is incomplete or mistyped.",
        f"Copy the whole line again, from '{FOUNDER_PREFIX}' to its end.",
    )
