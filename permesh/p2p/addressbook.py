"""Where members say they can be dialled: a record kind, its rule, and its view.

Owns `mesh.addresses`. A member that was reached once through an invite learns the others from
these records, so the mesh does not hang on whoever invited. Must never dial: a claim of addresses
is only a hint, and who answers there is proven by its libp2p key and its credential.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from permesh.errors import Refused
from permesh.records import Record, pack, unpack

from .admission import MAX_ADDRESS, MAX_ADDRESSES

KIND = "mesh.addresses"
MAX_BODY = MAX_ADDRESSES * (MAX_ADDRESS + 3) + 8
# A member that can be dialled nowhere is not worth more than a few attempts' memory.
MAX_LISTED = 512


def addresses_body(addresses: Sequence[str]) -> bytes:
    """Multiaddrs without their ``/p2p/`` part, the most useful first; longer lists are cut."""
    return pack([_place(address) for address in addresses[:MAX_ADDRESSES]])


def read_addresses(body: bytes) -> tuple[str, ...]:
    """Raises ``Refused`` on anything but a short list of short multiaddrs."""
    fields = unpack(body, limit=MAX_BODY)
    if (
        not isinstance(fields, list)
        or len(fields) > MAX_ADDRESSES
        or not all(_is_address(item) for item in fields)
    ):
        raise Refused("addresses.format", "A record of addresses is not valid.")
    return tuple(fields)


def _is_address(value: object) -> bool:
    return (
        isinstance(value, str)
        and value.startswith("/")
        and value.isascii()
        and value.isprintable()
        and len(value) <= MAX_ADDRESS
    )


def _place(address: str) -> str:
    return address.partition("/p2p/")[0]


def check_record(record: Record) -> None:
    """The format rule of this kind; other kinds are none of its business."""
    if record.header.kind == KIND:
        read_addresses(record.body or b"")


class AddressBook:
    """The newest addresses of each author, kept beside the records (a `store.Projection`)."""

    name = "addresses"
    version = 1

    def reset(self, cursor: sqlite3.Cursor) -> None:
        cursor.execute("DROP TABLE IF EXISTS addresses")
        cursor.execute(
            "CREATE TABLE addresses"
            " (author BLOB PRIMARY KEY, seq INTEGER NOT NULL, body BLOB NOT NULL)"
        )

    def apply(self, cursor: sqlite3.Cursor, records: Sequence[Record], _now_ms: int) -> None:
        cursor.executemany(
            "INSERT INTO addresses VALUES (?, ?, ?) ON CONFLICT (author) DO UPDATE"
            " SET seq = excluded.seq, body = excluded.body WHERE excluded.seq > seq",
            [
                (record.header.author, record.header.seq, record.body)
                for record in records
                if record.header.kind == KIND and record.body is not None
            ],
        )

    def forget(self, cursor: sqlite3.Cursor, records: Sequence[Record]) -> None:
        """Addresses are of the commons, of which nothing is dropped for its age."""


def known_addresses(connection: sqlite3.Connection) -> dict[bytes, tuple[str, ...]]:
    """By author (20 bytes), at most `MAX_LISTED` of them, those who wrote last first."""
    rows = connection.execute(
        "SELECT author, body FROM addresses ORDER BY rowid DESC LIMIT ?", (MAX_LISTED,)
    )
    found = {}
    for author, body in rows:
        try:
            found[author] = read_addresses(body)
        except Refused:  # written by a release with other rules
            continue
    return found
