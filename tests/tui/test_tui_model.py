"""The fold over events, unread counts, and the file that keeps them."""

from __future__ import annotations

import json

from permesh.schema import Lagged
from permesh.tui.model import MAX_KNOWN_POSTS, MeshModel, Part
from permesh.tui.seen import MAX_ROOMS, Seen

from .memory_mesh import MemoryMesh, lived_in_mesh


def folded(mesh: MemoryMesh) -> MeshModel:
    model = MeshModel()
    assert model.apply(mesh.snapshot()) == Part.ALL
    return model


def test_snapshot_then_posts_count_as_unread_until_seen():
    mesh = lived_in_mesh()
    model = folded(mesh)
    room = next(room for room in model.rooms.values() if room.name == "lobby")
    assert model.unread(room) == 5

    assert model.mark_seen(room.id)
    assert not model.mark_seen(room.id)
    post = mesh.add_post(room, "beryl", "news")
    assert model.apply(post) == Part.ROOMS
    assert model.apply(post) == Part.NONE  # told twice, counted once

    assert model.unread(model.rooms[room.id]) == 1
    assert model.rooms[room.id].posts == 6


def test_own_posts_are_not_news():
    mesh = lived_in_mesh()
    model = folded(mesh)
    room = model.sorted_rooms()[0]
    before = model.unread(room)

    model.apply(mesh.add_post(room, "atlas", "mine"))

    assert model.unread(model.rooms[room.id]) == before


def test_a_room_that_shrank_is_not_unread_for_ever():
    mesh = lived_in_mesh()
    model = folded(mesh)
    room = model.sorted_rooms()[0]
    model.mark_seen(room.id)

    model.apply(room.model_copy(update={"posts": 1}))
    model.apply(mesh.add_post(room, "beryl", "news"))

    assert model.unread(model.rooms[room.id]) == 1


def test_a_new_room_asks_for_counts_that_hold_what_its_events_repeat():
    mesh = lived_in_mesh()
    model = folded(mesh)
    room = mesh.add_room("new")
    post = mesh.add_post(room, "beryl", "hi")

    changed = model.apply(mesh.room_list[room.id])
    model.apply(post)
    assert Part.LISTS in changed
    model.take_rooms([mesh.room_list[room.id]])

    assert model.rooms[room.id].posts == 1


def test_posts_of_rooms_that_are_not_known_change_nothing():
    mesh = lived_in_mesh()
    model = folded(mesh)

    assert model.apply(mesh.add_post(mesh.add_room("new"), "beryl", "hi")) == Part.NONE


def test_what_is_remembered_is_bounded():
    mesh = lived_in_mesh()
    model = folded(mesh)
    room = model.sorted_rooms()[0]
    post = mesh.add_post(room, "beryl", "x")

    for at in range(MAX_KNOWN_POSTS + 10):
        model.apply(post.model_copy(update={"id": f"{at:064x}"}))

    assert len(model._known_posts) == MAX_KNOWN_POSTS


def test_requests_stand_first_then_registrars_then_by_number():
    mesh = lived_in_mesh()
    mesh.add_member("zinc", "AGT-10000")

    names = [member.name for member in folded(mesh).sorted_members()]

    assert names == ["ember", "atlas", "beryl", "cobalt", "dune", "zinc"]


def test_being_lagged_asks_for_everything_anew():
    assert folded(lived_in_mesh()).apply(Lagged(missed=4)) == Part.ALL


def test_seen_is_kept_between_sessions(tmp_path):
    path = tmp_path / "tui-seen.json"
    seen = Seen(path)
    seen.set("aa", 12)
    seen.save()

    assert Seen(path).count("aa") == 12
    assert Seen(path).count("bb") == 0
    assert path.stat().st_mode & 0o777 == 0o600
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_a_spoilt_file_is_as_none(tmp_path):
    path = tmp_path / "tui-seen.json"
    for spoilt in (b"", b"\xff\x00", b"[1, 2]", b'{"aa": "many", "bb": -4, "cc": true}'):
        path.write_bytes(spoilt)
        seen = Seen(path)
        assert [seen.count(room) for room in ("aa", "bb", "cc")] == [0, 0, 0]


def test_seen_is_bounded(tmp_path):
    path = tmp_path / "tui-seen.json"
    path.write_text(json.dumps({f"{at:x}": 1 for at in range(MAX_ROOMS + 50)}))
    seen = Seen(path)
    seen.set("new", 3)
    seen.save()

    assert len(json.loads(path.read_text())) == MAX_ROOMS
    assert seen.count("new") == 3


def test_a_home_that_cannot_be_written_does_no_harm(tmp_path):
    seen = Seen(tmp_path / "absent" / "tui-seen.json")
    seen.set("aa", 1)
    seen.save()

    assert seen.count("aa") == 1
