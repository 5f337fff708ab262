"""What registrars decide together: the list of what waits, and the question before an approval.

Owns what a registrar reads before signing. Names and reasons in it were written by others.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.widgets import Button, Static

from permesh.display import clean_line
from permesh.errors import PermeshError
from permesh.schema import Proposal, Proposals

from .dialogs import Dialog
from .list_window import MAX_HEAD, ListWindow
from .widgets.key_bar import KeyBar
from .widgets.proposal_list import ProposalList, approvals_of
from .words import cut, plural

FOR_EVER = "The log of admissions keeps for ever what you sign."
ONLY_REGISTRARS = "Only registrars approve; you can read along."


class ProposalsWindow(ListWindow):
    """The list; a registrar approves from here."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("a", "approve", "Approve")]

    def __init__(
        self,
        load: Callable[[], Awaitable[Proposals]],
        approve: Callable[[str], Awaitable[Proposal]],
        *,
        own: str,
        may_approve: bool,
    ) -> None:
        """``own`` is this member's number."""
        self._list = ProposalList(own)
        super().__init__("What registrars decide", self._list)
        self._load = load
        self._approve = approve
        self._own = own
        self._may_approve = may_approve

    async def fetch(self) -> Content:
        found = await self._load()
        self._list.show_proposals(found.items)
        count = len(found.items)
        verb = "waits" if count == 1 else "wait"
        said = f"{plural(count, 'proposal')} {verb} for approvals." if count else ""
        only = "" if self._may_approve else ONLY_REGISTRARS
        return Content(f"{said} {only}".strip())

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action == "approve":
            return self._may_approve and self._list.selected is not None
        return super().check_action(action, parameters)

    def on_row_list_chosen(self, event: ProposalList.Chosen) -> None:
        event.stop()
        if self._may_approve:
            self.action_approve()
        else:
            self.tell(ONLY_REGISTRARS)

    def action_approve(self) -> None:
        proposal = self._list.selected
        if proposal is None:
            return
        if self._own in proposal.approvals:
            self.tell("You have approved this one; the others follow.")
            return
        dialog = Approve(proposal, self._own, self._approve)

        def answered(_: bool | None) -> None:
            if dialog.approved is not None:
                said = _outcome(dialog.approved)
                self.notify(said, title="Approved", markup=False)
            if dialog.asked:  # whatever came of it, the list may be another one
                self.action_ask()

        self.app.push_screen(dialog, answered)


def _outcome(proposal: Proposal) -> str:
    about, count = clean_line(cut(proposal.about, 200)), len(proposal.approvals)
    if proposal.decided:
        return f"Decided: {about}."
    if count >= proposal.needed:
        return f"{about}: holds once the log's witnesses have cosigned."
    return f"{about}: {count} of {proposal.needed} approvals."


class Approve(Dialog):
    """One proposal, whole, and whether to sign it; stays open with the reason when refused."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "agree", "Approve"),
        Binding("n", "close", "Cancel"),
    ]

    def __init__(
        self, proposal: Proposal, own: str, approve: Callable[[str], Awaitable[Proposal]]
    ) -> None:
        super().__init__()
        self._proposal = proposal
        self._own = own
        self._approve = approve
        self._waiting = False
        self.asked = False
        self.approved: Proposal | None = None

    def compose(self) -> ComposeResult:
        proposal = self._proposal
        with Vertical(classes="dialog"):
            with VerticalScroll(classes="line -short"):
                yield Static(clean_line(proposal.about), markup=False)
                yield Static(_facts(proposal, self._own), markup=False)
            yield Static(FOR_EVER, classes="note", markup=False)
            yield Static(id="problem", classes="problem", markup=False)
            with Horizontal(classes="buttons"):
                yield Button("Cancel (n)", id="cancel")
                yield Button("Approve (y)", id="agree", variant="primary")
        yield KeyBar()

    def on_mount(self) -> None:
        self.query_one(".dialog").border_title = Content("Approve this?")
        self.query_one(VerticalScroll).focus()

    def on_button_pressed(self, event: Button.Pressed) -> None:
        if event.button.id == "agree":
            self.action_agree()
        else:
            self.dismiss(False)

    def action_agree(self) -> None:
        if self._waiting:
            return
        self._waiting = self.asked = True
        self._say("Asking…")
        self._ask()

    @work(group="approve")
    async def _ask(self) -> None:
        try:
            self.approved = await self._approve(self._proposal.id)
        except PermeshError as error:
            self._waiting = False
            self._say(clean_line(cut(str(error), MAX_HEAD)))
        else:
            self.dismiss(True)

    def _say(self, text: str) -> None:
        self.query_one("#problem", Static).update(text)


def _facts(proposal: Proposal, own: str) -> Content:
    return Content.assemble(
        ("\nkind      ", "$foreground 50%"),
        clean_line(cut(proposal.kind, 32)),
        ("\nso far    ", "$foreground 50%"),
        approvals_of(proposal, own),
        ("\nproposal  ", "$foreground 50%"),
        clean_line(cut(proposal.id, 17)),
    )
