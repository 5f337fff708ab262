"""Names for files that others sent, on this machine's disk.

Owns what such a name may do: it stays in the folder it is meant for, hides nothing and overwrites
nothing, whatever its author called it. Must never know where the bytes come from.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from .display import clean_line

# In UTF-8: file systems take 255, and a number may be added.
MAX_NAME = 200  # bytes
MAX_ENDING = 12
_NUMBERED = 1_000  # how often a name may be there already

_ODD = re.compile(r"[^\w.\- ]+")
_DEVICE = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)


def safe_name(name: str, file_hash: str) -> str:
    """A file name without a path, a hidden beginning or anything that a shell minds."""
    last = name.replace("\\", "/").rsplit("/", 1)[-1]
    plain = _ODD.sub("_", clean_line(last)).strip(" ._-")
    stem, dot, ending = plain.rpartition(".")
    if dot and len(ending) <= MAX_ENDING:
        plain = f"{_cut(stem, MAX_NAME - len(ending.encode()) - 1)}.{ending}"
    plain = _cut(plain, MAX_NAME)
    return plain if plain and not _DEVICE.fullmatch(plain) else f"file-{file_hash[:12]}"


def _cut(text: str, size: int) -> str:
    return text.encode()[:size].decode(errors="ignore")


def open_new(path: Path) -> int:
    """A descriptor of a file that was not there before, for writing; raises ``OSError``."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
    return os.open(path, flags, 0o600)


def open_beside(folder: Path, name: str) -> tuple[int, Path]:
    """The same for a name that may be there already: then a number is added to it."""
    stem, dot, ending = name.rpartition(".")
    for count in range(_NUMBERED):
        numbered = name if not count else f"{stem or name} ({count}){dot}{ending if stem else ''}"
        path = folder / numbered
        try:
            return open_new(path), path
        except FileExistsError:
            continue
    raise FileExistsError(f"{folder / name} is there {_NUMBERED} times")
