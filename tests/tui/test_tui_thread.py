"""One thread in a window of its own, however long."""

from __future__ import annotations

import time

from permesh.schema import Posts
from permesh.tui.posts import Added
from permesh.tui.thread_pages import FIRST_PAGE, PAGE, ThreadPages
from permesh.tui.thread_screen import ThreadScreen
from permesh.tui.widgets.composer import Composer, PostText
from permesh.tui.widgets.post_list import PostList

from .lived_in import lived_in_mesh
from .memory_mesh import NOW, MemoryMesh
from .stage import opened, played, settle, shown, until
from .test_tui_threads import post


def long_thread(count: int, *, deep: bool) -> MemoryMesh:
    mesh = MemoryMesh()
    mesh.add_member("atlas", "AGT-0001", "registrar")
    mesh.add_member("beryl", "AGT-0002")
    room = mesh.add_room("lobby")
    first = last = mesh.add_post(room, "beryl", "the first post", None, NOW - count * 1000)
    for at in range(1, count):
        last = mesh.add_post(
            room, "beryl", f"reply {at}", last if deep else first, NOW - (count - at) * 1000
        )
    return mesh


def rows(pilot) -> list[str]:
    return [row.post.text for row in pilot.app.screen.query_one(PostList)._rows.values()]


@played
async def test_v_shows_the_whole_thread_and_escape_goes_back():
    async with opened(lived_in_mesh()) as pilot:
        await pilot.press("up", "up", "v")
        await until(pilot, lambda: isinstance(pilot.app.screen, ThreadScreen))
        await until(pilot, lambda: "Thread in # inference  4 posts" in shown(pilot))
        selected = pilot.app.screen.query_one(PostList).selected
        assert selected.post.text == "I could go up to 20 if that helps."
        assert [row.depth for row in pilot.app.screen.query_one(PostList)._rows.values()] == [
            0, 1, 2, 2,
        ]  # fmt: skip
        await pilot.press("escape")
        await settle(pilot)
        assert pilot.app.query_one(PostList).has_focus


@played
async def test_ten_thousand_posts_open_at_once_and_their_end_is_one_key_away():
    mesh = long_thread(10_000, deep=False)
    async with opened(mesh) as pilot:
        mesh.calls.clear()
        began = time.process_time()
        pilot.app.main.forum.view.do_thread(next(iter(mesh.post_list.values()))[0])
        await until(pilot, lambda: "the first post" in shown(pilot))
        assert time.process_time() - began < 2.5
        asked = sum(call.startswith("thread") for call in mesh.calls)
        assert asked <= 2
        assert len(rows(pilot)) <= FIRST_PAGE + PAGE
        assert "so far" in shown(pilot)

        await pilot.press("G")
        for _ in range(200):
            await settle(pilot)
            if len(rows(pilot)) == 10_000:
                break
        await until(pilot, lambda: "reply 9999" in shown(pilot))
        assert "so far" not in shown(pilot)
        began = time.process_time()
        await pilot.press("up", "up", "pageup", "down")
        assert time.process_time() - began < 1.0


@played
async def test_a_chain_of_ten_thousand_replies_is_shown():
    mesh = long_thread(10_000, deep=True)
    async with opened(mesh) as pilot:
        view = pilot.app.main.forum.view
        view.do_thread(mesh.post_list[next(iter(mesh.room_list))][0])
        await until(pilot, lambda: isinstance(pilot.app.screen, ThreadScreen))
        await until(pilot, lambda: "reply 7" in shown(pilot))
        await pilot.press("pagedown", "pagedown")
        await settle(pilot)
        assert "↳ beryl" in shown(pilot)  # indentation has an end


@played
async def test_scrolling_down_loads_the_next_page():
    mesh = long_thread(FIRST_PAGE + 5, deep=False)
    async with opened(mesh) as pilot:
        pilot.app.main.forum.view.do_thread(mesh.post_list[next(iter(mesh.room_list))][0])
        await until(pilot, lambda: isinstance(pilot.app.screen, ThreadScreen))
        await settle(pilot)
        assert len(rows(pilot)) == FIRST_PAGE
        await pilot.press(*["pagedown"] * 12)
        await settle(pilot)
        assert len(rows(pilot)) == FIRST_PAGE + 5


@played
async def test_writing_in_a_thread_answers_the_post_it_was_opened_by():
    mesh = lived_in_mesh()
    async with opened(mesh) as pilot:
        await pilot.press("up", "v")
        await until(pilot, lambda: isinstance(pilot.app.screen, ThreadScreen))
        await settle(pilot)
        opened_by = pilot.app.screen.query_one(PostList).selected.post
        await pilot.press("c")
        pilot.app.screen.query_one(PostText).insert("from the thread")
        await settle(pilot)
        await pilot.press("ctrl+s")
        await until(pilot, lambda: "from the thread" in rows(pilot))
        assert pilot.app.screen.query_one(Composer).text == ""
        made = next(
            one
            for posts in mesh.post_list.values()
            for one in posts
            if one.text == "from the thread"
        )
        assert made.reply_to == opened_by.id


@played
async def test_live_replies_and_edits_come_into_an_open_thread():
    mesh = lived_in_mesh()
    async with opened(mesh) as pilot:
        await pilot.press("up", "v")
        await until(pilot, lambda: isinstance(pilot.app.screen, ThreadScreen))
        await settle(pilot)
        held = pilot.app.screen.query_one(PostList).selected.post
        mesh.say(mesh.room_list[held.room], "cobalt", "live in the thread", held)
        mesh.change(held, text="it was *edited*", edits=1)
        await until(pilot, lambda: "live in the thread" in shown(pilot))
        assert "it was edited" in shown(pilot)


def page(posts, cursor=None) -> Posts:
    return Posts(items=posts, next_cursor=cursor)


def placed(id: str, depth: int, reply_to: str | None = None):
    return post(id, 1, reply_to).model_copy(update={"depth": depth})


def test_a_live_post_stands_behind_what_answers_the_same_post():
    pages = ThreadPages()
    pages.take(page([placed("a", 0), placed("b", 1, "a"), placed("b1", 2, "b"),
                     placed("c", 1, "a")]))  # fmt: skip

    assert pages.add(placed("b2", 2, "b")) is Added.SHOWN
    assert pages.add(placed("b2", 2, "b")) is Added.KNOWN
    assert pages.add(placed("d", 1, "a")) is Added.SHOWN
    assert list(pages.posts) == ["a", "b", "b1", "b2", "c", "d"]
    assert pages.add(placed("x", 5, "unknown")) is Added.BEYOND


def test_a_live_post_behind_the_last_page_waits_for_its_page():
    pages = ThreadPages()
    pages.take(page([placed("a", 0), placed("b", 1, "a")], "more"))

    assert pages.add(placed("z", 1, "a")) is Added.BEYOND
    pages.take(page([placed("c", 1, "a"), placed("z", 1, "a")]))
    assert list(pages.posts) == ["a", "b", "c", "z"]
