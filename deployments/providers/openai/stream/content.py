"""What a client would read of a delta. Pure.

Only places where such a thing is meant are looked at: a field that we do not know may hold anything.
"""

import functools
import json
import re

from deployments.openai_api.json_types import JsonDict, JsonObject, JsonValue, whole_number

# `reasoning_content` (DeepSeek, SGLang), `reasoning` (vLLM, Groq, Together), `reasoning_details` (OpenRouter),
# `thinking` and `thinking_blocks` (LiteLLM), `thought`: the spellings of one thing.
_THOUGHT = re.compile(r"reason|think|thought", re.IGNORECASE)
_NO_THOUGHT = re.compile(r"(?:signature|id|ids|tokens|reason)$", re.IGNORECASE)  # `finish_reason` is none


def has_content(delta: JsonValue) -> bool:
    """Return whether a client would read any part of the delta."""
    return bool(read_keys(delta))


def read_keys(delta: JsonValue) -> list[str]:
    """Return the keys of the delta's parts that a client would read."""
    if not isinstance(delta, dict):
        return []
    return [key for key, value in delta.items() if value and _is_read(key, value)]


def _is_read(key: str, value: JsonValue) -> bool:
    """Return whether a value of a delta that is not empty is a part of the answer."""
    if key == "content" and isinstance(value, str):
        return True
    if key == "tool_calls":
        return isinstance(value, list) and any(isinstance(call, dict) for call in value)
    if key == "function_call":
        return isinstance(value, dict) and any(value.values())
    if key == "audio":  # its first frame has an id alone
        return isinstance(value, dict) and bool(value.get("data") or value.get("transcript"))
    if key in ("content", "refusal", "images") or is_thought(key):
        return isinstance(value, str) or (isinstance(value, list | dict) and any(value))
    return False


@functools.lru_cache(256)
def is_thought(key: str) -> bool:
    return _THOUGHT.search(key) is not None and _NO_THOUGHT.search(key) is None


def choices_of(data: JsonObject) -> list[JsonDict]:
    """Return the choices that are objects. The list may be that of the data, so it must not be changed."""
    choices = data.get("choices")
    if type(choices) is list and len(choices) == 1 and type(choices[0]) is dict:  # nearly all
        return choices
    return [choice for choice in choices if isinstance(choice, dict)] if isinstance(choices, list) else []


def index_of(choice: JsonObject) -> int:
    """Return the choice's index; the first's if it has none."""
    return whole_number(choice.get("index")) or 0


def is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def arguments_as_text(call: JsonDict) -> bool:
    """Write the arguments of a call as the JSON text that they should have been; return whether they were none."""
    function = call.get("function")
    if not isinstance(function, dict) or not isinstance(function.get("arguments"), dict | list):
        return False
    function["arguments"] = json.dumps(function["arguments"], ensure_ascii=False)
    return True
