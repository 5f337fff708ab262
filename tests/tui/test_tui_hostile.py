"""What other members write is shown, never obeyed."""

from __future__ import annotations

import re

from permesh.tui.dialogs import Admit, Reader
from permesh.tui.post_text import MAX_LINES, shown_lines
from permesh.tui.widgets.post_list import PostList

from .lived_in import lived_in_mesh
from .memory_mesh import NOW, MemoryMesh, address
from .stage import opened, played, settle, shown, texts, until

ESCAPES = "\x1b[2J\x1b]0;owned\x07\x1b[31mred\r\x9b5A"
MARKUP = "[bold red]not[/bold red] [@click=app.quit]here[/] [/]"
BIDI = "pay \u202e000,1\u202c now\u2066"
WIDE = (120, 36)


def hostile_mesh() -> MemoryMesh:
    mesh = lived_in_mesh()
    evil = f"{ESCAPES}{MARKUP}"
    member = mesh.add_member("evil", "AGT-0666")
    mesh.member_list[member.agent] = member.model_copy(
        update={"name": evil, "runtime": evil, "runtime_hash": evil, "number": MARKUP}
    )
    mesh.peer_list[-1] = mesh.peer_list[-1].model_copy(
        update={"name": evil, "address": evil, "number": MARKUP}
    )
    room = mesh.add_room("zz", evil)
    mesh.room_list[room.id] = room.model_copy(update={"name": MARKUP})
    post = mesh.add_post(mesh.room_list[room.id], "beryl", f"{ESCAPES}\n{MARKUP}\n{BIDI}")
    mesh.post_list[room.id][0] = post.model_copy(
        update={"author_name": evil, "author_number": MARKUP, "created_ms": NOW + 10**9}
    )
    mesh.room_list[room.id] = mesh.room_list[room.id].model_copy(
        update={"last_post_ms": NOW + 10**9}
    )
    mesh.model_list[1].name = evil
    mesh.model_list[1].served[0].name = evil
    mesh.refused[evil] = 3
    mesh.engine.detail = evil
    mesh.engine.backend = evil
    return mesh


def acts(text: str) -> list[str]:
    """What in the drawn text could act on a terminal."""
    return re.findall("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", text)


@played
async def test_no_view_lets_anything_through():
    async with opened(hostile_mesh(), WIDE) as pilot:
        forum = shown(pilot)
        assert "[bold red]not[/bold red] [@click=app.quit]here[/] [/]" in forum
        assert "␛[2J" in forum
        assert acts(forum) == []
        for key in "1234":
            await pilot.press(key)
            await settle(pilot)
            assert acts(shown(pilot)) == []
        await pilot.press("2", "end")
        await settle(pilot)
        assert "[bold red]not" in shown(pilot)
        assert acts(shown(pilot)) == []


@played
async def test_answering_reading_and_clicking_a_hostile_post():
    async with opened(hostile_mesh(), WIDE) as pilot:
        await pilot.press("r")
        await pilot.pause()
        assert acts(shown(pilot)) == []
        await pilot.press("escape")
        for y, line in enumerate(shown(pilot).splitlines()):
            if "here[/]" in line:
                await pilot.click(offset=(line.index("here"), y))
        await pilot.pause()
        assert pilot.app.is_running
        await pilot.press("escape")
        pilot.app.query_one(PostList).focus()
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(pilot.app.screen, Reader))
        await pilot.pause()
        assert "[@click=app.quit]here" in shown(pilot)
        assert acts(shown(pilot)) == []
        await pilot.press("y")
        await pilot.pause()
        assert acts(pilot.app.clipboard) == []


@played
async def test_a_hostile_request_is_confirmed_by_its_address():
    mesh = lived_in_mesh()
    member = mesh.member_list[address("ember")]
    mesh.member_list[member.agent] = member.model_copy(update={"name": MARKUP + ESCAPES})
    async with opened(mesh, WIDE) as pilot:
        await pilot.press("2", "a")
        await until(pilot, lambda: isinstance(pilot.app.screen, Admit))
        await pilot.pause()
        assert address("ember") in shown(pilot)
        assert acts(shown(pilot)) == []
        await pilot.press(*"emma", "ctrl+s")
        await until(pilot, lambda: "now." in shown(pilot))
        assert acts(shown(pilot)) == []


@played
async def test_markup_in_room_names_does_not_break_the_command_palette():
    async with opened(hostile_mesh(), WIDE) as pilot:
        await pilot.press("ctrl+p", *"open")
        await until(pilot, lambda: "Open #(bold red]" in shown(pilot))


def test_only_the_beginning_of_a_long_post_is_laid_out():
    for text in ("x" * 32_768, "漢" * 10_922, "a\n" * 16_384, "a " * 16_384, "\t" * 32_768):
        for width in (12, 56, 110):
            lines = shown_lines(text, width)
            assert len(lines) <= MAX_LINES
            assert lines[-1].plain == "…  more: enter"


def test_short_posts_are_shown_whole():
    assert [line.plain for line in shown_lines("one\n\ntwo\n", 40)] == ["one", "", "two"]
    fits = "\n".join(str(at) for at in range(MAX_LINES))
    assert [line.plain for line in shown_lines(fits, 40)][-1] == str(MAX_LINES - 1)


@played
async def test_a_room_of_long_posts_in_one_deep_thread_opens():
    mesh = MemoryMesh()
    mesh.add_member("atlas", "AGT-0001", "registrar")
    room, post = mesh.add_room("deep"), None
    for at in range(120):
        post = mesh.add_post(room, "atlas", f"{at} " + "漢字 " * 9_000, post, NOW - 10_000 + at)
    async with opened(mesh) as pilot:
        await pilot.press("g")
        await settle(pilot)
        assert len(texts(pilot)) == 100
        assert pilot.app.query_one(PostList).virtual_size.height <= 100 * (MAX_LINES + 2) + 2
