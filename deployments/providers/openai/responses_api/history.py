"""The messages of a chat as the items of a Responses request's `input`. Pure.

System prompts and instructions of the developer stay where they stand: hoisted into `instructions` they would spoil
the prompt cache whenever one is added.
"""

import hashlib
from collections.abc import Iterator, Sequence

from deployments.openai_api.cache_marks import BREAKPOINT
from deployments.openai_api.json_types import JsonDict, JsonObject, JsonValue
from deployments.openai_api.message_fields import IS_ERROR, as_error
from deployments.providers.openai.responses_api.kept_items import placed

LONGEST_ID = 64  # of `call_id`: decolua/9router#393, "Expected max length 64"


def input_of(messages: Sequence[JsonObject], *, reasoning: bool) -> list[JsonDict]:
    """Return the items. `reasoning`: whether the reasoning of earlier answers goes back."""
    items = [item for message in messages for item in _items(message)]
    return items if reasoning else [item for item in items if item["type"] != "reasoning"]


def _items(message: JsonObject) -> Iterator[JsonDict]:
    match message["role"]:
        case "assistant":
            yield from placed(message, list(_said(message)), list(_calls(message)))
        case "tool":
            said = message.get("content")
            output = _content(as_error(said) if message.get(IS_ERROR) is True else said)
            yield {"type": "function_call_output", "call_id": _id(message.get("tool_call_id")), "output": output}
        case role:
            yield {"type": "message", "role": role, "content": _content(message.get("content"))}


def _content(content: JsonValue) -> JsonValue:
    """Return a content of anybody but the assistant."""
    return [_marked(_part(part), part) for part in content] if isinstance(content, list) else content or ""


def _marked(made: JsonDict, part: JsonObject) -> JsonDict:
    return {**made, BREAKPOINT: part[BREAKPOINT]} if BREAKPOINT in part else made


def _part(part: JsonObject) -> JsonDict:
    match part.get("type"):
        case "image_url":
            return _image(part["image_url"])
        case "file":
            return {"type": "input_file", **_given(part["file"])}
        case _:
            return {"type": "input_text", "text": part.get("text") or ""}


def _image(image: JsonValue) -> JsonDict:
    told: JsonObject = image if isinstance(image, dict) else {"url": image}
    detail = told.get("detail")
    return {"type": "input_image", "image_url": told.get("url"), **({} if detail is None else {"detail": detail})}


def _given(thing: JsonObject) -> JsonDict:
    return {name: value for name, value in thing.items() if value is not None}


def _said(message: JsonObject) -> Iterator[JsonDict]:
    """Yield the message item of an earlier answer, if it says anything."""
    content, refusal = message.get("content"), message.get("refusal")
    told = [{"type": "text", "text": content}] if isinstance(content, str) else content or []
    parts = [said for part in told if (said := _answered(part)) is not None]
    if refusal:
        parts.append({"type": "refusal", "refusal": refusal})
    if parts:
        yield {"type": "message", "role": "assistant", "content": parts}


def _answered(part: JsonObject) -> JsonDict | None:
    if part.get("type") == "refusal":
        return {"type": "refusal", "refusal": part.get("refusal") or ""}
    return {"type": "output_text", "text": text} if (text := part.get("text")) else None


def _calls(message: JsonObject) -> Iterator[JsonDict]:
    for call in message.get("tool_calls") or ():
        function = call["function"]
        arguments = function.get("arguments") or "{}"
        yield {
            "type": "function_call",
            "call_id": _id(call.get("id")),
            "name": function["name"],
            "arguments": arguments,
        }


def _id(key: JsonValue) -> JsonValue:
    """Return the id as this API takes it: the same for a call and its result."""
    if not isinstance(key, str) or len(key) <= LONGEST_ID:
        return key
    return hashlib.sha256(key.encode(errors="replace")).hexdigest()
