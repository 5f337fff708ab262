"""The forum as tables: what is shown, in which order, and what is hidden and why.

Owns the tables `forum_rooms` and `forum_posts`, which are a fold over records and can be dropped
at any time, and the paged queries over them. Must never sign, send or wait.

Posts are ordered by (created_ms, id); ``created_ms`` is the author's claim and no more. Names of
rooms are local: the first room of a name that arrived here has it, later ones are `name~1a2b`, so
that nobody takes a name over by claiming an earlier date. What is the same everywhere is the id.
"""

from __future__ import annotations

import base64
import binascii
import re
import sqlite3
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from permesh.errors import NotFound, PermeshError, Refused
from permesh.records import Record, pack, unpack

from . import rules

MAX_PAGE = 500
MIN_PREFIX = 4  # hex digits; shorter prefixes are more often a typing error than a choice
_MAX_CURSOR_BYTES = 256
_HEX = re.compile(r"[0-9a-f]{1,64}")

_TABLES = """
    DROP TABLE IF EXISTS forum_rooms;
    DROP TABLE IF EXISTS forum_posts;
    CREATE TABLE forum_rooms (
        id BLOB PRIMARY KEY,
        label TEXT NOT NULL UNIQUE,
        name TEXT NOT NULL,
        purpose TEXT NOT NULL,
        author BLOB NOT NULL,
        seq INTEGER NOT NULL,
        span INTEGER NOT NULL,
        created_ms INTEGER NOT NULL,
        posts INTEGER NOT NULL,
        last_post_ms INTEGER NOT NULL,
        hidden TEXT NOT NULL
    );
    CREATE INDEX forum_rooms_name ON forum_rooms (name);
    CREATE INDEX forum_rooms_author ON forum_rooms (author, seq) WHERE hidden = '';
    CREATE INDEX forum_rooms_rate ON forum_rooms (author, span, seq, id) WHERE hidden = '';
    CREATE TABLE forum_posts (
        id BLOB PRIMARY KEY,
        room BLOB NOT NULL,
        author BLOB NOT NULL,
        seq INTEGER NOT NULL,
        span INTEGER NOT NULL,
        created_ms INTEGER NOT NULL,
        received_ms INTEGER NOT NULL,
        reply_to BLOB,
        thread BLOB NOT NULL,
        hidden TEXT NOT NULL
    );
    CREATE INDEX forum_posts_page ON forum_posts (room, created_ms, id) WHERE hidden = '';
    CREATE INDEX forum_posts_thread ON forum_posts (thread, created_ms, id);
    CREATE INDEX forum_posts_author ON forum_posts (author, seq) WHERE hidden = '';
    CREATE INDEX forum_posts_rate ON forum_posts (author, span, seq, id) WHERE hidden = '';
"""


class ForumView:
    """The forum's `Projection`: see `permesh/store.py`."""

    name = "forum"
    version = 1

    def reset(self, cursor: sqlite3.Cursor) -> None:
        for statement in _TABLES.split(";"):
            cursor.execute(statement)

    def apply(self, cursor: sqlite3.Cursor, records: Sequence[Record], now_ms: int) -> None:
        gained: Counter[bytes] = Counter()  # visible posts by room
        frozen = {}
        for author in {record.header.author for record in records}:
            (first,) = cursor.execute(
                "SELECT min(seq) FROM forks WHERE author = ?", (author,)
            ).fetchone()
            if first is not None:
                frozen[author] = first
                _hide_fork(cursor, author, first, gained)
        rates: set[tuple[str, bytes, int]] = set()
        for record in sorted(records, key=lambda item: item.header.kind != rules.ROOM):
            header = record.header
            if not _is_shown(record):
                continue
            hidden = rules.HIDDEN_FORK if header.seq >= frozen.get(header.author, 2**63) else ""
            span = header.created_ms // rules.RATE_SPAN_MS
            if header.kind == rules.ROOM:
                _insert_room(cursor, record, span, hidden)
                rates.add(("forum_rooms", header.author, span))
            else:
                _insert_post(cursor, record, span, hidden, now_ms)
                rates.add(("forum_posts", header.author, span))
                gained[header.room] += not hidden
        for table, author, span in rates:
            _hide_rate(cursor, table, author, span, gained)
        for room, number in gained.items():
            _count(cursor, room, number)


