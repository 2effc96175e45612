"""What the items of an answer say, in the forms of a chat completion. Pure."""

from collections.abc import Iterator

from deployments.openai_api.json_types import JsonDict, JsonObject, JsonValue
from deployments.providers.translation.choice import new_id

CALL = "function_call"


def call_head(item: JsonObject) -> JsonDict:
    """Return a call without its arguments."""
    return {
        "id": item.get("call_id") or item.get("id") or new_id(),
        "type": "function",
        "function": {"name": item.get("name") or "", "arguments": ""},
    }


def arguments_in(item: JsonObject) -> str:
    """Return the arguments of a whole call. A call without any has an empty object, as in a chat."""
    return str(item.get("arguments") or "{}")


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
