"""Which tools the model may or must call, as a chat completion says it. Pure."""

from deployments.doors.responses.request.tools import Kind, Tool, ToolTable
from deployments.errors import BadRequest
from deployments.openai_api.json_types import JsonDict, JsonObject, JsonValue

_CHOICE = frozenset({"type", "name", "namespace", "mode", "tools"})


def choice_of(choice: JsonValue, table: ToolTable, *, offers: bool) -> JsonValue:
    """Return `tool_choice`; None if nothing is to be said. Raises BadRequest if nobody can keep it.

    What only a server that runs its own tools can keep is in the table's `demands`. `offers`: whether any tool is left
    that can be called.
    """
    if isinstance(choice, dict):
        table.name_rest(choice, _CHOICE, "tool_choice")
        return _allowed(choice, table) if choice["type"] == "allowed_tools" else _one(choice, table)
    if choice == "required" and not offers:
        why = "'tool_choice' demands a call, but no tool is offered that can be called."
        if not table.hosted:
            raise BadRequest(why, "tool_choice")
        table.demands["tool_choice"] = why
    return choice if offers else None


def _one(choice: JsonObject, table: ToolTable) -> JsonDict | None:
    name = _name(choice, table)
    if name is None and choice["type"] in ("function", "custom"):
        raise BadRequest(f"'tool_choice' names {choice.get('name')!r}, which no tool is called.", "tool_choice.name")
    if name is None:
        table.demands["tool_choice"] = f"'tool_choice' demands {choice['type']!r}, and nobody runs that tool here."
        return None
    return _called(name)


def _allowed(choice: JsonObject, table: ToolTable) -> JsonValue:
    """Return the allowed functions. Those that can't be called are named."""
    names: dict[str, None] = {}
    for at, tool in enumerate(choice.get("tools") or ()):
        found = table.in_namespace(tool.get("name") or "") if tool["type"] == "namespace" else [_name(tool, table)]
        names |= dict.fromkeys(name for name in found if name is not None)
        if not any(found):
            table.dropped.append(f"tool_choice.tools.{at}")
    mode = choice.get("mode") or "auto"
    if not names and mode == "required":
        why = "'tool_choice' demands one of its tools, and none of them can be called here."
        table.demands["tool_choice.tools"] = why
    if not names:
        return "none"
    return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": [_called(name) for name in names]}}


def _name(tool: JsonObject, table: ToolTable) -> str | None:
    kinds: dict[str, Kind] = {"function": "function", "custom": "custom"}
    if (kind := kinds.get(tool["type"])) is None or not tool.get("name"):
        return None
    return table.offered(Tool(kind, tool["name"], tool.get("namespace")))


def _called(name: str) -> JsonDict:
    return {"type": "function", "function": {"name": name}}
