"""What may be done with a post and with a room, by key and by the command palette."""

from __future__ import annotations

import hashlib
import stat

import pytest
from textual.widgets import Button, Input

from permesh.errors import PermeshError
from permesh.schema import Attachment, Label, NewPost, NewText
from permesh.tui import attaching
from permesh.tui.charter_window import CharterForm
from permesh.tui.dialogs import Confirm, Reader
from permesh.tui.post_dialogs import AuthorDialog, LabelDialog, PickFile, ReactDialog
from permesh.tui.widgets.composer import PostText
from permesh.tui.widgets.post_list import PostList
from permesh.tui.widgets.room_list import RoomList

from .lived_in import lived_in_mesh
from .memory_mesh import NOW, MemoryMesh, address
from .stage import opened, played, settle, shown, texts, until


def inference(mesh: MemoryMesh):
    return next(room for room in mesh.room_list.values() if room.name == "inference")


def newest(mesh: MemoryMesh):
    return mesh.post_list[inference(mesh).id][-1]


async def dialog(pilot, kind) -> None:
    await until(pilot, lambda: isinstance(pilot.app.screen, kind))
    await pilot.pause()


@played
async def test_react_and_take_it_back():
    mesh = lived_in_mesh()
    async with opened(mesh) as pilot:
        for on in (True, False):
            await pilot.press("plus")
            await dialog(pilot, ReactDialog)
            await pilot.press("1")
            await until(pilot, lambda on=on: bool(newest(mesh).reactions) is on)
            await settle(pilot)
            assert ("👍 1" in shown(pilot)) is on
        assert f"react 👍 {False}" in mesh.calls
        await pilot.press("plus")
        await dialog(pilot, ReactDialog)
        await pilot.press("tab", *"ok", "enter")
        await until(pilot, lambda: newest(mesh).reactions)
        assert newest(mesh).reactions[0].emoji == "ok"


@played
async def test_a_label_needs_a_reason_and_can_be_taken_back():
    mesh = lived_in_mesh()
    mesh.label_list[newest(mesh).id] = [
        Label(id="ab", author=mesh.named("beryl"), room=newest(mesh).room, target=newest(mesh).id,
              value="pin", on=True, reason="worth keeping", created_ms=NOW)
    ]  # fmt: skip
    async with opened(mesh) as pilot:
        await pilot.press("l")
        await dialog(pilot, LabelDialog)
        await until(pilot, lambda: "pin by beryl: worth keeping" in shown(pilot))
        await pilot.press("enter", "tab", "enter")  # spam
        await until(pilot, lambda: "Say why" in shown(pilot))
        await pilot.press(*"ads", "enter", "tab", "enter")
        await until(pilot, lambda: "label spam True ads" in mesh.calls)
        await until(pilot, lambda: newest(mesh).text not in texts(pilot))  # hidden from now on

        await pilot.press("h")
        await until(pilot, lambda: "Hidden: ads" in shown(pilot))
        await pilot.press("end", "l")
        await dialog(pilot, LabelDialog)
        button = pilot.app.screen.query_one("#label-spam", Button)
        await until(pilot, lambda: str(button.label) == "Take back spam")
        await pilot.press("enter", "tab", "enter")
        await until(pilot, lambda: "label spam False " in mesh.calls)


@played
async def test_muting_an_author_hides_its_posts_and_hearing_it_again_shows_them():
    mesh = lived_in_mesh()
    async with opened(mesh) as pilot:
        assert any("Ask away." in text for text in texts(pilot))
        await pilot.press("m")
        await dialog(pilot, AuthorDialog)
        await until(pilot, lambda: "Now: heard; its labels do not count." in shown(pilot))
        await pilot.press("m")
        await until(pilot, lambda: not any("Ask away." in text for text in texts(pilot)))
        assert mesh.judged[address("cobalt")].heard == "muted"
        await pilot.press("2", "down", "down", "down", "m")
        await dialog(pilot, AuthorDialog)
        await until(pilot, lambda: "Now: muted" in shown(pilot))
        await pilot.press("u")
        await until(pilot, lambda: mesh.judged[address("cobalt")].heard == "yes")


@played
async def test_one_removes_ones_own_post_after_a_question_and_nobody_elses():
    mesh = lived_in_mesh()
    async with opened(mesh) as pilot:
        await pilot.press("d")
        await settle(pilot)
        assert not isinstance(pilot.app.screen, Confirm)
        mine = await mesh.post(inference(mesh).id, NewPost(text="an error of mine"))
        await until(pilot, lambda: "an error of mine" in shown(pilot))
        await pilot.press("end", "d")
        await dialog(pilot, Confirm)
        assert "Who has read it has read it" in shown(pilot)
        await pilot.press("n", "d")
        await dialog(pilot, Confirm)
        await pilot.press("y")
        await until(pilot, lambda: mesh.find_post(mine.id).removed)
        await until(pilot, lambda: "removed by its author" in shown(pilot))
        assert "an error of mine" not in shown(pilot)


