"""The Chronicle of a member and one's own: read, copied, and what is told when it cannot come."""

from __future__ import annotations

from permesh.schema import ChronicleEvent
from permesh.tui.chronicle_window import ChronicleWindow, plain_text
from permesh.tui.widgets.event_list import MAX_TEXT, EventList
from permesh.tui.widgets.top_bar import Banner

from .lived_in import lived_in_mesh
from .memory_mesh import DAY, NOW, address, owner
from .stage import opened, played, settle, shown, until
from .test_tui_hostile import BIDI, ESCAPES, MARKUP, acts

WIDE = (120, 36)


def event(text: str, at_ms: int = NOW, kind: str = "task", entry: int = 0) -> ChronicleEvent:
    return ChronicleEvent(at_ms=at_ms, kind=kind, text=text, entry=entry)


def many(count: int) -> list[ChronicleEvent]:
    return [event(f"event {at} of many", NOW - (count - at) * DAY) for at in range(count)]


@played
async def test_c_opens_the_chronicle_of_the_selected_member_and_q_closes_it():
    mesh = lived_in_mesh()
    async with opened(mesh, WIDE) as pilot:
        await pilot.press("2", "down", "down")
        await settle(pilot)
        assert "c Chronicle" in shown(pilot).splitlines()[-1]
        await pilot.press("c")
        await settle(pilot)
        screen = shown(pilot)
        assert isinstance(pilot.app.screen, ChronicleWindow)
        await pilot.press("q")
        await pilot.pause()
        assert not isinstance(pilot.app.screen, ChronicleWindow)

    assert mesh.calls[-1] == f"chronicle {address('beryl')}"
    assert "Chronicle · beryl AGT-0002" in screen
    assert "2026-03-03 12:20 UTC  admission  entry 2" in screen
    assert "suspended by atlas (AGT-0001), cobalt (AGT-0003): two machines on one key" in screen
    assert "8 events, the newest last · 1 fault · 2 older rotations are not listed" in screen
    assert screen.index("admission") < screen.index("reinstated") < screen.index("epoch 3 began")
    assert "esc Close   r Ask again   y Copy" in screen


@played
async def test_c_works_from_the_card_of_a_member_but_not_for_one_that_only_asks():
    mesh = lived_in_mesh()
    async with opened(mesh) as pilot:
        await pilot.press("2")
        await settle(pilot)
        assert "Chronicle" not in shown(pilot).splitlines()[-1]
        await pilot.press("c")  # ember asks to be let in
        await settle(pilot)
        assert not isinstance(pilot.app.screen, ChronicleWindow)
        await pilot.press("down", "down", "enter", "c")
        await settle(pilot)
        assert "Chronicle · beryl AGT-0002" in shown(pilot)


@played
async def test_c_on_the_card_page_opens_ones_own():
    mesh = lived_in_mesh()
    async with opened(mesh) as pilot:
        await pilot.press("4")
        await pilot.pause()
        assert "c Chronicle" in shown(pilot).splitlines()[-1]
        await pilot.press("c")
        await settle(pilot)
        assert "Chronicle · atlas AGT-0001" in shown(pilot)
        assert "1 event, the newest last" in shown(pilot)
    assert mesh.calls[-1] == f"chronicle {address('atlas')}"


@played
async def test_a_narrow_window_opens_at_the_newest_and_scrolls_to_the_oldest():
    async with opened(lived_in_mesh()) as pilot:
        await pilot.press("2", "down", "down", "c")
        await settle(pilot)
        screen = shown(pilot)
        assert "epoch 3 began" in screen
        assert "admitted by" not in screen
        # A word as long as the line stands whole.
        assert "6b31034c16027f7e90df7e33b39698811cf376817751094168fb0a3bf9f8710e" in screen
        await pilot.press("g")
        await settle(pilot)
        assert "admitted by atlas (AGT-0001)" in shown(pilot)
        for _ in range(12):
            await pilot.press("j")
        await settle(pilot)
        assert "epoch 3 began" in shown(pilot)


@played
async def test_y_copies_it_as_plain_text():
    mesh = lived_in_mesh()
    mesh.add_chronicle("dune", [event("undated", 0, "fault"), event("served", NOW)], left_out=1)
    async with opened(mesh) as pilot:
        await pilot.press("2", "end", "c")
        await settle(pilot)
        assert "no date" in shown(pilot)
        await pilot.press("y")
        await pilot.pause()
        assert "The Chronicle is in the clipboard." in shown(pilot)
        copied = pilot.app.clipboard

    assert copied.splitlines() == [
        f"Chronicle of dune AGT-0004 {address('dune')}",
        "(1 older rotation is not listed)",
        "2026-03-03 12:20 UTC  admission  admitted by atlas (AGT-0001); met by the registrars who "
        "approved  (entry 4)",
        "no date  fault  undated",
        "2026-03-12 12:00 UTC  task  served",
    ]


