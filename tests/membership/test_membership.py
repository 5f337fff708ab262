"""A registrar and a newcomer, as a conversation: real stores, real wallets, a clock by hand."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from permesh import offline
from permesh.async_store import AsyncStore
from permesh.config import Home
from permesh.errors import PermeshError, Refused
from permesh.events import EventBus, RecordsSaved
from permesh.identity.credential import LIFE_MS, SKEW_MS
from permesh.identity.genesis import Genesis, Invite, Registrar
from permesh.identity.roster import APPROVAL, BATCH, CREDENTIAL, REQUEST, Request
from permesh.membership import Membership
from permesh.p2p.admission import GateVerdict
from permesh.records import Record
from permesh.remembered import Secrets, read_mesh
from permesh.store import Store
from permesh.verifiers import verifiers

HOUR_MS = 3_600_000


class Clock:
    def __init__(self) -> None:
        self.ms = offline._now_ms()

    def __call__(self) -> int:
        return self.ms


class Member:
    """A home, its store, and its membership with a journal that feeds its own roster."""

    def __init__(self, home: Home, clock: Clock) -> None:
        self.home = home
        self.clock = clock
        self.saved: list[Record] = []
        self.events = EventBus()
        self.membership: Membership
        self.store: AsyncStore

    async def open(self) -> Membership:
        self.store = await AsyncStore.open(self.home.database)
        secrets = Secrets.unlock(self.home, None)
        self.membership = await Membership.open(
            self.store, secrets, self.clock, lambda genesis: verifiers(genesis, "", frozenset())
        )
        self.membership.attach(self._on_saved)
        return self.membership

    def _on_saved(self, record: Record) -> None:
        self.membership.roster.apply(record)
        self.saved.append(record)
        self.events.publish(RecordsSaved((record,), own=True))

    async def settle(self) -> None:
        """One round of what `run` does for ever."""
        await self.membership._settle()

    def kinds(self) -> list[str]:
        return [record.header.kind for record in self.saved]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def founder(tmp_path: Path, clock: Clock) -> Member:
    home = Home(tmp_path / "a")
    offline.create_identity(home, "atlas")
    offline.create_mesh(home, "orchard", "atlas@example.org")
    return Member(home, clock)


@pytest.fixture
def newcomer(tmp_path: Path, clock: Clock, founder: Member) -> Member:
    home = Home(tmp_path / "b")
    offline.create_identity(home, "birch")
    store = Store(founder.home.database)
    genesis, _ = read_mesh(store)
    store.close()
    offline.join_mesh(home, Invite(genesis, ()).line(), offline.known_as("birch@example.org"))
    return Member(home, clock)


def meet(one: Membership, other: Membership) -> tuple[GateVerdict, GateVerdict]:
    """Both hellos, both verdicts, as over one stream: (of one about other, of other about one)."""
    found = one.check(other.peer_id, other.hello())
    heard = other.check(one.peer_id, one.hello())
    other.on_verdict(one.peer_id, found)
    one.on_verdict(other.peer_id, heard)
    return found, heard


async def asked(founder: Member, newcomer: Member) -> tuple[Membership, Membership, Request]:
    """Both, met once: the newcomer's request is with the registrar."""
    atlas, birch = await founder.open(), await newcomer.open()
    await founder.settle()
    meet(atlas, birch)
    await founder.settle()
    (request,) = atlas.roster.pending(founder.clock())
    return atlas, birch, request


async def admit(registrar: Membership, request: Request) -> None:
    enrolment = request.enrolment
    await registrar.registrar.admit(enrolment, f"{enrolment.name}@example.org")


