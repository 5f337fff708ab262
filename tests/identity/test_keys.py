"""Key files: whole or absent, for their owner's eyes only, and never in the way of a renewal."""

import os
import resource
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.peer.id import ID

from permesh.config import Home
from permesh.errors import PermeshError
from permesh.identity.files import loose_permissions, make_private_directory, write_secret
from permesh.identity.keys import KeyFiles, SessionKey, check_permissions, peer_id_of

from .people import seed


@pytest.fixture
def home(tmp_path: Path) -> Home:
    found = Home(tmp_path / "home")
    make_private_directory(found.keys)
    return found


@pytest.fixture
def files(home: Home) -> KeyFiles:
    return KeyFiles(home)


@pytest.fixture
def no_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def listed(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def code(caught: pytest.ExceptionInfo[PermeshError]) -> str:
    assert caught.value.remedy
    return caught.value.code


# -- directories and files -------------------------------------------------------------------------


@pytest.mark.usefixtures("no_umask")
def test_all_that_is_made_is_its_owners_only(tmp_path: Path) -> None:
    keys = tmp_path / "deep" / "home" / "keys"
    make_private_directory(keys)
    write_secret(keys / "peer.key", seed("peer"))
    for path in (keys, keys.parent, keys.parent.parent):
        assert mode(path) == 0o700
    assert mode(keys / "peer.key") == 0o600
    assert loose_permissions(keys) == []


def test_a_directory_that_is_there_is_left_alone(tmp_path: Path) -> None:
    tmp_path.chmod(0o750)
    make_private_directory(tmp_path)
    assert mode(tmp_path) == 0o750


def test_a_directory_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "keys"):
        with pytest.raises(PermeshError) as caught:
            make_private_directory(path)
        assert code(caught) == "home.unwritable"


def test_a_secret_is_never_overwritten_not_even_through_a_link(home: Home) -> None:
    path = home.keys / "peer.key"
    write_secret(path, b"first")
    (home.keys / "link.key").symlink_to(home.keys / "nowhere")
    for taken in (path, home.keys / "link.key"):
        with pytest.raises(PermeshError) as caught:
            write_secret(taken, b"second")
        assert code(caught) == "keys.exist"
    assert path.read_bytes() == b"first"
    assert listed(home.keys) == ["link.key", "peer.key"]


def test_a_full_disk_leaves_nothing_behind(home: Home) -> None:
    """A limit on file sizes stands in for the disk: writing fails half-way in the same place."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (16, hard))
    try:
        with pytest.raises(PermeshError) as caught:
            write_secret(home.keys / "peer.key", bytes(32))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert code(caught) == "keys.unwritable"
    assert listed(home.keys) == []
    write_secret(home.keys / "peer.key", bytes(32))


def test_no_directory_no_secret(tmp_path: Path) -> None:
    with pytest.raises(PermeshError) as caught:
        write_secret(tmp_path / "absent" / "peer.key", b"")
    assert code(caught) == "keys.unwritable"


def test_what_others_may_read_is_told(home: Home) -> None:
    write_secret(home.keys / "peer.key", seed("peer"))
    assert check_permissions(home) == []
    (home.keys / "peer.key").chmod(0o640)
    home.keys.chmod(0o701)
    assert check_permissions(home) == [
        f"{home.keys} has mode 0701",
        f"{home.keys / 'peer.key'} has mode 0640",
    ]


def test_a_link_is_judged_by_what_it_leads_to(home: Home, tmp_path: Path) -> None:
    write_secret(tmp_path / "elsewhere.key", b"")
    (home.keys / "peer.key").symlink_to(tmp_path / "elsewhere.key")
    (home.keys / "gone.key").symlink_to(tmp_path / "gone.key")
    assert check_permissions(home) == []
    (tmp_path / "elsewhere.key").chmod(0o644)
    assert check_permissions(home) == [f"{home.keys / 'peer.key'} has mode 0644"]


def test_a_home_without_keys_has_no_loose_ones(tmp_path: Path) -> None:
    assert check_permissions(Home(tmp_path)) == []


# -- the peer's key --------------------------------------------------------------------------------


def test_the_peer_id_is_libp2ps() -> None:
    for name in ("ann", "ben"):
        pair = create_new_key_pair(seed(name))
        assert peer_id_of(seed(name)) == str(ID.from_pubkey(pair.public_key))


def test_the_peer_seed_is_kept(files: KeyFiles) -> None:
    with pytest.raises(PermeshError) as caught:
        files.load_peer_seed()
    assert code(caught) == "keys.missing"
    write_secret(files.peer, seed("peer"))
    assert files.load_peer_seed() == seed("peer")


@pytest.mark.parametrize("length", [0, 31, 33, 100_000])
def test_a_seed_of_another_length_is_damaged(files: KeyFiles, length: int) -> None:
    write_secret(files.peer, bytes(length))
    with pytest.raises(PermeshError) as caught:
        files.load_peer_seed()
    assert code(caught) == "keys.damaged"


# -- session keys ----------------------------------------------------------------------------------


def test_a_renewal_that_crashed_goes_on_with_the_key_it_had_made(files: KeyFiles) -> None:
    made = files.save_session(1, seed("one"))
    again = files.save_session(1, seed("another"))
    assert again.public == made.public == SessionKey(seed("one")).public
    found = files.load_session(1)
    assert found is not None
    assert found.public == made.public


def test_the_last_two_session_keys_are_kept(home: Home, files: KeyFiles) -> None:
    for epoch in range(1, 13):
        files.save_session(epoch, seed(f"epoch {epoch}"))
    assert listed(home.keys) == ["session-11.key", "session-12.key"]
    assert files.load_session(10) is None


def test_what_is_no_session_key_of_ours_is_left_alone(home: Home, files: KeyFiles) -> None:
    for name in ("session-.key", "session-x.key", "session-\N{SUPERSCRIPT TWO}.key", "note.txt"):
        (home.keys / name).write_bytes(b"")
    files.save_session(9, seed("nine"))
    assert len(listed(home.keys)) == 5


def test_a_seed_of_another_length_is_not_kept(home: Home, files: KeyFiles) -> None:
    with pytest.raises(ValueError, match="32"):
        files.save_session(1, b"short")
    assert listed(home.keys) == []


KILLED_WHILE_LINKING = """
import os, sys
from pathlib import Path
from permesh.config import Home
from permesh.identity import keys
os.link = lambda *_: os.kill(os.getpid(), 9)
keys.KeyFiles(Home(Path(sys.argv[1]))).save_session(1, bytes(32))
"""


def test_a_kill_while_a_key_is_written_does_not_stand_in_the_way(
    home: Home, files: KeyFiles
) -> None:
    child = subprocess.run([sys.executable, "-c", KILLED_WHILE_LINKING, str(home.root)])
    assert child.returncode == -9
    assert len(listed(home.keys)) == 1  # half of a renewal
    assert check_permissions(home) == []
    assert files.load_session(1) is None
    assert files.save_session(1, seed("one")).public == SessionKey(seed("one")).public
    assert listed(home.keys) == ["session-1.key"]


def test_a_file_of_an_old_process_with_the_same_id_is_not_in_the_way(home: Home) -> None:
    """In a container the daemon's process id is the same after every restart."""
    (home.keys / f".session-1.key.{os.getpid()}").write_bytes(b"half")
    assert KeyFiles(home).save_session(1, seed("one")).public == SessionKey(seed("one")).public
