"""What an author may take back: which records take away which bodies.

Owns the one question whether a record that comes without its body is whole. Must never know what
the kinds mean: the room that has them says which they are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .records import Record


@dataclass(frozen=True, slots=True)
class Removals:
    """``kinds`` may lose their bodies; ``targets`` gives the ids that a record takes away, none
    for most, and never raises."""

    kinds: frozenset[str] = frozenset()
    targets: Callable[[Record], tuple[bytes, ...]] = lambda _record: ()

    def proves(self, record: Record) -> bool:
        """Whether the removal with which ``record`` travels is its own author's, and names it.

        Its signature is still to be checked.
        """
        removal = record.removal
        return (
            removal is not None
            and removal.header.author == record.header.author
            and removal.header.mesh == record.header.mesh
            and removal.header.room == record.header.room
            and record.header.kind in self.kinds
            and record.id in self.targets(removal)
        )


NO_REMOVALS = Removals()
