"""Files on the disk: whole or not at all, private, and never more than there is room for."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from permesh.errors import PermeshError
from permesh.p2p.blobs import MAX_FILE_BYTES
from permesh.shelf import BLOCK, Shelf

MUCH = 100 * BLOCK


def content(number: int, size: int = 100) -> bytes:
    return bytes([number]) * size


def name_of(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def put(shelf: Shelf, data: bytes) -> bytes:
    incoming = shelf.begin()
    try:
        incoming.write(data)
        return shelf.keep(incoming)
    except BaseException:
        incoming.discard()
        raise


def fetched(shelf: Shelf, data: bytes) -> bytes:
    key = name_of(data)
    shelf.pin(key)
    shelf.append(key, 0, data)
    assert shelf.finish(key)
    if shelf.unpin(key):
        shelf.make_room()
    return key


def read(shelf: Shelf, file_hash: bytes) -> bytes | None:
    file = shelf.open(file_hash)
    if file is None:
        return None
    with file:
        return file.read()


def names(directory: Path) -> set[str]:
    return {str(path.relative_to(directory)) for path in directory.rglob("*") if not path.is_dir()}


def test_what_is_put_is_there_also_after_a_restart(tmp_path: Path) -> None:
    data = content(1, 3 * BLOCK)
    shelf = Shelf(tmp_path / "attachments", MUCH)
    file_hash = put(shelf, data)
    assert file_hash == name_of(data)
    for again in (shelf, Shelf(tmp_path / "attachments", MUCH)):
        assert again.size_of(file_hash) == len(data)
        assert read(again, file_hash) == data
        assert again.read(file_hash, 10, 20) == data[10:30]
    assert names(tmp_path) == {f"attachments/own/{file_hash.hex()}"}


def test_only_the_user_may_read_it(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        shelf = Shelf(tmp_path / "home" / "attachments", MUCH)
        put(shelf, content(1))
        fetched(shelf, content(2))
        shelf.append(name_of(content(3)), 0, b"part")
    finally:
        os.umask(before)
    for path in (tmp_path / "home").rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600)


def test_a_start_takes_away_what_a_crash_left_and_nothing_else(tmp_path: Path) -> None:
    kept, gone = content(1), content(2)
    shelf = Shelf(tmp_path, MUCH)
    own, part = put(shelf, kept), name_of(gone)
    shelf.append(part, 0, gone[:10])
    shelf.begin().write(b"on its way")
    (tmp_path / "old.tmp").write_bytes(b"x")
    (tmp_path / "notes.txt").write_bytes(b"not ours")
    (tmp_path / ("0" * 64)).write_bytes(b"")
    (tmp_path / (own.hex() + ".part")).write_bytes(b"no longer needed")
    (tmp_path / own.hex()).write_bytes(kept)
    with (tmp_path / ("1" * 64)).open("wb") as file:
        file.truncate(MAX_FILE_BYTES + 1)
    (tmp_path / ("2" * 64)).symlink_to(tmp_path / "notes.txt")
    again = Shelf(tmp_path, MUCH)
    assert names(tmp_path) == {
        "notes.txt", "2" * 64, f"own/{own.hex()}", f"{part.hex()}.part"
    }  # fmt: skip
    assert again.part_size(part) == 10
    assert again.size_of(bytes.fromhex("2" * 64)) is None


def test_a_part_goes_on_after_a_restart(tmp_path: Path) -> None:
    data = content(1, 500)
    Shelf(tmp_path, MUCH).append(name_of(data), 0, data[:200])
    shelf = Shelf(tmp_path, MUCH)
    assert shelf.size_of(name_of(data)) is None
    assert shelf.part_size(name_of(data)) == 200
    assert not shelf.finish(name_of(data))
    shelf.append(name_of(data), 200, data[200:])
    assert shelf.finish(name_of(data))
    assert read(shelf, name_of(data)) == data
    assert names(tmp_path) == {name_of(data).hex()}


def test_a_part_may_lose_its_end_or_all_of_it(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path, MUCH)
    key = name_of(b"abcdef")
    shelf.append(key, 0, b"abcxyz")
    shelf.truncate(key, 3)
    shelf.append(key, 3, b"def")
    shelf.truncate(key, 100)
    assert shelf.part_size(key) == 6
    shelf.truncate(key, 0)
    assert names(tmp_path) == set()
    assert shelf.part_size(key) == 0
    with pytest.raises(FileNotFoundError):
        shelf.finish(key)


def test_what_an_append_left_that_broke_off_is_written_over(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path, MUCH)
    key = name_of(b"abcdef")
    shelf.append(key, 0, b"abc")
    with (tmp_path / f"{key.hex()}.part").open("ab") as file:
        file.write(b"more than was noted")
    shelf.append(key, 3, b"def")
    assert shelf.finish(key)


@pytest.mark.parametrize("by_hand", [True, False])
def test_who_appends_to_a_part_that_is_gone_is_told(tmp_path: Path, by_hand: bool) -> None:
    shelf = Shelf(tmp_path, MUCH)
    key = name_of(b"abcdef")
    shelf.append(key, 0, b"abc")
    if by_hand:
        (tmp_path / f"{key.hex()}.part").unlink()
    else:
        shelf.remove([key])
    with pytest.raises(FileNotFoundError):
        shelf.append(key, 3, b"def")
    assert shelf.part_size(key) == 0
    shelf.append(key, 0, b"abcdef")
    assert shelf.finish(key)


def test_the_least_recently_used_goes_first_and_own_files_stay(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path, 4 * BLOCK)
    own = put(shelf, content(0))
    first, second, third = (fetched(shelf, content(number)) for number in (1, 2, 3))
    assert read(shelf, first) == content(1)
    fourth = fetched(shelf, content(4))
    assert shelf.size_of(second) is None
    later = put(shelf, content(5))
    assert shelf.size_of(third) is None
    assert names(tmp_path) == {
        f"own/{own.hex()}", f"own/{later.hex()}", first.hex(), fourth.hex()
    }  # fmt: skip


def test_what_was_used_last_is_remembered_over_a_restart(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path, MUCH)
    keys = [fetched(shelf, content(number)) for number in range(3)]
    for age, key in enumerate(keys):
        os.utime(tmp_path / key.hex(), (age, age))
    assert read(shelf, keys[0]) == content(0)
    smaller = Shelf(tmp_path, BLOCK)
    assert [key for key in keys if smaller.size_of(key)] == [keys[0]]
    assert names(tmp_path) == {keys[0].hex()}


def test_parts_that_nobody_works_on_go_before_files(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path, 2 * BLOCK)
    file = fetched(shelf, content(1))
    idle, busy = name_of(content(2)), name_of(content(3))
    shelf.append(idle, 0, b"x")
    shelf.pin(busy)
    shelf.append(busy, 0, b"x")
    assert shelf.part_size(idle) == 0
    assert shelf.size_of(file)
    shelf.append(busy, 1, bytes(2 * BLOCK))
    assert shelf.part_size(busy) == 2 * BLOCK + 1
    assert shelf.size_of(file) is None
    assert shelf.unpin(busy)
    shelf.make_room()
    assert names(tmp_path) == set()


def test_what_is_in_use_stays_until_all_are_done_with_it(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path, 0)
    key = name_of(content(1))
    shelf.pin(key)
    shelf.pin(key)
    fetched(shelf, content(1))
    assert shelf.unpin(key)
    shelf.make_room()
    assert read(shelf, key) == content(1)
    shelf.unpin(key)
    shelf.make_room()
    assert shelf.size_of(key) is None


def test_own_files_may_not_be_more_than_the_room(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path, 2 * BLOCK)
    kept = {put(shelf, content(number)) for number in (1, 2)}
    with pytest.raises(PermeshError) as caught:
        put(shelf, content(3))
    assert caught.value.code == "attachment.full"
    assert "attachments_mb" in caught.value.remedy
    assert put(shelf, content(1)) in kept  # what is there already takes no more room
    assert names(tmp_path) == {f"own/{key.hex()}" for key in kept}


def test_a_fetched_file_that_is_put_becomes_ones_own(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path, 2 * BLOCK)
    key = fetched(shelf, content(1))
    assert put(shelf, content(1)) == key
    assert names(tmp_path) == {f"own/{key.hex()}"}
    assert read(shelf, key) == content(1)
    part = name_of(content(2))
    shelf.append(part, 0, b"\x02")
    put(shelf, content(2))
    assert shelf.part_size(part) == 0
    shelf.pin(part)
    shelf.append(part, 0, content(2))  # by a fetch that had begun before
    assert shelf.finish(part)
    assert names(tmp_path) == {f"own/{key.hex()}", f"own/{part.hex()}"}


def test_what_does_not_fit_its_name_is_taken_away_and_never_given(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path, MUCH)
    own, other, missing = put(shelf, content(1)), fetched(shelf, content(2)), put(shelf, content(3))
    (tmp_path / "own" / own.hex()).write_bytes(content(9))
    (tmp_path / other.hex()).write_bytes(content(2, 99))
    (tmp_path / "own" / missing.hex()).unlink()
    again = Shelf(tmp_path, MUCH)
    assert again.read(own, 0, 100) is None
    assert again.read(other, 0, 100) is None
    assert shelf.open(own) is None
    assert shelf.open(missing) is None
    assert shelf.read(missing, 0, 1) is None
    assert names(tmp_path) == set()


def test_what_is_removed_is_read_to_its_end_by_who_has_it_open(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path, MUCH)
    keys = [put(shelf, content(1)), fetched(shelf, content(2)), name_of(content(3))]
    shelf.append(keys[2], 0, b"\x03")
    file = shelf.open(keys[0])
    assert file is not None
    shelf.remove([*keys, name_of(content(4))])
    with file:
        assert file.read() == content(1)
    assert names(tmp_path) == set()
    assert [shelf.size_of(key) for key in keys] == [None, None, None]


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["put", "fetch", "part", "open", "remove", "restart"]), st.integers(0, 5)
    ),
    max_size=20,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(STEPS, st.integers(0, 8))
def test_the_disk_is_as_it_is_thought_to_be(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]], blocks: int
) -> None:
    directory = tmp_path_factory.mktemp("shelf")
    shelf = Shelf(directory, blocks * BLOCK)
    own: set[int] = set()
    for step, number in steps:
        data = content(number, 1 + number * 1500)
        key = name_of(data)
        match step:
            case "put":
                try:
                    put(shelf, data)
                    own.add(number)
                except PermeshError as error:
                    assert error.code == "attachment.full"  # noqa: PT017
            case "fetch" if not shelf.size_of(key) and not shelf.part_size(key):
                fetched(shelf, data)
            case "part" if not shelf.size_of(key):
                shelf.append(key, shelf.part_size(key), b"x")
            case "open":
                assert read(shelf, key) in ((data,) if number in own else (data, None))
            case "remove":
                shelf.remove([key])
                own.discard(number)
            case "restart":
                shelf = Shelf(directory, blocks * BLOCK)
        sizes = [path.stat().st_size for path in directory.rglob("*") if path.is_file()]
        assert sum(-(-size // BLOCK) for size in sizes) <= blocks
        assert {name for name in names(directory) if name.startswith("own/")} == {
            f"own/{name_of(content(each, 1 + each * 1500)).hex()}" for each in own
        }
