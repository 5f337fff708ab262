"""What stops the log is told on every page; who is not served any more is told as such."""

from __future__ import annotations

from permesh.tui.card import REVOKED
from permesh.tui.widgets.member_list import MemberList
from permesh.tui.widgets.top_bar import Alarm

from .lived_in import lived_in_mesh
from .memory_mesh import CONTRADICTION, MemoryMesh, address
from .stage import opened, played, settle, shown, until
from .test_tui_hostile import BIDI, ESCAPES, MARKUP, acts
from .test_tui_model import folded


def tell(mesh: MemoryMesh, contradiction: str) -> None:
    mesh.contradiction = contradiction
    mesh.push("status", mesh.snapshot().status)


@played
async def test_a_contradiction_stands_under_the_bar_of_every_page_until_it_is_gone():
    mesh = lived_in_mesh()
    async with opened(mesh) as pilot:
        alarm = pilot.app.main.query_one(Alarm)
        assert not alarm.display
        tell(mesh, CONTRADICTION)
        await until(pilot, lambda: "the log goes on in two ways" in shown(pilot))
        for key in "1234":
            await pilot.press(key)
            await settle(pilot)
            lines = shown(pilot).splitlines()
            assert lines[1].strip().startswith("! After entry 12 the log goes on in two ways")
            assert lines[2].strip().endswith("Both were signed by: atlas (AGT-0001).")
            assert "q Quit" in lines[23]
        await pilot.press("3", "end")
        await settle(pilot)

        tell(mesh, "")
        await until(pilot, lambda: not alarm.display)
        assert "two ways" not in shown(pilot)


@played
async def test_the_mesh_page_has_it_whole_and_what_to_do():
    mesh = lived_in_mesh()
    mesh.contradiction = "word " * 100 + "and the end"
    async with opened(mesh, (120, 50)) as pilot:
        await pilot.press("3")
        await settle(pilot)
        screen = shown(pilot)
        assert "and the end" in screen
        assert "permesh mesh resolve" in screen


@played
async def test_it_stays_while_the_daemon_is_away_beside_what_is_told_of_that():
    mesh = lived_in_mesh()
    mesh.contradiction = CONTRADICTION
    async with opened(mesh) as pilot:
        mesh.stop()
        await until(pilot, lambda: "Trying again by itself" in shown(pilot))
        lines = shown(pilot).splitlines()
        assert "two ways" in lines[1]
        assert "No daemon is running" in lines[3]
        assert "q Quit" in lines[23]


@played
async def test_a_hostile_contradiction_takes_two_lines_and_leaves_the_footer():
    mesh = lived_in_mesh()
    async with opened(mesh) as pilot:
        alarm = pilot.app.main.query_one(Alarm)
        for text in (
            f"{ESCAPES}{MARKUP}{BIDI}\nforged\n\n\nlines {'and more ' * 20}",
            "x" * 10_000,
            "漢" * 10_000,
            "to be read " * 1_000,
            MARKUP * 300,
        ):
            tell(mesh, text)
            await until(pilot, lambda text=text: pilot.app.model.contradiction == text)
            await settle(pilot)
            for key in "34":
                await pilot.press(key)
                await pilot.pause()
                screen = shown(pilot)
                assert acts(screen) == []
                assert screen.splitlines()[1].strip().startswith("! ")
                assert screen.splitlines()[2].rstrip().endswith("…")
                assert "q Quit" in screen.splitlines()[23]
            assert alarm.size.height == 2
        for size in ((20, 6), (160, 50), (80, 24)):
            await pilot.resize_terminal(*size)
            await settle(pilot)
            assert alarm.size.height == 2
        assert "q Quit" in shown(pilot).splitlines()[23]


@played
async def test_suspended_and_revoked_members_come_last_with_their_reasons():
    mesh = lived_in_mesh()
    mesh.add_member("gone", "AGT-0006", "revoked", online=False)
    halted = mesh.add_member("halted", "AGT-0005", "suspended", online=False)
    why = "two machines on one key, and nobody answered when the registrars asked about it"
    mesh.member_list[halted.agent] = halted.model_copy(update={"note": why})
    async with opened(mesh, (120, 36)) as pilot:
        await pilot.press("2", "end")
        await settle(pilot)
        screen = shown(pilot)
        assert "AGT-0005 · suspended" in screen
        assert "AGT-0006 · revoked" in screen
        rows = pilot.app.main.query_one(MemberList)
        names = [rows.lines_of(at, 30)[0] for at in range(len(rows.keys))]
        struck = [any("strike" in str(span.style) for span in name.spans) for name in names]
        assert struck == [False] * 6 + [True]
        assert "revoked · not connected" in screen
        assert REVOKED.split(";", maxsplit=1)[0] in screen
        await pilot.press("up")
        await settle(pilot)
        screen = " ".join(shown(pilot).split())
        assert "suspended · not connected" in screen
        assert "why two machines on one key, and nobody answered" in screen
        await pilot.press("c")
        await settle(pilot)
        assert "Chronicle · halted AGT-0005" in shown(pilot)


@played
async def test_a_member_is_suspended_and_reinstated_before_the_readers_eyes():
    mesh = lived_in_mesh()
    member = mesh.member_list[address("beryl")]
    async with opened(mesh) as pilot:
        await pilot.press("2")
        evil = f"{ESCAPES}{MARKUP}{BIDI}" * 300
        mesh.push("member", member.model_copy(update={"state": "suspended", "note": evil}))
        await until(pilot, lambda: "AGT-0002 · suspended" in shown(pilot))
        await pilot.press("end")
        await settle(pilot)
        assert "␛[2J" in shown(pilot)
        assert acts(shown(pilot)) == []
        mesh.push("member", member)
        await until(pilot, lambda: "AGT-0002 · member" in shown(pilot))


def test_the_order_of_members_knows_every_state():
    mesh = lived_in_mesh()
    mesh.add_member("aaron", "AGT-0000", "revoked")
    mesh.add_member("abel", "AGT-0009", "suspended")

    names = [member.name for member in folded(mesh).sorted_members()]

    assert names == ["ember", "atlas", "beryl", "cobalt", "dune", "abel", "aaron"]
    assert folded(mesh).contradiction == ""
