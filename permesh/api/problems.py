"""Errors on the wire, in permesh's shape and in OpenAI's.

Owns how a ``PermeshError``, a request that does not validate, and a failure of our own look to a
client. Must never know what caused them.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi.responses import JSONResponse
from pydantic import BaseModel

from permesh import schema
from permesh.errors import PermeshError

log = logging.getLogger(__name__)

OPENAI_PREFIX = "/v1"
_REF = "#/components/schemas/{model}"
MAX_ECHO = 200  # characters of a client's own input that an error repeats

# Codes that OpenAI's clients know, for ours.
_OPENAI_CODES = {"model.unknown": "model_not_found"}
_OPENAI_PARAMS = {"model.unknown": "model"}


# How any request may fail: it makes no sense (400), came from a web page or from one that is no
# member (403), came too slowly (408) or is too large (413); the daemon met a fault of its own
# (500), is busy or stopping (503), or its disk is full (507).
ANY = (400, 403, 408, 413, 500, 503, 507)
NAMED = (404, 409)  # what is named is not here, or fits several, or does not go with what is
RATE = (429,)
_MEANING = {
    400: "The request makes no sense, or breaks a rule.",
    403: "Not for web pages, or not for who is no member.",
    404: "What is named is not here.",
    408: "The body came too slowly.",
    409: "It does not go with what is here.",
    413: "Too large.",
    429: "Too much for now.",
    500: "A fault of the daemon's own.",
    502: "A member went away.",
    503: "The daemon, or who could answer, is not ready.",
    504: "Who could answer did not in time.",
    507: "The disk is full.",
}


class ProblemReply(BaseModel):
    """Every error that is not OpenAI's."""

    error: schema.Problem


class OpenAIProblem(BaseModel):
    message: str
    type: str
    param: str | None
    code: str
    remedy: str


class OpenAIProblemReply(BaseModel):
    """An error in OpenAI's shape; ``remedy`` is permesh's addition."""

    error: OpenAIProblem


def failures(
    *statuses: int, shape: type[BaseModel] = ProblemReply
) -> dict[int | str, dict[str, Any]]:
    """These statuses, as a route documents them: JSON, whatever the route itself gives."""
    content = {"application/json": {"schema": {"$ref": _REF.format(model=shape.__name__)}}}
    return {status: {"description": _MEANING[status], "content": content} for status in statuses}


def problem_schemas() -> dict[str, Any]:
    """What `failures` refers to, for OpenAPI's components."""
    found: dict[str, Any] = {}
    for shape in (ProblemReply, OpenAIProblemReply):
        made = shape.model_json_schema(ref_template=_REF)
        found |= made.pop("$defs")
        found[shape.__name__] = made
    return found


class OpenAIError(PermeshError):
    """An error that names the parameter at fault, as OpenAI's do."""

    def __init__(
        self,
        code: str,
        message: str,
        remedy: str = "",
        *,
        param: str | None,
        http_status: int = 400,
    ) -> None:
        super().__init__(code, message, remedy, http_status=http_status)
        self.param = param


def problem_body(error: PermeshError) -> dict[str, Any]:
    return {"error": {"code": error.code, "message": error.message, "remedy": error.remedy}}


def openai_body(error: PermeshError) -> dict[str, Any]:
    """OpenAI's four fields, and the remedy as an addition."""
    param = error.param if isinstance(error, OpenAIError) else _OPENAI_PARAMS.get(error.code)
    return {
        "error": {
            "message": str(error),
            "type": "server_error" if error.http_status >= 500 else "invalid_request_error",
            "param": param,
            "code": _OPENAI_CODES.get(error.code, error.code),
            "remedy": error.remedy,
        }
    }


def problem_response(
    path: str, error: PermeshError, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    under_openai = path == OPENAI_PREFIX or path.startswith(OPENAI_PREFIX + "/")
    body = openai_body(error) if under_openai else problem_body(error)
    return JSONResponse(body, status_code=error.http_status, headers=headers)


def invalid_request(errors: Sequence[Any]) -> OpenAIError:
    """What pydantic found wrong, as one sentence about the first of it."""
    first = errors[0] if errors else {"loc": (), "msg": "the request is not valid", "type": ""}
    where = [str(part) for part in first["loc"] if part not in ("body", "query", "path")]
    field = ".".join(where)[:MAX_ECHO]
    if first["type"] in ("json_invalid", "model_attributes_type", "dict_type", "missing") and (
        not where or first["type"] == "json_invalid"
    ):
        return OpenAIError(
            "request.invalid",
            "The body is not the JSON object that this path takes.",
            "Send JSON with the header Content-Type: application/json.",
            param=None,
        )
    about = f"'{field}': " if field else ""
    return OpenAIError(
        "request.invalid",
        f"The request is not valid: {about}{first['msg']}.",
        "The schema is at /openapi.json.",
        param=field or None,
    )


def explain(error: Exception) -> PermeshError:
    """The ``PermeshError`` that this is, or holds as a group of trio's; else an internal one,
    which is logged."""
    if isinstance(error, PermeshError):
        return error
    if isinstance(error, ExceptionGroup):
        ours, others = error.split(PermeshError)
        first: Exception | None = ours
        while isinstance(first, ExceptionGroup):
            first = first.exceptions[0]
        if isinstance(first, PermeshError) and others is None:
            return first
    log.error("a request on the socket failed", exc_info=error)
    return internal(error)


def internal(error: Exception) -> PermeshError:
    return PermeshError(
        "internal",
        f"The daemon met an unexpected error ({type(error).__name__}).",
        "The end of daemon.log in the home says more.",
        http_status=500,
    )
