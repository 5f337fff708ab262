"""The member's own side, as the local API asks for it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio

from permesh import schema
from permesh.async_store import AsyncStore
from permesh.errors import NotFound, PermeshError
from permesh.forum import kinds
from permesh.forum.following import Followed, Keep
from permesh.forum.personal import Personal
from permesh.forum.reader import Reader
from permesh.forum.sight import Onlooker
from permesh.records import Record
from tests.forum.own_side import ME, label, post, react, room, views
from tests.simulator import START_MS, Author, address

OTHER = address("other")
NAMES = {"other": OTHER, "loud": address("loud"), "self": ME}


class Desk:
    """One member's own side over a real store."""

    def __init__(self, store: AsyncStore) -> None:
        self.store = store
        self.followed: list[tuple[bytes, Followed]] = []
        self.now_ms = START_MS
        onlooker = Onlooker(ME, lambda _: 0.0, lambda _: False, lambda _: None)
        by_address = {agent: name for name, agent in NAMES.items()}
        self.personal = Personal(
            store,
            me=ME,
            views=Reader(
                onlooker,
                lambda agent: ("AGT-0001", by_address.get(agent, "")),
                lambda _: None,
                lambda: self.now_ms,
            ),
            find_agent=NAMES.get,
            now_ms=lambda: self.now_ms,
            followed=lambda place, now: self.followed.append((place, now)),
        )

    async def save(self, *records: Record) -> None:
        await self.store.save(records, self.now_ms)

    async def found(self, query: str) -> list[str]:
        found = await self.personal.search(query)
        assert found.next_cursor is None
        return [item.text for item in found.items]


def run(folder: Path, main: Callable[[Desk], Awaitable[None]]) -> None:
    async def whole() -> None:
        store = await AsyncStore.open(folder / "permesh.db", views(), removals=kinds.REMOVALS)
        try:
            await main(Desk(store))
        finally:
            await store.aclose()

    trio.run(whole)


async def refused(call: Awaitable[object], code: str) -> None:
    with pytest.raises(PermeshError) as caught:
        await call
    assert caught.value.code == code
    assert caught.value.remedy


def test_following_is_told_and_shown(tmp_path: Path) -> None:
    async def main(desk: Desk) -> None:
        lobby = room(Author("other"))
        await desk.save(lobby)
        await desk.personal.take_part(lobby.id)
        await desk.personal.take_part(lobby.id)
        shown = await desk.personal.follow("lobby", schema.Follow(keep_days=7))
        assert shown.followed
        shown = await desk.personal.follow("lobby", schema.Follow(followed=False))
        assert not shown.followed
        assert desk.followed == [
            (lobby.id, Followed(True, Keep(), 0)),
            (lobby.id, Followed(True, Keep(7), 0)),
            (lobby.id, Followed(False, Keep(7), 0)),
        ]
        await refused(desk.personal.follow("nowhere", schema.Follow()), "room.unknown")

    run(tmp_path, main)


def test_marks(tmp_path: Path) -> None:
    async def main(desk: Desk) -> None:
        other = Author("other")
        lobby = room(other)
        posts = [post(other, lobby, f"{n}", mentions=(ME,)) for n in range(3)]
        await desk.save(lobby, *posts)
        first = schema.MarkRead(post=posts[0].id.hex()[:12])
        shown = await desk.personal.mark_read("lobby", first)
        assert (shown.unread, shown.mentions) == (2, 2)
        shown = await desk.personal.mark_read("lobby", schema.MarkRead())
        assert (shown.unread, shown.mentions) == (0, 0)
        await refused(
            desk.personal.mark_read("lobby", schema.MarkRead(post="ffff")), "post.unknown"
        )

    run(tmp_path, main)


def test_search_asks_for_what_is_named(tmp_path: Path) -> None:
    async def main(desk: Desk) -> None:
        me, other, loud = Author("me"), Author("other"), Author("loud")
        lobby, news = room(other), room(other, "news")
        one = post(other, lobby, "one word", mentions=(ME,))
        two = post(me, lobby, "two words", one)
        three = post(loud, news, "three words")
        await desk.save(lobby, news, one, two, three, label(other, one, "pin"))
        assert await desk.found("word*") == ["three words", "two words", "one word"]
        assert await desk.found("author:other") == await desk.found("mentions:me") == ["one word"]
        assert await desk.found("author:ME") == ["two words"]
        assert await desk.found("room:news OR author:other") == ["three words", "one word"]
        assert await desk.found(f"thread:{two.id.hex()}") == ["two words", "one word"]
        assert await desk.found("label:pin") == ["one word"]
        assert await desk.found("label:spam") == []
        assert await desk.found("words -label:pin room:lobby") == ["two words"]
        await desk.personal.judge("loud", schema.NewJudgement(heard="blocked"))
        assert await desk.found("words") == ["two words"]
        await refused(desk.personal.search("author:nobody"), "members.unknown")
        await refused(desk.personal.search("room:nowhere"), "room.unknown")
        await refused(desk.personal.search("thread:ffff"), "post.unknown")
        await refused(desk.personal.search("OR"), "search.query")
        await refused(desk.personal.search("word", "nonsense"), "cursor.invalid")

    run(tmp_path, main)


