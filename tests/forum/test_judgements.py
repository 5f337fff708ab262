"""Whom this member hears, and whose labels count for it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from permesh.database import Database
from permesh.errors import PermeshError
from permesh.forum import judgements
from permesh.forum.judgements import Judged, Judges, count_stewards, judge, load

ONE, OTHER = b"1" * 20, b"2" * 20


@pytest.fixture
def cursor(tmp_path: Path) -> Iterator[sqlite3.Cursor]:
    with closing(Database(tmp_path / "permesh.db")) as database:
        yield database.connection.cursor()


def test_without_a_word_stewards_count_and_everyone_is_heard(cursor: sqlite3.Cursor) -> None:
    assert load(cursor.connection) == Judges(True, frozenset(), frozenset(), frozenset())


def test_a_judgement_changes_what_it_names_and_nothing_else(cursor: sqlite3.Cursor) -> None:
    assert judge(cursor, ONE, labels=True) == Judged(ONE, True, "yes")
    assert judge(cursor, ONE, heard="muted") == Judged(ONE, True, "muted")
    assert judge(cursor, OTHER, heard="blocked") == Judged(OTHER, False, "blocked")
    judges = load(cursor.connection)
    assert judges == Judges(True, frozenset({ONE}), frozenset({ONE}), frozenset({OTHER}))
    assert judges.unheard == {ONE, OTHER}
    judge(cursor, ONE, labels=False)
    judge(cursor, OTHER, heard="yes")
    assert judgements.judged(cursor.connection) == [Judged(ONE, False, "muted")]


def test_stewards_count_until_they_do_not(cursor: sqlite3.Cursor) -> None:
    for choice in (False, True, False):
        count_stewards(cursor, choice)
        assert load(cursor.connection).stewards is choice


def test_judgements_are_bounded_and_the_last_one_can_still_change(
    cursor: sqlite3.Cursor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judgements, "MAX_JUDGEMENTS", 1)
    judge(cursor, ONE, heard="muted")
    with pytest.raises(PermeshError) as caught:
        judge(cursor, OTHER, heard="muted")
    assert caught.value.code == "judgements.too_many"
    judge(cursor, ONE, heard="blocked")
    judge(cursor, ONE, heard="yes")
    judge(cursor, OTHER, heard="muted")
    assert load(cursor.connection).muted == {OTHER}
