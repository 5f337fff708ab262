"""Files as the local API sees them: put, opened, fetched, forgotten, and broken off anywhere."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

import pytest
import trio
import trio.testing

from permesh.attachments import Attachments
from permesh.errors import PermeshError
from permesh.node import AttachmentsNode
from permesh.p2p.blobs import (
    CHUNK_BYTES,
    MAX_FILE_BYTES,
    WRONG_BYTES,
    Read,
    Size,
    decode,
    encode,
)
from permesh.p2p.wire import Framed
from permesh.shelf import Shelf

from .hub import Hub, Side, giving, in_hub, send_range, silent, stalling_after

CONTENT = Random(2).randbytes(3 * CHUNK_BYTES + 5)
HASH = hashlib.sha256(CONTENT).hexdigest()
MUCH = 64 * 1024 * 1024


@pytest.fixture(autouse=True)
def _no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock jumps when all wait, and would not wait for a thread."""

    async def here(work: Callable[..., Any], *arguments: Any) -> Any:
        await trio.lowlevel.checkpoint_if_cancelled()
        try:
            return work(*arguments)
        finally:
            await trio.lowlevel.cancel_shielded_checkpoint()

    monkeypatch.setattr(trio.to_thread, "run_sync", here)


class Member:
    """A member with a directory of its own; made again, it has been restarted."""

    def __init__(self, hub: Hub, home: Path, name: str, budget: int = MUCH) -> None:
        self.side: Side = hub.side(name)
        self.directory = home / name
        self.files = Attachments(
            self.directory,
            budget,
            self.side,
            peers=self.side.peers,
            fault=self.side.fault,
            rng=Random(3),
        )
        hub.handlers[name] = self.files.handle

    def names(self) -> set[str]:
        found = self.directory.rglob("*")
        return {str(path.relative_to(self.directory)) for path in found if path.is_file()}

    async def read(self, file_hash: str = HASH, size: int | None = None) -> bytes:
        async with self.files.open(file_hash, size) as chunks:
            return b"".join([chunk async for chunk in chunks])


async def pieces(*data: bytes, then: Callable[[], None] | None = None) -> AsyncIterator[bytes]:
    for piece in data:
        await trio.lowlevel.checkpoint()
        yield piece
    if then is not None:
        then()
        await trio.lowlevel.checkpoint()


def code(caught: pytest.ExceptionInfo[PermeshError]) -> tuple[str, int]:
    return caught.value.code, caught.value.http_status


def test_what_is_put_can_be_opened_here_and_by_the_others(tmp_path: Path) -> None:
    async def main(hub: Hub) -> None:
        a, b = Member(hub, tmp_path, "a"), Member(hub, tmp_path, "b")
        node: AttachmentsNode = a.files
        stored = await node.put(pieces(CONTENT[:7], b"", CONTENT[7:]))
        assert (stored.hash, stored.bytes) == (HASH, len(CONTENT))
        assert a.files.stored(HASH) == len(CONTENT)
        assert b.files.stored(HASH) is None
        assert await a.read() == await b.read(size=len(CONTENT)) == CONTENT
        assert b.files.stored(HASH) == len(CONTENT)
        assert b.names() == {HASH}
        hub.handlers.clear()
        assert await b.read() == CONTENT
        assert await Member(hub, tmp_path, "b").read() == CONTENT
        assert not a.side.faults
        assert not b.side.faults

    in_hub(main)


def test_who_fetched_a_file_gives_it_to_others(tmp_path: Path) -> None:
    async def main(hub: Hub) -> None:
        a, b, c = (Member(hub, tmp_path, name) for name in "abc")
        await a.files.put(pieces(CONTENT))
        await b.read()
        del hub.handlers["a"]
        assert await c.read() == CONTENT

    in_hub(main)


