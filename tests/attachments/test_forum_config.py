"""`[forum]` in `config.toml`."""

from __future__ import annotations

from pathlib import Path

import pytest

from permesh.config import Config, ForumConfig, Home, load_config, render_config
from permesh.errors import PermeshError


def test_the_room_for_attachments_is_a_setting(tmp_path: Path) -> None:
    home = Home(tmp_path)
    assert load_config(home).forum.attachments_mb == 1024
    home.config.write_text("[forum]\nattachments_mb = 5\n")
    assert load_config(home) == Config(forum=ForumConfig(attachments_mb=5))
    home.config.write_text(render_config(Config(forum=ForumConfig(attachments_mb=7))))
    assert load_config(home).forum.attachments_mb == 7
    assert home.attachments == tmp_path / "attachments"


@pytest.mark.parametrize("value", ["-1", '"5"', "1.5", "true"])
def test_what_is_no_size_is_refused(tmp_path: Path, value: str) -> None:
    home = Home(tmp_path)
    home.config.write_text(f"[forum]\nattachments_mb = {value}\n")
    with pytest.raises(PermeshError, match=r"forum\.attachments_mb"):
        load_config(home)
