"""What the items of an answer say, in the forms of a chat completion. Pure."""

import json
from collections.abc import Iterator

from deployments.openai_api.json_types import JsonDict, JsonObject, JsonValue
from deployments.providers.choice import new_id

CALLS = frozenset({"function_call", "custom_tool_call"})
_BARE = ('{"input":"', '"}')  # a function's arguments that hold the bare input of a custom tool


def call_head(item: JsonObject) -> JsonDict:
    """Return a call without its arguments.

    The client of the Responses API has tools that a chat has not, and knows them by `tool`.
    """
    call: JsonDict = {
        "id": item.get("call_id") or item.get("id") or new_id(),
        "type": "function",
        "function": {"name": item.get("name") or "", "arguments": ""},
    }
    if item["type"] == "custom_tool_call" or item.get("namespace") is not None:
        kind = "custom" if item["type"] == "custom_tool_call" else "function"
        call["tool"] = {"kind": kind, "namespace": item.get("namespace")}
    return call


def arguments_in(item: JsonObject) -> str:
    """Return the arguments of a whole call."""
    if item["type"] == "custom_tool_call":
        return f"{_BARE[0]}{escaped(str(item.get('input') or ''))}{_BARE[1]}"
    return str(item.get("arguments") or "")


def escaped(text: str) -> str:
    """Return a piece of a text as it stands inside JSON."""
    return json.dumps(text, ensure_ascii=False)[1:-1]


def bare_start(item: JsonObject) -> str:
    return _BARE[0] if item["type"] == "custom_tool_call" else ""


def bare_end(item: JsonObject) -> str:
    return _BARE[1] if item["type"] == "custom_tool_call" else ""


def parts_of(item: JsonObject) -> Iterator[JsonDict]:
    """Yield the parts of a message that are objects."""
    content = item.get("content")
    yield from (part for part in content if isinstance(part, dict)) if isinstance(content, list) else ()


def thoughts_in(item: JsonObject) -> str:
    """Return what reasoning can be read: its summary, and the text of models that show it."""
    parts = [part for name in ("summary", "content") for part in item.get(name) or () if isinstance(part, dict)]
    return "\n\n".join(text for part in parts if isinstance(text := part.get("text"), str) and text)


def annotation_of(told: JsonValue) -> JsonDict | None:
    """Return a citation: a chat completion has that of a page one object deeper, and no other."""
    if not isinstance(told, dict):
        return None
    if told.get("type") != "url_citation":
        return told
    return {"type": "url_citation", "url_citation": {name: value for name, value in told.items() if name != "type"}}


def logprobs_of(told: JsonValue) -> JsonDict | None:
    return {"content": told, "refusal": None} if told and isinstance(told, list) else None