def run(main: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        with trio.fail_after(20):
            await main()

    trio.run(bounded)


def test_who_is_suspended_knows_it_by_its_own_log(
    founder: Member, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        atlas = await founder.open()
        await founder.settle()
        assert atlas.state == ("member", "")
        assert atlas.seat is not None
        suspended = replace(atlas.seat, suspended="until we have talked")
        monkeypatch.setattr(Membership, "seat", suspended)
        state, why = atlas.state
        assert state == "member"
        assert "have suspended this member: until we have talked. Ask a registrar" in why

    run(main)


def test_a_newcomer_asks_waits_and_is_let_in(founder: Member, newcomer: Member) -> None:
    async def main() -> None:
        atlas, birch = await founder.open(), await newcomer.open()
        await founder.settle()
        assert atlas.is_member
        assert atlas.number == 1
        assert not birch.is_member
        with pytest.raises(PermeshError, match="not a member"):
            birch.require_member()

        found, heard = meet(atlas, birch)
        assert found.status == "pending"
        assert heard.status == "admitted"  # the newcomer knows that it speaks to a member
        assert birch.state[0] == "pending"
        assert birch.state[1].endswith("permesh members admit birch --person WHO")
        with pytest.raises(PermeshError) as told:
            birch.require_member()
        assert str(told.value).count("permesh members admit") == 1
        assert told.value.remedy.endswith("permesh members admit birch --person WHO")
        await founder.settle()
        assert founder.kinds() == [CREDENTIAL, REQUEST]

        (request,) = atlas.roster.pending(founder.clock())
        await admit(atlas, request)
        assert atlas.roster.pending(founder.clock()) == []
        found, _ = meet(atlas, birch)
        assert found.admitted
        assert birch.is_member
        assert birch.number == 2
        assert founder.kinds() == [CREDENTIAL, REQUEST, APPROVAL, BATCH]
        await newcomer.settle()
        assert newcomer.kinds() == []  # not before it heard what it may have written before
        with pytest.raises(PermeshError, match="may have written"):
            birch.require_member()
        birch.pulled()
        await newcomer.settle()
        assert newcomer.kinds() == [CREDENTIAL]
        atlas.roster.check(newcomer.saved[0], founder.clock())

    run(main)


def test_a_request_is_published_once_however_often_it_is_made(
    founder: Member, newcomer: Member
) -> None:
    async def main() -> None:
        atlas, birch = await founder.open(), await newcomer.open()
        await founder.settle()
        for _ in range(5):
            meet(atlas, birch)
            await founder.settle()
        assert founder.kinds() == [CREDENTIAL, REQUEST]

    run(main)


def test_only_a_registrar_admits_and_only_one_agent_an_owner(
    founder: Member, newcomer: Member
) -> None:
    async def main() -> None:
        atlas, birch, request = await asked(founder, newcomer)
        await admit(atlas, request)
        with pytest.raises(PermeshError, match="agent in the mesh already"):
            await admit(atlas, request)
        meet(atlas, birch)
        with pytest.raises(PermeshError, match="not a registrar"):
            await admit(birch, request)

    run(main)


def test_a_registrar_lets_in_only_whom_it_can_name(founder: Member, newcomer: Member) -> None:
    async def main() -> None:
        atlas, _, request = await asked(founder, newcomer)
        for person, code in ((None, "person.needed"), ("coral@example.org", "person.other")):
            with pytest.raises(PermeshError) as caught:
                await atlas.registrar.admit(request.enrolment, person)
            assert caught.value.code == code
        assert atlas.roster.undecided() == []
        await atlas.registrar.admit(request.enrolment, " Birch@Example.ORG ")  # as people type
        assert [member.name for member in atlas.roster.members()] == ["atlas", "birch"]

    run(main)


def test_two_admissions_at_once_take_two_numbers(
    founder: Member, newcomer: Member, tmp_path: Path
) -> None:
    third = Member(Home(tmp_path / "c"), founder.clock)
    offline.create_identity(third.home, "coral")
    with_store = Store(founder.home.database)
    genesis, _ = read_mesh(with_store)
    with_store.close()
    offline.join_mesh(third.home, Invite(genesis, ()).line(), offline.known_as("coral@example.org"))

    async def main() -> None:
        atlas = await founder.open()
        await founder.settle()
        for member in (newcomer, third):
            meet(atlas, await member.open())
        await founder.settle()
        requests = atlas.roster.pending(founder.clock())
        async with trio.open_nursery() as nursery:
            for request in requests:
                nursery.start_soon(admit, atlas, request)
        assert [member.number for member in atlas.roster.members()] == [1, 2, 3]

    run(main)


def test_a_credential_is_renewed_at_two_thirds_of_its_life(founder: Member) -> None:
    async def main() -> None:
        atlas = await founder.open()
        await founder.settle()
        first = atlas.credential
        assert first.expires_ms - first.issued_ms == LIFE_MS == 72 * HOUR_MS

        assert first.renews_ms - first.issued_ms == 48 * HOUR_MS
        founder.clock.ms = first.renews_ms - 1
        await founder.settle()
        assert atlas.credential == first

        presented = 0

        async def present() -> None:
            nonlocal presented
            presented += 1

        atlas.on_renewed = present
        founder.clock.ms = first.renews_ms
        await founder.settle()
        second = atlas.credential
        assert second.epoch == first.epoch + 1
        assert second.session_key != first.session_key
        assert second.peer_id == first.peer_id  # so that no connection is dropped
        assert presented == 1
        assert founder.kinds() == [CREDENTIAL, CREDENTIAL]
        for record in founder.saved:  # both epochs' records stay valid
            atlas.roster.check(record, founder.clock())

    run(main)


def test_a_restart_goes_on_with_its_epoch_and_one_that_slept_too_long_begins_another(
    founder: Member,
) -> None:
    async def main() -> None:
        first = (await founder.open()).credential
        await founder.settle()
        await founder.store.aclose()
        assert (await founder.open()).credential == first
        await founder.settle()
        assert founder.kinds() == [CREDENTIAL]
        await founder.store.aclose()
        founder.clock.ms += 10 * LIFE_MS
        late = (await founder.open()).credential
        await founder.settle()
        assert late.epoch == first.epoch + 1
        assert late.issued_ms == founder.clock()

    run(main)


def test_the_gate_refuses_what_has_lapsed_and_what_is_anothers(
    founder: Member, newcomer: Member
) -> None:
    async def main() -> None:
        atlas, birch = await founder.open(), await newcomer.open()
        await founder.settle()
        hello = atlas.hello()
        with pytest.raises(Refused) as caught:
            birch.check(birch.peer_id, hello)
        assert caught.value.code == "credential.wrong_peer"
        newcomer.clock.ms = atlas.credential.expires_ms + SKEW_MS
        assert birch.check(atlas.peer_id, hello).admitted
        newcomer.clock.ms += 1
        with pytest.raises(Refused) as caught:
            birch.check(atlas.peer_id, hello)
        assert caught.value.code == "credential.expired"

    run(main)


def test_another_meshs_member_is_a_stranger(founder: Member, tmp_path: Path) -> None:
    other = Member(Home(tmp_path / "x"), founder.clock)
    offline.create_identity(other.home, "atlas")
    offline.create_mesh(other.home, "orchard", "atlas@example.org")

    async def main() -> None:
        atlas, stranger = await founder.open(), await other.open()
        assert atlas.genesis.mesh_id != stranger.genesis.mesh_id
        with pytest.raises(Refused) as caught:
            atlas.check(stranger.peer_id, stranger.hello())
        assert caught.value.code == "credential.wrong_mesh"

    run(main)


def test_a_forged_proof_in_a_verdict_is_not_believed(founder: Member, newcomer: Member) -> None:
    async def main() -> None:
        atlas, birch, request = await asked(founder, newcomer)
        await admit(atlas, request)
        good = atlas.check(birch.peer_id, birch.hello()).extra
        for position in range(0, len(good), 7):
            forged = good[:position] + bytes([good[position] ^ 1]) + good[position + 1 :]
            with pytest.raises(Refused):
                birch.on_verdict(atlas.peer_id, GateVerdict("admitted", extra=forged))
            assert not birch.is_member
        birch.on_verdict(atlas.peer_id, GateVerdict("admitted", extra=good))
        assert birch.is_member

    run(main)


def test_a_home_is_in_one_mesh_only(founder: Member) -> None:
    elsewhere = Genesis("other", 1, b"s" * 16, (read_registrar(founder),))
    with pytest.raises(PermeshError) as caught:
        offline.join_mesh(
            founder.home, Invite(elsewhere, ()).line(), offline.known_as("atlas@example.org")
        )
    assert caught.value.code == "mesh.already"


def read_registrar(member: Member) -> Registrar:
    store = Store(member.home.database)
    genesis, _ = read_mesh(store)
    store.close()
    return genesis.registrars[0]
