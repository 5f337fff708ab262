"""Finding posts by what they say now.

Owns the full-text index and the order in which posts arrived (`forum_arrivals`: those that are here
and not removed), both kept up from the forum's view, and the way a query goes through them. Must
never decide what is hidden: it is given a function that does.

The index is an FTS5 table whose rowid is the post's `records.position`, so that the newest come
first without sorting and a page costs what it shows, however common the word. Authors, rooms,
mentions, files and links stand in it as tokens of a second column: a filter is one more word.
What the index does not hold (dates, threads, labels, whether a post is shown) is asked of what it
finds, batch by batch, within the span of positions that dates allow.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass

from permesh.records import Record

from . import kinds
from .query import ALL, Filter, Query

# Shown or not, no more is looked at for one page; it may end early, with a place to go on from.
# Of what a thread or a label rules out only the position is looked at.
MAX_EXAMINED = 10_000
MAX_SCANNED = 200_000
_BATCH = 250
_LATEST = 2**63 - 1

_LINK = re.compile(r"\bhttps?://[^\s/]", re.IGNORECASE)

_TABLES = (
    "DROP TABLE IF EXISTS forum_search",
    "DROP TABLE IF EXISTS forum_arrivals",
    "CREATE VIRTUAL TABLE forum_search USING fts5 (text, tags, prefix = '2 3',"
    " tokenize = 'unicode61 remove_diacritics 2')",
    "CREATE TABLE forum_arrivals (position INTEGER PRIMARY KEY, post BLOB NOT NULL,"
    " room BLOB NOT NULL, author BLOB NOT NULL, created_ms INTEGER NOT NULL,"
    " current BLOB NOT NULL)",
    "CREATE INDEX forum_arrivals_room ON forum_arrivals (room, position)",
    "CREATE INDEX forum_arrivals_date ON forum_arrivals (created_ms)",
)


@dataclass(frozen=True, slots=True)
class Entry:
    """What there is to find of a post. ``position`` is its record's, ``current`` the record whose
    text it has now."""

    post: bytes
    position: int
    room: bytes
    author: bytes
    created_ms: int
    current: bytes
    text: str
    mentions: tuple[bytes, ...]
    files: bool

    def tags(self) -> str:
        tags = [ALL, tag("author", self.author), tag("room", self.room)]
        tags += [tag("mentions", agent) for agent in self.mentions]
        tags += [HAS_FILE] if self.files else []
        tags += [HAS_LINK] if _LINK.search(self.text) else []
        return " ".join(tags)


HAS_FILE, HAS_LINK = "hasfile", "haslink"


def tag(field: str, value: bytes) -> str:
    """The token of an author, a room or a mention."""
    return field + value.hex()


def read_entries(cursor: sqlite3.Cursor, posts: Sequence[bytes]) -> list[Entry]:
    """What the forum's view says now of posts, those that are here and not removed, in the order
    of their arrival. At most `_BATCH` of them."""
    rows = cursor.execute(
        "SELECT p.id, r.position, p.room, p.author, p.created_ms, p.current, c.body"
        " FROM forum_posts AS p CROSS JOIN records AS r ON r.id = p.id"
        " CROSS JOIN records AS c ON c.id = p.current"
        f" WHERE p.id IN ({_marks(posts)}) AND NOT p.removed AND c.body IS NOT NULL",
        posts,
    ).fetchall()
    entries = []
    for post, position, room, author, created_ms, current, body in sorted(
        rows, key=lambda row: int(row[1])
    ):
        said = kinds.read_post(body)
        rest = (said.text, said.mentions, bool(said.files))
        entries.append(Entry(post, position, room, author, created_ms, current, *rest))
    return entries


class SearchView:
    """The index as a `Projection`: see `permesh/store.py`. It stands after the forum's view.

    What posts turned to say by whatever came, that one has noted in `forum_turned`. As with that
    one, `refresh` is to be called when a repair of a chain changes.
    """

    name = "search"
    version = 3

    def reset(self, cursor: sqlite3.Cursor) -> None:
        for statement in _TABLES:
            cursor.execute(statement)

    def apply(self, cursor: sqlite3.Cursor, records: Sequence[Record], now_ms: int) -> None:  # noqa: ARG002 - the view's form
        new = (record.id for record in records if record.header.kind == kinds.POST)
        _refresh(cursor, [*new, *_turned(cursor)])

    def forget(self, cursor: sqlite3.Cursor, records: Sequence[Record]) -> None:
        gone = (record.id for record in records if record.header.kind == kinds.POST)
        _refresh(cursor, [*gone, *_turned(cursor)])

    def refresh(self, cursor: sqlite3.Cursor) -> None:
        _refresh(cursor, _turned(cursor))


def _turned(cursor: sqlite3.Cursor) -> list[bytes]:
    rows = cursor.execute("DELETE FROM forum_turned RETURNING post").fetchall()
    return [bytes(row[0]) for row in rows]


def _refresh(cursor: sqlite3.Cursor, posts: Iterable[bytes]) -> None:
    """Make the index say what the view says of these posts."""
    every = list(dict.fromkeys(posts))
    # What a charter turns may be all posts of a room, and no memory holds their texts.
    for start in range(0, len(every), _BATCH):
        _refresh_some(cursor, every[start : start + _BATCH])


def _refresh_some(cursor: sqlite3.Cursor, posts: Sequence[bytes]) -> None:
    before = cursor.execute(
        "DELETE FROM forum_arrivals WHERE position IN ("
        f"SELECT position FROM records WHERE id IN ({_marks(posts)})) RETURNING position",
        posts,
    ).fetchall()
    cursor.executemany("DELETE FROM forum_search WHERE rowid = ?", before)
    entries = read_entries(cursor, posts)
    cursor.executemany(
        "INSERT INTO forum_arrivals VALUES (?, ?, ?, ?, ?, ?)",
        [
            (one.position, one.post, one.room, one.author, one.created_ms, one.current)
            for one in entries
        ],
    )
    cursor.executemany(
        "INSERT INTO forum_search (rowid, text, tags) VALUES (?, ?, ?)",
        [(one.position, one.text, one.tags()) for one in entries],
    )


@dataclass(frozen=True, slots=True)
class Found:
    """Ids of posts, newest by arrival first. ``below`` is where to go on, if there may be more;
    then there may be fewer than were asked for, or none."""

    posts: list[bytes]
    below: int | None


def search(
    connection: sqlite3.Connection,
    query: Query,
    *,
    tag_of: Callable[[Filter], str],
    keep: Callable[[Sequence[bytes]], Collection[bytes]],
    limit: int,
    below: int | None = None,
    thread: bytes | None = None,
) -> Found:
    """``tag_of`` gives the token of a filter; ``keep`` says which of some posts, given by id, are
    to be found: those that are shown, and fit the query's thread and labels. ``thread`` is the id
    of that thread's first post, if it is known."""
    among = _among(connection, query, thread)
    first, last = _span(connection, query, among)
    last = min(last, _LATEST if below is None else below - 1)
    found: list[bytes] = []
    scanned = examined = 0
    with closing(
        connection.execute(
            "SELECT rowid FROM forum_search WHERE forum_search MATCH ? AND rowid BETWEEN ? AND ?"
            " ORDER BY rowid DESC",
            (query.expression(tag_of), first, last),
        )
    ) as rows:
        while batch := [row[0] for row in rows.fetchmany(_BATCH)]:
            possible = [position for position in batch if among is None or position in among]
            posts = _in_time(connection, query, possible)
            kept = keep(list(posts.values())) if posts else ()
            for position, post in posts.items():
                if post not in kept:
                    continue
                if len(found) == limit:
                    return Found(found, position + 1)
                found.append(post)
            scanned, examined = scanned + len(batch), examined + len(possible)
            if examined >= MAX_EXAMINED or scanned >= MAX_SCANNED:
                return Found(found, batch[-1])
    return Found(found, None)


