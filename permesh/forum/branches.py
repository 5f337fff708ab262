"""Of a chain that forked and was repaired: which records stand.

Owns the choice, given the record from which the owner says that the chain goes on. Pure; must
never know what the records say. Rooms that are not followed leave holes in a chain here, so that
not every record can be traced to the chosen one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby


@dataclass(frozen=True, slots=True)
class Link:
    """A record in its author's chain."""

    seq: int
    id: bytes
    prev: bytes


@dataclass(frozen=True, slots=True)
class Branch:
    """``standing`` are ids; ``forked``: two records follow one that stands, so nothing after it
    does until the owner chooses again."""

    standing: frozenset[bytes]
    forked: bool


def choose(links: Iterable[Link], chosen: bytes) -> Branch:
    """Of an author's records from its first fork on.

    What leads to ``chosen`` and what follows it stands. What is known to be beside that does not,
    nor what follows such a record. Beyond a hole nothing shows which of the two a record is: it
    stands, unless another is at its place in the chain. Else whoever follows one room of three in
    which a repaired author writes would see nothing of it any more.
    """
    ordered = sorted(links, key=lambda link: (link.seq, link.id))
    by_id = {link.id: link for link in ordered}
    following = defaultdict(list)
    for link in ordered:
        following[link.prev].append(link)
    line: dict[int, bytes] = {}  # by seq
    before = by_id.get(chosen)
    while before is not None:
        line[before.seq] = before.id
        before = by_id.get(before.prev)
    after = chosen
    while len(following[after]) == 1:
        (link,) = following[after]
        line[link.seq] = after = link.id
    forked = len(following[after]) > 1

    on_line = frozenset(line.values())
    standing = set(on_line)
    for seq, group in groupby(ordered, key=lambda link: link.seq):
        # Whoever follows one of the line and is not of it stands beside it.
        possible = [
            link
            for link in group
            if link.prev not in by_id or (link.prev in standing and link.prev not in on_line)
        ]
        if seq not in line and len(possible) == 1:
            standing.add(possible[0].id)
    return Branch(frozenset(standing), forked)
