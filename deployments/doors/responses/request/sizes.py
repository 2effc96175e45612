"""How many parts a request may have, before anything in it is looked at. Pure.

A chat completion's own bounds hold for what is made of it (`openai_api/sizes.py`). To come so far costs work too, for
which all others wait, and there is more in a request of this API than comes there.
"""

from collections.abc import Iterable, Sequence

from deployments.errors import BadRequest
from deployments.openai_api.json_types import JsonObject, JsonValue
from deployments.openai_api.sizes import MOST_FIELDS, MOST_MESSAGE_FIELDS, MOST_MESSAGES, MOST_PARTS, MOST_TOOLS

_MOST_ITEMS = MOST_MESSAGES + MOST_PARTS  # each is a message, a part of one, or nothing
_LISTS = ("content", "output", "summary")


def check_sizes(body: JsonObject) -> None:
    """Raise BadRequest for the first thing that has too many parts."""
    _check(None, len(body), "fields", MOST_FIELDS)
    tools = _list(body.get("tools"))
    _check("tools", _tools_in(tools), "elements", MOST_TOOLS)
    given = _list(body.get("input"))
    _check("input", len(given), "elements", _MOST_ITEMS)
    items = [item for item in given if isinstance(item, dict)]
    _check("input", sum(map(len, items)), "fields", _MOST_ITEMS + MOST_MESSAGE_FIELDS)
    _check("input", sum(len(_list(item.get(name))) for item in items for name in _LISTS), "parts", _MOST_ITEMS)
    offered = sum(_tools_in(_list(item["tools"])) for item in items if "tools" in item)
    _check("input", offered, "tools", _MOST_ITEMS)  # each turn of a history may offer them again


def _tools_in(tools: Iterable[JsonValue]) -> int:
    """Return how many tools there are, with those of namespaces."""
    return sum(1 + len(_list(tool.get("tools")) if isinstance(tool, dict) else ()) for tool in tools)


def _list(value: JsonValue) -> Sequence[JsonValue]:
    return value if isinstance(value, list) else ()


def _check(field: str | None, count: int, what: str, most: int) -> None:
    if count > most:
        message = (
            f"Invalid {repr(field) if field else 'request'}: it has {count} {what}, and at most {most} are allowed."
        )
        raise BadRequest(message, field, "array_above_max_length")
