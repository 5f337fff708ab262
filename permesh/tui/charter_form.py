"""A charter as lines to type in, and what was typed as a charter.

Owns the turning of one into the other. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from permesh.display import clean_line
from permesh.schema import Charter, Named, NewCharter

WRITERS = ("everyone", "standing", "members", "founders")


@dataclass(frozen=True, slots=True)
class Field:
    """One line of the form; ``value`` is what is in force."""

    name: str
    label: str
    value: str
    hint: str = ""


def fields_of(charter: Charter) -> list[Field]:
    limits, retention, writers = charter.limits, charter.retention, charter.writers
    return [
        Field("purpose", "purpose", _one_line(charter.purpose), "what the room is for"),
        Field("off_topic", "off topic", _one_line(charter.off_topic), "what belongs elsewhere"),
        Field("writers", "who writes", writers.who, "everyone, standing, members or founders"),
        Field("standing", "standing", f"{writers.standing:g}", "for standing: at least this"),
        Field("members", "members", _names(writers.members), "for members: numbers, commas"),
        Field("stewards", "stewards", _names(charter.stewards), "numbers, commas"),
        Field("post_bytes", "bytes a post", str(limits.post_bytes), "0: the mesh's limit"),
        Field("posts_per_hour", "posts an hour", str(limits.posts_per_hour), "0: the mesh's"),
        Field("attachment_bytes", "bytes a file", str(limits.attachment_bytes), "0: the mesh's"),
        Field("keep_days", "days kept", str(retention.days), "0: for good"),
        Field("keep_megabytes", "MB kept", str(retention.megabytes), "0: without a limit"),
    ]


def _one_line(text: str) -> str:
    return clean_line(" ".join(text.split()))


def _names(members: Sequence[Named]) -> str:
    return ", ".join(one.number or one.agent for one in members)


def read_charter(fields: Sequence[Field], typed: Mapping[str, str]) -> NewCharter | None:
    """The change that was typed; None if there is none. Raises ``ValueError`` in words."""
    changed: dict[str, Any] = {}
    for field in fields:
        value = typed.get(field.name, field.value).strip()
        if value == field.value.strip():
            continue
        if field.name in ("members", "stewards"):
            changed[field.name] = [name.strip() for name in value.split(",") if name.strip()]
        elif field.name == "standing":
            changed[field.name] = _number(field.label, value, float)
        elif field.name in ("purpose", "off_topic"):
            changed[field.name] = value
        elif field.name == "writers":
            if value not in WRITERS:
                raise ValueError(f"Who writes is one of: {', '.join(WRITERS)}.")
            changed[field.name] = value
        else:
            changed[field.name] = _number(field.label, value, int)
    if not changed:
        return None
    try:
        return NewCharter(**changed)
    except ValidationError as error:
        first = error.errors()[0]
        label = next(one.label for one in fields if one.name == first["loc"][0])
        raise ValueError(f"{label}: {first['msg']}.") from error


def _number(label: str, value: str, kind: type[int] | type[float]) -> float:
    try:
        return kind(value.replace("_", "").replace(",", "") or "0")
    except ValueError:
        raise ValueError(f"{label}: {value!r} is not a number.") from None
