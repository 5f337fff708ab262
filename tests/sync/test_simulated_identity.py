"""Fifty members with real wallets: who is in, who is out, and how long it takes to be known.

The seeds are few because the signatures are real.
"""

from __future__ import annotations

import pytest

from permesh.errors import Refused
from permesh.identity.hello import Verified
from permesh.identity.owner import OwnerStatement
from tests.identity.people import Person
from tests.simulator import Weather
from tests.sync.identity_nodes import FOUNDERS, Member, Mesh

SIZE = 50
SOON_MS = 10_000
STORM = Weather(gossip_loss=0.2, stream_loss=0.02)
# For ten heartbeats gossipsub offers again what somebody missed. What has to be known within
# seconds depends on it: among so many peers, pulls on the timer alone take minutes.
RAIN = Weather(gossip_loss=0.2, stream_loss=0.02, gossip_offers=10)


def shuffled(net: Mesh, names: list[str]) -> list[str]:
    return net.rng.sample(names, len(names))


# -- rotation ------------------------------------------------------------------------------------


def rotate(net: Mesh, node: Member) -> None:
    """A new epoch amid its own writing; a third of them are broken off before they are told."""
    node.write(b"in the old epoch")
    node.begin_epoch()
    if net.rng.randrange(3) == 0:
        node.crash()
        net.run(net.rng.randint(0, 2_000))
        net.boot(node)
    else:
        node.publish_credential()
    for wait in (0, net.rng.randint(1, 4_000)):
        net.at(wait, lambda: node.write(b"in the new epoch") if node.up else None)


def trouble(net: Mesh, number: int) -> None:
    """Sides that do not reach each other, members who go down amid it, and an end to it; again."""
    match number % 4:
        case 0:
            names = shuffled(net, list(net.nodes))
            cut = net.rng.randint(5, 25)
            net.partition(names[:cut], names[cut:])
        case 1 | 2:
            for node in net.rng.sample(net.up, 3):
                node.crash()
        case 3:
            relief(net)


def relief(net: Mesh) -> None:
    net.partition()
    for node in net.nodes.values():
        if not node.up:
            net.boot(node)


@pytest.mark.parametrize("seed", range(2))
def test_all_begin_a_new_epoch_in_a_storm_and_no_record_is_lost(seed: int) -> None:
    net = Mesh.of(SIZE, seed, STORM)
    names = shuffled(net, list(net.nodes))
    for number in range(10):
        trouble(net, number)
        for name in names[number::10]:
            node = net.nodes[name]
            if not node.up:
                net.boot(node)
            rotate(net, node)
        net.run(net.rng.randint(100, 4_000))
    relief(net)
    for node in net.nodes.values():
        node.write(b"after the storm")
    net.check()
    assert len(net.written) >= SIZE * 4
    for node in net.nodes.values():
        epochs = {other.roster.credential(node.address).epoch for other in net.nodes.values()}
        assert epochs == {2}
    # What was written under either key is believed by one who was there and by one who comes now.
    somebody = net.nodes[net.rng.choice(list(net.nodes))]
    assert not net.refused(somebody.roster)
    assert not net.refused(somebody.fold(somebody.store.records.values()))


# -- revocation ----------------------------------------------------------------------------------


def refuses(node: Member, other: Member) -> None:
    with pytest.raises(Refused) as refused:
        node.sees(other, other.hello())
    assert refused.value.code == "credential.revoked"


def comes_back(net: Mesh, sleeper: Member, revoked: Member) -> None:
    """It knows no better until the first pull; then, before it serves anyone, it does."""
    net.boot(sleeper)
    assert isinstance(sleeper.sees(revoked, revoked.hello()), Verified)
    assert net.run(SOON_MS, until=lambda: bool(sleeper.heard_from - {revoked.name}))
    refuses(sleeper, revoked)


