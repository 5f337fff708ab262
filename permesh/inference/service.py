"""The compute room's front: serve layers, know who serves which, answer questions.

Owns what this member serves, its offer, the book of the others' offers, and the choice of a route.
Must never know HTTP, records, or how a peer was admitted: the daemon gives it `Surroundings`.

The daemon passes inbound streams to `handlers`, the others' offers to `on_offer`, carries `offers`
to them, and runs `run`.
"""

from __future__ import annotations

import contextlib
import logging
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import trio

from permesh import schema
from permesh.errors import NotFound, PermeshError, Refused
from permesh.node import ChatDelta, ChatRequest
from permesh.p2p import lanes as lanes_module
from permesh.p2p.lanes import Lanes
from permesh.p2p.wire import Framed, at_most

from . import messages
from .answer import Answer, ask_fields
from .catalogue import ModelInfo, find, list_models
from .doors import Doors
from .holdings import EngineLife, Holdings, Part
from .offers import LIFE_MS as OFFER_LIFE_MS
from .offers import MAX_SPANS, REFRESH_MS, Offer, OfferBook, OfferedSpan, open_offer, seal_offer
from .plan import Capability, Chain, Held, find_chain
from .ring import Ring
from .session import MAX_TOKENS, Limits, RingError
from .stages import Stages
from .supervisor import Engine
from .surroundings import Member, Surroundings

if TYPE_CHECKING:
    from trio_typing import TaskStatus

MAX_ANSWERS = 16  # this member's own questions at once
MAX_CHAINS = 3  # tried for one question, before its first token
WATCH_SECONDS = 1.0
SELF_TEST_SECONDS = 1800.0
CLOSE_SECONDS = 5.0

# An offer may outrun its author's credential, or a slow clock: nobody's fault.
_INNOCENT = ("offer.unknown_key", "offer.stale", "offer.too_many")

Handler = Callable[[Framed, str, object], Awaitable[None]]  # as `p2p.swarm.Swarm` takes them

_log = logging.getLogger("permesh.inference")


