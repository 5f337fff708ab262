"""How the terminal app words times, sizes and keys, and which colour stands for whom.

Owns formatting only: plain strings out, the clock passed in. Must never hand on another member's
text without `permesh.display`.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime

from rich.cells import cell_len

SECOND = 1_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR

# Colours for members, told apart on either background; chosen by a hash of the agent, so that a
# member keeps its colour on every screen and in every session.
DARK_COLOURS = (
    "#7fb4ca", "#e0a363", "#98bb6c", "#d27e99", "#957fb8", "#e6c384",
    "#7aa89f", "#ff9e80", "#8ba4e0", "#c0a36e", "#87c38f", "#cf8fd0",
)  # fmt: skip
LIGHT_COLOURS = (
    "#20607f", "#95560f", "#3e6b1e", "#a03060", "#5b3f8f", "#7a6200",
    "#1f6b60", "#a83f24", "#2f4fa8", "#6e5426", "#256b35", "#86368a",
)  # fmt: skip


def ago(then_ms: int, now_ms: int) -> str:
    """How long ago, in at most eleven characters: ``now``, ``3m``, ``2h``, ``5d``, ``12 Mar``."""
    if not then_ms:
        return "never"
    passed = now_ms - then_ms
    if passed < MINUTE:
        return "now"
    if passed < HOUR:
        return f"{passed // MINUTE}m"
    if passed < DAY:
        return f"{passed // HOUR}h"
    if passed < 7 * DAY:
        return f"{passed // DAY}d"
    return date(then_ms, now_ms)


def lasting(milliseconds: int) -> str:
    """A span of time in its two largest units: ``2d 4h``, ``41m``, ``8s``."""
    milliseconds = max(0, milliseconds)
    units = (("d", DAY), ("h", HOUR), ("m", MINUTE), ("s", SECOND))
    for at, (unit, length) in enumerate(units):
        if milliseconds >= length:
            whole, rest = divmod(milliseconds, length)
            if at + 1 < len(units) and unit != "m":
                below, below_length = units[at + 1]
                if rest >= below_length:
                    return f"{whole}{unit} {rest // below_length}{below}"
            return f"{whole}{unit}"
    return "0s"


def _utc(at_ms: int) -> datetime | None:
    try:
        return datetime.fromtimestamp(at_ms / 1000, UTC)
    except (OverflowError, OSError, ValueError):  # a time that another member made up
        return None


def date(at_ms: int, now_ms: int) -> str:
    """The day, with its year when that is not this year."""
    day, today = _utc(at_ms), _utc(now_ms)
    if day is None:
        return "?"
    known_year = today is not None and day.year == today.year
    return f"{day.day} {day:%b}" if known_year else f"{day.day} {day:%b} {day.year}"


def moment(at_ms: int) -> str:
    """A point in time to the minute, in UTC so that two members read the same."""
    when = _utc(at_ms) if at_ms else None
    return when.strftime("%Y-%m-%d %H:%M UTC") if when else "—"


def size(count: int) -> str:
    """Bytes, in binary units."""
    amount = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} TiB"


def plural(count: int, one: str, many: str = "") -> str:
    return f"{count} {one if count == 1 else many or one + 's'}"


def short(key: str, head: int = 8, tail: int = 4) -> str:
    """The ends of a long key: enough to tell two apart at a glance, never to trust one."""
    return key if len(key) <= head + tail + 1 else f"{key[:head]}…{key[-tail:]}"


def cut(text: str, most: int) -> str:
    """At most ``most`` characters; where some are left out, the last one says so."""
    return text if len(text) <= most else text[: most - 1] + "…"


def breaks(text: str, width: int) -> list[tuple[int, int]]:
    """Where lines of at most ``width`` cells start and end: broken at spaces, and a longer word
    wherever it has to be.

    Ten times cheaper than wrapping `Content`, so that a long list knows its height for little. The
    text is one paragraph, cleaned.
    """
    width = max(2, width)
    if len(text) <= width and text.isascii():
        return [(0, len(text))]
    lines: list[tuple[int, int]] = []
    start, used, at = 0, 0, 0
    for word in text.split(" "):
        cells = len(word) if word.isascii() or len(word) > width else cell_len(word)
        if at and used + 1 + cells <= width:
            used += 1 + cells
        else:
            if at:
                lines.append((start, at - 1))
            start = at
            if cells > width:
                step = width if word.isascii() else width // 2  # no character takes more than two
                while at + len(word) - start > step:
                    lines.append((start, start + step))
                    start += step
                cells = cell_len(text[start : at + len(word)])
            used = cells
        at += len(word) + 1
    lines.append((start, len(text)))
    return lines


def fold(text: str, width: int) -> list[str]:
    """The lines that `breaks` makes of a text."""
    return [text[start:end] for start, end in breaks(text, width)]


def colour_of(agent: str, dark: bool) -> str:
    """The member's colour as ``#rrggbb``."""
    colours = DARK_COLOURS if dark else LIGHT_COLOURS
    return colours[hashlib.sha256(agent.encode()).digest()[0] % len(colours)]


def emblem(agent: str) -> list[str]:
    """A mirrored pattern of 7 by 8 points drawn from the agent's address, as 4 lines of text.

    It helps to notice that an address is another one; it proves nothing.
    """
    bits = int.from_bytes(hashlib.sha256(b"emblem" + agent.encode()).digest()[:4], "big")
    grid = [[bool(bits >> (row * 4 + column) & 1) for column in range(4)] for row in range(8)]
    full = [[*row, *reversed(row[:3])] for row in grid]
    marks = {(False, False): " ", (True, False): "▀", (False, True): "▄", (True, True): "█"}
    return [
        "".join(marks[upper, lower] for upper, lower in zip(full[at], full[at + 1], strict=True))
        for at in range(0, 8, 2)
    ]
