"""What this member serves, and what it knows of the others' serving.

Owns our spans, our signed offer, and the book of the others'. Must never open a session or a lane.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import trio

from permesh import schema
from permesh.errors import NotFound, PermeshError, Refused

from .catalogue import ModelInfo, find, list_models
from .holdings import Holdings, Part
from .offers import LIFE_MS as OFFER_LIFE_MS
from .offers import MAX_SPANS, REFRESH_MS, Offer, OfferBook, OfferedSpan, open_offer, seal_offer
from .plan import Held
from .supervisor import Engine
from .surroundings import Member, Surroundings

SELF_TEST_SECONDS = 1800.0

# An offer may outrun its author's credential, or a slow clock: nobody's fault.
_INNOCENT = ("offer.unknown_key", "offer.stale", "offer.too_many")

_log = logging.getLogger("permesh.inference")


@dataclass(frozen=True, slots=True)
class _Served:
    info: ModelInfo
    first: int
    last: int


class Serving:
    """``now`` gives Unix ms; ``sessions(revision)`` is how many sessions run on a model here."""

    def __init__(
        self,
        engine: Engine,
        holdings: Holdings,
        surroundings: Surroundings,
        models_dir: Path,
        *,
        now: Callable[[], int],
        sessions: Callable[[str], int],
    ) -> None:
        self._engine = engine
        self._holdings = holdings
        self._surroundings = surroundings
        self._models_dir = models_dir
        self._now = now
        self._sessions = sessions
        self._book = OfferBook()
        self._served: dict[str, _Served] = {}  # by revision
        self._sealed: bytes | None = None  # our offer
        self._made_ms = 0  # when it was made
        self._served_ms = 0  # when it last had spans
        self._noticed: list[tuple[bytes, tuple[OfferedSpan, ...]]] = []
        self._reloading = False

    def tick(self, nursery: trio.Nursery) -> None:
        """About once a second: refresh our offer, notice what has expired, and load what we serve
        again after the engine has died."""
        if self._served and self._now() - self._made_ms >= REFRESH_MS:
            self._surroundings.announce()
        if self._holdings.stale and not self._reloading:
            self._reloading = True
            nursery.start_soon(self._reload)
        self._notice()

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
        before = self._served.get(info.revision)
        try:
            if before is not None and not low <= before.first < before.last <= high:
                await self._holdings.drop(info.revision)
            await self._holdings.ensure(info, Part(low, high))
        except PermeshError:
            if self._served.pop(info.revision, None) is not None:
                self._changed()
            raise
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

    def allows(self, revision: str, first: int, last: int) -> None:
        """Raises ``Refused`` for layers that are not served here."""
        served = self._served.get(revision)
        if served is None or not served.first <= first < last <= served.last:
            raise Refused("stage.not_served", "These layers are not served here any more.")

    async def ready(self, revision: str) -> None:
        """Return when the engine holds what is served of that model."""
        served = self._served.get(revision)
        if served is None:
            raise Refused("stage.not_served", "These layers are not served here any more.")
        await self._holdings.ensure(served.info, Part(served.first, served.last))

    async def _reload(self) -> None:
        try:
            for revision, served in list(self._served.items()):
                try:
                    await self.ready(revision)
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
        sessions = self._sessions(info.revision)
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

    # -- for the planner

    def serves_whole(self, info: ModelInfo) -> bool:
        own = self._served.get(info.revision)
        return own is not None and (own.first, own.last) == (0, info.layers)

    def held(self, info: ModelInfo) -> list[Held]:
        """What connected members hold of exactly this model."""
        connected = self._surroundings.connected()
        return [
            Held(offer.peer_id, span.first, span.last)
            for offer in self._book.live(self._now())
            if (member := connected.get(offer.peer_id)) is not None and member.agent == offer.agent
            for span in offer.spans
            if (span.revision, span.layers) == (info.revision, info.layers)
        ]


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
