"""Gemini's errors as outcome kinds. Pure, but for google-genai's exceptions."""

import json
from collections.abc import Mapping
from typing import Any

from google.genai import errors
from pydantic import ValidationError

from actors.breaker.outcomes import Outcome
from deployments.errors import AttemptFailed, failed
from deployments.providers.base import kind_of_status, retry_after_of
from deployments.providers.transport import classify_transport_error

_KINDS = {
    "RESOURCE_EXHAUSTED": "throttled",
    "UNAUTHENTICATED": "credential",
    "PERMISSION_DENIED": "credential",
    "NOT_FOUND": "model_missing",
    "UNAVAILABLE": "overloaded",
    "DEADLINE_EXCEEDED": "server_error",
    "INTERNAL": "server_error",
}


def classify(error: Exception) -> AttemptFailed:
    """Return the failure for an SDK's error, by its type, code and reason. Transport errors arrive unwrapped."""
    match error:
        case AttemptFailed():
            return error
        case errors.APIError():
            return _api_error(error)
        case ValidationError():
            return failed("malformed", "the provider's answer has a shape that the SDK does not know", status=200)
        case errors.UnknownApiResponseError() | json.JSONDecodeError() | UnicodeDecodeError():
            return failed("malformed", f"the provider's answer can't be parsed ({type(error).__name__})", status=200)
    return classify_transport_error(error) or failed("unclassified", f"{type(error).__name__}: {error}")


def _api_error(error: errors.APIError) -> AttemptFailed:
    details = _details(error)
    reason = next((d["reason"] for d in details if isinstance(d.get("reason"), str)), None)
    headers: Mapping[str, str] = getattr(error.response, "headers", None) or {}
    retry_after = retry_after_of(headers)
    for detail in details:
        retry_after = _seconds(detail.get("retryDelay")) or retry_after
    kind = _KINDS.get(error.status or "") or kind_of_status(error.code or 500, None, retry_after)
    if reason == "API_KEY_INVALID":
        kind = "credential"
    message = error.message or f"HTTP {error.code}"
    if kind == "bad_request" and "exceeds the maximum number of tokens" in message:
        kind = "too_long"  # Google has no code for it
    if kind == "overloaded" and retry_after is not None:
        kind = "throttled"
    outcome = Outcome(kind, status=error.code, message=message, code=reason or error.status, retry_after=retry_after)
    return AttemptFailed(outcome)


def _details(error: errors.APIError) -> list[dict[str, Any]]:
    body = error.details if isinstance(error.details, dict) else {}
    inner = body.get("error", body)
    details = inner.get("details") if isinstance(inner, dict) else None
    return [d for d in details or [] if isinstance(d, dict)]


def _seconds(text: Any) -> float | None:
    """Return the seconds of a protobuf duration, as "36s"."""
    try:
        return float(str(text).removesuffix("s")) if text else None
    except ValueError:
        return None
