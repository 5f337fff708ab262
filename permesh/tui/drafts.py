"""What is being written: kept by the daemon, and posted once.

Owns the drafts of every place, when they are saved, and how a post whose reply was lost is told
from one that never arrived. Knows nothing of the screen. Nothing typed is thrown away: a draft
goes only once its post was confirmed, and what the daemon cannot take now is kept in a file.
"""

from __future__ import annotations

import asyncio
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field

from permesh.errors import PermeshError
from permesh.schema import NewAttachment, NewDraft, NewPost, NewText, Post

from .draft_file import DraftFile
from .ports import Clock, MeshClient

# After these nobody knows whether the daemon stored the post.
LOST = frozenset({"daemon.gone", "daemon.slow", "daemon.not_understood"})
NEWEST = 100  # posts of a room among which a post whose reply was lost is looked for
LOST_REPLY = (
    "The daemon went away before it said whether this was posted. It is looked for when the "
    "daemon is back, and not posted twice."
)
NOT_THERE = "This did not reach the daemon. ctrl+s posts it."


@dataclass(frozen=True, slots=True)
class Place:
    """Where a text goes: to a room, in answer to a post, or in the place of one's own post."""

    room: str
    reply_to: str | None = None
    edits: str | None = None


@dataclass
class Draft:
    """``saved`` is what the daemon holds of it; ``unsure`` whether it may be posted already."""

    place: Place
    text: str = ""
    typed_ms: int = 0
    saved: str = ""
    quotes: list[str] = field(default_factory=list)
    files: list[NewAttachment] = field(default_factory=list)
    original: str = ""  # of an edit: what the post says now
    sending: bool = False
    unsure: bool = False
    problem: str = ""

    @property
    def worth_keeping(self) -> bool:
        return bool(self.text.strip()) and self.text != self.original

    def fingerprint(self) -> tuple[str, str | None]:
        return _normal(self.text), self.place.reply_to


def _normal(text: str) -> str:
    """What is seen of a text: the daemon takes the rest out of it, and composes letters."""
    composed = unicodedata.normalize("NFC", text)
    return "".join(one for one in composed if unicodedata.category(one)[0] in "LNPS")


def _says(post: Post, wanted: str) -> bool:
    """Whether a post was made of this text; what it quotes stands before it."""
    said = _normal(post.text)
    return said == wanted or bool(post.quotes and said.endswith(wanted))


