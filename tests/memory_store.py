"""A store in dictionaries, which tells what `Store` and its `SpaceIndex` tell."""

from __future__ import annotations

from bisect import bisect_right, insort
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from permesh.records import Record
from permesh.space_index import Run, head_name
from permesh.spaces import Content, DayIndex, Part, Sum, day_of, fingerprint, space_of


class MemoryStore:
    """As cheap as it can be, since a simulated mesh has hundreds."""

    def __init__(self) -> None:
        self.records: dict[bytes, Record] = {}
        # By space and author: (seq, id, day), ascending.
        self._chains: dict[bytes, dict[bytes, list[tuple[int, bytes, int]]]] = {}
        self._days: dict[bytes, dict[int, set[bytes]]] = {}  # ids by space and day
        self._totals: Counter[tuple[bytes, int]] = Counter()
        self._sums: dict[bytes, dict[int, Sum]] = {}  # by space and first day, if they are known
        self._trees: dict[tuple[bytes, int], DayIndex] = {}

    def save(self, records: Iterable[Record]) -> list[Record]:
        new = []
        for record in records:
            if record.id not in self.records:
                self.records[record.id] = record
                header = record.header
                space, day = space_of(header.kind, header.room), day_of(header.created_ms)
                chain = self._chains.setdefault(space, {}).setdefault(header.author, [])
                insort(chain, (header.seq, record.id, day))
                self._days.setdefault(space, {}).setdefault(day, set()).add(record.id)
                self._totals[space, day] += int.from_bytes(record.id, "big")
                self._sums.pop(space, None)
                self._trees.pop((space, day), None)
                new.append(record)
        return new

    def length(self, author: bytes) -> int:
        """How many records of the author are known, by their highest seq."""
        chains = (chains[author] for chains in self._chains.values() if author in chains)
        return 1 + max((chain[-1][0] for chain in chains), default=-1)

    def head(self, author: bytes, length: int) -> Any:
        """The author's last record in wire form, if there are more than ``length``."""
        if self.length(author) <= length:
            return None
        last = max(chains[author][-1] for chains in self._chains.values() if author in chains)
        return self.records[last[1]].to_wire()

    def sum(self, space: bytes, from_day: int = 0) -> Sum:
        known = self._sums.setdefault(space, {})
        if from_day not in known:
            days = [day for day in self._days.get(space, {}) if day >= from_day]
            count = sum(len(self._days[space][day]) for day in days)
            total = sum(self._totals[space, day] for day in days)
            known[from_day] = Sum(count, fingerprint(count, total))
        return known[from_day]

    def sums(self) -> tuple[Sum, ...]:
        return tuple(self.sum(space) for space in sorted(self._days))

    def days(self, space: bytes, from_day: int = 0) -> dict[int, Sum]:
        return {
            day: Sum(len(ids), fingerprint(len(ids), self._totals[space, day]))
            for day, ids in sorted(self._days.get(space, {}).items())
            if day >= from_day
        }

    def contents(self, space: bytes, parts: Sequence[Part], limit: int) -> list[Content]:
        contents: list[Content] = []
        for part in parts:
            key = (space, part.day)
            tree = self._trees.get(key)
            if tree is None:
                ids = self._days.get(space, {}).get(part.day, ())
                tree = self._trees[key] = DayIndex(ids)
            contents.append(tree.content(part, limit))
            limit -= len(contents[-1]) if part.listed else 0
        return contents

    def heads(self, space: bytes) -> list[tuple[bytes, int]]:
        chains = self._chains.get(space, {})
        return sorted((author, chain[-1][0]) for author, chain in chains.items())

    def newer(
        self, space: bytes, from_day: int, heads: Mapping[bytes, int], limit: int
    ) -> tuple[list[Run], bool]:
        chains = self._chains.get(space, {})
        runs: list[Run] = []
        if len(chains) > limit:
            return runs, False
        for author in sorted(chains):
            known = heads.get(head_name(author), -1)
            chain = chains[author]
            if chain[-1][0] <= known:
                continue
            start = bisect_right(chain, (known, b"\xff" * 33, 0))
            found = [(seq, item) for seq, item, day in chain[start:] if day >= from_day]
            if len(found) > limit:
                cut = found[limit][0]
                whole = [one for one in found[:limit] if one[0] < cut]
                if whole or not runs:
                    runs.append(_run(author, whole or found[:limit]))
                return runs, True
            if found:
                runs.append(_run(author, found))
                limit -= len(found)
            if limit <= 0:
                return runs, True
        return runs, False

    def missing(self, ids: Iterable[bytes]) -> list[bytes]:
        return [item for item in ids if item not in self.records]

    def wires(self, ids: Sequence[bytes], max_bytes: int) -> tuple[list[Any], int]:
        wires: list[Any] = []
        size = 0
        for done, item in enumerate(ids):
            record = self.records.get(item)
            if record is None:
                continue
            size += len(record.header_bytes) + len(record.body or b"") + 80
            if wires and size > max_bytes:
                return wires, done
            wires.append(record.to_wire())
        return wires, len(ids)

    def behind(self, heads: Iterable[tuple[bytes, bytes, int]]) -> bool:
        for space, author, seq in heads:
            chain = self._chains.get(space, {}).get(author)
            if not chain or chain[-1][0] < seq:
                return True
        return False


def _run(author: bytes, found: Sequence[tuple[int, bytes]]) -> Run:
    return Run(author, found[-1][0], tuple(item for _, item in found))
