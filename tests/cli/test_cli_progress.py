"""The bars of `model fetch`."""

import pytest

from permesh.cli.progress import StageBars


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
