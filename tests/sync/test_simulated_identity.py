"""Fifty members with real wallets: who is in, who is out, and what either costs in time."""

from __future__ import annotations

import time

from tests.simulator import Weather
from tests.sync.identity_nodes import Mesh, founded


def test_x():
    t = time.perf_counter()
    founded(50)
    print("founded", time.perf_counter() - t)
    t = time.perf_counter()
    net = Mesh.of(50, 1, Weather(gossip_loss=0.2, stream_loss=0.02))
    print("made", time.perf_counter() - t)
    t = time.perf_counter()
    net.run(10_000)
    print("run", time.perf_counter() - t)
    for phase in range(3):
        t = time.perf_counter()
        for node in net.up[phase * 10 : phase * 10 + 10]:
            node.write(b"before")
            node.rotate()
            node.write(b"after")
        net.run(10_000)
        print("rotated 10", time.perf_counter() - t)
    names = list(net.nodes)
    t = time.perf_counter()
    net.partition(names[:25], names[25:])
    net.nodes["ann"].write(b"alone")
    net.run(10_000)
    print("parted", time.perf_counter() - t)
    t = time.perf_counter()
    net.partition()
    net.run(10_000)
    print("healed", time.perf_counter() - t)
    t = time.perf_counter()
    net.nodes["m10"].crash()
    net.nodes["ann"].write(b"meanwhile")
    net.run(10_000)
    net.boot(net.nodes["m10"])
    net.run(10_000)
    print("rebooted", time.perf_counter() - t)
    t = time.perf_counter()
    net.check()
    print("check", time.perf_counter() - t)
    t = time.perf_counter()
    assert not net.refused(net.nodes["m20"].roster)
    print("refused", time.perf_counter() - t, len(net.nodes["ann"].store.records))
