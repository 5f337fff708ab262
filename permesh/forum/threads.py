"""Who answers whom.

Owns the columns `reply_to` and `thread` of `forum_posts` and the order of a thread: each post
before its replies, siblings by date. Must never know what is hidden.

Posts may come before what they answer. A post gets its thread when the whole way to the first
post is here, and each gets it once, so a chain of any length costs what its posts do, in whatever
order they come. Where the way never is here (it was too old, or is of another room), a thread
begins with the post that is missing, and is found on reading.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

# What a reader is told at most; a chain of replies may have any length.
MAX_DEPTH = 32
# Of one thread, and of the way up from a post to what is missing.
MAX_THREAD = 100_000
_VARIABLES = 500


@dataclass(frozen=True, slots=True)
class Place:
    """``depth``: how many replies lie between a post and the first of its thread."""

    thread: bytes
    depth: int


# -- the view ------------------------------------------------------------------------------------


def thread_for(
    cursor: sqlite3.Cursor, identity: bytes, room: bytes, reply_to: bytes | None
) -> bytes | None:
    """The thread of a new post; None while the way to its first post is not here."""
    if reply_to is None:
        return identity
    row = cursor.execute(
        "SELECT thread FROM forum_posts WHERE id = ? AND room = ?", (reply_to, room)
    ).fetchone()
    return row[0] if row else None


def join_replies(cursor: sqlite3.Cursor, posts: Sequence[bytes]) -> None:
    """Tell what was here before the new posts that it answers which thread it stands in."""
    for start in range(0, len(posts), _VARIABLES):
        some = posts[start : start + _VARIABLES]
        rows = cursor.execute(
            f"SELECT id, room, thread FROM forum_posts AS p WHERE id IN ({_marks(some)})"
            " AND thread IS NOT NULL AND EXISTS (SELECT 1 FROM forum_posts AS o"
            "  WHERE o.reply_to = p.id AND +o.room = p.room AND +o.thread IS NULL)",
            some,
        ).fetchall()
        for row in rows:
            _join(cursor, *row)


def _join(cursor: sqlite3.Cursor, identity: bytes, room: bytes, thread: bytes) -> None:
    """What answers a post, and what answers that."""
    level = [identity]
    while level:
        following: list[bytes] = []
        for parent in level:
            rows = cursor.execute(
                "UPDATE forum_posts SET thread = ?"
                " WHERE reply_to = ? AND +room = ? AND +thread IS NULL RETURNING id",
                (thread, parent, room),
            ).fetchall()
            following += [row[0] for row in rows]
        level = following


def leave_replies(cursor: sqlite3.Cursor, gone: Iterable[bytes]) -> None:
    """What answers posts that are not here any more, at whatever distance, has lost its way."""
    level = list(gone)
    while level:
        following: list[bytes] = []
        for parent in level:
            rows = cursor.execute(
                "UPDATE forum_posts SET thread = NULL"
                " WHERE reply_to = ? AND +thread IS NOT NULL RETURNING id",
                (parent,),
            ).fetchall()
            following += [row[0] for row in rows]
        level = following


# -- reading -------------------------------------------------------------------------------------


def thread_of(connection: sqlite3.Connection, post: bytes) -> bytes:
    """The id of a thread's first post, which may not be here."""
    return places(connection, [post])[post].thread


def places(connection: sqlite3.Connection, posts: Sequence[bytes]) -> dict[bytes, Place]:
    """Of posts that are here."""
    known: dict[bytes, _Step] = {}
    level = list(posts)
    for _ in range(MAX_DEPTH + 1):
        if not level:
            break
        found = _steps(connection, level)
        known.update(found)
        level = list({step.parent for step in found.values() if step.parent} - known.keys())
    tops: dict[bytes, bytes] = {}
    return {
        post: Place(
            known[post].thread or _missing_first(connection, post, tops), _depth(known, post)
        )
        for post in posts
    }


