"""Reading and writing in rooms, with the keyboard and the mouse."""

from __future__ import annotations

import re

from permesh.errors import PermeshError
from permesh.tui.dialogs import MakeRoom, Reader
from permesh.tui.posts import MAX_POSTS, PAGE
from permesh.tui.widgets.composer import MAX_POST_BYTES, Composer, PostText
from permesh.tui.widgets.post_list import BOTTOM, PostList
from permesh.tui.widgets.room_list import RoomList

from .lived_in import lived_in_mesh
from .memory_mesh import NOW, MemoryMesh
from .stage import opened, played, settle, shown, texts, until, write


def long_room(count: int) -> MemoryMesh:
    mesh = MemoryMesh()
    mesh.add_member("atlas", "AGT-0001", "registrar")
    mesh.add_member("beryl", "AGT-0002")
    room = mesh.add_room("lobby")
    for at in range(count):
        mesh.add_post(room, "beryl", f"post {at}", None, NOW - (count - at) * 60_000)
    return mesh


def room_named(mesh: MemoryMesh, name: str):
    return next(room for room in mesh.room_list.values() if room.name == name)


@played
async def test_opens_on_the_liveliest_room_with_replies_indented():
    async with opened(lived_in_mesh(), (120, 36)) as pilot:
        screen = shown(pilot)

    assert "# inference  5 posts" in screen
    assert re.search(r"field-notes +2", screen)
    column = {}
    for words in ("I have 16 GiB", "Of Qwen3-8B", "I could go", "Ask away."):
        line = next(line for line in screen.splitlines() if words in line)
        column[words] = line.index(words)
    assert column["Of Qwen3-8B"] == column["I have 16 GiB"] + 2
    assert column["I could go"] == column["I have 16 GiB"] + 4
    assert column["Ask away."] == column["I have 16 GiB"]


@played
async def test_a_room_shown_to_its_end_counts_as_read():
    mesh = lived_in_mesh()
    async with opened(mesh) as pilot:
        lobby = room_named(mesh, "lobby")
        assert re.search(r"lobby +4", shown(pilot))
        await until(pilot, lambda: "read inference" in mesh.calls)
        pilot.app.query_one(RoomList).focus()
        await pilot.press("down", "enter")
        await settle(pilot)
        assert "# lobby  5 posts" in shown(pilot)
        assert pilot.app.focused is pilot.app.query_one(PostList)
        await until(pilot, lambda: "read lobby" in mesh.calls)
        await until(pilot, lambda: not re.search(r"lobby +4", shown(pilot)))
        assert mesh.room_list[lobby.id].unread == 0
        assert re.search(r"field-notes +2", shown(pilot))


@played
async def test_a_room_read_further_up_is_not_read():
    mesh = long_room(40)
    async with opened(mesh) as pilot:
        await until(pilot, lambda: "read lobby" in mesh.calls)
        await pilot.press("g")
        await settle(pilot)
        mesh.say(room_named(mesh, "lobby"), "beryl", "unseen")
        await until(pilot, lambda: "↓ 1 new" in shown(pilot))
        await pilot.pause(0.6)
        assert mesh.calls.count("read lobby") == 1
        assert re.search(r"lobby +1", shown(pilot))
        await pilot.press("G")
        await until(pilot, lambda: mesh.calls.count("read lobby") == 2)


@played
async def test_brackets_and_clicks_go_from_room_to_room():
    async with opened(lived_in_mesh()) as pilot:
        for pressed, head in (
            ("right_square_bracket", "# lobby  5 posts"),
            ("right_square_bracket", "# field-notes  2 posts"),
            ("left_square_bracket", "# lobby  5 posts"),
        ):
            await pilot.press(pressed)
            await settle(pilot)
            assert head in shown(pilot)
        await pilot.click(RoomList, offset=(5, 1))
        await settle(pilot)
        assert "# field-notes  2 posts" in shown(pilot)
        await pilot.click(RoomList, offset=(5, 0))  # above the first room
        await pilot.click(RoomList, offset=(5, 12))  # below the last one
        await settle(pilot)
        assert "# field-notes  2 posts" in shown(pilot)


@played
async def test_a_post_is_written_and_sent():
    mesh = lived_in_mesh()
    kept = mesh.post_list[room_named(mesh, "inference").id]
    async with opened(mesh) as pilot:
        await write(pilot, "two")
        await pilot.press("enter")
        pilot.app.query_one(PostText).insert("lines")
        await settle(pilot)
        assert len(kept) == 5
        await pilot.press("ctrl+s")
        await settle(pilot)

        assert (kept[-1].text, kept[-1].reply_to) == ("two\nlines", None)
        assert texts(pilot).count("two\nlines") == 1
        assert pilot.app.query_one(Composer).text == ""
        assert pilot.app.query_one(PostList).selected.post.id == kept[-1].id


