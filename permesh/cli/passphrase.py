"""Where a passphrase comes from: a file descriptor for programs, a prompt for people.

Must never put one into an argument, an environment variable or a message.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import TypeVar

import click

from permesh.errors import PermeshError

MAX_PASSPHRASE_BYTES = 1024

descriptor_option = click.option(
    "--passphrase-fd",
    type=click.IntRange(0),
    metavar="N",
    help="Read the wallets' passphrase, one line, from file descriptor N.",
)


def read_passphrase(descriptor: int) -> str:
    """The first line of ``descriptor``; raises ``PermeshError``."""
    try:
        with os.fdopen(descriptor, "rb", closefd=False) as source:
            line = source.readline(MAX_PASSPHRASE_BYTES + 1)
        passphrase = line.rstrip(b"\r\n").decode()
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(descriptor, "it cannot be read as text") from error
    if len(line) > MAX_PASSPHRASE_BYTES:
        raise _unreadable(descriptor, f"its line is over {MAX_PASSPHRASE_BYTES} bytes")
    if not passphrase:
        raise _unreadable(descriptor, "it is empty")
    return passphrase


def _unreadable(descriptor: int, why: str) -> PermeshError:
    return PermeshError(
        "passphrase.unreadable",
        f"No passphrase came from file descriptor {descriptor}: {why}.",
        "Give it as one line, for example with: --passphrase-fd 0 < FILE",
    )


Result = TypeVar("Result")


def with_passphrase(descriptor: int | None, open_wallets: Callable[[str | None], Result]) -> Result:
    """Call with the descriptor's passphrase; without one with None, and then, if that shows that
    a passphrase is needed and a person is there, with what they type."""
    return with_known(None if descriptor is None else read_passphrase(descriptor), open_wallets)


def with_known(passphrase: str | None, open_wallets: Callable[[str | None], Result]) -> Result:
    """The same where the descriptor was read before: it gives its line once."""
    if passphrase is not None:
        return open_wallets(passphrase)
    try:
        return open_wallets(None)
    except PermeshError as error:
        if error.code != "wallet.passphrase_needed" or not sys.stdin.isatty():
            raise
    return open_wallets(click.prompt("Passphrase", hide_input=True, err=True))
