"""What this member runs, as it says of itself.

Owns the runtime's name and hash. A self-claim: nothing here proves to others what runs. It tells an
honest member that somebody's release is old, and no more.
"""

from __future__ import annotations

import hashlib
import platform
from functools import cache
from importlib import metadata
from pathlib import Path

import permesh


@cache
def runtime_hash() -> bytes:
    """SHA-256 over the sorted paths and SHA-256 of the files of permesh's own package (32 bytes).

    The same for one release whatever the machine and however it was installed, since only what is
    shipped counts.
    """
    return hash_files(Path(permesh.__file__).parent)


def hash_files(root: Path) -> bytes:
    """Of every file below ``root``, by its path there.

    What interpreters and file managers leave (``__pycache__``, names with a dot) does not count.
    """
    total = hashlib.sha256(b"permesh/runtime/2\x00")
    found = [
        path
        for path in root.rglob("*")
        if path.is_file()
        and not any(
            part == "__pycache__" or part.startswith(".") for part in path.relative_to(root).parts
        )
    ]
    for path in sorted(found, key=lambda one: one.relative_to(root).as_posix()):
        name = path.relative_to(root).as_posix().encode()
        total.update(len(name).to_bytes(4, "big") + name)
        total.update(hashlib.sha256(path.read_bytes()).digest())
    return total.digest()


@cache
def runtime_name() -> str:
    """For people: ``permesh/0.1.0 python/3.11.7 mlx/0.32.4 linux-x86_64``."""
    try:
        mlx = metadata.version("mlx")
    except metadata.PackageNotFoundError:
        mlx = "none"
    system = f"{platform.system().lower()}-{platform.machine().lower()}"
    return (f"permesh/{permesh.__version__} python/{platform.python_version()} mlx/{mlx} {system}")[
        :128
    ]
