"""Three registrars, two of whom decide: real stores and wallets; the test hands records over."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from permesh import offline, schema
from permesh.async_store import AsyncStore
from permesh.config import Home
from permesh.errors import PermeshError, Refused
from permesh.identity.ballot import PATIENCE_MS
from permesh.identity.checkpoint import Vote
from permesh.identity.entry import Approval, Entry, Release
from permesh.identity.export import check_contradiction, contradiction_document
from permesh.identity.genesis import Genesis, Invite
from permesh.identity.hello import Asking, Verified, check_hello, decode_shown
from permesh.identity.log import Batch
from permesh.identity.owner import OwnerStatement
from permesh.identity.roster import BATCH, VOTE
from permesh.identity.wallet import Wallet
from permesh.members import find_seat, read_chronicle
from permesh.membership import Membership
from permesh.proposals import Proposals
from permesh.records import Record
from permesh.remembered import Secrets
from permesh.verifiers import verifiers

CLOCK = MockClock()  # stands still but for `Mesh.later`
FOUNDERS = ("ann", "ben", "cat")


def mail(name: str) -> str:
    return f"{name}@example.org"


class Mesh:
    """Whoever is up hears at once what another one saves; who was down hears it on coming back."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.now_ms = offline._now_ms()
        self.nodes: dict[str, Node] = {}
        self.records: list[Record] = []
        homes = {name: self.home(name) for name in FOUNDERS}
        for name, home in homes.items():
            offline.create_identity(home, name)
        others = [offline.founder_line(homes[name], mail(name)) for name in FOUNDERS[1:]]
        self.genesis: Genesis = offline.create_mesh(homes["ann"], "orchard", mail("ann"), others)
        self.invite = Invite(self.genesis, ()).line()
        for name in FOUNDERS[1:]:
            self.join(name)

    def home(self, name: str) -> Home:
        return Home(self.root / name)

    def join(self, name: str) -> None:
        offline.join_mesh(self.home(name), self.invite, offline.known_as(mail(name)))

    async def up(self, *names: str) -> None:
        for name in names:
            node = self.nodes[name] = Node(self, name)
            await node.open()
        await self.settle()

    async def down(self, name: str) -> None:
        await self.nodes.pop(name).store.aclose()

    async def settle(self) -> None:
        """Until nobody has anything more to say."""
        heard = -1
        while heard != len(self.records):
            heard = len(self.records)
            for node in list(self.nodes.values()):
                await node.hear()
                await node.membership._settle()

    async def later(self) -> None:
        """What is due by time alone."""
        await self.settle()
        CLOCK.jump(10 * PATIENCE_MS / 1000)
        await self.settle()


@dataclass
class Node:
    mesh: Mesh
    name: str
    heard: int = 0

    async def open(self) -> None:
        home = self.mesh.home(self.name)
        self.store = await AsyncStore.open(home.database)
        self.membership = await Membership.open(
            self.store,
            Secrets.unlock(home, None),
            self.now,
            lambda g: verifiers(g, "", frozenset()),
        )
        self.membership.attach(self._saved)
        self.roster = self.membership.roster
        self.proposals = Proposals(self.roster, self.membership.registrar, self.now)

    def now(self) -> int:
        return self.mesh.now_ms

    def _saved(self, record: Record) -> None:
        self.roster.apply(record)
        self.mesh.records.append(record)

    async def hear(self) -> None:
        waiting = self.mesh.records[:]
        while True:
            left = []
            for record in waiting:
                if await self.store.read(lambda store, r=record: store.has(r.id)):
                    continue
                try:
                    self.roster.check(record, self.now())
                except Refused as refused:
                    if refused.code != "record.credential_unknown":
                        raise
                    left.append(record)
                    continue
                await self.store.save([record], self.now())
                self.roster.apply(record)
            if len(left) == len(waiting):
                self.membership.pulled()
                return
            waiting = left

    def names(self) -> list[str]:
        return [member.name for member in self.roster.members()]

    def found(self, other: Node) -> Verified | Asking:
        """What it finds of another one's hello."""
        shown = decode_shown(other.membership.hello())
        return check_hello(shown, self.roster, other.membership.peer_id, self.now())


