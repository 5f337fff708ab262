"""The compute room's front: serve layers, know who serves which, answer questions.

Owns the choice of a route, and joins the parts: `Serving`, `Stages`, `Ring`, `Answer`. Must never
know HTTP, records, or how a peer was admitted: the daemon gives it `Surroundings`.

The daemon passes inbound streams to `handlers`, the others' offers to `on_offer`, carries `offers`
to them, and runs `run`.
"""

from __future__ import annotations

import contextlib
import logging
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import trio

from permesh import schema
from permesh.errors import PermeshError
from permesh.node import ChatDelta, ChatRequest
from permesh.p2p import lanes as lanes_module
from permesh.p2p.lanes import Lanes
from permesh.p2p.wire import Framed, at_most

from . import messages
from .answer import Answer, ask_fields
from .catalogue import ModelInfo, find
from .doors import Doors
from .holdings import EngineLife, Holdings, Part
from .plan import Capability, Chain, find_chain
from .ring import Ring
from .serving import Serving
from .session import MAX_TOKENS, Limits, RingError
from .stages import Stages
from .supervisor import Engine
from .surroundings import Surroundings

if TYPE_CHECKING:
    from trio_typing import TaskStatus

MAX_ANSWERS = 16  # this member's own questions at once
MAX_CHAINS = 3  # tried for one question, before its first token
WATCH_SECONDS = 1.0
CLOSE_SECONDS = 5.0

Handler = Callable[[Framed, str, object], Awaitable[None]]  # as `p2p.swarm.Swarm` takes them

_log = logging.getLogger("permesh.inference")


