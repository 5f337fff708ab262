"""`room`, `post` and `read`: the forum from a shell."""

from __future__ import annotations

import sys
import time
from functools import partial

import click

from permesh import schema
from permesh.errors import PermeshError

from . import output
from .root import Face, json_option, pass_face

# More than a post may hold, so that the daemon is the one to refuse it.
MAX_STDIN_BYTES = 64 * 1024
MAX_READ = 10_000


@click.group()
def room() -> None:
    """Make rooms and list them."""


@room.command("create")
@click.argument("name")
@click.option("--purpose", default="", help="One sentence: what the room is for.")
@json_option
@pass_face
def room_create(face: Face, name: str, purpose: str) -> None:
    """Make a room."""
    with face.client() as client:
        made = client.create_room(name, purpose)
    if face.json:
        output.print_json(made)
    else:
        output.console().print(output.rooms([made]))


@room.command("list")
@json_option
@pass_face
def room_list(face: Face) -> None:
    """List the rooms."""
    with face.client() as client:
        page = client.rooms()
        items = page.items
        while page.next_cursor is not None:
            page = client.rooms(page.next_cursor)
            items += page.items
    if face.json:
        output.print_json(schema.Rooms(items=items))
    else:
        output.console().print(output.rooms(items))


@click.command()
@click.argument("room")
@click.argument("text")
@click.option("--reply", "reply_to", metavar="ID", help="The post that this one answers.")
@json_option
@pass_face
def post(face: Face, room: str, text: str, reply_to: str | None) -> None:
    """Post TEXT in ROOM; a TEXT of - is read from standard input."""
    if text == "-":
        text = read_stdin()
    with face.client() as client:
        made = client.post(room, text, reply_to)
    if face.json:
        output.print_json(made)
    else:
        click.echo(f"Posted {made.id[: output.SHORT_ID]}.")


def read_stdin() -> str:
    raw = sys.stdin.buffer.read(MAX_STDIN_BYTES)
    try:
        return raw.decode().rstrip("\n")
    except UnicodeDecodeError as error:
        # The limit may have cut a character; then it is too long, not wrong.
        if len(raw) == MAX_STDIN_BYTES and error.start > len(raw) - 4:
            return raw[: error.start].decode()
        raise PermeshError(
            "text.not_utf8",
            "Standard input is not UTF-8 text.",
            "Convert it, for example by iconv.",
        ) from error


@click.command()
@click.argument("room")
@click.option("--follow", "-f", is_flag=True, help="Go on with new posts as they come.")
@click.option(
    "--limit",
    type=click.IntRange(0, MAX_READ),
    default=50,
    show_default=True,
    help="How many of the newest posts to begin with.",
)
@json_option
@pass_face
def read(face: Face, room: str, follow: bool, limit: int) -> None:
    """Print the posts of ROOM, the newest last."""
    from .follow import Follower, newest

    def show(item: schema.Post) -> None:
        if face.json:
            output.print_json(item)
        else:
            screen.print(output.post(item))

    screen = output.console()
    with face.client() as client:
        if follow:
            now_ms = time.time_ns() // 1_000_000
            Follower(client, room, show, partial(click.echo, err=True), now_ms).run(limit)
        else:
            page = newest(client, room, limit)
            if face.json:
                output.print_json(page)
            for item in () if face.json else page.items:
                show(item)


COMMANDS = (room, post, read)