@pytest.fixture
def mesh(tmp_path: Path) -> Mesh:
    return Mesh(tmp_path)


def run(main: Callable[[], Awaitable[None]]) -> None:
    trio.run(main, clock=CLOCK)


async def newcomer(mesh: Mesh, name: str, sponsor: str) -> Node:
    """One that asked ``sponsor`` to be let in."""
    offline.create_identity(mesh.home(name), name)
    mesh.join(name)
    node = Node(mesh, name)
    await node.open()
    gate = mesh.nodes[sponsor].membership
    gate.check(node.membership.peer_id, node.membership.hello())
    await mesh.settle()
    return node


async def admit(mesh: Mesh, registrar: str, node: Node) -> None:
    enrolment = node.membership.enrolment
    await mesh.nodes[registrar].membership.registrar.admit(enrolment, mail(node.name))
    await mesh.settle()


def test_two_of_three_let_in_and_one_alone_does_not(mesh: Mesh) -> None:
    async def main() -> None:
        await mesh.up(*FOUNDERS)
        dan = await newcomer(mesh, "dan", "cat")
        ann = mesh.nodes["ann"]
        await admit(mesh, "ben", dan)
        await admit(mesh, "ben", dan)  # once more is not twice
        assert ann.names() == list(FOUNDERS)
        entry = Entry.of(dan.membership.enrolment)
        assert len(ann.roster.approvals(entry)) == 1
        await admit(mesh, "cat", dan)
        for node in mesh.nodes.values():
            assert node.names() == [*FOUNDERS, "dan"]
            assert node.roster.log.root == ann.roster.log.root
        assert ann.roster.log.size == 4
        assert find_seat(ann.roster, "AGT-0004").name == "dan"
        assert find_seat(ann.roster, "dan").approved_by == tuple(
            sorted(mesh.nodes[name].membership.agent for name in ("ben", "cat"))
        )

    run(main)


def test_the_first_registrar_may_be_lost_and_the_others_replace_it(mesh: Mesh) -> None:
    async def main() -> None:
        await mesh.up(*FOUNDERS)
        await mesh.down("ann")
        dan = await newcomer(mesh, "dan", "ben")
        await admit(mesh, "ben", dan)
        await admit(mesh, "cat", dan)
        await mesh.later()
        ben, cat = mesh.nodes["ben"], mesh.nodes["cat"]
        assert ben.names() == cat.names() == [*FOUNDERS, "dan"]
        mesh.nodes["dan"] = dan
        await mesh.settle()
        assert dan.membership.number == 4
        wish = schema.NewProposal(kind="registrars", removed="ann", added="AGT-0004")
        shown = await ben.proposals.propose(wish)
        assert (shown.decided, shown.approvals, shown.needed) == (False, ["AGT-0002"], 2)
        await mesh.settle()
        [listed] = cat.proposals.listed().items
        assert listed.about == "ann (AGT-0001) gives way to dan (AGT-0004) as registrar"
        await cat.proposals.propose(wish)  # the same, so it joins in
        await mesh.settle()
        await mesh.later()
        assert [dan.membership.registrar.may_decide, cat.proposals.listed().items] == [True, []]
        # Who was away learns that it decides no more, before it could.
        await mesh.up("ann")
        ann = mesh.nodes["ann"]
        assert ann.roster.log.root == ben.roster.log.root
        with pytest.raises(PermeshError, match="not a registrar"):
            await ann.proposals.propose(schema.NewProposal(kind="suspension", agent="ben"))

    run(main)


def test_one_bad_registrar_neither_lets_in_nor_shuts_out(mesh: Mesh) -> None:
    async def main() -> None:
        await mesh.up(*FOUNDERS)
        dan = await newcomer(mesh, "dan", "ann")
        await admit(mesh, "ann", dan)
        ann = mesh.nodes["ann"]
        wishes = (
            schema.NewProposal(kind="suspension", agent="ben", reason="mine now"),
            schema.NewProposal(kind="registrars", removed="ben"),
        )
        with pytest.raises(Refused) as caught:
            await ann.proposals.propose(wishes[0])
        assert caught.value.code == "suspension.registrar"
        await ann.proposals.propose(wishes[1])
        await mesh.later()
        for node in mesh.nodes.values():
            assert node.names() == list(FOUNDERS)
            assert len(node.roster.log.registry.registrars) == 3
        with pytest.raises(Refused) as caught:
            await mesh.nodes["ben"].proposals.propose(wishes[1])
        assert caught.value.code == "approval.own"

    run(main)


