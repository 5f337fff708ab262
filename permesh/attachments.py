"""Files that posts name: put here by this member, or fetched from others when somebody asks.

Owns how the disk, the fetching and the serving of files come together. Must never know a post:
which files are named, and who may see what names them, is the forum's. Whatever is here is given
to any member that asks for its hash.
"""

from __future__ import annotations

import errno
import re
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Iterable,
    Sequence,
)
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from random import Random
from typing import BinaryIO, TypeVar

import trio

from . import schema
from .errors import NotFound, PermeshError
from .p2p.blob_fetch import Fetcher
from .p2p.blobs import CHUNK_BYTES, MAX_FILE_BYTES, Blobs, Opener
from .shelf import Shelf

FETCHES = 4  # files that are fetched at once

_HASH = re.compile(r"[0-9a-f]{64}")
_T = TypeVar("_T")


class Attachments:
    """``node.AttachmentsNode`` on the real parts. Hashes are lowercase hex.

    ``directory`` is read, and tidied, when this is made. ``budget`` bounds what is kept, in bytes;
    ``peers`` gives the connected members; ``fault(peer_id, code)`` counts what one did wrong, of
    the weight that `p2p.blobs.severity` says. `handle` serves `p2p.blobs.PROTOCOL`.
    """

    def __init__(
        self,
        directory: Path,
        budget: int,
        swarm: Opener,
        *,
        peers: Callable[[], Sequence[str]],
        fault: Callable[[str, str], None],
        rng: Random,
    ) -> None:
        try:
            self._shelf = Shelf(directory, budget)
        except OSError as error:
            raise _disk_error(error) from error
        blobs = Blobs(swarm, _Library(self._shelf), fault=fault)
        self._fetcher = Fetcher(blobs, peers=peers, fault=fault, rng=rng)
        self._fetching: dict[bytes, _Fetch] = {}
        self._fetches = trio.CapacityLimiter(FETCHES)
        self.handle = blobs.handle

    def stored(self, file_hash: str) -> int | None:
        """The size of the whole file, if it is here. Does not look at the disk."""
        return self._shelf.size_of(_read_hash(file_hash))

    async def put(self, chunks: AsyncIterator[bytes]) -> schema.Stored:
        """Take in a file; nothing is kept of one that is too large or broken off.

        Raises ``attachment.too_long``, ``.empty``, ``.full`` and ``.disk``.
        """
        incoming = await _disk(self._shelf.begin)
        kept = False
        try:
            async for data in chunks:
                if incoming.size + len(data) > MAX_FILE_BYTES:
                    raise PermeshError(
                        "attachment.too_long",
                        f"A file may have {MAX_FILE_BYTES} bytes (8 MiB), and this one has more.",
                        "Send a smaller one.",
                        http_status=413,
                    )
                await _disk(incoming.write, data)
            if not incoming.size:
                raise PermeshError(
                    "attachment.empty", "The file is empty.", "Send one that has a byte at least."
                )
            file_hash = await _disk(self._shelf.keep, incoming)
            kept = True
        finally:
            if not kept:
                incoming.discard()
        return schema.Stored(hash=file_hash.hex(), bytes=incoming.size)

    @asynccontextmanager
    async def open(
        self, file_hash: str, size: int | None = None
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """The file's bytes, fetched from members if it is not here, and checked before any is
        given. ``size`` is what its post claims, if that is known: no other is fetched.

        Raises ``attachment.unavailable`` (404), ``.hash`` and ``.disk``.
        """
        key = _read_hash(file_hash)
        self._shelf.pin(key)
        try:
            file = await _disk(self._shelf.open, key) or await self._fetch(key, size)
            try:
                async with aclosing(_chunks(file)) as chunks:
                    yield chunks
            finally:
                file.close()
        finally:
            if self._shelf.unpin(key):
                with trio.CancelScope(shield=True):
                    await _disk(self._shelf.make_room)

    async def forget(self, hashes: Iterable[str]) -> None:
        """Files that no post names any more: own or fetched, they go."""
        await _disk(self._shelf.remove, [_read_hash(file_hash) for file_hash in hashes])

    async def sweep(
        self, named: Callable[[Sequence[bytes]], Awaitable[Collection[bytes]]], before: float
    ) -> int:
        """Forget what no post names, of those that nobody put or opened since ``before`` (seconds,
        Unix): a post that is to name a file may still be written. Returns how many went."""
        files = await _disk(self._shelf.untouched_since, before)
        kept = set(await named(files))
        gone = [file_hash for file_hash in files if file_hash not in kept]
        await _disk(self._shelf.remove, gone)
        return len(gone)

    async def _fetch(self, key: bytes, size: int | None) -> BinaryIO:
        """One fetch for all who ask for the same file. If the one that fetches is cancelled, the
        next of them goes on from the part that is here; what it finds out is true for all."""
        fetch = self._fetching.setdefault(key, _Fetch())
        fetch.waiting += 1
        try:
            async with fetch.turn:
                file = await _disk(self._shelf.open, key)
                if file is None and size not in fetch.in_vain:
                    async with self._fetches:
                        if await self._bring(key, size):
                            file = await _disk(self._shelf.open, key)
                if file is None:
                    fetch.in_vain.add(size)
                    raise NotFound(
                        "attachment.unavailable",
                        "The file is not here, and no member that is connected has it.",
                        "Try again when a member that has it is connected: its author, or one "
                        "that has opened it.",
                    )
                return file
        finally:
            fetch.waiting -= 1
            if not fetch.waiting:
                del self._fetching[key]

    async def _bring(self, key: bytes, size: int | None) -> bool:
        try:
            return await self._fetcher.fetch(key, _Part(self._shelf, key), size)
        except FileNotFoundError:  # forgotten while it came
            return False
        except OSError as error:
            raise _disk_error(error) from error


class _Fetch:
    def __init__(self) -> None:
        self.turn = trio.Lock()
        self.waiting = 0
        self.in_vain: set[int | None] = set()  # the sizes with which nobody had it


class _Library:
    """What others may have (``p2p.blobs.Library``)."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf
        self.size_of = shelf.size_of

    async def read(self, file_hash: bytes, offset: int, length: int) -> bytes | None:
        return await _disk(self._shelf.read, file_hash, offset, length)


class _Part:
    """A part on the shelf (``p2p.blob_fetch.Part``)."""

    def __init__(self, shelf: Shelf, file_hash: bytes) -> None:
        self._shelf = shelf
        self._hash = file_hash
        self._size = 0  # as far as this fetch knows

    async def size(self) -> int:
        self._size = await trio.to_thread.run_sync(self._shelf.part_size, self._hash)
        return self._size

    async def append(self, data: bytes) -> None:
        await trio.to_thread.run_sync(self._shelf.append, self._hash, self._size, data)
        self._size += len(data)

    async def truncate(self, size: int) -> None:
        await trio.to_thread.run_sync(self._shelf.truncate, self._hash, size)
        self._size = size

    async def finish(self) -> bool:
        return await trio.to_thread.run_sync(self._shelf.finish, self._hash)

    async def content(self) -> bytes:
        size = self._shelf.size_of(self._hash) or 0
        return await trio.to_thread.run_sync(self._shelf.read, self._hash, 0, size) or b""


async def _chunks(file: BinaryIO) -> AsyncGenerator[bytes, None]:
    while data := await _disk(file.read, CHUNK_BYTES):
        yield data


async def _disk(work: Callable[..., _T], *arguments: object) -> _T:
    """In a worker thread; once begun it is not abandoned, so files are never half done."""
    try:
        return await trio.to_thread.run_sync(work, *arguments)
    except OSError as error:
        raise _disk_error(error) from error


def _disk_error(error: OSError) -> PermeshError:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return PermeshError(
        "attachment.disk",
        f"The files of posts cannot be kept or read: {error.strerror or error}.",
        "Free some space." if full else "Check the permissions of attachments/ in the home.",
        http_status=507 if full else 500,
    )


def _read_hash(text: str) -> bytes:
    if not _HASH.fullmatch(text):
        raise PermeshError(
            "attachment.hash",
            "A file is named by its SHA-256: 64 lowercase hexadecimal digits.",
            "Take the hash from the post.",
        )
    return bytes.fromhex(text)