def _is_shown(record: Record) -> bool:
    if record.header.kind not in rules.KINDS:
        return False
    try:
        # Checked at the door as well, but a record may be older than its rule.
        rules.check_record(record)
    except Refused:
        return False
    return True


def _insert_room(cursor: sqlite3.Cursor, record: Record, span: int, hidden: str) -> None:
    header = record.header
    name, purpose = rules.read_room(record.body or b"")
    label = _free_label(cursor, name, record.id) if not hidden else _full_label(name, record.id)
    (posts,) = cursor.execute(
        "SELECT count(*) FROM forum_posts WHERE room = ? AND hidden = ''", (record.id,)
    ).fetchone()
    cursor.execute(
        "INSERT INTO forum_rooms VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 0, ?)",
        (
            record.id, label, name, purpose, header.author, header.seq, span,
            header.created_ms, posts, hidden,
        ),
    )  # fmt: skip
    if posts:
        _count(cursor, record.id, 0)


def _full_label(name: str, room: bytes) -> str:
    return f"{name}~{room.hex()}"


def _free_label(cursor: sqlite3.Cursor, name: str, room: bytes) -> str:
    candidates = [name, *(f"{name}~{room.hex()[:size]}" for size in (4, 8, 16, 32))]
    for label in candidates:
        if not cursor.execute("SELECT 1 FROM forum_rooms WHERE label = ?", (label,)).fetchone():
            return label
    return _full_label(name, room)


def _insert_post(
    cursor: sqlite3.Cursor, record: Record, span: int, hidden: str, now_ms: int
) -> None:
    header = record.header
    reply_to = header.parents[0] if header.parents else None
    thread = record.id
    if reply_to is not None:
        # Children may come before parents: until then the unknown parent stands for the root.
        row = cursor.execute(
            "SELECT thread FROM forum_posts WHERE id = ? AND room = ?", (reply_to, header.room)
        ).fetchone()
        thread = row[0] if row else reply_to
        cursor.execute(
            "UPDATE forum_posts SET thread = ? WHERE thread = ? AND room = ?",
            (thread, record.id, header.room),
        )
    cursor.execute(
        "INSERT INTO forum_posts VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            record.id, header.room, header.author, header.seq, span,
            header.created_ms, now_ms, reply_to, thread, hidden,
        ),
    )  # fmt: skip


def _hide_fork(cursor: sqlite3.Cursor, author: bytes, seq: int, gained: Counter[bytes]) -> None:
    for (room,) in cursor.execute(
        "UPDATE forum_posts SET hidden = ? WHERE author = ? AND seq >= ? AND hidden = ''"
        " RETURNING room",
        (rules.HIDDEN_FORK, author, seq),
    ).fetchall():
        gained[room] -= 1
    cursor.execute(
        "UPDATE forum_rooms SET hidden = ?, label = name || '~' || lower(hex(id))"
        " WHERE author = ? AND seq >= ? AND hidden = ''",
        (rules.HIDDEN_FORK, author, seq),
    )


def _hide_rate(
    cursor: sqlite3.Cursor, table: str, author: bytes, span: int, gained: Counter[bytes]
) -> None:
    """Hide what is over the quota: the lowest (seq, id) stay, in whatever order they came."""
    limit = rules.POSTS_PER_SPAN if table == "forum_posts" else rules.ROOMS_PER_SPAN
    over = cursor.execute(
        f"SELECT id FROM {table} WHERE author = ? AND span = ? AND hidden = ''"
        " ORDER BY seq, id LIMIT -1 OFFSET ?",
        (author, span, limit),
    ).fetchall()
    for (identity,) in over:
        if table == "forum_posts":
            (room,) = cursor.execute(
                "UPDATE forum_posts SET hidden = ? WHERE id = ? RETURNING room",
                (rules.HIDDEN_RATE, identity),
            ).fetchone()
            gained[room] -= 1
        else:
            cursor.execute(
                "UPDATE forum_rooms SET hidden = ?, label = name || '~' || lower(hex(id))"
                " WHERE id = ?",
                (rules.HIDDEN_RATE, identity),
            )


