"""Tools for a model that was never taught any: what is offered, how it chooses, how it is held to it.

Pure. The engine makes no tool calls of its own, so a call is two questions. First a choice of one
word, under a grammar of the tools' names and "none"; then the arguments, under the tool's own
schema. Asked at once, in one grammar, the bundled model always talks or always calls; asked first,
after examples made of the tools' descriptions, it chose right in 33 of 44 questions, and called
nothing where nothing was to be called.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

from deployments.errors import AttemptFailed, failed
from deployments.openai_api.json_types import JsonDict, JsonObject
from deployments.providers.local.prompt import text_of_message

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_DECLINED = "none"
_SMALL_TALK = ("Hello!", "What is the capital of Spain?")  # examples of what needs no tool
# Characters, and tools: the choice is read in a second, however long the chat, and in five at most.
_EXAMPLE, _EXAMPLES, _QUESTION, _MOST = 80, 1200, 500, 32
# A grammar can't tell whether two branches match at once, so "one of" is "any of".
_WRITTEN = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": ", "coerce_one_of": True}


@dataclass(frozen=True, slots=True)
class Tool:
    name: str
    description: str
    parameters: JsonObject
    param: str  # where its schema stands in the request
    strict: bool = False  # its client wants no other arguments than its schema's


@dataclass(frozen=True, slots=True)
class Choice:
    """What the model may call. With no tools it answers in text."""

    tools: tuple[Tool, ...] = ()
    may_decline: bool = True

    @property
    def is_open(self) -> bool:
        """Must the model be asked?"""
        return len(self.tools) > (0 if self.may_decline else 1)

    @property
    def settled(self) -> Tool | None:
        """The only tool there is, when it must be called."""
        return self.tools[0] if self.tools and not self.is_open else None

    def request(self, messages: Sequence[JsonObject]) -> JsonDict:
        """The question of one word, as a bare completion: a small model continues a list better than it obeys."""
        shots = [(talk, _DECLINED) for talk in _SMALL_TALK if self.may_decline]
        shots += [(tool.description, tool.name) for tool in self.tools]
        asked = next((text_of_message(m) for m in reversed(messages) if m["role"] == "user"), "")
        length = min(_EXAMPLE, _EXAMPLES // len(shots))
        lines = [f"Message: {_line(text, length)}\nTool: {name}\n\n" for text, name in shots]
        names = [*(tool.name for tool in self.tools), *([_DECLINED] if self.may_decline else [])]
        return {
            "prompt": f"{''.join(lines)}Message: {_line(asked, _QUESTION)}\nTool:",
            "grammar": "root ::= " + " | ".join(f'" {name}"' for name in names),
            "temperature": 0.0,
            "max_tokens": 64,
        }

    def find(self, word: str) -> Tool | None:
        return next((tool for tool in self.tools if tool.name == word.strip()), None)


def choice_of(body: JsonObject) -> Choice:
    """Return the choice that `tools` and `tool_choice` leave to the model. Raises `bad_request` or `unsupported`."""
    choice = _left_open(_tools_of(body), body)
    if choice.is_open and len(choice.tools) > _MOST:
        raise failed("unsupported", f"The local model can't choose among more than {_MOST} tools.", param="tools")
    return choice


def _left_open(tools: list[Tool], body: JsonObject) -> Choice:
    choice = body.get("tool_choice")
    if isinstance(choice, Mapping) and choice.get("type") == "allowed_tools":
        allowed = choice.get("allowed_tools") or {}
        names = [(tool.get("function") or {}).get("name") for tool in allowed.get("tools") or []]
        tools, choice = [_named(tools, name) for name in names], allowed.get("mode")
    if isinstance(choice, Mapping):
        return Choice((_named(tools, (choice.get("function") or {}).get("name")),), may_decline=False)
    if choice == "required":
        if not tools:
            raise _bad("'tool_choice' is only allowed when 'tools' are given.", "tool_choice")
        return Choice(tuple(tools), may_decline=False)
    if choice == "none":
        return Choice()
    if choice not in (None, "auto"):
        raise _bad("Invalid 'tool_choice'.", "tool_choice")
    # A small model would call the same tool until its caller gives up: what was answered is answered.
    called = _called(body["messages"])
    return Choice(tuple(tool for tool in tools if tool.name not in called))


def grammar_of(schema: JsonObject, start: str = "", *, lenient: bool = False) -> str:
    """Return a grammar of the engine that admits the JSON values of a schema, after the word `start`.

    `lenient`: keywords that the engine can't hold are left out (`propertyNames`, `uniqueItems`, an unknown `format`).
    """
    rule = f"{json.dumps(start)} value" if start else "value"
    options = {**_WRITTEN, "lenient": True} if lenient else _WRITTEN
    held = json.dumps({**_bounded(schema), "x-guidance": options})
    return f"%llguidance {{}}\nstart: {rule}\nvalue: %json {held}"


_PLAIN = re.compile(r"[\w<>]|[^\x00-\x7f]")


def beginning_with(text: str) -> str:
    """Return a grammar of the engine that admits whatever begins with a text."""
    escaped = "".join(sign if _PLAIN.match(sign) or sign.isspace() else f"\\{sign}" for sign in text)
    escaped = escaped.replace("\n", "\\n").replace("\r", "\\r").replace("\t", "\\t")
    return f"%llguidance {{}}\nstart: /{escaped}(?s:.*)/\n"


_LARGEST = 2**53 - 1  # that every JSON reader keeps exactly
_LITERAL = frozenset({"const", "enum", "default", "examples"})


def _bounded(schema: Any) -> Any:
    """The schema with an end to its integers: a small model that may go on writing digits does."""
    if isinstance(schema, list):
        return [_bounded(part) for part in schema]
    if not isinstance(schema, Mapping):
        return schema
    made = {name: part if name in _LITERAL else _bounded(part) for name, part in schema.items()}
    kinds = made.get("type")
    if kinds == "integer" or (isinstance(kinds, list) and "integer" in kinds):
        if not {"minimum", "exclusiveMinimum"} & made.keys():
            made["minimum"] = -_LARGEST
        if not {"maximum", "exclusiveMaximum"} & made.keys():
            made["maximum"] = _LARGEST
    return made


def _tools_of(body: JsonObject) -> list[Tool]:
    tools = body.get("tools") or []
    if not isinstance(tools, list):
        raise _bad("Invalid 'tools': must be an array.", "tools")
    return [_tool(tool, f"tools.{index}") for index, tool in enumerate(tools)]


def _tool(tool: Any, param: str) -> Tool:
    if not isinstance(tool, Mapping) or tool.get("type") != "function":
        raise failed("unsupported", f"The local model can't take '{param}.type'.", param=f"{param}.type")
    function = tool.get("function")
    if not isinstance(function, Mapping) or not _is_name(name := function.get("name")):
        raise _bad(f"Invalid '{param}.function.name'.", f"{param}.function.name")
    schema = function.get("parameters") or {}
    if not isinstance(schema, Mapping):
        raise _bad(f"Invalid '{param}.function.parameters': must be an object.", f"{param}.function.parameters")
    # A small model would fill an open object with inventions.
    closed = {"additionalProperties": False} if schema.get("properties") or not schema else {}
    description = str(function.get("description") or name.replace("_", " "))
    parameters = {"type": "object", **closed, **schema}
    return Tool(name, description, parameters, f"{param}.function.parameters", function.get("strict") is True)


def _is_name(name: Any) -> TypeGuard[str]:
    return isinstance(name, str) and _NAME.fullmatch(name) is not None


def _named(tools: Sequence[Tool], name: Any) -> Tool:
    for tool in tools:
        if tool.name == name:
            return tool
    raise _bad(f"'tool_choice' names '{name}', which is not in 'tools'.", "tool_choice")


def _called(messages: Sequence[JsonObject]) -> set[str]:
    """The tools that were called since the user last spoke."""
    names: set[str] = set()
    for message in reversed(messages):
        if message["role"] == "user":
            break
        names |= {str((call.get("function") or {}).get("name")) for call in message.get("tool_calls") or []}
    return names


def _line(text: str, limit: int) -> str:
    return " ".join(text.split())[:limit]


def _bad(message: str, param: str) -> AttemptFailed:
    return failed("bad_request", message, status=400, code="invalid_value", param=param)
