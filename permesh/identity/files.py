"""Secret files: made whole, or not at all, and never readable by others.

Owns how a key reaches the disk. Must never know what a key is for.
"""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

from permesh.errors import PermeshError


def make_private_directory(path: Path) -> None:
    """Make ``path`` (0700), parents included; an existing directory is left as it is."""
    try:
        # One by one: mkdir's own way leaves the mode of the parents to the umask.
        for missing in [one for one in reversed(path.parents) if not one.exists()]:
            missing.mkdir(mode=0o700, exist_ok=True)
        path.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise PermeshError(
            "home.unwritable",
            f"The directory {path} cannot be made: {error.strerror}.",
            "Choose another home by PERMESH_HOME, or: permesh --home DIR COMMAND",
        ) from error


def write_secret(path: Path, content: bytes) -> None:
    """Write a new file of mode 0600, durably; raises ``keys.exist`` rather than overwrite.

    Written beside and linked into place, so that a crash leaves either nothing or all of it.
    """
    try:
        # 0600, under a name that nobody else has: what a crash left must not be in the way.
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=beside_prefix(path))
        beside = Path(name)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.link(beside, path)
        finally:
            beside.unlink(missing_ok=True)
        sync_directory(path.parent)
    except FileExistsError as error:
        raise PermeshError(
            "keys.exist",
            f"{path} exists already and is not overwritten.",
            "Move the old identity away, or choose another home: permesh --home DIR COMMAND",
        ) from error
    except OSError as error:
        raise PermeshError(
            "keys.unwritable",
            f"{path} cannot be written: {error.strerror}.",
            "Check the disk and the directory's permissions.",
        ) from error


def beside_prefix(path: Path) -> str:
    """How the name of a file begins that is on its way to ``path``; a crash can leave one."""
    return f".{path.name}."


def loose_permissions(directory: Path) -> list[str]:
    """What below ``directory``, itself included, others may read or write, one line each."""
    found = []
    for path in [directory, *sorted(directory.glob("*"))]:
        try:
            mode = stat.S_IMODE(path.stat().st_mode)
        except OSError:  # gone meanwhile, or a link to nothing: no secret is there
            continue
        if mode & 0o077:
            found.append(f"{path} has mode {mode:04o}")
    return found


def sync_directory(directory: Path) -> None:
    """Make a new name in it survive a power cut."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
