"""One batch of records on its way into the forum's tables.

Owns what of a record stands in which table, and which rows another record changes: an edit its
post, a removal what it names, a charter what is judged by it. Within one batch what has to be
decided anew is only noted, and decided once by `settle_rooms` and `settle_posts`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence

from permesh.lookalike import skeleton
from permesh.records import Header, Record

from . import charters, kinds, rules, threads, verdicts
from .charter import Charter, breach
from .kinds import Content, Label
from .verdicts import CHARTERS, EDITS, LABELS, POSTS, REACTIONS, ROOMS, Fate, Touched

_VARIABLES = 500
_REFERENCES = (("forum_mentions", "agent"), ("forum_quotes", "quoted"), ("forum_files", "hash"))


class Batch:
    def __init__(self, cursor: sqlite3.Cursor) -> None:
        self._cursor = cursor
        self._touched = Touched()
        self._cache = charters.Cache(cursor)
        self._fates: dict[bytes, Fate | None] = {}
        self._versions: dict[bytes, None] = {}  # of charters, to be considered again
        self._posts: list[bytes] = []  # that came
        self._edited: dict[bytes, None] = {}  # posts whose text may be another now
        self._names: dict[str, None] = {}  # of rooms that came, or were hidden or shown

    def freeze(self, author: bytes, repaired: bytes | None) -> None:
        found = verdicts.fate(self._cursor, author, repaired)
        self._fates[author] = found
        if found is not None:
            verdicts.freeze(self._cursor, author, found, self._touched)

    # -- rooms ---------------------------------------------------------------------------------

    def add_room(self, record: Record, form: tuple[str, Charter]) -> None:
        name, _ = form
        header = record.header
        span, frozen = self._place(ROOMS, record)
        self._cursor.execute(
            "INSERT INTO forum_rooms (id, label, name, skeleton, author, seq, span, created_ms,"
            " frozen) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                record.id, _full_label(name, record.id), name, skeleton(name), header.author,
                header.seq, span, header.created_ms, frozen,
            ),
        )  # fmt: skip
        charters.add(self._cursor, record.id, header, 1, span, frozen)
        self._versions[record.id] = None
        if not frozen:
            self._names[name] = None

    def add_charter(self, record: Record, form: tuple[int, Charter]) -> None:
        number, _ = form
        span, frozen = self._place(CHARTERS, record)
        charters.add(self._cursor, record.id, record.header, number, span, frozen)
        self._versions[record.id] = None

    def settle_rooms(self) -> None:
        """Which rooms are shown, their names, which charters count, and what is judged by them."""
        cursor = self._cursor
        changed = verdicts.settle(cursor, self._touched, ROOMS, CHARTERS)
        for table, identity in changed:
            self._versions[identity] = None
            if table == ROOMS:
                (name, hidden) = cursor.execute(
                    "SELECT name, hidden FROM forum_rooms WHERE id = ?", (identity,)
                ).fetchone()
                self._names[name] = None
                cursor.execute(
                    "UPDATE forum_charters SET hidden = ? WHERE id = ?", (hidden, identity)
                )
        for name in self._names:
            _name_rooms(cursor, name)
        self._names.clear()
        changes = charters.reconsider(cursor, self._versions)
        self._versions.clear()
        self._cache = charters.Cache(cursor)
        verdicts.judge_again(cursor, changes, self._cache, self._touched)

    # -- posts and what is said of them ----------------------------------------------------------

    def add_post(self, record: Record, content: Content, now_ms: int) -> None:
        header = record.header
        judged, broken, per_hour = self._judge(header, content)
        span, frozen = self._place(POSTS, record, said=True)
        reply_to = header.parents[0] if header.parents else None
        thread = threads.thread_for(self._cursor, record.id, header.room, reply_to)
        self._cursor.execute(
            "INSERT INTO forum_posts (id, room, author, seq, span, created_ms, received_ms,"
            " reply_to, thread, charter, judged, text_bytes, file_bytes, breach, per_hour, current,"
            " removed, frozen, hidden, rule)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                record.id, header.room, header.author, header.seq, span, header.created_ms,
                now_ms, reply_to, thread, content.charter, judged, _size(content),
                content.largest_file, broken, per_hour, record.id, record.body is None, frozen,
                *verdicts.alone(frozen, broken),
            ),
        )  # fmt: skip
        self._refer(record.id, content)
        self._posts.append(record.id)

    def add_edit(self, record: Record, content: Content) -> None:
        header = record.header
        span, frozen = self._place(EDITS, record)
        judged, broken, _ = self._judge(header, content)
        self._cursor.execute(
            "INSERT INTO forum_edits (id, room, post, author, seq, span, created_ms, charter,"
            " judged, text_bytes, file_bytes, breach, frozen)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                record.id, header.room, header.parents[0], header.author, header.seq, span,
                header.created_ms, content.charter, judged, _size(content),
                content.largest_file, broken, frozen,
            ),
        )  # fmt: skip
        self._edited[header.parents[0]] = None

    def add_reaction(self, record: Record, form: tuple[str, bool]) -> None:
        header = record.header
        span, frozen = self._place(REACTIONS, record)
        self._cursor.execute(
            "INSERT INTO forum_reactions (id, room, post, author, seq, span, created_ms, emoji,"
            " is_on, frozen) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                record.id, header.room, header.parents[0], header.author, header.seq, span,
                header.created_ms, *form, frozen,
            ),
        )  # fmt: skip

    def add_label(self, record: Record, label: Label) -> None:
        header = record.header
        span, frozen = self._place(LABELS, record)
        self._cursor.execute(
            "INSERT INTO forum_labels (id, room, target, author, seq, span, created_ms, value,"
            " is_on, reason, frozen) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                record.id, header.room, label.target, header.author, header.seq, span,
                header.created_ms, label.value, label.on, label.reason, frozen,
            ),
        )  # fmt: skip

    def remove(self, record: Record, ids: tuple[bytes, ...]) -> None:
        """Only what is of the removal's own author and room; that it was said stays."""
        author, room = record.header.author, record.header.room
        for identity in ids:
            edit = self._cursor.execute(
                "SELECT post FROM forum_edits WHERE id = ? AND author = ? AND room = ?",
                (identity, author, room),
            ).fetchone()
            if edit is not None:
                self._delete(EDITS, identity)
                self._edited[edit[0]] = None
            removed = self._cursor.execute(
                "UPDATE forum_posts SET removed = 1, charter = x'', text_bytes = 0, file_bytes = 0"
                " WHERE id = ? AND author = ? AND room = ? AND NOT removed",
                (identity, author, room),
            ).rowcount
            if removed:
                self._edited[identity] = None
                verdicts.judge_one(self._cursor, POSTS, identity, self._cache, self._touched)

    def drop(self, records: Sequence[Record]) -> None:
        """Of records that are too old to be kept here."""
        tables = {
            kinds.POST: POSTS,
            kinds.EDIT: EDITS,
            kinds.REACTION: REACTIONS,
            kinds.LABEL: LABELS,
        }
        posts = []
        for record in records:
            header = record.header
            table = tables.get(header.kind)
            if table is None or not self._delete(table, record.id):
                continue
            if table == EDITS:
                self._edited[header.parents[0]] = None
            elif table == POSTS:
                posts.append(record.id)
                self._refer_to_nothing(record.id)
                self._cursor.execute("DELETE FROM forum_arrived_late WHERE post = ?", (record.id,))
        threads.leave_replies(self._cursor, posts)

    def settle_posts(self) -> None:
        """Where posts stand, what is hidden now, and what the posts say whose edits came, went, or
        were hidden."""
        threads.join_replies(self._cursor, self._posts)
        self._find_edits()
        changed = verdicts.settle(self._cursor, self._touched, POSTS, EDITS, REACTIONS, LABELS)
        for table, identity in changed:
            if table == EDITS:
                (post,) = self._cursor.execute(
                    "SELECT post FROM forum_edits WHERE id = ?", (identity,)
                ).fetchone()
                self._edited[post] = None
        for post in self._edited:
            self._show_last_edit(post)
        self._edited.clear()

    # -- inside --------------------------------------------------------------------------------

    def _find_edits(self) -> None:
        """Those of the posts that came whose edits were here before them."""
        for start in range(0, len(self._posts), _VARIABLES):
            some = self._posts[start : start + _VARIABLES]
            edited = self._cursor.execute(
                f"SELECT post FROM forum_edits WHERE post IN ({','.join('?' * len(some))})", some
            ).fetchall()
            self._edited.update((post, None) for (post,) in edited)
        self._posts.clear()

    def _place(self, table: str, record: Record, *, said: bool = False) -> tuple[int, bool]:
        header = record.header
        span = header.created_ms // rules.RATE_SPAN_MS
        found = self._fates.get(header.author)
        self._touched.add(table, header.author, span, header.seq, record.id, said)
        return span, found is not None and found.freezes(header.seq, record.id)

    def _judge(self, header: Header, content: Content) -> tuple[bytes | None, str, int]:
        """The version by which it is judged, the rule that it breaks, and its limit of posts."""
        by = self._cache.judge(header.room, content.charter, header.created_ms)
        if by is None:
            return None, "", 0
        charter = self._cache.get(by).charter
        broken = breach(charter, header.author, _size(content), content.largest_file)
        return by, broken, charter.posts_per_hour

    def _delete(self, table: str, identity: bytes) -> bool:
        row = self._cursor.execute(
            f"DELETE FROM {table} WHERE id = ? RETURNING author, span, seq", (identity,)
        ).fetchone()
        if row is None:
            return False
        author, span, seq = row
        self._touched.add(table, author, span, seq, identity)
        return True

    def _show_last_edit(self, post: bytes) -> None:
        row = self._cursor.execute(
            "SELECT author, room, removed FROM forum_posts WHERE id = ?", (post,)
        ).fetchone()
        if row is None:
            return
        author, room, removed = row
        current, edited_ms, edits = post, 0, 0
        if not removed:
            found = self._cursor.execute(
                "SELECT id, created_ms, count(*) OVER () FROM forum_edits"
                " WHERE post = ? AND author = ? AND +room = ? AND hidden = ''"
                " ORDER BY seq DESC, id LIMIT 1",
                (post, author, room),
            ).fetchone()
            current, edited_ms, edits = found or (current, edited_ms, edits)
        self._cursor.execute(
            "UPDATE forum_posts SET current = ?, edited_ms = ?, edits = ? WHERE id = ?",
            (current, edited_ms, edits, post),
        )
        self._refer_to_nothing(post)
        if not removed:
            self._refer(post, read_current(self._cursor, current))

    def _refer(self, post: bytes, content: Content) -> None:
        """Keep whom and what a post names that named nothing."""
        said: Iterable[tuple[bytes, ...]] = (
            content.mentions,
            content.quotes,
            tuple(dict.fromkeys(file.hash for file in content.files)),
        )
        for (table, column), values in zip(_REFERENCES, said, strict=True):
            for value in values:
                self._cursor.execute(
                    f"INSERT INTO {table} ({column}, post) VALUES (?, ?)", (value, post)
                )

    def _refer_to_nothing(self, post: bytes) -> None:
        for table, _ in _REFERENCES:
            self._cursor.execute(f"DELETE FROM {table} WHERE post = ?", (post,))


