"""A member in a process of its own, for tests that stop or kill it.

Arguments: its number, the address to listen on, and the bootstraps.
"""

from __future__ import annotations

import sys

import trio

from tests.p2p.mesh import member


async def main(number: str, listen: str, *bootstrap: str) -> None:
    one = member(int(number), listen=listen, bootstrap=bootstrap)
    async with one.swarm.running():
        print(one.address, flush=True)
        await trio.sleep_forever()


trio.run(main, *sys.argv[1:])
