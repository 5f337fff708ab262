"""Members that were admitted and break every rule."""

from __future__ import annotations

import os
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
import trio

from permesh.errors import PermeshError
from permesh.inference.messages import (
    PROTOCOL,
    Beat,
    Control,
    Fail,
    Open,
    Opened,
    Step,
    decode_control,
    decode_step,
    encode_control,
)
from permesh.inference.session import RingError
from permesh.p2p.lanes import Lane, LaneLost
from permesh.p2p.wire import Framed

from . import tiny
from .asking import ask, request, serve_both, settled
from .mesh import Mesh


async def opening(mesh: Mesh, **change: object) -> Open:
    """What atlas, as the asker, would say to birch; the tail's lane is to come to atlas."""
    [span] = mesh.nodes["birch"].compute.serving()
    names = {"previous_peer": "peeratlas", "next_peer": "peeratlas", "next_session": b"n" * 16}
    fields = {
        "session": os.urandom(16), "revision": bytes.fromhex(span.revision), "first": 3,
        "last": 7, "max_tokens": 50, "window": 4, **names, **change,
    }  # fmt: skip
    return Open(**fields)  # type: ignore[arg-type]


async def control(stream: Framed) -> Control:
    """The next message that is not a heartbeat."""
    while isinstance(message := decode_control(await stream.receive()), Beat):
        pass
    return message


@asynccontextmanager
async def hostile_asker(mesh: Mesh, **change: object) -> AsyncIterator[tuple[Framed, Lane, Lane]]:
    """A session at birch: its control stream, the lane in, the lane out."""
    atlas = mesh.nodes["atlas"]
    message = await opening(mesh, **change)
    arrived = trio.Event()
    out: list[Lane] = []

    async def take(lane: Lane) -> None:
        out.append(lane)
        arrived.set()
        await lane.closed.wait()

    with atlas.compute._doors.expect(b"n" * 16, "peerbirch", take):
        stream = await atlas.open_stream("peerbirch", PROTOCOL)
        await stream.send(encode_control(message))
        lane = await atlas.compute._lanes.open("peerbirch", message.session)
        assert isinstance(await control(stream), Opened)
        await arrived.wait()
        yield stream, lane, out[0]
        await stream.aclose()
        await lane.aclose()


def floats(*values: float) -> bytes:
    return struct.pack(f"<{len(values)}f", *values)


GOOD = Step(0, 0, (("float32", (1, 1, tiny.WIDTH)),))


@pytest.mark.parametrize(
    ("header", "payload", "code"),
    [
        (GOOD.encode(), floats(*[float("nan")] * tiny.WIDTH), "activation.not_finite"),
        (GOOD.encode(), floats(*[float("inf")] * tiny.WIDTH), "activation.not_finite"),
        (GOOD.encode(), b"", "step.shape"),
        (b"garbage", b"", "step.header"),
        (replace(GOOD, start=7).encode(), bytes(4 * tiny.WIDTH), "step.gap"),
        (
            replace(GOOD, tensors=(("float32", (1, 60, tiny.WIDTH)),)).encode(),
            bytes(4 * 60 * tiny.WIDTH),
            "step.too_long",
        ),
        (
            replace(GOOD, tensors=(("float32", (1, 1, tiny.WIDTH + 1)),)).encode(),
            bytes(4 * tiny.WIDTH + 4),
            "activation.shape",
        ),
        (
            replace(GOOD, tensors=(("int64", (1, 1, tiny.WIDTH)),)).encode(),
            bytes(8 * tiny.WIDTH),
            "activation.dtype",
        ),
        (
            replace(GOOD, tensors=GOOD.tensors * 2).encode(),
            bytes(8 * tiny.WIDTH),
            "activation.shape",
        ),
    ],
    ids=[
        "nan",
        "infinite",
        "no_payload",
        "no_header",
        "gap",
        "beyond",
        "width",
        "dtype",
        "two_tensors",
    ],
)
def test_a_hostile_asker_gets_a_refusal_and_nothing_else_happens(
    shared: Mesh, header: bytes, payload: bytes, code: str
) -> None:
    async def main() -> None:
        await serve_both(shared)
        async with hostile_asker(shared) as (stream, lane, _):
            await lane.send(header, payload)
            failed = await control(stream)
            assert isinstance(failed, Fail)
            assert failed.code == code
        await settled(shared)
        assert shared.nodes["birch"].engine.state.state == "ready"

    shared.run(main)


