"""Nothing typed is lost, and nothing is posted twice."""

from __future__ import annotations

import json

import pytest

from permesh.errors import PermeshError
from permesh.schema import NewDraft
from permesh.tui.draft_file import DraftFile
from permesh.tui.drafts import LOST_REPLY, NOT_THERE, Drafts, Place
from permesh.tui.widgets.composer import Composer, PostText
from permesh.tui.widgets.post_list import PostList

from .lived_in import lived_in_mesh
from .memory_mesh import NOW, MemoryMesh
from .stage import opened, played, settle, shown, texts, until, write


def room_named(mesh: MemoryMesh, name: str):
    return next(room for room in mesh.room_list.values() if room.name == name)


def said(mesh: MemoryMesh, text: str) -> int:
    return sum(post.text == text for posts in mesh.post_list.values() for post in posts)


@played
async def test_what_is_typed_goes_to_the_daemon_a_moment_later():
    mesh = lived_in_mesh()
    async with opened(mesh) as pilot:
        await write(pilot, "half a thought")
        await until(pilot, lambda: mesh.draft_list)
        (draft,) = mesh.draft_list.values()
        assert (draft.text, draft.reply_to) == ("half a thought", None)
        await pilot.press("ctrl+s")
        await until(pilot, lambda: not mesh.draft_list)
        assert said(mesh, "half a thought") == 1


@played
async def test_a_new_app_begins_with_the_drafts_of_the_one_that_crashed():
    mesh = lived_in_mesh()
    async with opened(mesh) as pilot:
        await write(pilot, "to the room")
        await pilot.press("escape", "r")
        pilot.app.query_one(PostText).insert("to cobalt")
        await until(pilot, lambda: len(mesh.draft_list) == 2)

    mesh.draft_list = {
        key: draft.model_copy(update={"updated_ms": NOW + at})
        for at, (key, draft) in enumerate(mesh.draft_list.items())
    }
    async with opened(mesh) as pilot:
        composer = pilot.app.query_one(Composer)
        await until(pilot, lambda: composer.text == "to cobalt")
        assert "↳ cobalt" in shown(pilot)
        assert "1 more begun in this room" in shown(pilot)
        await pilot.press("c")
        await settle(pilot)
        await pilot.press("escape", "c")
        await settle(pilot)
        assert composer.text == "to the room"
        assert said(mesh, "to cobalt") == 0


@played
async def test_each_post_that_is_answered_has_a_draft_of_its_own():
    mesh = lived_in_mesh()
    async with opened(mesh) as pilot:
        composer = pilot.app.query_one(Composer)
        for text in ("one", "two"):
            await pilot.press("r")
            pilot.app.query_one(PostText).insert(text)
            await pilot.press("escape", "up")
        await pilot.press("down", "r")
        await settle(pilot)
        assert composer.text == "two"
        await pilot.press("escape", "down", "r")
        await settle(pilot)
        assert composer.text == "one"
        await pilot.press("ctrl+r")  # not a reply: the text goes on as a post of its own
        await settle(pilot)
        assert composer.text == "one"
        assert pilot.app.main.forum.view.draft.place.reply_to is None


@played
async def test_a_post_whose_reply_was_lost_is_not_posted_twice():
    mesh = lived_in_mesh()
    async with opened(mesh) as pilot:
        await write(pilot, "once only")
        mesh.lose_replies = True
        await pilot.press("ctrl+s")
        await until(pilot, lambda: "It is looked for when" in shown(pilot))
        assert pilot.app.query_one(Composer).text == "once only"
        mesh.lose_replies = False
        await pilot.press("ctrl+s")
        await until(pilot, lambda: pilot.app.query_one(Composer).text == "")
        assert said(mesh, "once only") == 1
        await until(pilot, lambda: not mesh.draft_list)


@played
async def test_after_a_break_the_app_finds_by_itself_what_was_posted():
    mesh = lived_in_mesh()
    async with opened(mesh) as pilot:
        await write(pilot, "arrived")
        mesh.lose_replies = True
        await pilot.press("ctrl+s")
        await until(pilot, lambda: "It is looked for when" in shown(pilot))
        mesh.stop()
        await until(pilot, lambda: "Trying again by itself" in shown(pilot))
        mesh.lose_replies, mesh.up = False, True
        await until(pilot, lambda: pilot.app.query_one(Composer).text == "")
        assert said(mesh, "arrived") == 1
        assert texts(pilot).count("arrived") == 1


@played
async def test_an_app_that_crashed_after_its_post_was_stored_does_not_offer_it_again():
    mesh = lived_in_mesh()
    room = room_named(mesh, "inference")
    async with opened(mesh) as pilot:
        await write(pilot, "stored, and then the power went")
        await until(pilot, lambda: mesh.draft_list)
    mesh.add_post(room, "atlas", "stored, and then the power went", None, NOW + 5)

    async with opened(mesh) as pilot:
        await until(pilot, lambda: not mesh.draft_list)
        assert pilot.app.query_one(Composer).text == ""


@played
async def test_the_same_words_again_are_another_post():
    mesh = lived_in_mesh()
    room = room_named(mesh, "inference")
    mesh.add_post(room, "atlas", "+1", None, NOW - 60_000)
    async with opened(mesh) as pilot:
        await write(pilot, "+1")
        mesh.up = False
        await pilot.press("ctrl+s")
        await until(pilot, lambda: pilot.app.query_one(Composer).has_class("-note"))
        mesh.up = True
        await pilot.press("ctrl+s")
        await until(pilot, lambda: said(mesh, "+1") == 2)