def test_the_largest_file_is_taken_and_one_byte_more_is_not(tmp_path: Path) -> None:
    async def main(hub: Hub) -> None:
        a = Member(hub, tmp_path, "a")
        half = bytes(MAX_FILE_BYTES // 2)
        stored = await a.files.put(pieces(half, half))
        assert stored.bytes == MAX_FILE_BYTES
        for chunks in (pieces(half, half, b"x"), pieces(half + half + b"x")):
            with pytest.raises(PermeshError) as caught:
                await a.files.put(chunks)
            assert code(caught) == ("attachment.too_long", 413)
        assert a.names() == {f"own/{stored.hash}"}

    in_hub(main)


def test_of_a_put_that_is_empty_or_broken_off_nothing_stays(tmp_path: Path) -> None:
    async def main(hub: Hub) -> None:
        a = Member(hub, tmp_path, "a")
        for empty in (pieces(), pieces(b"")):
            with pytest.raises(PermeshError) as caught:
                await a.files.put(empty)
            assert code(caught) == ("attachment.empty", 400)

        def gone() -> None:
            raise RuntimeError("the client has gone")

        with pytest.raises(RuntimeError):
            await a.files.put(pieces(b"some", then=gone))
        with trio.CancelScope() as scope:
            await a.files.put(pieces(b"some", then=scope.cancel))
        assert scope.cancelled_caught
        assert a.names() == set()

    in_hub(main)


def test_a_disk_that_is_full_is_said_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    async def main(hub: Hub) -> None:
        a, b = Member(hub, tmp_path, "a"), Member(hub, tmp_path, "b")
        await a.files.put(pieces(CONTENT))
        monkeypatch.setattr(Shelf, "keep", full)
        monkeypatch.setattr(Shelf, "append", full)
        with pytest.raises(PermeshError) as caught:
            await b.files.put(pieces(CONTENT))
        assert code(caught) == ("attachment.disk", 507)
        with pytest.raises(PermeshError) as caught:
            await b.read()
        assert code(caught) == ("attachment.disk", 507)
        assert b.names() == set()
        assert not b.side.faults

    in_hub(main)


def test_a_directory_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"a file in the way")

    async def main(hub: Hub) -> None:
        await trio.lowlevel.checkpoint()
        with pytest.raises(PermeshError):
            Member(hub, tmp_path, "a")

    in_hub(main)


@pytest.mark.parametrize("file_hash", ["", "00", HASH.upper(), "../" + HASH, HASH + "0"])
def test_what_is_no_hash_is_refused(tmp_path: Path, file_hash: str) -> None:
    async def main(hub: Hub) -> None:
        a = Member(hub, tmp_path, "a")
        with pytest.raises(PermeshError) as caught:
            await a.read(file_hash)
        assert code(caught) == ("attachment.hash", 400)
        with pytest.raises(PermeshError):
            a.files.stored(file_hash)
        with pytest.raises(PermeshError):
            await a.files.forget([file_hash])

    in_hub(main)


def test_what_nobody_has_is_unavailable_until_somebody_has_it(tmp_path: Path) -> None:
    async def main(hub: Hub) -> None:
        a, b = Member(hub, tmp_path, "a"), Member(hub, tmp_path, "b")
        hub.handlers["c"] = silent
        for _ in range(2):
            with pytest.raises(PermeshError) as caught:
                await b.read()
            assert code(caught) == ("attachment.unavailable", 404)
            assert caught.value.remedy
        await a.files.put(pieces(CONTENT))
        assert await b.read() == CONTENT

    in_hub(main)


def test_a_file_of_another_size_than_its_post_says_is_unavailable(tmp_path: Path) -> None:
    async def main(hub: Hub) -> None:
        a, b = Member(hub, tmp_path, "a"), Member(hub, tmp_path, "b")
        await a.files.put(pieces(CONTENT))
        with pytest.raises(PermeshError) as caught:
            await b.read(size=5)
        assert code(caught) == ("attachment.unavailable", 404)
        assert not b.side.faults

    in_hub(main)


def test_a_lie_is_never_given_nor_kept(tmp_path: Path) -> None:
    async def main(hub: Hub) -> None:
        b = Member(hub, tmp_path, "b")
        hub.handlers["liar"] = giving(CONTENT[::-1])
        with pytest.raises(PermeshError) as caught:
            await b.read()
        assert code(caught) == ("attachment.unavailable", 404)
        assert b.side.faults == {("liar", WRONG_BYTES): 1}
        assert b.names() == set()

    in_hub(main)


def test_a_fetch_goes_on_with_another_member_after_a_restart(tmp_path: Path) -> None:
    async def main(hub: Hub) -> None:
        b = Member(hub, tmp_path, "b")
        hub.handlers["a"] = giving(CONTENT, breaks_at=2 * CHUNK_BYTES)
        with pytest.raises(PermeshError):
            await b.read()
        assert b.names() == {f"{HASH}.part"}
        b = Member(hub, tmp_path, "b")
        # It has nothing but the end, so the beginning must be here.
        hub.handlers["a"] = giving(bytes(2 * CHUNK_BYTES) + CONTENT[2 * CHUNK_BYTES :])
        assert await b.read() == CONTENT
        assert b.names() == {HASH}

    in_hub(main)


