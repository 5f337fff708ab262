"""`post`, `read`, `thread` and what else is done with posts from a shell."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path

import click

from permesh import schema
from permesh.display import clean_line
from permesh.errors import PermeshError

from . import forum_output, output
from .inputs import checked, confirm, gathered, put_files, text_of
from .root import Face, json_option, pass_face

MAX_READ = 10_000
MAX_FILES = MAX_QUOTES = 8

limit_option = click.option(
    "--limit",
    type=click.IntRange(0, MAX_READ),
    default=50,
    show_default=True,
    help="How many at most.",
)
hidden_option = click.option(
    "--hidden", is_flag=True, help="With posts that are kept and not shown, and why."
)


def _print_post(face: Face, found: schema.Post) -> None:
    if face.json:
        output.print_json(found)
    else:
        output.console().print(forum_output.post(found))


@click.command()
@click.argument("room")
@click.argument("text", required=False)
@click.option("--reply", "reply_to", metavar="ID", help="The post that this one answers.")
@click.option("--quote", "quotes", multiple=True, metavar="ID", help="A post to quote first.")
@click.option(
    "--attach",
    "files",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="A file of up to 8 MiB; up to eight times.",
)
@click.option("--draft", is_flag=True, help="Keep TEXT as a draft and post nothing.")
@json_option
@pass_face
def post(
    face: Face,
    room: str,
    text: str | None,
    reply_to: str | None,
    quotes: tuple[str, ...],
    files: tuple[Path, ...],
    draft: bool,
) -> None:
    """Post TEXT in ROOM; a TEXT of - is read from standard input.

    Without TEXT, the draft that is kept for this place is posted.
    """
    if draft:
        _save_draft(face, room, text_of(text or ""), reply_to)
        return
    if len(files) > MAX_FILES or len(quotes) > MAX_QUOTES:
        raise PermeshError(
            "post.too_many",
            "A post carries up to eight files, and quotes up to eight posts.",
            "Put the others into another post.",
        )
    with face.client() as client:
        kept = None
        if text is None and not files:
            kept = _draft(client.drafts().items, client.room(room).id, reply_to)
            text, reply_to = kept.text, kept.reply_to
        attachments = put_files(client, files)
        wanted = checked(
            schema.NewPost,
            text=text_of(text or ""),
            reply_to=reply_to,
            quotes=list(quotes),
            attachments=attachments,
        )
        place = client.status().mesh
        made = client.post(room, wanted)
        if kept is not None:
            client.save_draft(room, schema.NewDraft(text="", reply_to=kept.reply_to))
    if face.json:
        output.print_json(made)
    else:
        click.echo(f"Posted {made.id[: output.SHORT_ID]}.")
    if place.state == "member" and place.detail:  # suspended, revoked or moved, as far as is known
        click.echo(f"It is kept here and may reach nobody. {clean_line(place.detail)}", err=True)


def _save_draft(face: Face, room: str, text: str, reply_to: str | None) -> None:
    if not text:
        raise PermeshError(
            "draft.empty",
            "There is no text to keep.",
            "Give it as an argument, or drop what is kept: permesh drafts drop ROOM",
        )
    wanted = checked(schema.NewDraft, text=text, reply_to=reply_to)
    with face.client() as client:
        kept = client.save_draft(room, wanted)
    if face.json:
        output.print_json(kept)
    else:
        click.echo("Kept as a draft.")


def _draft(drafts: list[schema.Draft], room: str, reply_to: str | None) -> schema.Draft:
    found = _kept(drafts, room, reply_to)
    if found is None:
        raise PermeshError(
            "draft.unknown",
            "There is no text, and no draft is kept for this place.",
            "Give the text as an argument, or - to read it from standard input.",
        )
    return found


def _kept(drafts: list[schema.Draft], room: str, reply_to: str | None) -> schema.Draft | None:
    """Of the room by its id; ``reply_to`` may be the beginning of an id."""
    for kept in drafts:
        answers = kept.reply_to or ""
        if kept.room == room and (answers.startswith(reply_to) if reply_to else not answers):
            return kept
    return None


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
@hidden_option
@json_option
@pass_face
def read(face: Face, room: str, follow: bool, limit: int, hidden: bool) -> None:
    """Print the posts of ROOM, the newest last.

    They stay unread until you say otherwise: permesh room read ROOM
    """
    from .follow import Follower, newest

    def show(item: schema.Post) -> None:
        if face.json:
            output.print_json(item)
        else:
            screen.print(forum_output.post(item))

    screen = output.console()
    with face.client() as client:
        if follow:
            now_ms = time.time_ns() // 1_000_000
            say = partial(click.echo, err=True)
            Follower(client, room, show, say, now_ms, hidden=hidden).run(limit)
        else:
            page = newest(client, room, limit, hidden=hidden)
            if face.json:
                output.print_json(page)
            for item in () if face.json else page.items:
                show(item)
            if limit and not page.items and not face.json:
                click.echo(
                    "Nothing is to be read here yet. Write it with: permesh post ROOM TEXT",
                    err=True,
                )


@click.command()
@click.argument("post", metavar="ID")
@limit_option
@hidden_option
@json_option
@pass_face
def thread(face: Face, post: str, limit: int, hidden: bool) -> None:
    """Print the thread in which the post ID stands, each post before its replies."""
    with face.client() as client:
        items, cursor = gathered(
            lambda cursor, most: client.thread(post, cursor, most, hidden=hidden), limit
        )
    if face.json:
        output.print_json(schema.Posts(items=items, next_cursor=cursor))
        return
    screen = output.console()
    for item in items:
        screen.print(forum_output.post(item, item.depth))
    if cursor is not None:
        click.echo("There is more: see --limit.", err=True)


@click.command()
@click.argument("query", nargs=-1, required=True)
@limit_option
@json_option
@pass_face
def search(face: Face, query: tuple[str, ...], limit: int) -> None:
    """Find posts, the newest first.

    \b
    Words, "phrases", -not, and: author:NAME  room:NAME  before:2026-05-01
    after:2026-04-01  has:file  has:link  mentions:NAME  thread:ID  label:VALUE
    Write -- before a query that begins with a dash.
    """
    wanted = " ".join(query)
    hint = ""

    def page_of(cursor: str | None, most: int) -> schema.Posts:
        nonlocal hint
        page = client.search(wanted, cursor, most)
        hint = page.hint
        return page

    with face.client() as client:
        items, cursor = gathered(page_of, limit)
    if face.json:
        output.print_json(schema.Posts(items=items, next_cursor=cursor, hint=hint))
        return
    screen = output.console()
    for item in items:
        screen.print(forum_output.found(item))
    if not items:
        click.echo(f"Nothing was found. {clean_line(hint)}".rstrip(), err=True)


@click.command()
@click.argument("post", metavar="ID")
@click.argument("text")
@json_option
@pass_face
def edit(face: Face, post: str, text: str) -> None:
    """Change what your post ID says; a TEXT of - is read from standard input."""
    with face.client() as client:
        _print_post(face, client.edit(post, schema.NewText(text=text_of(text))))


@click.command()
@click.argument("post", metavar="ID")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
@pass_face
def remove(face: Face, post: str, yes: bool) -> None:
    """Take back your post ID: every member that hears of it drops its text and its edits."""
    with face.client() as client:
        found = client.read_post(post)
        if found.author == client.identity().agent and not found.removed:  # else nothing is lost
            confirm("Its text is lost for good. Remove the post?", yes=yes)
        removed = client.remove(post)
    if face.json:
        output.print_json(removed)
    else:
        click.echo(f"Removed {removed.id[: output.SHORT_ID]}.")


@click.command()
@click.argument("post", metavar="ID")
@click.argument("emoji")
@click.option("--off", is_flag=True, help="Take it back.")
@json_option
@pass_face
def react(face: Face, post: str, emoji: str, off: bool) -> None:
    """React to the post ID by an EMOJI."""
    wanted = checked(schema.NewReaction, emoji=emoji, on=not off)
    with face.client() as client:
        _print_post(face, client.react(post, wanted))


@click.command()
@click.argument("post", metavar="ID")
@json_option
@pass_face
def versions(face: Face, post: str) -> None:
    """Print what the post ID has said, the oldest first."""
    with face.client() as client:
        found = client.versions(post)
    if face.json:
        output.print_json(found)
        return
    screen = output.console()
    for text in forum_output.versions(found):
        screen.print(text)
    if not found.items:
        click.echo("Its author removed it.", err=True)


@click.command()
@click.option("--unread", is_flag=True, help="Only what is new.")
@click.option("--mark-read", is_flag=True, help="Mark all of it as read.")
@limit_option
@json_option
@pass_face
def inbox(face: Face, unread: bool, mark_read: bool, limit: int) -> None:
    """Print who mentioned, answered, quoted or reacted to you, the newest first."""
    with face.client() as client:
        items, cursor = gathered(
            lambda cursor, most: client.inbox(cursor, most, unread=unread), limit
        )
        new = (client.mark_inbox_read() if mark_read else client.inbox(None, 1)).unread
    if face.json:
        output.print_json(schema.Inbox(items=items, unread=new, next_cursor=cursor))
    else:
        nothing = "Nothing is new." if unread else "Nobody has mentioned or answered you yet."
        output.show_list(forum_output.inbox(items), nothing)


@click.group(invoke_without_command=True)
@json_option
@click.pass_context
def drafts(context: click.Context) -> None:
    """List what you have typed and not posted; `post ROOM` without a text posts one."""
    if context.invoked_subcommand is None:
        context.invoke(drafts_list)


@drafts.command("list")
@json_option
@pass_face
def drafts_list(face: Face) -> None:
    """List what you have typed and not posted."""
    with face.client() as client:
        found = client.drafts()
    if face.json:
        output.print_json(found)
    else:
        output.show_list(
            forum_output.drafts(found.items),
            "No draft is kept. Keep one with: permesh post ROOM TEXT --draft",
        )


@drafts.command("drop")
@click.argument("room")
@click.option("--reply", "reply_to", metavar="ID", help="The post that the draft answers.")
@json_option
@pass_face
def drafts_drop(face: Face, room: str, reply_to: str | None) -> None:
    """Throw away the draft that is kept for ROOM, or for an answer there."""
    with face.client() as client:
        known = client.drafts().items
        # As the list names it, since the room may not be here any more.
        place = next((one.room for one in known if one.room_name == room), None)
        found = _kept(known, place or client.room(room).id, reply_to)
        if found is None:
            raise PermeshError(
                "draft.unknown", "No draft is kept for this place.", "List them: permesh drafts"
            )
        gone = client.save_draft(found.room, schema.NewDraft(text="", reply_to=found.reply_to))
    if face.json:
        output.print_json(gone)
    else:
        click.echo("The draft is gone.")


COMMANDS = (post, read, thread, search, edit, remove, react, versions, inbox, drafts)
