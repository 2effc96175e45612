"""The response object: what it repeats of its request, and what it says of its answer. Pure.

Open Responses wants each of these fields, null where there is nothing to say (its schema `ResponseResource`).
"""

from typing import Literal

from deployments.openai_api.json_types import JsonDict, JsonObject, JsonValue, whole_number
from deployments.openai_api.usage import account_of

Status = Literal["in_progress", "completed", "incomplete", "failed"]
_TIERS = frozenset({"auto", "default", "flex", "scale", "priority", "fast", "ultrafast"})  # openai 3.54, ServiceTier
# What a request means that does not say otherwise (OpenAI, API reference, create a model response).
_DEFAULTS: JsonObject = {
    "background": False,
    "frequency_penalty": 0,
    "instructions": None,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "presence_penalty": 0,
    "previous_response_id": None,
    "prompt_cache_key": None,
    "safety_identifier": None,
    "temperature": 1,
    "tool_choice": "auto",
    "top_logprobs": 0,
    "top_p": 1,
    "user": None,
}
_CARRIED = frozenset({"function", "custom", "namespace"})


def echo_of(body: JsonObject) -> JsonDict:
    """Return the fields of a request that its answer repeats. Nothing is stored or cut, whatever was asked for."""
    echo = {name: default if body.get(name) is None else body[name] for name, default in _DEFAULTS.items()}
    text, reasoning = body.get("text") or {}, body.get("reasoning") or {}
    echo["text"] = {**text, "format": _format(text.get("format") or {"type": "text"})}
    echo["reasoning"] = {"effort": None, "summary": None, **reasoning}
    echo["tools"] = [_told(tool) for tool in body.get("tools") or () if tool["type"] in _CARRIED]
    return {**echo, "store": False, "truncation": "disabled"}


def _format(wanted: JsonObject) -> JsonObject:
    if wanted["type"] != "json_schema":
        return wanted
    return {"description": None, **wanted, "strict": bool(wanted.get("strict"))}


def _told(tool: JsonObject) -> JsonObject:
    """Return a tool with the fields that openai 3.54 wants of its type."""
    if tool["type"] != "function":
        return {"description": "", **tool} if tool["type"] == "namespace" else tool
    return {"description": None, "parameters": None, **tool, "strict": bool(tool.get("strict"))}


def tier_of(told: JsonValue) -> str:
    """Return the tier that served an answer, as its provider told it; Open Responses wants one of each response."""
    return told if isinstance(told, str) and told in _TIERS else "default"


def usage_of(told: JsonValue) -> JsonDict | None:
    """Return the usage in this API's words; None if there is none."""
    if (usage := account_of(told)) is None:
        return None
    prompt, completion = _count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens"))
    of_prompt, of_completion = usage.get("prompt_tokens_details"), usage.get("completion_tokens_details")
    return {
        "input_tokens": prompt,
        "input_tokens_details": {
            "cached_tokens": _detail(of_prompt, "cached_tokens"),
            "cache_write_tokens": _detail(of_prompt, "cache_write_tokens"),
        },
        "output_tokens": completion,
        "output_tokens_details": {"reasoning_tokens": _detail(of_completion, "reasoning_tokens")},
        "total_tokens": prompt + completion,
    }


def _detail(details: JsonValue, name: str) -> int:
    return _count(details.get(name)) if isinstance(details, dict) else 0


def _count(told: JsonValue) -> int:
    return max(whole_number(told) or 0, 0)


def head_of(status: Status, output: JsonValue, **told: JsonValue) -> JsonDict:
    """Return the fields of a response that its request does not decide."""
    return {
        "object": "response",
        "status": status,
        "completed_at": None,
        "error": None,
        "incomplete_details": None,
        "output": output,
        "usage": None,
        "service_tier": "default",
        **told,
    }
