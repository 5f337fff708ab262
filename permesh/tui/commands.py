"""The command palette: every command by name, and every room and member.

Owns their words. Names are others' and could hold markup: they are offered without its brackets.
"""

from __future__ import annotations

from collections.abc import Iterable

from textual.app import SystemCommand

from permesh.display import clean_line

from .conversation import Conversation
from .main_screen import MainScreen
from .post_actions import ACTIONS
from .widgets.post_list import PostList
from .widgets.top_bar import VIEWS
from .words import cut

MAX_ROOMS = 200  # offered by name
MAX_MEMBERS = 200


def post_commands(view: Conversation) -> Iterable[SystemCommand]:
    """What may be done with the selected post."""
    posts = view.query_one(PostList)
    row = posts.selected
    for what, (title, words) in ACTIONS.items():
        if posts.may_want(what) and (row is not None or what == "hidden"):
            key = row.post.id if row else None
            yield SystemCommand(
                f"Post: {title.lower()}", words, lambda what=what, key=key: view.do(what, key)
            )
    yield SystemCommand("Write", "Write a post here", lambda: view.do("compose", None))


def main_commands(main: MainScreen) -> Iterable[SystemCommand]:
    for view, title in VIEWS.items():
        yield SystemCommand(
            f"Go to {title.lower()}", f"Show {title}", lambda view=view: main.action_view(view)
        )
    yield SystemCommand("New room", "Make a room to talk in", main.action_new_room)
    forum = main.forum
    if forum.pointed_at is not None:
        yield SystemCommand("Charter", "The rules of this room, all versions", forum.action_charter)
        word = "Unfollow" if forum.pointed_at.followed else "Follow"
        yield SystemCommand(f"{word} room", f"{word} the room shown", forum.action_follow)
        yield from post_commands(forum.view)
    yield SystemCommand("Invite", "Show the line that invites somebody", main.action_invite)
    yield SystemCommand(
        "My Chronicle", "Show the public record of this member", main.action_own_chronicle
    )
    yield SystemCommand("Proposals", "Show what registrars decide together", main.action_proposals)
    for room_id, name in list(main.rooms())[:MAX_ROOMS]:
        yield SystemCommand(
            f"Open #{_plain(name)}",
            "Show this room",
            lambda room_id=room_id: main.open_room(room_id),
        )
    for member in main.model.sorted_members()[:MAX_MEMBERS]:
        yield SystemCommand(
            f"Member {_plain(member.name)} {_plain(member.number)}".rstrip(),
            "Show the card of this member",
            lambda agent=member.agent: main.open_member(agent),
        )


def _plain(name: str) -> str:
    return clean_line(cut(name, 64)).replace("[", "(")
