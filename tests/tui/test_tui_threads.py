"""Posts as threads, and the bounded window onto a room."""

from __future__ import annotations

import random

from permesh.schema import Post, Posts
from permesh.tui.posts import MAX_DEPTH, MAX_POSTS, Added, PostWindow, as_threads


def post(id: str, at: int, reply_to: str | None = None) -> Post:
    return Post(
        id=id,
        room="r",
        room_name="lobby",
        author="0x1",
        author_number="AGT-0001",
        author_name=f"by-{id}",
        reply_to=reply_to,
        created_ms=at,
        received_ms=at,
        text=id,
    )


def drawn(posts: list[Post]) -> list[tuple[int, str]]:
    return [(row.depth, row.post.id) for row in as_threads(posts)]


def page(posts: list[Post], cursor: str | None = None) -> Posts:
    return Posts(items=posts, next_cursor=cursor)


def test_replies_stand_below_what_they_answer():
    posts = [post("a", 1), post("b", 2), post("a1", 3, "a"), post("a2", 5, "a"),
             post("a11", 4, "a1"), post("b1", 6, "b")]  # fmt: skip

    assert drawn(posts) == [(0, "a"), (1, "a1"), (2, "a11"), (1, "a2"), (0, "b"), (1, "b1")]


def test_the_thread_spoken_in_last_stands_last():
    assert drawn([post("a", 1), post("b", 2), post("a1", 3, "a")])[0] == (0, "b")


def test_order_does_not_depend_on_arrival():
    posts = [post(f"{at:02}", at // 2, f"{at // 3:02}" if at % 4 else None) for at in range(60)]
    expected = drawn(posts)
    for seed in range(5):
        random.Random(seed).shuffle(posts)
        assert drawn(posts) == expected


def test_a_reply_to_what_is_not_loaded_opens_a_thread_and_says_so():
    (row,) = as_threads([post("x", 1, "gone")])

    assert row.opens_thread
    assert row.answers == "an earlier post"


def test_depth_is_bounded_and_deep_replies_name_whom_they_answer():
    chain = [post("0", 0)] + [post(str(at), at, str(at - 1)) for at in range(1, 2000)]

    rows = as_threads(chain)

    assert [row.post.id for row in rows] == [str(at) for at in range(2000)]
    assert max(row.depth for row in rows) == MAX_DEPTH
    assert rows[MAX_DEPTH].answers == ""
    assert rows[MAX_DEPTH + 1].answers == f"by-{MAX_DEPTH}"


def test_posts_that_answer_each_other_do_no_harm():
    assert drawn([post("a", 1, "b"), post("b", 2, "a"), post("c", 3)]) == [(0, "c")]


def test_window_pages_back_to_the_beginning():
    window = PostWindow("r")
    window.show_newest(page([post("c", 3), post("b", 2)], "b"))
    assert window.older_cursor == "b"

    window.show_older(page([post("a", 1)]))

    assert window.older_cursor is None
    assert [row.post.id for row in window.rows()] == ["a", "b", "c"]


def test_window_takes_live_posts_once():
    window = PostWindow("r")
    assert window.add(post("early", 0)) is Added.BEYOND  # the first page is still on its way
    window.show_newest(page([post("a", 1)]))

    assert window.add(post("b", 2)) is Added.SHOWN
    assert window.add(post("b", 2)) is Added.KNOWN


def test_window_holds_a_bounded_number_whatever_comes():
    window = PostWindow("r")
    window.show_newest(page([post(f"{at:05}", at) for at in range(10 * MAX_POSTS)], "more"))
    assert len(window.posts) == MAX_POSTS

    assert window.add(post("live", 10**6)) is Added.BEYOND
    assert window.newest_dropped
    assert len(window.posts) == MAX_POSTS


def test_reading_far_back_drops_the_newest_and_going_back_begins_anew():
    window = PostWindow("r")
    window.show_newest(page([post(f"new{at:04}", 10_000 + at) for at in range(MAX_POSTS)], "c1"))
    window.show_older(page([post(f"old{at:04}", at) for at in range(50)], "c2"))
    assert len(window.posts) == MAX_POSTS
    assert "old0000" in window.posts
    assert "new0399" not in window.posts
    assert window.newest_dropped

    window.show_newest(page([post("new0399", 10_399)], "c9"))

    assert list(window.posts) == ["new0399"]
    assert window.older_cursor == "c9"
    assert not window.newest_dropped


def test_after_a_gap_what_was_loaded_goes_so_that_nothing_seems_whole_that_is_not():
    window = PostWindow("r")
    window.show_newest(page([post("a", 1)]))
    window.show_newest(page([post("y", 90), post("z", 91)], "y"))

    assert sorted(window.posts) == ["y", "z"]
    assert window.older_cursor == "y"


def test_after_a_short_absence_what_was_loaded_stays():
    window = PostWindow("r")
    window.show_newest(page([post("b", 2), post("a", 1)], "a"))
    window.show_older(page([post("0", 0)]))
    window.show_newest(page([post("c", 3), post("b", 2)], "b"))

    assert sorted(window.posts) == ["0", "a", "b", "c"]
    assert window.older_cursor is None
