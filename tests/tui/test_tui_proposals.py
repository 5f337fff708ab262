"""What registrars decide together: the list, the question, and what comes of an approval."""

from __future__ import annotations

from permesh.errors import Refused
from permesh.tui.proposals_window import Approve, ProposalsWindow
from permesh.tui.widgets.proposal_list import ProposalList

from .lived_in import lived_in_mesh
from .memory_mesh import MemoryMesh, address
from .stage import opened, played, settle, shown, until
from .test_tui_hostile import BIDI, ESCAPES, MARKUP, acts

WIDE = (120, 36)


def approvals(mesh: MemoryMesh) -> list[str]:
    return [call for call in mesh.calls if call.startswith("approve")]


@played
async def test_a_registrar_sees_what_waits_and_approves_it_after_a_look():
    mesh = lived_in_mesh()
    wanted = mesh.proposal_list[0]
    async with opened(mesh) as pilot:
        await pilot.press("2")
        await pilot.pause()
        assert "p Proposals" in shown(pilot).splitlines()[-1]
        await pilot.press("p")
        await settle(pilot)
        screen = shown(pilot)
        assert "2 proposals wait for approvals." in screen
        assert "dune (AGT-0004) is suspended: did not answer for a month" in screen
        assert "suspension · 1 of 2 approvals: AGT-0002" in screen
        assert "registrars · 1 of 3 approvals: AGT-0001 (you)" in screen

        await pilot.press("a")
        await settle(pilot)
        assert isinstance(pilot.app.screen, Approve)
        screen = shown(pilot)
        assert "is suspended: did not answer for a month" in screen
        assert f"proposal  {wanted.id[:16]}…" in screen
        assert "keeps for ever what you sign" in screen
        await pilot.press("n")
        await settle(pilot)
        assert isinstance(pilot.app.screen, ProposalsWindow)
        assert approvals(mesh) == []

        await pilot.press("enter", "y")
        await settle(pilot)
        assert isinstance(pilot.app.screen, ProposalsWindow)
        assert "Decided: dune (AGT-0004) is suspended" in shown(pilot)
        assert "1 proposal waits for approvals." in shown(pilot)
        await pilot.press("escape")
        await pilot.pause()
        assert pilot.app.screen is pilot.app.main
    assert approvals(mesh) == [f"approve {wanted.id}"]


@played
async def test_an_approval_that_is_not_the_last_is_counted_and_not_given_twice():
    mesh = lived_in_mesh()
    mesh.proposal_list.clear()
    mesh.propose("flint becomes a registrar", "registrars", ("AGT-0002",), needed=3)
    async with opened(mesh, WIDE) as pilot:
        await pilot.press("2", "p", "a")
        await settle(pilot)
        await pilot.click("#agree")
        await settle(pilot)
        assert "flint becomes a registrar: 2 of 3 approvals." in shown(pilot)
        assert "2 of 3 approvals: AGT-0002, AGT-0001 (you)" in shown(pilot)
        await pilot.press("a")
        await settle(pilot)
        assert "You have approved this one; the others follow." in shown(pilot)
        assert isinstance(pilot.app.screen, ProposalsWindow)
    assert len(approvals(mesh)) == 1


@played
async def test_what_all_approved_waits_for_witnesses():
    mesh = lived_in_mesh()
    mesh.propose("release 2 is accepted", "release", ("AGT-0002", "AGT-0003"), needed=2)
    async with opened(mesh, WIDE) as pilot:
        await pilot.press("2", "p", "end", "a")
        await settle(pilot)

        async def undecided(proposal: str):
            found = next(one for one in mesh.proposal_list if one.id == proposal)
            return found.model_copy(update={"approvals": [*found.approvals, mesh.number]})

        pilot.app.screen._approve = undecided
        await pilot.press("y")
        await settle(pilot)
        assert "release 2 is accepted: holds once the log's witnesses" in shown(pilot)


@played
async def test_a_refusal_is_told_and_the_question_stays():
    mesh = lived_in_mesh()
    mesh.refuse_approvals = Refused(
        "approval.own", "A registrar does not decide about itself.", "Leave it to the others."
    )
    async with opened(mesh) as pilot:
        await pilot.press("2", "p", "a", "y")
        await settle(pilot)
        assert isinstance(pilot.app.screen, Approve)
        assert "A registrar does not decide about itself." in shown(pilot)
        mesh.refuse_approvals = None
        await pilot.press("y")
        await settle(pilot)
        assert "Decided: dune" in shown(pilot)


@played
async def test_a_daemon_that_disappears_is_told_in_both_windows():
    mesh = lived_in_mesh()
    async with opened(mesh) as pilot:
        await pilot.press("2", "p", "a")
        await settle(pilot)
        mesh.gate.clear()
        await pilot.press("y", "y", "y")  # asked once, however often
        await until(pilot, lambda: "Asking…" in shown(pilot))
        mesh.stop()
        mesh.gate.set()
        await settle(pilot)
        assert isinstance(pilot.app.screen, Approve)
        assert "No daemon is running on this home." in shown(pilot)
        await pilot.press("escape")
        await settle(pilot)
        assert isinstance(pilot.app.screen, ProposalsWindow)
        assert "No daemon is running on this home." in shown(pilot)
        assert "dune (AGT-0004) is suspended" in shown(pilot)
        mesh.up = True
        await pilot.press("r")
        await settle(pilot)
        assert "2 proposals wait for approvals." in shown(pilot)
    assert len(approvals(mesh)) == 1


