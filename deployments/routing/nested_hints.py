"""Hints inside the messages and tools of a request: who speaks, and what a vendor may cache. Pure.

Like the hints at the top of a request they change nothing of the kind of the answer, and some servers refuse them.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from deployments.openai_api.found import MARK
from deployments.openai_api.json_types import JsonObject, JsonValue


@dataclass(frozen=True, slots=True)
class NestedHint:
    """`refused` finds it in the text of a refusal; `without` is a message, a tool or an object without it."""

    refused: re.Pattern[str]
    without: Callable[[JsonObject], JsonObject]
    places: tuple[str, ...] = ("messages",)


def _without_name(message: JsonObject) -> JsonObject:
    kept = message.get("role") == "function"  # there it is the function's
    return message if kept or "name" not in message else {k: v for k, v in message.items() if k != "name"}


def _without_marks(value: JsonObject) -> JsonObject:
    content = value.get("content")
    if MARK not in value and not (isinstance(content, list) and any(map(_is_marked, content))):
        return value
    kept = {k: v for k, v in value.items() if k != MARK}
    if isinstance(content, list):
        kept["content"] = [_without_marks(part) if isinstance(part, dict) else part for part in content]
    return kept


def _is_marked(part: JsonValue) -> bool:
    return isinstance(part, dict) and MARK in part


def _without_padding(options: JsonObject) -> JsonObject:
    name = "include_obfuscation"
    return {k: v for k, v in options.items() if k != name} if name in options else options


NESTED: Mapping[str, NestedHint] = {
    "messages.name": NestedHint(
        re.compile(r"property 'name' is unsupported|messages[.\[]\d+\]?(?:\.\w+)?\.name\b"), _without_name
    ),
    MARK: NestedHint(
        re.compile(r"cache_control|cachePoint|prompt caching", re.IGNORECASE), _without_marks, ("messages", "tools")
    ),
    "stream_options.include_obfuscation": NestedHint(
        re.compile(r"include_obfuscation"), _without_padding, ("stream_options",)
    ),
}


def has_nested(body: JsonObject, name: str) -> bool:
    """Return whether the request has this hint anywhere."""
    hint = NESTED[name]
    found = (one for place in hint.places for one in _things(body.get(place)) if isinstance(one, dict))
    return any(hint.without(one) is not one for one in found)


def _things(value: JsonValue) -> list[JsonValue]:
    """Return the messages or the tools of a field, or its one object."""
    return value if isinstance(value, list) else [value]


def without_nested(body: JsonObject, name: str) -> JsonObject:
    """Return the request without this hint; the same object if it has none."""
    hint, changed = NESTED[name], dict[str, JsonValue]()
    for place in hint.places:
        given = body.get(place)
        things = _things(given)
        kept = [hint.without(one) if isinstance(one, dict) else one for one in things]
        if any(now is not was for now, was in zip(kept, things, strict=True)):
            changed[place] = kept if isinstance(given, list) else kept[0]
    return {**body, **changed} if changed else body
