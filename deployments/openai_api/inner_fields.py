"""The fields inside a request's tools, choices and formats that a kind of provider does not carry. Pure.

`capabilities.py` judges a field of the request as a whole. What stands inside a field that is carried is a hint: it is
named by its path, and left out. It is on the hot path, so a thing of the usual shape costs one comparison.
"""

from deployments.openai_api.found import MARK, Found, Mark, name_unknown
from deployments.openai_api.json_types import JsonObject, JsonValue

WITH_INNER = frozenset({"tools", "tool_choice", "response_format", "stream_options"})


def check_inner(body: JsonObject, schema_fields: frozenset[str], found: Found) -> None:
    """Name what stands in these fields and is not carried. `schema_fields` are those of a JSON schema's holder."""
    if tools := body.get("tools"):
        _check_tools(tools, body.get("tool_choice") == "none", found)
    if isinstance(choice := body.get("tool_choice"), dict):
        _check_choice(choice, found)
    if isinstance(wanted := body.get("response_format"), dict):
        name_unknown(wanted, _FORMAT, "response_format", found)
        name_unknown(wanted.get("json_schema"), schema_fields, "response_format.json_schema", found)
    # Frames are never padded here, so the wish for that is the one that can't be met.
    name_unknown(body.get("stream_options"), _STREAM, "stream_options", found)


_STREAM = frozenset({"include_usage"})
_FORMAT = frozenset({"type", "json_schema"})
_TOOL = frozenset({"type", "function"})
_FUNCTION = frozenset({"name", "description", "parameters", "strict"})
_CHOICE = frozenset({"type", "function", "allowed_tools"})
_NAME = frozenset({"name"})
_ALLOWED = frozenset({"mode", "tools"})


def _check_tools(tools: JsonValue, none_offered: bool, found: Found) -> None:
    for at, tool in enumerate(tools if isinstance(tools, list) else ()):
        if not isinstance(tool, dict):
            continue
        function = tool.get("function")
        if len(tool) == 2 and isinstance(function, dict) and "type" in tool and function.keys() <= _FUNCTION:
            continue
        for thing, known, path in ((tool, _TOOL, f"tools.{at}"), (function, _FUNCTION, f"tools.{at}.function")):
            if isinstance(thing, dict):
                if (mark := thing.get(MARK)) is not None:
                    place = "nothing" if none_offered else "tool"
                    found.marks.append(Mark(f"{path}.{MARK}", place, False, mark))
                name_unknown(thing, known | {MARK}, path, found)


def _check_choice(choice: JsonObject, found: Found) -> None:
    name_unknown(choice, _CHOICE, "tool_choice", found)
    name_unknown(choice.get("function"), _NAME, "tool_choice.function", found)
    allowed = choice.get("allowed_tools")
    name_unknown(allowed, _ALLOWED, "tool_choice.allowed_tools", found)
    tools = allowed.get("tools") if isinstance(allowed, dict) else None
    for at, tool in enumerate(tools if isinstance(tools, list) else ()):
        path = f"tool_choice.allowed_tools.tools.{at}"
        name_unknown(tool, _TOOL, path, found)
        if isinstance(tool, dict):
            name_unknown(tool.get("function"), _NAME, f"{path}.function", found)