@played
async def test_nothing_waits_for_it_and_a_daemon_that_is_gone_is_told_in_the_window():
    mesh = lived_in_mesh()
    async with opened(mesh) as pilot:
        mesh.gate.clear()
        await pilot.press("2", "down", "c")
        await until(pilot, lambda: "Asking the daemon…" in shown(pilot))
        assert "y Copy" not in shown(pilot)
        await pilot.press("y")  # there is nothing to copy
        mesh.stop()
        mesh.gate.set()
        await settle(pilot)
        screen = shown(pilot)
        assert "No daemon is running on this home. Start one with: permesh daemon" in screen
        assert pilot.app.clipboard == ""

        mesh.up = True
        await pilot.press("r")
        await settle(pilot)
        assert "1 event, the newest last" in shown(pilot)
        assert "y Copy" in shown(pilot)

        mesh.stop()
        await pilot.press("r")
        await settle(pilot)
        assert "No daemon is running on this home." in shown(pilot)
        assert "admitted by atlas" in shown(pilot)  # what came before stays
        await pilot.press("escape")
        await until(pilot, lambda: pilot.app.main.query_one(Banner).display)
        assert pilot.app.screen is pilot.app.main


@played
async def test_the_window_closes_while_the_daemon_is_silent():
    mesh = lived_in_mesh()
    async with opened(mesh) as pilot:
        mesh.gate.clear()
        await pilot.press("4", "c")
        await until(pilot, lambda: "Asking the daemon…" in shown(pilot))
        await pilot.press("escape")
        await pilot.pause()
        assert pilot.app.screen is pilot.app.main
        await until(pilot, lambda: not any(one.group == "listing" for one in pilot.app.workers))


@played
async def test_a_member_that_is_not_known_any_more_is_told_in_the_window():
    mesh = lived_in_mesh()
    async with opened(mesh) as pilot:
        await pilot.press("2", "end")
        del mesh.member_list[address("dune")]
        await pilot.press("c")
        await settle(pilot)
        assert f"There is no member '{address('dune')}'." in shown(pilot)
        await pilot.press("q")
        await pilot.pause()
        assert pilot.app.screen is pilot.app.main


@played
async def test_one_that_nothing_is_known_of_yet():
    mesh = lived_in_mesh()
    chronicle = mesh.add_chronicle("dune", [])
    mesh.chronicles[chronicle.agent] = chronicle.model_copy(update={"items": []})
    async with opened(mesh) as pilot:
        await pilot.press("2", "end", "c")
        await settle(pilot)
        assert "Nothing is recorded of this agent." in shown(pilot)
        await pilot.press("j", "k", "G", "enter", "pagedown", "y")
        await pilot.pause()
        assert pilot.app.clipboard.startswith("Chronicle of dune")


@played
async def test_of_a_thousand_events_only_those_in_view_are_laid_out(monkeypatch):
    mesh = lived_in_mesh()
    mesh.add_chronicle("beryl", many(999), left_out=5)
    laid_out: list[int] = []
    lines_of = EventList.lines_of

    def counted(self: EventList, index: int, width: int):
        laid_out.append(index)
        return lines_of(self, index, width)

    monkeypatch.setattr(EventList, "lines_of", counted)
    async with opened(mesh) as pilot:
        await pilot.press("2", "down", "down", "c")
        await settle(pilot)
        assert "event 998 of many" in shown(pilot)
        assert "1000 events" in shown(pilot)
        assert "5 older rotations are not listed" in shown(pilot)
        await pilot.press("g")
        await settle(pilot)
        assert "event 2 of many" in shown(pilot)

    assert len(set(laid_out)) < 40


@played
async def test_hostile_events_are_shown_and_never_obeyed():
    evil = f"{ESCAPES}{MARKUP}{BIDI}\nforged line"
    mesh = lived_in_mesh()
    chronicle = mesh.add_chronicle("beryl", [event(evil, 2**63), event(evil, -5, entry=-1)])
    mesh.chronicles[chronicle.agent] = chronicle.model_copy(
        update={"name": evil * 50, "number": evil}
    )
    async with opened(mesh, WIDE) as pilot:
        await pilot.press("2", "down", "down", "c")
        await settle(pilot)
        screen = shown(pilot)
        assert acts(screen) == []
        assert "[@click=app.quit]here[/]" in screen
        assert "␛[2J" in screen
        for y, line in enumerate(screen.splitlines()):
            if "here[/]" in line:
                await pilot.click(offset=(line.index("here"), y))
        await pilot.press("y")
        await pilot.pause()
        assert pilot.app.is_running
        assert acts(pilot.app.clipboard) == []
        assert len(pilot.app.clipboard.splitlines()) == 4


@played
async def test_a_thousand_events_of_ten_thousand_characters_open():
    texts = ["x" * 10_000, "漢" * 10_000, "a " * 5_000, "❤\ufe0f" * 5_000]
    mesh = lived_in_mesh()
    mesh.add_chronicle("beryl", [event(text) for text in texts * 250])
    async with opened(mesh) as pilot:
        await pilot.press("2", "down", "down", "c")
        await settle(pilot)
        lines = shown(pilot).splitlines()
        assert len(lines) == 24
        assert "…" in "".join(lines)  # cut, and said so
        assert "esc Close" in lines[-1]
        await pilot.press("g", "j", "j")
        await pilot.resize_terminal(40, 12)
        await settle(pilot)
        await pilot.press("y")
        await pilot.pause()
        assert len(pilot.app.clipboard) < 1_100 * MAX_TEXT


def test_plain_text_of_a_life_has_a_line_for_each_event():
    chronicle = lived_in_mesh().chronicles[address("beryl")]

    lines = plain_text(chronicle).splitlines()

    assert len(lines) == 2 + len(chronicle.items)
    assert lines[1] == "(2 older rotations are not listed)"
    assert owner("beryl") not in plain_text(chronicle)
