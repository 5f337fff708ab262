"""What a file that somebody else named may be called on this machine."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from permesh.file_names import MAX_NAME, open_beside, open_new, safe_name

HASH = "ab" * 32
FALLBACK = "file-abababababab"


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("notes.txt", "notes.txt"),
        ("../../escaped", "escaped"),
        ("/etc/passwd", "passwd"),
        ("C:\\temp\\a.txt", "a.txt"),
        (".bashrc", "bashrc"),
        ("-rf", "rf"),
        ("..", FALLBACK),
        ("", FALLBACK),
        ("con.txt", FALLBACK),
        ("a b (1).tar.gz", "a b _1_.tar.gz"),
        ("x" * 300 + ".png", "x" * (MAX_NAME - 4) + ".png"),
        ("Grüße 猫.md", "Grüße 猫.md"),
    ],
)
def test_a_name_stays_what_it_is_as_far_as_it_is_safe(name: str, safe: str) -> None:
    assert safe_name(name, HASH) == safe


@given(st.text())
def test_whatever_it_is_called_it_is_one_plain_name(name: str) -> None:
    safe = safe_name(name, HASH)
    assert 0 < len(safe) <= MAX_NAME
    assert Path(safe).name == safe
    assert safe[0] not in ".- "
    assert safe.isprintable()


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("precious")
    (tmp_path / "b").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FileExistsError):
        open_new(tmp_path / "a.txt")
    with pytest.raises(FileExistsError):
        open_new(tmp_path / "b")
    with open(open_beside(tmp_path, "a.txt")[0], "w") as file:  # noqa: PTH123 - a descriptor
        file.write("new")
    assert (tmp_path / "a (1).txt").read_text() == "new"
    assert (tmp_path / "a.txt").read_text() == "precious"
    assert not (tmp_path / "elsewhere").exists()
