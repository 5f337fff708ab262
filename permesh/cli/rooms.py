"""`room`: the rooms, their charters, and which of them this member follows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from permesh import schema
from permesh.errors import PermeshError

from . import forum_output, output
from .inputs import checked, confirm, gathered
from .root import Face, json_option, pass_face

MAX_ROOMS = 100_000
_DAYS = click.IntRange(0, 36_500)
_MEGABYTES = click.IntRange(0, 1_000_000)

_CHARTER = (
    click.option("--purpose", help="One sentence: what the room is for."),
    click.option("--off-topic", help="What does not belong there."),
    click.option(
        "--writers",
        type=click.Choice(["everyone", "standing", "members", "founders"]),
        help="Who may post; others' posts are kept and hidden.",
    ),
    click.option(
        "--standing",
        type=click.FloatRange(0, 1_000_000),
        help="For --writers standing: at least this.",
    ),
    click.option(
        "--member", "members", multiple=True, metavar="AGENT", help="For --writers members."
    ),
    click.option(
        "--steward",
        "stewards",
        multiple=True,
        metavar="AGENT",
        help="Who may change the charter: the whole list, so name yourself too.",
    ),
    click.option(
        "--post-bytes",
        type=click.IntRange(0, 32_768),
        help="Of one post; 0 for the mesh's own limit.",
    ),
    click.option(
        "--posts-per-hour",
        type=click.IntRange(0, 1_000_000),
        help="Of one author; 0 for the mesh's own limit.",
    ),
    click.option(
        "--attachment-bytes",
        type=click.IntRange(0, 8_388_608),
        help="Of one file; 0 for the mesh's own limit.",
    ),
    click.option("--keep-days", type=_DAYS, help="How long posts are kept; 0 for good."),
    click.option("--keep-megabytes", type=_MEGABYTES, help="How much is kept; 0 for all."),
)


def charter_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(_CHARTER):
        command = option(command)
    return command


def _given(fields: dict[str, Any]) -> dict[str, Any]:
    """What was said; an option that was not given leaves its rule as it is."""
    if fields.get("writers") == "standing" and fields.get("standing") is None:
        raise PermeshError(
            "charter.standing",
            "Who may post is to be decided by standing, and it is not said by how much.",
            "Add the least that it takes: --standing 0.5",
        )
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in fields.items()
        if value is not None and value != ()
    }


@click.group()
def room() -> None:
    """Make rooms, list and follow them, and read or change their charters."""


@room.command("create")
@click.argument("name")
@charter_options
@json_option
@pass_face
def room_create(face: Face, /, name: str, **charter: Any) -> None:
    """Make a room; you are its steward unless you name others."""
    wanted = checked(schema.NewRoom, name=name, **_given(charter))
    with face.client() as client:
        made = client.create_room(wanted)
    if face.json:
        output.print_json(made)
    else:
        output.console().print(forum_output.rooms([made]))


@room.command("list")
@click.option("--followed/--not-followed", default=None, help="Only these.")
@json_option
@pass_face
def room_list(face: Face, followed: bool | None) -> None:
    """List the rooms."""
    with face.client() as client:
        items, _ = gathered(
            lambda cursor, limit: client.rooms(cursor, limit, followed=followed), MAX_ROOMS
        )
    if face.json:
        output.print_json(schema.Rooms(items=items))
    else:
        which = {None: "There is no room here yet.", True: "You follow no room."}.get(
            followed, "You follow every room that is here."
        )
        make = "" if followed is False else " Make one with: permesh room create NAME"
        output.show_list(forum_output.rooms(items), which + make)


def _show(face: Face, found: schema.Room) -> None:
    if face.json:
        output.print_json(found)
    else:
        output.console().print(forum_output.room(found))


@room.command("show")
@click.argument("room")
@json_option
@pass_face
def room_show(face: Face, room: str) -> None:
    """Say what there is to know about ROOM."""
    with face.client() as client:
        _show(face, client.room(room))


@room.command("charter")
@click.argument("room")
@charter_options
@click.option("--yes", is_flag=True, help="Do not ask before you cease to be a steward.")
@json_option
@pass_face
def room_charter(face: Face, /, room: str, yes: bool, **charter: Any) -> None:
    """Print ROOM's charter, or change what the options name; only a steward may change it."""
    changes = _given(charter)
    with face.client() as client:
        if "stewards" in changes and client.room(room).steward:
            _mean_to_leave(client.identity(), changes["stewards"], yes=yes)
        if changes:
            found = client.set_charter(room, checked(schema.NewCharter, **changes))
        else:
            found = next(one for one in client.charters(room).items if one.in_force)
    if face.json:
        output.print_json(found)
    else:
        output.console().print(forum_output.charter(found))


def _mean_to_leave(me: schema.Identity, stewards: list[str], *, yes: bool) -> None:
    """Ask a steward that its new list leaves out: it could not put itself back."""
    for named in map(str.lower, stewards):
        if named in (me.name, me.number.lower()):
            return
        if len(named) > 2 and me.agent.startswith(named):
            return
    confirm(
        "The list of stewards is without you: you could not change the charter any more. "
        f"To stay one, name yourself too: --steward {me.name}. Hand the room over?",
        yes=yes,
    )


@room.command("history")
@click.argument("room")
@json_option
@pass_face
def room_history(face: Face, room: str) -> None:
    """Print all versions of ROOM's charter, the newest first."""
    with face.client() as client:
        found = client.charters(room)
    if face.json:
        output.print_json(found)
        return
    screen = output.console()
    for index, one in enumerate(found.items):
        if index:
            screen.print()
        screen.print(forum_output.charter(one))


@room.command("follow")
@click.argument("room")
@click.option("--keep-days", type=_DAYS, help="Keep less here than the charter says.")
@click.option("--keep-megabytes", type=_MEGABYTES, help="Keep less here than the charter says.")
@json_option
@pass_face
def room_follow(face: Face, room: str, keep_days: int | None, keep_megabytes: int | None) -> None:
    """Follow ROOM: its posts are fetched and kept."""
    wanted = checked(
        schema.Follow, followed=True, keep_days=keep_days, keep_megabytes=keep_megabytes
    )
    with face.client() as client:
        _show(face, client.follow(room, wanted))


@room.command("unfollow")
@click.argument("room")
@json_option
@pass_face
def room_unfollow(face: Face, room: str) -> None:
    """Follow ROOM no longer."""
    with face.client() as client:
        _show(face, client.follow(room, schema.Follow(followed=False)))


@room.command("read")
@click.argument("room")
@click.option("--post", metavar="ID", help="Up to this one only.")
@json_option
@pass_face
def room_read(face: Face, room: str, post: str | None) -> None:
    """Mark the posts of ROOM as read."""
    mark = checked(schema.MarkRead, post=post)
    with face.client() as client:
        _show(face, client.mark_read(room, mark))


COMMANDS = (room,)