def test_a_step_replayed_from_an_earlier_start_gives_the_same_bytes(shared: Mesh) -> None:
    async def main() -> None:
        await serve_both(shared)
        rows = floats(*[0.1 * i for i in range(3 * tiny.WIDTH)])
        three = (("float32", (1, 3, tiny.WIDTH)),)
        async with hostile_asker(shared) as (_, lane, out):
            answers = []
            for number in range(3):
                await lane.send(Step(number, 0, three).encode(), rows)
                header, payload = await out.receive()
                assert decode_step(header, len(payload)) == Step(number, 0, three)
                answers.append(payload)
            assert answers[0] == answers[1] == answers[2]

    shared.run(main)


def test_openings_that_ask_for_too_much_are_refused(shared: Mesh) -> None:
    async def main() -> None:
        await serve_both(shared)
        atlas, birch, _ = shared.nodes.values()

        async def refusal(**change: object) -> str:
            stream = await atlas.open_stream("peerbirch", PROTOCOL)
            await stream.send(encode_control(await opening(shared, **change)))
            answer = await control(stream)
            await stream.aclose()
            assert isinstance(answer, Fail)
            return answer.code

        assert await refusal(first=2) == "stage.not_served"
        assert await refusal(last=8) == "stage.not_served"
        assert await refusal(revision=b"x" * 32) == "stage.not_served"
        assert await refusal(max_tokens=32_769) == "stage.too_long"
        assert await refusal(max_tokens=tiny.CONTEXT + 1) == "session.too_long"
        assert await refusal(next_peer="nobody") == "network.not_connected"
        before = len(birch.faults)
        for garbage in (b"\xc1", encode_control(Beat(1)), b"x" * 3000):
            stream = await atlas.open_stream("peerbirch", PROTOCOL)
            await stream.send(garbage)
            with pytest.raises(PermeshError):
                await stream.receive()
        assert len(birch.faults) == before + 3
        await settled(shared)

    shared.run(main)


def test_one_peer_cannot_take_every_session_of_a_stage(shared: Mesh) -> None:
    async def main() -> None:
        await serve_both(shared)
        atlas = shared.nodes["atlas"]
        streams = [await atlas.open_stream("peerbirch", PROTOCOL) for _ in range(40)]
        for stream in streams:
            await stream.send(encode_control(await opening(shared)))
        answers = [await control(stream) for stream in streams]
        assert sum(isinstance(answer, Opened) for answer in answers) == 8
        codes = {answer.code for answer in answers if isinstance(answer, Fail)}
        assert codes == {"stage.full"}
        text, _ = await ask(shared, request(tiny.words(5), max_tokens=3), "cedar")
        assert text  # another asker is served all the same
        for stream in streams:
            await stream.aclose()
        await settled(shared)

    shared.run(main)


def test_a_lane_of_the_wrong_peer_is_refused(shared: Mesh) -> None:
    async def main() -> None:
        await serve_both(shared)
        birch = shared.nodes["birch"]
        async with hostile_asker(shared, previous_peer="peercedar") as (_, lane, _out):
            with pytest.raises(LaneLost):
                await lane.receive()
        assert birch.faults[-1] == "lane.purpose"
        await settled(shared)

    shared.run(main)


@pytest.mark.parametrize("lie", ["nan", "position", "garbage"])
def test_a_tail_that_answers_wrongly_is_named(shared: Mesh, lie: str) -> None:
    async def main() -> None:
        await serve_both(shared)
        _, _, cedar = shared.nodes.values()
        honest = cedar.compute._stages._engine

        class Liar:
            """cedar's engine, with another result."""

            state = honest.state

            async def call(self, op: str, fields: dict, payload: bytes = b"", **more: float):
                reply = await honest.call(op, fields, payload, **more)
                if op == "forward" and lie == "nan":
                    nan = floats(*[float("nan")] * (len(reply.payload) // 4))
                    return replace(reply, payload=memoryview(nan))
                return reply

        sends = Lane.send

        async def send(lane: Lane, header: bytes, payload: bytes = b"") -> None:
            if lane.peer_id == "peeratlas" and lie != "nan":
                step = decode_step(header, len(payload))
                changed = replace(step, start=step.start + 1).encode()
                header = b"garbage" if lie == "garbage" else changed
            await sends(lane, header, payload)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(cedar.compute._stages, "_engine", Liar())
            patch.setattr(Lane, "send", send)
            with pytest.raises(RingError, match=r"cedar \(AGT-0003\)") as error:
                await ask(shared, request(tiny.words(5)))
        assert error.value.code == "stage.wrong"
        await settled(shared)

    shared.run(main)
