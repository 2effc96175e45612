"""Mistral's own API, chat completions. It knows few fields, and refuses all others by their place."""

import re
from typing import Any

from tests.fakes.vendors import Asked, Refusal, Rule

# mistralai 3.7.0, `ChatCompletionRequest` and its messages.
KNOWN = frozenset(
    {
        *("frequency_penalty", "guardrails", "logprobs", "max_tokens", "messages", "metadata", "min_tokens", "model"),
        *("n", "parallel_tool_calls", "prediction", "presence_penalty", "prompt_cache_key", "prompt_logprobs"),
        *("prompt_mode", "random_seed", "reasoning_effort", "repetition_penalty", "response_format", "safe_prompt"),
        *("service_tier", "stop", "stream", "temperature", "tool_choice", "tools", "top_k", "top_logprobs", "top_p"),
        "top_prompt_logprobs",
    }
)
KNOWN_OF_ROLE = {
    "system": {"role", "content"},
    "user": {"role", "content"},
    "assistant": {"role", "content", "prefix", "tool_calls"},
    "tool": {"role", "content", "name", "tool_call_id"},
}


def refuse(detail: list[dict[str, Any]]) -> Refusal:
    """Return a refusal in Mistral's shape, whose message is an object."""
    error = {"object": "error", "message": {"detail": detail}, "type": "invalid_request_error"}
    return Refusal(422, {**error, "param": None, "code": None})


def _extra(place: list[Any], given: Any) -> dict[str, Any]:
    return {"type": "extra_forbidden", "loc": place, "msg": "Extra inputs are not permitted", "input": given}


def unknown_field(asked: Asked) -> Refusal | None:
    """Refuse a field that Mistral does not know: mistralai/platform-docs-public#7, editor-code-assistant/eca#231.

    So `max_completion_tokens`, `seed`, `stream_options`, `user`, `store` and `logit_bias`.
    """
    detail = [_extra(["body", name], value) for name, value in asked.body.items() if name not in KNOWN]
    return refuse(detail) if detail else None


def unknown_message_field(asked: Asked) -> Refusal | None:
    """Refuse a message's field: charmbracelet/crush#1590, Gage-Technologies/mistral-go#2, BerriAI/litellm#30882."""
    detail = [
        _extra(["body", "messages", at, message["role"], name], value)
        for at, message in enumerate(asked.body.get("messages", ()))
        for name, value in message.items()
        if name not in KNOWN_OF_ROLE.get(message["role"], {name})
    ]
    return refuse(detail) if detail else None


def unknown_role(asked: Asked) -> Refusal | None:
    """Refuse the role `developer`: mistralai 3.7.0, the union of messages has four roles."""
    for at, message in enumerate(asked.body.get("messages", ())):
        if message["role"] not in KNOWN_OF_ROLE:
            known = "'system', 'user', 'assistant', 'tool'"
            wrong = f"Input tag '{message['role']}' found using 'role' does not match any of the expected tags: {known}"
            return refuse(
                [{"type": "union_tag_invalid", "loc": ["body", "messages", at], "msg": wrong, "input": message}]
            )
    return None


def tool_call_id(asked: Asked) -> Refusal | None:
    """Refuse an id of a call that is not nine of [a-zA-Z0-9]: anomalyco/opencode#1680, nearai/ironclaw#1241."""
    calls = [call for m in asked.body.get("messages", ()) for call in m.get("tool_calls") or ()]
    wrong = [call["id"] for call in calls if not re.fullmatch(r"[a-zA-Z0-9]{9}", call["id"])]
    if not wrong:
        return None
    message = f"Tool call id was {wrong[0]} but must be a-z, A-Z, 0-9, with a length of 9."
    error = {"object": "error", "message": message, "type": "invalid_function_call", "param": None, "code": "3280"}
    return Refusal(400, error)


RULES: tuple[Rule, ...] = (unknown_field, unknown_role, unknown_message_field, tool_call_id)
