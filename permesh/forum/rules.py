"""What a room and a post must look like, and what a well-formed one may not do.

Owns the format of the forum's record kinds (validity: a breach is refused at the door) and the
forum's quotas (policy: a breach is stored and hidden, and said why). Pure functions; must never
touch a database or a clock.
"""

from __future__ import annotations

import re
import unicodedata
from itertools import groupby

from permesh.errors import PermeshError, Refused
from permesh.records import MAX_BODY_BYTES, NO_ROOM, Record, pack, unpack

ROOM = "forum.room"
POST = "forum.post"
KINDS = (ROOM, POST)

MAX_TEXT_BYTES = MAX_BODY_BYTES  # a post's body is its text and nothing else
MAX_PURPOSE_BYTES = 1024
_ROOM_NAME = re.compile(r"[a-z0-9._-]{1,64}")
# Unicode's control characters but for tab and line feed, and lone surrogates.
_FORBIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")

# Normalising sorts the accents on one letter, in quadratic time: 28 s for 100,000 of them.
MAX_MARKS = 64

# Policy. Both count what one author claims to have written in one span of time, so that every
# member, whenever it heard of the records, hides the same ones.
RATE_SPAN_MS = 3_600_000
POSTS_PER_SPAN = 2_000  # a burst of 500 is a busy agent; a few thousand an hour is a flood
ROOMS_PER_SPAN = 50

HIDDEN_FORK = "fork"  # the author's chain forked at or before this record
HIDDEN_RATE = "rate"  # over the author's quota


def check_record(record: Record) -> None:
    """The format of forum records; other kinds pass. Raises ``Refused``."""
    header = record.header
    if header.kind not in KINDS:
        return
    if record.body is None:
        raise Refused("forum.body", "A forum record came without its body.")
    if header.expires_ms:
        raise Refused("forum.expires", "A forum record cannot expire.")
    if header.kind == ROOM:
        if header.room != NO_ROOM or header.parents:
            raise Refused("forum.room", "A room stands in no other room and answers nothing.")
        read_room(record.body)
    else:
        if header.room == NO_ROOM or len(header.parents) > 1:
            raise Refused("forum.post", "A post stands in one room and answers at most one post.")
        read_post(record.body)


def read_room(body: bytes) -> tuple[str, str]:
    """Name and purpose out of a room's body; raises ``Refused``."""
    fields = unpack(body, limit=MAX_BODY_BYTES)
    if not (
        isinstance(fields, list)
        and len(fields) == 2
        and all(isinstance(item, str) for item in fields)
    ):
        raise Refused("forum.room", "A room's body is its name and its purpose.")
    name, purpose = fields
    if not _ROOM_NAME.fullmatch(name):
        raise Refused("forum.room", "A room's name is not valid.")
    if len(purpose.encode()) > MAX_PURPOSE_BYTES or not _is_clean(purpose):
        raise Refused("forum.room", "A room's purpose is not valid.")
    return name, purpose


def read_post(body: bytes) -> str:
    """A post's text; raises ``Refused``."""
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Refused("forum.post", "A post's text is not valid UTF-8.") from error
    if not text.strip() or not unicodedata.is_normalized("NFC", text) or not _is_clean(text):
        raise Refused("forum.post", "A post's text is empty, not NFC, or has control characters.")
    return text


def room_body(name: str, purpose: str) -> bytes:
    """Make a room's body from what a person typed; raises ``PermeshError``."""
    if not _ROOM_NAME.fullmatch(name):
        raise PermeshError(
            "room.name",
            f"{name[:80]!r} cannot be a room's name.",
            "Use 1 to 64 of a-z, 0-9, '-', '_' and '.'.",
        )
    purpose = " ".join(clean_text(purpose).split())
    if len(purpose.encode()) > MAX_PURPOSE_BYTES:
        raise PermeshError(
            "room.purpose", f"A room's purpose may have {MAX_PURPOSE_BYTES} bytes.", "Shorten it."
        )
    return pack([name, purpose])


def post_body(text: str) -> bytes:
    """Make a post's body from what a person typed; raises ``PermeshError``."""
    # Cleaning may shorten a text, but not from this to the limit unless it is mostly rubbish.
    if len(text) <= 4 * MAX_TEXT_BYTES:
        text = clean_text(text)
    if not text.strip():
        raise PermeshError("post.empty", "The post has no text.", "Write something.")
    body = text.encode("utf-8", "replace")
    if len(body) > MAX_TEXT_BYTES:
        raise PermeshError(
            "post.too_long",
            f"The post has {len(body)} bytes and the limit is {MAX_TEXT_BYTES} (32 KiB).",
            "Shorten it, or split it into several posts.",
            http_status=413,
        )
    return body


def clean_text(text: str) -> str:
    """NFC, line ends as \\n, control characters other than \\n and \\t taken out."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise PermeshError(
            "post.text", "The text is not valid Unicode.", "Send it as UTF-8."
        ) from error
    text = _FORBIDDEN.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))
    if unicodedata.is_normalized("NFC", text):
        return text
    runs = (sum(1 for _ in run) for marks, run in groupby(text, _is_mark) if marks)
    if max(runs, default=0) > MAX_MARKS:
        raise PermeshError(
            "post.text",
            f"The text puts more than {MAX_MARKS} accents on one letter.",
            "Take some away.",
        )
    return unicodedata.normalize("NFC", text)


def _is_mark(character: str) -> bool:
    return unicodedata.combining(character) != 0


def _is_clean(text: str) -> bool:
    return _FORBIDDEN.search(text) is None
