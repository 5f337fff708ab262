"""The same over real hosts and sockets: a file goes from one member to another."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random

import trio

from permesh.attachments import Attachments
from permesh.p2p.blobs import CHUNK_BYTES, PROTOCOL
from permesh.p2p.wire import Framed
from tests.p2p.mesh import Member, member, run, until

CONTENT = Random(5).randbytes(4 * CHUNK_BYTES + 77)


def test_a_file_goes_over_a_real_connection(tmp_path: Path) -> None:
    files: dict[int, Attachments] = {}
    faults: list[tuple[str, str]] = []

    def made(number: int) -> Member:
        async def serve(stream: Framed, peer_id: str, verified: object) -> None:
            await files[number].handle(stream, peer_id, verified)

        one = member(number, handlers={PROTOCOL: serve})
        files[number] = Attachments(
            tmp_path / str(number),
            64 * 1024 * 1024,
            one.swarm,
            peers=lambda: [peer.peer_id for peer in one.swarm.peers()],
            fault=lambda peer_id, code: faults.append((peer_id, code)),
            rng=Random(number),
        )
        return one

    async def chunks() -> AsyncIterator[bytes]:
        await trio.lowlevel.checkpoint()
        yield CONTENT

    async def main() -> None:
        here, there = made(1), made(2)
        async with here.swarm.running(), there.swarm.running():
            await there.swarm.connect(here.address)
            await until(lambda: here.sees(there) and there.sees(here))
            stored = await files[1].put(chunks())
            async with files[2].open(stored.hash, stored.bytes) as pieces:
                given = b"".join([piece async for piece in pieces])
            assert hashlib.sha256(given).hexdigest() == stored.hash
            assert files[2].stored(stored.hash) == len(CONTENT)
            assert not faults

    run(main)
