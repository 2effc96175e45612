"""Errors in the words of the Responses API: as the body of an HTTP answer, and inside a response that failed. Pure."""

from typing import cast

from deployments.errors import BreakwaterError, error_object
from deployments.openai_api.json_types import JsonDict, JsonObject, JsonValue

# openai 3.54, `ResponseError.code`, as far as it can be true here. Its clients check the list. Codex knows one more,
# and does not ask again then.
_CODES = frozenset({"server_error", "rate_limit_exceeded", "invalid_prompt", "context_length_exceeded"})
_BY_TYPE = {"rate_limit_error": "rate_limit_exceeded", "invalid_request_error": "invalid_prompt"}


def body_of(error: BreakwaterError) -> JsonDict:
    """Return OpenAI's envelope of an error, which all its APIs have."""
    return cast(JsonDict, error_object(error))


def response_error(error: JsonValue) -> JsonDict:
    """Return the error of a response that failed, made of the one in a stream's error frame."""
    told: JsonObject = error if isinstance(error, dict) else {"message": error}
    code = told.get("code")
    known = code if isinstance(code, str) and code in _CODES else _BY_TYPE.get(str(told.get("type")), "server_error")
    return {"code": known, "message": str(told.get("message") or "The stream broke off.")}


def told_of(error: JsonValue) -> JsonDict:
    """Return what `breakwater` says of a stream that broke off: its attempts, which a response's error can't hold."""
    attempts = error.get("attempts") if isinstance(error, dict) else None
    return {} if attempts is None else {"attempts": attempts}