def test_all_who_ask_at_once_share_one_fetch(tmp_path: Path) -> None:
    async def main(hub: Hub) -> None:
        a, b = Member(hub, tmp_path, "a"), Member(hub, tmp_path, "b")
        await a.files.put(pieces(CONTENT))
        read: list[bytes] = []

        async def reader() -> None:
            read.append(await b.read())

        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(reader)
        assert read == [CONTENT] * 10
        assert hub.opened["a"] == 2

    in_hub(main)


def test_all_who_ask_at_once_share_one_failure(tmp_path: Path) -> None:
    async def main(hub: Hub) -> None:
        b = Member(hub, tmp_path, "b")
        hub.handlers["a"] = silent
        failed: list[str] = []

        async def reader() -> None:
            with pytest.raises(PermeshError) as caught:
                await b.read()
            failed.append(caught.value.code)

        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(reader)
        assert failed == ["attachment.unavailable"] * 10
        assert hub.opened["a"] == 1

    in_hub(main)


def test_if_who_fetches_is_cancelled_the_next_one_goes_on(tmp_path: Path) -> None:
    async def main(hub: Hub) -> None:
        b = Member(hub, tmp_path, "b")
        hub.handlers["a"] = stalling_after(giving(CONTENT, breaks_at=2 * CHUNK_BYTES))
        read: list[bytes] = []

        async def reader() -> None:
            read.append(await b.read())

        async with trio.open_nursery() as nursery:
            first = trio.CancelScope()

            async def cancelled() -> None:
                with first:
                    await reader()

            nursery.start_soon(cancelled)
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(reader)
            await trio.testing.wait_all_tasks_blocked()
            assert b.names() == {f"{HASH}.part"}
            hub.handlers["a"] = giving(bytes(2 * CHUNK_BYTES) + CONTENT[2 * CHUNK_BYTES :])
            first.cancel()
        assert first.cancelled_caught
        assert read == [CONTENT]
        assert not b.side.faults

    in_hub(main)


def test_fetched_files_go_for_new_ones_and_own_ones_stay(tmp_path: Path) -> None:
    contents = [bytes([number]) * CHUNK_BYTES for number in range(4)]

    async def main(hub: Hub) -> None:
        a = Member(hub, tmp_path, "a")
        b = Member(hub, tmp_path, "b", budget=3 * CHUNK_BYTES)
        hashes = [(await a.files.put(pieces(content))).hash for content in contents]
        await b.files.put(pieces(contents[3]))
        for content, file_hash in zip(contents, hashes, strict=True):
            assert await b.read(file_hash) == content
        assert b.names() == {hashes[1], hashes[2], f"own/{hashes[3]}"}
        await b.read(hashes[1])
        await b.read(hashes[0])
        assert b.names() == {hashes[0], hashes[1], f"own/{hashes[3]}"}

    in_hub(main)


def test_without_room_a_file_is_still_given_to_who_asks(tmp_path: Path) -> None:
    async def main(hub: Hub) -> None:
        a, b = Member(hub, tmp_path, "a"), Member(hub, tmp_path, "b", budget=0)
        await a.files.put(pieces(CONTENT))
        with pytest.raises(PermeshError) as caught:
            await b.files.put(pieces(b"own"))
        assert code(caught) == ("attachment.full", 507)
        async with b.files.open(HASH) as chunks:
            assert b.names() == {HASH}
            assert await b.read() == CONTENT
            assert b"".join([chunk async for chunk in chunks]) == CONTENT
        assert b.names() == set()

    in_hub(main)


def test_what_is_forgotten_is_gone_and_may_come_back(tmp_path: Path) -> None:
    async def main(hub: Hub) -> None:
        a, b = Member(hub, tmp_path, "a"), Member(hub, tmp_path, "b")
        await a.files.put(pieces(CONTENT))
        async with b.files.open(HASH) as chunks:
            await b.files.forget([HASH, "0" * 64])
            assert b"".join([chunk async for chunk in chunks]) == CONTENT
        assert b.names() == set()
        assert await b.read() == CONTENT
        await a.files.forget([HASH])
        assert a.files.stored(HASH) is None
        assert await a.read() == CONTENT  # from b

    in_hub(main)


def test_what_is_forgotten_while_it_comes_does_not_come(tmp_path: Path) -> None:
    async def main(hub: Hub) -> None:
        b = Member(hub, tmp_path, "b")
        go_on = trio.Event()

        async def in_two_parts(stream: Framed, _peer_id: str) -> None:
            question = decode(await stream.receive())
            if isinstance(question, Read):
                await send_range(stream, CONTENT, question, breaks_at=CHUNK_BYTES)
                await go_on.wait()
                rest = Read(question.file_hash, CHUNK_BYTES, len(CONTENT) - CHUNK_BYTES)
                await send_range(stream, CONTENT, rest)
            else:
                await stream.send(encode(Size(len(CONTENT))))

        hub.handlers["a"] = in_two_parts
        async with trio.open_nursery() as nursery:

            async def reader() -> None:
                with pytest.raises(PermeshError) as caught:
                    await b.read()
                assert code(caught) == ("attachment.unavailable", 404)

            nursery.start_soon(reader)
            await trio.testing.wait_all_tasks_blocked()
            assert b.names() == {f"{HASH}.part"}
            await b.files.forget([HASH])
            go_on.set()
        assert b.names() == set()
        assert not b.side.faults

    in_hub(main)


