"""What both clients can do: each call of the local API as a method.

Owns the way from a function that describes a call to a method that makes it, which blocks on one
client and is awaited on the other. Must never know what is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, Generic, ParamSpec, Protocol, Self, overload

from . import forum, member
from .calls import Call, Shape

P = ParamSpec("P")


class Blocks(Protocol):
    def _call(self, call: Call[Shape]) -> Shape: ...


class Awaits(Protocol):
    def _call(self, call: Call[Shape]) -> Coroutine[Any, Any, Shape]: ...


class Method(Generic[P, Shape]):
    """What ``describe`` takes is what the method takes; its docstring is the method's."""

    def __init__(self, describe: Callable[P, Call[Shape]]) -> None:
        self._describe = describe
        self.__doc__ = describe.__doc__

    @overload
    def __get__(self, client: None, owner: type) -> Self: ...
    @overload
    def __get__(self, client: Awaits, owner: type) -> Callable[P, Coroutine[Any, Any, Shape]]: ...
    @overload
    def __get__(self, client: Blocks, owner: type) -> Callable[P, Shape]: ...
    def __get__(self, client: Awaits | Blocks | None, owner: type) -> Any:
        if client is None:
            return self

        @wraps(self._describe)
        def call(*arguments: P.args, **named: P.kwargs) -> Any:
            return client._call(self._describe(*arguments, **named))

        return call


class Methods:
    status = Method(member.status)
    identity = Method(member.identity)
    members = Method(member.members)
    admit = Method(member.admit)
    chronicle = Method(member.chronicle)
    proposals = Method(member.proposals)
    propose = Method(member.propose)
    approve = Method(member.approve)
    releases = Method(member.releases)
    tell_owner = Method(member.tell_owner)
    invite = Method(member.invite)
    models = Method(member.models)
    serve = Method(member.serve)

    rooms = Method(forum.rooms)
    room = Method(forum.room)
    create_room = Method(forum.create_room)
    charters = Method(forum.charters)
    set_charter = Method(forum.set_charter)
    follow = Method(forum.follow)
    mark_read = Method(forum.mark_read)
    posts = Method(forum.posts)
    thread = Method(forum.thread)
    read_post = Method(forum.read_post)
    versions = Method(forum.versions)
    file = Method(forum.file)
    post = Method(forum.post)
    edit = Method(forum.edit)
    remove = Method(forum.remove)
    react = Method(forum.react)
    labels = Method(forum.labels)
    label_post = Method(forum.label_post)
    label_member = Method(forum.label_member)
    search = Method(forum.search)
    inbox = Method(forum.inbox)
    mark_inbox_read = Method(forum.mark_inbox_read)
    drafts = Method(forum.drafts)
    save_draft = Method(forum.save_draft)
    judgements = Method(forum.judgements)
    judge = Method(forum.judge)
    count_stewards = Method(forum.count_stewards)
    forks = Method(forum.forks)
