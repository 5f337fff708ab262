"""Whatever order records come in, and however they are batched, the tables say the same."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from permesh.forum import rules
from permesh.forum.charter import Charter
from permesh.forum.views import ForumView
from permesh.records import Record
from permesh.store import Store
from tests.simulator import START_MS, Author

from .people import (
    make_charter,
    make_edit,
    make_label,
    make_post,
    make_reaction,
    make_removal,
    make_room,
    open_store,
    rebuild,
    tables,
)  # fmt: skip

HOUR_MS = rules.RATE_SPAN_MS


@pytest.fixture(autouse=True)
def _small_quotas(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("POSTS", "EDITS", "REACTIONS", "LABELS", "CHARTERS"):
        monkeypatch.setattr(rules, f"{name}_PER_SPAN", 6)
    monkeypatch.setattr(rules, "ROOMS_PER_SPAN", 2)


def a_mesh(rng: Random, size: int) -> tuple[list[Record], dict[bytes, bytes]]:
    """Records of a few authors, some of whom break rules or fork, and repairs of the latter."""
    authors = [Author(name) for name in "abc"]
    for author in authors:
        author.now_ms = START_MS - START_MS % HOUR_MS
    records: list[Record] = []
    rooms: list[Record] = []
    versions: dict[bytes, list[tuple[Record, int]]] = {}
    posts: list[Record] = []
    edits: dict[bytes, list[Record]] = {}
    for _ in range(size):
        author = rng.choice(authors)
        author.now_ms += rng.choice([0, 10, HOUR_MS // 3])
        fields = {}
        if rng.random() < 0.05 and author.seq > 1:
            # A twin of something written before, and what follows it.
            own = [r for r in records if r.header.author == author.address]
            before = rng.choice(own)
            fields = {"seq": before.header.seq + 1, "prev": before.id}
        what = rng.random()
        if not rooms or what < 0.08:
            charter = Charter(
                "p", posts_per_hour=rng.choice([0, 2]), post_bytes=rng.choice([0, 4]),
                stewards=tuple(sorted(one.address for one in rng.sample(authors, 2))),
            )  # fmt: skip
            record = make_room(author, f"r{len(rooms)}", charter=charter, **fields)
            rooms.append(record)
            versions[record.id] = [(record, 1)]
        elif what < 0.2:
            room = rng.choice(rooms)
            before, number = rng.choice(versions[room.id])
            record = make_charter(
                author, room, before, number + rng.choice([1, 1, 1, 2]),
                who=rng.choice(["everyone", "members"]), posts_per_hour=rng.choice([0, 1, 3]),
                members=(authors[0].address,), attachment_bytes=5,
                stewards=tuple(sorted(one.address for one in rng.sample(authors, 2))),
                created_ms=author.now_ms + rng.choice([0, -HOUR_MS, HOUR_MS]), **fields,
            )  # fmt: skip
            versions[room.id].append((record, number + 1))
        elif not posts or what < 0.6:
            room = rng.choice(rooms)
            within = [post for post in posts if post.header.room == room.id]
            parent = rng.choice(within) if within and rng.random() < 0.7 else None
            if rng.random() < 0.6:
                fields |= {
                    "charter": rng.choice(versions[room.id])[0].id,
                    "mentions": (authors[1].address,),
                    "quotes": (parent.id,) if parent else (),
                }
            record = make_post(author, room, "x" * rng.choice([1, 9]), parent, **fields)
            posts.append(record)
        else:
            post = rng.choice(posts)
            if what < 0.72:
                record = make_edit(author, post, "y" * rng.choice([1, 9]), **fields)
                if record.header.author == post.header.author:
                    edits.setdefault(post.id, []).append(record)
            elif what < 0.78:
                record = make_removal(author, post, *edits.get(post.id, ())[:3], **fields)
            elif what < 0.9:
                record = make_reaction(author, post, on=rng.random() < 0.6, **fields)
            else:
                record = make_label(author, post, on=rng.random() < 0.6, **fields)
        records.append(record)
    repaired = {}
    for author in authors:
        if rng.random() < 0.6:
            own = [r for r in records if r.header.author == author.address]
            if own:
                repaired[author.address] = rng.choice(own).id
    return records, repaired


def filled(path: Path, records: list[Record], rng: Random, view: ForumView) -> Store:
    store = open_store(path, view)
    rest = list(records)
    while rest:
        size = rng.randint(1, 9)
        batch, rest = rest[:size], rest[size:]
        store.save(batch, START_MS)
    return store


@settings(
    max_examples=12, deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip
@given(seed=st.integers(0, 2**32), size=st.integers(5, 70))
def test_any_order_gives_the_same_tables(
    tmp_path_factory: pytest.TempPathFactory, seed: int, size: int
) -> None:
    rng = Random(seed)
    records, repaired = a_mesh(rng, size)
    directory = tmp_path_factory.mktemp("orders")
    # One member hears of the repairs at the end.
    known: dict[bytes, bytes] = {}
    late = ForumView(repaired=known.get)
    store = filled(directory / "first.db", records, rng, late)
    known.update(repaired)
    store.change_views(lambda cursor: late.refresh_authors(cursor, repaired))
    expected = tables(store)
    rebuild(store, late)
    assert tables(store) == expected
    store.close()
    view = ForumView(repaired=repaired.get)
    for number, order in enumerate((records[::-1], rng.sample(records, len(records)))):
        store = filled(directory / f"{number}.db", order, rng, view)
        assert tables(store) == expected
        rebuild(store, view)
        assert tables(store) == expected
        store.close()


@settings(
    max_examples=12, deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip
@given(seed=st.integers(0, 2**32), size=st.integers(20, 70))
def test_what_is_forgotten_leaves_what_a_rebuild_would(
    tmp_path_factory: pytest.TempPathFactory, seed: int, size: int
) -> None:
    rng = Random(seed)
    records, _ = a_mesh(rng, size)
    view = ForumView()
    store = filled(tmp_path_factory.mktemp("forget") / "permesh.db", records, rng, view)
    rooms = {record.header.room for record in records if record.header.room}
    days = sorted({record.header.created_ms // 86_400_000 for record in records})
    for room in sorted(rooms):
        while store.drop_before(room, rng.choice(days) + 1, limit=3):
            pass
    before = tables(store)
    rebuild(store, view)
    after = tables(store)
    del before["forum_clocks"], after["forum_clocks"]
    assert before == after
    store.close()
