"""The inbox and search."""

from __future__ import annotations

from permesh.schema import InboxItem
from permesh.tui import feeding, search_view
from permesh.tui.found_posts import FoundList
from permesh.tui.inbox_view import PAGE
from permesh.tui.thread_screen import ThreadScreen
from permesh.tui.widgets.post_list import PostList

from .lived_in import lived_in_mesh
from .memory_mesh import NOW, MemoryMesh
from .stage import opened, played, settle, shown, until
from .test_tui_hostile import BIDI, ESCAPES, MARKUP, acts


def told(mesh: MemoryMesh, kind: str, text: str, *, at: int = 0, unread: bool = True) -> InboxItem:
    room = next(room for room in mesh.room_list.values() if room.name == "lobby")
    post = mesh.post_list[room.id][at]
    item = InboxItem(
        kind=kind, at_ms=NOW - at, unread=unread, by=mesh.named("beryl"), text=text, post=post
    )
    mesh.inbox_items.append(item)
    return item


@played
async def test_the_inbox_tells_what_is_unread_and_opens_the_post_in_its_thread():
    mesh = lived_in_mesh()
    told(mesh, "mention", "beryl mentions you", at=1)
    told(mesh, "reaction", "cobalt reacts with +1", at=2, unread=False)
    async with opened(mesh) as pilot:
        assert "5 Inbox 1" in shown(pilot)
        await pilot.press("5")
        await settle(pilot)
        assert "1 unread item" in shown(pilot)
        assert "beryl mentions you" in shown(pilot)
        assert "cobalt reacts" in shown(pilot)
        await pilot.press("u")
        await settle(pilot)
        assert "cobalt reacts" not in shown(pilot)
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(pilot.app.screen, ThreadScreen))
        await until(pilot, lambda: "The mesh is up." in shown(pilot))
        selected = pilot.app.screen.query_one(PostList).selected
        assert selected.post.text == "Hello from the kitchen shelf."
        await pilot.press("escape", "a")
        await settle(pilot)
        assert "All is read." in shown(pilot)
        assert "5 Inbox 1" not in shown(pilot)


@played
async def test_ones_own_hidden_post_is_told_with_its_rule():
    mesh = lived_in_mesh()
    room = next(iter(mesh.room_list.values()))
    post = mesh.add_post(room, "atlas", "too many", hidden="rate", why="more than 9 an hour")
    mesh.inbox_items.append(
        InboxItem(kind="hidden", at_ms=NOW, unread=True, by=mesh.named("atlas"), post=post,
                  text="Your post is hidden: more than 9 an hour")
    )  # fmt: skip
    async with opened(mesh) as pilot:
        await pilot.press("5")
        await settle(pilot)
        assert "Others do not see this: more than 9 an hour" in shown(pilot)


@played
async def test_a_long_inbox_is_paged():
    mesh = lived_in_mesh()
    for at in range(PAGE + 5):
        told(mesh, "reply", f"item {at}", at=at % 5)
        mesh.inbox_items[-1] = mesh.inbox_items[-1].model_copy(update={"at_ms": NOW - at})
    async with opened(mesh) as pilot:
        await pilot.press("5")
        await settle(pilot)
        found = pilot.app.query_one("#inbox-list", FoundList)
        assert len(found.keys) == PAGE
        await pilot.press("end")
        await settle(pilot)
        assert len(found.keys) == PAGE + 5


@played
async def test_what_comes_in_is_counted_without_being_asked_for(monkeypatch):
    mesh = lived_in_mesh()
    monkeypatch.setattr(feeding, "COUNT_SECONDS", 0.02)
    async with opened(mesh) as pilot:
        assert "5 Inbox " not in shown(pilot).replace("5 Inbox  6", "")
        told(mesh, "reply", "beryl answers", at=1)
        mesh.say(next(iter(mesh.room_list.values())), "beryl", "@atlas look")
        await until(pilot, lambda: "5 Inbox 1" in shown(pilot))


@played
async def test_results_come_as_one_types_and_enter_opens_one(monkeypatch):
    monkeypatch.setattr(search_view, "TYPING_SECONDS", 0.3)
    mesh = lived_in_mesh()
    async with opened(mesh) as pilot:
        await pilot.press("slash", *"mesh", "space", *"hello")
        await until(pilot, lambda: "The mesh is up." in shown(pilot))
        assert "1 post, newest first" in shown(pilot)
        assert mesh.calls.count("search m") == 0  # not for every letter
        await pilot.press("enter")
        await settle(pilot)
        assert pilot.app.query_one("#found", FoundList).has_focus
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(pilot.app.screen, ThreadScreen))
        await until(pilot, lambda: "Hello from the kitchen" in shown(pilot))
        await pilot.press("escape", "escape")
        await settle(pilot)
        assert pilot.app.main.view == "forum"


@played
async def test_a_wrong_query_and_a_daemon_that_is_away_are_told():
    mesh = lived_in_mesh()
    async with opened(mesh) as pilot:
        await pilot.press("6", *'"mesh')
        await until(pilot, lambda: "A quotation mark is not closed." in shown(pilot))
        await pilot.press("backspace")
        await pilot.press(*["backspace"] * 4)
        await until(pilot, lambda: "author:beryl" in shown(pilot))  # what may be asked for
        mesh.up = False
        await pilot.press(*"mesh")
        await until(pilot, lambda: "No daemon is running" in shown(pilot))


@played
async def test_hostile_results_do_nothing():
    mesh = lived_in_mesh()
    room = next(iter(mesh.room_list.values()))
    evil = f"needle {ESCAPES}{MARKUP}{BIDI}"
    mesh.add_post(room, "beryl", evil, author_name=evil, room_name=evil)
    mesh.inbox_items.append(
        InboxItem(kind="mention", at_ms=NOW, unread=True, by=mesh.named("beryl"), text=evil,
                  post=mesh.post_list[room.id][-1])
    )  # fmt: skip
    async with opened(mesh) as pilot:
        await pilot.press("slash", *"needle")
        await until(pilot, lambda: "1 post" in shown(pilot))
        assert acts(shown(pilot)) == []
        await pilot.press("enter", "5")
        await settle(pilot)
        assert "1 unread item" in shown(pilot)
        assert acts(shown(pilot)) == []
