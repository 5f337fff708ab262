"""Talk to the engine's operations without a process: a request in, an answer out."""

from __future__ import annotations

from typing import Any

from permesh.inference.catalogue import ModelInfo
from permesh.inference.engine.operations import Operations


class Desk:
    """Operations, and the bytes that the last answer carried."""

    def __init__(self) -> None:
        self.operations = Operations()

    def ask(self, op: str, payload: bytes = b"", **fields: Any) -> dict[str, Any]:
        answer, buffers = self.operations.do({"op": op, **fields}, memoryview(payload))
        if buffers:
            answer["payload"] = b"".join(bytes(buffer) for buffer in buffers)
        self.operations.prepare()  # as the process does
        return answer

    def load(self, info: ModelInfo, first: int, last: int, *, ends: bool) -> str:
        fields = {"model_dir": str(info.path), "first": first, "last": last, "ends": ends}
        return str(self.ask("load", **fields)["revision"])


def session(number: int) -> str:
    return f"{number:032x}"


class Ring:
    """An asker with ``[0, 2)`` and ``[5, 6)``, and two stages for what lies between."""

    SPANS = ((2, 3), (3, 5))

    def __init__(self, info: ModelInfo) -> None:
        self.asker, self.stages = Desk(), [Desk() for _ in self.SPANS]
        self.asker.load(info, 0, 2, ends=True)
        self.revision = self.asker.load(info, 5, 6, ends=True)
        for stage, (first, last) in zip(self.stages, self.SPANS, strict=True):
            stage.load(info, first, last, ends=False)

    def answer(self, number: int = 1, **asked: Any) -> list[dict[str, Any]]:
        """Every step of an answer that chose a token."""
        name = session(number)
        opened = self.asker.ask(
            "ask_open", session=name, revision=self.revision, split=[2, 5], **asked
        )
        for stage, (first, last) in zip(self.stages, self.SPANS, strict=True):
            span = {"first": first, "last": last, "max_tokens": 512}
            stage.ask("open", session=name, revision=self.revision, **span)
        for chunk in range(len(opened["chunks"])):
            step = self.turn(name, self.asker.ask("ask_prefill", session=name, chunk=chunk))
        steps = [step]
        while steps[-1]["finish_reason"] is None:
            steps.append(self.turn(name, steps[-1]))
        for desk in (self.asker, *self.stages):
            desk.ask("close", session=name)
        return steps

    def turn(self, name: str, moved: dict[str, Any]) -> dict[str, Any]:
        start, tensors, payload = moved["start"], moved["tensors"], moved["payload"]
        for stage in self.stages:
            done = stage.ask("forward", payload, session=name, start=start, tensors=tensors)
            tensors, payload = done["tensors"], done["payload"]
        return self.asker.ask("ask_step", payload, session=name, start=start, tensors=tensors)


def token_ids(steps: list[dict[str, Any]]) -> list[int]:
    return [step["token"] for step in steps]


def text(steps: list[dict[str, Any]]) -> str:
    return "".join(step["text"] for step in steps)
