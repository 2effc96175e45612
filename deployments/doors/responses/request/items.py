"""The items of `input` as the messages of a chat completion. Pure.

Calls and texts of the assistant that stand beside each other become one message. The results come right behind the
calls that they name, and what was said between a call and its result comes behind the results: other vendors want it
so (Anthropic, Handle tool calls; Google, Function calling). A result that is no text is told by the user behind them,
because OpenAI's own chat completions take only text there.

Our own reasoning comes back in its envelope, and goes to the step that it belongs to. Other reasoning is left out and
named: its vendor alone can read it. It never becomes a text that a model would take for what was said.

What a server of OpenAI has run by itself is left out and named, calls and their outputs alike: searches, shells,
patches, images, what MCP servers answered. So no call loses its output by it. A `compaction` is sealed for OpenAI, so
it is left out too. A reference to an item that is stored elsewhere is refused, because it would change the meaning of
the whole request. The wish for a compaction is one that only a server of OpenAI can meet.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from deployments.doors.envelope import absorb, unseal
from deployments.doors.responses.request.parts import PartReader, is_text, simplest
from deployments.doors.responses.request.schema import OFFERS, OUTPUTS, kind_of_item
from deployments.doors.responses.request.tools import INPUT, Tool, ToolTable
from deployments.errors import BadRequest
from deployments.openai_api.chat import dump
from deployments.openai_api.found import says_something
from deployments.openai_api.json_types import JsonDict, JsonObject

_STORED = "Breakwater stores no responses: send the item itself."
_COMPACTED = "Breakwater compacts no conversation."
_ECHOES = frozenset({"type", "id", "status"})  # the names and states of items: they demand nothing
_KNOWN = {
    "message": _ECHOES | {"role", "content"},
    "function_call": _ECHOES | {"call_id", "name", "namespace", "arguments"},
    "custom_tool_call": _ECHOES | {"call_id", "name", "namespace", "input"},
    "reasoning": _ECHOES | {"summary", "content", "encrypted_content"},
    **dict.fromkeys(OUTPUTS, _ECHOES | {"call_id", "output", "name", "namespace"}),
    **dict.fromkeys(OFFERS, _ECHOES | {"role", "tools", "call_id", "execution"}),
}
_Placed = tuple[str, JsonDict]  # a message, and where it stands in the client's request


@dataclass(slots=True)
class _Step:
    """One answer of the assistant, with the results of its calls."""

    path: str
    parts: list[JsonDict] = field(default_factory=list)
    calls: list[JsonDict] = field(default_factory=list)
    results: list[_Placed] = field(default_factory=list)
    shown: list[_Placed] = field(default_factory=list)  # results that are no text
    thoughts: list[str] = field(default_factory=list)
    extra: JsonDict = field(default_factory=dict)
    extra_of_calls: JsonDict = field(default_factory=dict)
    sealed: list[str] = field(default_factory=list)  # where its reasoning stands

    def messages(self) -> Iterator[_Placed]:
        message: JsonDict = {"role": "assistant", "content": simplest(self.parts) if self.parts else None}
        if self.calls:
            message["tool_calls"] = [self._call(call) for call in self.calls]
        if self.thoughts:
            message["reasoning_content"] = "\n\n".join(self.thoughts)
        if self.extra:
            message["extra_content"] = self.extra
        return iter([(self.path, message), *self.results, *self.shown])

    def _call(self, call: JsonDict) -> JsonDict:
        extra = self.extra_of_calls.get(call["id"])
        return {**call, "extra_content": extra} if extra else call


@dataclass(slots=True)
class Items:
    """Reads the items of one request, and names what they lose in `parts.dropped`."""

    table: ToolTable
    parts: PartReader
    _talk: list[_Step | _Placed] = field(default_factory=list)
    _callers: dict[str, _Step] = field(default_factory=dict)  # the last step with a call, by the id of the call

    def read(self, items: Sequence[JsonObject]) -> None:
        for at, item in enumerate(items):
            kind, path = kind_of_item(item) or "", f"input.{at}"
            if kind == "item_reference":
                raise BadRequest(f"'{path}' is not supported: {_STORED}", path, "unsupported_parameter")
            if kind == "compaction_trigger":
                self.parts.demands[path] = f"'{path}' is not supported: {_COMPACTED}"
                continue
            if (take := _TAKE.get(kind)) is None:
                self.parts.dropped.append(path)
                continue
            take(self, item, path)
            if not item.keys() <= _KNOWN[kind]:
                rest = (name for name, value in item.items() if name not in _KNOWN[kind] and says_something(value))
                self.parts.dropped.extend(f"{path}.{name}" for name in rest)

    def placed(self) -> list[_Placed]:
        """Return all messages, and where each of them stands."""
        made: list[_Placed] = []
        for one in self._talk:
            if isinstance(one, tuple):
                made.append(one)
            elif one.parts or one.calls:
                made += one.messages()
            else:
                self.parts.dropped.extend(one.sealed)  # reasoning of an answer that is not there
        return made

    def say(self, role: str, content: str, path: str) -> None:
        self._talk.append((path, {"role": role, "content": content}))

    def _message(self, item: JsonObject, path: str) -> None:
        role, content = item["role"], item["content"]
        if role == "assistant":
            step = self._step(path)
            step.parts += (
                [{"type": "text", "text": content}]
                if isinstance(content, str)
                else self.parts.read(content, f"{path}.content")
            )
            return
        if not isinstance(content, str):
            content = simplest(self.parts.read(content, f"{path}.content"))
        self.say(role, content, path)

    def _step(self, path: str) -> _Step:
        """Return the step that goes on: with a result, or with what somebody else says, it is over."""
        last = self._talk[-1] if self._talk else None
        if isinstance(last, _Step) and not last.results:
            return last
        self._talk.append(step := _Step(path))
        return step

    def _function_call(self, item: JsonObject, path: str) -> None:
        self._call(item, Tool("function", item["name"], item.get("namespace")), item["arguments"], path)

    def _custom_call(self, item: JsonObject, path: str) -> None:
        arguments = dump({INPUT: item["input"]}).decode()
        self._call(item, Tool("custom", item["name"], item.get("namespace")), arguments, path)

    def _call(self, item: JsonObject, tool: Tool, arguments: str, path: str) -> None:
        step, key = self._step(path), item["call_id"]
        function = {"name": self.table.name_of(tool), "arguments": arguments}
        step.calls.append({"id": key, "type": "function", "function": function})
        self._callers[key] = step

    def _output(self, item: JsonObject, path: str) -> None:
        key, output = item["call_id"], item["output"]
        if (step := self._callers.get(key)) is None:
            message = f"No tool call found for function call output with call_id {key!r}."
            raise BadRequest(message, f"{path}.call_id")
        parts = [] if isinstance(output, str) else self.parts.read(output, f"{path}.output")
        others = [part for part in parts if not is_text(part)]
        content = output if isinstance(output, str) else simplest([part for part in parts if is_text(part)])
        if others:
            content = content or "(The result is no text. The next message of the user shows it.)"
            about = {"type": "text", "text": f"(From the result of the call {key}:)"}
            step.shown.append((path, {"role": "user", "content": [about, *others]}))
        step.results.append((path, {"role": "tool", "tool_call_id": key, "content": content}))

    def _reasoning(self, item: JsonObject, path: str) -> None:
        envelope = unseal(item.get("encrypted_content"))
        if envelope is None:
            self.parts.dropped.append(path)
            return
        step = self._step(path)
        step.sealed.append(path)
        absorb(step.extra, envelope.message)
        for key, extra in envelope.calls.items():
            absorb(step.extra_of_calls.setdefault(key, {}), extra)
        told = (*(item.get("summary") or ()), *(item.get("content") or ()))
        step.thoughts += [part["text"] for part in told if part["text"]]

    def _offer(self, item: JsonObject, path: str) -> None:
        """Leave it be: its tools are in the table already, because calls may stand before it."""


_TAKE: Mapping[str, Callable[[Items, JsonObject, str], None]] = {
    "message": Items._message,
    "function_call": Items._function_call,
    "custom_tool_call": Items._custom_call,
    "reasoning": Items._reasoning,
    **dict.fromkeys(OUTPUTS, Items._output),
    **dict.fromkeys(OFFERS, Items._offer),
}