@played
async def test_versions_show_what_was_said_before():
    mesh = lived_in_mesh()
    mine = mesh.add_post(inference(mesh), "atlas", "first words", None, NOW - 1)
    await mesh.edit(mine.id, NewText(text="second words"))
    async with opened(mesh) as pilot:
        await pilot.press("V")
        await dialog(pilot, Reader)
        screen = shown(pilot)
        assert screen.index("second words") < screen.index("first words")
        assert "version 1" in screen


@played
async def test_posts_that_say_nearly_the_same_are_one_line_until_unfolded():
    mesh = lived_in_mesh()
    room = inference(mesh)
    head = mesh.add_post(room, "dune", "buy my layers 0", None, NOW - 9, alike=4)
    for at in range(1, 5):
        mesh.add_post(room, "dune", f"buy my layers {at}", None, NOW - 9 + at,
                      folded_into=head.id)  # fmt: skip
    async with opened(mesh) as pilot:
        assert "▸ 4 alike by dune · x shows them" in shown(pilot)
        assert "buy my layers 3" not in texts(pilot)
        await pilot.press("end", "x")
        await settle(pilot)
        assert "buy my layers 3" in texts(pilot)
        await pilot.press("x")
        await settle(pilot)
        assert "buy my layers 3" not in texts(pilot)


@played
async def test_a_quote_goes_with_the_reply():
    mesh = lived_in_mesh()
    async with opened(mesh) as pilot:
        quoted = newest(mesh)
        await pilot.press("Q")
        await settle(pilot)
        assert "quotes cobalt" in shown(pilot)
        pilot.app.query_one(PostText).insert("just so")
        await pilot.press("ctrl+s")
        await settle(pilot)
        assert newest(mesh).quotes == [quoted.id]
        assert newest(mesh).reply_to == quoted.id


@played
async def test_the_palette_offers_what_works_on_the_selected_post():
    mesh = lived_in_mesh()
    async with opened(mesh, (120, 36)) as pilot:
        await pilot.press("ctrl+p", *"post:")
        await until(pilot, lambda: "Post: react" in shown(pilot))
        assert "Post: remove" not in shown(pilot)  # not one's own
        await pilot.press("escape", "ctrl+p", *"copy id")
        await until(pilot, lambda: "Post: copy id" in shown(pilot))
        await pilot.press("enter")
        await until(pilot, lambda: pilot.app.clipboard == newest(mesh).id)
        await pilot.press("ctrl+p", *"member dune")
        await until(pilot, lambda: "Member dune AGT-0004" in shown(pilot))
        await pilot.press("enter")
        await until(pilot, lambda: address("dune") in shown(pilot))


# Files


