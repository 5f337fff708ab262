"""Batches parted into pieces of chains: they say the same as one record after the other."""

from __future__ import annotations

import sqlite3
from random import Random

import pytest

from permesh.chains import runs
from permesh.forum import clocks
from permesh.forum.tables import LASTING
from permesh.records import Record
from permesh.store import Store
from tests.simulator import Author


def chains(rng: Random) -> list[Record]:
    """Of a few authors, of whom some sign twice at one place, date back, or have lost records."""
    records = []
    for name in "abc":
        author = Author(name)
        for _ in range(rng.randrange(1, 12)):
            author.now_ms += rng.choice((-50, 0, 0, 10))
            before = author.seq, author.prev
            records.append(author.write())
            if rng.random() < 0.15:
                author.seq, author.prev = before
    return [record for record in records if rng.random() < 0.9]


def batches(rng: Random, records: list[Record]) -> list[list[Record]]:
    rng.shuffle(records)
    parted = []
    while records:
        size = rng.randrange(1, 20)
        parted.append(records[:size])
        records = records[size:]
    return parted


@pytest.mark.parametrize("seed", range(30))
def test_forks_are_found_in_batches_as_one_by_one(
    tmp_path_factory: pytest.TempPathFactory, seed: int
) -> None:
    rng = Random(seed)
    records = chains(rng)
    found = []
    for parts in (batches(rng, list(records)), [[record] for record in records]):
        store = Store(tmp_path_factory.mktemp("store") / "permesh.db")
        store.connection.execute("PRAGMA synchronous = OFF")
        for part in parts:
            store.save(part, 1)
        found.append({(fork.author, fork.seq) for fork in store.forks()})
        store.close()
    assert found[0] == found[1]


@pytest.mark.parametrize("seed", range(30))
def test_clocks_are_kept_in_batches_as_one_by_one(seed: int) -> None:
    rng = Random(seed)
    records = chains(rng)
    tables = []
    for parts in (batches(rng, list(records)), [[record] for record in records]):
        connection = sqlite3.connect(":memory:")
        for statement in LASTING:
            connection.execute(statement)
        for part in parts:
            clocks.note(connection.cursor(), part)
        tables.append(connection.execute("SELECT * FROM forum_clocks ORDER BY 1, 2").fetchall())
        connection.close()
    assert tables[0] == tables[1]
    expected = []
    for author in sorted({record.header.author for record in records}):
        high = -1
        own = [record.header for record in records if record.header.author == author]
        for header in sorted(own, key=lambda header: (header.seq, -header.created_ms)):
            if header.created_ms > high:
                high = header.created_ms
                expected.append((author, header.seq, high))
    assert tables[0] == expected


def test_a_run_is_of_one_author_and_without_a_gap() -> None:
    one, other = Author("a"), Author("b")
    first = [one.write() for _ in range(5)]
    second = [other.write() for _ in range(2)]
    given = [first[4], second[1], first[0], second[0], first[1], first[1]]
    found = sorted([record.header.seq for record in run] for run in runs(given))
    assert found == [[0, 1], [0, 1, 1], [4]]