def test_who_is_suspended_is_refused_until_it_is_reinstated(mesh: Mesh) -> None:
    async def main() -> None:
        await mesh.up(*FOUNDERS)
        ann, ben = mesh.nodes["ann"], mesh.nodes["ben"]
        dan = await newcomer(mesh, "dan", "ann")
        await admit(mesh, "ann", dan)
        await admit(mesh, "ben", dan)
        verified = ann.found(dan)
        assert isinstance(verified, Verified)
        for kind, refused in (("suspension", True), ("reinstatement", False)):
            wish = schema.NewProposal(kind=kind, agent="dan", reason="as agreed")
            await ann.proposals.propose(wish)
            await mesh.settle()
            await ben.proposals.approve(ben.proposals.listed().items[0].id[:8])
            await mesh.settle()
            found = ann.membership.refusal(verified)
            assert (found is not None) == refused
        chronicle = await read_chronicle(ann.store, ann.roster, "dan")
        assert [one.kind for one in chronicle.items].count("suspension") == 2
        told = [one.text for one in chronicle.items if one.kind == "suspension"]
        assert [text.partition(" by ")[0] for text in told] == ["suspended", "reinstated"]
        assert all("ann (AGT-0001)" in text and "as agreed" in text for text in told)

    run(main)


def test_who_lost_its_database_goes_on_where_its_chain_ended(mesh: Mesh) -> None:
    async def main() -> None:
        await mesh.up(*FOUNDERS)
        before = [record for record in mesh.records if record.header.author == agent(mesh, "cat")]
        await mesh.down("cat")
        home = mesh.home("cat")
        for path in home.root.glob("permesh.db*"):
            path.unlink()
        mesh.join("cat")
        mesh.now_ms += 60_000
        cat = mesh.nodes["cat"] = Node(mesh, "cat")
        await cat.open()
        written = len(mesh.records)
        await cat.membership._settle()
        assert len(mesh.records) == written  # nothing, before it heard
        await mesh.settle()
        chain = [record for record in mesh.records if record.header.author == cat.membership.agent]
        assert len(chain) > len(before) > 0
        assert [record.header.seq for record in chain] == list(range(len(chain)))
        assert cat.membership.credential.epoch == 1 + before[-1].header.epoch
        dan = await newcomer(mesh, "dan", "ann")
        await admit(mesh, "ann", dan)
        await admit(mesh, "cat", dan)
        assert mesh.nodes["ben"].names() == [*FOUNDERS, "dan"]

    run(main)


def agent(mesh: Mesh, name: str) -> bytes:
    return mesh.nodes[name].membership.agent


def test_a_release_is_accepted_by_two_and_shown_with_each_member(mesh: Mesh) -> None:
    async def main() -> None:
        await mesh.up(*FOUNDERS)
        ann, ben = mesh.nodes["ann"], mesh.nodes["ben"]
        wish = schema.NewProposal(kind="release", version="0.1.0", runtime_hash="ab" * 32)
        await ann.proposals.propose(wish)
        await mesh.settle()
        assert ann.proposals.releases().items == []
        await ben.proposals.propose(wish)
        await mesh.settle()
        [release] = mesh.nodes["cat"].proposals.releases().items
        assert (release.version, release.accepted) == ("0.1.0", True)

    run(main)


