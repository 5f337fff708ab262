"""What the admission log says: a fold over its entries, in their order.

Owns the rule that says whether an entry fits what stands before it, and what follows from it: who
is admitted under which number, who decides, which releases are accepted. Signatures were checked
before (`Entry.verify`). Must never know how the log grows or who agreed that it does.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from permesh.errors import Refused

from . import entry as kinds
from .enrolment import Enrolment
from .entry import Entry, RegistrarChange, Release, Suspension
from .genesis import MAX_REGISTRARS, Genesis, Registrar
from .owner import MOVE, REPAIR, REVOKE, OwnerStatement
from .person import FOUNDING

# An approval that nobody joined in is not to be completed years later.
APPROVALS_SPAN_MS = 30 * 24 * 3_600_000


@dataclass(frozen=True, slots=True)
class Seat:
    """One admitted human and agent.

    ``keys`` are the agent's wallets, the present one last. ``approved_by`` are the registrars that
    let it in, none for a founder.
    """

    number: int
    name: str
    owner: bytes
    keys: tuple[bytes, ...]
    person: bytes
    verifier: str
    requested_ms: int
    admitted_ms: int
    approved_by: tuple[bytes, ...] = ()
    suspended: str | None = None
    revoked: bool = False
    # The entries by which it came to this, after the one that admitted it.
    changes: tuple[int, ...] = ()

    @property
    def agent(self) -> bytes:
        return self.keys[-1]

    @property
    def active(self) -> bool:
        return self.suspended is None and not self.revoked


class Registry:
    """The state after the entries taken in so far; begins with the genesis's founders."""

    def __init__(self, genesis: Genesis) -> None:
        self.genesis = genesis
        self.registrars: tuple[bytes, ...] = ()
        self._seats: dict[int, Seat] = {}
        self._by_key: dict[bytes, int] = {}  # agents' keys, former ones too
        self._owners: dict[bytes, int] = {}
        self._persons: dict[bytes, int] = {}
        self.releases: dict[bytes, Release] = {}
        self.repairs: dict[tuple[bytes, int], bytes] = {}  # the record at an agent's place
        # The entries that changed who decides, and those by which each of these was admitted.
        self.authority: dict[int, bool] = {}
        self.known_registrars: dict[bytes, bool] = {}  # keys that decide, or once did
        self._digests: dict[bytes, int] = {}  # of the entries, with their numbers
        # What to put back if the entries tried do not all fit.
        self._undo: list[tuple[dict[Any, Any], Any, Any]] = []
        for number, founder in enumerate(genesis.registrars, 1):
            self._apply(Entry.founder(founder), number)
        self._undo.clear()

    # -- taking in ---------------------------------------------------------------------------

    def extend(self, entries: Iterable[Entry], first: int) -> None:
        """Take all of them in, from number ``first`` on; raises ``Refused`` and takes in none."""
        registrars = self.registrars
        try:
            for number, entry in enumerate(entries, first):
                self._check(entry)
                self._apply(entry, number)
        except Refused:
            self.registrars = registrars
            self._take_back()
            raise
        self._undo.clear()

    def try_out(self, entries: Iterable[Entry], first: int) -> None:
        """Raises ``Refused`` unless `extend` would take them all; changes nothing."""
        registrars = self.registrars
        try:
            for number, entry in enumerate(entries, first):
                self._check(entry)
                self._apply(entry, number)
        finally:
            self.registrars = registrars
            self._take_back()

    def _take_back(self) -> None:
        while self._undo:
            table, key, old = self._undo.pop()
            if old is None:
                del table[key]
            else:
                table[key] = old

    def _set(self, table: dict[Any, Any], key: Any, value: Any) -> None:
        self._undo.append((table, key, table.get(key)))
        table[key] = value

    # -- the rule ----------------------------------------------------------------------------

    def _check(self, entry: Entry) -> None:
        if self.holds(entry.digest):
            raise Refused(
                "log.twice",
                "This stands in the log already.",
                "Propose it afresh if it is to be done once more.",
            )
        content = entry.content()
        match content:
            case Enrolment():
                self._enough(entry)
                self.check_free(content)
            case RegistrarChange():
                self._check_change(content)
                self._enough(entry)
            case Suspension():
                self._check_suspension(entry.kind, content)
                self._enough(entry)
            case Release():
                self._enough(entry)
            case OwnerStatement():
                self.check_owner(content)
            case _:
                raise Refused(
                    "log.kind",
                    "Such an entry does not stand in the log.",
                    "It was altered: have it made again.",
                )

    def check_wish(self, entry: Entry) -> None:
        """Raises ``Refused`` for what no number of approvals would make fit."""
        content = entry.content()
        if isinstance(content, RegistrarChange):
            self._check_change(content)
        elif isinstance(content, Suspension):
            self._check_suspension(entry.kind, content)

    def _enough(self, entry: Entry) -> None:
        who = [a.registrar for a in entry.approvals]
        if any(not self.may_decide(one) or one == entry.subject for one in who):
            raise Refused(
                "approval.not_registrar",
                "An approval is not by a registrar who may decide this.",
                "See who is a registrar: permesh members",
            )
        when = [a.decided_ms for a in entry.approvals]
        if max(when) - min(when) > APPROVALS_SPAN_MS:
            raise Refused(
                "approval.lapsed",
                "The approvals are more than 30 days apart.",
                "Propose it afresh.",
            )
        if len(who) < self.genesis.threshold:
            raise Refused(
                "approval.threshold",
                f"{len(who)} of the {self.genesis.threshold} approvals that it takes are there.",
                "Ask the other registrars to approve it.",
            )

    def check_free(self, enrolment: Enrolment) -> None:
        """Raises ``Refused`` unless person, owner and agent are new here: one human, one agent."""
        if enrolment.person in self._persons:
            raise Refused(
                "admission.person_taken",
                "This person has an agent in the mesh already: one human, one agent.",
                "Use that agent's home, or move the ID to another key: permesh owner move",
            )
        if enrolment.owner in self._owners or enrolment.owner in self._by_key:
            raise Refused(
                "admission.owner_taken",
                "This owner has an agent in the mesh already: one human, one agent.",
                "Use that agent's home, or move the ID to another key: permesh owner move",
            )
        if enrolment.agent in self._by_key or enrolment.agent in self._owners:
            raise Refused(
                "admission.agent_taken",
                "This agent's key is in use in the mesh already.",
                "Make a new identity in a new home: permesh init --name NAME",
            )

    def _check_change(self, change: RegistrarChange) -> None:
        added = self.seat(change.added) if change.added else None
        if change.added and (added is None or added.agent != change.added or not added.active):
            raise Refused(
                "registrar.not_member",
                "Only a member becomes a registrar.",
                "Let it in first: permesh members admit NAME",
            )
        if change.added in self.registrars:
            raise Refused(
                "registrar.already", "This member is a registrar already.", "See: permesh members"
            )
        if change.removed and change.removed not in self.registrars:
            raise Refused(
                "registrar.not_one", "This member is no registrar.", "See: permesh members"
            )
        left = len(self.registrars) + bool(change.added) - bool(change.removed)
        if left > MAX_REGISTRARS:
            raise Refused(
                "registrar.too_many",
                f"A mesh has at most {MAX_REGISTRARS} registrars.",
                "Replace one instead of adding another.",
            )
        if left < self.genesis.threshold:
            raise Refused(
                "registrar.too_few",
                f"{left} registrars could not decide: it takes {self.genesis.threshold}.",
                "Replace the registrar instead of removing it.",
            )

    def _check_suspension(self, kind: str, what: Suspension) -> None:
        seat = self.seat(what.agent)
        if seat is None or seat.agent != what.agent:
            raise Refused("suspension.unknown", "No member has this key.", "See: permesh members")
        if what.agent in self.registrars:
            raise Refused(
                "suspension.registrar",
                "A registrar is not suspended.",
                "Remove or replace it first: permesh registrars remove NAME",
            )
        if (kind == kinds.SUSPENSION) == (seat.suspended is not None):
            raise Refused("suspension.already", "That is so already.", "See: permesh members")

    def check_owner(self, said: OwnerStatement) -> None:
        """Raises ``Refused`` unless the statement is of that agent's owner and says what is new."""
        seat = self.seat(said.agent)
        if seat is None or seat.owner != said.owner:
            raise Refused(
                "owner.not_owner",
                "No agent with this key belongs to this owner here.",
                "Give the owner's wallet that the agent was enrolled with.",
            )
        if said.act != REPAIR and seat.agent != said.agent:
            raise Refused(
                "owner.old_key",
                "The agent has another key by now.",
                "Name the present one; permesh members shows it.",
            )
        if said.act == REVOKE and seat.revoked:
            raise Refused("owner.already", "The key is revoked already.", "See: permesh members")
        if said.act == MOVE and (said.new_agent in self._by_key or said.new_agent in self._owners):
            raise Refused(
                "owner.agent_taken",
                "The new key is in use in the mesh already.",
                "Make a new one: permesh init --name NAME in a new home",
            )
        if said.act == REPAIR and (said.agent, said.seq) in self.repairs:
            raise Refused(
                "owner.already", "This place is repaired already.", "See: permesh chronicle"
            )

    def _apply(self, entry: Entry, number: int) -> None:
        self._set(self._digests, entry.digest, number)
        match entry.content():
            case Registrar(owner, agent, name, person):
                created = self.genesis.created_ms
                self._admit(Seat(number, name, owner, (agent,), person, FOUNDING, created, created))
                self._set(self.known_registrars, agent, True)
                self.registrars = (*self.registrars, agent)
            case Enrolment() as wish:
                self._admit(
                    Seat(
                        number, wish.name, wish.owner, (wish.agent,), wish.person, wish.verifier,
                        wish.requested_ms, entry.decided_ms,
                        tuple(one.registrar for one in entry.approvals),
                    )
                )  # fmt: skip
            case RegistrarChange(added, removed):
                self._set(self.authority, number, True)
                if added:
                    seat = self._seats[self._by_key[added]]
                    for told in (seat.number, *seat.changes):
                        self._set(self.authority, told, True)
                    self._set(self.known_registrars, added, True)
                named = [added if one == removed else one for one in self.registrars]
                if not removed:
                    named.append(added)
                self.registrars = tuple(one for one in named if one)
            case Suspension(agent, reason):
                said = reason if entry.kind == kinds.SUSPENSION else None
                self._change(number, agent, suspended=said)
            case Release() as release:
                self._set(self.releases, release.runtime_hash, release)
            case OwnerStatement(act=act) as owned:
                if owned.agent in self.registrars and act != REPAIR:
                    self._set(self.authority, number, True)
                if act == REVOKE:
                    self._change(number, owned.agent, revoked=True)
                elif act == REPAIR:
                    self._set(self.repairs, (owned.agent, owned.seq), owned.record)
                    self._change(number, owned.agent)
                else:
                    self._move(number, owned)

    def _admit(self, seat: Seat) -> None:
        self._set(self._seats, seat.number, seat)
        self._set(self._by_key, seat.agent, seat.number)
        self._set(self._owners, seat.owner, seat.number)
        self._set(self._persons, seat.person, seat.number)

    def _move(self, number: int, said: OwnerStatement) -> None:
        seat = self._seats[self._by_key[said.agent]]
        self._set(self._by_key, said.new_agent, seat.number)
        if said.agent in self.registrars:
            self._set(self.known_registrars, said.new_agent, True)
        self._change(number, said.agent, keys=(*seat.keys, said.new_agent), revoked=False)
        self.registrars = tuple(
            said.new_agent if one == said.agent else one for one in self.registrars
        )

    def _change(self, number: int, agent: bytes, **changes: Any) -> None:
        """Entry ``number`` changes the seat of ``agent``."""
        seat = self._seats[self._by_key[agent]]
        changed = replace(seat, changes=(*seat.changes, number), **changes)
        self._set(self._seats, seat.number, changed)

    def holds(self, digest: bytes) -> bool:
        """Whether an entry of this digest was taken in."""
        return digest in self._digests

    # -- what follows ------------------------------------------------------------------------

    def seat(self, agent: bytes) -> Seat | None:
        """Of the agent that has, or once had, this key."""
        number = self._by_key.get(agent)
        return None if number is None else self._seats[number]

    def __len__(self) -> int:
        """How many seats there are."""
        return len(self._seats)

    def seats(self) -> list[Seat]:
        """Everyone, by number."""
        return [self._seats[number] for number in sorted(self._seats)]

    @property
    def quorum(self) -> int:
        """How many of the log's witnesses make a checkpoint count: more than half."""
        return len(self.witnesses) // 2 + 1

    @property
    def witnesses(self) -> tuple[bytes, ...]:
        """The registrars that may decide now: not one whose key its owner has revoked."""
        return tuple(one for one in self.registrars if self.may_decide(one))

    def may_decide(self, agent: bytes) -> bool:
        seat = self.seat(agent)
        return agent in self.registrars and seat is not None and seat.active
