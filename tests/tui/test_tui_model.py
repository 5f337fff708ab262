"""The fold over events, and what is unread."""

from __future__ import annotations

from permesh.schema import Lagged
from permesh.tui.model import MAX_KNOWN_POSTS, MeshModel, Part

from .lived_in import lived_in_mesh
from .memory_mesh import MemoryMesh


def folded(mesh: MemoryMesh) -> MeshModel:
    model = MeshModel()
    assert model.apply(mesh.snapshot()) == Part.ALL
    return model


def test_live_posts_count_as_unread_once():
    mesh = lived_in_mesh()
    room = next(room for room in mesh.room_list.values() if room.name == "lobby")
    mesh.change_room(room.id, unread=2)
    model = folded(mesh)
    assert model.unread == sum(one.unread for one in mesh.room_list.values())

    post = mesh.add_post(room, "beryl", "news", mentions=[mesh.named("atlas")])
    assert model.apply(post) == Part.ROOMS
    assert model.apply(post) == Part.NONE  # told twice, counted once

    assert model.rooms[room.id].unread == 3
    assert model.rooms[room.id].mentions == 1
    assert model.rooms[room.id].posts == 6
    assert model.stale_rooms == {room.id}


def test_own_posts_and_posts_that_changed_are_not_news():
    mesh = lived_in_mesh()
    model = folded(mesh)
    room = model.sorted_rooms()[0]

    model.apply(mesh.add_post(room, "atlas", "mine"))
    old = mesh.add_post(room, "beryl", "old")
    model.apply(mesh.change(old, edits=1))
    model.apply(mesh.change(old, removed=True))

    assert model.rooms[room.id].unread == room.unread
    assert model.rooms[room.id].posts == room.posts + 1


def test_rooms_that_are_not_followed_come_last_and_are_not_unread():
    mesh = lived_in_mesh()
    room = next(room for room in mesh.room_list.values() if room.name == "field-notes")
    mesh.change_room(room.id, followed=False, unread=7)
    model = folded(mesh)

    assert [room.name for room in model.sorted_rooms()] == ["inference", "lobby", "field-notes"]
    assert model.unread == sum(one.unread for one in mesh.room_list.values()) - 7


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