class Compute:
    """``now`` gives Unix ms. ``lane_host`` and ``lane_port`` are where direct lanes are taken."""

    def __init__(
        self,
        engine: Engine,
        surroundings: Surroundings,
        models_dir: Path,
        *,
        now: Callable[[], int],
        lane_host: str = "0.0.0.0",
        lane_port: int = 0,
        limits: Limits = Limits(),  # noqa: B008 - frozen
    ) -> None:
        self._engine = engine
        self._surroundings = surroundings
        self._models_dir = models_dir
        self._answers = 0
        self._holdings = Holdings(engine)
        self._serving = Serving(
            engine,
            self._holdings,
            surroundings,
            models_dir,
            now=now,
            sessions=lambda revision: self._stages.sessions(revision),
        )
        self._doors = Doors()
        self._nursery: trio.Nursery | None = None
        self._lanes = Lanes(
            open_stream=surroundings.open_stream,
            host_of=surroundings.host_of,
            on_lane=self._doors.enter,
            listen_host=lane_host,
            listen_port=lane_port,
        )
        self._stages = Stages(
            engine=engine,
            lanes=self._lanes,
            doors=self._doors,
            allows=self._serving.allows,
            ready=self._serving.ready,
            limits=limits,
        )

    @property
    def handlers(self) -> Mapping[str, Handler]:
        """Inbound protocols, for the streams of admitted members only."""

        async def lane(stream: Framed, peer_id: str, _verified: object) -> None:
            await self._lanes.handle(peer_id, stream)

        async def session(stream: Framed, peer_id: str, _verified: object) -> None:
            await self._stages.handle(peer_id, stream)

        return {lanes_module.PROTOCOL: lane, messages.PROTOCOL: session}

    async def run(self, task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Lanes, answers under way and the refreshing of offers, until cancelled."""
        async with trio.open_nursery() as nursery:
            await nursery.start(self._lanes.run)
            self._nursery = nursery
            task_status.started()
            while True:
                await trio.sleep(WATCH_SECONDS)
                self._serving.tick(nursery)

    # -- serving: see `Serving`

    async def serve(self, model: str, first: int | None, last: int | None) -> schema.Span:
        return await self._serving.serve(model, first, last)

    async def stop(self, model: str) -> None:
        await self._serving.stop(model)

    def serving(self) -> list[schema.Span]:
        return self._serving.serving()

    def spans(self) -> list[schema.Span]:
        return self._serving.spans()

    async def models(self) -> list[schema.LocalModel]:
        return await self._serving.models()

    def offers(self) -> list[bytes]:
        return self._serving.offers()

    def on_offer(self, peer_id: str, blob: bytes) -> None:
        self._serving.on_offer(peer_id, blob)

    # -- asking

    @contextlib.asynccontextmanager
    async def answer(self, request: ChatRequest) -> AsyncIterator[AsyncIterator[ChatDelta]]:
        """Answer a question; the chain stands, or the model is loaded, when the context is
        entered, so that what can be refused is refused there. The last delta carries the totals.

        Leaving the context ends the answer at every stage. Raises ``PermeshError``, also from the
        iterator.
        """
        if self._nursery is None:
            raise PermeshError("compute.stopped", "The daemon is stopping.", http_status=503)
        if self._answers >= MAX_ANSWERS:
            raise PermeshError(
                "compute.busy",
                f"{MAX_ANSWERS} answers are under way.",
                "Try again in a moment.",
                http_status=429,
            )
        self._answers += 1
        try:
            async with contextlib.AsyncExitStack() as stack:
                answer = await self._begin(stack, request)
                deltas = answer.deltas()
                try:
                    yield deltas
                finally:
                    await deltas.aclose()
        finally:
            self._answers -= 1

    async def _begin(self, stack: contextlib.AsyncExitStack, request: ChatRequest) -> Answer:
        """Try chains until one stands: a member that refuses is left out of the next one."""
        began = trio.current_time()
        info = find(self._models_dir, request.model)
        avoided: set[str] = set()
        refusal: RingError | None = None
        while True:
            try:
                chain = self._choose(info, request.route, avoided)
            except PermeshError:
                if refusal is not None:
                    raise refusal from None
                raise
            try:
                return await stack.enter_async_context(self._opened(info, request, chain, began))
            except RingError as error:
                refusal = error
                if error.stage is None or chain is None or len(avoided) + 1 >= MAX_CHAINS:
                    raise
                _log.info("a chain was left before its first token: %s", error)
                avoided.add(chain.legs[error.stage].peer_id)

    def _choose(self, info: ModelInfo, route: str, avoided: set[str]) -> Chain | None:
        """The chain, or None for the whole model here. "auto" prefers a chain, unless all layers
        are held here anyway."""
        if route == "local" or (route == "auto" and self._serving.serves_whole(info)):
            return None
        held = [span for span in self._serving.held(info) if span.peer_id not in avoided]
        try:
            return find_chain(info.name, info.layers, held, Capability(info.layers, info.layers))
        except PermeshError:
            if route == "mesh":
                raise
            return None

    @contextlib.asynccontextmanager
    async def _opened(
        self, info: ModelInfo, request: ChatRequest, chain: Chain | None, began: float
    ) -> AsyncIterator[Answer]:
        assert self._nursery is not None
        session = secrets.token_hex(messages.SESSION_BYTES)
        async with self._holdings.used(info.revision):
            facts = await self._holdings.ensure(info, *_asker_parts(info, chain))
            engine = EngineLife(self._engine)
            ring: Ring | None = None
            try:
                if chain is not None:
                    ring = self._ring(engine, chain, info.revision, session)
                    longest = min(facts["context"], MAX_TOKENS)
                    self._nursery.start_soon(ring.run, longest)
                fields = ask_fields(request, info, chain, session, facts)
                opened = (await engine.call("ask_open", fields)).fields
                if ring is not None:
                    if opened["prompt_tokens"] + opened["max_tokens"] > longest:
                        opened = await _shorten(engine, fields, opened)
                    await ring.open()
                me = self._surroundings.me()
                yield Answer(engine, session, opened, info, me, ring, began)
            finally:
                if ring is not None:
                    ring.abandon()
                with at_most(CLOSE_SECONDS), contextlib.suppress(PermeshError):
                    if not engine.over:
                        await engine.call("ask_close", {"session": session})

    def _ring(self, engine: EngineLife, chain: Chain, revision: str, session: str) -> Ring:
        connected = self._surroundings.connected()
        try:
            members = [connected[leg.peer_id] for leg in chain.legs]
        except KeyError as error:
            raise PermeshError(
                "stage.lost", "A member of the chain has just left.", "Ask again.", http_status=502
            ) from error
        return Ring(
            engine=engine,
            lanes=self._lanes,
            doors=self._doors,
            surroundings=self._surroundings,
            chain=chain,
            members=members,
            revision=revision,
            engine_session=session,
        )


async def _shorten(
    engine: EngineLife, fields: dict[str, Any], opened: dict[str, Any]
) -> dict[str, Any]:
    """Open again with as many tokens as a stage takes; raises when the prompt is too long."""
    left = MAX_TOKENS - opened["prompt_tokens"]
    if left < 1:
        raise PermeshError(
            "prompt.too_long",
            f"The prompt has {opened['prompt_tokens']} tokens, and members take {MAX_TOKENS}.",
            "Shorten it, or ask with the route 'local'.",
        )
    await engine.call("ask_close", {"session": fields["session"]})
    return (await engine.call("ask_open", {**fields, "max_tokens": left})).fields


def _asker_parts(info: ModelInfo, chain: Chain | None) -> list[Part]:
    if chain is None:
        return [Part(0, info.layers, ends=True)]
    return [Part(0, chain.first, ends=True), Part(chain.last, info.layers)]
