"""Old records go, what is pinned stays, and nothing that was dropped comes back."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import trio

from permesh.async_store import AsyncStore
from permesh.forum import following, kinds
from permesh.forum.charter import Charter
from permesh.forum.following import Keep
from permesh.forum.kinds import REMOVALS, Label
from permesh.forum.retention import Retention, pinned
from permesh.records import Record
from permesh.spaces import DAY_MS
from permesh.store import Store
from permesh.stored import Views
from tests.simulator import START_MS, Author

from .people import ME, make_edit, make_post, make_room

NOW = START_MS + 40 * DAY_MS
UNLIMITED = Keep()


Make = Callable[[Author, Record, list[Record]], list[Record]]
Test = Callable[["Kept"], Awaitable[None]]


class Kept:
    """A room with a post a day for forty days, each by another author, in one member's store."""

    def __init__(self, store: AsyncStore, room: Record, posts: list[Record]) -> None:
        self.store, self.room, self.posts = store, room, posts
        self.raised = 0

    async def floors_rose(self) -> None:
        self.raised += 1

    async def tidy(self, default: Keep = UNLIMITED) -> int:
        return await Retention(
            self.store,
            default=default,
            now_ms=lambda: NOW,
            floors_rose=self.floors_rose,
            sweep=trio.lowlevel.checkpoint,
        ).tidy()

    async def left(self) -> list[int]:
        """The days whose posts are still here."""
        missing = set(await self.store.read(Store.missing, [post.id for post in self.posts]))
        return [day for day, post in enumerate(self.posts) if post.id not in missing]

    async def floor(self) -> int:
        rooms = await self.store.read(lambda store: following.followed(store.connection))
        return rooms[self.room.id]


def in_room(path: Path, test: Test, charter: Charter | None = None, *more: Make) -> None:
    async def main() -> None:
        steward = Author("steward")
        room = make_room(steward, "lobby", charter=charter) if charter else make_room(steward)
        posts, others = [], []
        for day in range(40):
            author = Author(f"a{day}")
            posts.append(make_post(author, room, "x" * 30_000, created_ms=START_MS + day * DAY_MS))
            # Nobody's last record is dropped: their chains go on from there.
            others.append(make_post(author, room, "later", created_ms=NOW))
        store = await AsyncStore.open(path / "kept.db", Views(ME).all, REMOVALS)
        try:
            await store.save([room, *posts, *others], NOW)
            for make in more:
                await store.save(make(steward, room, posts), NOW)
            await test(Kept(store, room, posts))
        finally:
            await store.aclose()

    trio.run(main)


def pin(day: int, on: bool = True, by: str | None = None) -> Make:
    def make(steward: Author, room: Record, posts: list[Record]) -> list[Record]:
        author = Author(by) if by else steward
        body = kinds.label_body(Label(False, posts[day].id, "pin", on))
        return [author.write(body, kinds.LABEL, room.id, parents=(posts[day].id,), created_ms=NOW)]

    return make


def test_without_a_limit_everything_stays(tmp_path: Path) -> None:
    async def test(kept: Kept) -> None:
        assert await kept.tidy() == 0
        assert len(await kept.left()) == 40
        assert kept.raised == 0

    in_room(tmp_path, test)


def test_what_is_older_than_the_charter_keeps_goes_and_stays_away(tmp_path: Path) -> None:
    async def test(kept: Kept) -> None:
        dropped = await kept.tidy()
        left = await kept.left()
        assert dropped == 40 - len(left)
        assert left == list(range(31, 40))
        floor = await kept.floor()
        assert floor == NOW // DAY_MS - 9
        assert kept.raised == 1
        assert await kept.tidy() == 0
        assert kept.raised == 1

    in_room(tmp_path, test, Charter("p", keep_days=10, stewards=(Author("steward").address,)))


def test_a_room_that_grows_too_large_lets_go_of_its_oldest_days(tmp_path: Path) -> None:
    async def test(kept: Kept) -> None:
        await kept.tidy(Keep(megabytes=2))
        assert len(await kept.left()) == 40  # 30.3 kB each, in all 1.2 MB
        await kept.tidy(Keep(megabytes=1))
        left = await kept.left()
        assert left == list(range(40 - len(left), 40))
        assert 30 <= len(left) < 33

    in_room(tmp_path, test)


def test_a_members_own_wish_may_be_shorter_and_never_longer_than_the_charter(
    tmp_path: Path,
) -> None:
    async def test(kept: Kept) -> None:
        def wish(days: int) -> object:
            return kept.store.write(
                Store.change_views,
                lambda cursor: following.follow(cursor, kept.room.id, keep_days=days),
            )

        await wish(30)
        await kept.tidy()
        assert await kept.left() == list(range(31, 40))
        await wish(3)
        await kept.tidy()
        assert await kept.left() == [38, 39]

    in_room(tmp_path, test, Charter("p", keep_days=10, stewards=(Author("steward").address,)))


def test_what_a_steward_pinned_stays_and_what_another_pinned_does_not(tmp_path: Path) -> None:
    async def test(kept: Kept) -> None:
        await kept.tidy()
        assert await kept.left() == [3, *range(31, 40)]
        found = await kept.store.read(lambda store: pinned(store.connection, kept.room.id))
        assert found == {kept.posts[3].id}

    charter = Charter("p", keep_days=10, stewards=(Author("steward").address,))
    in_room(tmp_path, test, charter, pin(3), pin(5, by="stranger"), pin(7), pin(7, on=False))


def test_of_a_pinned_post_what_it_says_now_stays_too(tmp_path: Path) -> None:
    edits: list[Record] = []

    def edit(_steward: Author, _room: Record, posts: list[Record]) -> list[Record]:
        author = Author("a3", seq=2, prev=b"\x01" * 32)
        edits.append(make_edit(author, posts[3], "changed", created_ms=START_MS + 4 * DAY_MS))
        return edits

    async def test(kept: Kept) -> None:
        await kept.tidy()
        assert await kept.store.read(Store.missing, [edits[0].id]) == []

    charter = Charter("p", keep_days=10, stewards=(Author("steward").address,))
    in_room(tmp_path, test, charter, edit, pin(3))
