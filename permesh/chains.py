"""Records of one author that follow each other.

Owns how a batch is parted into pieces of chains, so that each piece is one question to the
database and not one per record.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator

from .records import Record


def runs(records: Iterable[Record]) -> Iterator[list[Record]]:
    """By author, ascending by seq; a run ends where the next record's seq is not here."""
    by_author: defaultdict[bytes, list[Record]] = defaultdict(list)
    for record in records:
        by_author[record.header.author].append(record)
    for chain in by_author.values():
        chain.sort(key=lambda record: record.header.seq)
        start = 0
        for index in range(1, len(chain)):
            if chain[index].header.seq > chain[index - 1].header.seq + 1:
                yield chain[start:index]
                start = index
        yield chain[start:]
