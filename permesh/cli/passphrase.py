"""Where a passphrase comes from: a file descriptor, the system's keyring, or a prompt.

Must never put one into an argument, an environment variable or a message.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import TypeVar

import click

from permesh.config import Home
from permesh.errors import PermeshError

MAX_PASSPHRASE_BYTES = 1024
KEYRING_SERVICE = "permesh"

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


def with_passphrase(
    home: Home, descriptor: int | None, open_wallets: Callable[[str | None], Result]
) -> Result:
    """Call with the descriptor's passphrase; without one with None, and then, if that shows that
    a passphrase is needed, with what the keyring holds for the home, or what a person types."""
    known = None if descriptor is None else read_passphrase(descriptor)
    return with_known(home, known, open_wallets)


def with_known(
    home: Home, passphrase: str | None, open_wallets: Callable[[str | None], Result]
) -> Result:
    """The same where the descriptor was read before: it gives its line once."""
    if passphrase is not None:
        return open_wallets(passphrase)
    try:
        return open_wallets(None)
    except PermeshError as error:
        if error.code != "wallet.passphrase_needed":
            raise
        kept = from_keyring(home)
        if kept is None and not sys.stdin.isatty():
            raise
    if kept is not None:
        try:
            return open_wallets(kept)
        except PermeshError as error:  # it was changed since; whoever is there knows it
            if error.code != "wallet.passphrase" or not sys.stdin.isatty():
                raise
    return open_wallets(click.prompt("Passphrase", hide_input=True, err=True))


# -- the system's keyring --------------------------------------------------------------------------


def from_keyring(home: Home) -> str | None:
    """What is kept for this home; None if nothing is, or the system has no keyring."""
    import keyring  # its backends are slow to find, and most commands need none
    from keyring.errors import KeyringError

    try:
        return keyring.get_password(KEYRING_SERVICE, str(home.root))
    except (KeyringError, RuntimeError):
        return None


def keep_in_keyring(home: Home, passphrase: str) -> None:
    """Raises ``PermeshError("keyring.none")`` where the system has none that can be used."""
    import keyring
    from keyring.errors import KeyringError

    try:
        keyring.set_password(KEYRING_SERVICE, str(home.root), passphrase)
    except (KeyringError, RuntimeError) as error:
        raise PermeshError(
            "keyring.none",
            "This system has no keyring that can be used.",
            "Give the passphrase at the prompt, or with --passphrase-fd.",
        ) from error


def forget_in_keyring(home: Home) -> bool:
    """Whether something was kept."""
    import keyring
    from keyring.errors import KeyringError

    try:
        keyring.delete_password(KEYRING_SERVICE, str(home.root))
    except (KeyringError, RuntimeError):
        return False
    return True
