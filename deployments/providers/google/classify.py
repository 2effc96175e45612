"""Gemini's errors as outcome kinds. Pure, but for google-genai's exceptions."""

import json
from collections.abc import Mapping
from typing import Any

from google.genai import errors
from pydantic import ValidationError

from actors.breaker.outcomes import Outcome
from deployments.errors import AttemptFailed, failed
from deployments.openai_api.json_types import JsonValue
from deployments.providers.base import retry_after_of
from deployments.providers.http.transport import classify_transport_error
from deployments.providers.vendor_errors.bodies import PAGE, param_by_word, plain, retry_delay
from deployments.providers.vendor_errors.rules import Rule, VendorError, read_by, rule

_API, _ERRORS = "Google, Gemini API errors", "Google, google.rpc.Code"
RULES: tuple[Rule, ...] = (
    rule("rejected", "OpenHands/OpenHands#4480: a firewall", f"^{PAGE}", statuses=(403, 406)),
    # What the request names there: a file, a cache, a URL.
    rule(
        "rejected",
        "googleapis/python-genai#1218; expectedparrot/edsl#1907; Google, context caching",
        r"access the file|the file .{0,200}(?:not in an active state|not found)|files/\S+ (?:is |was )?not found",
        r"cached ?content.{0,200}(?:not found|permission)|(?:fetch|download)\w* .{0,40}(?:url|file|image)",
        statuses=(400, 403, 404),
    ),
    rule(
        "credential",
        _API,
        codes="API_KEY_INVALID API_KEY_EXPIRED API_KEY_SERVICE_BLOCKED SERVICE_DISABLED CONSUMER_INVALID",
    ),
    rule(
        "credential",
        _API,
        r"api key (?:not valid|not found|expired)|user location is not supported",
        statuses=(400, 401, 403),
    ),
    rule(
        "quota",
        _API + ": FAILED_PRECONDITION",
        r"enable billing|billing account|billing is disabled",
        statuses=(400, 403),
    ),
    rule("quota", "dyad-sh/dyad#3626", r"prepayment credits are depleted", statuses=(400, 403, 429)),
    # What is left of FAILED_PRECONDITION is our place or our account too, never the request.
    rule("credential", _API, codes="FAILED_PRECONDITION"),
    rule(
        "model_missing",
        _API,
        r"is not found for API version|unexpected model name|publisher model [^'\"]{0,200}not found",
        r"is not supported for (?:generateContent|streamGenerateContent|embedContent)",
        statuses=(400, 404),
    ),
    rule(
        "too_long",
        "googleapis/python-genai#650: no code for it",
        r"exceeds the maximum number of (?:input )?tokens|input token count",
        statuses=(400,),
    ),
    rule(
        "bad_request",
        "Google, function calling: the order of calls and results",
        r"number of function response parts is equal",
        r"function (?:call|response) turn comes immediately after",
        statuses=(400,),
    ),
    rule("throttled", _ERRORS, codes="RESOURCE_EXHAUSTED"),
    rule("credential", _ERRORS, codes="UNAUTHENTICATED PERMISSION_DENIED"),
    rule("model_missing", _ERRORS, codes="NOT_FOUND"),
    rule("overloaded", _ERRORS, codes="UNAVAILABLE"),
    rule("server_error", _ERRORS, codes="DEADLINE_EXCEEDED INTERNAL CANCELLED UNKNOWN"),
)
DAILY = (rule("quota", _API + ": QuotaFailure with a quota per day", statuses=(429,)),)
# Google's words for fields, in the texts of its refusals.
_PARAMS = {
    "presence_penalty": "presence_penalty",
    "presencePenalty": "presence_penalty",
    "frequency_penalty": "frequency_penalty",
    "Penalty": "presence_penalty",
    "thinking_level": "reasoning_effort",
    "thinkingLevel": "reasoning_effort",
    "thinking": "reasoning_effort",
    "Thinking": "reasoning_effort",
    "Budget": "reasoning_effort",
    "response_schema": "response_format",
    "responseJsonSchema": "response_format",
    "response_json_schema": "response_format",
    "mime type": "response_format",
    "JSON mode": "response_format",
    "candidate": "n",
    "max_output_tokens": "max_tokens",
    "maxOutputTokens": "max_tokens",
    "stop_sequences": "stop",
    "logprobs": "logprobs",
    "Logprobs": "logprobs",
    "function_declarations": "tools",
    "functionDeclarations": "tools",
    "unction calling": "tools",
    "seed": "seed",
}


def classify(error: Exception, asked: JsonValue = None) -> AttemptFailed:
    """Return the failure for an SDK's error, by its type, code and reason. Transport errors arrive unwrapped."""
    match error:
        case AttemptFailed():
            return error
        case errors.APIError():
            return _api_error(error, asked)
        case ValidationError():
            return failed("malformed", "the provider's answer has a shape that the SDK does not know", status=200)
        case errors.UnknownApiResponseError() | json.JSONDecodeError() | UnicodeDecodeError():
            return failed("malformed", f"the provider's answer can't be parsed ({type(error).__name__})", status=200)
    return classify_transport_error(error) or failed("unclassified", f"{type(error).__name__}: {error}")


def _api_error(error: errors.APIError, asked: JsonValue) -> AttemptFailed:
    details = _details(error)
    reason = next((d["reason"] for d in details if isinstance(d.get("reason"), str)), None)
    headers: Mapping[str, str] = getattr(error.response, "headers", None) or {}
    retry_after = retry_after_of(headers)
    told_delay = retry_delay(details)
    retry_after = retry_after if told_delay is None else told_delay
    message = plain(error.message if isinstance(error.message, str) else "") or f"HTTP {error.code}"
    told = VendorError(error.code or 500, message, reason or error.status, error.status, None, retry_after)
    kind = read_by(_daily(details) + RULES, told, asked).kind
    param = param_by_word(message, _PARAMS)
    return AttemptFailed(
        Outcome(kind, status=error.code, message=message, code=told.code, param=param, retry_after=retry_after)
    )


def _daily(details: list[dict[str, Any]]) -> tuple[Rule, ...]:
    """Return a rule of its own where a day's quota is used up: no pause of minutes brings it back."""
    violated = [v for d in details for v in d.get("violations") or () if isinstance(v, dict)]
    return DAILY if any("PerDay" in str(v.get("quotaId")) for v in violated) else ()


def _details(error: errors.APIError) -> list[dict[str, Any]]:
    body = error.details if isinstance(error.details, dict) else {}
    inner = body.get("error", body)
    details = inner.get("details") if isinstance(inner, dict) else None
    return [d for d in details or [] if isinstance(d, dict)]
