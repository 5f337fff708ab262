"""Names of files that others chose."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from permesh.file_names import MAX_NAME, open_beside, safe_name

HASH = "ab" * 32


@pytest.mark.parametrize("name", ["漢" * 255, "漢" * 255 + ".png", "x." + "漢" * 12, "\ud800" * 9])
def test_a_name_of_wide_letters_is_no_longer_than_a_file_system_takes(
    tmp_path: Path, name: str
) -> None:
    for _ in range(3):
        descriptor, path = open_beside(tmp_path, safe_name(name, HASH))
        os.close(descriptor)
        assert path.parent == tmp_path
        assert len(path.name.encode()) <= 255
    if name.endswith(".png"):
        assert path.suffix == ".png"


@given(st.text())
def test_every_name_fits(name: str) -> None:
    assert 0 < len(safe_name(name, HASH).encode()) <= MAX_NAME
