"""What was typed is there again, and bounded."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from permesh.database import Database
from permesh.errors import PermeshError
from permesh.forum import drafts
from permesh.forum.drafts import Draft, load, save

ROOM, POST = b"r" * 32, b"p" * 32


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    with closing(Database(tmp_path / "permesh.db")) as database:
        yield database.connection


def test_there_is_one_draft_for_each_place_the_last_changed_first(
    connection: sqlite3.Connection,
) -> None:
    cursor = connection.cursor()
    own, reply = Draft(ROOM, None, "hello", 1), Draft(ROOM, POST, "I think", 2)
    save(cursor, own)
    save(cursor, reply)
    assert load(connection) == [reply, own]
    longer = Draft(ROOM, None, "hello all", 3)
    save(cursor, longer)
    assert load(connection) == [longer, reply]


def test_an_empty_text_takes_it_away(connection: sqlite3.Connection) -> None:
    cursor = connection.cursor()
    save(cursor, Draft(ROOM, POST, "I think", 1))
    save(cursor, Draft(ROOM, None, "", 2))
    assert len(load(connection)) == 1
    save(cursor, Draft(ROOM, POST, "", 2))
    assert load(connection) == []


@pytest.mark.parametrize(
    ("text", "code"),
    [("é" * (drafts.MAX_DRAFT_BYTES // 2 + 1), "drafts.too_long"), ("\ud800", "drafts.text")],
)
def test_what_cannot_be_kept_leaves_the_draft_as_it_was(
    connection: sqlite3.Connection, text: str, code: str
) -> None:
    cursor = connection.cursor()
    save(cursor, Draft(ROOM, None, "hello", 1))
    with pytest.raises(PermeshError) as caught:
        save(cursor, Draft(ROOM, None, text, 2))
    assert caught.value.code == code
    assert load(connection) == [Draft(ROOM, None, "hello", 1)]


def test_drafts_are_bounded_and_those_that_are_there_can_still_change(
    connection: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drafts, "MAX_DRAFTS", 2)
    cursor = connection.cursor()
    save(cursor, Draft(ROOM, None, "one", 1))
    save(cursor, Draft(ROOM, POST, "two", 2))
    save(cursor, Draft(ROOM, POST, "two and more", 3))
    with pytest.raises(PermeshError) as caught:  # the store's transaction undoes what it wrote
        save(cursor, Draft(POST, None, "three", 4))
    assert caught.value.code == "drafts.too_many"
