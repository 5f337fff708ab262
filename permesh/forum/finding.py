"""How rooms and posts are named by people, and how a reader goes on from page to page.

Owns references (a room's label or id, a post's id, or the unique beginning of one) and cursors.
Must never know who may see what is found.
"""

from __future__ import annotations

import base64
import binascii
import re
import sqlite3
from typing import Any

from permesh.errors import NotFound, PermeshError, Refused
from permesh.records import pack, unpack

MIN_PREFIX = 4  # hex digits; shorter prefixes are more often a typing error than a choice
_MAX_CURSOR_BYTES = 256
_HEX = re.compile(r"[0-9a-f]{1,64}")


def find_room(connection: sqlite3.Connection, reference: str) -> bytes:
    """By label, `name~hex`, or a unique prefix of the id; raises ``room.unknown``,
    ``room.ambiguous``."""
    found = connection.execute(
        "SELECT id FROM forum_rooms WHERE label = ? AND hidden = ''", (reference,)
    ).fetchall()
    if not found:
        name, tilde, prefix = reference.rpartition("~")
        bounds = _prefix_bounds(prefix)
        if bounds:
            condition = " AND name = ?" if tilde else ""
            found = connection.execute(
                "SELECT id FROM forum_rooms WHERE id BETWEEN ? AND ? AND hidden = ''"
                f"{condition} LIMIT 2",
                (*bounds, *([name] if tilde else [])),
            ).fetchall()
    if not found:
        raise NotFound(
            "room.unknown",
            f"There is no room '{reference[:80]}' here.",
            "List the rooms with: permesh room list",
        )
    if len(found) > 1:
        raise PermeshError(
            "room.ambiguous", f"'{reference}' fits several rooms.", "Give more digits of the id."
        )
    return bytes(found[0][0])


def has_label(connection: sqlite3.Connection, label: str) -> bool:
    row = connection.execute("SELECT 1 FROM forum_rooms WHERE label = ?", (label,)).fetchone()
    return row is not None


def find_post(connection: sqlite3.Connection, reference: str) -> bytes:
    """A post of any room, hidden or not, by a unique prefix of its id; raises ``post.unknown``,
    ``post.ambiguous``."""
    found = _find_posts(connection, reference, "", ())
    if not found:
        raise NotFound(
            "post.unknown",
            f"There is no post '{reference[:80]}' here.",
            "See the posts and their ids with: permesh read ROOM",
        )
    return found[0]


def find_parent(connection: sqlite3.Connection, room: bytes, reference: str) -> bytes:
    """A post that may be answered in that room; raises ``post.unknown_parent``,
    ``post.ambiguous``."""
    found = _find_posts(connection, reference, " AND +room = ? AND +hidden = ''", (room,))
    if not found:
        raise NotFound(
            "post.unknown_parent",
            f"There is no post '{reference[:80]}' in this room.",
            "See the posts and their ids with: permesh read ROOM",
        )
    return found[0]


def find_file(connection: sqlite3.Connection, reference: str) -> tuple[bytes, bytes]:
    """The hash of a file by its unique beginning, and a post that names it, the first that is
    shown if one is; raises ``attachment.unknown``, ``attachment.ambiguous``."""
    _require_digits(reference)
    bounds = _prefix_bounds(reference)
    naming = " FROM forum_files AS f JOIN forum_posts AS p ON p.id = f.post AND NOT p.removed"
    found = [] if bounds is None else connection.execute(
        f"SELECT DISTINCT f.hash{naming} WHERE f.hash BETWEEN ? AND ? LIMIT 2", bounds
    ).fetchall()  # fmt: skip
    if not found:
        raise NotFound(
            "attachment.unknown",
            f"No post here names a file '{reference[:80]}'.",
            "Copy the hash from: permesh read ROOM",
        )
    if len(found) > 1:
        raise PermeshError(
            "attachment.ambiguous",
            f"'{reference}' fits several files.",
            "Give more digits of the hash.",
        )
    post = connection.execute(
        f"SELECT p.id{naming} WHERE f.hash = ? ORDER BY p.hidden <> '', p.created_ms, p.id LIMIT 1",
        found[0],
    ).fetchone()
    return bytes(found[0][0]), bytes(post[0])


def _find_posts(
    connection: sqlite3.Connection, reference: str, condition: str, values: tuple[bytes, ...]
) -> list[bytes]:
    _require_digits(reference)
    bounds = _prefix_bounds(reference)
    if bounds is None:
        return []
    found = connection.execute(
        "SELECT id FROM forum_posts AS p WHERE id BETWEEN ? AND ?"
        f" AND EXISTS (SELECT 1 FROM forum_rooms AS r WHERE r.id = p.room){condition} LIMIT 2",
        (*bounds, *values),
    ).fetchall()
    if len(found) > 1:
        raise PermeshError(
            "post.ambiguous", f"'{reference}' fits several posts.", "Give more digits of the id."
        )
    return [bytes(row[0]) for row in found]


def _require_digits(reference: str) -> None:
    """Something may well begin like this: not "there is none", but "say more"."""
    if len(reference) < MIN_PREFIX and _HEX.fullmatch(reference):
        raise PermeshError(
            "id.too_short",
            f"'{reference}' is too short.",
            f"Give at least {MIN_PREFIX} digits of the id.",
        )


def _prefix_bounds(prefix: str) -> tuple[bytes, bytes] | None:
    if len(prefix) < MIN_PREFIX or not _HEX.fullmatch(prefix):
        return None
    return bytes.fromhex(prefix.ljust(64, "0")), bytes.fromhex(prefix.ljust(64, "f"))


# -- cursors -------------------------------------------------------------------------------------


def make_cursor(*place: Any) -> str:
    """Of strings, numbers and ids that say where a reader is."""
    return base64.urlsafe_b64encode(pack(list(place))).rstrip(b"=").decode()


def read_cursor(cursor: str, *types: type) -> list[Any]:
    """Raises ``cursor.invalid`` unless it was made of just such values."""
    try:
        data = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        place = unpack(data, limit=_MAX_CURSOR_BYTES)
    except (Refused, ValueError, binascii.Error) as error:
        raise bad_cursor() from error
    if not isinstance(place, list) or [type(item) for item in place] != list(types):
        raise bad_cursor()
    return place


def bad_cursor() -> PermeshError:
    return PermeshError(
        "cursor.invalid", "The cursor is not one of this list.", "Start again without a cursor."
    )
