"""How many parts a request may have: what each of them costs is work for which all others wait. Pure."""

from collections.abc import Mapping, Sequence

from deployments.openai_api.json_types import JsonObject, JsonValue

MOST_MESSAGES = 4096  # OpenAI itself takes 2,048
MOST_TOOLS = 1024  # OpenAI itself takes 128
MOST_PARTS = 8192  # of contents, and calls of tools, in all messages
MOST_FIELDS = 256  # of the request
MOST_MESSAGE_FIELDS = 32_768  # of all messages
_LISTS: Mapping[str, int] = {"messages": MOST_MESSAGES, "tools": MOST_TOOLS, "functions": MOST_TOOLS}


_TOO_MANY = "it has {} {}, and at most {} are allowed"


def too_many(body: JsonObject) -> tuple[str | None, str] | None:
    """Return the field that is too long, and why; None if none is. A field of None is the request as a whole."""
    if len(body) > MOST_FIELDS:
        return None, _TOO_MANY.format(len(body), "fields", MOST_FIELDS)
    for name, most in _LISTS.items():
        if _length(body.get(name)) > most:
            return name, _TOO_MANY.format(len(body[name]), "elements", most)
    messages = body.get("messages")
    return _too_many_in(messages) if isinstance(messages, list) else None


def _too_many_in(messages: Sequence[JsonValue]) -> tuple[str, str] | None:
    parts = fields = 0
    for message in messages:
        if isinstance(message, dict):
            fields += len(message)
            parts += _length(message.get("content")) + _length(message.get("tool_calls"))
    if fields > MOST_MESSAGE_FIELDS:
        return "messages", _TOO_MANY.format(fields, "fields", MOST_MESSAGE_FIELDS)
    if parts > MOST_PARTS:
        return "messages", _TOO_MANY.format(parts, "parts and calls of tools", MOST_PARTS)
    return None


def _length(value: JsonValue) -> int:
    return len(value) if isinstance(value, list) else 0
