"""The forum as a member uses it."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from permesh import schema
from permesh.forum import rules
from permesh.records import MAX_BODY_BYTES, Record
from permesh.schema import (
    NewAttachment,
    NewCharter,
    NewLabel,
    NewPost,
    NewReaction,
    NewRoom,
    NewText,
)  # fmt: skip
from permesh.store import Store
from tests.simulator import START_MS, Author

from .people import ME, Desk, make_charter, make_label, make_post, make_reaction, make_room, run


def said(text: str, **fields: object) -> NewPost:
    return NewPost(text=text, **fields)  # type: ignore[arg-type]


def test_make_a_room_post_reply_and_read(tmp_path: Path) -> None:
    async def main(desk: Desk) -> None:
        forum = desk.forum
        room = await forum.create_room(NewRoom(name="lobby", purpose="for all"))
        first = await forum.post("lobby", said("hello\r\n"))
        reply = await forum.post(room.id[:8], said("hi", reply_to=first.id[:8]))
        assert (first.id, first.room, first.room_name) == (desk.saved[1].id.hex(), room.id, "lobby")
        assert (first.author, first.author_number, first.author_name) == (
            "0x" + ME.hex(), "AGT-0001", ME.hex()[:4],
        )  # fmt: skip
        assert (first.created_ms, first.received_ms, first.text, first.version) == (
            START_MS + 1, START_MS, "hello\n", 1,
        )  # fmt: skip
        assert reply.reply_to == reply.thread == first.id
        first = await forum.read_post(first.id)
        assert first.replies == 1
        assert (await forum.posts("lobby")).items == [first, reply]
        assert (await forum.posts("lobby", order="desc", limit=1)).items == [reply]
        assert (await forum.thread(reply.id)).items == [first, reply]
        again = await forum.room("lobby")
        assert (await forum.rooms()).items == [again]
        assert (again.posts, again.last_post_ms, again.steward) == (2, reply.created_ms, True)
        assert again.creator == "0x" + ME.hex()
        assert await forum.shown(desk.saved) == [again, first, reply]
        assert await forum.shown([Author("x").credential()]) == []

    run(tmp_path, main)


def test_what_cannot_be_written_is_said_and_not_signed(tmp_path: Path) -> None:
    async def main(desk: Desk) -> None:
        forum = desk.forum
        await forum.create_room(NewRoom(name="lobby"))
        await forum.create_room(NewRoom(name="other"))
        elsewhere = await forum.post("other", said("hello"))
        other = Author("o")
        room = make_room(other, "theirs")
        theirs = make_post(other, room)
        await desk.save(room, theirs)
        their = theirs.id.hex()
        missing = NewAttachment(hash="ab" * 32, name="a")
        for call, code in (
            (forum.create_room(NewRoom(name="lobby")), "room.exists"),
            (forum.create_room(NewRoom(name="Lobby")), "room.name"),
            (forum.create_room(NewRoom(name="x", purpose="é" * 3000)), "room.purpose"),
            (forum.create_room(NewRoom(name="x", stewards=["nobody"])), "members.unknown"),
            (forum.post("nowhere", said("hello")), "room.unknown"),
            (forum.posts("nowhere"), "room.unknown"),
            (forum.room("nowhere"), "room.unknown"),
            (forum.charters("nowhere"), "room.unknown"),
            (forum.post("lobby", said(" ")), "post.empty"),
            (forum.post("lobby", said("x" * (MAX_BODY_BYTES + 1))), "post.too_long"),
            (forum.post("lobby", said("x", reply_to="abcdef")), "post.unknown_parent"),
            (forum.post("lobby", said("x", reply_to=elsewhere.id)), "post.unknown_parent"),
            (forum.post("lobby", said("x", quotes=["abcdef"])), "post.unknown"),
            (
                forum.post("lobby", said("x", attachments=[missing])),
                "attachment.unknown",
            ),
            (forum.thread("abcdef"), "post.unknown"),
            (forum.read_post("abcdef"), "post.unknown"),
            (forum.versions("abcdef"), "post.unknown"),
            (forum.posts("lobby", cursor="?"), "cursor.invalid"),
            (forum.rooms(cursor="?"), "cursor.invalid"),
            (forum.thread(elsewhere.id, cursor="?"), "cursor.invalid"),
            (forum.edit(their, NewText(text="mine now")), "post.not_yours"),
            (forum.edit(elsewhere.id, NewText(text=" ")), "post.empty"),
            (forum.remove(their), "post.not_yours"),
            (forum.react(their, NewReaction(emoji="well")), "reaction.emoji"),
            (forum.set_charter("theirs", NewCharter(purpose="mine")), "charter.not_steward"),
            (forum.label_member("nobody", NewLabel(value="spam")), "members.unknown"),
            (forum.label_post(their, NewLabel(value="spam", reason="a\n" * 100)), ""),
        ):  # fmt: skip
            if code:
                await desk.refused(call, code)
            else:
                await call

    run(tmp_path, main)


def test_a_post_of_32_kib_is_kept_whole(tmp_path: Path) -> None:
    async def main(desk: Desk) -> None:
        await desk.forum.create_room(NewRoom(name="lobby"))
        text = "é" * (MAX_BODY_BYTES // 2)
        post = await desk.forum.post("lobby", said(text))
        assert post.text == text

    run(tmp_path, main)


def test_over_the_quota_a_member_is_told_before_it_signs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules, "POSTS_PER_SPAN", 2)
    monkeypatch.setattr(rules, "ROOMS_PER_SPAN", 1)
    monkeypatch.setattr(rules, "REACTIONS_PER_SPAN", 1)
    monkeypatch.setattr(rules, "EDITS_PER_SPAN", 1)
    monkeypatch.setattr(rules, "LABELS_PER_SPAN", 1)

    async def main(desk: Desk) -> None:
        forum = desk.forum
        await forum.create_room(NewRoom(name="lobby"))
        one = await forum.post("lobby", said("one"))
        await forum.post("lobby", said("two"))
        await forum.react(one.id, NewReaction(emoji="👍"))
        await forum.edit(one.id, NewText(text="changed"))
        await forum.label_post(one.id, NewLabel(value="nice"))
        for call in (
            forum.post("lobby", said("three")),
            forum.create_room(NewRoom(name="second")),
            forum.react(one.id, NewReaction(emoji="🎉")),
            forum.edit(one.id, NewText(text="again")),
            forum.label_post(one.id, NewLabel(value="bad")),
        ):
            await desk.refused(call, "forum.rate")
        assert (await forum.remove(one.id)).records == 2  # one may always take back
        desk.eyes.now_ms += rules.RATE_SPAN_MS
        assert (await forum.post("lobby", said("three"))).text == "three"

    run(tmp_path, main)


def test_a_member_whose_chain_forked_is_told(tmp_path: Path) -> None:
    async def main(desk: Desk) -> None:
        await desk.forum.create_room(NewRoom(name="lobby"))
        twin = Author("me").write(b"from a copied home")
        await desk.save(twin)
        await desk.refused(desk.forum.create_room(NewRoom(name="second")), "forum.frozen")
        (proof,) = (await desk.forum.forks()).items
        assert (proof.author.agent, proof.seq, proof.repaired) == ("0x" + ME.hex(), 0, "")
        pair = {Record.decode(bytes.fromhex(wire)).id for wire in (proof.first, proof.second)}
        assert pair == {twin.id, desk.saved[0].id}

    run(tmp_path, main)


def test_a_burst_of_posts_at_once_is_one_chain_in_order(tmp_path: Path) -> None:
    async def main(desk: Desk) -> None:
        await desk.forum.create_room(NewRoom(name="lobby"))
        posted: list[schema.Post] = []

        async def post(number: int) -> None:
            posted.append(await desk.forum.post("lobby", said(f"{number}")))

        async with trio.open_nursery() as nursery:
            for number in range(60):
                nursery.start_soon(post, number)
        shown = (await desk.forum.posts("lobby")).items
        assert [item.id for item in shown] == [r.id.hex() for r in desk.saved[1:]]
        assert {item.id for item in posted} == {item.id for item in shown}

    run(tmp_path, main)


# -- charters


def test_a_steward_changes_the_charter_and_who_breaks_it_is_told_which(tmp_path: Path) -> None:
    async def main(desk: Desk) -> None:
        forum = desk.forum
        room = await forum.create_room(NewRoom(name="lobby", purpose="p", post_bytes=100))
        changed = await forum.set_charter("lobby", NewCharter(post_bytes=5, off_topic="jokes"))
        assert (changed.version, changed.in_force, changed.purpose) == (2, True, "p")
        again = await forum.set_charter("lobby", NewCharter(post_bytes=5))
        assert again == changed  # nothing changed, nothing signed
        first, second = (await forum.charters("lobby")).items
        assert (first, second.version, second.in_force) == (changed, 1, False)
        assert second.id == room.id
        refused = await desk.refused(forum.post("lobby", said("longer")), "forum.rule")
        assert refused.message == (
            "The charter of lobby, version 2, allows 5 bytes of text in a post."
        )
        post = await forum.post("lobby", said("short"))
        assert post.version == 2
        await desk.refused(forum.edit(post.id, NewText(text="longer")), "forum.rule")

    run(tmp_path, main)


def test_a_member_is_told_where_it_may_not_post(tmp_path: Path) -> None:
    async def main(desk: Desk) -> None:
        forum, other = desk.forum, Author("o")
        desk.names["them"] = other.address
        await forum.create_room(NewRoom(name="lobby", writers="founders", stewards=["them"]))
        shown = await forum.room("lobby")
        assert (shown.may_post, shown.steward) == (False, False)
        assert (
            shown.why_not == "The charter of lobby, version 1, lets only founders of the mesh post."
        )
        await desk.refused(forum.post("lobby", said("hello")), "forum.rule")
        desk.eyes.founders.add(ME)
        assert (await forum.room("lobby")).may_post
        own = await forum.post("lobby", said("hello"))
        # Its own it sees even when nobody else does.
        desk.eyes.founders.clear()
        (post,) = (await forum.posts("lobby")).items
        assert (post.id, post.hidden, post.why) == (own.id, "rule", shown.why_not)

    run(tmp_path, main)


# -- what others say of a post


def test_edits_keep_what_was_said_and_removal_takes_all(tmp_path: Path) -> None:
    async def main(desk: Desk) -> None:
        forum = desk.forum
        desk.eyes.files["ab" * 32] = 7
        await forum.create_room(NewRoom(name="lobby"))
        post = await forum.post(
            "lobby",
            said("@me first", attachments=[NewAttachment(hash="ab" * 32, name="a.txt")]),
        )
        assert post.attachments == [
            schema.Attachment(hash="ab" * 32, name="a.txt", type="", bytes=7, here=True)
        ]
        assert [one.agent for one in post.mentions] == ["0x" + ME.hex()]
        edited = await forum.edit(post.id, NewText(text="second"))
        same = await forum.edit(post.id, NewText(text="second"))
        assert same == edited
        assert (edited.text, edited.edits, edited.mentions) == ("second", 1, [])
        assert edited.attachments == post.attachments
        assert [v.text for v in (await forum.versions(post.id)).items] == ["@me first", "second"]
        await forum.react(post.id, NewReaction(emoji="👍"))
        assert (await forum.remove(post.id)).records == 2
        assert (await forum.remove(post.id)).records == 0
        gone = await forum.read_post(post.id)
        assert (gone.removed, gone.text, gone.edits) == (True, "", 0)
        assert (gone.attachments, gone.reactions, gone.mentions) == ([], [], [])
        assert (await forum.versions(post.id)).items == []
        for call in (
            forum.edit(post.id, NewText(text="third")),
            forum.react(post.id, NewReaction(emoji="👍")),
            forum.post("lobby", said("x", quotes=[post.id])),
        ):
            await desk.refused(call, "post.removed")

    run(tmp_path, main)


def test_reactions_are_counted_once_and_taken_back(tmp_path: Path) -> None:
    async def main(desk: Desk) -> None:
        forum, other = desk.forum, Author("o")
        await forum.create_room(NewRoom(name="lobby"))
        post = await forum.post("lobby", said("hello"))
        await desk.save(make_reaction(other, desk.saved[1], "👍"))
        before = len(desk.saved)
        await forum.react(post.id, NewReaction(emoji="🎉"))
        shown = await forum.react(post.id, NewReaction(emoji="👍"))
        await forum.react(post.id, NewReaction(emoji="👍"))
        assert len(desk.saved) == before + 2
        assert [(r.emoji, r.count, r.mine) for r in shown.reactions] == [
            ("👍", 2, True), ("🎉", 1, True),
        ]  # fmt: skip
        shown = await forum.react(post.id, NewReaction(emoji="👍", on=False))
        assert next((r.emoji, r.count, r.mine) for r in shown.reactions) == ("👍", 1, False)

    run(tmp_path, main)


def test_quotes_stand_before_the_text(tmp_path: Path) -> None:
    async def main(desk: Desk) -> None:
        forum = desk.forum
        await forum.create_room(NewRoom(name="lobby"))
        first = await forum.post("lobby", said("one @me\n\ntwo"))
        second = await forum.post("lobby", said("I agree", quotes=[first.id[:6]]))
        name = ME.hex()[:4]
        assert second.text == f"> {name} (AGT-0001) wrote:\n>\n> one @me\n>\n> two\n\nI agree"
        assert second.quotes == [first.id]
        assert second.mentions == []

    run(tmp_path, main)


def test_labels_hide_where_they_count(tmp_path: Path) -> None:
    async def main(desk: Desk) -> None:
        forum, other, third = desk.forum, Author("o"), Author("t")
        desk.names["them"] = other.address
        room = make_room(Author("s"))
        post = make_post(other, room)
        await desk.save(room, post, make_label(third, post, reason="because"))
        (label,) = (await forum.labels(post.id.hex())).items
        assert (label.value, label.on, label.counts, label.reason) == (
            "spam",
            True,
            False,
            "because",
        )
        assert len((await forum.posts("lobby")).items) == 1
        own = await forum.label_post(post.id.hex(), NewLabel(value="hide", reason="no\nmore"))
        assert (own.counts, own.reason) == (True, "no more")
        assert (await forum.posts("lobby")).items == []
        (hidden,) = (await forum.posts("lobby", hidden=True)).items
        assert (hidden.hidden, hidden.labels) == ("label", ["hide"])
        assert hidden.why.startswith("It is labelled 'hide' by ")
        assert (await forum.read_post(hidden.id)).hidden == "label"
        await forum.label_post(post.id.hex(), NewLabel(value="hide", on=False))
        assert len((await forum.posts("lobby")).items) == 1
        member = await forum.label_member("them", NewLabel(value="spam"))
        assert (member.target, member.counts) == ("0x" + other.address.hex(), True)
        assert (await forum.posts("lobby")).items == []

    run(tmp_path, main)


def test_what_changes_a_post_or_a_room_tells_it_again(tmp_path: Path) -> None:
    async def main(desk: Desk) -> None:
        forum, other = desk.forum, Author("o")
        room = make_room(other)
        post = make_post(other, room)
        await desk.save(room, post)
        label = make_label(Author("l"), post)
        reaction = make_reaction(Author("r"), post)
        charter = make_charter(other, room, room, 2)
        await desk.save(label, reaction, charter)
        (told,) = await forum.shown([label, reaction])
        assert told == await forum.read_post(post.id.hex())
        (told,) = await forum.shown([charter])
        assert isinstance(told, schema.Room)
        assert told.version == 2
        await forum.label_post(post.id.hex(), NewLabel(value="hide"))
        (hidden,) = await forum.shown([desk.saved[-1]])
        assert isinstance(hidden, schema.Post)
        assert hidden.hidden == "label"
        assert await forum.shown([post]) == []

    run(tmp_path, main)


def test_who_posts_in_a_room_follows_it(tmp_path: Path) -> None:
    async def main(desk: Desk) -> None:
        forum = desk.forum
        mine = await forum.create_room(NewRoom(name="lobby"))
        theirs = make_room(Author("o"), "theirs")
        await desk.save(theirs)
        assert [room.name for room in (await forum.rooms(followed=True)).items] == ["lobby"]
        assert [room.name for room in (await forum.rooms(followed=False)).items] == ["theirs"]
        await forum.post("theirs", said("hello"))
        await forum.post("theirs", said("again"))
        assert [room.hex() for room, _ in desk.followed] == [mine.id, theirs.id.hex()]
        assert (await forum.room("theirs")).followed
        await forum.follow("theirs", schema.Follow(followed=False))
        assert not (await forum.room("theirs")).followed

    run(tmp_path, main)


def test_in_a_room_that_is_hidden_nothing_is_written(tmp_path: Path) -> None:
    async def main(desk: Desk) -> None:
        bad = Author("bad")
        room = make_room(bad)
        await desk.save(room)
        post = await desk.forum.post("lobby", said("hello"))
        await desk.save(bad.write(b"twin", seq=0, prev=b""))
        assert (await desk.forum.rooms()).items == []
        await desk.refused(desk.forum.post("lobby", said("hello")), "room.unknown")
        await desk.refused(desk.forum.edit(post.id, NewText(text="changed")), "room.unknown")
        assert (await desk.forum.read_post(post.id)).text == "hello"
        assert (await desk.forum.labels(post.id)).items == []
        assert await desk.forum.shown(desk.saved)
        assert (await desk.forum.remove(post.id)).records == 1

    run(tmp_path, main)


def test_a_post_of_many_edits_is_removed_whole(tmp_path: Path) -> None:
    async def main(desk: Desk) -> None:
        await desk.forum.create_room(NewRoom(name="lobby"))
        post = await desk.forum.post("lobby", said("hello"))
        for number in range(130):
            await desk.forum.edit(post.id, NewText(text=f"{number}"))
        assert (await desk.forum.remove(post.id)).records == 131
        for record in desk.saved[1:132]:
            kept = await desk.store.read(Store.get, record.id)
            assert kept is not None
            assert kept.body is None

    run(tmp_path, main)
