"""The tables of what only this member decides or remembers.

Owns their SQL and nothing else. They are not a fold over records: no view rebuilds them, so they
belong to the database's migrations.
"""

from __future__ import annotations

# An empty `reply_to` of a draft is a post of its own. An empty `room` of a read mark is the inbox.
# A mark is a `records.position`, the order of arrival: what comes late is unread, whatever its
# date. `heard` is 0 yes, 1 muted, 2 blocked; no row is what everyone gets who was not judged.
LOCAL_TABLES = """
    CREATE TABLE IF NOT EXISTS follows (
        room BLOB PRIMARY KEY,
        followed INTEGER NOT NULL,
        keep_days INTEGER NOT NULL DEFAULT 0,
        keep_megabytes INTEGER NOT NULL DEFAULT 0,
        floor_day INTEGER NOT NULL DEFAULT 0
    ) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS drafts (
        room BLOB NOT NULL,
        reply_to BLOB NOT NULL,
        text TEXT NOT NULL,
        updated_ms INTEGER NOT NULL,
        PRIMARY KEY (room, reply_to)
    );
    CREATE TABLE IF NOT EXISTS read_marks (room BLOB PRIMARY KEY, position INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS judgements (
        agent BLOB PRIMARY KEY,
        labels INTEGER NOT NULL,
        heard INTEGER NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS choices (key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
"""
