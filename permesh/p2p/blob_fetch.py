"""Getting a file from several members: who has it, who gives which part, and who lied.

Owns the order in which members are asked and the tracking of whose bytes a part is made of. Must
never know the disk: what has come is kept in a `Part`.

A part is the file's beginning, and it grows: whoever has the file goes on where the one before
broke off, also after a restart. A flat SHA-256 cannot tell which bytes are wrong, so if the whole
does not fit and it came from one member, that one lied; if it came from several, all of it is
dropped and they are tried again one by one, each for the whole file, until one of them proves
right. Then each piece that was given before is compared, and who gave a wrong one is told as well.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Protocol

import trio

from permesh.errors import PermeshError, Refused

from .blobs import WRONG_BYTES, Blobs

if TYPE_CHECKING:
    from hashlib import _Hash

ASKS = 6  # members that are asked at once whether they have it …
ASKED = 64  # … of so many at all
FETCH_S = 300.0  # whole; what has come is kept, and the next fetch goes on from there
HELPFUL = 32  # members that are remembered to have given a file

_log = logging.getLogger("permesh.p2p.blob_fetch")


class Part(Protocol):
    """The beginning of a file, as far as it is here. ``OSError`` is our own disk's."""

    async def size(self) -> int: ...

    async def append(self, data: bytes) -> None: ...

    async def truncate(self, size: int) -> None: ...

    async def finish(self) -> bool:
        """Whether the hash fits; then the file has its place, and the part is no more."""
        ...

    async def content(self) -> bytes:
        """The whole file, once it has its place."""
        ...


@dataclass(slots=True)
class _Piece:
    peer: str
    start: int
    length: int = 0
    digest: _Hash = field(default_factory=hashlib.sha256)

    def is_in(self, content: bytes) -> bool:
        given = content[self.start : self.start + self.length]
        return hashlib.sha256(given).hexdigest() == self.digest.hexdigest()


class Assembly:
    """Whose bytes a part is made of. ``have`` bytes were here before, nobody knows from whom.

    ``alone`` means that one member must give the whole file: it was mixed, and wrong.
    """

    def __init__(self, have: int) -> None:
        self.have = have
        self.alone = False
        self._unknown = have > 0
        self._pieces: list[_Piece] = []
        self._suspects: list[_Piece] = []

    def begin(self, peer: str, size: int) -> int:
        """Where to go on with a member that says the file has ``size`` bytes: what is here beyond
        that has to go first."""
        if size < self.have:
            self.alone = True  # one of them gave or said what is not so
        if self.alone:
            self._drop()
        self._pieces.append(_Piece(peer, self.have))
        return self.have

    def took(self, data: bytes) -> None:
        piece = self._pieces[-1]
        piece.digest.update(data)
        piece.length += len(data)
        self.have += len(data)

    def retract(self) -> int:
        """The last member misbehaved: nothing of it is kept. Returns how much is left."""
        piece = self._pieces.pop()
        self._suspects.append(piece)
        self.have = piece.start
        return self.have

    def mismatch(self) -> str | None:
        """The whole does not fit: drop it all, and say who lied if that is known."""
        givers = {piece.peer for piece in self._pieces if piece.length}
        liar = givers.pop() if len(givers) == 1 and not self._unknown else None
        if liar is None:
            self.alone = True
            self._drop()
        else:
            self._pieces.clear()  # it is blamed once, not again when the file is here
            self.have = 0
        return liar

    def liars(self, content: bytes) -> set[str]:
        """Who gave bytes that are not the file's, now that it is known."""
        return {piece.peer for piece in self._suspects if not piece.is_in(content)}

    @property
    def suspected(self) -> bool:
        return bool(self._suspects)

    def _drop(self) -> None:
        self._suspects += [piece for piece in self._pieces if piece.length]
        self._pieces.clear()
        self._unknown = False
        self.have = 0


@dataclass(frozen=True, slots=True)
class _Holder:
    peer: str
    size: int


class _Search:
    """The members that are still to be asked, and who was found to have the file."""

    def __init__(self, peers: Iterable[str]) -> None:
        self._peers = iter(peers)
        self._wanted = trio.Event()
        self.tell, self._told = trio.open_memory_channel[_Holder](0)

    async def peer(self) -> str | None:
        """The next one to ask, not before it is of use; None after the last one."""
        await self._wanted.wait()
        return next(self._peers, None)

    async def holder(self) -> _Holder | None:
        """The next one that has it; None once all were asked."""
        self._wanted.set()
        try:
            return await self._told.receive()
        except trio.EndOfChannel:
            return None
        finally:
            self._wanted = trio.Event()


