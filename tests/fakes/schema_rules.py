"""What vendors refuse in a JSON schema, one checker a vendor. Each returns the place and the reason, or None.

They are written from the vendors' documents and from reports, not from what we send.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

Schema = Mapping[str, Any]
Checker = Callable[[Schema], str | None]

_LISTS = ("anyOf", "oneOf", "allOf", "prefixItems")
_MAPS = ("properties", "$defs", "definitions", "patternProperties")
_ONES = ("items", "additionalProperties", "not", "if", "then", "else", "contains", "propertyNames")
_UNIONS = ("anyOf", "oneOf", "allOf")


def places_of(schema: Any, path: str = "#") -> Iterator[tuple[str, Any]]:
    """Yield each schema inside a schema with its place. Unlike a walk over all values, it knows names from keywords."""
    yield path, schema
    if not isinstance(schema, Mapping):
        return
    for keyword in _LISTS:
        for at, inner in enumerate(schema.get(keyword, ())):
            yield from places_of(inner, f"{path}/{keyword}/{at}")
    for keyword in _MAPS:
        for name, inner in schema.get(keyword, {}).items():
            yield from places_of(inner, f"{path}/{keyword}/{name}")
    for keyword in _ONES:
        if keyword in schema and not (keyword == "additionalProperties" and schema[keyword] is False):
            yield from places_of(schema[keyword], f"{path}/{keyword}")


def _first(schema: Schema, rules: tuple[Callable[[Any], str | None], ...]) -> str | None:
    for path, place in places_of(schema):
        for rule in rules:
            if why := rule(place):
                return f"{path}: {why}"
    return None


def _outside(schema: Any, known: frozenset[str]) -> str | None:
    outside = sorted(schema.keys() - known) if isinstance(schema, Mapping) else []
    return f"{', '.join(outside)} not supported" if outside else None


def _loops(schema: Schema) -> bool:
    """Does a definition lead back to itself?"""
    leads = {
        f"#/$defs/{name}": {at["$ref"] for _, at in places_of(inner) if isinstance(at, Mapping) and "$ref" in at}
        for name, inner in schema.get("$defs", {}).items()
    }
    for start in leads:
        seen: set[str] = set()
        waiting = [start]
        while waiting:
            for target in leads.get(waiting.pop(), set()) - seen:
                seen.add(target)
                waiting.append(target)
        if start in seen or "#" in seen:
            return True
    return any(at.get("$ref") == "#" for _, at in places_of(schema) if isinstance(at, Mapping))


# Anthropic, page "Structured outputs", JSON Schema limitations; AWS, "Get validated JSON results from models".
_CLAUDE = frozenset(
    {
        *("type", "enum", "const", "anyOf", "allOf", "$ref", "$defs", "definitions", "default", "title", "description"),
        *("required", "additionalProperties", "properties", "items", "minItems", "pattern", "format"),
    }
)
_CLAUDE_FORMATS = ("date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid")


def _claude_place(schema: Any) -> str | None:
    if not isinstance(schema, Mapping):
        return "a schema must be an object"
    if why := _outside(schema, _CLAUDE):
        return why
    types = schema.get("type", ())
    if (types == "object" or "object" in types) and schema.get("additionalProperties") is not False:
        return "additionalProperties must be false"  # future-agi/future-agi#412
    if not {"type", "anyOf", "allOf", "$ref", "enum", "const"} & schema.keys():
        return "no type"  # anthropic (PyPI), lib/_parse/_transform.py
    if schema.get("minItems", 0) > 1:
        return "minItems may be 0 or 1"
    if schema.get("format", "date") not in _CLAUDE_FORMATS:
        return "unknown format"
    if any(isinstance(value, dict | list) for value in schema.get("enum", ())):
        return "an enum of objects or lists"
    pattern = schema.get("pattern", "")
    if any(sign in pattern for sign in ("(?=", "(?!", "(?<", "\\b", "\\B", "\\1")):
        return "assertions and references back in a pattern"
    reference = schema.get("$ref", "#/")
    return None if reference.startswith("#/") else "an external $ref"


def claude_output(schema: Schema) -> str | None:
    """Check an answer's schema for Claude."""
    if why := _first(schema, (_claude_place,)):
        return why
    return "recursive schemas are not supported" if _loops(schema) else None


def claude_strict_tool(schema: Schema) -> str | None:
    """Check a strict tool's schema for Claude."""
    return tool_top(schema) or claude_output(schema)


def tool_top(schema: Schema) -> str | None:
    """Check the top of a tool's schema: AWS, `ToolInputSchema`; anthropics/claude-code#5973."""
    if schema.get("type") != "object":
        return "type must be one of the following: object"
    unions = [keyword for keyword in _UNIONS if keyword in schema]
    return f"{unions[0]} at the top level" if unions else None


def nova_tool(schema: Schema) -> str | None:
    """Check a tool's schema for Nova: user guide "Defining a tool", only type, properties and required at the top."""
    return tool_top(schema) or _outside(schema, frozenset({"type", "properties", "required"}))


# Google, API reference, `GenerationConfig.responseJsonSchema`.
_GEMINI = frozenset(
    {
        *("$id", "$defs", "$ref", "$anchor", "type", "format", "title", "description", "enum", "items", "prefixItems"),
        *("minItems", "maxItems", "minimum", "maximum", "anyOf", "oneOf", "properties", "additionalProperties"),
        *("required", "propertyOrdering"),
    }
)


def _gemini_place(schema: Any) -> str | None:
    if not isinstance(schema, Mapping):
        return None  # additionalProperties may be true or false
    if why := _outside(schema, _GEMINI):
        return why
    if "$ref" in schema and any(not name.startswith("$") for name in schema):
        return "no other properties, except those starting as a $, may be set"
    if not all(
        isinstance(value, str | int | float) and not isinstance(value, bool) for value in schema.get("enum", ())
    ):
        return "an enum of other than strings and numbers"
    if schema.get("type") == "array" and not {"items", "prefixItems"} & schema.keys():
        return "items: missing field"  # NousResearch/hermes-agent#71804
    return None


def gemini(schema: Schema) -> str | None:
    """Check an answer's or a function's schema for Gemini."""
    return _first(schema, (_gemini_place,))


# OpenAI, page "Structured outputs", supported schemas.
_OPENAI = frozenset(
    {
        *("type", "enum", "const", "anyOf", "$ref", "$defs", "title", "description", "properties", "required"),
        *("additionalProperties", "items", "minItems", "maxItems", "pattern", "format", "multipleOf"),
        *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"),
    }
)


def _openai_place(schema: Any) -> str | None:
    if not isinstance(schema, Mapping):
        return "a schema must be an object"
    if why := _outside(schema, _OPENAI):
        return why
    if "$ref" in schema and len(schema) > 1:
        return "$ref cannot have keywords beside it"
    if schema.get("type") == "object":
        if schema.get("additionalProperties") is not False:
            return "'additionalProperties' is required to be supplied and to be false"
        if set(schema.get("required", ())) != set(schema.get("properties", {})):
            return "'required' is required to be supplied and to be an array including every key in properties"
    if schema.get("type") == "array" and "items" not in schema:
        return "array schema missing items"
    return None if {"type", "anyOf", "$ref"} & schema.keys() else "schema must have a 'type' key"


def openai_strict(schema: Schema) -> str | None:
    """Check a schema for a server that holds `strict` to OpenAI's subset."""
    return tool_top(schema) or _first(schema, (_openai_place,))