@played
async def test_r_replies_to_the_selected_post_unless_told_otherwise():
    mesh = lived_in_mesh()
    kept = mesh.post_list[room_named(mesh, "inference").id]
    async with opened(mesh) as pilot:
        await pilot.press("up", "up", "r")
        answered = pilot.app.query_one(PostList).selected.post
        await pilot.pause()
        assert f"↳ {answered.author_name}" in shown(pilot)
        pilot.app.query_one(PostText).insert("yes")
        await pilot.press("ctrl+enter")
        await settle(pilot)
        assert kept[-1].reply_to == answered.id

        await pilot.press("r", "ctrl+r")
        pilot.app.query_one(PostText).insert("a new thought")
        await pilot.press("ctrl+s")
        await settle(pilot)
        assert (kept[-1].text, kept[-1].reply_to) == ("a new thought", None)


@played
async def test_a_draft_stays_with_its_room():
    async with opened(lived_in_mesh()) as pilot:
        composer = pilot.app.query_one(Composer)
        await pilot.press("r")
        pilot.app.query_one(PostText).insert("half a thought")
        await pilot.press("escape", "right_square_bracket")
        await settle(pilot)
        assert composer.text == ""
        await write(pilot, "elsewhere")
        await pilot.press("escape", "left_square_bracket")
        await settle(pilot)

        assert composer.text == "half a thought"
        assert "↳ cobalt" in shown(pilot)


@played
async def test_a_refused_post_keeps_the_draft_and_says_why():
    mesh = lived_in_mesh()
    mesh.refuse_posts = PermeshError("store.full", "The disk is full.", "Free 10 MiB.")
    async with opened(mesh) as pilot:
        await write(pilot, "precious")
        await pilot.press("ctrl+s")
        await settle(pilot)
        assert "The disk is full. Free 10 MiB." in shown(pilot)
        assert pilot.app.query_one(Composer).text == "precious"

        mesh.refuse_posts = None
        await pilot.press("ctrl+s")
        await settle(pilot)
        assert "disk is full" not in shown(pilot)
        assert "precious" in texts(pilot)


@played
async def test_a_post_on_its_way_is_sent_once_and_leaves_other_drafts_alone():
    mesh = lived_in_mesh()
    async with opened(mesh) as pilot:
        await write(pilot, "for inference")
        mesh.gate.clear()
        await pilot.press("ctrl+s", "ctrl+s")
        await pilot.pause()
        assert "Sending…" in shown(pilot)
        await pilot.press("escape", "right_square_bracket")
        await write(pilot, "for lobby")
        mesh.gate.set()
        await settle(pilot)

        assert pilot.app.query_one(Composer).text == "for lobby"
        assert mesh.post_list[room_named(mesh, "inference").id][-1].text == "for inference"
        assert mesh.calls.count("post inference") == 1