def _count(cursor: sqlite3.Cursor, room: bytes, gained: int) -> None:
    cursor.execute(
        "UPDATE forum_rooms SET posts = posts + ?, last_post_ms = coalesce((SELECT created_ms"
        " FROM forum_posts WHERE room = ? AND hidden = '' ORDER BY created_ms DESC LIMIT 1), 0)"
        " WHERE id = ?",
        (gained, room, room),
    )


# -- queries: each takes a connection, so that a worker thread may run it ------------------------


@dataclass(frozen=True, slots=True)
class RoomRow:
    id: bytes
    label: str
    purpose: str
    author: bytes
    created_ms: int
    posts: int
    last_post_ms: int


@dataclass(frozen=True, slots=True)
class PostRow:
    id: bytes
    room: bytes
    room_label: str
    author: bytes
    reply_to: bytes | None
    created_ms: int
    received_ms: int
    text: str


_ROOM = "SELECT id, label, purpose, author, created_ms, posts, last_post_ms FROM forum_rooms"
_POST = (
    "SELECT p.id, p.room, r.label, p.author, p.reply_to, p.created_ms, p.received_ms, b.body"
    " FROM forum_posts AS p JOIN records AS b ON b.id = p.id JOIN forum_rooms AS r ON r.id = p.room"
)


def _post(row: Sequence[Any]) -> PostRow:
    return PostRow(*(*row[:7], rules.read_post(row[7])))


def rooms(
    connection: sqlite3.Connection, cursor: str | None, limit: int
) -> tuple[list[RoomRow], str | None]:
    """A page of rooms by label, and the cursor of the next one if there is more."""
    (after,) = _read_cursor(cursor, str) if cursor else ("",)
    limit = max(1, min(limit, MAX_PAGE))
    found = connection.execute(
        f"{_ROOM} WHERE hidden = '' AND label > ? ORDER BY label LIMIT ?", (after, limit + 1)
    ).fetchall()
    items = [RoomRow(*row) for row in found[:limit]]
    return items, _make_cursor(items[-1].label) if len(found) > limit else None


def posts(
    connection: sqlite3.Connection,
    room: bytes,
    cursor: str | None,
    limit: int,
    newest_first: bool,
    thread: bytes | None = None,
) -> tuple[list[PostRow], str | None]:
    """A page of a room's posts, or of one thread of it, and the cursor of the next page.

    A cursor is a place in the order, not a direction: with it, ``newest_first`` goes on to what
    is before that place, and otherwise to what is after it.
    """
    limit = max(1, min(limit, MAX_PAGE))
    compare, direction = ("<", "DESC") if newest_first else (">", "ASC")
    wheres, values = ["p.room = ?", "p.hidden = ''"], [room]
    if thread is not None:
        wheres.append("p.thread = ?")
        values.append(thread)
    if cursor:
        wheres.append(f"(p.created_ms, p.id) {compare} (?, ?)")
        values.extend(_read_cursor(cursor, int, bytes))
    found = connection.execute(
        f"{_POST} WHERE {' AND '.join(wheres)}"
        f" ORDER BY p.created_ms {direction}, p.id {direction} LIMIT ?",
        (*values, limit + 1),
    ).fetchall()
    items = [_post(row) for row in found[:limit]]
    more = len(found) > limit
    return items, _make_cursor(items[-1].created_ms, items[-1].id) if more else None


def rooms_by_id(connection: sqlite3.Connection, ids: Sequence[bytes]) -> list[RoomRow]:
    """Those of ``ids`` that are rooms and shown, in that order."""
    rows = (
        connection.execute(f"{_ROOM} WHERE id = ? AND hidden = ''", (item,)).fetchone()
        for item in ids
    )
    return [RoomRow(*row) for row in rows if row]


def posts_by_id(connection: sqlite3.Connection, ids: Sequence[bytes]) -> list[PostRow]:
    """Those of ``ids`` that are posts, shown, and in a room that is known here, in that order."""
    rows = (
        connection.execute(f"{_POST} WHERE p.id = ? AND p.hidden = ''", (item,)).fetchone()
        for item in ids
    )
    return [_post(row) for row in rows if row]