def test_a_file_that_the_disk_has_spoilt_is_fetched_again_and_not_served(tmp_path: Path) -> None:
    async def main(hub: Hub) -> None:
        a = Member(hub, tmp_path, "a")
        await a.files.put(pieces(CONTENT))
        (a.directory / "own" / HASH).write_bytes(CONTENT[::-1])
        a, b = Member(hub, tmp_path, "a"), Member(hub, tmp_path, "b")
        with pytest.raises(PermeshError) as caught:
            await b.read()
        assert code(caught) == ("attachment.unavailable", 404)
        assert not b.side.faults
        assert a.names() == set()
        await b.files.put(pieces(CONTENT))
        (b.directory / "own" / HASH).write_bytes(CONTENT[::-1])
        c = Member(hub, tmp_path, "c")
        await c.files.put(pieces(CONTENT))
        assert await b.read() == CONTENT
        assert b.names() == {HASH}

    in_hub(main)


def test_an_opened_file_may_be_left_half_read(tmp_path: Path) -> None:
    async def main(hub: Hub) -> None:
        a = Member(hub, tmp_path, "a")
        await a.files.put(pieces(CONTENT))
        async with a.files.open(HASH) as chunks:
            assert await anext(chunks) == CONTENT[:CHUNK_BYTES]
        with trio.CancelScope() as scope:
            async with a.files.open(HASH) as chunks:
                await anext(chunks)
                scope.cancel()
                await anext(chunks)
        assert scope.cancelled_caught
        assert await a.read() == CONTENT

    in_hub(main)


def test_in_threads_at_once_nothing_is_ever_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    contents = [bytes([number]) * (1 + number * 9000) for number in range(6)]
    hashes = [hashlib.sha256(content).hexdigest() for content in contents]

    async def main(hub: Hub) -> None:
        a = Member(hub, tmp_path, "a")
        b = Member(hub, tmp_path, "b", budget=100_000)
        for content in contents:
            await a.files.put(pieces(content))

        async def work(rng: Random) -> None:
            for _ in range(15):
                number = rng.randrange(len(contents))
                match rng.randrange(4):
                    case 0:
                        await b.files.put(pieces(contents[number // 2]))
                    case 1:
                        await b.files.forget([hashes[number]])
                    case _:
                        with trio.move_on_after(rng.choice([0.001, 10])):
                            await check(number)

        async def check(number: int) -> None:
            try:
                assert await b.read(hashes[number]) == contents[number]
            except PermeshError as error:  # somebody has forgotten it just now
                if error.code != "attachment.unavailable":
                    raise

        async with trio.open_nursery() as nursery:
            for seed in range(6):
                nursery.start_soon(work, Random(seed))
        assert not a.side.faults
        assert not b.side.faults
        for number in range(len(contents)):
            assert await b.read(hashes[number]) == contents[number]
        assert b.names() == Member(hub, tmp_path, "b", budget=100_000).names()
        await b.files.forget(hashes)
        assert b.names() == set()

    in_hub(main, jumping=False)


def age(path: Path) -> None:
    os.utime(path, (1_000, 1_000))


def test_what_no_post_names_goes_once_nobody_has_touched_it_for_long(tmp_path: Path) -> None:
    async def main(hub: Hub) -> None:
        member = Member(hub, tmp_path, "a")
        files = member.files
        named = await files.put(pieces(b"named"))
        unnamed = await files.put(pieces(b"unnamed"))
        fresh = await files.put(pieces(b"fresh"))
        for stored in (named, unnamed):
            age(member.directory / "own" / stored.hash)

        async def by_posts(asked: Sequence[bytes]) -> set[bytes]:
            return {bytes.fromhex(named.hash)} & set(asked)

        assert await files.sweep(by_posts, 2_000) == 1
        assert files.stored(unnamed.hash) is None
        assert files.stored(named.hash) == 5
        assert files.stored(fresh.hash) == 5
        assert member.names() == {f"own/{named.hash}", f"own/{fresh.hash}"}

    in_hub(main)
