"""The errors of servers that speak OpenAI's API as outcome kinds. Pure, but for the SDK's exceptions."""

import contextlib
import json
from dataclasses import replace

import openai

from actors.breaker.outcomes import Outcome
from deployments.errors import AttemptFailed, failed
from deployments.openai_api.json_types import JsonObject, JsonValue
from deployments.providers.base import retry_after_of
from deployments.providers.openai.errors.vendors import RULES
from deployments.providers.transport import classify_transport_error
from deployments.providers.vendor_errors import kind_of, read_error


def in_band(error: JsonObject) -> AttemptFailed:
    """Return the failure for an error object under status 200."""
    code = error.get("code")
    status = int(str(code)) if str(code).isdigit() else None
    told = read_error({"error": error}, status or 500)
    word = _code_of(code, told.type)
    kind = kind_of(replace(told, code=word), RULES)
    if word in ("rate_limit_exceeded", "rate_limit_error", "tokens"):
        kind = "throttled"
    message = told.message or "the stream contains an error without a message"
    return failed(kind, message, status=status, code=word, param=told.param, retry_after=told.retry_after)


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
    told = read_error(_body_of(error), error.status_code)
    after = retry_after_of(error.response.headers)
    told = replace(told, code=_code_of(told.code, told.type), retry_after=told.retry_after if after is None else after)
    return AttemptFailed(
        Outcome(
            kind_of(told, RULES, asked),
            status=error.status_code,
            message=told.message or f"HTTP {error.status_code}",
            code=told.code,
            type=told.type,
            param=told.param,
            retry_after=told.retry_after,
        )
    )


def _body_of(error: openai.APIStatusError) -> JsonValue:
    """Return the body as it came: the SDK keeps only a part of some shapes."""
    with contextlib.suppress(ValueError):
        return json.loads(error.response.content)
    return error.body if isinstance(error.body, dict) else None


def _code_of(code: JsonValue, kind: JsonValue) -> str | None:
    """Return the error's code in OpenAI's words. Some servers only repeat the status as their code."""
    word = code if code and not str(code).isdigit() else kind or code
    return _FOREIGN_CODES.get(str(word), str(word)) if word else None


_FOREIGN_CODES = {"exceed_context_size_error": "context_length_exceeded"}
