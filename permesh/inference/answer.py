"""One answer, from its first chunk of prompt to its totals, by the ring or by the whole model.

Owns the loop over tokens and what is said about the route. Must never know how the ring was
opened, or where the text goes.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

import trio

from permesh import schema
from permesh.node import ChatDelta, ChatRequest

from .catalogue import ModelInfo
from .holdings import EngineLife
from .plan import Chain
from .ring import Ring, StageTotals
from .session import MAX_TOKENS
from .surroundings import Member

PEER_SAW = "activations; not your text, but a peer with the public weights can reconstruct it"
ASKER_SAW = "your text and the answer"


def ask_fields(
    request: ChatRequest,
    info: ModelInfo,
    chain: Chain | None,
    session: str,
    facts: dict[str, Any],
) -> dict[str, Any]:
    """The engine's `ask_open` for a request; ``facts`` are its reply to `load`."""
    longest = int(facts.get("context") or MAX_TOKENS)
    fields: dict[str, Any] = {
        "session": session,
        "revision": info.revision,
        "split": None if chain is None else [chain.first, chain.last],
        "messages": [{"role": m.role, "content": m.content} for m in request.messages],
        "temperature": request.temperature,
        "top_p": request.top_p,
        "seed": request.seed,
        "max_tokens": request.max_tokens or longest,
        "stop": list(request.stop),
    }
    return fields


class Answer:
    """``opened`` are the fields of the engine's reply to `ask_open`; ``ring`` is open, or None
    when the whole model is here; ``began`` is when the question came (trio's clock)."""

    def __init__(
        self,
        engine: EngineLife,
        session: str,
        opened: dict[str, Any],
        info: ModelInfo,
        me: Member,
        ring: Ring | None,
        began: float,
    ) -> None:
        self._engine = engine
        self._session = session
        self._prompt_tokens: int = opened["prompt_tokens"]
        self._chunks = len(opened["chunks"])
        self._info = info
        self._me = me
        self._ring = ring
        self._began = began
        self._first_at = 0.0
        self._last_at = 0.0
        self._milliseconds = 0.0
        self._tokens: list[int] = []

    async def deltas(self) -> AsyncGenerator[ChatDelta, None]:
        """Text as it comes; the last delta has a ``finish_reason`` and the totals."""
        fields = await self._first()
        while True:
            self._last_at = trio.current_time()
            self._first_at = self._first_at or self._last_at
            if fields["token"] is not None:
                self._tokens.append(fields["token"])
            if fields["finish_reason"] is not None:
                break
            if fields["text"]:
                yield ChatDelta(fields["text"])
            fields = await self._next()
        stages = await self._ring.close() if self._ring is not None else []
        yield ChatDelta(
            fields["text"],
            fields["finish_reason"],
            prompt_tokens=self._prompt_tokens,
            completion_tokens=len(self._tokens),
            route=self._route(stages),
        )

    async def _first(self) -> dict[str, Any]:
        if self._ring is not None:
            return await self._ring.prefill(self._chunks)
        for chunk in range(self._chunks):
            await self._call("ask_prefill", {"chunk": chunk})
        return await self._call("ask_step", {})

    async def _next(self) -> dict[str, Any]:
        if self._ring is not None:
            return await self._ring.turn()
        return await self._call("ask_step", {})

    async def _call(self, op: str, fields: dict[str, Any]) -> dict[str, Any]:
        reply = await self._engine.call(op, {"session": self._session, **fields})
        self._milliseconds += reply.fields["milliseconds"]
        return reply.fields

    # -- what it came to

    def _route(self, stages: list[StageTotals]) -> schema.Route:
        decoding = self._last_at - self._first_at
        return schema.Route(
            route="local" if self._ring is None else "exposed",
            revision=self._info.revision,
            stages=self._legs(stages),
            token_ids=self._tokens,
            prompt_tokens=self._prompt_tokens,
            tokens_per_second=(len(self._tokens) - 1) / decoding if decoding > 0 else 0.0,
            ttft_seconds=self._first_at - self._began,
        )

    def _legs(self, stages: list[StageTotals]) -> list[schema.Stage]:
        layers = self._info.layers
        ring = self._ring
        if ring is None:
            return [self._own(0, layers, "local", 0, self._milliseconds)]
        first, last = ring.chain.first, ring.chain.last
        lane = ring.onward
        assert lane is not None
        # One engine call does a token's last layers and the next one's first: shared by layers.
        per_layer = ring.milliseconds / (first + layers - last)
        return [
            self._own(0, first, lane.kind, lane.bytes_sent, per_layer * first),
            *(
                schema.Stage(
                    number=stage.member.tag,
                    name=stage.member.name,
                    agent=stage.member.agent_hex,
                    first=stage.first,
                    last=stage.last,
                    lane=stage.lane,
                    bytes_sent=stage.bytes_sent,
                    milliseconds=stage.milliseconds,
                    saw=PEER_SAW,
                )
                for stage in stages
            ),
            self._own(last, layers, "local", 0, per_layer * (layers - last)),
        ]

    def _own(
        self, first: int, last: int, lane: str, bytes_sent: int, milliseconds: float
    ) -> schema.Stage:
        return schema.Stage(
            number=self._me.tag,
            name=self._me.name,
            agent=self._me.agent_hex,
            first=first,
            last=last,
            lane=lane,
            bytes_sent=bytes_sent,
            milliseconds=milliseconds,
            saw=ASKER_SAW,
        )
