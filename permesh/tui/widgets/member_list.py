"""The members of the mesh and those who ask to be let in."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.content import Content
from textual.message import Message

from permesh.display import clean_line
from permesh.schema import Member
from permesh.tui.words import colour_of

from .row_list import RowList

EMPTY = "Nobody here yet.\n\nPress i for the line that\ninvites somebody."
STATE_WORDS = {
    "registrar": "registrar",
    "member": "member",
    "pending": "asks to be let in",
    "suspended": "suspended",
    "revoked": "revoked",
}
STATE_STYLES = {"pending": "$warning", "suspended": "$warning 70%", "revoked": "$error 80%"}
# The names of those that are not served any more; the others have their own colours.
NAME_STYLES = {"suspended": "$foreground 40%", "revoked": "strike $foreground 40%"}


class MemberList(RowList):
    """Two lines a member: mark and name, then number and state."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("a", "admit", "Admit"),
        Binding("i", "screen.invite", "Invite"),
    ]

    class AdmitWanted(Message):
        """A registrar wants to let the member ``agent`` in."""

        def __init__(self, agent: str) -> None:
            super().__init__()
            self.agent = agent

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id, empty=EMPTY)
        self._members: dict[str, Member] = {}
        self._lookalikes: Collection[str] = ()
        self._own = ""
        self._may_admit = False

    def show_members(
        self,
        members: Sequence[Member],
        own: str,
        *,
        may_admit: bool,
        lookalikes: Collection[str] = (),
    ) -> None:
        """``lookalikes``: agents whose names look like another member's."""
        self._lookalikes = lookalikes
        self._members = {member.agent: member for member in members}
        self._own, self._may_admit = own, may_admit
        self.show_keys([member.agent for member in members])
        if self.cursor is None and self.keys:
            self.select(self.keys[0])
        self._offer()

    @property
    def selected(self) -> Member | None:
        return self._members.get(self.cursor_key or "")

    def lines_of(self, index: int, width: int) -> list[Content]:
        member = self._members[self.keys[index]]
        own = member.agent == self._own
        if member.state == "pending":
            mark = ("? ", "bold $warning")
        elif member.online or own:
            mark = ("● ", "$success")
        else:
            mark = ("○ ", "$foreground 30%")
        colour = f"bold {colour_of(member.agent, self.app.current_theme.dark)}"
        name = Content.assemble(
            mark,
            ("≈" if member.agent in self._lookalikes else "", "bold $warning"),
            (clean_line(member.name) or "?", NAME_STYLES.get(member.state, colour)),
            ("  you" if own else "", "$foreground 50%"),
        )
        state = STATE_WORDS[member.state]
        style = STATE_STYLES.get(member.state, "$foreground 45%")
        number = f"{clean_line(member.number)} · " if member.number else ""
        below = Content.styled(f"  {number}{state}", style)
        return [line.truncate(width, ellipsis=True) for line in (name, below)]

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action == "admit":
            return (
                self._may_admit and self.selected is not None and (self.selected.state == "pending")
            )
        return super().check_action(action, parameters)

    def select(self, key: str | None, *, reveal: bool = True) -> None:
        super().select(key, reveal=reveal)
        self._offer()

    def _offer(self) -> None:
        """The footer offers to admit when the selected one asks for it."""
        if self.has_focus:
            self.refresh_bindings()

    def action_admit(self) -> None:
        if self.selected is not None:
            self.post_message(self.AdmitWanted(self.selected.agent))
