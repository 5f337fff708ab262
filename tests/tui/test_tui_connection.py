"""When the daemon is away, comes back, or tells more than was heard."""

from __future__ import annotations

import asyncio

from permesh.errors import PermeshError
from permesh.tui.link import Backoff, follow
from permesh.tui.widgets.composer import Composer
from permesh.tui.widgets.top_bar import Banner

from .lived_in import lived_in_mesh
from .memory_mesh import NOW, MemoryMesh
from .stage import opened, played, settle, shown, texts, until, write


def room_named(mesh: MemoryMesh, name: str):
    return next(room for room in mesh.room_list.values() if room.name == name)


@played
async def test_without_a_daemon_the_app_says_so_and_starts_when_it_comes():
    mesh = lived_in_mesh()
    mesh.up = False
    async with opened(mesh) as pilot:
        assert "No daemon is running on this home. Start one with: permesh daemon" in shown(pilot)
        mesh.up = True
        await until(pilot, lambda: "Ask away." in shown(pilot))
        assert not pilot.app.query_one(Banner).display


@played
async def test_a_daemon_that_goes_away_costs_neither_the_draft_nor_what_was_read():
    mesh = lived_in_mesh()
    async with opened(mesh) as pilot:
        await write(pilot, "precious")
        mesh.stop()
        await until(pilot, lambda: "Trying again by itself" in shown(pilot))
        assert pilot.app.query_one(Banner).has_class("-offline")
        await pilot.press("ctrl+s")
        await until(pilot, lambda: pilot.app.query_one(Composer).has_class("-note"))
        assert pilot.app.query_one(Composer).text == "precious"

        mesh.add_post(room_named(mesh, "inference"), "beryl", "written meanwhile")
        mesh.up = True
        await until(pilot, lambda: "written meanwhile" in texts(pilot))
        await until(pilot, lambda: not pilot.app.query_one(Banner).display)
        assert pilot.app.query_one(Composer).text == "precious"
        await pilot.press("ctrl+s")
        await until(pilot, lambda: "precious" in texts(pilot))


@played
async def test_after_lagging_everything_is_fetched_again():
    mesh = lived_in_mesh()
    async with opened(mesh) as pilot:
        mesh.add_post(room_named(mesh, "inference"), "beryl", "missed by the stream")
        mesh.add_room("unheard-of")
        mesh.lag()
        await until(pilot, lambda: "missed by the stream" in shown(pilot))
        await until(pilot, lambda: "unheard-of" in shown(pilot))


@played
async def test_long_lists_are_completed_beyond_the_snapshot():
    mesh = lived_in_mesh()
    for at in range(450):
        mesh.add_room(f"room-{at:03}")
        mesh.add_member(f"member-{at:03}", f"AGT-{at + 10:04}", online=False)
    mesh.snapshot_size = 3
    async with opened(mesh) as pilot:
        await until(pilot, lambda: len(pilot.app.model.rooms) == 453)
        await until(pilot, lambda: len(pilot.app.model.members) == 455)


@played
async def test_nothing_waits_for_a_daemon_that_does_not_answer():
    mesh = lived_in_mesh()
    async with opened(mesh) as pilot:
        mesh.gate.clear()
        await pilot.press("right_square_bracket", "2", "3", "4", "1")
        await pilot.pause()
        assert "Loading…" in shown(pilot)
        await write(pilot, "typed meanwhile")
        assert "typed meanwhile" in shown(pilot)
        mesh.gate.set()
        await settle(pilot)
        assert "Away until Thursday" in shown(pilot)


@played
async def test_outside_of_a_mesh_the_banner_says_what_comes_next():
    mesh = MemoryMesh()
    mesh.mesh_state = "none"
    async with opened(mesh) as pilot:
        assert "Found one with: permesh mesh create NAME" in shown(pilot)
        for state, words in (
            ("pending", "A registrar has to let you in."),
            ("refused", "The mesh refused this member."),
            ("none", "This home belongs to no mesh yet."),
        ):
            mesh.mesh_state, mesh.detail = state, f"Because {state}."
            mesh.push("status", mesh.snapshot().status)
            await until(pilot, lambda words=words: words in shown(pilot))
            assert f"Because {state}." in shown(pilot)


def test_attempts_slow_down_to_a_limit():
    backoff = Backoff(first=0.5, most=5.0)

    assert [backoff.delay(attempt) for attempt in range(6)] == [0.5, 1.0, 2.0, 4.0, 5.0, 5.0]
    assert backoff.delay(10**9) == 5.0


@played
async def test_a_broken_stream_is_told_and_taken_up_again():
    lost: list[PermeshError] = []

    class Broken:
        async def events(self, _=None):
            raise ConnectionResetError("reset by peer")
            yield

    thrice = asyncio.Event()

    def on_lost(problem: PermeshError) -> None:
        lost.append(problem)
        if len(lost) == 3:
            thrice.set()

    task = asyncio.create_task(follow(Broken(), print, on_lost, Backoff(0.001, 0.001)))
    await thrice.wait()
    task.cancel()

    assert {problem.code for problem in lost} == {"daemon.gone"}
    assert "reset by peer" in str(lost[0])


@played
async def test_after_a_break_events_go_on_where_they_broke_off():
    mesh = lived_in_mesh()
    room = room_named(mesh, "inference")
    async with opened(mesh) as pilot:
        await pilot.press("g")  # further up
        await settle(pilot)
        place = shown(pilot).splitlines()[4]
        mesh.stop()
        await until(pilot, lambda: "Trying again by itself" in shown(pilot))
        for at in range(80):  # more than a page: asking for the newest would lose the place
            mesh.add_post(room, "beryl", f"missed {at}", None, NOW + at)
        mesh.calls.clear()
        mesh.up = True
        await until(pilot, lambda: "missed 79" in texts(pilot))
        await settle(pilot)
        assert [call for call in mesh.calls if call.startswith("posts inference")] == []
        assert any(call.startswith("events ") for call in mesh.calls)
        assert len(texts(pilot)) == 85
        assert place in shown(pilot)


@played
async def test_a_cursor_of_another_database_begins_again_without_one():
    mesh = lived_in_mesh()
    async with opened(mesh) as pilot:
        mesh.stop()
        await until(pilot, lambda: "Trying again by itself" in shown(pilot))
        mesh.add_post(room_named(mesh, "inference"), "beryl", "from before the restore")
        mesh.forget_cursors = True
        mesh.up = True
        await until(pilot, lambda: "from before the restore" in texts(pilot))
        assert mesh.calls.count("events") >= 2
