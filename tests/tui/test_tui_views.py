"""Members and their cards, the mesh, the own card, help, commands and colours."""

from __future__ import annotations

import re

from permesh.tui.dialogs import Admit, OneLine
from permesh.tui.help import Help
from permesh.tui.widgets.composer import PostText
from permesh.tui.widgets.member_list import MemberList
from permesh.tui.widgets.post_list import PostList
from permesh.tui.widgets.top_bar import Tab

from .lived_in import lived_in_mesh
from .memory_mesh import NOW, address
from .stage import opened, played, settle, shown, until

WIDE = (120, 36)


@played
async def test_members_come_live_and_show_their_cards():
    mesh = lived_in_mesh()
    async with opened(mesh, WIDE) as pilot:
        await pilot.press("2", "down", "down")
        await pilot.pause()
        screen = shown(pilot)
        mesh.push("member", mesh.add_member("flint", "AGT-0006"))
        await until(pilot, lambda: "flint" in shown(pilot))

    assert address("beryl") in screen
    assert "member · online" in screen
    assert "by AGT-0001" in screen
    assert "epoch 3, lapses in 2d 13h" in screen
    assert "as it says of itself" in screen


@played
async def test_a_registrar_admits_after_a_look_at_the_address():
    mesh = lived_in_mesh()
    async with opened(mesh, WIDE) as pilot:
        await pilot.press("2")
        await pilot.pause()
        assert "asks to be let in" in shown(pilot)
        await pilot.press("a")
        await until(pilot, lambda: isinstance(pilot.app.screen, Admit))
        assert address("ember") in shown(pilot)
        await pilot.press("enter")  # nobody is named
        await until(pilot, lambda: "Name the person" in shown(pilot))
        await pilot.press("escape")
        await until(pilot, lambda: not isinstance(pilot.app.screen, Admit))
        assert not any(call.startswith("admit") for call in mesh.calls)

        await pilot.press("a")
        await until(pilot, lambda: isinstance(pilot.app.screen, Admit))
        await pilot.press(*"emma")
        await pilot.click("#agree")
        await until(pilot, lambda: "ember: AGT-0005 now." in shown(pilot))
    assert f"admit {address('ember')} emma" in mesh.calls

    assert mesh.member_list[address("ember")].state == "member"


@played
async def test_a_failed_admission_is_told():
    mesh = lived_in_mesh()
    async with opened(mesh, WIDE) as pilot:
        await pilot.press("2", "a")
        await until(pilot, lambda: isinstance(pilot.app.screen, Admit))
        del mesh.member_list[address("ember")]
        await pilot.press(*"emma", "ctrl+s")
        await until(pilot, lambda: "Nobody here has that address." in shown(pilot))


@played
async def test_only_a_registrar_is_offered_to_admit():
    mesh = lived_in_mesh()
    mesh.name, mesh.number, mesh.agent = "beryl", "AGT-0002", address("beryl")
    async with opened(mesh) as pilot:
        await pilot.press("2", "home")
        await pilot.pause()
        assert pilot.app.query_one(MemberList).selected.state == "pending"
        assert "Admit" not in shown(pilot)
        await pilot.press("a")
        await pilot.pause()
        assert not isinstance(pilot.app.screen, Admit)


@played
async def test_i_shows_the_line_that_invites():
    mesh = lived_in_mesh()
    async with opened(mesh, WIDE) as pilot:
        await pilot.press("2", "i")
        await until(pilot, lambda: isinstance(pilot.app.screen, OneLine))
        assert "permesh1:" in shown(pilot)
        await pilot.press("y")
        await pilot.pause()
        assert pilot.app.clipboard == "permesh1:" + "uTZmN5aGVhcnRo" * 14

        mesh.up = False
        await pilot.press("escape", "i")
        await until(pilot, lambda: "No daemon is running" in shown(pilot))