@pytest.mark.parametrize("seed", range(2))
def test_a_revoked_key_is_refused_by_everyone_within_ten_seconds(seed: int) -> None:
    net = Mesh.of(SIZE, seed, RAIN)
    names = shuffled(net, [name for name in net.nodes if name not in FOUNDERS])
    early, late, carrier, revoked = (net.nodes[name] for name in names[:4])
    here = [early.name, carrier.name, *names[4:24], FOUNDERS[0]]
    there = [name for name in net.nodes if name not in here]
    assert revoked.name in there
    net.run(net.rng.randint(1_000, 200_000))
    net.partition(here, there)
    for sleeper in (early, late):
        sleeper.crash()
    net.run(5_000)

    def knows(node: Member) -> bool:
        return node.shuts_out(revoked.address)

    owner, mesh = revoked.person.owner, net.genesis.mesh_id
    carrier.tell(OwnerStatement.revoke(mesh, owner, revoked.address, carrier.now_ms))
    net.spread([net.nodes[name] for name in here if net.nodes[name].up], knows, SOON_MS)
    assert not any(knows(net.nodes[name]) for name in there)
    comes_back(net, early, revoked)

    net.partition()
    net.spread(net.up, knows, SOON_MS)
    comes_back(net, late, revoked)
    for node in net.nodes.values():
        refuses(node, revoked)

    # The log says so too in the end, to those who were not told by the owner's own record.
    net.spread(net.up, lambda node: node.roster.seat(revoked.address).revoked, 300_000)
    net.check()


# -- admission -----------------------------------------------------------------------------------


def let_in(net: Mesh, *names: str) -> None:
    """Newcomers ask members somewhere, the registrars who are up decide one after another, and
    who is in the log of its sponsor comes up with an empty store."""
    asking = {}
    for name in names:
        newcomer = Person(name, net.genesis)
        sponsor = net.rng.choice([node for node in net.up if node.name not in FOUNDERS])
        sponsor.sponsor(newcomer)
        asking[name] = sponsor, newcomer.address
    end = net.now + 300_000
    while asking:
        assert net.now < end
        net.run(net.rng.randint(500, 2_000))
        for node in net.up:
            if node.name in FOUNDERS:
                node.approve_who_asks()
        for name, (sponsor, agent) in list(asking.items()):
            if sponsor.roster.seat(agent) is not None:
                del asking[name]
                net.add(name).write(b"here I am")


@pytest.mark.parametrize("first", range(2))
def test_newcomers_are_let_in_while_one_registrar_is_away(first: int) -> None:
    net = Mesh.of(SIZE, first, STORM)
    one, other = (net.nodes[FOUNDERS[(first + step) % 3]] for step in (0, 1))
    one.crash()
    let_in(net, "dora", "emil", "fay")
    other.crash()
    net.boot(one)
    let_in(net, "gus", "hana")
    net.boot(other)
    net.check()
    for node in net.nodes.values():
        assert node.roster.log.size == SIZE + 5
        assert all(member.credential for member in node.roster.members())
    newcomer = net.nodes["hana"]
    for node in net.nodes.values():
        assert isinstance(node.sees(newcomer, newcomer.hello()), Verified)
    assert not net.refused(newcomer.roster)


def test_a_registrar_whom_nobody_answers_waits_in_peace() -> None:
    net = Mesh.of(5, 1, RAIN)
    ann, ben, cyd = (net.nodes[name] for name in FOUNDERS)
    cyd.crash()
    net.nodes["m04"].sponsor(Person("dora", net.genesis))
    net.run(1_000)
    ann.crash()
    ben.approve_who_asks()
    net.run(1_000)
    ben.crash()
    net.boot(ann)
    net.run(1_000)
    ann.approve_who_asks()
    written = len(net.written)
    net.run(3_600_000)
    assert len(net.written) - written <= 3
    net.boot(ben)
    net.boot(cyd)
    net.settle(300_000)
    net.spread(net.up, lambda node: node.roster.log.size == 6, 300_000)
    net.check()