def ordered(connection: sqlite3.Connection, post: bytes) -> list[tuple[bytes, int]]:
    """All posts of the thread in which ``post`` stands, in the order of reading, with depths."""
    thread, room = connection.execute(
        "SELECT thread, room FROM forum_posts WHERE id = ?", (post,)
    ).fetchone()
    if thread is not None:
        rows = connection.execute(
            "SELECT created_ms, id, reply_to FROM forum_posts WHERE thread = ?"
            " ORDER BY created_ms, id LIMIT ?",
            (thread, MAX_THREAD),
        ).fetchall()
    else:
        rows = connection.execute(
            "WITH RECURSIVE thread (created_ms, id, reply_to) AS ("
            " SELECT created_ms, id, reply_to FROM forum_posts WHERE reply_to = ?1 AND +room = ?2"
            " UNION ALL"
            " SELECT p.created_ms, p.id, p.reply_to FROM forum_posts AS p, thread"
            " WHERE p.reply_to = thread.id AND +p.room = ?2 LIMIT ?3)"
            " SELECT created_ms, id, reply_to FROM thread ORDER BY created_ms, id",
            (_missing_first(connection, post, {}), room, MAX_THREAD),
        ).fetchall()
    return order(rows)


def order(rows: Sequence[tuple[int, bytes, bytes | None]]) -> list[tuple[bytes, int]]:
    """(created_ms, id, reply_to) by date → ids and depths, each before its replies."""
    here = {identity for _, identity, _ in rows}
    replies: defaultdict[bytes | None, list[bytes]] = defaultdict(list)
    for _, identity, reply_to in rows:
        replies[reply_to if reply_to in here else None].append(identity)
    # A reply to what is not here stands under it all the same.
    first_depth = {identity: int(reply_to is not None) for _, identity, reply_to in rows}
    found: list[tuple[bytes, int]] = []
    stack = [(identity, first_depth[identity]) for identity in reversed(replies[None])]
    while stack:
        identity, depth = stack.pop()
        found.append((identity, min(depth, MAX_DEPTH)))
        stack += [(reply, depth + 1) for reply in reversed(replies[identity])]
    return found


@dataclass(frozen=True, slots=True)
class _Step:
    parent: bytes | None  # what it answers, if that is here
    is_reply: bool
    thread: bytes | None


def _steps(connection: sqlite3.Connection, posts: Sequence[bytes]) -> dict[bytes, _Step]:
    found: dict[bytes, _Step] = {}
    for start in range(0, len(posts), _VARIABLES):
        some = posts[start : start + _VARIABLES]
        rows = connection.execute(
            "SELECT p.id, o.id, p.reply_to IS NOT NULL, p.thread FROM forum_posts AS p"
            " LEFT JOIN forum_posts AS o ON o.id = p.reply_to AND o.room = p.room"
            f" WHERE p.id IN ({_marks(some)})",
            some,
        )
        for identity, parent, is_reply, thread in rows:
            found[identity] = _Step(parent, bool(is_reply), thread)
    return found


def _marks(values: Sequence[bytes]) -> str:
    return ",".join("?" * len(values))


def _depth(known: dict[bytes, _Step], post: bytes | None) -> int:
    depth = 0
    while post in known and known[post].is_reply and depth < MAX_DEPTH:
        depth += 1
        post = known[post].parent
    return depth


def _missing_first(connection: sqlite3.Connection, post: bytes, tops: dict[bytes, bytes]) -> bytes:
    """What the topmost post on the way up answers; ``tops`` remembers the ways gone."""
    way: list[bytes] = []
    while post not in tops and len(way) < MAX_THREAD:
        way.append(post)
        row = connection.execute(
            "SELECT p.reply_to, o.id FROM forum_posts AS p LEFT JOIN forum_posts AS o"
            " ON o.id = p.reply_to AND o.room = p.room WHERE p.id = ?",
            (post,),
        ).fetchone()
        if row[1] is None:
            tops[post] = row[0]
            break
        post = row[1]
    first = tops.get(post, post)
    tops.update(dict.fromkeys(way, first))
    return first