@played
async def test_who_is_no_registrar_reads_along():
    mesh = lived_in_mesh()
    mesh.name, mesh.number, mesh.agent = "beryl", "AGT-0002", address("beryl")
    async with opened(mesh) as pilot:
        await pilot.press("2", "p")
        await settle(pilot)
        screen = shown(pilot)
        assert "2 proposals wait for approvals. Only registrars approve" in screen
        assert "AGT-0002 (you)" in screen
        assert "Approve" not in screen.splitlines()[-1]
        await pilot.press("a", "enter")
        await settle(pilot)
        assert isinstance(pilot.app.screen, ProposalsWindow)
        assert "Only registrars approve" in shown(pilot)
        await pilot.press("q")
        await pilot.pause()
        assert pilot.app.screen is pilot.app.main
    assert approvals(mesh) == []


@played
async def test_when_nothing_waits_the_window_says_so():
    mesh = lived_in_mesh()
    mesh.proposal_list.clear()
    async with opened(mesh) as pilot:
        await pilot.press("2", "p")
        await settle(pilot)
        assert "Nothing waits for registrars." in shown(pilot)
        assert "Approve" not in shown(pilot).splitlines()[-1]
        await pilot.press("a", "enter", "j")
        await settle(pilot)
        assert isinstance(pilot.app.screen, ProposalsWindow)


@played
async def test_hostile_proposals_are_read_whole_and_never_obeyed():
    mesh = lived_in_mesh()
    mesh.proposal_list.clear()
    evil = f"{ESCAPES}{MARKUP}{BIDI}\n"
    mesh.propose(evil * 120 + "the very end", evil * 20, tuple([evil * 9] * 1_000))
    async with opened(mesh) as pilot:
        await pilot.press("2", "p")
        await settle(pilot)
        assert acts(shown(pilot)) == []
        assert "[bold red]not[/bold red]" in shown(pilot)
        await pilot.press("a")
        await settle(pilot)
        screen = shown(pilot)
        assert acts(screen) == []
        await pilot.press("end")
        await settle(pilot)
        assert "988 more" in shown(pilot)
        assert acts(shown(pilot)) == []
        while "the very end" not in shown(pilot):
            await pilot.press("up")
            await pilot.pause()
        assert "1000 of 2 approvals" in shown(pilot)
        await pilot.press("y")
        await settle(pilot)
        assert acts(shown(pilot)) == []
        assert pilot.app.is_running


@played
async def test_a_long_text_leaves_the_buttons_in_view():
    mesh = lived_in_mesh()
    mesh.proposal_list.clear()
    mesh.propose("why " * 2_500)
    async with opened(mesh) as pilot:
        await pilot.press("2", "p", "a")
        await settle(pilot)
        assert "Cancel (n)" in shown(pilot)
        assert "Approve (y)" in shown(pilot)
        assert "keeps for ever what you sign" in shown(pilot)


@played
async def test_of_a_thousand_proposals_only_those_in_view_are_laid_out(monkeypatch):
    mesh = lived_in_mesh()
    mesh.proposal_list.clear()
    for at in range(1_000):
        mesh.propose(f"proposal {at} " + "漢字 " * 3_000)
    laid_out: list[int] = []
    lines_of = ProposalList.lines_of

    def counted(self: ProposalList, index: int, width: int):
        laid_out.append(index)
        return lines_of(self, index, width)

    monkeypatch.setattr(ProposalList, "lines_of", counted)
    async with opened(mesh) as pilot:
        await pilot.press("2", "p")
        await settle(pilot)
        assert "1000 proposals wait" in shown(pilot)
        await pilot.press("end")
        await settle(pilot)
        assert "漢字" in shown(pilot)
    assert len(set(laid_out)) < 40


@played
async def test_both_windows_are_in_the_command_palette_and_in_help():
    mesh = lived_in_mesh()
    async with opened(mesh) as pilot:
        await pilot.press("question_mark")
        await settle(pilot)
        await pilot.press("end")
        await until(pilot, lambda: "its Chronicle" in shown(pilot))
        assert "what registrars decide" in shown(pilot)
        await pilot.press("escape", "ctrl+p", *"propos")
        await until(pilot, lambda: "Show what registrars decide together" in shown(pilot))
        await pilot.press("enter")
        await until(pilot, lambda: "2 proposals wait for approvals." in shown(pilot))
        await pilot.press("escape", "ctrl+p", *"my chron")
        await until(pilot, lambda: "Show the public record of this member" in shown(pilot))
        await pilot.press("enter")
        await until(pilot, lambda: "Chronicle · atlas AGT-0001" in shown(pilot))
