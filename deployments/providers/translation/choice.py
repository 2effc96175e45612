"""The parts of an answer that the codecs build: a choice, and a tool call, whole and in fragments. Pure.

Data that only the provider itself understands (signatures of its reasoning) is sent as `extra_content`, as in Google's
own OpenAI-compatible API. A client returns it in its next request.
"""

import json
import secrets
from collections.abc import Sequence

from deployments.errors import failed
from deployments.openai_api.json_types import JsonDict, JsonObject, JsonValue


def choice(
    index: int,
    text: str,
    finish: str,
    *,
    tool_calls: Sequence[JsonObject] = (),
    reasoning: str = "",
    extra: JsonObject | None = None,
    logprobs: JsonObject | None = None,
) -> JsonDict:
    message: JsonDict = {"role": "assistant", "content": text, "refusal": None}
    if tool_calls:
        message["content"] = text or None
        message["tool_calls"] = list(tool_calls)
    if reasoning:
        message["reasoning_content"] = reasoning
    if extra:
        message["extra_content"] = extra
    return {"index": index, "message": message, "logprobs": logprobs, "finish_reason": finish}


def tool_call(key: str | None, name: str, arguments: JsonValue, extra: JsonObject | None = None) -> JsonDict:
    """Return a whole tool call. `arguments` is an object or its JSON text, as the provider sent it."""
    text = arguments if isinstance(arguments, str) else json.dumps(arguments or {}, ensure_ascii=False)
    call: JsonDict = {"id": key or new_id(), "type": "function", "function": {"name": name, "arguments": text}}
    if extra:
        call["extra_content"] = extra
    return call


def call_delta(index: int, call: JsonObject) -> JsonDict:
    """Return a delta that begins a tool call, or holds all of it."""
    return {"tool_calls": [{"index": index, **call}]}


def arguments_delta(index: int, fragment: str) -> JsonDict:
    return {"tool_calls": [{"index": index, "function": {"arguments": fragment}}]}


def new_id() -> str:
    """Return an id for a tool call whose provider gave it none."""
    return f"call_{secrets.token_hex(12)}"


def admits(made: int, limit: int | None) -> bool:
    """Return whether the answer may hold one more tool call. Raises `unsupported` if the request allows none."""
    if limit == 0:
        raise failed("unsupported", "the model called a tool, though the request allows none", param="tool_choice")
    return limit is None or made < limit