def test_search_pages_join(tmp_path: Path) -> None:
    async def main(desk: Desk) -> None:
        other = Author("other")
        lobby = room(other)
        posts = [post(other, lobby, f"word {n}") for n in range(7)]
        await desk.save(lobby, *posts)
        seen, cursor = [], None
        for _ in range(3):
            page = await desk.personal.search("word", cursor, 3)
            seen += [item.id for item in page.items]
            cursor = page.next_cursor
        assert cursor is None
        assert seen == [one.id.hex() for one in reversed(posts)]

    run(tmp_path, main)


def test_the_inbox_says_who_did_what(tmp_path: Path) -> None:
    async def main(desk: Desk) -> None:
        me, other = Author("me"), Author("other")
        lobby = room(other, post_bytes=20)
        mine, long = post(me, lobby, "mine"), post(me, lobby, "x" * 21)
        answer = post(other, lobby, "an answer", mine)
        await desk.save(lobby, mine, long)
        await desk.save(answer)
        await desk.save(react(other, mine, "🎉"))
        told = await desk.personal.inbox()
        assert [(item.kind, item.by.name, item.unread) for item in told.items] == [
            ("reaction", "other", True), ("reply", "other", True), ("hidden", "self", True),
        ]  # fmt: skip
        assert [item.post.id for item in told.items] == [
            mine.id.hex(), answer.id.hex(), long.id.hex(),
        ]  # fmt: skip
        assert told.items[0].text == "other reacted with 🎉 in lobby."
        assert told.items[1].text == "other answered you in lobby."
        assert told.items[2].text.startswith("Your post in lobby is not shown: ")
        assert told.items[2].post.why in told.items[2].text
        assert (told.unread, told.next_cursor) == (3, None)
        read = await desk.personal.mark_inbox_read()
        assert (read.unread, [item.unread for item in read.items]) == (0, [False] * 3)
        await desk.save(post(other, lobby, "you", mentions=(ME,)))
        first = await desk.personal.inbox(unread=True)
        assert [item.kind for item in first.items] == ["mention"]
        page = await desk.personal.inbox(limit=2)
        rest = await desk.personal.inbox(page.next_cursor, 5)
        assert [item.kind for item in (*page.items, *rest.items)] == [
            "mention", "reaction", "reply", "hidden",
        ]  # fmt: skip

    run(tmp_path, main)


def test_drafts(tmp_path: Path) -> None:
    async def main(desk: Desk) -> None:
        other = Author("other")
        lobby = room(other)
        one = post(other, lobby)
        await desk.save(lobby, one)
        desk.now_ms = 5
        saved = await desk.personal.save_draft("lobby", schema.NewDraft(text="hello"))
        assert saved == schema.Draft(
            room=lobby.id.hex(), room_name="lobby", text="hello", updated_ms=5
        )
        desk.now_ms = 6
        reply = schema.NewDraft(text="I think", reply_to=one.id.hex()[:10])
        answer = await desk.personal.save_draft("lobby", reply)
        assert answer.reply_to == one.id.hex()
        assert (await desk.personal.drafts()).items == [answer, saved]
        await desk.personal.save_draft("lobby", schema.NewDraft(text=""))
        assert (await desk.personal.drafts()).items == [answer]
        gone = schema.NewDraft(text="", reply_to="ab" * 32)  # not here any more
        assert (await desk.personal.save_draft("cd" * 32, gone)).text == ""
        await refused(
            desk.personal.save_draft("lobby", schema.NewDraft(text="x", reply_to="ffff")),
            "post.unknown",
        )

    run(tmp_path, main)


_CRASH = """
import sys
from pathlib import Path
from tests.forum import test_personal as here
from permesh import schema
async def main(desk):
    await desk.personal.save_draft("ab" * 32, schema.NewDraft(text="typed and not sent"))
    print("saved", flush=True)
    sys.stdin.read()
here.run(Path(sys.argv[1]), main)
"""


def test_a_draft_survives_a_kill(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", _CRASH, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"saved\n"
    process.send_signal(signal.SIGKILL)
    process.communicate()

    async def main(desk: Desk) -> None:
        (draft,) = (await desk.personal.drafts()).items
        assert draft.text == "typed and not sent"

    run(tmp_path, main)


def test_judgements(tmp_path: Path) -> None:
    async def main(desk: Desk) -> None:
        judged = await desk.personal.judge("other", schema.NewJudgement(labels=True))
        assert (judged.who.name, judged.labels, judged.heard) == ("other", True, "yes")
        await desk.personal.judge("loud", schema.NewJudgement(heard="muted"))
        for name in ("me", "self"):
            for heard in ("muted", "blocked"):
                await refused(
                    desk.personal.judge(name, schema.NewJudgement(heard=heard)), "judgements.self"
                )
        await refused(
            desk.personal.judge("me", schema.NewJudgement(labels=True)), "judgements.self"
        )
        with pytest.raises(NotFound):
            await desk.personal.judge("nobody", schema.NewJudgement(heard="muted"))
        found = await desk.personal.count_stewards(schema.Stewards(count=False))
        assert not found.stewards
        assert {item.who.name: (item.labels, item.heard) for item in found.items} == {
            "other": (True, "yes"), "loud": (False, "muted"),
        }  # fmt: skip
        assert (await desk.personal.judgements()) == found

    run(tmp_path, main)
