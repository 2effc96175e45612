"""The errors of servers that speak OpenAI's API as outcome kinds. Pure, but for the SDK's exceptions."""

import contextlib
import json
import re
from dataclasses import replace

import openai

from actors.breaker.outcomes import Outcome
from deployments.errors import AttemptFailed, failed
from deployments.openai_api.json_types import JsonObject, JsonValue
from deployments.providers.base import retry_after_of
from deployments.providers.http.transport import classify_transport_error
from deployments.providers.openai.errors.servers import RULES
from deployments.providers.vendor_errors.bodies import read_error
from deployments.providers.vendor_errors.rules import read_by


def in_band(error: JsonObject) -> AttemptFailed:
    """Return the failure for an error object under status 200, by the tables of an error of HTTP."""
    code = error.get("code")
    told = read_error({"error": error}, 500)
    word = _code_of(code, told.type)
    status = _status_in(code) or _STATUS_OF.get(told.type or "") or _STATUS_OF.get(word or "")
    told = replace(told, status=status or 500, code=_code_of(told.code, told.type))
    read = read_by(RULES, told)
    message = told.message or "the stream contains an error without a message"
    return failed(read.kind, message, status=status, code=word, param=read.param, retry_after=told.retry_after)


def _status_in(code: JsonValue) -> int | None:
    """Return the status that a server repeats as its code. Zhipu's codes are numbers too, and no status."""
    return int(str(code)) if re.fullmatch(r"[1-5]\d\d", str(code)) else None


# The types and codes of errors inside a stream, where no status says it: OpenAI's, Anthropic's and vLLM's.
_STATUS_OF = {
    **dict.fromkeys(("invalid_request_error", "BadRequestError", "BAD_REQUEST", "unsupported_value"), 400),
    **dict.fromkeys(("unsupported_parameter", "invalid_type", "context_length_exceeded", "content_filter"), 400),
    **dict.fromkeys(("authentication_error", "invalid_api_key"), 401),
    **dict.fromkeys(("billing_error", "insufficient_quota"), 402),
    "permission_error": 403,
    **dict.fromkeys(("not_found_error", "NotFoundError"), 404),
    "request_too_large": 413,
    **dict.fromkeys(("rate_limit_exceeded", "rate_limit_error", "tokens", "requests"), 429),
    "overloaded_error": 529,
}


def classify(error: Exception, asked: JsonValue = None) -> AttemptFailed:
    """Return the failure for an SDK's exception: by its type, its status and code, and what its vendor's table says.

    `asked` is the request's body: an error may quote it.
    """
    if isinstance(error, AttemptFailed):
        return error
    if isinstance(error, openai.APIStatusError):
        return _http_error(error, asked)
    cause = error.__cause__ if isinstance(error, openai.APIConnectionError) else error
    if (found := classify_transport_error(cause)) is not None:
        return found
    return failed("unclassified", f"{type(error).__name__}: {error}")


def _http_error(error: openai.APIStatusError, asked: JsonValue) -> AttemptFailed:
    return refused(_body_of(error), error.status_code, retry_after_of(error.response.headers), asked)


def refused(body: JsonValue, status: int, after: float | None, asked: JsonValue = None) -> AttemptFailed:
    """Return the failure of an answer with an error's status. `after` is the delay in seconds that its head names."""
    told = read_error(body, status)
    told = replace(told, code=_code_of(told.code, told.type), retry_after=told.retry_after if after is None else after)
    read = read_by(RULES, told, asked)
    return AttemptFailed(
        Outcome(
            read.kind,
            status=status,
            message=told.message or f"HTTP {status}",
            code=told.code,
            type=told.type,
            param=read.param,
            retry_after=told.retry_after,
        )
    )


def _body_of(error: openai.APIStatusError) -> JsonValue:
    """Return the body as it came: the SDK keeps only a part of some shapes."""
    with contextlib.suppress(ValueError, RecursionError):
        return json.loads(error.response.content)
    return error.body if isinstance(error.body, dict) else error.response.text


def _code_of(code: JsonValue, kind: JsonValue) -> str | None:
    """Return the error's code in OpenAI's words. Some servers only repeat the status as their code."""
    word = code if code and not str(code).isdigit() else kind or code
    return _FOREIGN_CODES.get(str(word), str(word)) if word else None


_FOREIGN_CODES = {"exceed_context_size_error": "context_length_exceeded"}
