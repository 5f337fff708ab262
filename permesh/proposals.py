"""What registrars decide besides admissions, in the API's shapes.

Owns the making of entries from what a registrar wants, and the list of what waits for approvals.
Must never know HTTP.
"""

from __future__ import annotations

from collections.abc import Callable

from . import schema
from .errors import NotFound, PermeshError
from .identity.card import address, agent_number
from .identity.entry import Entry, RegistrarChange, Release, Resolution, Suspension
from .identity.roster import Roster
from .members import find_seat
from .registrar import Registrar

_PLAIN_KINDS = frozenset({"registrars", "suspension", "reinstatement", "release", "resolution"})


class Proposals:
    """Implements the registrars' part of ``node.Node``."""

    def __init__(self, roster: Roster, registrar: Registrar, now_ms: Callable[[], int]) -> None:
        self._roster = roster
        self._registrar = registrar
        self._now_ms = now_ms

    def listed(self) -> schema.Proposals:
        """What waits for approvals, oldest first; who asks to be let in is among the members."""
        waiting = [one for one in self._roster.undecided() if one.kind in _PLAIN_KINDS]
        return schema.Proposals(items=[self._shown(entry) for entry in waiting])

    def releases(self) -> schema.Releases:
        found = self._roster.log.registry.releases.values()
        return schema.Releases(
            items=[
                schema.Release(
                    version=one.version,
                    runtime_hash=one.runtime_hash.hex(),
                    accepted=one.accepted,
                    decided_ms=one.proposed_ms,
                )
                for one in found
            ]
        )

    async def propose(self, wanted: schema.NewProposal) -> schema.Proposal:
        """Approve as a registrar, joining in if another one has proposed the same."""
        self._registrar.require()
        entry = self._entry(wanted)
        same = [
            one for one in self._roster.undecided() if _but_for_date(one) == _but_for_date(entry)
        ]
        chosen = same[0] if same else entry
        if chosen.kind != "resolution":
            self._roster.log.registry.check_wish(chosen)
        await self._registrar.approve(chosen)
        return self._shown(chosen)

    async def approve(self, reference: str) -> schema.Proposal:
        """By a unique beginning of its id."""
        wanted = reference.lower()
        found = [one for one in self._roster.undecided() if one.digest.hex().startswith(wanted)]
        found = [one for one in found if one.kind in _PLAIN_KINDS]
        if not found:
            raise NotFound(
                "proposal.unknown",
                f"No proposal begins with '{reference[:64]}'.",
                "See what waits: permesh proposals",
            )
        if len(found) > 1:
            raise PermeshError(
                "proposal.ambiguous",
                f"'{reference[:64]}' stands for {len(found)} proposals.",
                "Give more of the id that 'permesh proposals' shows.",
                http_status=409,
            )
        await self._registrar.approve(found[0])
        return self._shown(found[0])

    # -- inside ------------------------------------------------------------------------------

    def _entry(self, wanted: schema.NewProposal) -> Entry:
        now = self._now_ms()
        match wanted.kind:
            case "registrars":
                added = self._key(wanted.added) if wanted.added else b""
                removed = self._key(wanted.removed) if wanted.removed else b""
                return Entry.of(
                    RegistrarChange.decode(RegistrarChange(added, removed, now).encode())
                )
            case "suspension":
                return Entry.suspend(self._key(wanted.agent), wanted.reason, now)
            case "reinstatement":
                return Entry.reinstate(self._key(wanted.agent), wanted.reason, now)
            case "release":
                runtime_hash = bytes.fromhex(wanted.runtime_hash)
                return Entry.of(Release(wanted.version, runtime_hash, wanted.accepted, now))
            case "resolution":
                return Entry.of(self._resolution(wanted.root))

    def _resolution(self, root: str) -> Resolution:
        found = self._roster.log.contradiction
        if found is None:
            raise PermeshError(
                "resolution.none", "The log does not contradict itself.", "There is nothing to do."
            )
        ways = [found.one.checkpoint, found.other.checkpoint]
        chosen = [one for one in ways if root and one.root.hex().startswith(root.lower())]
        if len(chosen) != 1:
            raise PermeshError(
                "resolution.which",
                "The log goes on in two ways; choose one by its root.",
                "; ".join(f"permesh mesh resolve {one.root.hex()[:16]}" for one in ways),
            )
        return Resolution(chosen[0].base_size, chosen[0].base_root, chosen[0].root)

    def _key(self, reference: str) -> bytes:
        return find_seat(self._roster, reference).agent

    def _shown(self, entry: Entry) -> schema.Proposal:
        approvals = [self._roster.member(one) for one in self._roster.approvals(entry)]
        return schema.Proposal(
            id=entry.digest.hex(),
            kind=entry.kind,
            about=self._about(entry),
            approvals=sorted(agent_number(one.number) for one in approvals if one),
            needed=self._roster.genesis.threshold,
            decided=self._decided(entry),
        )

    def _decided(self, entry: Entry) -> bool:
        if entry.kind == "resolution":
            return self._roster.log.contradiction is None
        return self._roster.log.registry.holds(entry.digest)

    def _about(self, entry: Entry) -> str:
        content = entry.content()
        match content:
            case RegistrarChange(added, removed):
                if added and removed:
                    return f"{self._name(removed)} gives way to {self._name(added)} as registrar"
                verb = "becomes" if added else "is no longer"
                return f"{self._name(added or removed)} {verb} a registrar"
            case Suspension(agent, reason):
                verb = "suspended" if entry.kind == "suspension" else "reinstated"
                return f"{self._name(agent)} is {verb}" + (f": {reason}" if reason else "")
            case Release(version, runtime_hash, accepted):
                verb = "accepted" if accepted else "withdrawn"
                return f"release {version} ({runtime_hash.hex()[:16]}) is {verb}"
            case Resolution(base_size, _, root):
                return f"after entry {base_size} the log goes on with {root.hex()[:16]}"
            case _:
                return entry.kind

    def _name(self, agent: bytes) -> str:
        member = self._roster.member(agent)
        if member is None:
            return address(agent)
        return f"{member.name} ({agent_number(member.number)})"


def _but_for_date(entry: Entry) -> tuple[object, ...]:
    """What two proposals share that want the same."""
    content = entry.content()
    fields = {name: getattr(content, name) for name in content.__dataclass_fields__}
    fields.pop("proposed_ms", None)
    return entry.kind, *fields.values()
