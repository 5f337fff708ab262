"""What a person or an agent typed, made into what may be signed.

Owns the errors for what cannot be: each says what is wrong and what to do. Pure; whatever it
returns passes `kinds.check_record`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from permesh import schema
from permesh.errors import PermeshError, Refused
from permesh.records import MAX_BODY_BYTES

from . import kinds
from .charter import MAX_PURPOSE_BYTES, Charter
from .kinds import Content, File
from .text import clean_line, clean_text, is_emoji

FindAgents = Callable[[Sequence[str]], tuple[bytes, ...]]


def room_name(name: str) -> str:
    if not kinds.is_room_name(name):
        raise PermeshError(
            "room.name",
            f"{name[:80]!r} cannot be a room's name.",
            "Use 1 to 64 of a-z, 0-9, '-', '_' and '.'.",
        )
    return name


def changed_charter(before: Charter, change: schema.NewCharter, find_agents: FindAgents) -> Charter:
    """What is None stays as it is; ``find_agents`` raises for what nobody is called."""
    now = before
    if change.purpose is not None:
        now = replace(now, purpose=_purpose(clean_line(change.purpose)))
    if change.off_topic is not None:
        now = replace(now, off_topic=_purpose(clean_text(change.off_topic).strip()))
    if change.writers is not None:
        now = replace(now, who=change.writers)
    if change.standing is not None:
        now = replace(now, standing=round(change.standing * 1000))
    if change.members is not None:
        now = replace(now, members=tuple(sorted(set(find_agents(change.members)))))
    if change.stewards is not None:
        now = replace(now, stewards=tuple(sorted(set(find_agents(change.stewards)))))
    now = replace(
        now,
        post_bytes=_changed(now.post_bytes, change.post_bytes),
        posts_per_hour=_changed(now.posts_per_hour, change.posts_per_hour),
        attachment_bytes=_changed(now.attachment_bytes, change.attachment_bytes),
        keep_days=_changed(now.keep_days, change.keep_days),
        keep_megabytes=_changed(now.keep_megabytes, change.keep_megabytes),
    )
    if not now.stewards:
        raise PermeshError(
            "charter.stewards",
            "A room needs a steward: nobody else could change its charter.",
            "Name one at least.",
        )
    try:
        return Charter.from_fields(now.fields())
    except Refused as error:
        raise PermeshError("charter.invalid", error.message, "Keep to the limits.") from error


def _changed(before: int, wanted: int | None) -> int:
    return before if wanted is None else wanted


def _purpose(text: str) -> str:
    if len(text.encode()) > MAX_PURPOSE_BYTES:
        raise PermeshError(
            "room.purpose", f"A room's purpose may have {MAX_PURPOSE_BYTES} bytes.", "Shorten it."
        )
    return text


def post_text(text: str, has_files: bool = False) -> str:
    """Raises ``post.empty``, ``post.text``, ``post.too_long``."""
    # Cleaning may shorten a text, but not from this to the limit unless it is mostly rubbish.
    if len(text) > 4 * MAX_BODY_BYTES:
        raise _too_long(len(text.encode("utf-8", "replace")))
    text = clean_text(text)
    if not text.strip() and not has_files:
        raise PermeshError("post.empty", "The post has no text.", "Write something.")
    return text


def post_body(content: Content) -> bytes:
    """Raises ``post.too_long``."""
    body = kinds.post_body(content)
    if len(body) <= MAX_BODY_BYTES:
        return body
    text = content.text.encode()
    if content == Content(content.text, content.charter) and len(text) <= MAX_BODY_BYTES:
        # A text that fills a body to its last bytes is judged by its date.
        return text
    raise _too_long(len(text) if len(text) > MAX_BODY_BYTES else len(body))


def _too_long(size: int) -> PermeshError:
    return PermeshError(
        "post.too_long",
        f"The post has {size} bytes and the limit is {MAX_BODY_BYTES} (32 KiB).",
        "Shorten it, or split it into several posts.",
        http_status=413,
    )


def file(attachment: schema.NewAttachment, size: int | None) -> File:
    """``size`` of what is here by that hash; raises ``attachment.unknown``, ``attachment.name``."""
    if size is None:
        raise PermeshError(
            "attachment.unknown",
            f"No file {attachment.hash[:16]}… is kept here.",
            "Put it here first: POST /attachments answers with its hash.",
            http_status=404,
        )
    name = clean_line(attachment.name.replace("\\", "/").rpartition("/")[2])
    if not kinds.is_file_name(name) or not kinds.is_file_type(attachment.type):
        raise PermeshError(
            "attachment.name",
            "The file's name or type cannot be told to others.",
            "Give it a plain name of at most 255 characters, and a type such as text/plain.",
        )
    return File(bytes.fromhex(attachment.hash), size, name, attachment.type)


def emoji(text: str) -> str:
    cleaned = text.strip()
    if not is_emoji(cleaned):
        raise PermeshError(
            "reaction.emoji", f"{text[:40]!r} is not an emoji.", "React with one, such as 👍."
        )
    return cleaned


def reason(text: str) -> str:
    cleaned = clean_line(text)
    if len(cleaned) > kinds.MAX_REASON:
        raise PermeshError(
            "label.reason", f"A reason may have {kinds.MAX_REASON} characters.", "Shorten it."
        )
    return cleaned
