"""OpenAI's shapes for chat, as far as permesh answers them.

Owns what a request may hold, the refusal of what would change the answer and is not supported,
and the objects of a reply. Must never run a model. Source: OpenAI's API reference, "Chat".
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from permesh import schema
from permesh.node import ChatMessage, ChatRequest

from .problems import MAX_ECHO, OpenAIError

MAX_MESSAGES = 2048
MAX_STOPS = 4  # OpenAI's own limit
MAX_STOP_CHARACTERS = 256
INT64 = 2**63

# Fields that change nothing in the answer, so that ignoring them is honest.
_IGNORED = {
    "metadata", "parallel_tool_calls", "prompt_cache_key", "prompt_cache_retention",
    "safety_identifier", "service_tier", "store", "user",
}  # fmt: skip
# Fields that ask for nothing at these values, which clients like to spell out.
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "n": (1,),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "tools": ([],),
    "functions": ([],),
    "tool_choice": ("none", "auto"),
    "function_call": ("none", "auto"),
    "logit_bias": ({},),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "modalities": (["text"],),
    "response_format": ({"type": "text"},),
}

Stop = Annotated[str, Field(min_length=1, max_length=MAX_STOP_CHARACTERS)]


class TextPart(BaseModel):
    model_config = ConfigDict(extra="allow")

    type: str
    text: str = ""


class Message(BaseModel):
    model_config = ConfigDict(extra="allow")

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[TextPart]


class StreamOptions(BaseModel):
    model_config = ConfigDict(extra="allow")

    include_usage: bool = False


class ChatCompletion(BaseModel):
    """A request. Null means absent, as OpenAI's clients take it."""

    model_config = ConfigDict(extra="allow", strict=True)

    model: str = Field(min_length=1, max_length=256)
    messages: list[Message] = Field(min_length=1, max_length=MAX_MESSAGES)
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: int | None = Field(None, ge=1, lt=INT64)
    max_completion_tokens: int | None = Field(None, ge=1, lt=INT64)
    temperature: float | None = Field(
        None, ge=0, le=2, allow_inf_nan=False, description="0, the default, is greedy"
    )
    top_p: float | None = Field(None, gt=0, le=1, allow_inf_nan=False)
    seed: int | None = Field(None, ge=-INT64, lt=INT64)
    stop: Stop | Annotated[list[Stop], Field(max_length=MAX_STOPS)] | None = None
    permesh_route: Literal["auto", "local", "mesh"] | None = Field(
        None, description="permesh's addition: who may compute the answer"
    )


def chat_request(body: ChatCompletion) -> ChatRequest:
    """What the node is asked; raises ``OpenAIError`` for what permesh cannot do."""
    _refuse_unsupported(body)
    return ChatRequest(
        model=body.model,
        messages=tuple(_message(index, message) for index, message in enumerate(body.messages)),
        max_tokens=body.max_completion_tokens or body.max_tokens or 0,
        temperature=body.temperature or 0.0,
        top_p=1.0 if body.top_p is None else body.top_p,
        seed=body.seed,
        stop=(body.stop,) if isinstance(body.stop, str) else tuple(body.stop or ()),
        route=body.permesh_route or "auto",
    )


def _refuse_unsupported(body: ChatCompletion) -> None:
    for name, value in (body.model_extra or {}).items():
        if value is None or name in _IGNORED or value in _NEUTRAL.get(name, ()):
            continue
        raise _unsupported(name, f"'{name[:MAX_ECHO]}' is not supported.")


def _message(index: int, message: Message) -> ChatMessage:
    for name in ("tool_calls", "function_call", "audio"):
        if (message.model_extra or {}).get(name):
            raise _unsupported(f"messages.{index}.{name}", f"'{name}' is not supported.")
    role = "system" if message.role == "developer" else message.role
    if isinstance(message.content, str):
        return ChatMessage(role, message.content)
    for part in message.content:
        if part.type != "text":
            kind = part.type[:MAX_ECHO]
            raise _unsupported(
                f"messages.{index}.content", f"Content of the type '{kind}' is not supported."
            )
    return ChatMessage(role, "\n".join(part.text for part in message.content))


def _unsupported(param: str, message: str) -> OpenAIError:
    return OpenAIError(
        "unsupported_parameter", message, "Leave it out of the request.", param=param[:MAX_ECHO]
    )


class Choice(BaseModel):
    index: int = 0
    message: dict[str, str | None]
    logprobs: None = None
    finish_reason: str


class Completion(BaseModel):
    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[Choice]
    usage: schema.Usage
    permesh: schema.Route | None


class Model(BaseModel):
    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str


class ModelList(BaseModel):
    object: Literal["list"] = "list"
    data: list[Model]
