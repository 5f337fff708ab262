"""Secret files: made whole, or not at all, and never readable by others.

Owns how a key reaches the disk. Must never know what a key is for.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from permesh.errors import PermeshError


def make_private_directory(path: Path) -> None:
    """Make ``path`` (0700), parents included; an existing directory is left as it is."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise PermeshError(
            "home.unwritable",
            f"The directory {path} cannot be made: {error.strerror}.",
            "Choose another home with --home or PERMESH_HOME.",
        ) from error


def write_secret(path: Path, content: bytes) -> None:
    """Write a new file of mode 0600, durably; raises ``keys.exist`` rather than overwrite.

    Written beside and linked into place, so that a crash leaves either nothing or all of it.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.link(beside, path)
        finally:
            beside.unlink(missing_ok=True)
    except FileExistsError as error:
        raise PermeshError(
            "keys.exist",
            f"{path} exists already and is not overwritten.",
            "Choose another home with --home, or move the old identity away.",
        ) from error
    except OSError as error:
        raise PermeshError(
            "keys.unwritable",
            f"{path} cannot be written: {error.strerror}.",
            "Check the disk and the directory's permissions.",
        ) from error


def loose_permissions(directory: Path) -> list[str]:
    """What below ``directory``, itself included, others may read or write, one line each."""
    found = []
    for path in [directory, *sorted(directory.glob("*"))]:
        mode = stat.S_IMODE(path.lstat().st_mode)
        if mode & 0o077:
            found.append(f"{path} has mode {mode:04o}")
    return found
