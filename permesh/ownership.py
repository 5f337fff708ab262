"""What an owner does about its agent with the owner's wallet alone, from whichever machine.

Owns the making of owners' statements and the visit that brings one to a member: a short connection
that asks for nothing and is let into nothing. Must never need the agent's keys or its home, but for
the new key that an ID is moved to.
"""

from __future__ import annotations

import os
import random
import time
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import trio

from .config import Home, NetworkConfig
from .errors import PermeshError, Refused
from .identity.genesis import Genesis, Invite
from .identity.hello import Hello, OwnersVisit, Verified, check_hello
from .identity.keys import SEED_BYTES, KeyFiles
from .identity.owner import OwnerStatement
from .identity.roster import Roster
from .identity.wallet import Wallet
from .membership import OWNER_HEARD
from .p2p.admission import GateVerdict
from .p2p.swarm import Swarm
from .remembered import read_mesh
from .store import Store

# Members are looked for as long as this, and one that hears of it is enough.
VISIT_SECONDS = 60.0
# For others to hear of it as well: the first may be a friend of whoever has the key.
MORE_SECONDS = 2.0


def read_invite(line: str | None) -> Invite | None:
    return None if line is None else Invite.parse(line)


def owner_wallet(home: Home, path: Path | None, passphrase: str | None) -> Wallet:
    """From a file that the owner keeps, or the home's own."""
    if path is not None and not path.exists():
        raise PermeshError(
            "wallet.missing",
            f"There is no keystore {path}.",
            "Name the file in which the owner's wallet is kept.",
        )
    return Wallet.load(path or KeyFiles(home).owner, passphrase)


def mesh_of(home: Home, invite: Invite | None) -> Genesis:
    """Which mesh is spoken of; raises ``mesh.none`` if nothing says so."""
    if invite is not None:
        return invite.genesis
    if not home.database.is_file():
        raise PermeshError(
            "mesh.none",
            "Nothing says which mesh this is about.",
            "Give an invite of it, as a member prints it: --invite LINE",
        )
    with closing(Store(home.database, read_only=True)) as store:
        return read_mesh(store)[0]


def revocation(genesis: Genesis, owner: Wallet, agent: bytes) -> OwnerStatement:
    return OwnerStatement.revoke(genesis.mesh_id, owner, agent, _now_ms())


def repair(
    genesis: Genesis, owner: Wallet, agent: bytes, seq: int, record: bytes
) -> OwnerStatement:
    return OwnerStatement.repair(genesis.mesh_id, owner, agent, seq, record, _now_ms())


def removal(genesis: Genesis, owner: Wallet, agent: bytes, new_agent: Wallet) -> OwnerStatement:
    return OwnerStatement.move(genesis.mesh_id, owner, agent, new_agent, _now_ms())


@dataclass
class _Visitor:
    """The swarm's ``Gate`` of one who only comes to say something."""

    genesis: Genesis
    statement: OwnerStatement
    members: dict[str, Verified] = field(default_factory=dict)
    verdicts: dict[str, GateVerdict] = field(default_factory=dict)
    changed: trio.Event = field(default_factory=trio.Event)

    def hello(self) -> bytes:
        return OwnersVisit(self.statement).encode()

    def check(self, peer_id: str, hello: bytes) -> GateVerdict:
        found = check_hello(Hello.decode(hello), Roster(self.genesis), peer_id, _now_ms())
        if not isinstance(found, Verified):
            raise Refused("owner.not_member", "This peer is no member.", "Turn to another one.")
        self.members[peer_id] = found
        self.changed.set()
        return GateVerdict("pending", "owner.visit", "An owner came to say something.")

    def on_verdict(self, peer_id: str, verdict: GateVerdict) -> None:
        self.verdicts[peer_id] = verdict
        self.changed.set()

    def heard_by(self) -> list[Verified]:
        """Members, shown to be some, that say they tell the mesh; whoever has the key in question
        may say so as well, and does not count."""
        return [
            self.members[peer_id]
            for peer_id, verdict in self.verdicts.items()
            if verdict.code == OWNER_HEARD
            and peer_id in self.members
            and self.members[peer_id].agent != self.statement.agent
        ]

    def refusal(self) -> GateVerdict | None:
        """What a member has against the statement."""
        for peer_id, verdict in self.verdicts.items():
            known = self.members.get(peer_id)
            if verdict.status == "refused" and known and known.agent != self.statement.agent:
                return verdict
        return None


def bring(invite: Invite, statement: OwnerStatement, seconds: float = VISIT_SECONDS) -> str:
    """Tell members of the invite's mesh; returns their names. Raises ``PermeshError``."""
    return trio.run(_bring, invite, statement, seconds)


async def _bring(invite: Invite, statement: OwnerStatement, seconds: float) -> str:
    visitor = _Visitor(invite.genesis, statement)
    swarm = Swarm(
        os.urandom(SEED_BYTES),
        NetworkConfig(listen=(), bootstrap=invite.bootstrap),
        f"permesh/{invite.genesis.mesh_id.hex()}/1",
        visitor,
        {},
        lambda _peer, _data: None,
        rng=random.Random(),
    )
    with trio.move_on_after(seconds):
        async with swarm.running():
            while True:
                heard, refusal = visitor.heard_by(), visitor.refusal()
                if heard:
                    await trio.sleep(MORE_SECONDS)
                    return ", ".join(sorted(one.name for one in visitor.heard_by()))
                if refusal is not None:
                    raise PermeshError(refusal.code, refusal.message, refusal.remedy)
                await visitor.changed.wait()
                visitor.changed = trio.Event()
    raise PermeshError(
        "network.unreachable",
        f"No member of {invite.genesis.name} was reached at the invite's addresses.",
        "Ask a member for a fresh invite, or try again when one of them is online.",
    )


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
