"""Where a post is written.

Owns the text being written and how its state is told: what it answers, what went wrong, that it
is on its way. Does not send: it asks for it. Never throws text away by itself.
"""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.message import Message
from textual.widgets import Static, TextArea

from permesh.display import clean_line
from permesh.schema import Post

MAX_POST_BYTES = 32 * 1024  # the forum's limit on a post
QUOTE = 200  # characters of the answered post shown above the reply
TELL_SIZE_FROM = MAX_POST_BYTES * 3 // 4


class PostText(TextArea):
    """The text field. Enter makes a new line; ctrl+s sends."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+s,ctrl+enter", "send", "Send"),
        Binding("escape", "leave", "Back, draft kept"),
        Binding("ctrl+r", "drop_reply", "Not a reply"),
    ]

    class SendWanted(Message):
        pass

    class Left(Message):
        pass

    class ReplyDropped(Message):
        pass

    replying = False

    def action_send(self) -> None:
        self.post_message(self.SendWanted())

    def action_leave(self) -> None:
        self.post_message(self.Left())

    def action_drop_reply(self) -> None:
        self.post_message(self.ReplyDropped())

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        return self.replying if action == "drop_reply" else super().check_action(action, parameters)


class Composer(Vertical):
    """The text field between what it answers and what became of it."""

    class SendWanted(Message):
        """Send ``text``."""

        def __init__(self, text: str) -> None:
            super().__init__()
            self.text = text

    def compose(self) -> ComposeResult:
        yield Static(id="reply-line", markup=False)
        yield PostText(
            id="post-text", compact=True, highlight_cursor_line=False, show_line_numbers=False
        )
        yield Static(id="compose-note", markup=False)

    @property
    def field(self) -> PostText:
        return self.query_one(PostText)

    @property
    def text(self) -> str:
        return self.field.text

    def show(self, room_name: str, text: str, reply_to: Post | None, *, sending: bool) -> None:
        """Show a room's draft."""
        field = self.field
        if field.text != text:
            field.load_text(text)
            field.move_cursor(field.document.end)
        field.placeholder = Content(f"Write to #{clean_line(room_name)} — press c")
        field.read_only = sending
        self.show_reply(reply_to)
        self.set_class(sending, "-sending")

    def show_reply(self, reply_to: Post | None) -> None:
        line = self.query_one("#reply-line", Static)
        self.set_class(reply_to is not None, "-reply")
        if self.field.replying != (reply_to is not None):
            self.field.replying = reply_to is not None
            self.field.refresh_bindings()
        if reply_to is not None:
            line.update(
                Content.assemble(
                    ("↳ ", "$accent"),
                    (clean_line(reply_to.author_name) or "?", "bold"),
                    f"  {clean_line(' '.join(reply_to.text[:QUOTE].split()))}",
                )
            )

    def note(self, text: str, *, error: bool = False) -> None:
        """Say one thing below the text; an empty text takes the line away."""
        note = self.query_one("#compose-note", Static)
        note.update(clean_line(text))
        self.set_class(bool(text), "-note")
        note.set_class(error, "-error")

    def on_text_area_changed(self, event: TextArea.Changed) -> None:
        event.stop()
        count = len(event.text_area.text.encode(errors="replace"))
        if count > MAX_POST_BYTES:
            self.note(
                f"{count} of {MAX_POST_BYTES} bytes. Shorten it, or send it as two.", error=True
            )
        elif count >= TELL_SIZE_FROM:
            self.note(f"{count} of {MAX_POST_BYTES} bytes")
        elif event.text_area.has_focus:
            self.note("")

    def on_post_text_send_wanted(self, event: PostText.SendWanted) -> None:
        event.stop()
        text = self.field.text
        if not text.strip():
            self.note("Nothing to send yet: write something first.", error=True)
        elif len(text.encode(errors="replace")) <= MAX_POST_BYTES:
            self.post_message(self.SendWanted(text))
