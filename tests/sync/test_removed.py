"""What an author took back reaches everyone without its body, and with the proof of why."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from permesh.p2p.replication import severity
from permesh.p2p.sync_messages import Answer, Ask, Heads, Held, Message, Newer, Records, Want
from permesh.records import Record
from permesh.space_index import Run
from permesh.spaces import NOTHING, SPACE_COMMONS, Sum
from permesh.store import Store
from tests.simulator import CREDENTIAL, REMOVAL, Author
from tests.sync.hub import Hub, Member, in_hub, send, sums, until
from tests.sync.test_hostile import inventive

ROOM = b"r" * 32
NOTE = "test.note"


def run(directory: Path, main: Callable[[Hub], Awaitable[None]]) -> None:
    trio.run(in_hub, directory, main)


async def body(member: Member, record: Record) -> bytes | None:
    found = await member.store.read(Store.get, record.id)
    assert found is not None
    return found.body


@pytest.mark.parametrize("by_gossip", [False, True])
def test_a_removal_takes_the_body_everywhere(tmp_path: Path, by_gossip: bool) -> None:
    async def main(hub: Hub) -> None:
        async with (
            hub.member("a", rooms={ROOM: 0}) as a,
            hub.member("b", rooms={ROOM: 0}) as b,
            hub.member("c", rooms={ROOM: 0}) as c,
        ):
            hub.deaf.add("c")
            hub.connect("a", "b")
            credential = await a.credential()
            note = await a.journal.append(NOTE, b"secret", ROOM)
            await b.until_has([credential, note])
            assert await body(b, note) == b"secret"
            if not by_gossip:
                hub.deaf.add("b")
            removal = await a.journal.append(REMOVAL, b"", ROOM, (note.id,))
            if not by_gossip:
                send(b, "a", removal)  # as a hint that another one forwards
            await b.until_has([removal])
            for member in (a, b):
                assert await body(member, note) is None
            # One who comes now is given both, by whom it asks first.
            c.replication.on_peer("b")
            await c.until_has([credential, note, removal])
            assert await body(c, note) is None
            assert await c.store.read(sums) == await a.store.read(sums)
            chain = await c.store.read(Store.by_author, a.address, 0, 10)
            assert [r.header.prev for r in chain[1:]] == [r.id for r in chain[:-1]]
            assert c.told == {r.id: 1 for r in (credential, note, removal)}
            assert [member.faults for member in (a, b, c)] == [{}, {}, {}]

    run(tmp_path, main)


def test_two_who_differ_in_what_was_removed_become_equal(tmp_path: Path) -> None:
    """One has the removal and not the note, the other one has the note."""

    async def main(hub: Hub) -> None:
        async with (
            hub.member("a", rooms={ROOM: 0}) as a,
            hub.member("b", rooms={ROOM: 0}) as b,
        ):
            author = Author("x")
            credential, note = author.credential(), author.write(b"secret", room=ROOM)
            removal = author.write(b"", REMOVAL, ROOM, parents=(note.id,))
            send(a, "x", credential, note)
            send(b, "x", credential, removal)
            await a.until_has([credential, note])
            await b.until_has([credential, removal])
            b.replication.on_peer("a")
            await b.until_has([note])
            await a.until_has([removal])
            assert await body(a, note) is None
            assert await body(b, note) is None
            assert [member.faults for member in (a, b)] == [{}, {}]

    run(tmp_path, main)


def test_a_removed_record_waits_for_its_authors_credential(tmp_path: Path) -> None:
    async def main(hub: Hub) -> None:
        async with hub.member("b", rooms={ROOM: 0}) as b:
            author = Author("x")
            credential, note = author.credential(), author.write(b"secret", room=ROOM)
            removal = author.write(b"", REMOVAL, ROOM, parents=(note.id,))
            send(b, "x", removed(note, removal))
            send(b, "x", credential)
            await b.until_has([credential, note, removal])
            assert await body(b, note) is None
            assert b.told == {r.id: 1 for r in (credential, note, removal)}
            assert not b.faults

    run(tmp_path, main)


def removed(record: Record, removal: Record) -> Record:
    return Record.from_wire([record.header_bytes, record.signature, removal.to_wire()])


# -- peers that keep bodies back -------------------------------------------------------------------

author, other = Author("hostile"), Author("other")
credential = author.credential()
note = author.write(b"secret")
wrong = {
    "none": None,
    "another author's": other.write(kind=REMOVAL, parents=(note.id,)).to_wire(),
    "another room's": author.write(kind=REMOVAL, room=ROOM, parents=(note.id,)).to_wire(),
    "another kind's": author.write(parents=(note.id,)).to_wire(),
    "another record's": author.write(kind=REMOVAL, parents=(credential.id,)).to_wire(),
}
forged = author.write(kind=REMOVAL, parents=(note.id,))


@pytest.mark.parametrize(
    ("record", "rest", "code"),
    [
        *((note, rest, "record.body_missing") for rest in wrong.values()),
        (note, [forged.header_bytes, bytes(64), forged.body], "record.signature"),
        (note, [forged.header_bytes, forged.signature, None], "record.field"),
        (credential, author.write(kind=REMOVAL, parents=(credential.id,)).to_wire(),
         "record.body_missing"),
    ],
    ids=[*wrong, "forged", "without its own body", "a credential's"],
)  # fmt: skip
def test_who_gives_a_record_without_its_body_shows_who_took_it(
    tmp_path: Path, record: Record, rest: Any, code: str
) -> None:
    def answer(asked: Message) -> list[Message]:
        identity = record.header.kind == CREDENTIAL
        match asked:
            case Ask(_, _, (first, second)):
                counts = (1, 0) if identity else (first.sum.count, 1)
                held = [
                    mine if mine.sum.count == count else Held(mine.space, 0, Sum(count, b"f" * 16))
                    for mine, count in zip((first, second), counts, strict=True)
                ]
                return [Answer(tuple(held), None, ())]
            case Heads():
                return [Newer((Run(record.header.author, 9, (record.id,)),), more=False)]
            case Want():
                return [Records(([record.header_bytes, record.signature, rest],), 0)]
        return []

    async def main(hub: Hub) -> None:
        async with hub.member("b") as b:
            if record is not credential:
                send(b, "x", credential)
                await b.until_has([credential])
            hub.handlers["evil"] = partial(inventive, answer)
            b.replication.on_peer("evil")
            await until(lambda: b.faults)
            assert b.faults == {("evil", code): 1}
            assert severity(code) > 0
            assert not await b.store.read(Store.has, record.id)
            assert (await b.store.read(lambda store: store.spaces.sum(SPACE_COMMONS))) == NOTHING

    run(tmp_path, main)
