"""The errors of servers that speak OpenAI's API as outcome kinds. Pure, but for the SDK's exceptions."""

import openai

from actors.breaker.outcomes import Outcome
from deployments.errors import AttemptFailed, failed
from deployments.openai_api.json_types import JsonObject, JsonValue
from deployments.providers.base import kind_of_status, retry_after_of
from deployments.providers.transport import classify_transport_error


def in_band(error: JsonObject) -> AttemptFailed:
    """Return the failure for an error object under status 200."""
    code = error.get("code")
    status = code if isinstance(code, int) else None
    text = _code_of(code, error.get("type"))
    kind = kind_of_status(status or 500, text, None)
    if text in ("rate_limit_exceeded", "rate_limit_error", "tokens"):
        kind = "throttled"
    message, param = str(error.get("message") or "the stream contains an error without a message"), error.get("param")
    return failed(kind, message, status=status, code=text, param=param if isinstance(param, str) else None)


def classify(error: Exception) -> AttemptFailed:
    """Return the failure for an SDK's exception, by its type, status and code; never by its text."""
    if isinstance(error, AttemptFailed):
        return error
    if isinstance(error, openai.APIStatusError):
        return _http_error(error)
    cause = error.__cause__ if isinstance(error, openai.APIConnectionError) else error
    if (found := classify_transport_error(cause)) is not None:
        return found
    return failed("unclassified", f"{type(error).__name__}: {error}")


def _http_error(error: openai.APIStatusError) -> AttemptFailed:
    body: JsonObject = error.body if isinstance(error.body, dict) else {}
    code = _code_of(error.code, body.get("type"))
    retry_after = retry_after_of(error.response.headers)
    return AttemptFailed(
        Outcome(
            kind_of_status(error.status_code, code, retry_after),
            status=error.status_code,
            message=str(body.get("message") or f"HTTP {error.status_code}"),
            code=code,
            type=body["type"] if isinstance(body.get("type"), str) else None,
            param=error.param if isinstance(error.param, str) else None,
            retry_after=retry_after,
        )
    )


def _code_of(code: JsonValue, kind: JsonValue) -> str | None:
    """Return the error's code in OpenAI's words. Some servers only repeat the status as their code."""
    word = code if code and not str(code).isdigit() else kind or code
    return _FOREIGN_CODES.get(str(word), str(word)) if word else None


_FOREIGN_CODES = {"exceed_context_size_error": "context_length_exceeded"}
