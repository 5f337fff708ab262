import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import keyring
import pytest
from click.testing import CliRunner, Result
from keyring.backends.null import Keyring as EmptyKeyring

from permesh.cli import identity, main, passphrase
from permesh.config import Home
from permesh.identity import wallet
from permesh.identity.wallet import Wallet
from tests.api.fakenode import Daemon, running

Permesh = Callable[..., Result]


@pytest.fixture
def home() -> Iterator[Home]:
    """Short, since a Unix socket's path may have 103 bytes only."""
    root = Path(tempfile.mkdtemp(prefix="pm-"))
    yield Home(root)
    shutil.rmtree(root)


@pytest.fixture(autouse=True)
def no_passphrase_is_kept() -> Iterator[None]:
    """Whatever the keyring of the machine that tests holds."""
    before = keyring.get_keyring()
    keyring.set_keyring(EmptyKeyring())
    yield
    keyring.set_keyring(before)


@pytest.fixture
def daemon(home: Home) -> Iterator[Daemon]:
    with running(home) as daemon:
        yield daemon


@pytest.fixture
def permesh(home: Home) -> Permesh:
    """Runs one command on the home and returns click's result."""
    return partial(invoke, home.root)


@pytest.fixture
def elsewhere(home: Home) -> Callable[[str], Permesh]:
    """The same for another home, by a short name."""
    return lambda name: partial(invoke, home.root / name)


def invoke(root: Path, *arguments: str, **more: object) -> Result:
    return CliRunner().invoke(main, ["--home", str(root), *arguments], **more)


@pytest.fixture
def given(home: Home) -> Iterator[Callable[[str], str]]:
    """A file descriptor from which a text is read, as an argument."""
    opened: list[int] = []

    def give(text: str) -> str:
        file = home.root / "given"
        file.write_text(text)
        opened.append(os.open(file, os.O_RDONLY))
        return str(opened[-1])

    yield give
    for descriptor in opened:
        os.close(descriptor)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """A person is there to answer."""
    person = SimpleNamespace(stdin=SimpleNamespace(isatty=lambda: True))
    for module in (identity, passphrase):
        monkeypatch.setattr(module, "sys", person)


@pytest.fixture
def encrypted(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path, str], Wallet]:
    """Makes a keystore with a passphrase. This one, and all that `init` makes in the test, is
    encrypted as always, but with the least work: a second each is scrypt's purpose."""
    light = partial(wallet.Account.encrypt, iterations=2)
    monkeypatch.setattr(wallet.Account, "encrypt", staticmethod(light))

    def make(path: Path, passphrase: str) -> Wallet:
        made = Wallet.create()
        made.save(path, passphrase)
        return made

    return make


@pytest.fixture
def environment(home: Home) -> dict[str, str]:
    """For real processes."""
    return {**os.environ, "PERMESH_HOME": str(home.root), "PYTHONUNBUFFERED": "1"}
