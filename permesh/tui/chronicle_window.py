"""The Chronicle of one agent, over the main screen, and the same as plain text.

Owns how an agent's public record is read. Its texts were written by others.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.content import Content

from permesh.display import clean_line
from permesh.schema import Chronicle

from .list_window import ListWindow
from .widgets.event_list import EventList, date_of, text_of
from .words import plural


class ChronicleWindow(ListWindow):
    """What signed records show of an agent."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("y", "copy", "Copy")]

    def __init__(self, name: str, load: Callable[[], Awaitable[Chronicle]]) -> None:
        """``name``: what the agent is called until its Chronicle has come."""
        self._events = EventList()
        super().__init__(f"Chronicle · {name}", self._events)
        self._load = load
        self._chronicle: Chronicle | None = None

    async def fetch(self) -> Content:
        chronicle = self._chronicle = await self._load()
        self.show_title(f"Chronicle · {chronicle.name} {chronicle.number}")
        self._events.say_when_empty("Nothing is recorded of this agent.")
        self._events.show_events(chronicle.items)
        return _head(chronicle)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action == "copy":
            return self._chronicle is not None
        return super().check_action(action, parameters)

    def action_copy(self) -> None:
        if self._chronicle is not None:
            self.app.copy_to_clipboard(plain_text(self._chronicle))
            self.notify("The Chronicle is in the clipboard.", markup=False)


def _head(chronicle: Chronicle) -> Content:
    faults = sum(event.kind == "fault" for event in chronicle.items)
    left_out = _left_out(chronicle)
    return Content.assemble(
        f"{plural(len(chronicle.items), 'event')}, the newest last",
        (f" · {plural(faults, 'fault')}" if faults else "", "$error"),
        f" · {left_out}" if left_out else "",
    )


def _left_out(chronicle: Chronicle) -> str:
    if not chronicle.left_out:
        return ""
    be = "is" if chronicle.left_out == 1 else "are"
    return f"{plural(chronicle.left_out, 'older rotation')} {be} not listed"


def plain_text(chronicle: Chronicle) -> str:
    """One event a line, as safe to paste into a terminal as to read in one."""
    who = f"{chronicle.name} {chronicle.number} {chronicle.agent}"
    lines = [f"Chronicle of {clean_line(who)}"]
    if chronicle.left_out:
        lines.append(f"({_left_out(chronicle)})")
    for event in chronicle.items:
        entry = f"  (entry {event.entry})" if event.entry else ""
        lines.append(f"{date_of(event)}  {event.kind}  {text_of(event)}{entry}")
    return "\n".join(lines) + "\n"
