"""One daemon a home.

Owns the lock that a daemon holds while it runs, and a command while it writes to a home at rest.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from filelock import FileLock, Timeout

from .config import Home
from .errors import PermeshError


@contextmanager
def lock_home(home: Home) -> Iterator[None]:
    """Hold the home against a second daemon or command; raises ``daemon.running``."""
    lock = FileLock(home.lock, mode=0o600, blocking=False)
    try:
        lock.acquire()
    except Timeout as error:
        raise PermeshError(
            "daemon.running",
            f"A daemon is running on {home.root}.",
            "Stop it first, or choose another home: permesh --home DIR COMMAND",
            http_status=409,
        ) from error
    except OSError as error:
        raise PermeshError(
            "home.unwritable",
            f"{home.lock} cannot be locked: {error.strerror or error}.",
            "Check that the home exists and is yours; make one with: permesh init --name NAME",
        ) from error
    try:
        yield
    finally:
        lock.release()
