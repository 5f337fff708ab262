"""The forum among real daemons: what one does, the others see, whatever is killed meanwhile."""

from __future__ import annotations

import hashlib
import signal
from collections.abc import Callable
from random import Random

import pytest

from permesh.demo import Demo, Member, wait_for
from permesh.errors import PermeshError
from permesh.schema import (
    Follow,
    MarkRead,
    NewAttachment,
    NewCharter,
    NewDraft,
    NewJudgement,
    NewLabel,
    NewPost,
    NewReaction,
    NewRoom,
    NewText,
    Post,
)

SECONDS = 60.0
ROOM = "workshop"


def eventually(what: str, holds: Callable[[], bool]) -> None:
    """An object that has not arrived yet is one more reason to wait."""

    def ready() -> bool:
        try:
            return holds()
        except PermeshError as error:
            if error.http_status == 404:
                return False
            raise

    wait_for(what, SECONDS, ready)


def seen(member: Member, post: Post) -> Post:
    return member.client.read_post(post.id)


def test_a_room_with_rules_and_what_is_said_in_it(fleet: Demo) -> None:
    atlas, birch, coral = fleet.members
    room = atlas.client.create_room(
        NewRoom(name=ROOM, purpose="tools", off_topic="weather", post_bytes=300)
    )
    eventually("the room", lambda: birch.client.room(ROOM).id == room.id)
    eventually("the room", lambda: coral.client.room(ROOM).id == room.id)

    # A thread, with a mention, a quote, an edit and a reaction.
    first = atlas.client.post(ROOM, "Who has a lathe? @birch perhaps")
    eventually("the question", lambda: seen(birch, first).text == first.text)
    inbox = birch.client.inbox()
    assert [item.kind for item in inbox.items if item.post.id == first.id] == ["mention"]
    answer = birch.client.post(
        ROOM, NewPost(text="I have one", reply_to=first.id, quotes=[first.id])
    )
    birch.client.edit(answer.id, NewText(text="I have **two**"))
    eventually("the edit", lambda: seen(atlas, answer).text.endswith("two**"))
    assert seen(atlas, answer).edits == 1
    versions = atlas.client.versions(answer.id).items
    assert [version.text.splitlines()[-1] for version in versions] == [
        "I have one",
        "I have **two**",
    ]
    atlas.client.react(answer.id, NewReaction(emoji="🎉"))
    eventually("the reaction", lambda: [r.count for r in seen(coral, answer).reactions] == [1])
    thread = coral.client.thread(answer.id).items
    assert [(post.id, post.depth) for post in thread] == [(first.id, 0), (answer.id, 1)]

    # The rules: what breaks them is not signed here, and hidden where another release signs it.
    with pytest.raises(PermeshError, match="300"):
        birch.client.post(ROOM, "x" * 301)
    changed = atlas.client.set_charter(ROOM, NewCharter(writers="members", members=["birch"]))
    assert changed.version == 2
    eventually("version 2", lambda: coral.client.room(ROOM).version == 2)
    assert not coral.client.room(ROOM).may_post
    eventually("version 2", lambda: birch.client.room(ROOM).version == 2)
    assert birch.client.post(ROOM, "still welcome").version == 2

    # Moderation: a steward's label hides at those who go by it.
    spam = birch.client.post(ROOM, "cheap watches")
    eventually("the post", lambda: seen(coral, spam).hidden == "")
    atlas.client.label_post(spam.id, NewLabel(value="spam", reason="an advertisement"))
    eventually("the label", lambda: seen(coral, spam).hidden == "label")
    assert "advertisement" in seen(coral, spam).why
    assert spam.id not in [post.id for post in coral.client.posts(ROOM).items]
    atlas.client.label_post(spam.id, NewLabel(value="spam", on=False))
    eventually("the label's end", lambda: seen(coral, spam).hidden == "")
    coral.client.judge("birch", NewJudgement(heard="muted"))
    assert seen(coral, spam).hidden == "mute"
    coral.client.judge("birch", NewJudgement(heard="yes"))

    # A removal takes the words away everywhere, and from the search.
    assert [post.id for post in coral.client.search("watches").items] == [spam.id]
    birch.client.remove(spam.id)
    for member in (atlas, coral):
        eventually("the removal", lambda member=member: seen(member, spam).removed)
        assert seen(member, spam).text == ""
        assert member.client.search("watches").items == []


def test_a_file_is_fetched_from_whoever_has_it(fleet: Demo) -> None:
    atlas, birch, coral = fleet.members
    data = Random(5).randbytes(3_000_000)
    stored = atlas.client.put_file([data[:1_000_000], data[1_000_000:]])
    assert stored.hash == hashlib.sha256(data).hexdigest()
    file = NewAttachment(hash=stored.hash, name="drawing.bin", type="application/octet-stream")
    post = atlas.client.post("lobby", NewPost(text="the drawing", attachments=[file]))
    eventually("the post", lambda: seen(birch, post).attachments[0].bytes == len(data))
    assert not seen(birch, post).attachments[0].here
    with birch.client.open_file(stored.hash) as chunks:
        assert b"".join(chunks) == data
    assert seen(birch, post).attachments[0].here
    # Its author goes, and the other one has it still.
    atlas.signal(signal.SIGTERM)
    assert atlas.process is not None
    atlas.process.wait(20)
    with coral.client.open_file(stored.hash) as chunks:
        assert b"".join(chunks) == data
    atlas.start()
    assert [item.id for item in atlas.client.search("has:file drawing").items] == [post.id]


def test_what_only_one_member_has_survives_its_daemon(fleet: Demo) -> None:
    birch = fleet.birch
    birch.client.save_draft("lobby", NewDraft(text="half a thou"))
    birch.client.mark_read("lobby", MarkRead())
    birch.signal(signal.SIGKILL)
    assert birch.process is not None
    birch.process.wait(20)
    birch.start()
    assert [draft.text for draft in birch.client.drafts().items] == ["half a thou"]
    assert birch.client.room("lobby").unread == 0
    birch.client.save_draft("lobby", NewDraft(text=""))
    assert birch.client.drafts().items == []


def test_a_room_that_is_left_is_heard_of_no_more_and_caught_up_with_later(fleet: Demo) -> None:
    atlas, coral = fleet.atlas, fleet.coral
    atlas.client.create_room("quiet", "left and joined")
    eventually("the room", lambda: coral.client.room("quiet").followed)
    before = atlas.client.post("quiet", "before")
    eventually("the post", lambda: bool(seen(coral, before)))
    coral.client.follow("quiet", Follow(followed=False))
    missed = atlas.client.post("quiet", "meanwhile")
    marker = atlas.client.post("lobby", "a post that does arrive")
    eventually("the marker", lambda: bool(seen(coral, marker)))
    assert [post.text for post in coral.client.posts("quiet").items] == ["before"]
    coral.client.follow("quiet", Follow())
    eventually("what was missed", lambda: bool(seen(coral, missed)))


def test_events_go_on_from_a_cursor_after_a_break(fleet: Demo) -> None:
    atlas, birch = fleet.atlas, fleet.birch
    events = birch.client.events()
    cursor = next(events).cursor
    events.close()
    birch.signal(signal.SIGKILL)
    assert birch.process is not None
    birch.process.wait(20)
    written = [atlas.client.post("lobby", f"in the break {number}").id for number in range(30)]
    birch.start()
    found: list[str] = []
    for event in birch.client.events(cursor):
        if isinstance(event[1], Post) and event[1].text.startswith("in the break"):
            found.append(event[1].id)
        if set(written) <= set(found):
            break
    assert sorted(found) == sorted(set(written))
