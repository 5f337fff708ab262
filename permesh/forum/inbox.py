"""What concerns this member: mentions, answers, quotes and reactions, and its own hidden posts.

Owns the table `forum_inbox`, which is kept up from the forum's view, and its pages. Must never
decide what is hidden: that is `sight.py`.

The order is that of arrival. Each record stands in it once: what answers a post of this member and
mentions it too is an answer. What an edit takes back is no longer there; what an edit adds arrives
with the edit.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from heapq import merge
from typing import Literal

from permesh.records import Record

from . import kinds, marks, rules
from .sight import Sight

Kind = Literal["mention", "reply", "reaction", "quote", "hidden"]

# Of a member's own posts, those that are looked at for what is hidden.
MAX_OWN = 250
# Of what others did, shown or not, that is looked at for one page; it may end early.
MAX_EXAMINED = 5_000
# Of one author's acts the last ones stand in the inbox, so that nobody buries those of others.
MAX_OF_ONE = 1_000
_BATCH = 100
_VARIABLES = 500
_LATEST = 2**63 - 1


class InboxView:
    """The inbox as a `Projection`: see `permesh/store.py`. It stands after the forum's view.

    It is built anew for another member: a home whose key was moved has another inbox.
    """

    version = 2

    def __init__(self, me: bytes) -> None:
        self.name = f"inbox {me.hex()}"
        self._me = me

    def reset(self, cursor: sqlite3.Cursor) -> None:
        cursor.execute("DROP TABLE IF EXISTS forum_inbox")
        cursor.execute(
            "CREATE TABLE forum_inbox (position INTEGER PRIMARY KEY, kind TEXT NOT NULL,"
            " record BLOB NOT NULL, post BLOB NOT NULL, author BLOB NOT NULL)"
        )
        cursor.execute("CREATE INDEX forum_inbox_post ON forum_inbox (post)")
        cursor.execute("CREATE INDEX forum_inbox_author ON forum_inbox (author, position)")

    def apply(self, cursor: sqlite3.Cursor, records: Sequence[Record], now_ms: int) -> None:  # noqa: ARG002 - the view's form
        posts: list[tuple[bytes, bytes]] = []
        for record in records:
            kind, author = record.header.kind, record.header.author
            if kind == kinds.POST and author == self._me:
                self._catch_up(cursor, record.id)
            elif author == self._me:
                continue
            elif kind == kinds.POST:
                posts.append((record.id, record.id))
            elif kind == kinds.EDIT and record.header.parents:
                posts.append((record.header.parents[0], record.id))
            elif kind == kinds.REACTION:
                self._take_reaction(cursor, record.id)
            elif kind == kinds.LABEL:
                self._take_label(cursor, record.id)
        self._take_posts(cursor, posts)

    def forget(self, cursor: sqlite3.Cursor, records: Sequence[Record]) -> None:
        ids = [(record.id, record.id) for record in records]
        cursor.executemany(
            "DELETE FROM forum_inbox WHERE position IN (SELECT position FROM records WHERE id = ?)"
            " OR post = ?",
            ids,
        )

    def _catch_up(self, cursor: sqlite3.Cursor, own: bytes) -> None:
        """What concerns an own post may be here before it, in a home that lost its database."""
        around = cursor.execute(
            "SELECT id FROM forum_posts WHERE reply_to = ?1"
            " UNION SELECT post FROM forum_quotes WHERE quoted = ?1",
            (own,),
        ).fetchall()
        self._take_posts(cursor, [(post, post) for (post,) in around])
        for table, column, take in (
            ("forum_reactions", "post", self._take_reaction),
            ("forum_labels", "target", self._take_label),
        ):
            found = cursor.execute(f"SELECT id FROM {table} WHERE {column} = ?", (own,)).fetchall()
            for (record,) in found:
                take(cursor, record)

    def _take_posts(self, cursor: sqlite3.Cursor, posts: Sequence[tuple[bytes, bytes]]) -> None:
        """Each with the record that brought what it says: its own, or an edit."""
        for start in range(0, len(posts), _VARIABLES):
            some = posts[start : start + _VARIABLES]
            rows = cursor.execute(
                "SELECT p.id, p.author, p.reply_to IS NOT NULL AND"
                " EXISTS (SELECT 1 FROM forum_posts AS o WHERE o.id = p.reply_to AND o.author = ?),"
                " EXISTS (SELECT 1 FROM forum_mentions AS m WHERE m.agent = ? AND m.post = p.id),"
                " EXISTS (SELECT 1 FROM forum_quotes AS q JOIN forum_posts AS o ON o.id = q.quoted"
                "  WHERE q.post = p.id AND o.author = ?)"
                f" FROM forum_posts AS p WHERE id IN ({','.join('?' * len(some))})"
                " AND author <> ? AND NOT EXISTS (SELECT 1 FROM forum_inbox AS i"
                "  WHERE i.post = p.id)",
                (*(self._me,) * 3, *(post for post, _ in some), self._me),
            ).fetchall()
            concern = {row[0]: row[1:] for row in rows if any(row[2:])}
            for post, record in some:
                if post in concern:
                    author, *how = concern.pop(post)
                    kind = ("reply", "mention", "quote")[how.index(1)]
                    _insert(cursor, kind, record, post, author)

    def _take_reaction(self, cursor: sqlite3.Cursor, record: bytes) -> None:
        row = cursor.execute(
            "SELECT f.post, f.author FROM forum_reactions AS f"
            " JOIN forum_posts AS p ON p.id = f.post AND p.author = ?1"
            " WHERE f.id = ?2 AND f.is_on AND f.author <> ?1",
            (self._me, record),
        ).fetchone()
        if row:
            _insert(cursor, "reaction", record, *row)

    def _take_label(self, cursor: sqlite3.Cursor, record: bytes) -> None:
        row = cursor.execute(
            "SELECT l.target, l.author FROM forum_labels AS l"
            " JOIN forum_posts AS p ON p.id = l.target AND p.author = ?1"
            f" WHERE l.id = ?2 AND l.is_on AND l.value IN {rules.HIDING} AND l.author <> ?1",
            (self._me, record),
        ).fetchone()
        if row:
            _insert(cursor, "hidden", record, *row)


def _insert(cursor: sqlite3.Cursor, kind: str, record: bytes, post: bytes, author: bytes) -> None:
    cursor.execute(
        "INSERT OR IGNORE INTO forum_inbox SELECT position, ?, id, ?, ? FROM records WHERE id = ?",
        (kind, post, author, record),
    )
    cursor.execute(
        "DELETE FROM forum_inbox WHERE author = ?1 AND position <= (SELECT position"
        "  FROM forum_inbox WHERE author = ?1 ORDER BY position DESC LIMIT 1 OFFSET ?2)",
        (author, MAX_OF_ONE),
    )


# -- reading -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Item:
    """``post`` is the one to show: that of another, or, of a reaction and of what is hidden, this
    member's own. ``author`` is whose act it was; ``emoji`` is a reaction's."""

    position: int
    kind: Kind
    post: bytes
    author: bytes
    at_ms: int
    emoji: str = ""


@dataclass(frozen=True, slots=True)
class Page:
    """``below`` is where to go on, if there may be more; then there may be fewer than were asked
    for, or none."""

    items: list[Item]
    below: int | None


def page(sight: Sight, *, limit: int, below: int | None = None, unread: bool = False) -> Page:
    """Newest first, of what this member sees."""
    above = marks.mark_of(sight.connection, marks.INBOX) if unread else -1
    below = _LATEST if below is None else below
    floor = sight.connection.execute(
        "SELECT position FROM forum_inbox WHERE position > ? AND position < ?"
        f" ORDER BY position DESC LIMIT 1 OFFSET {MAX_EXAMINED - 1}",
        (above, below),
    ).fetchone()
    above = above if floor is None else floor[0] - 1
    items: list[Item] = []
    with closing(_rows(sight, above, below)) as received:
        own = _own_hidden(sight, above, below)
        for one in merge(received, own, key=lambda item: -item.position):
            if len(items) == limit:
                return Page(items, items[-1].position)
            items.append(one)
    return Page(items, None if floor is None else floor[0])


def count_unread(sight: Sight) -> int:
    """At most `marks.MAX_COUNTED`, of what one page looks at."""
    return len(page(sight, limit=marks.MAX_COUNTED, unread=True).items)


def _rows(sight: Sight, above: int, below: int) -> Generator[Item, None, None]:
    """What others did, without what is taken back, removed, or hidden from this member."""
    with closing(
        sight.connection.execute(
            "SELECT i.position, i.kind, i.post, i.author, r.received_ms,"
            " coalesce((SELECT emoji FROM forum_reactions AS f WHERE f.id = i.record), '')"
            " FROM forum_inbox AS i CROSS JOIN forum_posts AS p ON p.id = i.post"
            " CROSS JOIN records AS r ON r.position = i.position"
            " WHERE i.position > ?1 AND i.position < ?2 AND NOT p.removed"
            " AND i.author NOT IN (SELECT agent FROM judgements WHERE heard > 0)"
            " AND CASE i.kind"
            "  WHEN 'reaction' THEN EXISTS (SELECT 1 FROM forum_reactions AS f"
            "   WHERE f.id = i.record AND f.hidden = '' AND NOT EXISTS ("
            "    SELECT 1 FROM forum_reactions AS g WHERE g.post = f.post AND g.author = f.author"
            "    AND g.emoji = f.emoji AND g.hidden = '' AND g.seq > f.seq))"
            "  WHEN 'mention' THEN EXISTS (SELECT 1 FROM forum_mentions AS m"
            "   WHERE m.agent = ?3 AND m.post = p.id)"
            "  WHEN 'quote' THEN EXISTS (SELECT 1 FROM forum_quotes AS q"
            "   JOIN forum_posts AS o ON o.id = q.quoted WHERE q.post = p.id AND o.author = ?3)"
            "  ELSE 1 END ORDER BY i.position DESC",
            (above, below, sight.me),
        )
    ) as rows:
        while batch := [Item(*row) for row in rows.fetchmany(_BATCH)]:
            hidden = sight.hidden([one.post for one in batch])
            for one in batch:
                why = hidden.get(one.post)
                if one.kind == "hidden":
                    # A label of someone who does not count here hides nothing.
                    if why and why.label and why.label.author == one.author:
                        yield one
                elif one.kind == "reaction" or why is None:
                    yield one


def _own_hidden(sight: Sight, above: int, below: int) -> list[Item]:
    """Of this member's last posts those that are hidden, but for labels of a post: these are told
    when the label comes."""
    rows = {
        row[1]: row
        for row in sight.connection.execute(
            "SELECT position, id, received_ms FROM records WHERE author = ? AND kind = ?"
            " AND body IS NOT NULL ORDER BY seq DESC LIMIT ?",
            (sight.me, kinds.POST, MAX_OWN),
        )
        if above < row[0] < below
    }
    hidden = sight.hidden(list(rows))
    items = [
        Item(rows[post][0], "hidden", post, sight.me, rows[post][2])
        for post, why in hidden.items()
        if why.label is None or why.label.target != post
    ]
    return sorted(items, key=lambda item: -item.position)
