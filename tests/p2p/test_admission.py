"""The admission, read as a conversation: what comes in, and what is to be done then."""

from __future__ import annotations

import random

import pytest
import trio
from trio.testing import memory_stream_pair

from permesh.errors import PermeshError, Refused
from permesh.p2p.admission import (
    MAX_ADDRESS,
    MAX_ADDRESSES,
    MAX_EXTRA,
    MAX_HELLO,
    MAX_TEXT,
    MESSAGE_LIMIT,
    Check,
    Conversation,
    Ended,
    GateVerdict,
    Send,
    ask,
    converse,
    decode_verdict,
    encode_verdict,
)
from permesh.p2p.wire import Framed
from permesh.records import pack

YES = GateVerdict("admitted")
NO = GateVerdict("refused", "credential.expired", "It has expired.", "Renew it.")
WAIT = GateVerdict("pending", "admission.pending", "Ask a registrar.", extra=b"proof")


def hello(*addresses: str, name: bytes = b"theirs") -> bytes:
    return pack([1, name, list(addresses)])


def begun() -> Conversation:
    conversation = Conversation()
    assert conversation.begin(b"ours", ("/a",)) == [Send(pack([1, b"ours", ["/a"]]))]
    return conversation


def test_both_are_let_in() -> None:
    talk = begun()
    assert talk.receive(hello("/x", "/y")) == [Check(b"theirs")]
    assert talk.found(YES) == [Send(pack(["admitted", "", "", "", b""]))]
    assert talk.receive(encode_verdict(YES)) == [Ended(YES, YES, ("/x", "/y"))]


@pytest.mark.parametrize("ours", [YES, NO, WAIT])
@pytest.mark.parametrize("theirs", [YES, NO, WAIT])
def test_each_side_says_what_it_found_whatever_the_other_did(
    ours: GateVerdict, theirs: GateVerdict
) -> None:
    talk = begun()
    talk.receive(hello())
    assert talk.found(ours) == [Send(encode_verdict(ours))]
    assert talk.receive(encode_verdict(theirs)) == [Ended(ours, theirs, ())]


def test_a_verdict_that_overtakes_our_own_is_kept() -> None:
    talk = begun()
    talk.receive(hello())
    assert talk.receive(encode_verdict(NO)) == []
    assert talk.found(YES) == [Send(encode_verdict(YES)), Ended(YES, NO, ())]


def test_a_second_verdict_is_refused() -> None:
    talk = begun()
    talk.receive(hello())
    talk.receive(encode_verdict(YES))
    with pytest.raises(Refused) as caught:
        talk.receive(encode_verdict(YES))
    assert caught.value.code == "admission.order"


def test_what_is_not_said_does_not_travel() -> None:
    known = GateVerdict("admitted", verified=object(), expires_ms=7)
    assert decode_verdict(encode_verdict(known)) == YES


def test_another_version_is_told_what_to_do() -> None:
    with pytest.raises(Refused) as caught:
        begun().receive(pack([2, b"theirs", []]))
    assert caught.value.code == "admission.version"
    assert "Upgrade" in caught.value.remedy


@pytest.mark.parametrize(
    "message",
    [
        pack(None),
        pack([]),
        pack([1, b"", []]),
        pack([True, b"x", []]),
        pack([1, "text", []]),
        pack([1, bytes(MAX_HELLO + 1), []]),
        pack([1, b"x", "no list"]),
        pack([1, b"x", [b"bytes"]]),
        pack([1, b"x", ["/a"] * (MAX_ADDRESSES + 1)]),
        pack([1, b"x", ["/" * (MAX_ADDRESS + 1)]]),
        pack([1, b"x", [], []]),
        bytes(MESSAGE_LIMIT + 1),
    ],
)
def test_a_malformed_hello_is_refused(message: bytes) -> None:
    with pytest.raises(Refused):
        begun().receive(message)


@pytest.mark.parametrize(
    "fields",
    [
        ["admitted"],
        ["welcome", "", "", "", b""],
        [["admitted"], "", "", "", b""],
        ["admitted", 1, "", "", b""],
        ["admitted", "", "x" * (MAX_TEXT + 1), "", b""],
        ["admitted", "", "", None, b""],
        ["admitted", "", "", "", "text"],
        ["admitted", "", "", "", bytes(MAX_EXTRA + 1)],
    ],
)
def test_a_malformed_verdict_is_refused(fields: list[object]) -> None:
    with pytest.raises(Refused):
        decode_verdict(pack(fields))


def test_of_any_bytes_only_a_refusal_comes() -> None:
    rng = random.Random(5)
    samples = [hello("/x"), encode_verdict(NO)]
    for _ in range(2000):
        data = bytearray(rng.choice(samples))
        for _ in range(rng.randrange(1, 4)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        talk = begun()
        for message in (bytes(data), bytes(data[: rng.randrange(len(data))])):
            try:
                talk.receive(message)
            except Refused:
                break


class Gate:
    """Lets in whoever says the word."""

    def hello(self) -> bytes:
        return b"sesame"

    def check(self, peer_id: str, hello: bytes) -> GateVerdict:
        if hello == b"explode":
            raise RuntimeError("a bug")
        if hello != b"sesame":
            raise Refused("credential.signature", "Not the word.", "Learn it.")
        return GateVerdict("admitted", verified=peer_id)

    def on_verdict(self, peer_id: str, verdict: GateVerdict) -> None:
        raise NotImplementedError


def test_the_gates_refusals_and_errors_become_verdicts() -> None:
    assert ask(Gate(), "p", b"sesame") == GateVerdict("admitted", verified="p")
    assert ask(Gate(), "p", b"barley") == GateVerdict(
        "refused", "credential.signature", "Not the word.", "Learn it."
    )
    assert ask(Gate(), "p", b"explode").code == "admission.failed"


def test_two_sides_talk_to_an_end() -> None:
    async def main() -> None:
        here, there = memory_stream_pair()
        ended: dict[str, Ended] = {}

        async def side(name: str, stream: trio.abc.Stream, word: bytes) -> None:
            ended[name] = await converse(
                Framed(stream), word, (f"/{name}",), lambda hello: ask(Gate(), name, hello)
            )

        async with trio.open_nursery() as nursery:
            nursery.start_soon(side, "a", here, b"sesame")
            nursery.start_soon(side, "b", there, b"barley")
        assert ended["a"].addresses == ("/b",)
        assert ended["a"].ours.code == ended["b"].theirs.code == "credential.signature"
        assert ended["b"].ours.verified == "b"
        assert ended["a"].theirs == YES

    trio.run(main)


def test_a_peer_that_hangs_up_ends_it() -> None:
    async def main() -> None:
        here, there = memory_stream_pair()
        await there.aclose()
        with pytest.raises(PermeshError) as caught:
            await converse(Framed(here), b"x", (), lambda _: YES)
        assert caught.value.code == "wire.closed"

    trio.run(main)
