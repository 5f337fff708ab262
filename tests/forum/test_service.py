"""The forum as a member uses it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from permesh import schema
from permesh.errors import PermeshError
from permesh.forum import rules
from permesh.forum.service import Forum
from permesh.forum.views import ForumView
from permesh.p2p.journal import Journal, Signing
from permesh.records import MAX_BODY_BYTES, Record
from permesh.store import AsyncStore
from tests.simulator import MESH, START_MS, Author, address, cheap_sign

ME = address("me")


class Desk:
    """One member's forum, and what its journal has told."""

    def __init__(self, store: AsyncStore) -> None:
        self.store = store
        self.saved: list[Record] = []
        self.now = START_MS
        journal = Journal(
            store, mesh=MESH, author=ME, signing=Signing(1, cheap_sign(ME)),
            now_ms=lambda: self.now, on_saved=self.saved.append,
        )  # fmt: skip
        self.forum = Forum(
            journal, store, describe=lambda agent: ("AGT-0001", agent.hex()[:4]),
            now_ms=lambda: self.now,
        )  # fmt: skip

    async def refused(self, call: Awaitable[object], code: str) -> None:
        before = len(self.saved)
        with pytest.raises(PermeshError) as caught:
            await call
        assert caught.value.code == code
        assert caught.value.remedy
        assert len(self.saved) == before  # nothing was signed


@asynccontextmanager
async def at_desk(directory: Path) -> AsyncIterator[Desk]:
    store = await AsyncStore.open(directory / "permesh.db", [ForumView()])
    try:
        yield Desk(store)
    finally:
        await store.aclose()


def run(directory: Path, main: Callable[[Desk], Awaitable[None]]) -> None:
    async def whole() -> None:
        async with at_desk(directory) as desk:
            await main(desk)

    trio.run(whole)


def test_make_a_room_post_reply_and_read(tmp_path: Path) -> None:
    async def main(desk: Desk) -> None:
        forum = desk.forum
        room = await forum.create_room("lobby", "for all")
        first = await forum.post("lobby", "hello\r\n")
        reply = await forum.post(room.id[:8], "hi", reply_to=first.id[:8])
        assert first == schema.Post(
            id=desk.saved[1].id.hex(), room=room.id, room_name="lobby", author="0x" + ME.hex(),
            author_number="AGT-0001", author_name=ME.hex()[:4], reply_to=None,
            created_ms=START_MS + 1, received_ms=START_MS, text="hello\n",
        )  # fmt: skip
        assert reply.reply_to == first.id
        assert (await forum.posts("lobby")).items == [first, reply]
        assert (await forum.posts("lobby", newest_first=True, limit=1)).items == [reply]
        assert (await forum.posts("lobby", thread=reply.id)).items == [first, reply]
        again = await forum.room("lobby")
        assert (await forum.rooms()).items == [again]
        assert (again.posts, again.last_post_ms) == (2, reply.created_ms)
        assert again.creator == "0x" + ME.hex()
        assert await forum.shown(desk.saved) == [again, first, reply]
        assert await forum.shown([Author("x").credential()]) == []

    run(tmp_path, main)


def test_what_cannot_be_written_is_said_and_not_signed(tmp_path: Path) -> None:
    async def main(desk: Desk) -> None:
        forum = desk.forum
        await forum.create_room("lobby")
        await forum.create_room("other")
        elsewhere = await forum.post("other", "hello")
        await desk.refused(forum.create_room("lobby"), "room.exists")
        await desk.refused(forum.create_room("Lobby"), "room.name")
        await desk.refused(forum.create_room("x", "p" * 2000), "room.purpose")
        await desk.refused(forum.post("nowhere", "hello"), "room.unknown")
        await desk.refused(forum.posts("nowhere"), "room.unknown")
        await desk.refused(forum.room("nowhere"), "room.unknown")
        await desk.refused(forum.post("lobby", " "), "post.empty")
        await desk.refused(forum.post("lobby", "x" * (MAX_BODY_BYTES + 1)), "post.too_long")
        await desk.refused(forum.post("lobby", "x", "abcdef"), "post.unknown_parent")
        await desk.refused(forum.post("lobby", "x", elsewhere.id), "post.unknown_parent")
        await desk.refused(forum.posts("lobby", thread="abcdef"), "post.unknown_parent")
        await desk.refused(forum.posts("lobby", cursor="?"), "cursor.invalid")
        await desk.refused(forum.rooms(cursor="?"), "cursor.invalid")

    run(tmp_path, main)


def test_a_post_of_32_kib_is_kept_whole(tmp_path: Path) -> None:
    async def main(desk: Desk) -> None:
        await desk.forum.create_room("lobby")
        text = "é" * (MAX_BODY_BYTES // 2)
        post = await desk.forum.post("lobby", text)
        assert post.text == text

    run(tmp_path, main)


def test_over_the_quota_a_member_is_told_before_it_signs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules, "POSTS_PER_SPAN", 2)
    monkeypatch.setattr(rules, "ROOMS_PER_SPAN", 1)

    async def main(desk: Desk) -> None:
        await desk.forum.create_room("lobby")
        await desk.forum.post("lobby", "one")
        await desk.forum.post("lobby", "two")
        await desk.refused(desk.forum.post("lobby", "three"), "forum.rate")
        await desk.refused(desk.forum.create_room("second"), "forum.rate")
        desk.now += rules.RATE_SPAN_MS
        assert (await desk.forum.post("lobby", "three")).text == "three"

    run(tmp_path, main)


def test_a_member_whose_chain_forked_is_told(tmp_path: Path) -> None:
    async def main(desk: Desk) -> None:
        await desk.forum.create_room("lobby")
        twin = Author("me").write(b"from a copied home")
        await desk.store.save([twin], START_MS)
        await desk.refused(desk.forum.create_room("second"), "forum.frozen")

    run(tmp_path, main)


def test_a_burst_of_posts_at_once_is_one_chain_in_order(tmp_path: Path) -> None:
    async def main(desk: Desk) -> None:
        await desk.forum.create_room("lobby")
        posted: list[schema.Post] = []

        async def post(number: int) -> None:
            posted.append(await desk.forum.post("lobby", f"{number}"))

        async with trio.open_nursery() as nursery:
            for number in range(60):
                nursery.start_soon(post, number)
        shown = (await desk.forum.posts("lobby")).items
        assert [item.id for item in shown] == [r.id.hex() for r in desk.saved[1:]]
        assert {item.id for item in posted} == {item.id for item in shown}

    run(tmp_path, main)
