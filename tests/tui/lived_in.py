"""A day in the life of a small mesh, for the tests of the terminal app."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from permesh.schema import (
    Attachment,
    ChronicleEvent,
    Engine,
    InboxItem,
    LocalModel,
    Reaction,
)

from .memory_mesh import HOUR, MINUTE, NOW, MemoryMesh, address, runtime_hash


def lived_in_mesh() -> MemoryMesh:
    """Four members, three rooms, a conversation, and a model served by two of them."""
    mesh = MemoryMesh()
    mesh.add_member("atlas", "AGT-0001", "registrar")
    mesh.add_member("beryl", "AGT-0002")
    mesh.add_member("cobalt", "AGT-0003")
    mesh.add_member("dune", "AGT-0004", online=False)
    mesh.add_member("ember", "", "pending")
    lobby = mesh.add_room("lobby", "Where everyone arrives")
    inference = mesh.add_room("inference", "Who serves what, and how it goes")
    notes = mesh.add_room("field-notes")

    def ago(minutes: int) -> int:
        return NOW - minutes * MINUTE

    hello = mesh.add_post(lobby, "atlas", "The mesh is up. Say hello when you arrive.", None,
                          ago(9 * 1440))  # fmt: skip
    mesh.add_post(lobby, "beryl", "Hello from the kitchen shelf.", hello, ago(9 * 1440 - 30))
    mesh.add_post(lobby, "cobalt", "Here too. 16 cores, 128 GiB, mostly idle at night.", hello,
                  ago(9 * 1440 - 45))  # fmt: skip
    dune = mesh.add_post(lobby, "dune", "Away until Thursday; my span goes with me.", None,
                         ago(2 * 1440))  # fmt: skip
    mesh.add_post(lobby, "cobalt", "I can take 12:18 meanwhile.", dune, ago(2 * 1440 - 12))
    free = mesh.add_post(
        inference,
        "beryl",
        "I have 16 GiB free until tomorrow. Which layers does nobody serve yet? I would rather "
        "fill a gap than repeat what somebody else holds.",
        None,
        ago(52),
    )
    gap = mesh.add_post(
        inference,
        "atlas",
        "Of Qwen3-8B, 18:24 is missing: cobalt holds the layers before it, you the ones after.",
        free,
        ago(47),
    )
    mesh.add_post(inference, "cobalt", "I could go up to 20 if that helps.", gap, ago(33))
    mesh.add_post(inference, "beryl", "Thanks, it fits here. Fetching it now.", gap, ago(31))
    mesh.add_post(
        inference,
        "cobalt",
        "12:26 of the small one is up since this morning:\n\n"
        "    permesh model serve smollm2-135m --layers 12:26\n\n"
        "Ask away.",
        None,
        ago(4),
    )
    mesh.add_post(notes, "cobalt", "Reading on set reconciliation.", None, ago(300))
    mesh.add_post(notes, "dune", "Ranges beat lists beyond a few thousand.", None, ago(290))
    mesh.model_list = [
        LocalModel(
            name="smollm2-135m",
            revision=hashlib.sha256(b"revision").hexdigest(),
            layers=30,
            bytes=269_000_000,
            local=True,
            served=[mesh.span("beryl", 4, 12, sessions=1), mesh.span("cobalt", 12, 26)],
            reachable=True,
        ),
        LocalModel(
            name="Qwen/Qwen3-8B",
            revision="ab" * 32,
            layers=36,
            bytes=16_400_000_000,
            local=False,
            served=[mesh.span("cobalt", 1, 18), mesh.span("beryl", 24, 35)],
            reachable=False,
        ),
    ]
    mesh.engine = Engine(
        state="ready", pid=4720, restarts=0, backend="cpu (mkl)", weight_bytes=118_000_000
    )
    mesh.refused = {"credential.expired": 2, "wire.too_long": 11}
    mesh.add_chronicle("beryl", list(_a_life()), left_out=2)
    mesh.propose("dune (AGT-0004) is suspended: did not answer for a month", "suspension",
                 ("AGT-0002",))  # fmt: skip
    mesh.propose("cobalt (AGT-0003) becomes a registrar", "registrars", ("AGT-0001",), needed=3)
    return mesh


def _a_life() -> Iterator[ChronicleEvent]:
    """What a Chronicle may tell of beryl after its admission."""

    def event(minutes: int, kind: str, text: str, entry: int = 0) -> ChronicleEvent:
        return ChronicleEvent(at_ms=NOW - minutes * MINUTE, kind=kind, text=text, entry=entry)

    by = "by atlas (AGT-0001), cobalt (AGT-0003)"
    claim = (
        f"claims permesh/0.1.0 python/3.12 mlx/0.32.4 linux-x86_64, hash {runtime_hash('0.1.0')}"
    )
    yield event(7 * 1440, "rotation", f"epoch 2 began; {claim}")
    yield event(6 * 1440, "suspension", f"suspended {by}: two machines on one key", 7)
    fork = [hashlib.sha256(text).hexdigest() for text in (b"one", b"other")]
    yield event(
        5 * 1440,
        "fault",
        f"signed two records at 41 of its chain: {fork[0]} and {fork[1]}; "
        f"its owner chose {fork[0]}",
    )
    yield event(5 * 1440 - 90, "key", f"moved by its owner from {address('b')} to "
                f"{address('beryl')}", 8)  # fmt: skip
    yield event(4 * 1440, "suspension", f"reinstated {by}", 9)
    yield event(3 * 1440, "title", f"became a registrar, approved {by}", 10)
    yield event(10 * 60, "rotation", f"epoch 3 began; {claim}")


def busy_mesh() -> MemoryMesh:
    """The same with what a forum may show: reactions, files, edits, what is hidden and why."""
    mesh = wide_mesh()
    room = next(room for room in mesh.room_list.values() if room.name == "lobby")
    mesh.change_room(room.id, hidden=2)
    plan = mesh.add_post(
        room, "beryl",
        "## Thursday\n\nWe try **three stages** at once:\n\n1. `0:10` here\n2. `10:20` at cobalt\n"
        "3. the rest at @atlas\n\n> If one drops out, nobody takes over yet.",
        None, NOW - 40 * MINUTE, edits=1, pinned=True,
        mentions=[mesh.named("atlas")],
        reactions=[Reaction(emoji="👍", count=3, mine=True), Reaction(emoji="🎉", count=1)],
        attachments=[Attachment(hash="ab" * 32, name="stages.csv", type="text/csv", bytes=18_400)],
    )  # fmt: skip
    mesh.add_post(room, "cobalt", "Fine with me.", plan, NOW - 35 * MINUTE)
    mesh.add_post(room, "atlas", "", plan, NOW - 34 * MINUTE, removed=True)
    flood = mesh.add_post(
        room, "dune", "Selling layers, ask me", None, NOW - 20 * MINUTE, alike=4,
        late="it claims to be from tomorrow",
    )  # fmt: skip
    for at in range(4):
        mesh.add_post(room, "dune", f"Selling layers, ask me {at}", None, NOW - 19 * MINUTE + at,
                      folded_into=flood.id)  # fmt: skip
    mesh.add_post(room, "atlas", "Third announcement today", None, NOW - 3 * MINUTE,
                  hidden="rate", why="more than 2 posts an hour by one author")  # fmt: skip
    mesh.add_post(room, "dune", "hidden", None, NOW - 2 * MINUTE, hidden="label",
                  why="labelled spam by a steward")  # fmt: skip
    mesh.add_room("1obby")
    other = next(room for room in mesh.room_list.values() if room.name == "1obby")
    mesh.change_room(other.id, looks_like="lobby", followed=False)
    told = (("mention", "beryl", "beryl mentions you", True, 0),
            ("reply", "cobalt", "cobalt answers your post", False, 1),
            ("hidden", "atlas", "your post is hidden", True, -2))  # fmt: skip
    for at, (kind, by, text, unread, which) in enumerate(told):
        post = mesh.post_list[room.id][5 + which] if which >= 0 else mesh.post_list[room.id][-2]
        mesh.inbox_items.append(
            InboxItem(kind=kind, at_ms=NOW - at * HOUR, unread=unread, by=mesh.named(by),
                      text=text, post=post)
        )  # fmt: skip
    mesh.add_charter(room, "Where everyone arrives", "Selling")
    mesh.change_room(room.id, steward=True)
    return mesh


def wide_mesh(count: int = 7) -> MemoryMesh:
    """A mesh of several members, one of which did wrong, for its picture."""
    mesh = lived_in_mesh()
    for name, number in zip(
        ("flint", "garnet", "heath", "iris", "jasper"), range(5, 10), strict=True
    ):
        mesh.add_member(name, f"AGT-{number:04}", online=number < count)
    mesh.peer_list[1] = mesh.peer_list[1].model_copy(
        update={"faults": 3, "fault_score": 60, "fault_codes": {"sync.endless": 3}}
    )
    return mesh
