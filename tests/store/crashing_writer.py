"""A process that saves posts and says so on stdout, until it is killed (see test_crash.py)."""

from __future__ import annotations

import sys
from pathlib import Path

from permesh.records import Record, seal
from permesh.store import Head, Store
from tests.simulator import MESH, address, cheap_sign

AUTHOR = address("writer")


def make(head: Head | None) -> Record:
    return seal(
        mesh=MESH, kind="test.note", author=AUTHOR, epoch=1,
        seq=0 if head is None else head.seq + 1, prev=b"" if head is None else head.id,
        created_ms=1, body=bytes(3000), sign=cheap_sign(AUTHOR),
    )  # fmt: skip


def main() -> None:
    store = Store(Path(sys.argv[1]))
    while True:
        sys.stdout.write(store.append(AUTHOR, make, 1).id.hex() + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