@played
async def test_too_long_and_empty_posts_are_not_sent():
    mesh = lived_in_mesh()
    async with opened(mesh) as pilot:
        await pilot.press("c", "ctrl+s")
        await pilot.pause()
        assert "Nothing to send yet" in shown(pilot)
        pilot.app.query_one(PostText).load_text("é" * (MAX_POST_BYTES // 2 + 1))
        await pilot.press("ctrl+s")
        await pilot.pause()
        assert f"{MAX_POST_BYTES + 2} of {MAX_POST_BYTES} bytes" in shown(pilot)

    assert "post inference" not in mesh.calls


@played
async def test_live_posts_appear_by_themselves():
    mesh = lived_in_mesh()
    async with opened(mesh) as pilot:
        await until(pilot, lambda: "read inference" in mesh.calls)
        asked = len(mesh.calls)
        mesh.say(room_named(mesh, "inference"), "beryl", "fresh from the wire")
        await until(pilot, lambda: "fresh from the wire" in shown(pilot))
        mesh.say(room_named(mesh, "lobby"), "beryl", "over there")
        await until(pilot, lambda: re.search(r"lobby +5", shown(pilot)))

        # told, not asked for
        assert [call for call in mesh.calls[asked:] if call != "read inference"] == []


@played
async def test_who_reads_further_up_stays_there_and_hears_of_new_posts():
    mesh = long_room(40)
    async with opened(mesh) as pilot:
        await pilot.press("g")
        await settle(pilot)
        top = shown(pilot).splitlines()[5]
        mesh.say(room_named(mesh, "lobby"), "beryl", "news")
        await until(pilot, lambda: "↓ 1 new, press G" in shown(pilot))
        assert shown(pilot).splitlines()[5] == top

        await pilot.press("G")
        await until(pilot, lambda: "news" in shown(pilot))
        await until(pilot, lambda: "↓ 1 new" not in shown(pilot))


@played
async def test_older_posts_load_at_the_top_and_the_view_stays_put():
    mesh = long_room(3 * PAGE)
    async with opened(mesh) as pilot:
        posts = pilot.app.query_one(PostList)
        assert len(texts(pilot)) == PAGE
        posts.scroll_to(y=2, animate=False)
        before = [line[20:76].rstrip() for line in shown(pilot).splitlines()[3:20]]
        await settle(pilot)

        assert len(texts(pilot)) == 2 * PAGE
        assert [line[20:76].rstrip() for line in shown(pilot).splitlines()[3:20]] == before

        await pilot.press("g")
        await settle(pilot)
        await pilot.press("g")
        await settle(pilot)
        assert texts(pilot)[0] == "post 0"
        assert "the beginning of #lobby" in shown(pilot)


@played
async def test_a_huge_room_is_paged_and_its_end_is_one_key_away():
    mesh = long_room(MAX_POSTS + 3 * PAGE)
    async with opened(mesh) as pilot:
        for _ in range((MAX_POSTS + 3 * PAGE) // PAGE):
            await pilot.press("g")
            await settle(pilot)
        assert texts(pilot)[0] == "post 0"
        assert len(texts(pilot)) == MAX_POSTS
        assert pilot.app.query_one(PostList).keys[-1] == BOTTOM

        await pilot.press("G")
        await settle(pilot)
        assert texts(pilot)[-1] == f"post {MAX_POSTS + 3 * PAGE - 1}"
        assert f"post {MAX_POSTS + 3 * PAGE - 1}" in shown(pilot)


@played
async def test_failing_to_load_older_posts_is_told_and_can_be_tried_again():
    mesh = long_room(2 * PAGE)
    async with opened(mesh) as pilot:
        mesh.up = False
        await pilot.press("g")
        await settle(pilot)
        assert "No daemon is running" in shown(pilot)
        mesh.up = True
        await pilot.press("g")
        await settle(pilot)
        assert texts(pilot)[0] == "post 0"


@played
async def test_a_burst_is_drawn_together():
    mesh = long_room(5)
    async with opened(mesh) as pilot:
        posts = pilot.app.query_one(PostList)
        drawings, show_rows = [], posts.show_rows
        posts.show_rows = lambda *given, **named: (drawings.append(1), show_rows(*given, **named))
        for at in range(200):
            mesh.say(room_named(mesh, "lobby"), "beryl", f"burst {at}")
        await until(pilot, lambda: "burst 199" in shown(pilot))

        assert len(texts(pilot)) == 205
        assert len(drawings) <= 5


@played
async def test_enter_reads_a_long_post_whole():
    mesh = long_room(1)
    mesh.add_post(room_named(mesh, "lobby"), "beryl", "\n".join(f"line {at}" for at in range(90)))
    async with opened(mesh) as pilot:
        assert "more: enter" in shown(pilot)
        await pilot.press("y")
        await pilot.pause()
        assert pilot.app.clipboard.endswith("line 89")
        pilot.app.copy_to_clipboard("")
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(pilot.app.screen, Reader))
        await pilot.press("end")
        await until(pilot, lambda: "line 89" in shown(pilot))
        await pilot.press("y", "escape")
        await pilot.pause()
        assert pilot.app.clipboard.endswith("line 89")
        assert pilot.app.query_one(PostList).has_focus


@played
async def test_keys_scroll_through_a_post_taller_than_the_view():
    mesh = long_room(1)
    for at in range(2):
        mesh.add_post(room_named(mesh, "lobby"), "beryl", "\n".join(f"{at}-{n}" for n in range(30)))
    async with opened(mesh) as pilot:
        posts = pilot.app.query_one(PostList)
        await pilot.press("g", "down", "down")
        first = posts.cursor_key
        await pilot.press("down")
        assert posts.cursor_key == first
        await pilot.press("down", "down")
        assert posts.cursor_key != first
        await pilot.press("pageup", "pageup", "pageup")
        assert posts.cursor == 0


@played
async def test_n_makes_a_room_and_opens_it():
    mesh = lived_in_mesh()
    async with opened(mesh) as pilot:
        await pilot.press("n")
        await until(pilot, lambda: isinstance(pilot.app.screen, MakeRoom))
        await pilot.press("ctrl+s")
        await until(pilot, lambda: "needs a name" in shown(pilot))
        assert not any(call.startswith("create") for call in mesh.calls)
        await pilot.press("escape", "n")
        await until(pilot, lambda: isinstance(pilot.app.screen, MakeRoom))
        await pilot.press(*"Bad!", "enter", "enter")
        await until(pilot, lambda: "cannot be called" in shown(pilot))
        await pilot.press("shift+tab", *["backspace"] * 4, *"den", "ctrl+s")
        await until(pilot, lambda: not isinstance(pilot.app.screen, MakeRoom))
        await settle(pilot)
        assert "# den  0 posts" in shown(pilot)
        assert "Press c to write the first post." in shown(pilot)

    assert room_named(mesh, "den").creator == mesh.agent
