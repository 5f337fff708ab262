"""Who one is, on a real home, without a daemon."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager

from permesh.config import Home


@contextmanager
def descriptor(content: bytes) -> Iterator[str]:
    reading, writing = os.pipe()
    os.write(writing, content)
    os.close(writing)
    yield str(reading)
    os.close(reading)


def test_an_identity_is_made_once_and_shown(permesh, home: Home) -> None:
    made = permesh("init", "--name", "atlas")
    assert made.exit_code == 0
    for expected in ("Chitin ID", "atlas", "not admitted yet", "claimed by the member itself"):
        assert expected in made.stdout
    assert stat.S_IMODE(home.keys.stat().st_mode) == 0o700
    again = permesh("init", "--name", "birch")
    assert again.exit_code == 1
    assert "holds an identity already" in again.stderr
    card = json.loads(permesh("id", "--json").stdout)
    assert card["name"] == "atlas"
    assert card["agent"] in permesh("id").stdout


def test_a_mesh_is_founded_and_one_is_its_first_member(permesh) -> None:
    permesh("init", "--name", "atlas")
    assert permesh("mesh", "create", "orchard", "--person", "ann").exit_code == 0
    card = json.loads(permesh("id", "--json").stdout)
    assert (card["mesh"], card["number"]) == ("orchard", "AGT-0001")
    assert permesh("mesh", "create", "meadow", "--person", "ann").exit_code == 1


def test_what_is_not_valid_is_refused_in_one_line(permesh) -> None:
    nobody = permesh("id")
    assert nobody.exit_code == 1
    assert "permesh init --name NAME" in nobody.stderr
    assert permesh("init", "--name", "No Spaces!").exit_code == 1
    permesh("init", "--name", "atlas")
    forged = permesh("mesh", "join", "permesh1:AAAA", "--person", "ann")
    assert forged.exit_code == 1
    assert len(forged.stderr.splitlines()) == 1


def test_no_other_passphrase_opens_the_wallets(permesh) -> None:
    with descriptor(b"open sesame\n") as given:
        assert permesh("init", "--name", "atlas", "--passphrase-fd", given).exit_code == 0
    none = permesh("mesh", "create", "orchard", "--person", "ann")
    assert none.exit_code == 1
    assert "--passphrase-fd" in none.stderr
    with descriptor(b"open barley\n") as given:
        wrong = permesh("mesh", "create", "orchard", "--person", "ann", "--passphrase-fd", given)
    assert wrong.exit_code == 1
    assert "does not open the keystore" in wrong.stderr
