"""Rooms made by the thousand, and charters on which everything of a room depends."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from permesh.forum import following, rules
from tests.forum.people import make_room
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