class Drafts:
    """A draft for each place. ``file`` keeps what the daemon does not."""

    def __init__(self, client: MeshClient, clock: Clock, file: DraftFile) -> None:
        self._client = client
        self._clock = clock
        self._file = file
        self._by_place: dict[Place, Draft] = {}
        self._order = asyncio.Lock()  # saving and posting, one after the other
        self._loaded = False
        for held in file.read():
            place = Place(held.room, held.reply_to, held.edits)
            self._by_place[place] = Draft(
                place, held.text, held.typed_ms, original=held.original, unsure=True
            )

    def __iter__(self) -> Iterator[Draft]:
        return iter(list(self._by_place.values()))

    def of(self, place: Place) -> Draft:
        return self._by_place.setdefault(place, Draft(place))

    def last_of(self, room: str) -> Draft:
        """The draft that was changed last in a room; an empty one if there is none."""
        written = [one for one in self if one.place.room == room and one.worth_keeping]
        if not written:
            return self.of(Place(room))
        return max(written, key=lambda draft: draft.typed_ms)

    def others(self, draft: Draft) -> int:
        """How many other places of the same room have a draft."""
        same = (one for one in self if one.place.room == draft.place.room and one is not draft)
        return sum(one.worth_keeping for one in same)

    def rooms(self) -> set[str]:
        """Rooms in which something is written and not posted."""
        return {draft.place.room for draft in self if draft.worth_keeping}

    def type(self, draft: Draft, text: str) -> bool:
        """What the text field holds now. True if that is a change."""
        if draft.sending or draft.text == text:
            return False
        draft.text, draft.typed_ms, draft.unsure = text, self._clock(), False
        return True

    # With the daemon

    async def restore(self) -> None:
        """Take in what the daemon kept, once; what was typed here meanwhile stays.

        Raises ``PermeshError``.
        """
        if self._loaded:
            return
        async with self._order:
            kept = await self._client.drafts()
            for held in kept.items:
                place = Place(held.room, held.reply_to)
                draft = self.of(place)
                draft.saved = held.text
                if not draft.text:
                    draft.text, draft.typed_ms, draft.unsure = held.text, held.updated_ms, True
                elif held.text not in draft.text and held.updated_ms > draft.typed_ms:
                    draft.text = f"{draft.text}\n\n{held.text}"  # two texts for one place: both
            self._loaded = True

    async def save(self) -> None:
        """Give the daemon what changed; what it does not take stays in the file."""
        async with self._order:
            try:
                if self._loaded:
                    for draft in self:
                        await self._save(draft)
            except PermeshError:
                pass  # the file has it, and the next change or connection tries again
            finally:
                self.save_in_file()

    async def _save(self, draft: Draft) -> None:
        text = draft.text if draft.worth_keeping else ""
        if draft.place.edits is None and text != draft.saved and not draft.sending:
            try:
                await self._client.save_draft(
                    draft.place.room, NewDraft(text=text, reply_to=draft.place.reply_to)
                )
            except PermeshError as error:
                if error.code in LOST or error.code == "daemon.absent":
                    raise
                return  # this one is refused (too long, too many): the file has it
            draft.saved = text

    def save_in_file(self) -> None:
        """Keep here what the daemon does not have: edits, and what was typed while it was away."""
        self._file.write(
            [
                DraftFile.Held(
                    draft.place.room,
                    draft.place.reply_to,
                    draft.place.edits,
                    draft.text,
                    draft.original,
                    draft.typed_ms,
                )
                for draft in self
                if draft.worth_keeping and (draft.place.edits or draft.text != draft.saved)
            ]
        )

    async def send(self, draft: Draft, own: str) -> Post | None:
        """Post the text, or find that it is posted; None if ``draft.problem`` says why not."""
        draft.sending, draft.problem = True, ""
        try:
            async with self._order:
                post = await self._send(draft, own)
        except PermeshError as error:
            draft.problem = str(error)
            if error.code in LOST:
                draft.unsure, draft.problem = True, LOST_REPLY
            return None
        finally:
            draft.sending = False
        self._gone(draft)
        return post

    async def _send(self, draft: Draft, own: str) -> Post:
        if draft.place.edits is not None:
            return await self._client.edit(draft.place.edits, NewText(text=draft.text))
        if draft.unsure and (found := await self._find(draft, own)):
            return found
        wanted = NewPost(
            text=draft.text,
            reply_to=draft.place.reply_to,
            quotes=draft.quotes,
            attachments=draft.files,
        )
        return await self._client.post(draft.place.room, wanted)

    async def settle(self, own: str) -> list[Post]:
        """Find which of the texts whose fate is unknown are posted; their drafts go.

        Raises ``PermeshError``. An edit may be sent twice: the second one changes nothing.
        """
        found = []
        for draft in [one for one in self if one.unsure and one.worth_keeping]:
            if draft.place.edits is not None or draft.sending:
                continue
            try:
                async with self._order:
                    post = await self._find(draft, own)
            except PermeshError as error:
                if error.code in LOST or error.code == "daemon.absent":
                    raise
                continue  # the room is not known here any more
            if post is not None:
                found.append(post)
                self._gone(draft)
            elif draft.problem == LOST_REPLY:
                draft.problem = NOT_THERE
        return found

    async def _find(self, draft: Draft, own: str) -> Post | None:
        page = await self._client.posts(draft.place.room, None, NEWEST, "desc", hidden=True)
        wanted, reply_to = draft.fingerprint()
        for post in page.items:
            mine = post.author == own and post.created_ms >= draft.typed_ms
            if mine and post.reply_to == reply_to and _says(post, wanted):
                return post
        return None

    def _gone(self, draft: Draft) -> None:
        draft.text, draft.original, draft.unsure, draft.problem = "", "", False, ""
        draft.quotes, draft.files = [], []
        if not draft.saved:
            self._by_place.pop(draft.place, None)