@dataclass(frozen=True, slots=True)
class _Served:
    info: ModelInfo
    first: int
    last: int


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
        self._now = now
        self._book = OfferBook()
        self._served: dict[str, _Served] = {}  # by revision
        self._sealed: bytes | None = None  # our offer
        self._made_ms = 0  # when it was made
        self._served_ms = 0  # when it last had spans
        self._noticed: list[tuple[bytes, tuple[OfferedSpan, ...]]] = []
        self._reloading = False
        self._answers = 0
        self._holdings = Holdings(engine)
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
            allows=self._allows,
            ready=self._ready,
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
            nursery.start_soon(self._watch)
            task_status.started()

    async def _watch(self) -> None:
        """Refresh our offer, and load what we serve again after the engine has died."""
        while True:
            await trio.sleep(WATCH_SECONDS)
            if self._served and self._now() - self._made_ms >= REFRESH_MS:
                self._surroundings.announce()
            if self._holdings.stale and not self._reloading and self._nursery is not None:
                self._reloading = True
                self._nursery.start_soon(self._reload)
            self._notice()

    # -- serving

    async def serve(self, model: str, first: int | None, last: int | None) -> schema.Span:
        """Offer layers ``first`` … ``last - 1`` (None: from the first, to the last) to members.

        The model is tested split against whole before anyone hears of it. Raises ``PermeshError``.
        """
        info = find(self._models_dir, model)
        low, high = first or 0, info.layers if last is None else last
        if not 0 <= low < high <= info.layers:
            raise PermeshError(
                "model.layers",
                f"{info.name} has layers 0 to {info.layers - 1}; {low}:{high} is no span of them.",
                f"Choose FIRST:LAST within 0:{info.layers}; LAST is not included.",
            )
        if info.revision not in self._served and len(self._served) >= MAX_SPANS:
            raise PermeshError(
                "serve.too_many", f"A member serves at most {MAX_SPANS} models.", "Stop one first."
            )
        fields = {"model_dir": str(info.path), "first": low, "last": high}
        await self._engine.call("self_test", fields, deadline_s=SELF_TEST_SECONDS)
        before = self._served.pop(info.revision, None)
        if before is not None and not (low <= before.first and before.last <= high):
            await self._holdings.drop(info.revision)
        await self._holdings.ensure(info, Part(low, high))
        served = self._served[info.revision] = _Served(info, low, high)
        self._changed()
        return self._own_span(served)

    async def stop(self, model: str) -> None:
        """Take the offer back and let go of the layers; running sessions end with an error."""
        for revision, served in self._served.items():
            if served.info.name == model:
                del self._served[revision]
                self._changed()
                await self._holdings.drop(revision)
                return
        raise NotFound(
            "serve.unknown", f"'{model}' is not served here.", "See what is: permesh status"
        )

    def serving(self) -> list[schema.Span]:
        """Our own spans."""
        return [self._own_span(served) for served in self._served.values()]

    def _allows(self, revision: str, first: int, last: int) -> None:
        served = self._served.get(revision)
        if served is None or not served.first <= first < last <= served.last:
            raise Refused("stage.not_served", "These layers are not served here any more.")

    async def _ready(self, revision: str) -> None:
        served = self._served.get(revision)
        if served is None:
            raise Refused("stage.not_served", "These layers are not served here any more.")
        await self._holdings.ensure(served.info, Part(served.first, served.last))

    async def _reload(self) -> None:
        try:
            for revision, served in list(self._served.items()):
                try:
                    await self._ready(revision)
                except PermeshError as error:
                    _log.warning("%s could not be loaded again: %s", served.info.name, error)
                    if not error.code.startswith("engine."):
                        self._served.pop(revision, None)
                        self._changed()
        finally:
            self._reloading = False

    # -- offers, ours and others'

    def offers(self) -> list[bytes]:
        """Our offer as others are to hear it: at most one, made afresh when it is due. After the
        last span was stopped it is the empty one, for as long as an older one may live."""
        now = self._now()
        if self._served:
            self._served_ms = now
        elif not self._served_ms or now - self._served_ms > OFFER_LIFE_MS:
            return []
        if self._sealed is None or now - self._made_ms >= REFRESH_MS:
            self._made_ms = max(now, self._made_ms + 1)
            self._sealed = seal_offer(self._offer(), self._surroundings.sign)
        return [self._sealed]

    def _offer(self) -> Offer:
        around = self._surroundings
        spans = tuple(
            OfferedSpan(s.info.name, s.info.revision, s.first, s.last, s.info.layers)
            for s in self._served.values()
        )
        made = self._made_ms
        return Offer(
            around.mesh_id,
            around.me().agent,
            around.epoch(),
            around.peer_id,
            made,
            made + OFFER_LIFE_MS,
            spans,
        )

    def on_offer(self, peer_id: str, blob: bytes) -> None:
        """An offer that came by way of ``peer_id``; never raises."""
        around = self._surroundings
        try:
            offer = open_offer(
                blob, mesh=around.mesh_id, session_key=around.session_key, now_ms=self._now()
            )
            if offer.agent != around.me().agent:
                self._book.add(offer, self._now())
        except Refused as refusal:
            if refusal.code not in _INNOCENT:
                around.fault(peer_id, refusal.code)
        self._notice()

    def spans(self) -> list[schema.Span]:
        """Every span that is known of: ours, then those of others whose offers live."""
        found = self.serving()
        for offer in self._book.live(self._now()):
            member = self._surroundings.member(offer.agent)
            if member is not None:
                expires = self._book.expires_ms(offer.agent)
                found += [_span(member, offer.peer_id, s, 0, expires) for s in offer.spans]
        return found

    def _own_span(self, served: _Served) -> schema.Span:
        info = served.info
        span = OfferedSpan(info.name, info.revision, served.first, served.last, info.layers)
        around = self._surroundings
        sessions = self._stages.sessions(info.revision)
        return _span(around.me(), around.peer_id, span, sessions, 0)

    def _changed(self) -> None:
        self._sealed = None
        self._surroundings.announce()
        self._surroundings.spans_changed()

    def _notice(self) -> None:
        """Tell when the others' spans are not those of the last time."""
        live = [(offer.agent, offer.spans) for offer in self._book.live(self._now())]
        if live != self._noticed:
            self._noticed = live
            self._surroundings.spans_changed()

    async def models(self) -> list[schema.LocalModel]:
        """The models on this machine, and those that members offer, by name."""
        infos = await trio.to_thread.run_sync(list_models, self._models_dir)
        spans = self.spans()
        local = {info.revision for info in infos}
        found = [
            schema.LocalModel(
                name=info.name,
                revision=info.revision,
                layers=info.layers,
                bytes=info.bytes,
                local=True,
                served=[span for span in spans if span.revision == info.revision],
                reachable=True,
            )
            for info in infos
        ]
        elsewhere: dict[str, OfferedSpan] = {
            span.revision: span
            for offer in self._book.live(self._now())
            for span in offer.spans
            if span.revision not in local
        }
        found += [
            schema.LocalModel(
                name=span.model,
                revision=revision,
                layers=span.layers,
                bytes=0,
                local=False,
                served=[known for known in spans if known.revision == revision],
                reachable=False,  # an asker needs the tokenizer and the first and last layers
            )
            for revision, span in elsewhere.items()
        ]
        return sorted(found, key=lambda model: (model.name, model.revision))

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
        own = self._served.get(info.revision)
        whole = own is not None and (own.first, own.last) == (0, info.layers)
        if route == "local" or (route == "auto" and whole):
            return None
        connected = self._surroundings.connected()
        held = [
            Held(offer.peer_id, span.first, span.last)
            for offer in self._book.live(self._now())
            if offer.peer_id not in avoided
            and (member := connected.get(offer.peer_id)) is not None
            and member.agent == offer.agent
            for span in offer.spans
            if (span.revision, span.layers) == (info.revision, info.layers)
        ]
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
                fields = ask_fields(request, info, chain, session, facts)
                opened = (await engine.call("ask_open", fields)).fields
                if chain is not None:
                    total = opened["prompt_tokens"] + opened["max_tokens"]
                    if total > MAX_TOKENS:
                        total = MAX_TOKENS
                        opened = await _shorten(engine, fields, opened)
                    ring = self._ring(engine, chain, info.revision, session)
                    self._nursery.start_soon(ring.run, total)
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


def _span(
    member: Member, peer_id: str, span: OfferedSpan, sessions: int, expires_ms: int
) -> schema.Span:
    return schema.Span(
        agent=member.agent_hex,
        number=member.tag,
        name=member.name,
        peer_id=peer_id,
        model=span.model,
        revision=span.revision,
        first=span.first,
        last=span.last,
        sessions=sessions,
        expires_ms=expires_ms,
    )
