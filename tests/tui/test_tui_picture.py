"""The picture of the mesh: this member in the middle, a line to each connected one."""

from __future__ import annotations

import pytest
from rich.cells import cell_len

from permesh.schema import ShutOut
from permesh.tui.mesh_picture import MAX_SIDE, picture

from .lived_in import lived_in_mesh, wide_mesh
from .memory_mesh import NOW, MemoryMesh
from .stage import opened, played, shown, until
from .test_tui_hostile import BIDI, ESCAPES, MARKUP, acts


def drawn(mesh: MemoryMesh, width: int) -> str:
    status = mesh.snapshot().status
    return picture(status, mesh.member_list, mesh.model_list, width, NOW, True).plain


def test_five_links_from_the_middle():
    lines = drawn(wide_mesh(9), 74).splitlines()

    assert lines[:6] == [
        "          cobalt AGT-0003 ●──╮           ╭══● beryl AGT-0002",
        "3 faults · serves 12:26,…    │           │    serves 4:12, 24:35 · sta…",
        "          garnet AGT-0006 ●──┼─ ◉ atlas ─┼──● flint AGT-0005",
        "            standing 0.50    │           │    standing 0.50",
        "            iris AGT-0008 ●──╯           ╰──● heath AGT-0007",
        "            standing 0.50                     standing 0.50",
    ]
    assert lines[6] == "○ not connected: dune, jasper"


def test_one_link_and_none():
    mesh = lived_in_mesh()
    del mesh.peer_list[1:]
    assert " ◉ atlas ──══● beryl AGT-0002" in drawn(mesh, 74)
    mesh.peer_list.clear()
    assert "Nobody is connected." in drawn(mesh, 74)


def test_who_was_shut_out_is_told():
    mesh = lived_in_mesh()
    status = mesh.snapshot().status
    gone = ShutOut(peer_id="12D3", name="dune", fault_codes={"sync.endless": 3}, seconds=90)
    status = status.model_copy(update={"shut_out": [gone]})

    said = picture(status, {}, [], 74, NOW, True).plain

    assert "! shut out: dune for sync.endless, 1m left" in said


@pytest.mark.parametrize("width", [20, 56, 74, 110, 200])
@pytest.mark.parametrize("count", [0, 1, 2, 3, 7, 40])
def test_any_number_of_hostile_members_fits_any_width(count, width):
    mesh = MemoryMesh()
    mesh.add_member("atlas", "AGT-0001", "registrar")
    evil = f"{ESCAPES}{MARKUP}{BIDI}" * 3
    for at in range(count):
        mesh.add_member(f"m{at}", f"AGT-{at:04}")
    mesh.peer_list = [
        peer.model_copy(update={"name": evil, "number": evil, "faults": 9})
        for peer in mesh.peer_list
    ]
    for agent, member in list(mesh.member_list.items())[1::2]:
        mesh.member_list[agent] = member.model_copy(update={"name": evil})
    text = drawn(mesh, width)

    assert acts(text) == []
    assert max(map(cell_len, text.splitlines())) <= max(width, 24)
    assert len(text.splitlines()) <= 2 * MAX_SIDE + 8


@played
async def test_it_changes_as_members_come_and_go():
    mesh = lived_in_mesh()
    async with opened(mesh, (120, 36)) as pilot:
        await pilot.press("3")
        await until(pilot, lambda: "─ ◉ atlas ─" in shown(pilot))
        assert "not connected: dune" in shown(pilot)
        mesh.add_member("dune", "AGT-0004", online=True)
        mesh.push("status", mesh.snapshot().status)
        await until(pilot, lambda: "● dune AGT-0004" in shown(pilot))
        mesh.peer_list.clear()
        mesh.push("status", mesh.snapshot().status)
        await until(pilot, lambda: "Nobody is connected." in shown(pilot))
