"""One member by itself: how a daemon starts, and how it refuses to."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

from permesh.config import Home
from permesh.demo import Member

from .test_fleet import command, refusal


def member(root: Path, name: str) -> Member:
    return Member(name, Home(root / name), dict(os.environ))


def test_what_a_home_lacks_is_said(root: Path) -> None:
    nobody = member(root, "nobody")
    assert "permesh init" in refusal(nobody, "daemon")
    assert "permesh init" in refusal(nobody, "id")
    assert "permesh daemon" in refusal(nobody, "status")
    assert command(nobody, "init", "--name", "nobody").returncode == 0
    assert "mesh create" in refusal(nobody, "daemon")
    assert "name" in refusal(member(root, "odd"), "init", "--name", "Not A Name")


def test_a_home_that_is_too_deep_is_refused(root: Path) -> None:
    deep = root / ("d" * 100)
    for arguments in (["status"], ["daemon"], ["init", "--name", "deep"]):
        done = subprocess.run(
            [*member(root, "any").command()[:3], "--home", str(deep), *arguments],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 1
        assert "PERMESH_HOME" in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1


def test_keys_are_for_their_owner_alone(root: Path) -> None:
    careful = member(root, "careful")
    old = os.umask(0)
    try:
        assert command(careful, "init", "--name", "careful").returncode == 0
    finally:
        os.umask(old)
    for path in [careful.home.root, careful.home.keys, *careful.home.keys.iterdir()]:
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


def run_with_passphrase(one: Member, passphrase: str, *arguments: str) -> tuple[int, str]:
    done = subprocess.run(
        one.command(*arguments, "--passphrase-fd", "0"),
        input=passphrase + "\n",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stderr


def test_a_wrong_passphrase_opens_nothing(root: Path) -> None:
    locked = member(root, "locked")
    assert run_with_passphrase(locked, "right", "init", "--name", "locked")[0] == 0
    found = ("mesh", "create", "vault", "--person", "ann")
    assert run_with_passphrase(locked, "right", *found)[0] == 0
    status, said = run_with_passphrase(
        locked, "wrong", "daemon", "--listen", "/ip4/127.0.0.1/tcp/0"
    )
    assert status == 1
    assert "passphrase" in said
    assert len(said.strip().splitlines()) == 1
