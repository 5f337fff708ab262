"""What one member sees: by labels, by whom it hears, by how an author stands."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from permesh import schema
from permesh.forum import judgements, pages, rules
from permesh.forum.charter import Charter
from permesh.forum.views import ForumView
from permesh.records import Record
from permesh.store import Store
from tests.simulator import START_MS, Author, address

from .people import (
    ME,
    Eyes,
    make_charter,
    make_edit,
    make_label,
    make_post,
    make_reaction,
    make_removal,
    make_room,
    open_store,
)  # fmt: skip


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = open_store(tmp_path / "permesh.db")
    yield opened
    opened.close()


def judge(store: Store, name: str, **judgement: Any) -> None:
    store.change_views(lambda cursor: judgements.judge(cursor, address(name), **judgement))


def code(store: Store, post: Record, eyes: Eyes | None = None) -> str:
    found = (eyes or Eyes()).sight(store).hidden([post.id])
    return found[post.id].code if found else ""


def show(store: Store, post: Record, eyes: Eyes | None = None) -> schema.Post:
    (shown,) = (eyes or Eyes()).reader().show_posts(store.connection, [post.id])
    return shown


def room_of(store: Store, room: Record) -> schema.Room:
    return Eyes().reader().show_room(store.connection, room.id)


# -- labels


def test_a_stewards_label_hides_in_its_room_unless_one_says_no(store: Store) -> None:
    steward, author, passer = Author("steward"), Author("author"), Author("passer")
    room, other = make_room(steward), make_room(passer, "other")
    post, elsewhere = make_post(author, room), make_post(author, other)
    store.save([room, other, post, elsewhere, make_label(passer, post)], START_MS)
    assert code(store, post) == ""
    store.save([make_label(steward, post), make_label(steward, elsewhere)], START_MS)
    assert code(store, post) == rules.LABEL
    assert code(store, elsewhere) == ""
    assert (room_of(store, room).posts, room_of(store, room).hidden) == (0, 1)
    store.change_views(lambda cursor: judgements.count_stewards(cursor, False))
    assert code(store, post) == ""


def test_a_label_is_taken_back_by_a_later_one_of_its_author_alone(store: Store) -> None:
    steward, author, passer = Author("steward"), Author("author"), Author("passer")
    room = make_room(steward)
    post = make_post(author, room)
    on, off = make_label(steward, post), make_label(steward, post, on=False)
    store.save([room, post, off], START_MS)
    store.save([on, make_label(passer, post, on=False)], START_MS)
    assert code(store, post) == ""  # whatever came first
    again = make_label(steward, post)
    store.save([again, make_label(passer, post, on=False)], START_MS)
    assert code(store, post) == rules.LABEL


def test_labels_of_whom_one_goes_by_count_everywhere(store: Store) -> None:
    author, watch = Author("author"), Author("watch")
    room = make_room(Author("steward"))
    post = make_post(author, room)
    nice = make_label(watch, post, "nice")
    store.save([room, post, nice, make_label(watch, post, reason="ad")], START_MS)
    assert (code(store, post), show(store, post).labels) == ("", [])
    judge(store, "watch", labels=True)
    shown = show(store, post)
    assert (shown.hidden, shown.labels) == (rules.LABEL, ["nice", "spam"])
    assert shown.why == f"It is labelled 'spam' by {watch.address.hex()[:4]} (AGT-0001): ad"


def test_a_label_of_another_room_than_the_posts_counts_nowhere(store: Store) -> None:
    steward, author = Author("steward"), Author("author")
    own, other = make_room(steward), make_room(Author("x"), "other")
    post = make_post(author, other)
    store.save([own, other, post, make_label(steward, post, room=own.id)], START_MS)
    assert code(store, post) == ""
    judge(store, "steward", labels=True)
    assert code(store, post) == ""


def test_labels_of_a_member_hide_what_it_writes(store: Store) -> None:
    steward, author = Author("steward"), Author("author")
    room, other = make_room(steward), make_room(Author("x"), "other")
    post, elsewhere = make_post(author, room), make_post(author, other)
    everywhere = make_label(steward, author.address)
    store.save([room, other, post, elsewhere, everywhere], START_MS)
    # In no room: it counts where its author is a steward.
    assert (code(store, post), code(store, elsewhere)) == (rules.LABEL, "")
    assert show(store, post).why.startswith("Its author is labelled 'spam' by ")
    assert room_of(store, room).hidden == 1
    judge(store, "steward", labels=True)
    assert code(store, elsewhere) == rules.LABEL


def test_pins_and_own_labels(store: Store) -> None:
    author, me = Author("author"), Author("me")
    room = make_room(author)
    post = make_post(author, room)
    store.save([room, post, make_label(author, post, "pin")], START_MS)
    assert (show(store, post).pinned, show(store, post).labels) == (True, ["pin"])
    store.save([make_label(me, post, "hide")], START_MS)
    assert code(store, post) == rules.LABEL
    assert code(store, post, Eyes(me=address("other"))) == ""


def test_an_own_post_that_is_labelled_is_listed_with_the_reason(store: Store) -> None:
    steward, me = Author("steward"), Author("me")
    room = make_room(steward)
    post = make_post(me, room)
    store.save([room, post, make_label(steward, post, "hide")], START_MS)
    for page in (
        pages.posts(Eyes().sight(store), room.id, None, 10),
        pages.thread(Eyes().sight(store), post.id, None, 10),
    ):
        assert page.ids == [post.id]
        assert page.hidden[post.id].code == rules.LABEL


# -- whom this member hears


def test_muted_and_blocked_authors_are_not_shown(store: Store) -> None:
    steward, one, two = Author("steward"), Author("one"), Author("two")
    room = make_room(steward)
    first, second, third = (make_post(author, room) for author in (one, two, steward))
    reaction = make_reaction(one, third)
    store.save([room, first, second, third, reaction], START_MS)
    judge(store, "one", heard="muted")
    judge(store, "two", heard="blocked")
    judge(store, "me", heard="blocked")
    page = pages.posts(Eyes().sight(store), room.id, None, 10)
    assert page.ids == [third.id]
    page = pages.posts(Eyes().sight(store), room.id, None, 10, hidden=True)
    assert {post: why.code for post, why in page.hidden.items()} == {
        first.id: rules.MUTE, second.id: rules.BLOCK,
    }  # fmt: skip
    assert show(store, third).reactions == []
    assert (room_of(store, room).posts, room_of(store, room).hidden) == (1, 2)
    assert show(store, second).why == "You have blocked its author."
    own = make_post(Author("me"), room)
    store.save([own], START_MS)
    assert code(store, own) == ""


# -- how an author stands


def test_standing_and_founders_are_asked_on_reading(store: Store) -> None:
    steward, author = Author("steward"), Author("author")
    charter = Charter("p", who="standing", standing=2500, stewards=(steward.address,))
    room = make_room(steward, charter=charter)
    post, own = make_post(author, room), make_post(steward, room)
    store.save([room, post, own], START_MS)
    eyes = Eyes()
    assert code(store, own, eyes) == ""
    shown = show(store, post, eyes)
    assert (shown.hidden, shown.why) == (
        rules.RULE, "The charter of lobby, version 1, asks a standing of 2.5 of who posts.",
    )  # fmt: skip
    eyes.standing[author.address] = 2.5
    assert code(store, post, eyes) == ""
    second = make_charter(steward, room, room, 2, who="founders")
    later = make_post(author, room, created_ms=steward.now_ms + 1)
    store.save([second, later], START_MS)
    assert code(store, later, eyes) == rules.RULE
    eyes.founders.add(author.address)
    assert code(store, later, eyes) == ""


# -- forked chains and repairs


def test_a_forked_author_is_marked_until_the_repair(store: Store) -> None:
    author = Author("author")
    room = make_room(Author("steward"))
    before = make_post(author, room, "before")
    one = make_post(author, room, "one")
    twin = make_post(author, room, "twin", seq=1, prev=before.id)
    store.save([room, before, one, twin], START_MS)
    eyes = Eyes()
    assert [code(store, post) for post in (before, one, twin)] == ["", rules.FORK, rules.FORK]
    assert show(store, before, eyes).frozen
    assert show(store, twin, eyes).why == "Its author's chain of records has forked before it."
    eyes.repaired[author.address] = one.id
    assert not show(store, before, eyes).frozen


def test_a_repair_shows_the_branch_that_its_owner_chose(tmp_path: Path) -> None:
    author = Author("me")
    room = make_room(author)
    posts = [make_post(author, room, f"{n}") for n in range(3)]
    twin = make_post(author, room, "twin", seq=2, prev=posts[0].id)
    astray = make_post(author, room, "astray", seq=3, prev=twin.id)
    eyes, repaired = Eyes(), {}
    view = ForumView(repaired=repaired.get)
    store = open_store(tmp_path / "permesh.db", view)
    store.save([room, *posts, twin, astray], START_MS)
    assert [code(store, post) for post in posts] == ["", rules.FORK, rules.FORK]
    assert eyes.sight(store).is_frozen(author.address)
    for chosen, shown in ((posts[1], posts), (twin, [posts[0], twin, astray])):
        repaired[author.address] = eyes.repaired[author.address] = chosen.id
        store.change_views(lambda cursor: view.refresh_authors(cursor, repaired))
        assert [p for p in (*posts, twin, astray) if code(store, p) == ""] == shown
        assert room_of(store, room).posts == len(shown)
        assert not eyes.sight(store).is_frozen(author.address)
    again = make_post(author, room, "again", seq=4, prev=astray.id)
    other = make_post(author, room, "other", seq=4, prev=astray.id)
    store.save([again, other], START_MS)
    assert code(store, again) == code(store, other) == rules.FORK
    assert code(store, astray) == ""
    assert eyes.sight(store).is_frozen(author.address)
    store.close()


# -- what others may not do to a post


def test_nobody_changes_or_removes_what_is_anothers(store: Store) -> None:
    author, bad = Author("author"), Author("bad")
    room, other = make_room(author), make_room(author, "other")
    post = make_post(author, room)
    astray = make_edit(author, post, "astray")
    moved = author.write(b"moved", "forum.edit", other.id, parents=(post.id,))
    store.save([room, other, post, make_edit(bad, post, "bad"), make_removal(bad, post)], START_MS)
    store.save([moved, astray], START_MS)
    shown = show(store, post)
    assert (shown.text, shown.edits, shown.removed) == ("astray", 1, False)


def test_a_removal_takes_what_it_names_whatever_comes_first(tmp_path: Path) -> None:
    author, other = Author("author"), Author("other")
    room = make_room(author)
    post = make_post(author, room, mentions=(ME,))
    edit = make_edit(author, post, "changed", mentions=(ME,))
    removal = make_removal(author, post, edit)
    after = make_edit(author, post, "afterwards")
    said = [post, edit, removal, after, make_reaction(other, post)]
    for number, order in enumerate((said, said[::-1])):
        store = open_store(tmp_path / f"{number}.db")
        store.save([room], START_MS)
        for record in order:
            store.save([record], START_MS)
        shown = show(store, post)
        assert (shown.text, shown.removed, shown.edits, shown.reactions) == ("", True, 0, [])
        assert (shown.mentions, shown.replies) == ([], 0)
        for table in ("forum_mentions", "forum_quotes", "forum_files"):
            assert store.connection.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,)
        for identity in (post.id, edit.id):
            kept = store.get(identity)
            assert kept is not None
            assert kept.body is None  # the header stays, so that the chain can be checked
        store.close()


# -- bounds


def test_a_page_of_a_room_full_of_hidden_posts_is_bounded(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "MAX_EXAMINED", 500)
    steward, bad = Author("steward"), Author("bad")
    room = make_room(steward)
    flood = [make_post(bad, room, f"{n}") for n in range(1_200)]
    last = make_post(steward, room, created_ms=START_MS + 10_000)
    store.save([room, *flood, last], START_MS)
    judge(store, "bad", heard="muted")
    cursor, found, asked = None, [], 0
    while asked == 0 or cursor:
        page = pages.posts(Eyes().sight(store), room.id, cursor, 50)
        found += page.ids
        cursor = page.cursor
        asked += 1
    assert (found, asked) == ([last.id], 3)


def test_reactions_are_bounded(store: Store) -> None:
    room = make_room(Author("steward"))
    post = make_post(Author("writer"), room)
    authors = [Author(f"a{n}") for n in range(20)]
    emojis = [chr(0x1F600 + n) for n in range(60)]
    store.save([room, post], START_MS)
    store.save([make_reaction(one, post, emoji) for one in authors for emoji in emojis], START_MS)
    shown = show(store, post).reactions
    assert len(shown) == 24
    assert {(one.count, len(one.by)) for one in shown} == {(20, 8)}


def test_a_flood_that_comes_backwards_costs_no_more_than_its_quota(store: Store) -> None:
    bad = Author("bad")
    bad.now_ms = START_MS - START_MS % rules.RATE_SPAN_MS
    room = make_room(Author("steward"))
    flood = [make_post(bad, room, f"{n}") for n in range(6_000)]
    store.save([room], START_MS)
    began = time.process_time()
    for start in range(5_900, -1, -100):
        store.save(flood[start : start + 100], START_MS)
    assert time.process_time() - began < 20
    assert room_of(store, room).posts == rules.POSTS_PER_SPAN


def test_rooms_that_look_alike_say_so(store: Store) -> None:
    steward = Author("steward")
    first, second, third = (make_room(steward, name) for name in ("model", "mode1", "other"))
    store.save([first, second, third], START_MS)
    assert [room_of(store, room).looks_like for room in (first, second, third)] == ["", "model", ""]


def test_near_duplicates_of_a_page_fold(store: Store) -> None:
    author = Author("author")
    room = make_room(author)
    posts = [make_post(author, room, "buy my cheap tokens now") for _ in range(3)]
    other = make_post(author, room, "something else that is said")
    store.save([room, *posts, other], START_MS)
    eyes = Eyes()
    sight = eyes.sight(store)
    for page in (
        pages.posts(sight, room.id, None, 10, newest_first=True),
        pages.posts(sight, room.id, None, 10),
    ):
        shown = {post.id: post for post in eyes.reader().page(sight, page).items}
        assert shown[posts[0].id.hex()].alike == 2
        assert {shown[post.id.hex()].folded_into for post in posts[1:]} == {posts[0].id.hex()}
        assert (shown[other.id.hex()].alike, shown[other.id.hex()].folded_into) == (0, "")
