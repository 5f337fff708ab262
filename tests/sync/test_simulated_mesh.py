"""All members end with the same records, each told of once, whatever the network did."""

from __future__ import annotations

import pytest

from tests.simulator import Network, Weather


def check_end(net: Network, written: set[bytes], *, patience_ms: int = 120_000) -> None:
    assert net.run(patience_ms, until=net.equal), {
        name: len(node.store.records) for name, node in net.nodes.items()
    }
    for node in net.nodes.values():
        assert written <= set(node.store.records)
        assert set(node.told) == set(node.store.records)
        assert set(node.told.values()) == {1}
        assert not node.faults
        chains = [(r.header.author, r.header.seq) for r in node.store.records.values()]
        assert len(chains) == len(set(chains))


def quiet_mesh(size: int, seed: int = 1) -> Network:
    net = Network(seed)
    for number in range(size):
        net.add(f"n{number}")
    assert net.run(30_000, until=net.equal)
    return net


def test_a_post_in_a_quiet_mesh_reaches_all_at_once() -> None:
    net = quiet_mesh(10)
    net.run(10_000)
    before = net.now
    post = net.nodes["n3"].write(b"hello")
    everywhere = lambda: all(post.id in n.store.records for n in net.nodes.values())  # noqa: E731
    assert net.run(1000, until=everywhere)
    assert net.now - before <= 80


def test_a_burst_is_neither_lost_nor_told_twice_and_costs_few_messages() -> None:
    net = quiet_mesh(3)
    net.run(10_000)
    messages = net.messages
    written = set()

    def write() -> None:
        written.add(net.nodes["n0"].write(b"burst").id)
        if len(written) < 500:
            net.at(5, write)

    net.at(0, write)
    net.run(4_000)
    assert len(written) == 500
    assert net.equal()  # gossip alone carried it
    assert net.messages - messages <= 2 * 17
    check_end(net, written)


def test_a_burst_that_is_too_large_for_gossip_is_pulled_on_its_hint() -> None:
    net = quiet_mesh(3)
    written = {net.nodes["n0"].write(bytes(32 * 1024)).id for _ in range(120)}
    check_end(net, written, patience_ms=15_000)


def test_who_was_away_gets_what_it_missed() -> None:
    net = quiet_mesh(4)
    away = net.nodes["n3"]
    away.crash()
    written = {net.nodes[f"n{i % 3}"].write(b"meanwhile %d" % i).id for i in range(50)}
    net.run(10_000)
    net.boot(away)
    check_end(net, written, patience_ms=2_000)


def test_without_any_gossip_the_timer_completes() -> None:
    net = quiet_mesh(5)
    net.weather.gossip_loss = 1.0
    written = {net.nodes["n1"].write(b"unheard").id}
    check_end(net, written, patience_ms=45_000)


@pytest.mark.parametrize("seed", range(24))
def test_ten_members_agree_after_loss_partition_and_restarts(seed: int) -> None:
    net = Network(seed, Weather(gossip_loss=0.3, stream_loss=0.02))
    for number in range(10):
        net.add(f"n{number}")
    names = list(net.nodes)
    written: set[bytes] = set()
    for _round in range(12):
        for _ in range(net.rng.randint(1, 6)):
            node = net.nodes[net.rng.choice(names)]
            if node.up:
                written.add(node.write(net.rng.randbytes(net.rng.randint(1, 200))).id)
        match net.rng.randrange(5):
            case 0:
                cut = net.rng.randint(1, 9)
                net.rng.shuffle(names)
                net.partition(names[:cut], names[cut:])
            case 1:
                net.partition()
            case 2:
                net.nodes[net.rng.choice(names)].crash()
            case 3:
                for node in net.nodes.values():
                    if not node.up:
                        net.boot(node)
        net.run(net.rng.randint(100, 8_000))
    net.partition()
    for node in net.nodes.values():
        if not node.up:
            net.boot(node)
    check_end(net, written)


def test_thirty_members_agree() -> None:
    net = Network(7, Weather(gossip_loss=0.2))
    for number in range(30):
        net.add(f"n{number}")
    written = {node.write(b"from %s" % name.encode()).id for name, node in net.nodes.items()}
    check_end(net, written)


def test_a_seed_gives_one_history() -> None:
    def history() -> tuple[int, int]:
        net = Network(3, Weather(gossip_loss=0.5))
        for number in range(5):
            net.add(f"n{number}")
        net.nodes["n0"].write(b"once")
        assert net.run(120_000, until=net.equal)
        return net.now, net.messages

    assert history() == history()
