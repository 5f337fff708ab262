"""The paths that OpenAI's clients use, unchanged: models and chat completions.

Owns how an answer is told, whole or streamed. Must never decide how it is computed.
"""

from __future__ import annotations

import json
import secrets
import time
from typing import Any, Literal

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from permesh import schema
from permesh.errors import NotFound, PermeshError
from permesh.node import ChatDelta, ChatRequest, Node

from .openai_shapes import ChatCompletion, Choice, Completion, Model, ModelList, chat_request
from .problems import (
    ANY,
    MAX_ECHO,
    NAMED,
    OPENAI_PREFIX,
    RATE,
    OpenAIProblemReply,
    failures,
    openai_body,
)
from .streams import EventStream, Writer, sse, while_connected

MAX_MODELS = 1000
PAGE = 500
DONE = b"data: [DONE]\n\n"
_STREAMED = {EventStream.media_type: {"schema": {"type": "string"}}}


def openai_routes(node: Node) -> APIRouter:
    router = APIRouter(prefix=OPENAI_PREFIX, responses=failures(*ANY, shape=OpenAIProblemReply))
    named = failures(*NAMED, shape=OpenAIProblemReply)
    answered = {
        200: {"description": "Whole, or streamed", "content": _STREAMED},
        **failures(*NAMED, *RATE, 502, 504, shape=OpenAIProblemReply),
    }

    @router.get("/models")
    async def models() -> ModelList:
        return ModelList(data=await _reachable(node))

    @router.get("/models/{model:path}", responses=named)
    async def model(model: str) -> Model:
        for known in await _reachable(node):
            if known.id == model:
                return known
        raise NotFound(
            "model.unknown",
            f"The model '{model[:MAX_ECHO]}' is not here and not served in this mesh.",
            "List what is there with: permesh model list",
        )

    @router.post("/chat/completions", response_model=Completion, responses=answered)
    async def chat_completions(body: ChatCompletion, request: Request) -> Response:
        asked = chat_request(body)
        if body.stream:
            with_usage = body.stream_options is not None and body.stream_options.include_usage
            return _streamed(node, asked, with_usage)
        answer = await while_connected(request.receive, lambda: _whole(node, asked))
        if answer is None:
            return Response(status_code=499)  # nobody is left to read it
        return JSONResponse(answer.model_dump(mode="json"))

    return router


async def _reachable(node: Node) -> list[Model]:
    found: list[Model] = []
    cursor: str | None = None
    while len(found) < MAX_MODELS:
        page = await node.models(cursor, PAGE)
        found += [
            Model(id=item.name, created=0, owned_by="permesh")
            for item in page.items
            if item.reachable
        ]
        cursor = page.next_cursor
        if cursor is None:
            break
    return found


async def _whole(node: Node, asked: ChatRequest) -> Completion:
    text: list[str] = []
    async with node.chat(asked) as deltas:
        async for delta in deltas:
            text.append(delta.text)
            if delta.finish_reason is not None:
                message: dict[str, str | None] = {"role": "assistant", "content": "".join(text)}
                return Completion(
                    id=_new_id(),
                    created=int(time.time()),
                    model=asked.model,
                    choices=[Choice(message=message, finish_reason=delta.finish_reason)],
                    usage=_usage(delta),
                    permesh=delta.route,
                )
    raise _broken_off()


def _streamed(node: Node, asked: ChatRequest, with_usage: bool) -> EventStream:
    async def produce(writer: Writer) -> None:
        chunks = _Chunks(asked.model, with_usage)
        async with node.chat(asked) as deltas:
            async for delta in deltas:
                for chunk in chunks.of(delta):
                    await writer.write(sse(json.dumps(chunk, ensure_ascii=False)))
                if delta.finish_reason is not None:
                    await writer.write(DONE)
                    return
        raise _broken_off()

    return EventStream(produce, lambda error: sse(json.dumps(openai_body(error))))


class _Chunks:
    """Turns the node's deltas into OpenAI's chunks."""

    def __init__(self, model: str, with_usage: bool) -> None:
        self._base = {
            "id": _new_id(),
            "object": "chat.completion.chunk",
            "created": int(time.time()),
            "model": model,
        }
        self._with_usage = with_usage
        self._begun = False

    def of(self, delta: ChatDelta) -> list[dict[str, Any]]:
        chunks = []
        if not self._begun:
            self._begun = True
            chunks.append(self._chunk({"role": "assistant", "content": ""}))
        if delta.text:
            chunks.append(self._chunk({"content": delta.text}))
        if delta.finish_reason is not None:
            last = self._chunk({}, delta.finish_reason)
            last["permesh"] = delta.route.model_dump(mode="json") if delta.route else None
            chunks.append(last)
            if self._with_usage:
                usage = _usage(delta).model_dump()
                chunks.append({**self._base, "choices": [], "usage": usage})
        return chunks

    def _chunk(
        self, delta: dict[str, str], finish_reason: Literal["stop", "length"] | None = None
    ) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        chunk: dict[str, Any] = {**self._base, "choices": [choice]}
        if self._with_usage:
            chunk["usage"] = None
        return chunk


def _usage(delta: ChatDelta) -> schema.Usage:
    return schema.Usage(
        prompt_tokens=delta.prompt_tokens,
        completion_tokens=delta.completion_tokens,
        total_tokens=delta.prompt_tokens + delta.completion_tokens,
    )


def _new_id() -> str:
    return f"chatcmpl-{secrets.token_hex(12)}"


def _broken_off() -> PermeshError:
    return PermeshError(
        "answer.broken_off", "The answer ended before it was complete.", "Ask again.",
        http_status=502,
    )  # fmt: skip
