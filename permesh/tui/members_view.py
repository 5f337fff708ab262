"""The members screen: who is in the mesh, who asks, and the card of the selected one."""

from __future__ import annotations

from typing import ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.content import Content

from permesh.display import clean, clean_line
from permesh.errors import PermeshError
from permesh.schema import Chronicle, Member

from .card import member_card
from .chronicle_window import ChronicleWindow
from .dialogs import Admit
from .model import MeshModel
from .ports import Clock, MeshClient
from .post_actions import DID_NOT_WORK, judge
from .widgets.card_view import CardView
from .widgets.member_list import MemberList
from .words import cut


class MembersView(Horizontal):
    """A list and a card. A registrar lets members in from here."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("c", "chronicle", "Chronicle"),
        Binding("p", "screen.proposals", "Proposals"),
        Binding("m", "judge", "Mute, trust"),
    ]

    def __init__(self, client: MeshClient, model: MeshModel, clock: Clock, *, id: str) -> None:
        super().__init__(id=id)
        self._client = client
        self._model = model
        self._clock = clock

    def compose(self) -> ComposeResult:
        yield MemberList(id="member-list")
        yield CardView(id="member-card", hint="Choose a member to see its card.")

    def members_changed(self) -> None:
        own = self._model.status.agent if self._model.status else ""
        self.query_one(MemberList).show_members(
            self._model.sorted_members(),
            own,
            may_admit=self._model.is_registrar,
            lookalikes=self._model.lookalikes,
        )
        self.show_card()

    def show_card(self) -> None:
        member = self._selected
        card = member_card(member, self._clock()) if member else None
        self.query_one(CardView).show_card(card)

    def on_row_list_highlighted(self, event: MemberList.Highlighted) -> None:
        event.stop()
        self.show_card()

    def on_row_list_chosen(self, event: MemberList.Chosen) -> None:
        event.stop()
        self.show_card()
        self.query_one(CardView).focus()

    @property
    def _selected(self) -> Member | None:
        return self.query_one(MemberList).selected

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action == "judge":
            return self._selected is not None and self._selected.agent != self._model.own
        if action == "chronicle":  # it begins with the admission
            return self._selected is not None and self._selected.state != "pending"
        return super().check_action(action, parameters)

    def action_chronicle(self) -> None:
        member = self._selected
        if member is None:
            return

        async def load() -> Chronicle:
            return await self._client.chronicle(member.agent)

        self.app.push_screen(ChronicleWindow(f"{member.name} {member.number}", load))

    @work(group="asking", exclusive=True)
    async def action_judge(self) -> None:
        """Mute, block, or go by the labels of the selected member."""
        member = self._selected
        if member is None:
            return
        name = f"{clean_line(cut(member.name, 64))} {clean_line(cut(member.number, 16))}"
        try:
            await judge(self, self._client, member.agent, name)
        except PermeshError as error:
            self.notify(clean(str(error)), title=DID_NOT_WORK, severity="error", markup=False)

    def on_member_list_admit_wanted(self, event: MemberList.AdmitWanted) -> None:
        event.stop()
        member = self._model.members.get(event.agent)
        if member is not None:
            self._admit(member)

    @work(group="admit", exclusive=True)
    async def _admit(self, member: Member) -> None:
        name = clean_line(member.name)
        lines = Content.assemble(
            (name or "?", "bold"),
            " asks to be let in.\n\nagent  ",
            clean_line(member.agent),
            "\nowner  ",
            clean_line(member.owner),
            (
                "\n\nCompare the agent's address with the one its owner told you: names can be "
                "anything. The log of admissions keeps for ever what you sign.",
                "$foreground 60%",
            ),
        )

        async def admit(person: str | None) -> Member:
            return await self._client.admit(member.agent, person)

        dialog = Admit(lines, member.verifier == "vouched", admit)
        if not await self.app.push_screen_wait(dialog) or dialog.admitted is None:
            return
        admitted = dialog.admitted
        self._model.take_members([admitted])
        self.members_changed()
        if admitted.state == "pending":
            said, title = f"{admitted.approvals} of {admitted.needed} approvals.", "Approved"
        else:
            said, title = f"{clean_line(admitted.number)} now.", "Admitted"
        self.notify(f"{clean_line(admitted.name)}: {said}", title=title, markup=False)
