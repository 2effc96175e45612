"""The pieces of an answer that both codecs make: a choice, a tool call whole and in fragments. Pure.

What only the provider itself understands (signatures of its reasoning) goes out as `extra_content`,
as in Google's own OpenAI-compatible API, and comes back in the next request.
"""

import json
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from deployments.errors import failed


def choice(
    index: int,
    text: str,
    finish: str,
    *,
    tool_calls: Sequence[Mapping[str, Any]] = (),
    reasoning: str = "",
    extra: Mapping[str, Any] | None = None,
    logprobs: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": text, "refusal": None}
    if tool_calls:
        message["content"] = text or None
        message["tool_calls"] = list(tool_calls)
    if reasoning:
        message["reasoning_content"] = reasoning
    if extra:
        message["extra_content"] = extra
    return {"index": index, "message": message, "logprobs": logprobs, "finish_reason": finish}


def tool_call(key: str | None, name: str, arguments: Any, extra: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """A whole call. `arguments` is what the provider gave: an object, or the text of one."""
    text = arguments if isinstance(arguments, str) else json.dumps(arguments or {}, ensure_ascii=False)
    call: dict[str, Any] = {"id": key or new_id(), "type": "function", "function": {"name": name, "arguments": text}}
    if extra:
        call["extra_content"] = extra
    return call


def call_delta(index: int, call: Mapping[str, Any]) -> dict[str, Any]:
    """A delta that begins a call, or is the whole of it."""
    return {"tool_calls": [{"index": index, **call}]}


def arguments_delta(index: int, fragment: str) -> dict[str, Any]:
    return {"tool_calls": [{"index": index, "function": {"arguments": fragment}}]}


def new_id() -> str:
    """The id of a call whose provider gave it none."""
    return f"call_{secrets.token_hex(12)}"


def admits(made: int, limit: int | None) -> bool:
    """May one more call go out? A model that calls what it was told not to has not answered this request."""
    if limit == 0:
        raise failed("unsupported", "the model called a tool though none may be called", param="tool_choice")
    return limit is None or made < limit