def _among(connection: sqlite3.Connection, query: Query, thread: bytes | None) -> set[int] | None:
    """The positions of posts that a thread or labels allow; None if any may be found."""
    allowed = []
    if thread is not None:
        allowed.append(
            "SELECT r.position FROM forum_posts AS p JOIN records AS r ON r.id = p.id"
            " WHERE p.thread = ?"
        )
    values = [value for value, wanted in query.labels if wanted]
    for _ in values:
        allowed.append(
            "SELECT r.position FROM forum_labels AS l JOIN records AS r ON r.id = l.target"
            " WHERE l.value = ? AND l.is_on"
        )
    if not allowed:
        return None
    rows = connection.execute(
        " INTERSECT ".join(allowed), [*([thread] if thread is not None else []), *values]
    )
    return {row[0] for row in rows}


def _span(connection: sqlite3.Connection, query: Query, among: set[int] | None) -> tuple[int, int]:
    """Between which positions a post of the query's dates, and of these positions, stands."""
    first, last = 0, _LATEST
    if among is not None:
        first, last = min(among, default=0), max(among, default=-1)
    if query.after_ms is not None or query.before_ms is not None:
        low, high = connection.execute(
            "SELECT min(position), max(position) FROM forum_arrivals"
            " WHERE created_ms >= ? AND created_ms < ?",
            _dates(query),
        ).fetchone()
        first, last = (0, -1) if low is None else (max(first, low), min(last, high))
    return first, last


def _in_time(
    connection: sqlite3.Connection, query: Query, positions: Sequence[int]
) -> dict[int, bytes]:
    """By position, the newest first."""
    rows = connection.execute(
        f"SELECT position, post FROM forum_arrivals WHERE position IN ({_marks(positions)})"
        " AND created_ms >= ? AND created_ms < ? ORDER BY position DESC",
        (*positions, *_dates(query)),
    )
    return {position: bytes(post) for position, post in rows}


def _marks(values: Sequence[object]) -> str:
    return ",".join("?" * len(values))


def _dates(query: Query) -> tuple[int, int]:
    before = _LATEST if query.before_ms is None else query.before_ms
    return query.after_ms or 0, before