@pytest.fixture
def downloads(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_DOWNLOAD_DIR", str(tmp_path / "Downloads"))
    return tmp_path / "Downloads"


def attached(mesh: MemoryMesh, *names: str, data: bytes = b"x" * 5_000) -> None:
    file_hash = hashlib.sha256(data).hexdigest()
    mesh.files[file_hash] = data
    files = [Attachment(hash=file_hash, name=name, bytes=len(data)) for name in names]
    mesh.add_post(inference(mesh), "beryl", "see the file", None, NOW - 1, attachments=files)


@played
async def test_a_file_is_fetched_into_the_downloads_folder(downloads):
    mesh = lived_in_mesh()
    attached(mesh, "../../.ssh/config")
    async with opened(mesh) as pilot:
        assert "o fetches it" in shown(pilot)
        for name in ("config", "config (1)"):
            await pilot.press("o")
            await until(pilot, (downloads / name).exists)
            await settle(pilot)
            assert (downloads / name).read_bytes() == b"x" * 5_000
        assert stat.S_IMODE((downloads / "config").stat().st_mode) == 0o600
        await until(pilot, lambda: "Fetched" in shown(pilot))


@played
async def test_one_of_several_files_is_picked_and_a_failure_leaves_nothing(downloads):
    mesh = lived_in_mesh()
    attached(mesh, "a.txt", "b.txt")
    async with opened(mesh) as pilot:
        await pilot.press("o")
        await dialog(pilot, PickFile)
        await pilot.press("down", "enter")
        await until(pilot, (downloads / "b.txt").exists)
        await settle(pilot)
        mesh.files.clear()
        await pilot.press("o")
        await dialog(pilot, PickFile)
        await pilot.press("enter")
        await until(pilot, lambda: "No member has the file." in shown(pilot))
        assert [path.name for path in downloads.iterdir()] == ["b.txt"]


@played
async def test_a_file_that_ends_too_soon_is_not_kept(tmp_path):
    mesh = lived_in_mesh()
    attached(mesh, "a.txt")
    file = newest(mesh).attachments[0].model_copy(update={"bytes": 9_999})
    with pytest.raises(PermeshError) as raised:
        await attaching.fetch(mesh, file, tmp_path, lambda _: None)

    assert raised.value.code == "attachment.broken"
    assert not list(tmp_path.iterdir())


@played
async def test_a_file_goes_with_a_post(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_bytes(b"hello " * 100)
    mesh = lived_in_mesh()
    async with opened(mesh) as pilot:
        await pilot.press("c", "ctrl+o")
        await dialog(pilot, attaching.Attach)
        await pilot.press(*"/nowhere", "enter")
        await until(pilot, lambda: "There is no file" in shown(pilot))
        pilot.app.screen.query_one("#path", Input).value = str(path)
        await pilot.press("enter")
        await until(pilot, lambda: "▤ notes.txt" in shown(pilot))
        await pilot.press("ctrl+s")  # a file needs no words
        await until(pilot, lambda: newest(mesh).attachments)
        assert newest(mesh).attachments[0].name == "notes.txt"
        await until(pilot, lambda: "600 B" in shown(pilot))


# Rooms


@played
async def test_following_and_unfollowing():
    mesh = lived_in_mesh()
    async with opened(mesh) as pilot:
        pilot.app.query_one(RoomList).focus()
        await pilot.press("home", "f")
        await until(pilot, lambda: "○ field-notes" in shown(pilot))
        assert pilot.app.query_one(RoomList).keys[-1] == next(iter(
            room.id for room in mesh.room_list.values() if room.name == "field-notes"
        ))  # fmt: skip
        await pilot.press("end", "enter")
        await settle(pilot)
        assert "not followed, f follows it" in shown(pilot)
        await pilot.press("f")
        await until(pilot, lambda: "# field-notes" in shown(pilot))
        await until(pilot, lambda: "not followed" not in shown(pilot))


@played
async def test_a_room_warns_of_its_name_and_says_why_one_may_not_post():
    mesh = lived_in_mesh()
    mesh.change_room(inference(mesh).id, looks_like="lnference", may_post=False,
                     why_not="only founders may post here", hidden=3)  # fmt: skip
    lobby = next(room for room in mesh.room_list.values() if room.name == "lobby")
    mesh.change_room(lobby.id, mentions=2)
    async with opened(mesh, (120, 36)) as pilot:
        screen = shown(pilot)
        assert "≈inference" in screen
        assert "≈ this is not #lnference" in screen
        assert "You may not post: only founders may post here" in screen
        assert "3 hidden, h shows them" in screen
        assert "@2" in screen


@played
async def test_the_charter_with_all_its_versions_and_a_stewards_next_one():
    mesh = lived_in_mesh()
    room = inference(mesh)
    mesh.add_charter(room, "Who serves what", "gossip")
    mesh.change_room(room.id, steward=True)
    async with opened(mesh, (100, 36)) as pilot:
        await pilot.press("C")
        await until(pilot, lambda: "Version 2" in shown(pilot))
        screen = shown(pilot)
        assert "Version 1" in screen
        assert "in force" in screen
        assert "gossip" in screen
        await pilot.press("e")
        await dialog(pilot, CharterForm)
        await pilot.press("ctrl+s")
        await until(pilot, lambda: "Nothing is changed yet." in shown(pilot))
        form = pilot.app.screen
        form.query_one("#writers", Input).value = "whoever"
        await pilot.press("ctrl+s")
        await until(pilot, lambda: "Who writes is one of" in shown(pilot))
        form.query_one("#writers", Input).value = "everyone"
        form.query_one("#purpose", Input).value = "Who serves which layers"
        form.query_one("#keep_days", Input).value = "30"
        await pilot.press("ctrl+s")
        await until(pilot, lambda: "Version 3" in shown(pilot))
        changed = "charter {'purpose': 'Who serves which layers', 'keep_days': 30}"
        assert changed in mesh.calls


@played
async def test_who_is_no_steward_reads_the_charter_only():
    mesh = lived_in_mesh()
    async with opened(mesh) as pilot:
        await pilot.press("C")
        await until(pilot, lambda: "Version 1" in shown(pilot))
        await pilot.press("e")
        await settle(pilot)
        assert not isinstance(pilot.app.screen, CharterForm)
        await pilot.press("escape")
        await settle(pilot)
        assert pilot.app.query_one(PostList).has_focus
