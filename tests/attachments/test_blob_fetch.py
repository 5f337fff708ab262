"""A file from several members: it comes whole if one of them is honest, and only liars are told."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from random import Random

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from permesh.errors import PermeshError, Refused
from permesh.p2p import blob_fetch
from permesh.p2p.blob_fetch import ASKED, FETCH_S, Assembly, Fetcher
from permesh.p2p.blobs import CHUNK_BYTES, WRONG_BYTES, Blobs, Size
from permesh.p2p.wire import Framed

from .hub import (
    Handler,
    Hub,
    Library,
    Side,
    endless,
    giving,
    in_hub,
    saying,
    silent,
    stalling_after,
)

CONTENT = Random(1).randbytes(4 * CHUNK_BYTES + 99)
LIE = bytes([CONTENT[0] ^ 1]) + CONTENT[1:]
LATE_LIE = CONTENT[:-1] + bytes([CONTENT[-1] ^ 1])
HASH = hashlib.sha256(CONTENT).digest()


class Part:
    """In memory."""

    def __init__(self, file_hash: bytes, here: bytes = b"") -> None:
        self.hash = file_hash
        self.data = bytearray(here)
        self.whole: bytes | None = None
        self.appended = 0

    async def size(self) -> int:
        await trio.lowlevel.checkpoint()
        return len(self.data)

    async def append(self, data: bytes) -> None:
        await trio.lowlevel.checkpoint()
        self.data += data
        self.appended += len(data)

    async def truncate(self, size: int) -> None:
        await trio.lowlevel.checkpoint()
        del self.data[size:]

    async def finish(self) -> bool:
        await trio.lowlevel.checkpoint()
        if hashlib.sha256(self.data).digest() != self.hash:
            return False
        self.whole = bytes(self.data)
        return True

    async def content(self) -> bytes:
        await trio.lowlevel.checkpoint()
        assert self.whole is not None
        return self.whole


class InOrder(Random):
    """Leaves the members in the order in which they stand."""

    def shuffle(self, _items: object) -> None:  # type: ignore[override]
        pass


def fetcher(hub: Hub) -> tuple[Fetcher, Side]:
    side = hub.side("me")
    blobs = Blobs(side, Library(), fault=side.fault)
    return Fetcher(blobs, peers=side.peers, fault=side.fault, rng=InOrder()), side


def fetching(
    handlers: dict[str, Handler],
    *,
    here: bytes = b"",
    size: int | None = None,
    found: bool = True,
    liars: dict[str, int] | None = None,
) -> Part:
    """One fetch from these members; returns what came of the part."""
    part = Part(HASH, here)

    async def main(hub: Hub) -> None:
        hub.handlers.update(handlers)
        fetch, side = fetcher(hub)
        assert await fetch.fetch(HASH, part, size) is found
        assert {peer: n for (peer, code), n in side.faults.items() if code == WRONG_BYTES} == (
            liars or {}
        )
        if found:
            assert part.whole == CONTENT

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blob_fetch, "ASKS", 1)  # so that the first who has it is the first who gives
        in_hub(main)
    return part


def test_the_one_that_has_it_gives_it() -> None:
    fetching({"a": saying(), "b": silent, "c": giving(CONTENT)})


def test_nobody_has_it() -> None:
    fetching({"a": silent, "b": saying(Size(0))}, found=False)
    fetching({}, found=False)


def test_another_goes_on_where_one_broke_off() -> None:
    part = fetching(
        {
            "a": giving(CONTENT, breaks_at=CHUNK_BYTES),
            "b": stalling_after(giving(CONTENT, breaks_at=3 * CHUNK_BYTES)),
            "c": giving(CONTENT),
        }
    )
    assert part.appended == len(CONTENT)


def test_what_was_here_before_is_not_fetched_again() -> None:
    part = fetching({"a": giving(CONTENT)}, here=CONTENT[:1000])
    assert part.appended == len(CONTENT) - 1000
    assert fetching({"a": giving(CONTENT)}, here=CONTENT).appended == 0


def test_what_nobody_finished_stays_for_the_next_time() -> None:
    part = fetching({"a": giving(CONTENT, breaks_at=2 * CHUNK_BYTES)}, found=False)
    assert part.data == CONTENT[: 2 * CHUNK_BYTES]


def test_a_lie_of_one_member_is_that_members_and_nothing_of_it_is_kept() -> None:
    assert fetching({"a": giving(LIE)}, found=False, liars={"a": 1}).data == b""
    fetching(
        {"a": giving(LIE), "b": giving(LATE_LIE), "c": giving(CONTENT)}, liars={"a": 1, "b": 1}
    )


def test_a_liar_that_leaves_the_end_to_an_honest_one_is_found_out() -> None:
    liar = giving(LIE, breaks_at=CHUNK_BYTES)
    fetching({"a": liar, "b": giving(CONTENT)}, liars={"a": 1})


def test_a_liar_that_ends_what_an_honest_one_began_is_found_out() -> None:
    honest = giving(CONTENT, breaks_at=2 * CHUNK_BYTES)
    fetching({"a": honest, "b": giving(LATE_LIE), "c": giving(CONTENT)}, liars={"b": 2})


def test_a_part_that_was_wrong_before_is_nobodys_lie() -> None:
    for here in (LIE[:1000], LIE, bytes(len(CONTENT) + 7), bytes(len(CONTENT))):
        fetching({"a": giving(CONTENT)}, here=here)


@pytest.mark.parametrize("claims", [1, CHUNK_BYTES, len(CONTENT) - 1])
def test_who_says_less_than_there_is_lies(claims: int) -> None:
    fetching({"a": giving(CONTENT, claims=claims), "b": giving(CONTENT)}, liars={"a": 1})


def test_who_says_less_cannot_lose_us_the_file() -> None:
    honest = giving(CONTENT, breaks_at=3 * CHUNK_BYTES)
    little = giving(CONTENT, claims=5)
    fetching({"a": honest, "b": little, "c": giving(CONTENT)}, liars={"b": 1})


def test_who_says_more_than_there_is_has_nothing_to_give_at_the_end() -> None:
    padded = giving(CONTENT + bytes(500))
    fetching({"a": padded, "b": giving(CONTENT)}, liars={"a": 1})


def test_who_has_it_at_another_size_than_its_post_says_is_passed_over_unblamed() -> None:
    others = {"a": giving(CONTENT[:-1]), "b": giving(CONTENT + b"x")}
    fetching({**others, "c": giving(CONTENT)}, size=len(CONTENT))
    fetching({**others, "c": giving(CONTENT)}, size=7, found=False)


def test_nothing_is_kept_of_what_a_misbehaving_member_gave() -> None:
    begins = giving(CONTENT, breaks_at=CHUNK_BYTES)
    part = fetching({"a": begins, "b": endless(3 * CHUNK_BYTES + 10)}, found=False)
    assert part.data == CONTENT[:CHUNK_BYTES]


def test_who_helped_last_is_asked_first() -> None:
    async def main(hub: Hub) -> None:
        unhelpful = Blobs(hub.side("p"), Library(), fault=hub.side("p").fault).handle
        hub.handlers.update({f"p{number:02}": unhelpful for number in range(20)})
        hub.handlers["helpful"] = giving(CONTENT)
        fetch, _ = fetcher(hub)
        assert await fetch.fetch(HASH, Part(HASH))
        hub.opened.clear()
        assert await fetch.fetch(HASH, Part(HASH))
        assert hub.opened["helpful"] == 2
        assert hub.opened.total() <= 2 + 2 * blob_fetch.ASKS

    in_hub(main)


def test_only_so_many_are_asked_and_a_few_at_once() -> None:
    async def main(hub: Hub) -> None:
        asked = most = 0

        async def counting(_stream: Framed, _peer_id: str) -> None:
            nonlocal asked, most
            asked += 1
            most = max(most, asked)
            await trio.sleep(1)
            asked -= 1

        hub.handlers.update({f"p{number}": counting for number in range(2 * ASKED)})
        fetch, _ = fetcher(hub)
        assert not await fetch.fetch(HASH, Part(HASH))
        assert hub.opened.total() == ASKED
        assert most == blob_fetch.ASKS

    in_hub(main)


def test_a_fetch_ends_whatever_they_do() -> None:
    async def main(hub: Hub) -> None:
        async def slow(stream: Framed, peer_id: str) -> None:
            await trio.sleep(9)
            await giving(CONTENT, breaks_at=CHUNK_BYTES)(stream, peer_id)
            await trio.sleep_forever()

        hub.handlers.update({f"p{number}": slow for number in range(ASKED)})
        fetch, _ = fetcher(hub)
        assert not await fetch.fetch(HASH, Part(HASH))
        assert trio.current_time() <= FETCH_S + 1

    in_hub(main)


def test_a_disk_that_is_full_is_nobodys_fault_and_comes_out_as_it_is() -> None:
    class Full(Part):
        async def append(self, _data: bytes) -> None:
            raise OSError("full")

    async def main(hub: Hub) -> None:
        hub.handlers["a"] = giving(CONTENT)
        fetch, side = fetcher(hub)
        with pytest.raises(OSError, match="full"):
            await fetch.fetch(HASH, Full(HASH))
        assert not side.faults

    in_hub(main)


# -- all that members can do, as far as the fetch sees it ------------------------------------------


@dataclass(frozen=True)
class Peer:
    """Gives ``content`` up to ``breaks_at``, and ends with a fault of the protocol or without."""

    content: bytes
    breaks_at: int
    misbehaves: bool


class Peers:
    """What `Blobs` does for a fetch, without a wire."""

    def __init__(self, peers: dict[str, Peer]) -> None:
        self.peers = peers

    async def size_at(self, peer_id: str, _hash: bytes) -> int | None:
        await trio.lowlevel.checkpoint()
        return len(self.peers[peer_id].content) or None

    async def read(
        self,
        peer_id: str,
        _hash: bytes,
        offset: int,
        length: int,
        take: Callable[[bytes], Awaitable[None]],
    ) -> None:
        peer = self.peers[peer_id]
        assert offset + length == len(peer.content)
        for at in range(offset, offset + length):
            if at >= peer.breaks_at:
                raise (Refused if peer.misbehaves else PermeshError)("broken", "Broken off.")
            await take(peer.content[at : at + 1])


TRUE = b"sixteen bytes :)"
contents = st.one_of(
    st.just(TRUE),
    st.binary(min_size=1, max_size=20),
    st.integers(0, len(TRUE) - 1).map(lambda at: TRUE[:at] + b"!" + TRUE[at + 1 :]),
    st.integers(1, len(TRUE)).map(lambda end: TRUE[:end]),
    st.binary(min_size=1, max_size=3).map(lambda more: TRUE + more),
)
peers = st.builds(Peer, contents, st.integers(0, 24), st.booleans())
parts = st.one_of(
    st.just(b""), st.integers(0, 16).map(lambda end: TRUE[:end]), st.binary(max_size=20)
)


@given(st.lists(peers, max_size=6), st.booleans(), parts, st.integers(0, 2**16))
def test_one_honest_member_is_enough_and_no_honest_one_is_blamed(
    others: list[Peer], has_honest: bool, here: bytes, seed: int
) -> None:
    table = {f"other{number}": peer for number, peer in enumerate(others)}
    if has_honest:
        table["honest"] = Peer(TRUE, 99, misbehaves=False)
    faults: Counter[str] = Counter()
    part = Part(hashlib.sha256(TRUE).digest(), here)
    fetch = Fetcher(
        Peers(table),  # type: ignore[arg-type]
        peers=lambda: list(table),
        fault=lambda peer, _code: faults.update([peer]),
        rng=Random(seed),
    )
    found = trio.run(fetch.fetch, part.hash, part, clock=MockClock(autojump_threshold=0))
    assert found >= has_honest
    assert (part.whole == TRUE) == found
    for peer in faults:
        assert table[peer].content != TRUE


@given(st.lists(st.tuples(st.sampled_from("abc"), st.binary(max_size=8)), max_size=8))
def test_an_assembly_knows_each_piece_that_is_not_the_files(
    given_: list[tuple[str, bytes]],
) -> None:
    content = bytes(range(64))
    assembly = Assembly(0)
    wrong = set()
    for peer, data in given_:
        at = assembly.begin(peer, 64)
        data = data[: 64 - at]
        assembly.took(data)
        if data != content[at : at + len(data)]:
            wrong.add(peer)
    givers = {peer for peer, data in given_ if data}
    liar = assembly.mismatch()
    assert liar == (next(iter(givers)) if len(givers) == 1 else None)
    assert assembly.have == 0
    if liar is None:
        assert assembly.alone
        assert assembly.liars(content) == wrong
