"""Which charter is in force, by which a post is judged, and what its rules say."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from permesh.forum import charter as rules_of
from permesh.forum import charters, pages, rules
from permesh.forum.charter import Charter, breach, breach_of_standing, explain
from permesh.forum.kinds import File
from permesh.records import Record
from permesh.store import Store
from tests.simulator import START_MS, Author

from .people import Eyes, make_charter, make_post, make_room, open_store

ANNA, BERT, CARL = b"a" * 20, b"b" * 20, b"c" * 20
HOUR_MS = 3_600_000


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = open_store(tmp_path / "permesh.db")
    yield opened
    opened.close()


def in_force(store: Store, room: Record) -> bytes:
    return charters.in_force(store.connection, room.id).id


def counting(store: Store, room: Record) -> list[int]:
    return [row[3] for row in charters.counting(store.connection, room.id, 100)]


def judged(store: Store, post: Record) -> tuple[int, str, str]:
    """The version by which a post is judged, why it is hidden, and by which rule."""
    row = store.connection.execute(
        "SELECT c.version, p.hidden, p.rule FROM forum_posts AS p"
        " JOIN forum_charters AS c ON c.id = p.judged WHERE p.id = ?",
        (post.id,),
    ).fetchone()
    return tuple(row)


# -- the rules


@pytest.mark.parametrize(
    ("charter", "author", "text", "file", "rule"),
    [
        (Charter(""), CARL, 32_768, 0, ""),
        (Charter("", who="members", members=(ANNA,), stewards=(BERT,)), ANNA, 1, 0, ""),
        (Charter("", who="members", members=(ANNA,), stewards=(BERT,)), BERT, 1, 0, ""),
        (Charter("", who="members", members=(ANNA,), stewards=(BERT,)), CARL, 1, 0, "members"),
        (Charter("", members=(ANNA,)), CARL, 1, 0, ""),
        (Charter("", post_bytes=5), ANNA, 5, 0, ""),
        (Charter("", post_bytes=5), ANNA, 6, 0, "post_bytes"),
        (Charter("", attachment_bytes=5), ANNA, 1, 5, ""),
        (Charter("", attachment_bytes=5), ANNA, 1, 6, "attachment_bytes"),
    ],
)
def test_what_a_post_breaks_by_itself(
    charter: Charter, author: bytes, text: int, file: int, rule: str
) -> None:
    assert breach(charter, author, text, file) == rule


def test_what_depends_on_how_an_author_stands() -> None:
    standing = Charter("", who="standing", standing=1500, stewards=(BERT,))
    assert breach_of_standing(standing, ANNA, 1.4, True) == "standing"
    assert breach_of_standing(standing, ANNA, 1.5, False) == ""
    assert breach_of_standing(standing, BERT, 0.0, False) == ""
    founders = Charter("", who="founders", stewards=(BERT,))
    assert breach_of_standing(founders, ANNA, 9.0, False) == "founders"
    assert breach_of_standing(founders, ANNA, 0.0, True) == ""
    assert breach_of_standing(Charter(""), ANNA, 0.0, False) == ""


def test_every_rule_is_explained_with_its_version() -> None:
    charter = Charter("", standing=1500, post_bytes=10, posts_per_hour=3, attachment_bytes=7)
    for rule in ("members", "standing", "founders", "post_bytes", "attachment_bytes",
                 "posts_per_hour"):  # fmt: skip
        sentence = explain(rule, charter, 4, "lobby")
        assert sentence.startswith("The charter of lobby, version 4, ")
        assert sentence.endswith(".")
    assert "a standing of 1.5 " in explain(rules_of.STANDING, charter, 4, "lobby")


# -- versions


def test_a_version_counts_if_a_steward_of_the_one_before_signed_it(store: Store) -> None:
    anna, bert = Author("anna"), Author("bert")
    room = make_room(anna)
    seized = make_charter(bert, room, room, 2)
    second = make_charter(anna, room, room, 2, stewards=(bert.address,))
    skipped = make_charter(bert, room, second, 4)
    store.save([room, seized, second, skipped], START_MS)
    assert counting(store, room) == [2, 1]
    assert in_force(store, room) == second.id
    # Who was a steward is none any more.
    again = make_charter(anna, room, second, 3)
    third = make_charter(bert, room, second, 3)
    store.save([again, third], START_MS)
    assert counting(store, room) == [3, 2, 1]
    assert in_force(store, room) == third.id


def test_of_two_at_one_version_the_lower_id_is_in_force_until_one_goes_on(store: Store) -> None:
    anna = Author("anna")
    room = make_room(anna)
    two = [make_charter(anna, room, room, 2, purpose=f"{n}") for n in range(2)]
    low, high = sorted(two, key=lambda record: record.id)
    store.save([room, high], START_MS)
    assert in_force(store, room) == high.id
    store.save([low], START_MS)
    assert in_force(store, room) == low.id
    third = make_charter(anna, room, high, 3)
    store.save([third], START_MS)
    assert in_force(store, room) == third.id
    assert counting(store, room) == [3, 2, 2, 1]


def test_versions_may_come_before_what_they_follow(store: Store) -> None:
    anna = Author("anna")
    chain = [make_room(anna)]
    for number in range(2, 30):
        chain.append(make_charter(anna, chain[0], chain[-1], number))
    for record in reversed(chain):
        store.save([record], START_MS)
    assert in_force(store, chain[0]) == chain[-1].id
    assert counting(store, chain[0]) == list(range(29, 0, -1))


def test_a_version_of_another_room_counts_nowhere(store: Store) -> None:
    anna = Author("anna")
    one, other = make_room(anna, "one"), make_room(anna, "other")
    astray = make_charter(anna, one, other, 2)
    store.save([one, other, astray], START_MS)
    assert counting(store, one) == counting(store, other) == [1]


def test_who_floods_versions_over_the_quota_changes_nothing_more(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules, "CHARTERS_PER_SPAN", 3)
    anna = Author("anna")
    chain = [make_room(anna)]
    for number in range(2, 10):
        chain.append(make_charter(anna, chain[0], chain[-1], number))
    store.save(chain[::-1], START_MS)
    assert counting(store, chain[0]) == [4, 3, 2, 1]


def test_a_forked_steward_does_not_take_the_room_with_it(store: Store) -> None:
    anna, bert = Author("anna"), Author("bert")
    both = tuple(sorted((anna.address, bert.address)))
    room = make_room(anna, charter=Charter("p", stewards=both))
    second = make_charter(bert, room, room, 2, who="members", stewards=both)
    post = make_post(anna, room, created_ms=START_MS + 100)
    store.save([room, second, post], START_MS)
    assert in_force(store, room) == second.id
    twin = bert.write(b"twin", seq=0, prev=b"")
    store.save([twin], START_MS)
    assert in_force(store, room) == room.id
    assert judged(store, post) == (1, "", "")


# -- by which a post is judged


def versions(store: Store, *limits: dict[str, Any]) -> tuple[Author, list[Record]]:
    """A room whose charter changes every day; a limit for each version."""
    anna = Author("anna")
    chain = [make_room(anna, charter=Charter("p", stewards=(anna.address,), **limits[0]))]
    for number, limit in enumerate(limits[1:], 2):
        at = START_MS + (number - 1) * 24 * HOUR_MS
        chain.append(make_charter(anna, chain[0], chain[-1], number, created_ms=at, **limit))
    store.save(chain, START_MS)
    return anna, chain


def test_a_post_is_judged_by_what_was_in_force_at_its_date(store: Store) -> None:
    _, (room, *_) = versions(store, {}, {"post_bytes": 4}, {})
    bert = Author("bert")
    days = [make_post(bert, room, created_ms=START_MS + day * 24 * HOUR_MS + 5)
            for day in (-1, 0, 1, 2)]  # fmt: skip
    store.save(days, START_MS)
    assert [judged(store, post) for post in days] == [
        (1, "", ""), (1, "", ""), (2, "rule", "post_bytes"), (3, "", ""),
    ]  # fmt: skip


def test_a_named_version_holds_for_an_hour_after_the_next(store: Store) -> None:
    _, (room, _) = versions(store, {}, {"post_bytes": 4})
    bert, change = Author("bert"), START_MS + 24 * HOUR_MS
    at = [change - 1, change + HOUR_MS - 1, change + HOUR_MS]
    posts = [make_post(bert, room, charter=room.id, created_ms=when) for when in at]
    store.save(posts, START_MS)
    assert [judged(store, post)[0] for post in posts] == [1, 1, 2]


def test_who_names_a_newer_version_is_judged_by_it(store: Store) -> None:
    _, (room, second) = versions(store, {"post_bytes": 4}, {})
    bert = Author("bert")
    early = make_post(bert, room, charter=second.id, created_ms=START_MS + 5)
    strange = make_post(bert, room, charter=b"?" * 32, created_ms=START_MS + 5)
    store.save([early, strange], START_MS)
    assert judged(store, early) == (2, "", "")
    assert judged(store, strange) == (1, "rule", "post_bytes")


def test_a_version_that_comes_later_judges_what_is_here(store: Store) -> None:
    anna, bert = Author("anna"), Author("bert")
    room = make_room(anna)
    second = make_charter(anna, room, room, 2, post_bytes=4, created_ms=START_MS + HOUR_MS)
    before = make_post(bert, room, created_ms=START_MS + HOUR_MS - 1)
    after = make_post(bert, room, created_ms=START_MS + HOUR_MS)
    named = make_post(bert, room, charter=second.id, created_ms=START_MS)
    store.save([before, after, named, room], START_MS)
    assert {judged(store, post)[0] for post in (before, after, named)} == {1}
    store.save([second], START_MS)
    assert judged(store, before) == (1, "", "")
    assert judged(store, after) == judged(store, named) == (2, "rule", "post_bytes")


def test_a_charter_that_is_dated_back_holds_no_earlier_than_what_it_follows(store: Store) -> None:
    anna, (room, second) = versions(store, {}, {})
    back = make_charter(anna, room, second, 3, post_bytes=4, created_ms=START_MS - HOUR_MS)
    post = make_post(Author("bert"), room, created_ms=START_MS + 5)
    store.save([back, post], START_MS)
    assert in_force(store, room) == back.id
    assert judged(store, post) == (1, "", "")


def test_of_an_author_as_many_posts_an_hour_as_the_charter_allows(store: Store) -> None:
    _, (room,) = versions(store, {"posts_per_hour": 2})
    bert, carl = Author("bert"), Author("carl")
    hour = START_MS - START_MS % HOUR_MS
    posts = [make_post(bert, room, f"{n}", created_ms=hour + n) for n in range(4)]
    later = make_post(bert, room, created_ms=hour + HOUR_MS)
    other = make_post(carl, room, created_ms=hour + 1)
    for post in (*reversed(posts), later, other):
        store.save([post], START_MS)
    assert [judged(store, post)[2] for post in posts] == [
        "",
        "",
        "posts_per_hour",
        "posts_per_hour",
    ]
    assert judged(store, later) == judged(store, other) == (1, "", "")


def test_files_are_measured_and_edits_are_judged_too(store: Store) -> None:
    _, (room,) = versions(store, {"attachment_bytes": 10, "post_bytes": 5})
    bert = Author("bert")
    heavy = make_post(bert, room, "x", files=(File(b"f" * 32, 11, "a"),))
    light = make_post(bert, room, "x", files=(File(b"f" * 32, 10, "a"),))
    store.save([heavy, light], START_MS)
    assert judged(store, heavy) == (1, "rule", "attachment_bytes")
    assert judged(store, light) == (1, "", "")


def test_the_author_sees_its_hidden_post_and_which_rule_hides_it(store: Store) -> None:
    _, (room, _) = versions(store, {}, {"post_bytes": 4})
    post = make_post(Author("bert"), room, created_ms=START_MS + 25 * HOUR_MS)
    store.save([post], START_MS)
    bert, carl = Eyes(me=Author("bert").address), Eyes(me=Author("carl").address)
    for eyes, number in ((bert, 1), (carl, 0)):
        sight = eyes.sight(store)
        page = pages.posts(sight, room.id, None, 10)
        assert len(page.ids) == number
    (shown,) = bert.reader().show_posts(store.connection, [post.id])
    assert (shown.hidden, shown.why, shown.version) == (
        "rule", "The charter of lobby, version 2, allows 4 bytes of text in a post.", 2,
    )  # fmt: skip
