"""A store with all the forum's views, and records to put in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from permesh.forum import kinds
from permesh.forum.charter import Charter
from permesh.forum.inbox import InboxView
from permesh.forum.kinds import Content, Label
from permesh.forum.search import SearchView
from permesh.forum.views import ForumView
from permesh.records import Record
from permesh.store import Projection, Store
from tests.simulator import Author, address

ME = address("me")


def open_store(path: Path, me: bytes = ME) -> Store:
    return Store(path, views(me), removals=kinds.REMOVALS)


def views(me: bytes = ME) -> list[Projection]:
    return [ForumView(), SearchView(), InboxView(me)]


def room(author: Author, name: str = "lobby", **fields: Any) -> Record:
    charter = Charter(f"about {name}", stewards=(author.address,), **fields)
    return author.write(kinds.room_body(name, charter), kinds.ROOM)


def post(
    author: Author,
    place: Record,
    text: str = "hello",
    parent: Record | None = None,
    *,
    mentions: tuple[bytes, ...] = (),
    quotes: tuple[bytes, ...] = (),
    **fields: Any,
) -> Record:
    body = kinds.post_body(Content(text, quotes=quotes, mentions=mentions))
    parents = (parent.id,) if parent else ()
    return author.write(body, kinds.POST, place.id, parents=parents, **fields)


def edit(author: Author, target: Record, text: str, mentions: tuple[bytes, ...] = ()) -> Record:
    body = kinds.post_body(Content(text, mentions=mentions))
    return author.write(body, kinds.EDIT, target.header.room, parents=(target.id,))


def remove(author: Author, target: Record, *edits: Record) -> Record:
    body = kinds.removal_body((target.id, *(one.id for one in edits)))
    return author.write(body, kinds.REMOVAL, target.header.room, parents=(target.id,))


def react(author: Author, target: Record, emoji: str = "👍", on: bool = True) -> Record:
    body = kinds.reaction_body(emoji, on)
    return author.write(body, kinds.REACTION, target.header.room, parents=(target.id,))


def label(author: Author, target: Record, value: str = "hide", on: bool = True) -> Record:
    body = kinds.label_body(Label(False, target.id, value, on))
    return author.write(body, kinds.LABEL, target.header.room, parents=(target.id,))
