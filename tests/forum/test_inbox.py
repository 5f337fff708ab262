"""What concerns a member is in its inbox once, in the order of arrival."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from permesh.forum import inbox, marks, rules
from permesh.forum.inbox import Item
from permesh.forum.judgements import judge
from permesh.forum.sight import Onlooker, Sight
from permesh.records import Record
from permesh.store import Store
from tests.forum.own_side import ME, edit, label, open_store, post, react, remove, room
from tests.simulator import START_MS, Author, address


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = open_store(tmp_path / "permesh.db")
    yield opened
    opened.close()


def sight(store: Store, standing: float = 0.0) -> Sight:
    onlooker = Onlooker(ME, lambda _: standing, lambda _: False, lambda _: None)
    return Sight(store.connection, onlooker)


def read(store: Store, unread: bool = False, standing: float = 0.0) -> list[Item]:
    page = inbox.page(sight(store, standing), limit=100, unread=unread)
    assert page.below is None
    return page.items


def told(store: Store) -> list[tuple[str, bytes]]:
    return [(item.kind, item.post) for item in read(store)]


def unread(store: Store) -> int:
    return inbox.count_unread(sight(store))


def test_answers_mentions_quotes_and_reactions_come_newest_first(store: Store) -> None:
    me, other = Author("me"), Author("other")
    lobby = room(other)
    mine = post(me, lobby, "mine")
    store.save([lobby, mine, post(other, lobby, "nothing to do with me")], 1)
    records = [
        post(other, lobby, "an answer", mine, mentions=(ME,), quotes=(mine.id,)),
        post(other, lobby, "you", mentions=(ME, address("x")), quotes=(mine.id,)),
        post(other, lobby, "said", quotes=(mine.id,)),
        react(other, mine, "🎉"),
    ]
    for at, record in enumerate(records, 2):
        store.save([record], at)
    answer, mention, quote, reaction = records
    items = read(store)
    assert [(item.kind, item.post, item.at_ms, item.emoji) for item in items] == [
        ("reaction", mine.id, 5, "🎉"), ("quote", quote.id, 4, ""),
        ("mention", mention.id, 3, ""), ("reply", answer.id, 2, ""),
    ]  # fmt: skip
    assert {item.author for item in items} == {other.address}
    assert reaction.id not in [item.post for item in items]


def test_a_member_does_not_concern_itself(store: Store) -> None:
    me = Author("me")
    lobby = room(me)
    mine = post(me, lobby, mentions=(ME,))
    first = [react(me, mine), label(me, mine)]
    store.save([lobby, *first, mine, post(me, lobby, "more", mine, quotes=(mine.id,))], 1)
    assert read(store) == []


def test_an_edit_adds_and_takes_back(store: Store) -> None:
    other = Author("other")
    lobby = room(other)
    one, two = post(other, lobby, "one"), post(other, lobby, "two", mentions=(ME,))
    store.save([lobby, one, two], 1)
    store.save([edit(other, one, "one for you", (ME,)), edit(other, two, "two, still", (ME,))], 2)
    assert [(item.kind, item.post, item.at_ms) for item in read(store)] == [
        ("mention", one.id, 2), ("mention", two.id, 1),
    ]  # fmt: skip
    store.save([edit(other, one, "for nobody")], 3)
    assert told(store) == [("mention", two.id)]
    store.save([edit(Author("thief"), two, "not the author's")], 4)
    assert told(store) == [("mention", two.id)]


def test_a_reaction_taken_back_is_gone_and_one_made_anew_arrives_anew(store: Store) -> None:
    me, other = Author("me"), Author("other")
    lobby = room(me)
    mine = post(me, lobby)
    store.save([lobby, mine, react(other, mine)], 1)
    assert told(store) == [("reaction", mine.id)]
    store.save([react(other, mine, on=False)], 2)
    assert read(store) == []
    store.save([react(other, mine)], 3)
    assert [item.at_ms for item in read(store)] == [3]


def test_what_is_removed_or_not_heard_is_gone(store: Store) -> None:
    me, other, loud = Author("me"), Author("other"), Author("loud")
    lobby = room(me)
    mine, own = post(me, lobby), post(me, lobby)
    answer, noise = post(other, lobby, "a", mine), post(loud, lobby, "b", mine)
    store.save([lobby, mine, own, answer, noise, react(other, own)], 1)
    assert told(store) == [("reaction", own.id), ("reply", noise.id), ("reply", answer.id)]
    for heard in ("muted", "blocked"):
        store.change_views(lambda cursor, heard=heard: judge(cursor, loud.address, heard=heard))
        assert told(store) == [("reaction", own.id), ("reply", answer.id)]
    store.save([remove(other, answer), remove(me, own)], 2)
    assert read(store) == []
    store.change_views(lambda cursor: judge(cursor, loud.address, heard="yes"))
    assert told(store) == [("reply", noise.id)]


def test_own_posts_that_rules_hide_are_told(store: Store) -> None:
    me, other = Author("me"), Author("other")
    lobby = room(other, post_bytes=10)
    long = post(me, lobby, "far too long for this room")
    store.save([lobby, long], 1)
    store.save([post(other, lobby, "you", mentions=(ME,))], 2)
    assert [(item.kind, item.at_ms) for item in read(store)] == [("mention", 2), ("hidden", 1)]
    assert unread(store) == 2


def test_own_posts_that_no_longer_meet_the_rooms_standing_are_told(store: Store) -> None:
    me, other = Author("me"), Author("other")
    lobby = room(other, who="standing", standing=5_000)
    mine = post(me, lobby)
    store.save([lobby, mine], 1)
    assert [(item.kind, item.post) for item in read(store, standing=4.0)] == [("hidden", mine.id)]
    assert read(store, standing=5.0) == []


def test_what_was_hidden_long_ago_is_not_looked_for(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inbox, "MAX_OWN", 2)
    me, other = Author("me"), Author("other")
    lobby = room(other, post_bytes=10)
    posts = [post(me, lobby, f"far too long {n}") for n in range(3)]
    store.save([lobby, *posts], 1)
    assert told(store) == [("hidden", one.id) for one in (posts[2], posts[1])]


@pytest.mark.parametrize("value", rules.HIDING)
def test_own_posts_that_labels_hide_are_told_when_the_label_comes(store: Store, value: str) -> None:
    me, steward, stranger = Author("me"), Author("steward"), Author("stranger")
    lobby = room(steward)
    one, two = post(me, lobby, "one"), post(me, lobby, "two")
    store.save([lobby, one, two], 1)
    store.save([label(stranger, one, value), label(steward, one, "pin")], 2)
    assert read(store) == []  # neither hides it here
    store.save([label(steward, two, value), label(stranger, two, value)], 3)
    assert [(item.kind, item.post, item.author, item.at_ms) for item in read(store)] == [
        ("hidden", two.id, steward.address, 3)
    ]
    store.change_views(lambda cursor: judge(cursor, stranger.address, labels=True))
    assert told(store) == [("hidden", two.id), ("hidden", one.id)]
    retractions = [label(author, two, value, on=False) for author in (steward, stranger)]
    store.save(retractions, 4)
    assert told(store) == [("hidden", one.id)]


def test_others_posts_that_labels_hide_are_not_told(store: Store) -> None:
    steward, other = Author("steward"), Author("other")
    lobby = room(steward)
    spam = post(other, lobby, "buy", mentions=(ME,))
    store.save([lobby, spam], 1)
    assert told(store) == [("mention", spam.id)]
    store.save([label(steward, spam)], 2)
    assert told(store) == []


def test_a_home_that_hears_its_own_posts_last_has_the_same_inbox(tmp_path: Path) -> None:
    me, other = Author("me"), Author("other")
    lobby = room(other)
    mine = post(me, lobby)
    others = [
        post(other, lobby, "a", mine), post(other, lobby, "b", quotes=(mine.id,)),
        react(other, mine), label(other, mine), post(other, lobby, "c", mentions=(ME,)),
    ]  # fmt: skip
    found = []
    for number, records in enumerate(([lobby, mine, *others], [*others, mine, lobby])):
        store = open_store(tmp_path / f"{number}.db")
        for record in records:
            store.save([record], 1)
        found.append(sorted(told(store)))
        before = store.connection.execute("SELECT * FROM forum_inbox").fetchall()
        store.change_views(lambda cursor: cursor.execute("DELETE FROM views"))
        store.close()
        store = open_store(tmp_path / f"{number}.db")
        assert store.connection.execute("SELECT * FROM forum_inbox").fetchall() == before
        store.close()
    assert found[0] == found[1]
    assert len(found[0]) == 5


def test_pages_join_and_what_is_unread_is_counted(store: Store) -> None:
    me, other = Author("me"), Author("other")
    lobby = room(other, post_bytes=10)
    store.save([lobby], 1)
    hidden = [post(me, lobby, f"much too long {n}") for n in range(3)]
    mentions = [post(other, lobby, f"{n}", mentions=(ME,)) for n in range(9)]
    for pair in zip(mentions[:3], hidden, strict=True):
        store.save(pair, 2)
    store.save(mentions[3:6], 3)
    store.change_views(lambda cursor: marks.mark(cursor, marks.INBOX))
    store.save(mentions[6:], 4)
    assert unread(store) == 3
    assert [item.post for item in read(store, unread=True)] == [r.id for r in mentions[:5:-1]]
    seen: list[Item] = []
    below = None
    while True:
        page = inbox.page(sight(store), limit=5, below=below)
        seen += page.items
        below = page.below
        if below is None:
            break
        assert len(page.items) == 5
    assert seen == read(store)
    assert len(seen) == 12


def test_what_is_dropped_is_forgotten(store: Store) -> None:
    me, other = Author("me"), Author("other")
    lobby = room(me)
    mine = post(me, lobby)
    day_ms = 86_400_000
    me.now_ms = other.now_ms = START_MS + 3 * day_ms
    kept = post(other, lobby, "later", mine)
    reaction = react(other, mine)
    store.save([lobby, mine, kept, reaction, post(me, lobby), post(other, lobby)], 1)
    assert told(store) == [("reaction", mine.id), ("reply", kept.id)]
    store.drop_before(lobby.id, START_MS // day_ms + 1)
    assert store.has(reaction.id)
    assert not store.has(mine.id)
    assert told(store) == [("reply", kept.id)]
    assert store.connection.execute("SELECT count(*) FROM forum_inbox").fetchone() == (1,)
    store.drop_before(lobby.id, START_MS // day_ms + 9)
    assert told(store) == []


def test_another_member_has_another_inbox(tmp_path: Path, store: Store) -> None:
    other = Author("other")
    lobby = room(other)
    store.save([lobby, post(other, lobby, mentions=(ME,))], 1)
    assert len(read(store)) == 1
    store.close()
    again = open_store(tmp_path / "permesh.db", address("someone"))
    assert again.connection.execute("SELECT count(*) FROM forum_inbox").fetchone() == (0,)
    again.close()


def test_only_records_that_count_concern_anyone(store: Store) -> None:
    me, other = Author("me"), Author("other")
    lobby: Record = room(me)
    mine = post(me, lobby)
    store.save([lobby, mine], 1)
    strange = [
        react(other, post(other, lobby)),
        edit(other, mine, "not the author's", (ME,)),
        label(other, mine, on=False),
    ]
    store.save(strange, 2)
    assert told(store) == []
