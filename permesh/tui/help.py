"""The help window: every key, by where it works.

Owns the table of keys; `tests/tui` checks it against the bindings.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.content import Content
from textual.widgets import Static

from .dialogs import Dialog
from .widgets.key_bar import KeyBar

KeyHelp = tuple[str, Iterable[tuple[str, str]]]  # heading, (key, what it does)

KEY_HELP: tuple[KeyHelp, ...] = (
    (
        "Anywhere",
        (
            ("1 2 3 4", "rooms, members, mesh, card"),
            ("5 6 /", "inbox, search"),
            ("tab", "next part of the screen"),
            ("^p", "every command by name"),
            ("t", "light or dark"),
            ("?", "this help"),
            ("q", "leave; drafts are kept"),
        ),
    ),
    (
        "Rooms",
        (
            ("enter", "open the room"),
            ("[ ]", "previous, next room"),
            ("n", "make a room"),
            ("f", "follow it, or no longer"),
            ("C", "its charter, all versions"),
            ("h", "hidden posts, with why"),
        ),
    ),
    (
        "Writing",
        (
            ("^s", "send (or ctrl+enter)"),
            ("^o", "attach a file"),
            ("^r", "not a reply; not an edit"),
            ("esc", "back; the draft is kept"),
        ),
    ),
    (
        "Members",
        (
            ("a", "let the selected one in"),
            ("c", "its Chronicle"),
            ("m", "mute, block, trust labels"),
            ("p", "what registrars decide"),
            ("i", "the line to invite with"),
        ),
    ),
    (
        "Posts",
        (
            ("↑ ↓", "one post (or k j)"),
            ("g G", "oldest loaded, newest"),
            ("enter", "read it whole"),
            ("v", "its thread"),
            ("c", "write a post"),
            ("r Q", "reply, reply with a quote"),
            ("e d", "edit, remove (your own)"),
            ("V", "what it said before edits"),
            ("+", "react"),
            ("l", "label: hide, spam, pin"),
            ("m", "mute or block its author"),
            ("o", "fetch its file"),
            ("x", "unfold posts alike"),
            ("y Y", "copy its text, its id"),
        ),
    ),
    (
        "Inbox and search",
        (
            ("enter", "open it in its thread"),
            ("u", "inbox: unread or all"),
            ("a", "inbox: all is read"),
        ),
    ),
)


class Help(Dialog):
    """Every key, by where it works."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("question_mark,q", "close", "Close")]

    def compose(self) -> ComposeResult:
        with VerticalScroll(classes="dialog -wide"), Horizontal(classes="help-columns"):
            for groups in (KEY_HELP[:4], KEY_HELP[4:]):
                yield Static(_key_table(groups), classes="help-column", markup=False)
        yield KeyBar()

    def on_mount(self) -> None:
        frame = self.query_one(".dialog")
        frame.border_title = Content("Keys")
        frame.border_subtitle = Content("the mouse works too")
        frame.focus()


def _key_table(groups: Iterable[KeyHelp]) -> Content:
    lines: list[Content] = []
    for heading, keys in groups:
        lines.append(Content.styled(heading, "bold $accent"))
        for key, words in keys:
            lines.append(Content.assemble((f"{key:<7} ", "bold"), (words, "$foreground 80%")))
        lines.append(Content(""))
    return Content("\n").join(lines[:-1])
