"""Where a post is written.

Owns the text being written and how its state is told: what it answers, what went wrong, that it
is on its way. Does not send: it asks for it. Never throws text away by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.message import Message
from textual.widgets import Static, TextArea

from permesh.display import clean_line

MAX_POST_BYTES = 32 * 1024  # the forum's limit on a post
MAX_CONTEXT = 5  # lines above the text
TELL_SIZE_FROM = MAX_POST_BYTES * 3 // 4


class PostText(TextArea):
    """The text field. Enter makes a new line; ctrl+s sends."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+s,ctrl+enter", "send", "Send"),
        Binding("escape", "leave", "Back, draft kept"),
        Binding("ctrl+r", "drop_reply", "Not a reply"),
        Binding("ctrl+o", "attach", "Attach a file"),
    ]

    class SendWanted(Message):
        pass

    class Left(Message):
        pass

    class ReplyDropped(Message):
        pass

    class AttachWanted(Message):
        pass

    replying = False
    attaching = True

    def action_send(self) -> None:
        self.post_message(self.SendWanted())

    def action_leave(self) -> None:
        self.post_message(self.Left())

    def action_drop_reply(self) -> None:
        self.post_message(self.ReplyDropped())

    def action_attach(self) -> None:
        self.post_message(self.AttachWanted())

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action == "drop_reply":
            return self.replying
        if action == "attach":
            return self.attaching
        return super().check_action(action, parameters)


class Composer(Vertical):
    """The text field between what it answers and what became of it."""

    class SendWanted(Message):
        """Send ``text``."""

        def __init__(self, text: str) -> None:
            super().__init__()
            self.text = text

    class Typed(Message):
        """The text may be another one now."""

    may_be_empty = False  # a post that carries a file needs no words

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

    def show(self, hint: str, text: str, *, sending: bool) -> None:
        """Show a draft; ``hint`` stands in an empty field."""
        field = self.field
        if field.text != text:
            field.load_text(text)
            field.move_cursor(field.document.end)
        field.placeholder = Content(hint)
        field.read_only = sending
        self.set_class(sending, "-sending")

    def show_context(self, context: Sequence[Content], *, answers: bool, edits: bool) -> None:
        """What the text answers, quotes, carries or replaces, each on a line above it."""
        line = self.query_one("#reply-line", Static)
        self.set_class(bool(context), "-reply")
        field = self.field
        if (field.replying, field.attaching) != (answers or edits, not edits):
            field.replying, field.attaching = answers or edits, not edits
            field.refresh_bindings()
        line.update(Content("\n").join(context[:MAX_CONTEXT]))

    def note(self, text: str, *, error: bool = False) -> None:
        """Say one thing below the text; an empty text takes the line away."""
        note = self.query_one("#compose-note", Static)
        note.update(clean_line(text))
        self.set_class(bool(text), "-note")
        note.set_class(error, "-error")

    def on_text_area_changed(self, event: TextArea.Changed) -> None:
        event.stop()
        self.post_message(self.Typed())
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
        if self.field.read_only:
            return
        if not text.strip() and not self.may_be_empty:
            self.note("Nothing to send yet: write something first.", error=True)
        elif len(text.encode(errors="replace")) <= MAX_POST_BYTES:
            self.post_message(self.SendWanted(text))
