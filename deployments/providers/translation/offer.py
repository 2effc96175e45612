"""Which tools a request offers to a model, and which of them must be called. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from deployments.errors import AttemptFailed, failed
from deployments.openai_api.cache_marks import mark_in
from deployments.openai_api.json_types import JsonObject, JsonValue
from deployments.providers.translation.conversation import CachePoint

_NOTHING: JsonObject = {}


@dataclass(frozen=True, slots=True)
class Offer:
    functions: Sequence[JsonObject] = ()
    choice: str = "auto"  # auto | required | none
    only: str | None = None  # the one function that must be called
    points: Mapping[str, CachePoint] = field(default_factory=dict)  # by the name of the function

    @property
    def strict(self) -> bool:
        return any(function.get("strict") for function in self.functions)


NO_OFFER = Offer(choice="none")


def offer_of(body: JsonObject) -> Offer:
    """Return the tools that a request offers, and which of them it requires. Raises `bad_request` naming the field."""
    tools, choice = body.get("tools"), body.get("tool_choice")
    if not tools:
        if choice not in (None, "none", "auto"):
            raise _bad("'tool_choice' needs 'tools'.", "tool_choice")
        return NO_OFFER
    functions = [_function(tool) for tool in tools]
    if not all(isinstance(f.get("name"), str) and f["name"] for f in functions):
        raise _bad("Each tool needs a function with a name.", "tools")
    if not all(isinstance(f.get("parameters") or {}, dict) for f in functions):
        raise _bad("The 'parameters' of a function are a JSON schema, which is an object.", "tools")
    points = {
        function["name"]: CachePoint(mark)
        for tool, function in zip(tools, functions, strict=True)
        if (mark := mark_in(tool) or mark_in(function)) is not None
    }
    if not choice or not isinstance(choice, dict):
        return Offer(functions, choice or "auto", points=points)
    if choice["type"] == "function":
        return Offer(functions, "required", _offered(choice["function"].get("name"), functions), points)
    allowed = choice["allowed_tools"]
    named = [_function(tool).get("name") for tool in allowed.get("tools") or ()]
    kept = [f for f in functions if f["name"] in named]
    if not kept:
        raise _bad("'tool_choice' allows no function that 'tools' offers.", "tool_choice")
    return Offer(kept, "required" if allowed.get("mode") == "required" else "auto", points=points)


def _function(tool: JsonObject) -> JsonObject:
    function = tool.get("function")
    return function if isinstance(function, dict) else _NOTHING


def _offered(name: JsonValue, functions: Sequence[JsonObject]) -> str:
    if any(f["name"] == name for f in functions):
        return str(name)
    raise _bad(f"'tool_choice' names the function {name!r}, which 'tools' does not offer.", "tool_choice")


def call_limit(body: JsonObject) -> int | None:
    """Return how many tool calls an answer may hold; None for any number.

    Neither Converse nor Gemini has a parameter for it, so the codec of the answer keeps the limit.
    """
    if not body.get("tools") or body.get("tool_choice") == "none":
        return 0
    return 1 if body.get("parallel_tool_calls") is False else None


def _bad(message: str, param: str) -> AttemptFailed:
    return failed("bad_request", message, status=400, param=param)