@played
async def test_what_is_typed_while_the_daemon_is_away_outlives_the_app(tmp_path):
    mesh, path = lived_in_mesh(), tmp_path / "tui-drafts.json"
    async with opened(mesh, file=DraftFile(path)) as pilot:
        mesh.stop()
        await until(pilot, lambda: "Trying again by itself" in shown(pilot))
        await write(pilot, "written in the dark")
        await until(pilot, path.exists)
        assert path.stat().st_mode & 0o777 == 0o600
    mesh.up = True

    async with opened(mesh, file=DraftFile(path)) as pilot:
        assert pilot.app.query_one(Composer).text == "written in the dark"
        await until(pilot, lambda: mesh.draft_list)
        await until(pilot, lambda: not path.exists())


@played
async def test_an_edit_that_was_begun_is_kept_too(tmp_path):
    mesh, path = lived_in_mesh(), tmp_path / "tui-drafts.json"
    room = room_named(mesh, "inference")
    mine = mesh.add_post(room, "atlas", "teh post", None, NOW - 1)
    async with opened(mesh, file=DraftFile(path)) as pilot:
        await pilot.press("e")
        await settle(pilot)
        assert "✎ editing atlas" in shown(pilot)
        assert pilot.app.query_one(Composer).text == "teh post"
        pilot.app.query_one(PostText).load_text("the post")
        await until(pilot, path.exists)
    assert not mesh.draft_list  # the daemon keeps drafts of posts, not of edits

    async with opened(mesh, file=DraftFile(path)) as pilot:
        assert pilot.app.query_one(Composer).text == "the post"
        await pilot.press("c")
        await settle(pilot)
        await pilot.press("escape", "e")
        await settle(pilot)
        assert pilot.app.query_one(Composer).text == "the post"
        await pilot.press("ctrl+s")
        await until(pilot, lambda: mesh.find_post(mine.id).text == "the post")
        await until(pilot, lambda: "edited" in shown(pilot))
        assert not path.exists()
        assert pilot.app.query_one(PostList).has_focus


@played
async def test_two_texts_for_one_place_are_both_kept():
    mesh = lived_in_mesh()
    room = room_named(mesh, "inference")
    drafts = Drafts(mesh, lambda: NOW, DraftFile())
    drafts.type(drafts.of(Place(room.id)), "typed before the daemon answered")
    await mesh.save_draft(room.id, NewDraft(text="typed yesterday"))
    held = mesh.draft_list[room.id, None]
    mesh.draft_list[room.id, None] = held.model_copy(update={"updated_ms": NOW + 1})

    await drafts.restore()

    text = drafts.of(Place(room.id)).text
    assert text == "typed before the daemon answered\n\ntyped yesterday"


@played
async def test_a_draft_that_the_daemon_refuses_stays_in_the_file(tmp_path):
    mesh, path = lived_in_mesh(), tmp_path / "drafts.json"
    room = room_named(mesh, "lobby")

    async def refuse(*_: object) -> None:
        raise PermeshError("drafts.too_many", "You have 256 drafts.")

    mesh.save_draft = refuse
    drafts = Drafts(mesh, lambda: NOW, DraftFile(path))
    await drafts.restore()
    drafts.type(drafts.of(Place(room.id)), "the 257th")
    await drafts.save()

    assert [held.text for held in DraftFile(path).read()] == ["the 257th"]


@played
async def test_what_did_not_arrive_says_so_when_the_daemon_is_back():
    mesh = lived_in_mesh()
    drafts = Drafts(mesh, lambda: NOW, DraftFile())
    draft = drafts.of(Place(room_named(mesh, "lobby").id))
    drafts.type(draft, "lost on the way")
    mesh.refuse_posts = PermeshError("daemon.gone", "The daemon closed the connection.")
    assert await drafts.send(draft, mesh.agent) is None
    assert draft.problem == LOST_REPLY

    assert await drafts.settle(mesh.agent) == []

    assert draft.problem == NOT_THERE
    assert draft.text == "lost on the way"


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", '[{"room": 1}]', '{"a": 1}', "[1, null]", "[" * 100_000],
    ids=["nothing", "cut", "empty", "wrong", "object", "numbers", "deep"],
)
def test_a_broken_file_is_like_none(tmp_path, content):
    path = tmp_path / "drafts.json"
    path.write_text(content)

    assert DraftFile(path).read() == []


def test_a_file_that_cannot_be_written_costs_nothing(tmp_path):
    file = DraftFile(tmp_path / "absent" / "drafts.json")
    held = DraftFile.Held("r", None, None, "text", "", 1)
    file.write([held])
    assert file.read() == []


def test_the_file_is_gone_when_there_is_nothing_to_keep(tmp_path):
    path = tmp_path / "drafts.json"
    file = DraftFile(path)
    file.write([DraftFile.Held("r", "p", None, "text", "", 1)])
    assert json.loads(path.read_text())[0]["text"] == "text"
    file.write([])
    assert not path.exists()


def test_two_apps_on_one_daemon_keep_their_drafts_apart(tmp_path):
    path = tmp_path / "drafts.json"
    one, other = DraftFile(path), DraftFile(path)
    one.write([DraftFile.Held("r", None, None, "from the terminal", "", 1)])
    other.write([DraftFile.Held("r", "p", None, "from the browser", "", 2)])

    assert {held.text for held in DraftFile(path).read()} == {
        "from the terminal", "from the browser",
    }  # fmt: skip
    one.write([])
    assert [held.text for held in DraftFile(path).read()] == ["from the browser"]
    other.write([])
    assert not path.exists()
