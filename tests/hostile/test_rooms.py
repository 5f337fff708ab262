"""Rooms made by the thousand, and charters on which everything of a room depends."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from permesh.forum import following, reading, rules
from tests.forum.people import Desk, make_charter, make_edit, make_post, make_room, run
from tests.simulator import START_MS, Author

from .home import Home


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    home = Home(tmp_path)
    yield home
    home.store.close()


def test_a_thousand_rooms_of_one_name_cost_each_what_the_first_did(home: Home) -> None:
    author = Author("a")
    spans = [START_MS + number // 40 * rules.RATE_SPAN_MS for number in range(1_500)]
    rooms = [make_room(author, "lobby", created_ms=created_ms) for created_ms in spans]
    first = home.cost(lambda: home.save(rooms[:200]))
    home.save(rooms[200:1_300])
    last = home.cost(lambda: home.save(rooms[1_300:]))
    assert last < 3 * first
    assert len(following.followed(home.store.connection)) == following.FOLLOWED_OF_ONE


def test_a_charter_that_rules_as_the_last_one_did_settles_nothing_anew(home: Home) -> None:
    steward = Author("a")
    room = make_room(steward)
    home.save([room, *(make_post(steward, room) for _ in range(300))])
    same = make_charter(steward, room, room, 2, created_ms=START_MS + 1)
    strict = make_charter(steward, room, same, 3, created_ms=START_MS + 2, post_bytes=1)
    light = home.cost(lambda: home.save([same]))
    assert home.cost(lambda: home.save([strict])) > light
    hidden = "SELECT DISTINCT hidden, rule FROM forum_posts"
    assert home.store.connection.execute(hidden).fetchall() == [("rule", "post_bytes")]


def test_lists_of_versions_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each may be as long as a post, and an author writes as many as it likes."""
    monkeypatch.setattr(reading, "MAX_VERSIONS", 5)

    async def main(desk: Desk) -> None:
        author = Author("a")
        room = make_room(author)
        post = make_post(author, room, "first")
        edits = [make_edit(author, post, f"edit {number}") for number in range(20)]
        before, versions = room, []
        for number in range(2, 20):
            before = make_charter(author, room, before, number)
            versions.append(before)
        await desk.save(room, post, *edits, *versions)
        said = await desk.forum.versions(post.id.hex())
        assert [one.text for one in said.items] == ["first", *(f"edit {n}" for n in range(15, 20))]
        listed = await desk.forum.charters(room.id.hex())
        assert [one.version for one in listed.items] == [19, 18, 17, 16, 15]

    run(tmp_path, main)
