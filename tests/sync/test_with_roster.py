"""Replication with real credentials and real signatures: who is no member gets nothing in."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trio

from permesh.identity.credential import Credential
from permesh.identity.genesis import Genesis, Registrar
from permesh.identity.keys import SessionKey, peer_id_of
from permesh.identity.roster import CREDENTIAL, Roster
from permesh.identity.wallet import Wallet
from permesh.p2p import gossip
from permesh.records import Record
from permesh.store import Store
from tests.simulator import START_MS, Author
from tests.sync.hub import Hub, Member, in_hub, until


@dataclass
class Agent:
    """Wallets and a session key, with whose signatures a chain is written."""

    name: str

    def __post_init__(self) -> None:
        seed = self.name.encode().ljust(32, b"\0")
        self.owner = Wallet.from_key(seed[::-1])
        self.agent = Wallet.from_key(seed)
        self.session = SessionKey.generate(seed)
        self.chain = Author(self.name)
        self.peer_id = peer_id_of(seed)

    def write(self, genesis: Genesis, body: bytes, kind: str, **fields: Any) -> Record:
        return self.chain.write(
            body, kind,
            **{
                "mesh": genesis.mesh_id, "author": self.agent.address,
                "sign": self.session.sign, **fields,
            },
        )  # fmt: skip

    def credential(self, genesis: Genesis) -> Record:
        credential = Credential.make(
            genesis.mesh_id, self.owner.address, self.agent,
            session_key=self.session.public, peer_id=self.peer_id,
            runtime="permesh/0.1.0", runtime_hash=bytes(32), epoch=1, issued_ms=START_MS,
        )  # fmt: skip
        return self.write(genesis, credential.encode(), CREDENTIAL)


def founded() -> tuple[Agent, Genesis]:
    founder = Agent("founder")
    registrar = Registrar(founder.owner.address, founder.agent.address, founder.name, bytes(32))
    return founder, Genesis("mesh", START_MS - 10, bytes(16), (registrar,))


def say(member: Member, *records: Record) -> None:
    wires = tuple(record.to_wire() for record in records)
    member.replication.on_message("peer", gossip.encode(gossip.NewRecords(wires, ())))


def test_a_members_records_pass_in_any_order_and_a_strangers_never(tmp_path: Path) -> None:
    founder, genesis = founded()
    stranger = Agent("stranger")
    credential = founder.credential(genesis)
    notes = [founder.write(genesis, b"%d" % n, "test.note") for n in range(5)]
    forged = Record.from_wire([notes[0].header_bytes, notes[1].signature, notes[0].body])
    foreign = founder.chain.write(b"of another mesh", author=founder.agent.address)
    ahead = founder.write(genesis, b"ahead", "test.note", created_ms=START_MS + 3_600_000)
    outside = [stranger.credential(genesis), stranger.write(genesis, b"me too", "test.note")]

    async def main(hub: Hub) -> None:
        async with hub.member("b", Roster(genesis)) as b:
            say(b, *outside, foreign)
            say(b, *reversed(notes))
            say(b, credential, ahead)
            await b.until_has([credential, *notes])
            say(b, forged, *notes, credential)
            say(b, founder.write(genesis, b"last", "test.note"))
            await until(lambda: len(b.told) == 7)
            assert set(b.told.values()) == {1}
            assert await b.store.read(Store.count) == 7
            # A stranger's may be let in by what the log says later: nobody is blamed for them.
            assert {code for _, code in b.faults} == {"gossip.record.wrong_mesh"}
            (member,) = b.roster.members()  # type: ignore[attr-defined]
            assert (member.agent, member.name) == (founder.agent.address, "founder")

    trio.run(in_hub, tmp_path, main)


def test_sync_carries_what_a_late_member_needs_to_believe_the_rest(tmp_path: Path) -> None:
    founder, genesis = founded()
    records = [founder.credential(genesis)]
    records += [founder.write(genesis, b"%d" % n, "test.note") for n in range(300)]

    async def main(hub: Hub) -> None:
        async with (
            hub.member("a", Roster(genesis)) as a,
            hub.member("b", Roster(genesis)) as b,
        ):
            await a.store.save(records, START_MS)
            b.replication.on_peer("a")
            await b.until_has(records)
            assert b.told == {record.id: 1 for record in records}
            assert not b.faults

    trio.run(in_hub, tmp_path, main)
