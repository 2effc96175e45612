"""Anthropic's errors as outcome kinds. Pure.

An error has a type that says no more than its status, and for some causes a code. For those that matter most it has
neither, so its text tells.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import replace

from deployments.errors import AttemptFailed, failed
from deployments.openai_api.json_types import JsonObject, JsonValue
from deployments.providers.base import retry_after_of
from deployments.providers.claude.thoughts import REFUSED_THOUGHTS
from deployments.providers.http.transport import classify_transport_error
from deployments.providers.vendor_errors.bodies import PAGE, param_by_word, read_error
from deployments.providers.vendor_errors.lengths import WINDOW_SUMS
from deployments.providers.vendor_errors.rules import Rule, VendorError, read_by, rule

_DOC, _SDK = "Anthropic, API errors", "anthropic (PyPI), types/shared/error_details.py"
RULES: tuple[Rule, ...] = (
    rule("rejected", "anthropics/claude-code#12937: a firewall's page", f"^{PAGE}", statuses=(403, 406)),
    *WINDOW_SUMS,
    rule(
        "rejected",
        "Anthropic, Messages, max_tokens",
        r"max_tokens: \d+ > (?P<most>\d+), which is the maximum",
        param="max_tokens",
    ),
    rule(
        "quota",
        _SDK,
        codes="enforced_spend_limit_reached contract_spend_limit_reached linked_organization_spend_limit_reached"
        " linked_organization_billing_unavailable",
    ),
    rule("throttled", _SDK, codes="ramp_limit_exceeded"),
    rule(
        "quota",
        f"{_DOC}: a 400 without a code; continuedev/continue#5499",
        r"credit balance (?:is )?too low|reached your specified .{0,40}usage limits",
        statuses=(400, 403, 429),
    ),
    rule(
        "credential",
        f"{_DOC}; {_SDK}",
        codes="organization_on_hold claude_code_key_creator_not_member claude_code_version_too_old cmek_key_disabled"
        " cmek_key_network_blocked cmek_key_unreachable cmek_context_unavailable sandbox_egress_restricted"
        " organization_type_not_supported parent_organization_required",
    ),
    rule(
        "credential",
        "anthropics/claude-code#5088",
        r"organization has been disabled|not available in your (?:country|region)",
        statuses=(400, 401, 403),
    ),
    rule(
        "too_long",
        f"{_DOC}: no code for it",
        r"prompt is too long|`?max_tokens`? exceed context limit",
        statuses=(400, 413),
    ),
    # Bytes say nothing of the window: another tier may take them.
    rule("rejected", f"{_DOC}: 32 MB", statuses=(413,), codes="request_too_large"),
    # On Vertex AI, whose own errors are Google's.
    rule(
        "model_missing",
        "redhat-data-and-ai/template-agent#349, NousResearch/hermes-agent#32678: a model that the region has not",
        r"is not servable in region",
        statuses=(400,),
    ),
    rule("content_filter", _DOC, r"blocked by content filtering policy", statuses=(400,)),
    # The order of calls and results is the conversation's own: no vendor takes another.
    rule(
        "bad_request",
        "Anthropic, Handle tool calls",
        r"tool_use`? ids were found without|unexpected `?tool_use_id",
        statuses=(400,),
    ),
    rule(
        "rejected",
        "Anthropic, Extended thinking; Preserved thinking",
        *REFUSED_THOUGHTS,
        statuses=(400,),
        param="messages",
    ),
)
# What a type says where no status does: inside a stream, or under status 200.
_STATUS_OF = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "conflict_error": 409,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}
# Anthropic's words for fields, in the texts of its refusals.
_PARAMS = {
    "top_p": "top_p",
    "temperature": "temperature",
    "top_k": "top_k",
    "stop_sequences": "stop",
    "max_tokens": "max_tokens",
    "output_config.format": "response_format",
    "output_config.effort": "reasoning_effort",
    "effort": "reasoning_effort",
    "thinking.": "reasoning_effort",
    "adaptive thinking": "reasoning_effort",
    "disable_parallel_tool_use": "parallel_tool_calls",
    "tool_choice": "tool_choice",
    "input_schema": "tools",
    "metadata.user_id": "user",
    "service_tier": "service_tier",
    "prefill": "messages",
    "messages": "messages",
}


def refusal_of(
    status: int, headers: Mapping[str, str], data: bytes, asked: JsonValue, *, native: bool = False
) -> AttemptFailed:
    """Return the failure for an answer of another status than 200. `asked` is the request, which it may quote.

    `native`: that is its client's own, so a field that no chat has is named as it stands there.
    """
    try:
        body: JsonValue = json.loads(data)
    except (ValueError, RecursionError):
        body = data.decode(errors="replace")
    return _failure(replace(_told(body, status), retry_after=retry_after_of(headers)), asked, native=native)


def in_band(event: JsonObject) -> AttemptFailed:
    """Return the failure for an error inside a stream, or under status 200."""
    told = _told(event, 500)
    return _failure(replace(told, status=_STATUS_OF.get(told.type or "", 500)), None)


def _told(body: JsonValue, status: int) -> VendorError:
    told = read_error(body, status)
    error = body.get("error") if isinstance(body, dict) else None
    details = error.get("details") if isinstance(error, dict) else None
    code = details.get("error_code") if isinstance(details, dict) else None
    return replace(told, code=code[:256] if isinstance(code, str) else told.type)


def _failure(told: VendorError, asked: JsonValue, *, native: bool = False) -> AttemptFailed:
    read = read_by(RULES, told, asked)
    param = (read.param or _param_in(told.message, native=native)) if read.kind == "rejected" else None
    message = told.message or f"HTTP {told.status}"
    return failed(read.kind, message, status=told.status, code=told.code, param=param, retry_after=told.retry_after)


def _param_in(message: str, *, native: bool) -> str | None:
    """Return the field that a text names: Anthropic's own begin with its path, and what follows may name others."""
    if not native:
        return param_by_word(message, _PARAMS)
    if _OF_BETAS.search(message):
        return None  # their names are in quotes, and may hold those of fields
    path = _PATH.match(message)
    if path is None or path[1].startswith(_CHATS):
        return param_by_word(message, _PARAMS)
    return path[1]


# Fields that a chat has by another name. All others of a request are told by their own.
_CHATS = (
    *("messages", "system", "tools", "tool_choice", "max_tokens", "stop_sequences", "temperature", "top_p", "top_k"),
    *("output_config.format", "output_config.effort"),
)
# QuantumNous/new-api#2975, anthropics/claude-code#70563: "Unexpected value(s) `a`, `b` for the `anthropic-beta` header"
_OF_BETAS = re.compile(r"anthropic-beta|beta header")
_PATH = re.compile(r"([a-z_][\w.-]{0,200}): ")


def classify(error: Exception) -> AttemptFailed:
    """Return the failure for what a call has raised."""
    if isinstance(error, AttemptFailed):
        return error
    return classify_transport_error(error) or failed("unclassified", f"{type(error).__name__}: {error}")
