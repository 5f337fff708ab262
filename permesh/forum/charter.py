"""A room's charter: what is talked of, who may post, how much, how long it is kept.

Owns the charter's fields in a body and the rules' verdict over one post. Pure; must never know
which version is in force (`permesh/forum/charters.py`) nor what becomes of a breach: it is policy,
so the post is kept, hidden, and its author is told which rule of which version it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, get_args

from permesh.errors import Refused
from permesh.records import MAX_BODY_BYTES

from .text import is_clean

Who = Literal["everyone", "standing", "members", "founders"]
WHO: tuple[Who, ...] = get_args(Who)  # by their numbers in a body

MAX_PURPOSE_BYTES = 4_096
MAX_MEMBERS = 256
MAX_STEWARDS = 32
MAX_STANDING = 1_000_000
MAX_POSTS_PER_HOUR = 1_000_000
MAX_FILE_BYTES = 8_388_608
MAX_DAYS = 36_500
MAX_MEGABYTES = 1_000_000
FIELDS = 6

# Rules, as they stand in the views and in `explain`.
MEMBERS, STANDING, FOUNDERS = "members", "standing", "founders"
POST_BYTES, FILE_BYTES, PER_HOUR = "post_bytes", "attachment_bytes", "posts_per_hour"


@dataclass(frozen=True, slots=True)
class Charter:
    """Agents are 20-byte addresses, ascending. A limit of 0 is the mesh's own; so is a time to
    keep. ``standing`` is in thousandths. Stewards may always post."""

    purpose: str
    off_topic: str = ""
    who: Who = "everyone"
    standing: int = 0
    members: tuple[bytes, ...] = ()
    post_bytes: int = 0
    posts_per_hour: int = 0
    attachment_bytes: int = 0
    keep_days: int = 0
    keep_megabytes: int = 0
    stewards: tuple[bytes, ...] = ()

    def fields(self) -> list[Any]:
        """As they stand in a body, after the room's name or the charter's version."""
        return [
            self.purpose,
            self.off_topic,
            [WHO.index(self.who), self.standing, list(self.members)],
            [self.post_bytes, self.posts_per_hour, self.attachment_bytes],
            [self.keep_days, self.keep_megabytes],
            list(self.stewards),
        ]

    @classmethod
    def from_fields(cls, fields: Sequence[Any]) -> Charter:
        """Raises ``Refused``."""
        _require(len(fields) == FIELDS, "shape")
        purpose, off_topic, writers, limits, retention, stewards = fields
        for text in (purpose, off_topic):
            _require(isinstance(text, str) and is_clean(text), "text")
            _require(len(text.encode()) <= MAX_PURPOSE_BYTES, "text")
        _require(isinstance(writers, list) and len(writers) == 3, "writers")
        who, standing, members = writers
        _require(_is_uint(who, len(WHO) - 1) and _is_uint(standing, MAX_STANDING * 1000), "writers")
        _require(_is_agents(members, 0, MAX_MEMBERS), "writers")
        _require(_are_uints(limits, MAX_BODY_BYTES, MAX_POSTS_PER_HOUR, MAX_FILE_BYTES), "limits")
        _require(_are_uints(retention, MAX_DAYS, MAX_MEGABYTES), "retention")
        _require(_is_agents(stewards, 1, MAX_STEWARDS), "stewards")
        return cls(
            purpose=purpose,
            off_topic=off_topic,
            who=WHO[who],
            standing=standing,
            members=tuple(members),
            post_bytes=limits[0],
            posts_per_hour=limits[1],
            attachment_bytes=limits[2],
            keep_days=retention[0],
            keep_megabytes=retention[1],
            stewards=tuple(stewards),
        )


def breach(charter: Charter, author: bytes, text_bytes: int, file_bytes: int) -> str:
    """The first rule that a post breaks by itself, or ``""``; ``file_bytes`` of its largest file.

    What more there is to break: `PER_HOUR`, which other posts decide, and `breach_of_standing`.
    """
    if charter.who == "members" and author not in charter.members + charter.stewards:
        return MEMBERS
    if charter.post_bytes and text_bytes > charter.post_bytes:
        return POST_BYTES
    if charter.attachment_bytes and file_bytes > charter.attachment_bytes:
        return FILE_BYTES
    return ""


def breach_of_standing(charter: Charter, author: bytes, standing: float, founder: bool) -> str:
    """What may change with no record of the forum: how an author stands."""
    if author in charter.stewards:
        return ""
    if charter.who == "standing" and standing * 1000 < charter.standing:
        return STANDING
    if charter.who == "founders" and not founder:
        return FOUNDERS
    return ""


def explain(rule: str, charter: Charter, version: int, room: str) -> str:
    """One sentence for the author, and for whoever looks at what is hidden."""
    says = {
        MEMBERS: "lets only the members post that it names",
        STANDING: f"asks a standing of {charter.standing / 1000:g} of who posts",
        FOUNDERS: "lets only founders of the mesh post",
        POST_BYTES: f"allows {charter.post_bytes} bytes of text in a post",
        FILE_BYTES: f"allows {charter.attachment_bytes} bytes in a file",
        PER_HOUR: f"allows {charter.posts_per_hour} posts of one author in an hour",
    }[rule]
    return f"The charter of {room}, version {version}, {says}."


def _require(condition: bool, field: str) -> None:
    if not condition:
        raise Refused("forum.charter", f"A charter's {field} is not valid.")


def _is_uint(value: Any, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= most


def _are_uints(values: Any, *most: int) -> bool:
    return (
        isinstance(values, list)
        and len(values) == len(most)
        and all(_is_uint(value, limit) for value, limit in zip(values, most, strict=True))
    )


def _is_agents(values: Any, least: int, most: int) -> bool:
    return (
        isinstance(values, list)
        and least <= len(values) <= most
        and all(isinstance(value, bytes) and len(value) == 20 for value in values)
        and all(one < other for one, other in pairwise(values))
    )
