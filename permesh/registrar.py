"""What a registrar's daemon does: it signs what its human decided, and keeps the log growing.

Owns the approvals of this member and its part as a witness of the log. The human approves; the
order of the log is agreed by the daemons alone. Must never know how records travel.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

import trio

from .errors import NotFound, PermeshError, Refused
from .identity import roster as kinds
from .identity.ballot import Ballot, CastVote, Promise, Propose
from .identity.checkpoint import Vote
from .identity.enrolment import Enrolment
from .identity.entry import Approval, Entry
from .identity.log import Batch
from .identity.roster import Roster
from .identity.wallet import Wallet
from .verifiers import Verifier

# One settling publishes at most so much; what is still due is done at the next.
MAX_STEPS = 64


class Registrar:
    """``append(kind, body)`` returns when the record is durable and folded into ``roster``."""

    def __init__(
        self,
        roster: Roster,
        wallet: Wallet,
        append: Callable[[str, bytes], Awaitable[None]],
        verifiers: Mapping[str, Verifier],
        now_ms: Callable[[], int],
    ) -> None:
        self._roster = roster
        self._wallet = wallet
        self._append = append
        self._verifiers = verifiers
        self._now_ms = now_ms
        self._lock = trio.Lock()

    @property
    def may_decide(self) -> bool:
        return self._roster.log.registry.may_decide(self._wallet.address)

    def require(self) -> None:
        if not self.may_decide:
            raise PermeshError(
                "members.not_registrar",
                "This agent is not a registrar of the mesh.",
                "Ask a registrar: permesh members shows who is one.",
                http_status=403,
            )

    # -- what the human decides ----------------------------------------------------------------

    async def admit(self, enrolment: Enrolment, person: str | None) -> None:
        """Approve that someone is let in; returns when the approval is durable, and, if it was
        the last that it took and enough witnesses are here, once the log holds it."""
        self.require()
        self._roster.log.registry.check_free(enrolment)
        verifier = self._verifiers.get(enrolment.verifier)
        if verifier is None:
            raise NotFound(
                "verifier.unknown",
                f"This release does not know the verifier '{enrolment.verifier}'.",
                "Upgrade permesh.",
            )
        await verifier.confirm(enrolment, person)
        await self.approve(Entry.of(enrolment))

    async def approve(self, entry: Entry) -> None:
        """Sign under an entry; nothing happens if this member has done so."""
        self.require()
        if entry.subject == self._wallet.address:
            raise Refused(
                "approval.own",
                "A registrar does not decide about itself.",
                "Leave it to the others.",
            )
        if self._wallet.address not in self._roster.approvals(entry):
            mesh = self._roster.mesh_id
            approval = Approval.make(mesh, entry, self._now_ms(), self._wallet)
            approved = Entry(entry.kind, entry.data).approved_by(approval)
            await self._append(kinds.APPROVAL, approved.encode())
        await self.settle()

    # -- the log -------------------------------------------------------------------------------

    async def settle(self) -> float | None:
        """Do what is due as a witness; returns in how many seconds there is more, None: not by
        time alone."""
        me, ordering = self._wallet.address, self._roster.ordering
        if not self.may_decide:
            return None
        async with self._lock:
            for _ in range(MAX_STEPS):
                actions = ordering.due(me, self._roster.ready(), _clock_ms())
                if not actions:
                    break
                for action in actions:
                    await self._publish(action)
        wait = ordering.wait_ms(me, _clock_ms())
        return None if wait is None else wait / 1000

    async def _publish(self, action: Propose | CastVote | Ballot | Promise) -> None:
        match action:
            case Propose(checkpoint, entries, promises):
                vote = Vote.make(checkpoint, self._wallet)
                await self._append(kinds.BATCH, Batch(vote, entries, promises).encode())
            case CastVote(checkpoint):
                await self._append(kinds.VOTE, Vote.make(checkpoint, self._wallet).encode())
            case Ballot():
                await self._append(kinds.BALLOT, action.encode())
            case Promise():
                await self._append(kinds.PROMISE, action.encode())


def _clock_ms() -> int:
    """Patience is measured by a clock that nobody sets."""
    return int(trio.current_time() * 1000)