def find_room(connection: sqlite3.Connection, reference: str) -> RoomRow:
    """By label, `name~hex`, or a unique prefix of the id; raises ``room.unknown``,
    ``room.ambiguous``."""
    found = connection.execute(f"{_ROOM} WHERE label = ? AND hidden = ''", (reference,)).fetchall()
    if not found:
        name, tilde, prefix = reference.rpartition("~")
        bounds = _prefix_bounds(prefix)
        if bounds:
            condition = " AND name = ?" if tilde else ""
            found = connection.execute(
                f"{_ROOM} WHERE id BETWEEN ? AND ? AND hidden = ''{condition} LIMIT 2",
                (*bounds, *([name] if tilde else [])),
            ).fetchall()
    if not found:
        raise NotFound(
            "room.unknown",
            f"There is no room '{reference[:80]}' here.",
            "List the rooms with: permesh room list",
        )
    if len(found) > 1:
        raise PermeshError(
            "room.ambiguous", f"'{reference}' fits several rooms.", "Give more digits of the id."
        )
    return RoomRow(*found[0])


def has_label(connection: sqlite3.Connection, label: str) -> bool:
    row = connection.execute("SELECT 1 FROM forum_rooms WHERE label = ?", (label,)).fetchone()
    return row is not None


def find_post(connection: sqlite3.Connection, room: bytes, reference: str) -> bytes:
    """A post's id by a unique prefix of it; raises ``post.unknown_parent``, ``post.ambiguous``."""
    bounds = _prefix_bounds(reference)
    found = []
    if bounds:
        found = connection.execute(
            "SELECT id FROM forum_posts WHERE id BETWEEN ? AND ? AND room = ? AND hidden = ''"
            " LIMIT 2",
            (*bounds, room),
        ).fetchall()
    if not found:
        raise NotFound(
            "post.unknown_parent",
            f"There is no post '{reference[:80]}' in this room.",
            "See the posts and their ids with: permesh read ROOM --json",
        )
    if len(found) > 1:
        raise PermeshError(
            "post.ambiguous", f"'{reference}' fits several posts.", "Give more digits of the id."
        )
    return bytes(found[0][0])


def thread_of(connection: sqlite3.Connection, post: bytes) -> bytes:
    """The root of a post's thread."""
    row = connection.execute("SELECT thread FROM forum_posts WHERE id = ?", (post,)).fetchone()
    return bytes(row[0])


def would_hide(connection: sqlite3.Connection, author: bytes, kind: str, now_ms: int) -> str:
    """Why a record that ``author`` writes now would be hidden, or ``""``."""
    if connection.execute("SELECT 1 FROM forks WHERE author = ?", (author,)).fetchone():
        return rules.HIDDEN_FORK
    table, limit = (
        ("forum_rooms", rules.ROOMS_PER_SPAN)
        if kind == rules.ROOM
        else ("forum_posts", rules.POSTS_PER_SPAN)
    )
    (number,) = connection.execute(
        f"SELECT count(*) FROM {table} WHERE author = ? AND span = ? AND hidden = ''",
        (author, now_ms // rules.RATE_SPAN_MS),
    ).fetchone()
    return rules.HIDDEN_RATE if number >= limit else ""


def _prefix_bounds(prefix: str) -> tuple[bytes, bytes] | None:
    if len(prefix) < MIN_PREFIX or not _HEX.fullmatch(prefix):
        return None
    return bytes.fromhex(prefix.ljust(64, "0")), bytes.fromhex(prefix.ljust(64, "f"))


def _make_cursor(*place: Any) -> str:
    return base64.urlsafe_b64encode(pack(list(place))).rstrip(b"=").decode()


def _read_cursor(cursor: str, *types: type) -> list[Any]:
    try:
        data = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        place = unpack(data, limit=_MAX_CURSOR_BYTES)
    except (Refused, ValueError, binascii.Error) as error:
        raise _bad_cursor() from error
    if not isinstance(place, list) or [type(item) for item in place] != list(types):
        raise _bad_cursor()
    return place


def _bad_cursor() -> PermeshError:
    return PermeshError(
        "cursor.invalid", "The cursor is not one of this list.", "Start again without a cursor."
    )
