"""What this member has read.

Owns the table `read_marks`: of each room, and of the inbox, the place in the order of arrival up
to which it was seen. A post that comes late is unread, whatever its date. A member's own posts
never are. Must never know who shows a post.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

INBOX = b""
# A member that was away for a month needs no exact number, and a list of rooms counts in each:
# 200 posts take a millisecond.
MAX_COUNTED = 200
# What the inbox has got last; what mentions this member and is older is counted no more.
MAX_EXAMINED = 5_000

# Of others, whom this member hears; the first value is this member.
_SHOWN = (
    "CROSS JOIN forum_posts AS p ON p.id = a.post AND p.hidden = '' AND a.author <> ?"
    " AND a.author NOT IN (SELECT agent FROM judgements WHERE heard > 0)"
)


@dataclass(frozen=True, slots=True)
class Unread:
    """Posts that are not read, and how many of them mention this member; each at most
    `MAX_COUNTED`."""

    posts: int = 0
    mentions: int = 0


def mark_of(connection: sqlite3.Connection, room: bytes) -> int:
    """The position up to which it was read; -1 if it never was."""
    row = connection.execute("SELECT position FROM read_marks WHERE room = ?", (room,)).fetchone()
    return int(row[0]) if row else -1


def mark(cursor: sqlite3.Cursor, room: bytes, post: bytes | None = None) -> None:
    """Up to and with a post, or all that is here; what was read stays read."""
    (position,) = (
        cursor.execute("SELECT coalesce(max(position), -1) FROM records")
        if post is None
        else cursor.execute(
            "SELECT coalesce((SELECT position FROM records WHERE id = ?), -1)", (post,)
        )
    ).fetchone()
    cursor.execute(
        "INSERT INTO read_marks VALUES (?, ?) ON CONFLICT DO UPDATE"
        " SET position = max(position, excluded.position)",
        (room, position),
    )


def unread(
    connection: sqlite3.Connection, rooms: Sequence[bytes], *, me: bytes
) -> dict[bytes, Unread]:
    """Of the posts of each room that are shown; not of those whose authors are not heard."""
    mentions = dict(
        connection.execute(
            "SELECT a.room, count(*) FROM (SELECT post FROM forum_inbox"
            "  WHERE kind IN ('reply', 'mention', 'quote')"
            f"  ORDER BY position DESC LIMIT {MAX_EXAMINED}) AS i"
            " CROSS JOIN forum_mentions AS m ON m.agent = ? AND m.post = i.post"
            " CROSS JOIN records AS s ON s.id = m.post"
            f" CROSS JOIN forum_arrivals AS a ON a.position = s.position {_SHOWN}"
            " LEFT JOIN read_marks AS r ON r.room = a.room"
            " WHERE a.position > coalesce(r.position, -1) GROUP BY a.room",
            (me, me),
        )
    )
    found = {}
    for room in rooms:
        (posts,) = connection.execute(
            f"SELECT count(*) FROM (SELECT 1 FROM forum_arrivals AS a {_SHOWN}"
            f" WHERE a.room = ? AND a.position > ? LIMIT {MAX_COUNTED})",
            (me, room, mark_of(connection, room)),
        ).fetchone()
        found[room] = Unread(posts, min(mentions.get(room, 0), MAX_COUNTED))
    return found


def which_unread(
    connection: sqlite3.Connection, posts: Sequence[bytes], *, me: bytes
) -> set[bytes]:
    """Those of ``posts`` that are unread; at most a page of them."""
    marks = ",".join("?" * len(posts))
    rows = connection.execute(
        "SELECT a.post FROM records AS s CROSS JOIN forum_arrivals AS a ON a.position = s.position"
        " LEFT JOIN read_marks AS m ON m.room = a.room"
        f" WHERE s.id IN ({marks}) AND a.author <> ? AND a.position > coalesce(m.position, -1)",
        (*posts, me),
    )
    return {bytes(row[0]) for row in rows}
