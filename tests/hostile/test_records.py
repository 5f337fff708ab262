"""Records that are signed well and made to do harm, in the real store with all of its views."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from permesh.errors import Refused
from permesh.forum import kinds
from permesh.forum.query import parse
from permesh.forum.search import search
from permesh.p2p.intake import Intake
from permesh.records import Record, is_nfc, pack
from tests.authors import CheapRoster
from tests.forum.people import make_charter, make_edit, make_post, make_removal, make_room
from tests.simulator import START_MS, Author

from .home import Home


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    home = Home(tmp_path)
    yield home
    home.store.close()


def door(*authors: Author) -> Intake:
    roster = CheapRoster()
    roster.known |= {author.address for author in authors}
    return Intake(roster, kinds.check_record, kinds.REMOVALS)


def found(home: Home, words: str) -> list[bytes]:
    return search(
        home.store.connection, parse(words, START_MS), tag_of=lambda one: one.value,
        keep=lambda posts: posts, limit=10,
    ).posts  # fmt: skip


# -- removals --------------------------------------------------------------------------------------


def taken_back(author: Author, kind: str, room: Record, post: Record, **fields: object) -> Record:
    """A record that nobody ever saw whole: it comes with its removal only."""
    odd = author.write(b"never seen", kind, room.id, **fields)
    removal = author.write(
        kinds.removal_body((post.id, odd.id)), kinds.REMOVAL, room.id, parents=(post.id,)
    )
    return replace(odd, body=None, removal=removal)


@pytest.mark.parametrize("kind", [kinds.POST, kinds.EDIT])
@pytest.mark.parametrize("parents", [0, 2, 8])
def test_a_removed_record_of_another_shape_stops_no_member(
    home: Home, kind: str, parents: int
) -> None:
    author, other = Author("a"), Author("b")
    room = make_room(author)
    post = make_post(other, room)
    others = tuple(bytes([number]) * 32 for number in range(7))
    odd = taken_back(author, kind, room, post, parents=(post.id, *others)[:parents])
    home.save([room, post])
    home.save([odd])  # an earlier release let it in
    home.save([make_post(other, room, "goes on")])
    home.store.drop_before(room.id, 2**31)
    intake = door(author, other)
    if (kind, parents) == (kinds.POST, 0):
        assert intake.judge(intake.open(odd.to_wire()), "peer", START_MS)
        return
    with pytest.raises(Refused, match="place in its room"):
        intake.judge(intake.open(odd.to_wire()), "peer", START_MS)


def test_what_one_removal_takes_back_of_several_posts_is_no_longer_found(home: Home) -> None:
    author = Author("a")
    room = make_room(author)
    first, second = make_post(author, room, "walnut"), make_post(author, room, "secret walnut")
    edit = make_edit(author, first, "hazel")
    home.save([room, first, second, edit])
    assert found(home, "walnut") == [second.id]
    assert found(home, "hazel") == [first.id]
    home.save([make_removal(author, first, second, edit)])
    assert found(home, "secret") == found(home, "walnut") == found(home, "hazel") == []


# -- charters --------------------------------------------------------------------------------------


def test_charters_that_count_for_nothing_cost_no_look_at_a_rooms_posts(home: Home) -> None:
    steward, stranger = Author("a"), Author("b")
    room = make_room(steward)
    home.save([room, *(make_post(steward, room) for _ in range(500))])
    few = [make_charter(stranger, room, room, 2) for _ in range(10)]
    many = [make_charter(stranger, room, room, 2) for _ in range(40)]
    little, much = home.cost(lambda: home.save(few)), home.cost(lambda: home.save(many))
    assert much < 8 * max(little, 2_000)
    assert much < 60_000  # a look at each post would be 40 * 500 * several


def test_search_follows_a_charter_of_another_room_that_a_quota_puts_out(home: Home) -> None:
    """By its lower place in the chain a charter of one room puts one of another beyond the quota,
    and what that one had ruled of others' edits with it."""
    steward, writer = Author("a"), Author("b")
    room, other = make_room(steward), make_room(steward, "other")
    late_one = make_charter(steward, other, other, 2)
    filling = [make_charter(steward, other, other, 2) for _ in range(49)]
    strict = make_charter(steward, room, room, 2, post_bytes=5)
    post = make_post(writer, room, "oak", charter=strict.id)
    edit = make_edit(writer, post, "a long beech", charter=strict.id)
    home.save([room, other, *filling, strict, post, edit])
    assert found(home, "beech") == []
    home.save([late_one])
    assert found(home, "beech") == [post.id]


# -- texts -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "a\U00010efd\u0301",  # a mark of Unicode 15: refused by Python 3.12 alone
        "a\U0001e4ec\u0323\u0301",
        "a\u0897\u0301",  # of Unicode 16
    ],
)
def test_marks_that_a_later_unicode_knows_part_no_members(text: str) -> None:
    """What one release of Python takes for NFC, all do: else members with different ones would
    refuse each other's records, and blame each other for them."""
    assert is_nfc(text)
    assert pack([text])
    assert kinds.read_post(text.encode()).text == text


def test_what_any_unicode_calls_nfc_is_nfc_here() -> None:
    odd = [chr(code) for code in range(0x300, 0x110000) if unicodedata.combining(chr(code))]
    for mark in odd:
        text = unicodedata.normalize("NFC", f"q{mark}\u0301o{mark}\u0323\u0301")
        old = unicodedata.ucd_3_2_0
        known = "".join(one if old.category(one) != "Cn" else "\ufffd" for one in text)
        assert unicodedata.is_normalized("NFC", known)


@pytest.mark.parametrize("text", ["e\u0301", "q\u0301\u0323", "\u212b", "a\U00010efde\u0301"])
def test_what_no_unicode_calls_nfc_is_refused(text: str) -> None:
    assert not is_nfc(text)
    with pytest.raises(Refused):
        pack([text])


# -- room on the disk ------------------------------------------------------------------------------


def test_bodies_that_nobody_sees_take_no_room_from_others(home: Home) -> None:
    """A header may claim a long body and come without one, by its removal. What is kept of a room
    goes by bytes: such claims would put out what others wrote."""
    author, hostile = Author("a"), Author("b")
    room = make_room(author)
    post = make_post(author, room, "honest")
    claims = []
    for _ in range(20):
        long = make_post(hostile, room, "x" * 32_000)
        claims.append(replace(long, body=None, removal=make_removal(hostile, long)))
    home.save([room, post, *claims])
    ((_, size),) = home.store.spaces.sizes(room.id)
    assert size < 20 * 1_024


def test_sizes_are_of_what_is_here_whenever_a_body_was_taken_away(home: Home) -> None:
    author = Author("a")
    room = make_room(author)
    posts = [make_post(author, room, "x" * 1_000) for _ in range(4)]
    gone = [make_removal(author, post) for post in posts[:3]]
    home.save([room, posts[0], gone[0]])  # in one batch
    home.save([posts[1]])
    home.save([gone[1]])  # after it
    home.save([gone[2]])
    home.save([posts[2], posts[3]])  # before it
    real = "SELECT sum(length(header) + coalesce(length(body), 0)) FROM records WHERE space = ?"
    (expected,) = home.store.connection.execute(real, (room.id,)).fetchone()
    assert sum(size for _, size in home.store.spaces.sizes(room.id)) == expected
    home.save([make_post(author, make_room(author, "other"))])
    home.store.drop_before(room.id, 2**31)
    (expected,) = home.store.connection.execute(real, (room.id,)).fetchone()
    assert sum(size for _, size in home.store.spaces.sizes(room.id)) == (expected or 0)