def read_current(connection: sqlite3.Connection | sqlite3.Cursor, record: bytes) -> Content:
    """Out of the body of a post or an edit that stands in the tables and is not removed."""
    (body,) = connection.execute("SELECT body FROM records WHERE id = ?", (record,)).fetchone()
    return kinds.read_post(body)


def _size(content: Content) -> int:
    return len(content.text.encode())


# -- names of rooms ------------------------------------------------------------------------------


def _full_label(name: str, room: bytes) -> str:
    return f"{name}~{room.hex()}"


def _name_rooms(cursor: sqlite3.Cursor, name: str) -> None:
    """Give the rooms of one name their labels, in the order in which they came."""
    rows = cursor.execute(
        "SELECT id, hidden, label FROM forum_rooms WHERE name = ? ORDER BY rowid", (name,)
    ).fetchall()
    labels: dict[str, bytes] = {}
    for room, hidden, _ in rows:
        full = _full_label(name, room)
        tries = [name, *(f"{name}~{room.hex()[:size]}" for size in (4, 8, 16, 32)), full]
        labels[full if hidden else next(one for one in tries if one not in labels)] = room
    now = {room: label for label, room in labels.items()}
    changed = [room for room, _, label in rows if now[room] != label]
    # A label is unique at any moment.
    for room in changed:
        cursor.execute(
            "UPDATE forum_rooms SET label = ? WHERE id = ?", (_full_label(name, room), room)
        )
    for room in changed:
        cursor.execute("UPDATE forum_rooms SET label = ? WHERE id = ?", (now[room], room))
