"""The bars of `model fetch`."""

import pytest

from permesh.cli.progress import StageBars


def test_what_fails_before_it_begins_leaves_no_empty_line(capsys: pytest.CaptureFixture) -> None:
    with StageBars():
        pass
    assert capsys.readouterr().err == ""


def test_a_stage_without_bytes_counts_none(capsys: pytest.CaptureFixture[str]) -> None:
    with StageBars() as bars:
        bars.update("convert", 0, 0)
    assert "bytes" not in capsys.readouterr().err


def test_each_stage_has_a_bar_whose_total_may_come_late(capsys: pytest.CaptureFixture[str]) -> None:
    with StageBars() as bars:
        bars.update("download", 10, 0)
        bars.update("download", 2_000_000, 2_000_000)
        bars.update("convert", 500_000, 1_000_000)
    shown = capsys.readouterr()
    assert shown.out == ""
    download, convert = (line for line in shown.err.splitlines() if line.strip())
    assert download.startswith("download")
    assert "2.0/2.0 MB" in download
    assert "0.5/1.0 MB" in convert
