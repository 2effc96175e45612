"""The tools of a request as functions of a chat completion, and their calls back in the client's words. Pure.

A chat completion has functions with one name. So a function of a namespace is called `namespace__name`, and a custom
tool, whose input is a bare text, becomes a function with one string. Its grammar is told to the model, but nobody
enforces it. The table of a request translates the calls of its history too, and those of its answer.

A tool that the server would run itself (`web_search`, `tool_search`, ...) is left out and named: nobody runs it here.
"""

import hashlib
import re
from collections.abc import Container, Sequence
from dataclasses import dataclass, field
from typing import Literal

from deployments.openai_api.found import says_something
from deployments.openai_api.json_types import JsonDict, JsonObject, JsonValue

Kind = Literal["function", "custom"]
INPUT = "input"  # the one argument of a custom tool
_BARE: JsonObject = {
    "type": "object",
    "properties": {INPUT: {"type": "string"}},
    "required": [INPUT],
    "additionalProperties": False,
}
# OpenAI, API reference, function name.
_LEGAL, _ILLEGAL = re.compile(r"[a-zA-Z0-9_-]{1,64}"), re.compile(r"[^a-zA-Z0-9_-]")
_LONGEST, _HASH = 64, 8
_FUNCTION = frozenset({"type", "name", "description", "parameters", "strict"})
_CUSTOM = frozenset({"type", "name", "description", "format"})
_NAMESPACE = frozenset({"type", "name", "description", "tools"})


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool as its client names it."""

    kind: Kind
    name: str
    namespace: str | None = None


@dataclass(frozen=True, slots=True)
class _Declared:
    """`about` is what the client says of its namespace, if it is the first one in there."""

    definition: JsonObject
    path: str
    about: str = ""


@dataclass(slots=True)
class ToolTable:
    """The tools of one request, by the client's names and by those of the chat completion."""

    dropped: list[str] = field(default_factory=list)
    demands: dict[str, str] = field(default_factory=dict)  # what nobody can do here, with the sentence that refuses it
    hosted: bool = False  # whether there are tools that a server runs itself
    _declared: dict[Tool, _Declared] = field(default_factory=dict)
    _chat_names: dict[Tool, str] = field(default_factory=dict)
    _by_chat_name: dict[str, Tool] = field(default_factory=dict)

    def declare(self, tools: Sequence[JsonObject], path: str) -> None:
        """Add tools. One that is there already is replaced by its newer self."""
        for at, tool in enumerate(tools):
            if tool["type"] == "namespace":
                self._declare_namespace(tool, f"{path}.{at}")
            else:
                self._declare(tool, f"{path}.{at}", None, "")

    def _declare_namespace(self, namespace: JsonObject, path: str) -> None:
        self.name_rest(namespace, _NAMESPACE, path)
        name, about = namespace["name"], namespace.get("description") or ""
        if about and not namespace["tools"]:
            self.dropped.append(path)
        for at, tool in enumerate(namespace["tools"]):
            self._declare(tool, f"{path}.tools.{at}", name, "" if at else about)

    def _declare(self, definition: JsonObject, path: str, namespace: str | None, about: str) -> None:
        if (kind := definition["type"]) not in ("function", "custom"):
            self.dropped.append(path)
            self.hosted = True
            return
        self.name_rest(definition, _FUNCTION if kind == "function" else _CUSTOM, path)
        if kind == "custom" and _grammar(definition):
            self.dropped.append(f"{path}.format")
        tool = Tool(kind, definition["name"], namespace)
        before = self._declared.get(tool)
        if before is not None and before.definition != definition:
            self.dropped.append(before.path)
        self._declared[tool] = _Declared(definition, path, about)

    def name_rest(self, thing: JsonObject, known: frozenset[str], path: str) -> None:
        """Name what a thing says beside its known fields."""
        if not thing.keys() <= known:
            rest = (name for name, value in thing.items() if name not in known and says_something(value))
            self.dropped += [f"{path}.{name}" for name in rest]

    def settle(self) -> tuple[list[JsonDict], list[str]]:
        """Return the functions and where each of them stands. No tool can be added any more.

        Plain functions keep their names, whatever they are: a provider's adapter knows what its vendor takes.
        """
        plain = [tool for tool in self._declared if tool == Tool("function", tool.name)]
        for tool in (*plain, *self._declared):
            if tool not in self._chat_names:
                name = chat_name(tool, self._by_chat_name)
                self._chat_names[tool], self._by_chat_name[name] = name, tool
        functions = [_function(self._chat_names[tool], tool, declared) for tool, declared in self._declared.items()]
        return functions, [declared.path for declared in self._declared.values()]

    def name_of(self, tool: Tool) -> str:
        """Return the chat completion's name of a tool, also of one that is not offered any more."""
        return self.offered(tool) or chat_name(tool, ())

    def offered(self, tool: Tool) -> str | None:
        """Return the chat completion's name of a tool that is offered, whichever of both kinds it is."""
        other: Kind = "custom" if tool.kind == "function" else "function"
        return self._chat_names.get(tool) or self._chat_names.get(Tool(other, tool.name, tool.namespace))

    def in_namespace(self, namespace: str) -> list[str]:
        """Return the chat completion's names of all tools of a namespace."""
        return [name for tool, name in self._chat_names.items() if tool.namespace == namespace]

    def tool_of(self, name: str) -> Tool:
        """Return the tool that a model has called; a function for a name that nobody offered."""
        return self._by_chat_name.get(name) or Tool("function", name)


def chat_name(tool: Tool, taken: Container[str]) -> str:
    """Return a legal name that is not taken, the same each time: histories must stay true from turn to turn."""
    plain = tool.name if tool.namespace is None else f"{tool.namespace}__{tool.name}"
    if plain not in taken and (tool.namespace is None or _LEGAL.fullmatch(plain)):
        return plain
    start, salt = _ILLEGAL.sub("_", plain)[: _LONGEST - _HASH - 1], 0
    while (name := f"{start}_{_digest(tool, salt)}") in taken:
        salt += 1
    return name


def _digest(tool: Tool, salt: int) -> str:
    text = "\0".join((tool.kind, tool.namespace or "", tool.name, str(salt)))
    return hashlib.sha256(text.encode(errors="replace")).hexdigest()[:_HASH]


def _function(name: str, tool: Tool, declared: _Declared) -> JsonDict:
    function: JsonDict = {"name": name}
    if description := _description(tool, declared):
        function["description"] = description
    if tool.kind == "custom":
        function["parameters"] = _BARE
    elif (parameters := declared.definition.get("parameters")) is not None:
        function["parameters"] = parameters
    if declared.definition.get("strict") and tool.kind == "function":
        function["strict"] = True  # a chat completion's default is false
    return {"type": "function", "function": function}


def _description(tool: Tool, declared: _Declared) -> str:
    texts = [declared.definition.get("description") or ""]
    if declared.about:
        texts.append(f"About all tools of {tool.namespace}: {declared.about}")
    if tool.kind == "custom" and (grammar := _grammar(declared.definition)):
        texts.append(grammar)
    return "\n\n".join(filter(None, texts))


def _grammar(definition: JsonObject) -> str:
    """Return what a custom tool demands of its input, in words; empty if it demands nothing."""
    wanted: JsonValue = definition.get("format") or {}
    if wanted.get("type") in (None, "text"):
        return ""
    syntax, rules = wanted.get("syntax") or "", wanted.get("definition") or ""
    return f"`{INPUT}` must match this grammar ({syntax}):\n{rules}"