class Fetcher:
    """``peers`` gives the connected members; ``fault(peer_id, code)`` counts who lied."""

    def __init__(
        self,
        blobs: Blobs,
        *,
        peers: Callable[[], Sequence[str]],
        fault: Callable[[str, str], None],
        rng: Random,
    ) -> None:
        self._blobs = blobs
        self._peers = peers
        self._fault = fault
        self._rng = rng
        self._helpful: dict[str, None] = {}  # the last one helped last

    async def fetch(self, file_hash: bytes, part: Part, size: int | None = None) -> bool:
        """Bring a file here; False if nobody who is connected gives it. May be cancelled.

        ``size`` is what its post claims: who has the file at another size is passed over, and not
        blamed, since the post may be what is wrong. Raises what ``part`` raises.
        """
        found = False
        failure: OSError | None = None
        async with trio.open_nursery() as nursery:
            nursery.cancel_scope.deadline = trio.current_time() + FETCH_S
            search = _Search(self._order())
            async with search.tell:
                for _ in range(ASKS):
                    nursery.start_soon(self._ask, search, search.tell.clone(), file_hash, size)
            try:
                found = await self._put_together(file_hash, part, search)
            except OSError as error:  # out of the nursery as it is, and not in a group
                failure = error
            nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure
        return found

    def _order(self) -> list[str]:
        """Who helped last comes first; the others as chance has it, to spread the load."""
        peers = list(self._peers())
        self._rng.shuffle(peers)
        rank = {peer: number for number, peer in enumerate(self._helpful, start=1)}
        return sorted(peers, key=lambda peer: -rank.get(peer, 0))[:ASKED]

    async def _ask(
        self,
        search: _Search,
        tell: trio.MemorySendChannel[_Holder],
        file_hash: bytes,
        size: int | None,
    ) -> None:
        async with tell:
            while (peer := await search.peer()) is not None:
                try:
                    theirs = await self._blobs.size_at(peer, file_hash)
                except PermeshError as error:
                    _log.debug("%s could not be asked for a file: %s", peer, error)
                    continue
                if theirs is not None and size in (None, theirs):
                    await tell.send(_Holder(peer, theirs))

    async def _put_together(self, file_hash: bytes, part: Part, search: _Search) -> bool:
        assembly = Assembly(await part.size())
        tried: list[_Holder] = []
        again: list[_Holder] | None = None  # those who are still to be tried alone
        while True:
            if again:
                holder = again.pop()
            elif (found := await search.holder()) is not None:
                holder = found
                tried.append(holder)
            else:
                return False
            whole = await self._go_on(file_hash, part, assembly, holder)
            if whole and await part.finish():
                await self._settle(part, assembly, holder.peer)
                return True
            if whole:
                liar = assembly.mismatch()
                await part.truncate(0)
                if liar is not None:
                    self._fault(liar, WRONG_BYTES)
                    tried = [other for other in tried if other.peer != liar]
            if assembly.alone and again is None:
                again = tried[:]  # the latest first: it has just been there

    async def _go_on(
        self, file_hash: bytes, part: Part, assembly: Assembly, holder: _Holder
    ) -> bool:
        """Take from one member what is lacking; True if the part is as long as it says."""

        async def take(data: bytes) -> None:
            await part.append(data)
            assembly.took(data)

        before = assembly.have
        offset = assembly.begin(holder.peer, holder.size)
        if offset < before:
            await part.truncate(offset)
        try:
            if offset < holder.size:
                await self._blobs.read(holder.peer, file_hash, offset, holder.size - offset, take)
        except PermeshError as error:
            _log.debug("%s broke off a file: %s", holder.peer, error)
            if isinstance(error, Refused):
                await part.truncate(assembly.retract())
            return False
        return True

    async def _settle(self, part: Part, assembly: Assembly, giver: str) -> None:
        self._helpful.pop(giver, None)
        self._helpful[giver] = None
        if len(self._helpful) > HELPFUL:
            del self._helpful[next(iter(self._helpful))]
        if assembly.suspected:
            for liar in assembly.liars(await part.content()):
                self._fault(liar, WRONG_BYTES)