@played
async def test_mesh_shows_peers_layers_and_what_was_refused_as_it_changes():
    mesh = lived_in_mesh()
    async with opened(mesh, WIDE) as pilot:
        await pilot.press("3")
        await pilot.pause()
        screen = shown(pilot)
        assert "/ip4/192.168.1.7/tcp/41007" in screen
        assert "····████████████████····" in screen  # beryl's 4:12 at two cells a layer
        assert "nobody serves layers 18:24" in screen
        assert "11 wire.too_long" in screen
        assert "● ready" in screen
        assert "cpu (mkl)" in screen

        lapsed = mesh.span("cobalt", 2, 5).model_copy(update={"expires_ms": NOW - 1})
        mesh.model_list[0].served = [mesh.span("dune", 7, 29), lapsed]
        mesh.push("span", mesh.span("dune", 7, 29))
        await until(pilot, lambda: "7:29" in shown(pilot) and "4:12" not in shown(pilot))
        assert "2:5" not in shown(pilot)

        mesh.model_list.clear()
        mesh.peer_list.clear()
        mesh.refused["sync.endless"] = 1
        mesh.push("status", mesh.snapshot().status)
        mesh.push("span", mesh.span("dune", 7, 29))
        await until(pilot, lambda: "permesh model fetch smollm2-135m" in shown(pilot))
        assert "sync.endless" in shown(pilot)
        assert "Nobody is connected." in shown(pilot)


@played
async def test_keys_and_clicks_go_to_the_views_and_letters_stay_in_a_post():
    mesh = lived_in_mesh()
    async with opened(mesh) as pilot:
        await pilot.press("4")
        await pilot.pause()
        screen = shown(pilot)
        assert address("atlas") in screen
        assert "2026-03-12 02:00 UTC, epoch 3" in screen
        assert "2d 14h left" in screen
        assert "not measured yet" in screen

        await pilot.click("#tab-mesh")
        await pilot.pause()
        assert pilot.app.query_one("#tab-mesh", Tab).has_class("-active")
        assert "Layers served" in shown(pilot)
        await pilot.click("#tab-forum")
        await pilot.pause()
        assert pilot.app.query_one(PostList).has_focus

        await pilot.press("c", *"1234qnt?")
        await pilot.pause()
        assert "1234qnt?" in shown(pilot)
        assert pilot.app.query_one("#tab-forum", Tab).has_class("-active")

        assert pilot.app.current_theme.dark
        await pilot.press("escape", "t")
        await settle(pilot)
        assert not pilot.app.current_theme.dark

        await pilot.press("q")  # what is half written is kept
        await until(pilot, lambda: not pilot.app.is_running)
        assert [draft.text for draft in mesh.draft_list.values()] == ["1234qnt?"]


@played
async def test_keys_in_the_last_line_are_those_that_work_and_can_be_clicked():
    async with opened(lived_in_mesh()) as pilot:
        keys = shown(pilot).splitlines()[-1]
        assert re.findall(r"\S+ (?=[A-Z])", keys) == ["⏎ ", "c ", "r ", "v ", "? ", "q ", "^p "]
        await pilot.click(offset=(keys.index("Compose"), 23))
        await pilot.pause()
        assert pilot.app.query_one(PostText).has_focus
        keys = shown(pilot).splitlines()[-1]
        assert "^s Send" in keys
        assert "^r" not in keys  # not a reply yet
        await pilot.press("escape")
        await pilot.resize_terminal(30, 24)
        await settle(pilot)
        assert shown(pilot).splitlines()[-1].rstrip() == " ⏎ Open   c Compose   r Reply"


@played
async def test_help_opens_scrolls_and_closes():
    async with opened(lived_in_mesh()) as pilot:
        await pilot.press("question_mark")
        await until(pilot, lambda: isinstance(pilot.app.screen, Help))
        await pilot.pause()
        assert "read it whole" in shown(pilot)
        await pilot.press("end")
        await until(pilot, lambda: "the line to invite with" in shown(pilot))
        await pilot.resize_terminal(100, 40)
        await until(pilot, lambda: "read it whole" in shown(pilot))
        assert "the line to invite with" in shown(pilot)
        assert "open it in its thread" in shown(pilot)
        await pilot.press("question_mark")
        await pilot.pause()
        assert not isinstance(pilot.app.screen, Help)


@played
async def test_the_command_palette_goes_to_rooms_and_views():
    async with opened(lived_in_mesh()) as pilot:
        await pilot.press("ctrl+p", *"field-notes")
        await until(pilot, lambda: "Open #field-notes" in shown(pilot))
        await pilot.press("enter")
        await until(pilot, lambda: "# field-notes  2 posts" in shown(pilot))


@played
async def test_every_view_stands_in_any_terminal():
    async with opened(lived_in_mesh(), (20, 6)) as pilot:
        for size in ((20, 6), (40, 12), (160, 50), (80, 24)):
            await pilot.resize_terminal(*size)
            for key in "1234":
                await pilot.press(key)
            await settle(pilot)
        assert "Chitin ID" in shown(pilot)
