"""The engine's operations, one method each, on what is loaded and open.

Owns models and sessions, and that nothing a request says can end the process: whatever is wrong
with it is refused. Must never read or write a socket.
"""

from __future__ import annotations

import gc
import os
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx

from permesh.errors import NotFound, PermeshError, Refused
from permesh.inference import catalogue
from permesh.inference.engine import tensors
from permesh.inference.engine.asker import LocalAsk, Sampling, SplitAsk, Step, encode
from permesh.inference.engine.loader import LoadedModel, check_span, on_cpu
from permesh.inference.engine.protocol import MAX_SESSION_TOKENS, MAX_SESSIONS
from permesh.inference.engine.selftest import self_test
from permesh.inference.engine.stage import Leg

# A session that nobody has touched for this long may be dropped when another is to be opened.
IDLE_SECONDS = 600.0

Fields = dict[str, Any]
Answer = tuple[Fields, list[memoryview]]


class Session:
    """Something open, by its id."""

    def __init__(self, revision: str, work: Leg | SplitAsk | LocalAsk) -> None:
        self.revision = revision
        self.work = work
        self.touched = time.monotonic()


class Operations:
    """The engine's state and the operations of `protocol`, one method each."""

    def __init__(self, blas: str = "reference") -> None:
        self.backend = backend(blas)
        self.models: dict[str, LoadedModel] = {}
        self.sessions: dict[str, Session] = {}
        self._tested: set[tuple[str, int, int]] = set()
        self._stepped: str | None = None  # the session whose next step may be built ahead
        self._table: dict[str, Callable[[Fields, memoryview], Answer]] = {
            "load": self._load,
            "unload": self._unload,
            "self_test": self._self_test,
            "open": self._open,
            "forward": self._forward,
            "close": self._close,
            "ask_open": self._ask_open,
            "ask_prefill": self._ask_prefill,
            "ask_step": self._ask_step,
            "ask_close": self._close,
            "stats": self._stats,
        }

    def do(self, fields: Fields, payload: memoryview) -> Answer:
        """Carry out one request; raises ``PermeshError`` alone."""
        operation = self._table.get(str(fields.get("op")))
        if operation is None:
            raise Refused(
                "engine.unknown_op", f"The engine knows no operation {fields.get('op')!r}."
            )
        name = str(fields.get("session"))
        try:
            return operation(fields, payload)
        except PermeshError:
            raise
        except (KeyError, TypeError) as error:
            traceback.print_exc()
            raise Refused("engine.bad_request", f"A field is missing or wrong: {error}") from error
        except MemoryError as error:
            raise PermeshError("engine.out_of_memory", "This machine's memory is full.") from error
        except Exception as error:
            self.sessions.pop(name, None)  # who knows what it has computed
            traceback.print_exc()
            raise PermeshError(
                "engine.operation_failed", f"'{fields['op']}' failed: {error}", http_status=500
            ) from error
        finally:
            session = self.sessions.get(name)
            if session is not None and session.work.broken:
                del self.sessions[name]

    def prepare(self) -> None:
        """Build the next step of the session that was answered last; call it when every
        answer is on its way, while other members compute. Never raises."""
        name, self._stepped = self._stepped, None
        session = self.sessions.get(name) if name is not None else None
        if name is None or session is None or isinstance(session.work, LocalAsk):
            return
        try:
            session.work.prepare()
        except Exception:  # what a model's own code raises; the next step says `session.unknown`
            traceback.print_exc()
            del self.sessions[name]

    def _load(self, fields: Fields, _: memoryview) -> Answer:
        folder = Path(fields["model_dir"])
        loaded = self._find_folder(folder) or LoadedModel.open(folder)
        ends = bool(fields["ends"])
        loaded.hold(fields["first"], fields["last"], ends)
        if ends:
            loaded.read_tokenizer()
        self.models[loaded.revision] = loaded
        return {
            "revision": loaded.revision,
            "layers": loaded.layers,
            "hidden_size": loaded.hidden_size,
            "dtype": loaded.dtype,
            "context": loaded.context,
            "spans": loaded.spans(),
            "ends": loaded.ends,
            "weight_bytes": loaded.weight_bytes,
            "needed_bytes": loaded.needed_bytes(),
            **self._total(),
        }, []

    def _find_folder(self, folder: Path) -> LoadedModel | None:
        return next((model for model in self.models.values() if model.folder == folder), None)

    def _unload(self, fields: Fields, _: memoryview) -> Answer:
        revision = fields["revision"]
        for name in [name for name, one in self.sessions.items() if one.revision == revision]:
            del self.sessions[name]
        self.models.pop(revision, None)
        gc.collect()  # a model's modules refer to each other
        mx.clear_cache()
        return self._total(), []

    def _total(self) -> Fields:
        return {"weight_total": sum(model.weight_bytes for model in self.models.values())}

    def _self_test(self, fields: Fields, _: memoryview) -> Answer:
        folder, first, last = Path(fields["model_dir"]), fields["first"], fields["last"]
        tested = (catalogue.read_card(folder).revision, first, last)
        if tested not in self._tested:
            self_test(folder, first, last)
            self._tested.add(tested)
        return {}, []

    def _open(self, fields: Fields, _: memoryview) -> Answer:
        loaded = self._model(fields)
        check_span(fields["first"], fields["last"], loaded.layers)
        limit = fields["max_tokens"]
        if not isinstance(limit, int) or not 0 < limit <= min(loaded.context, MAX_SESSION_TOKENS):
            raise Refused(
                "session.too_long",
                f"The model takes up to {loaded.context} positions.",
                "Ask for fewer tokens.",
            )
        stage = loaded.stage(fields["first"], fields["last"])
        if stage.entry is None or stage.exit is None:
            raise Refused("layers.out_of_range", "The first and last layers stay with the asker.")
        self._add(fields, loaded, lambda: Leg(stage, limit))
        return {}, []

    def _forward(self, fields: Fields, payload: memoryview) -> Answer:
        began = time.perf_counter()
        leg = self._session(fields).work
        if not isinstance(leg, Leg):
            raise Refused("session.wrong_kind", "This session asks, it does not serve.")
        assert leg.stage.entry is not None  # _open saw to both
        assert leg.stage.exit is not None
        value, positions = tensors.unpack(
            fields["tensors"], payload, leg.stage.entry, compute_dtype()
        )
        leg.seek(fields["start"], positions)
        out = leg.run(positions, value=value)
        if positions > 1:
            leg.settle(leg.stage.exit.parts(out))
        described, buffers = tensors.pack(out, leg.stage.exit)
        self._stepped = fields["session"]
        return {"tensors": described, "milliseconds": _since(began)}, buffers

    def _close(self, fields: Fields, _: memoryview) -> Answer:
        self.sessions.pop(fields["session"], None)
        return {}, []

    def _ask_open(self, fields: Fields, _: memoryview) -> Answer:
        loaded = self._model(fields)
        if not loaded.ends:
            raise PermeshError(
                "layers.not_held", "The model's embedding and head are not loaded.", http_status=409
            )
        sampling = Sampling.from_fields(fields)
        ids = encode(loaded.read_tokenizer(), fields.get("messages"), fields.get("prompt"))
        split = fields.get("split")
        ask: SplitAsk | LocalAsk
        if split is None:
            loaded.check_whole()
            ask = LocalAsk(loaded, ids, sampling)
        else:
            first, last = split
            check_span(first, last, loaded.layers)
            if first == 0 or last == loaded.layers:
                raise Refused("layers.out_of_range", "The asker runs the first and last layers.")
            ask = SplitAsk(loaded, (first, last), ids, sampling)
        self._add(fields, loaded, lambda: ask)
        return {
            "prompt_tokens": len(ids),
            "max_tokens": ask.max_tokens,
            "chunks": [list(chunk) for chunk in ask.chunks],
        }, []

    def _ask_prefill(self, fields: Fields, _: memoryview) -> Answer:
        began = time.perf_counter()
        ask = self._session(fields).work
        if isinstance(ask, Leg):
            raise Refused("session.wrong_kind", "This session serves, it does not ask.")
        return self._describe(ask, ask.prefill(fields["chunk"]), began, words=False)

    def _ask_step(self, fields: Fields, payload: memoryview) -> Answer:
        began = time.perf_counter()
        ask = self._session(fields).work
        if isinstance(ask, Leg):
            raise Refused("session.wrong_kind", "This session serves, it does not ask.")
        if isinstance(ask, LocalAsk):
            return self._describe(ask, ask.step(), began, words=True)
        value, positions = tensors.unpack(
            fields["tensors"], payload, ask.tail_entry, compute_dtype()
        )
        step = ask.step(fields["start"], value, positions)
        self._stepped = fields["session"]
        return self._describe(ask, step, began, words=True)

    def _describe(
        self, ask: SplitAsk | LocalAsk, step: Step, began: float, *, words: bool
    ) -> Answer:
        answer: Fields = {"start": step.start}
        buffers: list[memoryview] = []
        if words:
            answer |= {
                "token": step.token,
                "text": step.text,
                "finish_reason": step.finish_reason,
                "logprob": step.logprob,
            }
        if step.value is not None and isinstance(ask, SplitAsk):
            answer["tensors"], buffers = tensors.pack(step.value, ask.head_exit)
        answer["milliseconds"] = _since(began)
        return answer, buffers

    def _stats(self, _fields: Fields, _: memoryview) -> Answer:
        return {
            "backend": self.backend,
            "pid": os.getpid(),
            "weight_bytes": self._total()["weight_total"],
            "active_bytes": mx.get_active_memory(),
            "peak_bytes": mx.get_peak_memory(),
            "sessions": len(self.sessions),
            "models": sorted(self.models),
        }, []

    def _model(self, fields: Fields) -> LoadedModel:
        loaded = self.models.get(fields["revision"])
        if loaded is None:
            raise NotFound("model.not_loaded", "That revision of a model is not loaded here.")
        return loaded

    def _session(self, fields: Fields) -> Session:
        session = self.sessions.get(fields["session"])
        if session is None:
            raise NotFound("session.unknown", "There is no such session here.", "Ask again.")
        session.touched = time.monotonic()
        return session

    def _add(
        self, fields: Fields, loaded: LoadedModel, make: Callable[[], Leg | SplitAsk | LocalAsk]
    ) -> None:
        name = fields["session"]
        if not isinstance(name, str) or len(name) != 32 or not set(name) <= set("0123456789abcdef"):
            raise Refused("session.invalid", "A session's id is 32 hexadecimal digits.")
        if name in self.sessions:
            raise Refused("session.exists", "That session is open already.")
        if len(self.sessions) >= MAX_SESSIONS:
            now = time.monotonic()
            for old, session in list(self.sessions.items()):
                if now - session.touched > IDLE_SECONDS:
                    del self.sessions[old]
        if len(self.sessions) >= MAX_SESSIONS:
            raise PermeshError(
                "engine.too_many_sessions",
                f"{MAX_SESSIONS} sessions are open here.",
                "Try again in a moment.",
                http_status=503,
            )
        self.sessions[name] = Session(loaded.revision, make())


def compute_dtype() -> mx.Dtype | None:
    """What values are computed in; None: as the model has them."""
    return mx.float32 if on_cpu() else None


def backend(blas: str) -> str:
    """What computes: "cpu (mkl)", "metal", "cuda"."""
    if on_cpu():
        return f"cpu ({blas})"
    return "metal" if mx.metal.is_available() else "cuda"


def _since(began: float) -> float:
    return round((time.perf_counter() - began) * 1000, 3)
