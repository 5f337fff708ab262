"""The forum's record kinds and the form of their bodies.

Owns validity: a record that is out of form is refused at the door. All else is policy
(`permesh/forum/rules.py`), since a rule may change and a chain must not break by it. Pure; must
never touch a database or a clock.

    forum.room       [name, *charter], in no room; its id is the room's
    forum.charter    [version, *charter], after the charter that it follows
    forum.post       [text, charter, quotes, mentions, files], after the post that it answers
    forum.edit       the same, after the post that it changes
    forum.removal    [ids], after the post: its own and its edits'
    forum.reaction   [emoji, on], after the post
    forum.label      [0, post, value, on, reason] after the post, or [1, agent, value, on, reason],
                     which is of one room, or, in none, of all

A room of two fields, name and purpose, and a post that is UTF-8 and nothing else are of an older
release; such a text never begins with the byte of an array.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from permesh.errors import Refused
from permesh.records import MAX_BODY_BYTES, NO_ROOM, Header, Record, is_nfc, pack, unpack
from permesh.removal import Removals

from .charter import MAX_FILE_BYTES, Charter
from .text import is_clean, is_emoji

ROOM = "forum.room"
CHARTER = "forum.charter"
POST = "forum.post"
EDIT = "forum.edit"
REMOVAL = "forum.removal"
REACTION = "forum.reaction"
LABEL = "forum.label"
KINDS = frozenset({ROOM, CHARTER, POST, EDIT, REMOVAL, REACTION, LABEL})

MAX_QUOTES = 8
MAX_MENTIONS = 32
MAX_FILES = 8
MAX_REMOVED = 64
MAX_FILE_NAME = 255  # characters
MAX_FILE_TYPE = 100
MAX_REASON = 200  # characters
MAX_VERSION = 2**31

_ROOM_NAME = re.compile(r"[a-z0-9._-]{1,64}")
_LABEL_VALUE = re.compile(r"[a-z][a-z-]{0,31}")
_FILE_TYPE = re.compile(rf"[\x21-\x7e]{{0,{MAX_FILE_TYPE}}}")
_NO_CHARTER = b""


@dataclass(frozen=True, slots=True)
class File:
    """``hash`` is the SHA-256 of its bytes, ``type`` a MIME type, as the author claims."""

    hash: bytes
    bytes: int
    name: str
    type: str = ""


@dataclass(frozen=True, slots=True)
class Content:
    """What a post says. ``charter`` is the version under which its author wrote it, empty if it
    does not say; quotes are posts, mentions agents."""

    text: str
    charter: bytes = _NO_CHARTER
    quotes: tuple[bytes, ...] = ()
    mentions: tuple[bytes, ...] = ()
    files: tuple[File, ...] = ()

    @property
    def largest_file(self) -> int:
        return max((file.bytes for file in self.files), default=0)


@dataclass(frozen=True, slots=True)
class Label:
    """``target`` is a post's id, or an agent's address if ``is_agent``."""

    is_agent: bool
    target: bytes
    value: str
    on: bool
    reason: str = ""


def check_record(record: Record) -> None:
    """The form of forum records; other kinds pass. Raises ``Refused``.

    Of one that comes with its removal in the place of its body only its place is left to check,
    and is: views go by it.
    """
    if record.removal is None:
        read_record(record)
    elif record.header.kind in (POST, EDIT):
        _check_place(record.header)


def read_record(record: Record) -> Any:
    """What its body says, as the reader of its kind returns it, once all of its form is checked;
    None for other kinds. Raises ``Refused``."""
    header = record.header
    if header.kind not in KINDS:
        return None
    if record.body is None:
        raise Refused("forum.body", "A forum record came without its body.")
    _require(not header.expires_ms, "expiry")
    return _READERS[header.kind](header, record.body)


def _check_place(header: Header) -> None:
    """Of a post or an edit, whatever its body says."""
    _require(not header.expires_ms, "expiry")
    _stands_after(header, 1 if header.kind == EDIT else len(header.parents[:1]))


def is_room_name(name: str) -> bool:
    return _ROOM_NAME.fullmatch(name) is not None


# -- bodies --------------------------------------------------------------------------------------


def room_body(name: str, charter: Charter) -> bytes:
    return pack([name, *charter.fields()])


def read_room(body: bytes, author: bytes) -> tuple[str, Charter]:
    """Its name and first charter; raises ``Refused``."""
    fields = unpack(body, limit=MAX_BODY_BYTES)
    _require(isinstance(fields, list) and len(fields) > 1, "room")
    name, *rest = fields
    _require(isinstance(name, str) and is_room_name(name), "room's name")
    if len(rest) == 1:
        rest = Charter("", stewards=(author,)).fields()
        rest[0] = fields[1]
    return name, Charter.from_fields(rest)


def charter_body(version: int, charter: Charter) -> bytes:
    return pack([version, *charter.fields()])


def read_charter(body: bytes) -> tuple[int, Charter]:
    fields = unpack(body, limit=MAX_BODY_BYTES)
    _require(isinstance(fields, list) and len(fields) > 1, "charter")
    version, *rest = fields
    _require(_is_uint(version) and 1 < version <= MAX_VERSION, "charter's version")
    return version, Charter.from_fields(rest)


def post_body(content: Content) -> bytes:
    return pack(
        [
            content.text,
            content.charter,
            list(content.quotes),
            list(content.mentions),
            [[file.hash, file.bytes, file.name, file.type] for file in content.files],
        ]
    )


# A body is read at the door, by the forum's view, by the index of search, and whenever it is shown.
@lru_cache(maxsize=512)
def read_post(body: bytes) -> Content:
    """Of a post or an edit; raises ``Refused``."""
    if not body or not 0x90 <= body[0] <= 0x9F:
        content = Content(_read_text(body))
    else:
        fields = unpack(body, limit=MAX_BODY_BYTES)
        _require(isinstance(fields, list) and len(fields) == 5, "post")
        text, charter, quotes, mentions, files = fields
        _require(isinstance(text, str), "post's text")
        _require(isinstance(charter, bytes) and len(charter) in (0, 32), "post's charter")
        _require(_is_ids(quotes, 32, MAX_QUOTES), "post's quotes")
        _require(_is_ids(mentions, 20, MAX_MENTIONS), "post's mentions")
        _require(isinstance(files, list) and len(files) <= MAX_FILES, "post's files")
        content = Content(
            text, charter, tuple(quotes), tuple(mentions), tuple(map(_read_file, files))
        )
    _require(is_clean(content.text), "post's text")
    _require(bool(content.text.strip()) or bool(content.files), "post's text")
    return content


def removal_body(ids: tuple[bytes, ...]) -> bytes:
    return pack([list(ids)])


def read_removal(body: bytes) -> tuple[bytes, ...]:
    fields = unpack(body, limit=MAX_BODY_BYTES)
    _require(isinstance(fields, list) and len(fields) == 1, "removal")
    _require(_is_ids(fields[0], 32, MAX_REMOVED) and bool(fields[0]), "removal")
    return tuple(fields[0])


def reaction_body(emoji: str, on: bool) -> bytes:
    return pack([emoji, on])


def read_reaction(body: bytes) -> tuple[str, bool]:
    fields = unpack(body, limit=MAX_BODY_BYTES)
    _require(isinstance(fields, list) and len(fields) == 2, "reaction")
    emoji, on = fields
    _require(isinstance(emoji, str) and is_emoji(emoji) and isinstance(on, bool), "reaction")
    return emoji, on


def label_body(label: Label) -> bytes:
    return pack([int(label.is_agent), label.target, label.value, label.on, label.reason])


def read_label(body: bytes) -> Label:
    fields = unpack(body, limit=MAX_BODY_BYTES)
    _require(isinstance(fields, list) and len(fields) == 5, "label")
    kind, target, value, on, reason = fields
    _require(_is_uint(kind) and kind <= 1 and isinstance(target, bytes), "label's target")
    _require(len(target) == (20 if kind else 32), "label's target")
    _require(isinstance(value, str) and _LABEL_VALUE.fullmatch(value) is not None, "label's value")
    _require(isinstance(on, bool), "label")
    _require(isinstance(reason, str) and len(reason) <= MAX_REASON, "label's reason")
    _require(is_clean(reason), "label's reason")
    return Label(bool(kind), target, value, on, reason)


# -- removals ------------------------------------------------------------------------------------


def removed_ids(record: Record) -> tuple[bytes, ...]:
    """The records whose bodies this one takes away, if they are of its author and room."""
    if record.header.kind != REMOVAL or record.body is None:
        return ()
    try:
        ids: tuple[bytes, ...] = read_record(record)
    except Refused:
        return ()
    return ids


REMOVALS = Removals(frozenset({POST, EDIT}), removed_ids)


# -- inside --------------------------------------------------------------------------------------


def _room(header: Header, body: bytes) -> tuple[str, Charter]:
    _require(header.room == NO_ROOM and not header.parents, "room's place")
    return read_room(body, header.author)


def _charter(header: Header, body: bytes) -> tuple[int, Charter]:
    _stands_after(header, 1)
    return read_charter(body)


def _said(header: Header, body: bytes) -> Content:
    _check_place(header)
    return read_post(body)


def _removal(header: Header, body: bytes) -> tuple[bytes, ...]:
    _stands_after(header, 1)
    ids = read_removal(body)
    _require(header.parents[0] in ids, "removal's place")
    return ids


def _reaction(header: Header, body: bytes) -> tuple[str, bool]:
    _stands_after(header, 1)
    return read_reaction(body)


def _label(header: Header, body: bytes) -> Label:
    label = read_label(body)
    if label.is_agent:
        _require(not header.parents, "label's place")
    else:
        _stands_after(header, 1)
        _require(header.parents[0] == label.target, "label's place")
    return label


_READERS: dict[str, Callable[[Header, bytes], Any]] = {
    ROOM: _room,
    CHARTER: _charter,
    POST: _said,
    EDIT: _said,
    REMOVAL: _removal,
    REACTION: _reaction,
    LABEL: _label,
}


def _stands_after(header: Header, parents: int) -> None:
    _require(header.room != NO_ROOM and len(header.parents) == parents, "place in its room")


def _require(condition: bool, part: str) -> None:
    if not condition:
        raise Refused("forum.format", f"A forum record is out of form: its {part}.")


def _read_text(body: bytes) -> str:
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Refused("forum.format", "A post's text is not valid UTF-8.") from error
    _require(is_nfc(text), "post's text")
    return text


def _read_file(fields: Any) -> File:
    _require(isinstance(fields, list) and len(fields) == 4, "post's files")
    file_hash, size, name, kind = fields
    _require(isinstance(file_hash, bytes) and len(file_hash) == 32, "file's hash")
    _require(_is_uint(size) and 0 < size <= MAX_FILE_BYTES, "file's size")
    _require(isinstance(name, str) and is_file_name(name), "file's name")
    _require(isinstance(kind, str) and _FILE_TYPE.fullmatch(kind) is not None, "file's type")
    return File(file_hash, size, name, kind)


def is_file_name(name: str) -> bool:
    """A name and no path: a reader may save the file under it."""
    return (
        0 < len(name) <= MAX_FILE_NAME
        and name.strip(". ") != ""
        and is_clean(name)
        and not set(name) & set("/\\\n\t")
    )


def is_file_type(kind: str) -> bool:
    return _FILE_TYPE.fullmatch(kind) is not None


def _is_uint(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_ids(values: Any, length: int, most: int) -> bool:
    return (
        isinstance(values, list)
        and len(values) <= most
        and all(isinstance(value, bytes) and len(value) == length for value in values)
        and len(set(values)) == len(values)
    )
