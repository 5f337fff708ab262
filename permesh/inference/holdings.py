"""Which layers the engine holds, and for whom.

Owns the loading: what is asked for is loaded once, and again after the engine has restarted. Must
never know peers, sessions or offers.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import trio

from permesh.errors import PermeshError

from .catalogue import ModelInfo
from .supervisor import CALL_SECONDS, Engine, Reply

LOAD_SECONDS = 1800.0  # a large model from a slow disk


@dataclass(frozen=True, slots=True)
class Part:
    """Layers ``first`` … ``last - 1``; ``ends``: with embedding, norm, head and tokenizer."""

    first: int
    last: int
    ends: bool = False


class EngineLife:
    """The engine for as long as it does not restart: what was opened in it is gone after that.

    Without this, a call after a crash would wait for the new process only to hear that it knows
    no such session.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._restarts = engine.state.restarts

    @property
    def over(self) -> bool:
        state = self._engine.state
        return state.state != "ready" or state.restarts != self._restarts

    async def call(
        self,
        op: str,
        fields: dict[str, Any],
        payload: bytes | memoryview = b"",
        *,
        deadline_s: float = CALL_SECONDS,
    ) -> Reply:
        """As `Engine.call`; ``engine.crashed`` at once when the engine's life is over."""
        if self.over:
            raise PermeshError(
                "engine.crashed",
                "The model engine stopped unexpectedly.",
                "It restarts by itself; ask again.",
                http_status=503,
            )
        return await self._engine.call(op, fields, payload, deadline_s=deadline_s)


@dataclass(slots=True)
class _Model:
    parts: set[Part] = field(default_factory=set)
    facts: dict[str, Any] = field(default_factory=dict)  # the engine's last reply to `load`
    users: int = 0
    doomed: bool = False


class Holdings:
    """Loads through one `Engine`, one load at a time."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._models: dict[str, _Model] = {}
        self._life = engine.state.restarts
        self._turn = trio.Lock()

    @property
    def stale(self) -> bool:
        """The engine has restarted since something was loaded: it holds nothing now."""
        return self._engine.state.restarts != self._life and bool(self._models)

    async def ensure(self, info: ModelInfo, *parts: Part) -> dict[str, Any]:
        """Load what of ``parts`` is missing. Gives the engine's facts about the model: hidden
        size, context, spans. Raises ``PermeshError``."""
        async with self._turn:
            if self._engine.state.restarts != self._life:
                self._forget()
            model = self._models.setdefault(info.revision, _Model())
            model.doomed = False
            for part in parts:
                if part in model.parts and model.facts:
                    continue
                reply = await self._engine.call(
                    "load",
                    {
                        "model_dir": str(info.path),
                        "first": part.first,
                        "last": part.last,
                        "ends": part.ends,
                    },
                    deadline_s=LOAD_SECONDS,
                )
                if reply.fields.get("revision") != info.revision:
                    raise PermeshError(
                        "model.changed",
                        f"The files of '{info.name}' are not those of its revision.",
                        f"Fetch it again: permesh model fetch {info.name}",
                    )
                model.parts.add(part)
                model.facts = reply.fields
            return model.facts

    def _forget(self) -> None:
        self._life = self._engine.state.restarts
        for model in self._models.values():
            model.parts.clear()
            model.facts = {}

    @contextlib.asynccontextmanager
    async def used(self, revision: str) -> AsyncIterator[None]:
        """While an answer runs, its model is not unloaded."""
        model = self._models.setdefault(revision, _Model())
        model.users += 1
        try:
            yield
        finally:
            model.users -= 1
            if model.doomed and not model.users:
                with trio.CancelScope(shield=True, deadline=trio.current_time() + 5):
                    await self.drop(revision)

    async def drop(self, revision: str) -> None:
        """Let go of a model, as soon as no answer of this member's own uses it."""
        async with self._turn:
            model = self._models.get(revision)
            if model is None:
                return
            if model.users:
                model.doomed = True
                return
            del self._models[revision]
            if self._engine.state.state == "ready" and self._engine.state.restarts == self._life:
                await self._engine.call("unload", {"revision": revision})
