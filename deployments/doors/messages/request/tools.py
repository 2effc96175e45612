"""The tools of a request and the choice among them, as a chat says it. Pure.

Anthropic has three sorts of tools. A client's own are functions, with or without a type. A client also runs those that
Anthropic's models know by heart (`bash_20250124`): no other model knows their arguments, so they are demanded. Those
that Anthropic's servers run are left out and named, unless one is chosen.
"""

from dataclasses import dataclass, field

from deployments.doors.messages.request.blocks import demand, refuse
from deployments.doors.messages.request.shapes import TOOL, check
from deployments.openai_api.cache_marks import mark_in
from deployments.openai_api.found import MARK, Found, name_unknown, says_something
from deployments.openai_api.json_types import JsonDict, JsonObject, JsonValue

_FIELDS = frozenset({"type", "name", "description", "input_schema", "strict", "allowed_callers", MARK})
# Anthropic, Tool use overview, "Client tools": bash, text editor, computer, browser, memory.
_RUN_BY_CLIENTS = ("bash_", "text_editor_", "memory_", "computer_", "browser_")


@dataclass(slots=True)
class Tools:
    """The functions that a request offers, with the client's path of each, and the names of its other tools.

    `gone` are those that Anthropic's servers run, and `known` those that its models know.
    """

    functions: list[JsonDict] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    gone: set[str] = field(default_factory=set)
    known: set[str] = field(default_factory=set)

    @property
    def names(self) -> set[str]:
        return {tool["function"]["name"] for tool in self.functions}


def tools_of(given: JsonValue, found: Found) -> Tools:
    """Return the tools as functions. Raises BadRequest for one that is none."""
    tools = Tools()
    for at, tool in enumerate(given or ()):
        path, kind = f"tools.{at}", tool.get("type")
        if kind in (None, "custom"):
            tools.functions.append(_function(tool, path, found))
            tools.paths.append(path)
        elif kind.startswith(_RUN_BY_CLIENTS):
            why = f"only Anthropic's own models know {kind}: describe it as a tool with an input_schema"
            demand(f"{path}.type", why, found)
            tools.known.add(str(tool.get("name")))
        else:
            tools.gone.add(str(tool.get("name")))
            found.dropped.append(path)
    return tools


def _function(tool: JsonDict, path: str, found: Found) -> JsonDict:
    check(TOOL, tool, path)
    name_unknown(tool, _FIELDS, path, found)
    if tool.get("allowed_callers", ["direct"]) != ["direct"] and says_something(tool["allowed_callers"]):
        found.dropped.append(f"{path}.allowed_callers")
    function: JsonDict = {"name": tool["name"], "parameters": tool["input_schema"]}
    function |= {name: tool[name] for name in ("description", "strict") if tool.get(name)}
    made: JsonDict = {"type": "function", "function": function}
    mark = mark_in(tool)
    return made if mark is None else {**made, MARK: mark}


_CHOICES = {"auto": "auto", "any": "required", "none": "none"}
_CHOICE = frozenset({"type", "name", "disable_parallel_tool_use"})


def choice_of(choice: JsonObject | None, tools: Tools, found: Found) -> JsonDict:
    """Return the chat's fields for a choice. Raises BadRequest for the choice of a tool that is not offered."""
    if choice is None:
        return {}
    name_unknown(choice, _CHOICE, "tool_choice", found)
    made: JsonDict = {}
    if choice["type"] == "tool":
        if (name := _chosen(choice.get("name"), tools, found)) is not None:
            made["tool_choice"] = {"type": "function", "function": {"name": name}}
    elif tools.functions:
        made["tool_choice"] = _CHOICES[choice["type"]]
    elif choice["type"] == "any":
        why = "it demands a tool, and the request offers none that can be called here"
        if not (tools.gone or tools.known):
            raise refuse("tool_choice", why)
        demand("tool_choice", why, found)
    if choice.get("disable_parallel_tool_use") and tools.functions:
        made["parallel_tool_calls"] = False
    return made


def _chosen(name: JsonValue, tools: Tools, found: Found) -> str | None:
    """Return the name of a function; None for another tool of the request, which no chat can choose."""
    if name in tools.gone:
        demand("tool_choice.name", f"{name} is run by Anthropic's servers, and can't be called here", found)
    if name in tools.gone or name in tools.known:
        return None
    if not isinstance(name, str) or name not in tools.names:
        raise refuse("tool_choice.name", "it must be the name of a tool that the request offers")
    return name
