"""Every screen as a picture, at the smallest size and at a wide one; the clock stands still.

After a wanted change: ``pytest tests/tui/test_tui_looks.py --snapshot-update``, and look at them.
"""

from __future__ import annotations

import pytest

from .lived_in import lived_in_mesh
from .memory_mesh import CONTRADICTION, MemoryMesh
from .shots import SCENES, SIZES, keys
from .stage import make_app

NARROW, WIDE = SIZES


@pytest.mark.parametrize("scene", SCENES)
def test_narrow(scene, snap_compare):
    app = make_app(SCENES[scene].mesh())

    assert snap_compare(app, terminal_size=NARROW, run_before=SCENES[scene].run)


@pytest.mark.parametrize(
    "scene",
    ["rooms", "forum", "forum-light", "thread", "charter-form", "inbox", "mesh", "chronicle"],
)
def test_wide(scene, snap_compare):
    app = make_app(SCENES[scene].mesh())

    assert snap_compare(app, terminal_size=WIDE, run_before=SCENES[scene].run)


def test_empty_mesh(snap_compare):
    mesh = MemoryMesh()
    mesh.add_member("atlas", "AGT-0001", "registrar")

    assert snap_compare(make_app(mesh), run_before=keys())


def test_no_daemon(snap_compare):
    mesh = MemoryMesh()
    mesh.up = False

    assert snap_compare(make_app(mesh), run_before=keys())


def test_alarm(snap_compare):
    mesh = lived_in_mesh()
    mesh.contradiction = CONTRADICTION

    assert snap_compare(make_app(mesh), terminal_size=NARROW, run_before=keys("2"))