def test_an_owner_revokes_and_moves_with_the_owners_wallet_alone(mesh: Mesh) -> None:
    async def main() -> None:
        await mesh.up(*FOUNDERS)
        ann = mesh.nodes["ann"]
        dan = await newcomer(mesh, "dan", "ann")
        await admit(mesh, "ann", dan)
        await admit(mesh, "ben", dan)
        verified = ann.found(dan)
        assert isinstance(verified, Verified)
        owner = Wallet.load(mesh.home("dan").keys / "owner.json", None)
        stranger, fresh = Wallet.create(), Wallet.create()
        agent, mesh_id = dan.membership.agent, mesh.genesis.mesh_id

        forged = OwnerStatement.revoke(mesh_id, stranger, agent, mesh.now_ms)
        with pytest.raises(Refused) as caught:
            await ann.membership.tell(forged)
        assert caught.value.code == "owner.not_owner"

        await ann.membership.tell(OwnerStatement.revoke(mesh_id, owner, agent, mesh.now_ms))
        refusal = ann.membership.refusal(verified)  # at once, before the log knows
        assert refusal is not None
        assert refusal.code == "credential.revoked"
        await mesh.settle()
        for node in mesh.nodes.values():
            with pytest.raises(Refused, match="revoked"):
                node.found(dan)

        move = OwnerStatement.move(mesh_id, owner, agent, fresh, mesh.now_ms)
        await mesh.nodes["cat"].membership.tell(move)
        await mesh.settle()
        seat = find_seat(ann.roster, "dan")
        assert (seat.number, seat.keys, seat.revoked) == (4, (agent, fresh.address), False)
        with pytest.raises(Refused) as caught:
            ann.found(dan)
        assert caught.value.code == "credential.old_key"
        told = [one.text for one in (await read_chronicle(ann.store, ann.roster, "dan")).items]
        assert any("revoked by its owner" in text for text in told)
        assert any("moved by its owner" in text for text in told)

    run(main)


def test_a_log_that_contradicts_itself_is_proven_to_anyone_and_resolved(mesh: Mesh) -> None:
    async def main() -> None:
        await mesh.up(*FOUNDERS)
        ann, ben, cat = (mesh.nodes[name] for name in FOUNDERS)
        wallets = {n: Wallet.load(mesh.home(n).keys / "agent.json", None) for n in FOUNDERS}
        log = ann.roster.log
        batches = []
        for version in ("0.1.0", "0.2.0"):  # ann signs both, one of the others each
            runtime = version.encode().ljust(32, b"\0")
            entry = Entry.of(Release(version, runtime, True, mesh.now_ms))
            by = [
                Approval.make(log.mesh_id, entry, mesh.now_ms, wallets[n]) for n in ("ann", "ben")
            ]
            checkpoint = log.checkpoint([entry.approved_by(*by)], 0)
            batches.append(Batch(Vote.make(checkpoint, wallets["ann"]), (entry.approved_by(*by),)))
        for batch, other in zip(batches, (ben, cat), strict=True):
            await ann.membership._append(BATCH, batch.encode())
            vote = Vote.make(batch.checkpoint, wallets[other.name])
            await other.membership._append(VOTE, vote.encode())
        await mesh.settle()
        assert len({node.roster.log.root for node in mesh.nodes.values()}) == 1
        paper = contradiction_document(cat.roster)
        assert paper is not None
        assert check_contradiction(paper, mesh.genesis) == (ann.membership.agent,)
        for leaf in ("after_entry", "signed_both", "encoded"):
            with pytest.raises(Refused):
                check_contradiction({**paper, leaf: []}, mesh.genesis)
        told = (await read_chronicle(ben.store, ben.roster, "ann")).items
        assert any(one.kind == "fault" and "two checkpoints" in one.text for one in told)

        dan = await newcomer(mesh, "dan", "ben")
        await admit(mesh, "ben", dan)
        await admit(mesh, "cat", dan)
        await mesh.later()
        assert ben.names() == list(FOUNDERS)  # nobody is let in meanwhile
        chosen = batches[1].checkpoint.root
        wish = schema.NewProposal(kind="resolution", root=chosen.hex()[:16])
        await ann.proposals.propose(wish)  # who signed both has no say
        await ben.proposals.propose(wish)
        await mesh.settle()
        assert cat.roster.log.contradiction is not None
        await cat.proposals.propose(wish)
        await mesh.settle()
        await mesh.later()
        for node in mesh.nodes.values():
            assert contradiction_document(node.roster) is None
            # What the other way held is decided again, after what was chosen.
            told = [one.version for one in node.proposals.releases().items]
            assert told == ["0.2.0", "0.1.0"]
            assert node.names() == [*FOUNDERS, "dan"]

    run(main)
