"""The wallets' passphrase: in the system's keyring, from a descriptor, or at a prompt."""

from __future__ import annotations

import json
from collections.abc import Iterator

import keyring
import pytest
from click.testing import Result
from keyring.backend import KeyringBackend
from keyring.backends.fail import Keyring as NoKeyring
from keyring.errors import KeyringLocked, PasswordDeleteError

from permesh.cli.passphrase import KEYRING_SERVICE
from permesh.config import Home
from permesh.identity.export import read_genesis
from permesh.identity.genesis import Invite

RIGHT, WRONG = "open sesame é", "open barley"
FOUND = ("mesh", "create", "orchard", "--person", "atlas@example.org")
KEEP = ("passphrase", "keep")
FORGET = ("passphrase", "forget")


class Memory(KeyringBackend):
    """Keeps passphrases as long as the test runs."""

    priority = 0.5  # never chosen unless a test says so

    def __init__(self) -> None:
        super().__init__()
        self.kept: dict[tuple[str, str], str] = {}
        self.asked = 0

    def get_password(self, service: str, username: str) -> str | None:
        self.asked += 1
        return self.kept.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self.kept[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        if self.kept.pop((service, username), None) is None:
            raise PasswordDeleteError("nothing is kept")


class Locked(KeyringBackend):
    """One that its owner does not open."""

    priority = 0.5

    def get_password(self, service: str, username: str) -> str | None:
        raise KeyringLocked(f"{service} {username}")

    def set_password(self, service: str, username: str, password: str) -> None:
        raise KeyringLocked(f"{service} {username} {password}")

    def delete_password(self, service: str, username: str) -> None:
        raise KeyringLocked(f"{service} {username}")


@pytest.fixture(autouse=True)
def memory() -> Iterator[Memory]:
    """The system's keyring."""
    before = keyring.get_keyring()
    memory = Memory()
    keyring.set_keyring(memory)
    yield memory
    keyring.set_keyring(before)


def said(result: Result) -> str:
    assert result.exit_code == 0, result.output
    assert RIGHT not in result.output
    return result.stdout


def failed(result: Result) -> str:
    """The one line on stderr."""
    assert result.exit_code == 1, result.output
    assert len(result.stderr.splitlines()) == 1
    assert "Traceback" not in result.output
    assert RIGHT not in result.output
    assert WRONG not in result.output
    return result.stderr


@pytest.fixture
def locked(permesh, encrypted, given):
    """The home's wallets have a passphrase."""
    assert encrypted is not None
    said(permesh("init", "--name", "atlas", "--passphrase-fd", given(RIGHT + "\n")))
    return permesh


def place(home: Home) -> tuple[str, str]:
    return KEYRING_SERVICE, str(home.root)


# -- keeping and forgetting ------------------------------------------------------------------------


def test_a_passphrase_is_kept_for_this_home_and_forgotten(
    home: Home, locked, memory: Memory, given
) -> None:
    words = said(locked(*KEEP, "--passphrase-fd", given(RIGHT + "\n")))
    assert words == f"The keyring holds the passphrase of {home.root}.\n"
    assert memory.kept == {place(home): RIGHT}
    assert said(locked(*FORGET)) == "It is forgotten.\n"
    assert memory.kept == {}
    assert said(locked(*FORGET)) == "The keyring held none for this home.\n"


def test_it_is_asked_for_without_showing_it(home: Home, locked, memory: Memory) -> None:
    result = locked(*KEEP, input=RIGHT + "\n")
    said(result)
    assert "Passphrase" in result.stderr
    assert memory.kept == {place(home): RIGHT}


def test_only_what_opens_the_wallets_is_kept(locked, memory: Memory, given) -> None:
    assert "does not open the keystore agent.json" in failed(
        locked(*KEEP, "--passphrase-fd", given(WRONG))
    )
    assert "Traceback" not in locked(*KEEP, input=WRONG + "\n").output
    assert "it is empty" in failed(locked(*KEEP, "--passphrase-fd", given("\n")))
    assert memory.kept == {}


def test_wallets_without_a_passphrase_need_none(permesh, memory: Memory, given) -> None:
    assert "permesh init" in failed(permesh(*KEEP, "--passphrase-fd", given(RIGHT)))
    said(permesh("init", "--name", "atlas"))
    line = failed(permesh(*KEEP, "--passphrase-fd", given(RIGHT)))
    assert "The wallets of this home have no passphrase. There is nothing to keep" in line
    assert memory.kept == {}
    said(permesh(*FOUND))
    assert memory.asked == 0  # most systems ask their owner then


@pytest.mark.parametrize("backend", [NoKeyring, Locked])
def test_a_system_without_a_keyring_that_can_be_used_says_so(locked, given, backend) -> None:
    keyring.set_keyring(backend())
    line = failed(locked(*KEEP, "--passphrase-fd", given(RIGHT)))
    assert "This system has no keyring that can be used." in line
    assert "--passphrase-fd" in line
    assert said(locked(*FORGET)) == "The keyring held none for this home.\n"
    assert "The keystore owner.json is encrypted." in failed(locked(*FOUND))
    said(locked(*FOUND, "--passphrase-fd", given(RIGHT)))


# -- opening the wallets ---------------------------------------------------------------------------


@pytest.fixture
def kept(home: Home, locked, memory: Memory):
    """The keyring holds the right passphrase."""
    memory.kept[place(home)] = RIGHT
    return locked


def test_a_mesh_is_founded_without_a_prompt(kept) -> None:
    result = kept(*FOUND)
    assert said(result).startswith("You founded orchard.")
    assert result.stderr == ""


def test_a_mesh_is_joined_without_a_prompt(kept, elsewhere) -> None:
    other = elsewhere("other")
    said(other("init", "--name", "ben"))
    said(other(*FOUND))
    genesis = read_genesis(json.loads(said(other("mesh", "genesis"))))
    result = kept("mesh", "join", Invite(genesis, ()).line(), "--person", "dan@example.org")
    said(result)
    assert result.stderr == ""
    assert json.loads(said(kept("id", "--json")))["mesh"] == "orchard"


@pytest.mark.usefixtures("terminal")
def test_whoever_is_there_is_not_asked_what_the_keyring_knows(kept) -> None:
    result = kept(*FOUND, input=WRONG + "\n")
    said(result)
    assert "Passphrase" not in result.stderr


def test_what_is_kept_for_another_home_opens_nothing(home: Home, locked, memory: Memory) -> None:
    memory.kept[KEYRING_SERVICE, str(home.root / "other")] = RIGHT
    memory.kept["another service", str(home.root)] = RIGHT
    assert "--passphrase-fd" in failed(locked(*FOUND))
    memory.kept[place(home)] = RIGHT
    said(locked(*FOUND))


def test_what_was_forgotten_opens_nothing(kept) -> None:
    said(kept(*FORGET))
    line = failed(kept(*FOUND))
    assert "is encrypted" in line
    assert "permesh passphrase keep" in line
    assert "belongs to no mesh yet" in failed(kept("mesh", "genesis"))


def test_a_descriptor_comes_before_the_keyring(home: Home, locked, memory: Memory, given) -> None:
    memory.kept[place(home)] = WRONG
    said(locked(*FOUND, "--passphrase-fd", given(RIGHT)))
    memory.kept[place(home)] = RIGHT
    line = failed(locked(*FOUND, "--passphrase-fd", given(WRONG)))
    assert "does not open the keystore" in line
    assert memory.asked == 0


def test_one_that_does_not_open_them_is_said_not_to(home: Home, locked, memory: Memory) -> None:
    memory.kept[place(home)] = WRONG
    assert "does not open the keystore" in failed(locked(*FOUND))


@pytest.mark.usefixtures("terminal")
def test_whoever_is_there_is_asked_if_the_keyrings_does_not_open_them(
    home: Home, locked, memory: Memory
) -> None:
    memory.kept[place(home)] = WRONG
    result = locked(*FOUND, input=RIGHT + "\n")
    assert "Passphrase" in result.stderr
    said(result)


@pytest.mark.usefixtures("terminal")
def test_whoever_is_there_is_asked_once_where_nothing_is_kept(locked) -> None:
    wrong = locked(*FOUND, input=WRONG + "\n")
    assert wrong.exit_code == 1
    assert "does not open the keystore" in wrong.stderr.splitlines()[-1]
    result = locked(*FOUND, input=RIGHT + "\n")
    said(result)
    assert result.stderr.count("Passphrase") == 1
