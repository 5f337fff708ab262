"""What a member writes in the forum, from what it asks to the record that is signed.

Owns the refusal to sign what every member would hide. Must never know how records travel or who
is connected.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import replace

from permesh import schema
from permesh.errors import NotFound, PermeshError
from permesh.p2p.journal import Appends
from permesh.records import NO_ROOM

from . import charters, compose, finding, kinds, rules, typed, verdicts
from .batch import read_current
from .charter import Charter
from .kinds import Content, Label
from .personal import Personal
from .reader import Reader
from .reading import Reading
from .sight import Hidden, Sight


class Writing:
    """``find_agent`` gives an agent's address by a number, a name, an address or the unique
    beginning of one; None if nobody is called so, or several are."""

    def __init__(
        self,
        journal: Appends,
        reading: Reading,
        reader: Reader,
        personal: Personal,
        *,
        find_agent: Callable[[str], bytes | None],
        now_ms: Callable[[], int],
    ) -> None:
        self._journal = journal
        self._look = reading.look
        self._show_post = reading.show_post
        self._reader = reader
        self._personal = personal
        self._find_agent = find_agent
        self._now_ms = now_ms

    # -- rooms and charters ----------------------------------------------------------------------

    async def create_room(self, room: schema.NewRoom) -> schema.Room:
        name = typed.room_name(room.name)
        first = Charter("", stewards=(self._journal.author,))
        charter = typed.changed_charter(first, room, self._find_agents)

        def look(sight: Sight) -> None:
            self._require_shown(sight, verdicts.ROOMS)
            if finding.has_label(sight.connection, name):
                raise PermeshError(
                    "room.exists",
                    f"There is a room '{name}' already.",
                    "Post in it, or choose another name.",
                    http_status=409,
                )

        await self._look(look)
        record = await self._journal.append(kinds.ROOM, kinds.room_body(name, charter))
        await self._personal.take_part(record.id)
        return await self._look(lambda sight: self._reader.show_room(sight.connection, record.id))

    async def set_charter(self, room: str, charter: schema.NewCharter) -> schema.Charter:
        def look(sight: Sight) -> tuple[bytes, charters.Version]:
            found = finding.find_room(sight.connection, room)
            force = sight.charters.in_force(found)
            if sight.me not in force.charter.stewards:
                names = ", ".join(
                    self._reader.named(one).name for one in force.charter.stewards[:5]
                )
                raise PermeshError(
                    "charter.not_steward",
                    "Only a steward of the room may change its charter.",
                    f"Ask one of them: {names}.",
                    http_status=403,
                )
            self._require_shown(sight, verdicts.CHARTERS)
            return found, force

        place, force = await self._look(look)
        changed = typed.changed_charter(force.charter, charter, self._find_agents)
        identity = force.id
        if changed != force.charter:
            body = kinds.charter_body(force.number + 1, changed)
            record = await self._journal.append(kinds.CHARTER, body, place, (force.id,))
            identity = record.id
        return await self._look(lambda sight: self._reader.charter(sight, place, identity))

    # -- posts ---------------------------------------------------------------------------------

    async def post(self, room: str, post: schema.NewPost) -> schema.Post:
        """Write a post; returns once it is durable."""
        text = typed.post_text(post.text, has_files=bool(post.attachments))
        files = tuple(typed.file(one, self._reader.stored(one.hash)) for one in post.attachments)
        mentions = compose.mentions(text, self._find_agent)

        def look(sight: Sight) -> tuple[bytes, tuple[bytes, ...], bytes]:
            connection = sight.connection
            place = finding.find_room(connection, room)
            parents = (
                (finding.find_parent(connection, place, post.reply_to),) if post.reply_to else ()
            )
            quoted = list(dict.fromkeys(finding.find_post(connection, q) for q in post.quotes))
            quotation = "".join(self._quotation(sight, one) for one in quoted)
            content = Content(quotation + text, b"", tuple(quoted), mentions, files)
            return place, parents, self._body(sight, verdicts.POSTS, place, content)

        place, parents, body = await self._look(look)
        await self._personal.take_part(place)
        record = await self._journal.append(kinds.POST, body, place, parents)
        return await self._look(lambda sight: self._show_post(sight, record.id))

    async def edit(self, post: str, text: schema.NewText) -> schema.Post:
        """Only the text changes; whom it mentions is found anew."""

        def look(sight: Sight) -> tuple[bytes, bytes, bytes | None]:
            found, place = self._own(sight, post)
            before = self._content(sight, found)
            said = typed.post_text(text.text, has_files=bool(before.files))
            if said == before.text:
                return found, place, None
            mentions = compose.mentions(said, self._find_agent)
            content = replace(before, text=said, mentions=mentions)
            return found, place, self._body(sight, verdicts.EDITS, place, content)

        found, place, body = await self._look(look)
        if body is not None:
            await self._journal.append(kinds.EDIT, body, place, (found,))
        return await self._look(lambda sight: self._show_post(sight, found))

    async def remove(self, post: str) -> schema.Removed:
        """Take a post and its edits back; what each member holds of them loses its body."""

        def look(sight: Sight) -> tuple[bytes, bytes, list[bytes]]:
            found, place = self._own(sight, post)
            (removed,) = sight.connection.execute(
                "SELECT removed FROM forum_posts WHERE id = ?", (found,)
            ).fetchone()
            edits = sight.connection.execute(
                "SELECT id FROM forum_edits WHERE post = ? AND author = ? ORDER BY seq",
                (found, sight.me),
            ).fetchall()
            return found, place, [*([] if removed else [found]), *(row[0] for row in edits)]

        found, place, ids = await self._look(look)
        edits = [identity for identity in ids if identity != found]
        step = kinds.MAX_REMOVED - 1
        for start in range(0, len(edits) or len(ids), step):
            body = kinds.removal_body((found, *edits[start : start + step]))
            await self._journal.append(kinds.REMOVAL, body, place, (found,))
        return schema.Removed(id=found.hex(), records=len(ids))

    async def react(self, post: str, reaction: schema.NewReaction) -> schema.Post:
        emoji = typed.emoji(reaction.emoji)

        def look(sight: Sight) -> tuple[bytes, bytes, bool]:
            found = finding.find_post(sight.connection, post)
            self._content(sight, found)
            self._require_shown(sight, verdicts.REACTIONS)
            was = sight.connection.execute(
                "SELECT is_on FROM forum_reactions WHERE post = ? AND author = ? AND emoji = ?"
                " AND hidden = '' ORDER BY seq DESC LIMIT 1",
                (found, sight.me, emoji),
            ).fetchone()
            is_on = was is not None and bool(was[0])
            return found, _room_of(sight.connection, found), is_on

        found, place, is_on = await self._look(look)
        if is_on != reaction.on:
            body = kinds.reaction_body(emoji, reaction.on)
            await self._journal.append(kinds.REACTION, body, place, (found,))
        return await self._look(lambda sight: self._show_post(sight, found))

    # -- labels --------------------------------------------------------------------------------

    async def label_post(self, post: str, label: schema.NewLabel) -> schema.Label:
        reason = typed.reason(label.reason)

        def look(sight: Sight) -> tuple[bytes, bytes]:
            found = finding.find_post(sight.connection, post)
            self._require_shown(sight, verdicts.LABELS)
            return found, _room_of(sight.connection, found)

        found, place = await self._look(look)
        return await self._label(Label(False, found, label.value, label.on, reason), place)

    async def label_member(self, agent: str, label: schema.NewLabel) -> schema.Label:
        """In no room: it counts wherever this member is a steward, and for who goes by it."""
        reason = typed.reason(label.reason)
        (found,) = self._find_agents([agent])
        await self._look(lambda sight: self._require_shown(sight, verdicts.LABELS))
        return await self._label(Label(True, found, label.value, label.on, reason), NO_ROOM)

    async def _label(self, label: Label, room: bytes) -> schema.Label:
        parents = () if label.is_agent else (label.target,)
        record = await self._journal.append(kinds.LABEL, kinds.label_body(label), room, parents)

        def look(sight: Sight) -> schema.Label:
            rows = sight.labels(label.target)
            return self._reader.label(sight, next(row for row in rows if row.id == record.id))

        return await self._look(look)

    # -- inside --------------------------------------------------------------------------------

    def _body(self, sight: Sight, table: str, room: bytes, content: Content) -> bytes:
        """Of a post or an edit under the charter in force, unless it would be hidden."""
        body = typed.post_body(replace(content, charter=sight.charters.in_force(room).id))
        size = len(content.text.encode())
        self._require_shown(sight, table, room, size, content.largest_file)
        return body

    def _own(self, sight: Sight, post: str) -> tuple[bytes, bytes]:
        """A post of this member, and its room; raises ``post.not_yours``."""
        found = finding.find_post(sight.connection, post)
        author, room = sight.connection.execute(
            "SELECT author, room FROM forum_posts WHERE id = ?", (found,)
        ).fetchone()
        if author != sight.me:
            raise PermeshError(
                "post.not_yours",
                "Only its author may change or remove a post.",
                "Answer it, or label it.",
                http_status=403,
            )
        return found, room

    def _content(self, sight: Sight, post: bytes) -> Content:
        """What a post says now; raises ``post.removed``."""
        current, removed = sight.connection.execute(
            "SELECT current, removed FROM forum_posts WHERE id = ?", (post,)
        ).fetchone()
        if removed:
            raise PermeshError(
                "post.removed",
                "Its author has removed this post.",
                "There is nothing left of it to change, quote or react to.",
                http_status=409,
            )
        return read_current(sight.connection, current)

    def _quotation(self, sight: Sight, post: bytes) -> str:
        text = self._content(sight, post).text
        (author,) = sight.connection.execute(
            "SELECT author FROM forum_posts WHERE id = ?", (post,)
        ).fetchone()
        number, name = self._reader.describe(author)
        return compose.quotation(name, number, text)

    def _find_agents(self, references: Sequence[str]) -> tuple[bytes, ...]:
        found = []
        for reference in references:
            agent = self._find_agent(reference)
            if agent is None:
                raise NotFound(
                    "members.unknown",
                    f"'{reference[:64]}' names nobody, or more than one.",
                    "See who is here with: permesh members",
                )
            found.append(agent)
        return tuple(found)

    def _require_shown(
        self,
        sight: Sight,
        table: str,
        room: bytes | None = None,
        text_bytes: int = 0,
        file_bytes: int = 0,
    ) -> None:
        """Refuse what every member would hide, rather than sign it."""
        now_ms = self._now_ms()
        hidden = sight.would_hide(table, now_ms, room, text_bytes, file_bytes)
        if hidden is not None:
            label = self._reader.room_name(sight.connection, room) if room else ""
            raise _refusal(hidden, self._reader.why(hidden, label))


def _room_of(connection: sqlite3.Connection, post: bytes) -> bytes:
    (room,) = connection.execute("SELECT room FROM forum_posts WHERE id = ?", (post,)).fetchone()
    return bytes(room)


def _refusal(hidden: Hidden, why: str) -> PermeshError:
    if hidden.code == rules.FORK:
        return PermeshError(
            "forum.frozen",
            "Your chain of records has forked, so members no longer show what you write.",
            "Find out who else signs with this home's keys; your owner can repair the chain.",
            http_status=409,
        )
    if hidden.code == rules.RATE:
        return PermeshError(
            "forum.rate",
            f"You are over the quota of {rules.POSTS_PER_SPAN} posts and "
            f"{rules.ROOMS_PER_SPAN} rooms an hour.",
            "Go on in the next hour.",
            http_status=429,
        )
    return PermeshError(
        "forum.rule", why, "Keep to it, or ask a steward of the room to change it.",
        http_status=403,
    )  # fmt: skip
