"""What waits for registrars' approvals, each with who approved it below its words."""

from __future__ import annotations

from collections.abc import Sequence

from textual.content import Content

from permesh.display import clean_line
from permesh.schema import Proposal
from permesh.tui.words import cut, fold

from .row_list import RowList

MAX_ABOUT = 600  # characters shown in the list; the question before an approval has them all
MAX_APPROVALS = 12  # numbers shown
EMPTY = "Nothing waits for registrars.\n\nWho asks to be let in stands first among the members."


def approvals_of(proposal: Proposal, own: str) -> str:
    """How many of how many, and who; ``own`` is this member's number."""
    given = proposal.approvals
    names = [f"{cut(one, 32)} (you)" if one == own else cut(one, 32) for one in given]
    more = f" and {len(given) - MAX_APPROVALS} more" if len(given) > MAX_APPROVALS else ""
    by = f": {', '.join(names[:MAX_APPROVALS])}{more}" if given else ""
    return clean_line(f"{len(given)} of {proposal.needed} approvals{by}")


class ProposalList(RowList):
    """Oldest first, as the daemon lists them."""

    clicks_to_choose = 2

    def __init__(self, own: str) -> None:
        super().__init__()
        self._own = own
        self._proposals: dict[str, Proposal] = {}

    def show_proposals(self, proposals: Sequence[Proposal]) -> None:
        self._proposals = {proposal.id: proposal for proposal in proposals}
        self.say_when_empty(EMPTY)
        self.show_keys(list(self._proposals))
        if self.cursor is None and self.keys:
            self.select(self.keys[0])

    @property
    def selected(self) -> Proposal | None:
        return self._proposals.get(self.cursor_key or "")

    def lines_of(self, index: int, width: int) -> list[Content]:
        proposal = self._proposals[self.keys[index]]
        kind = clean_line(cut(proposal.kind, 32))
        below = Content.assemble(
            (kind, "$accent"), (f" · {approvals_of(proposal, self._own)}", "$foreground 50%")
        )
        lines = [*map(Content, self._folded(index, width)), below]
        return [*(line.truncate(width, ellipsis=True) for line in lines), Content("")]

    def height_of(self, index: int, width: int) -> int:
        return len(self._folded(index, width)) + 2

    def _folded(self, index: int, width: int) -> list[str]:
        about = self._proposals[self.keys[index]].about
        return fold(clean_line(cut(about, MAX_ABOUT)), width)
