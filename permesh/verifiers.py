"""Whether a human stands behind an enrolment: what a registrar's daemon finds out before it signs.

Owns the verifiers, one for each name that an enrolment can give. Must never approve anything.
"""

from __future__ import annotations

from typing import Protocol

import trio

from .chitin import Chain, SoulClaim, check_soul
from .errors import PermeshError, Refused
from .identity.enrolment import Enrolment
from .identity.genesis import Genesis
from .identity.person import CHITIN, VOUCHED, person_hash, vouched_nullifier


class Verifier(Protocol):
    async def confirm(self, enrolment: Enrolment, person: str | None) -> None:
        """Raises ``PermeshError`` unless the evidence holds and the nullifier follows from it.

        ``person`` is what the registrar who decides says of the person.
        """
        ...


class Vouched:
    """The registrar has met the person, and says by what it knows them.

    That the nullifier follows from it is what keeps one person from enrolling twice under two.
    """

    def __init__(self, genesis: Genesis) -> None:
        self._scope = genesis.scope

    async def confirm(self, enrolment: Enrolment, person: str | None) -> None:
        if not person:
            raise PermeshError(
                "person.needed",
                f"Who is behind {enrolment.name} is for you to say: you vouch for having met them.",
                "Name the person as they named themselves: "
                f"permesh members admit {enrolment.name} --person WHO",
            )
        if vouched_nullifier(self._scope, person_hash(person)) != enrolment.person:
            raise Refused(
                "person.other",
                f"{enrolment.name} did not enrol as that person.",
                "Ask which words they gave to --person, and let in only whom you have met.",
            )


class Chitin:
    """The owner holds a soul of the Chitin registry, read from Base by JSON-RPC.

    It shows a sealed, locked token, and not that its human holds no second one.
    """

    def __init__(
        self, genesis: Genesis, rpc: str, implementations: frozenset[bytes] = frozenset()
    ) -> None:
        self._scope = genesis.scope
        self._rpc = rpc
        self._implementations = implementations

    async def confirm(self, enrolment: Enrolment, person: str | None) -> None:  # noqa: ARG002
        claim = SoulClaim.decode(enrolment.evidence)
        if claim.nullifier(self._scope) != enrolment.person:
            raise Refused(
                "person.other",
                f"{enrolment.name} did not enrol as the holder of that soul.",
                "Ask its owner to enrol again: permesh mesh join LINE --soul NAME",
            )
        if not self._rpc:
            raise PermeshError(
                "chitin.no_endpoint",
                "No endpoint of Base is configured to read the soul from.",
                'Set one in config.toml: [identity] base_rpc = "https://…"',
            )
        # The stubs know the older name of the argument.
        await trio.to_thread.run_sync(  # type: ignore[call-arg]
            self._read, claim, enrolment.owner, abandon_on_cancel=True
        )

    def _read(self, claim: SoulClaim, owner: bytes) -> None:
        with Chain(self._rpc) as chain:
            check_soul(chain, claim, owner, implementations=self._implementations)


def verifiers(genesis: Genesis, rpc: str, implementations: frozenset[bytes]) -> dict[str, Verifier]:
    """By the name that an enrolment gives."""
    return {VOUCHED: Vouched(genesis), CHITIN: Chitin(genesis, rpc, implementations)}
