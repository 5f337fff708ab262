"""The SQL of the forum's view.

Owns tables, indexes and triggers, and nothing else. All but those of `LASTING` are a fold over
records, can be dropped at any time and are made anew in the order of arrival.

Common columns: ``span`` is the hour of `rules.RATE_SPAN_MS`; ``frozen`` says that the author's
chain forked before it; ``hidden`` is a code of `rules` that follows from records alone, so that
it is the same for every member (what depends on who looks is decided on reading). Of posts and
edits, ``charter`` is the version that they name and ``judged`` the one by which they are judged,
NULL as long as the room is not here; ``breach`` is the rule that each breaks by itself,
``per_hour`` the limit of posts that it is under, and ``rule`` what it is hidden by.

Queries write ``+room`` where SQLite, which counts nothing here, would take an index by the room,
and go through all of it for one post.
"""

from __future__ import annotations

NAMES = (
    "forum_rooms", "forum_charters", "forum_posts", "forum_edits", "forum_reactions",
    "forum_labels", "forum_mentions", "forum_quotes", "forum_files", "forum_counts",
    "forum_turned",
)  # fmt: skip

TABLES = (
    """CREATE TABLE forum_rooms (
        id BLOB PRIMARY KEY,
        label TEXT NOT NULL UNIQUE,
        name TEXT NOT NULL,
        skeleton TEXT NOT NULL,
        author BLOB NOT NULL,
        seq INTEGER NOT NULL,
        span INTEGER NOT NULL,
        created_ms INTEGER NOT NULL,
        frozen INTEGER NOT NULL DEFAULT 0,
        hidden TEXT NOT NULL DEFAULT ''
    )""",
    "CREATE INDEX forum_rooms_name ON forum_rooms (name)",
    "CREATE INDEX forum_rooms_skeleton ON forum_rooms (skeleton)",
    "CREATE INDEX forum_rooms_rate ON forum_rooms (author, span, seq, id)",
    # The room's record is version 1. ``counts``: signed by a steward of a version that counts.
    # ``in_line``: it is, or leads to, the one in force. ``since_ms`` never sinks from one version
    # to the next, whatever dates its author claims.
    """CREATE TABLE forum_charters (
        id BLOB PRIMARY KEY,
        room BLOB NOT NULL,
        parent BLOB NOT NULL,
        version INTEGER NOT NULL,
        author BLOB NOT NULL,
        seq INTEGER NOT NULL,
        span INTEGER NOT NULL,
        created_ms INTEGER NOT NULL,
        since_ms INTEGER NOT NULL DEFAULT 0,
        counts INTEGER NOT NULL DEFAULT 0,
        in_line INTEGER NOT NULL DEFAULT 0,
        frozen INTEGER NOT NULL DEFAULT 0,
        hidden TEXT NOT NULL DEFAULT ''
    )""",
    "CREATE INDEX forum_charters_parent ON forum_charters (parent)",
    "CREATE INDEX forum_charters_room ON forum_charters (room, version, id) WHERE counts",
    "CREATE INDEX forum_charters_line ON forum_charters (room, version) WHERE in_line",
    "CREATE INDEX forum_charters_rate ON forum_charters (author, span, seq, id)",
    # ``thread`` is the id of the thread's first post, NULL while the way to it is not here.
    # ``current`` is the record whose body it has now: its own or an edit's.
    """CREATE TABLE forum_posts (
        id BLOB PRIMARY KEY,
        room BLOB NOT NULL,
        author BLOB NOT NULL,
        seq INTEGER NOT NULL,
        span INTEGER NOT NULL,
        created_ms INTEGER NOT NULL,
        received_ms INTEGER NOT NULL,
        reply_to BLOB,
        thread BLOB,
        charter BLOB NOT NULL,
        judged BLOB,
        text_bytes INTEGER NOT NULL,
        file_bytes INTEGER NOT NULL,
        breach TEXT NOT NULL DEFAULT '',
        per_hour INTEGER NOT NULL DEFAULT 0,
        current BLOB NOT NULL,
        edits INTEGER NOT NULL DEFAULT 0,
        edited_ms INTEGER NOT NULL DEFAULT 0,
        removed INTEGER NOT NULL,
        frozen INTEGER NOT NULL DEFAULT 0,
        hidden TEXT NOT NULL DEFAULT '',
        rule TEXT NOT NULL DEFAULT ''
    )""",
    "CREATE INDEX forum_posts_page ON forum_posts (room, created_ms, id)",
    "CREATE INDEX forum_posts_shown ON forum_posts (room, created_ms, id) WHERE hidden = ''",
    "CREATE INDEX forum_posts_own ON forum_posts (author, room, created_ms, id) WHERE hidden <> ''",
    "CREATE INDEX forum_posts_thread ON forum_posts (thread)",
    "CREATE INDEX forum_posts_replies ON forum_posts (reply_to) WHERE reply_to IS NOT NULL",
    "CREATE INDEX forum_posts_charter ON forum_posts (charter)",
    "CREATE INDEX forum_posts_rate ON forum_posts (author, span, seq, id)",
    """CREATE TABLE forum_edits (
        id BLOB PRIMARY KEY,
        room BLOB NOT NULL,
        post BLOB NOT NULL,
        author BLOB NOT NULL,
        seq INTEGER NOT NULL,
        span INTEGER NOT NULL,
        created_ms INTEGER NOT NULL,
        charter BLOB NOT NULL,
        judged BLOB,
        text_bytes INTEGER NOT NULL,
        file_bytes INTEGER NOT NULL,
        breach TEXT NOT NULL DEFAULT '',
        per_hour INTEGER NOT NULL DEFAULT 0,
        frozen INTEGER NOT NULL DEFAULT 0,
        hidden TEXT NOT NULL DEFAULT '',
        rule TEXT NOT NULL DEFAULT ''
    )""",
    "CREATE INDEX forum_edits_post ON forum_edits (post, author, seq)",
    "CREATE INDEX forum_edits_room ON forum_edits (room, created_ms)",
    "CREATE INDEX forum_edits_charter ON forum_edits (charter)",
    "CREATE INDEX forum_edits_rate ON forum_edits (author, span, seq, id)",
    # Of reactions and labels the one with the highest seq counts, which is found on reading.
    """CREATE TABLE forum_reactions (
        id BLOB PRIMARY KEY,
        room BLOB NOT NULL,
        post BLOB NOT NULL,
        author BLOB NOT NULL,
        seq INTEGER NOT NULL,
        span INTEGER NOT NULL,
        created_ms INTEGER NOT NULL,
        emoji TEXT NOT NULL,
        is_on INTEGER NOT NULL,
        frozen INTEGER NOT NULL DEFAULT 0,
        hidden TEXT NOT NULL DEFAULT ''
    )""",
    "CREATE INDEX forum_reactions_post ON forum_reactions (post, emoji, author, seq)",
    "CREATE INDEX forum_reactions_rate ON forum_reactions (author, span, seq, id)",
    """CREATE TABLE forum_labels (
        id BLOB PRIMARY KEY,
        room BLOB NOT NULL,
        target BLOB NOT NULL,
        author BLOB NOT NULL,
        seq INTEGER NOT NULL,
        span INTEGER NOT NULL,
        created_ms INTEGER NOT NULL,
        value TEXT NOT NULL,
        is_on INTEGER NOT NULL,
        reason TEXT NOT NULL,
        frozen INTEGER NOT NULL DEFAULT 0,
        hidden TEXT NOT NULL DEFAULT ''
    )""",
    "CREATE INDEX forum_labels_target ON forum_labels (target, author, value, room, seq)",
    "CREATE INDEX forum_labels_room ON forum_labels (room, value, author, target)",
    "CREATE INDEX forum_labels_rate ON forum_labels (author, span, seq, id)",
    # What a post says now of others: of a removed one nothing.
    "CREATE TABLE forum_mentions (agent BLOB, post BLOB, PRIMARY KEY (agent, post)) WITHOUT ROWID",
    "CREATE INDEX forum_mentions_post ON forum_mentions (post)",
    "CREATE TABLE forum_quotes (quoted BLOB, post BLOB, PRIMARY KEY (quoted, post)) WITHOUT ROWID",
    "CREATE INDEX forum_quotes_post ON forum_quotes (post)",
    "CREATE TABLE forum_files (hash BLOB, post BLOB, PRIMARY KEY (hash, post)) WITHOUT ROWID",
    "CREATE INDEX forum_files_post ON forum_files (post)",
    # Posts of a room that ``hidden`` does not hide, and that it does.
    """CREATE TABLE forum_counts (
        room BLOB PRIMARY KEY,
        shown INTEGER NOT NULL,
        hidden INTEGER NOT NULL
    ) WITHOUT ROWID""",
    """CREATE TRIGGER forum_posts_inserted AFTER INSERT ON forum_posts BEGIN
        INSERT INTO forum_counts VALUES (new.room, new.hidden = '', new.hidden <> '')
        ON CONFLICT (room) DO UPDATE
            SET shown = shown + excluded.shown, hidden = hidden + excluded.hidden;
    END""",
    """CREATE TRIGGER forum_posts_updated AFTER UPDATE OF hidden ON forum_posts BEGIN
        UPDATE forum_counts SET shown = shown - (old.hidden = '') + (new.hidden = ''),
            hidden = hidden - (old.hidden <> '') + (new.hidden <> '') WHERE room = new.room;
    END""",
    """CREATE TRIGGER forum_posts_deleted AFTER DELETE ON forum_posts BEGIN
        UPDATE forum_counts SET shown = shown - (old.hidden = ''),
            hidden = hidden - (old.hidden <> '') WHERE room = old.room;
        DELETE FROM forum_counts WHERE room = old.room AND shown + hidden = 0;
    END""",
    # Posts that say something else than they did, for whoever keeps an index of what they say.
    "CREATE TABLE forum_turned (post BLOB PRIMARY KEY) WITHOUT ROWID",
    """CREATE TRIGGER forum_posts_turned AFTER UPDATE OF current, removed ON forum_posts
        WHEN new.current <> old.current OR new.removed <> old.removed BEGIN
        INSERT OR IGNORE INTO forum_turned VALUES (new.id);
    END""",
)

# What records do not tell again: posts that came long after their date though this member was
# listening; and, of each author, the records that are dated after all earlier ones of its chain,
# which stay when the records themselves are too old to be kept.
LASTING = (
    "CREATE TABLE IF NOT EXISTS forum_arrived_late (post BLOB PRIMARY KEY) WITHOUT ROWID",
    """CREATE TABLE IF NOT EXISTS forum_clocks (
        author BLOB NOT NULL,
        seq INTEGER NOT NULL,
        created_ms INTEGER NOT NULL,
        PRIMARY KEY (author, seq)
    ) WITHOUT ROWID""",
)
