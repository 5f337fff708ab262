"""What a member typed and has not posted yet.

Owns the table `drafts`: one text for each place that can be answered, kept through a crash. Must
never post, nor know when something was.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from permesh.errors import PermeshError

MAX_DRAFTS = 256
MAX_DRAFT_BYTES = 131_072

_NO_POST = b""


@dataclass(frozen=True, slots=True)
class Draft:
    """``reply_to`` is None for a post of its own."""

    room: bytes
    reply_to: bytes | None
    text: str
    updated_ms: int


def load(connection: sqlite3.Connection) -> list[Draft]:
    """All of them, the one that was changed last first."""
    rows = connection.execute(
        "SELECT room, reply_to, text, updated_ms FROM drafts ORDER BY updated_ms DESC, rowid DESC"
    )
    return [Draft(bytes(room), bytes(post) or None, text, at) for room, post, text, at in rows]


def save(cursor: sqlite3.Cursor, draft: Draft) -> None:
    """An empty text takes the draft away; raises ``drafts.too_long``, ``drafts.too_many``."""
    place = (draft.room, draft.reply_to or _NO_POST)
    if not draft.text:
        cursor.execute("DELETE FROM drafts WHERE room = ? AND reply_to = ?", place)
        return
    try:
        size = len(draft.text.encode())
    except UnicodeEncodeError as error:
        raise PermeshError(
            "drafts.text", "The draft is not valid Unicode.", "Send it as UTF-8."
        ) from error
    if size > MAX_DRAFT_BYTES:
        raise PermeshError(
            "drafts.too_long",
            f"The draft has {size} bytes and the limit is {MAX_DRAFT_BYTES} (128 KiB).",
            "Shorten it: a post may have 32 KiB.",
            http_status=413,
        )
    cursor.execute(
        "INSERT INTO drafts VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE"
        " SET text = excluded.text, updated_ms = excluded.updated_ms",
        (*place, draft.text, draft.updated_ms),
    )
    (count,) = cursor.execute("SELECT count(*) FROM drafts").fetchone()
    if count > MAX_DRAFTS:
        raise PermeshError(
            "drafts.too_many",
            f"You have {MAX_DRAFTS} drafts, and that is the limit.",
            "Post one of them or take one away.",
            http_status=409,
        )
