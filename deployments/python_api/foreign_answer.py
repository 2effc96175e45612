"""The reader of answers that passed through as a provider's server made them, whole or in chunks. Pure.

Servers that speak OpenAI's format each do so in their own way. This is accepted:

- `choices`: a list of objects, or absent, as in a frame with usage. Anything in it that is no object is ignored.
- a choice's `index`: a whole number; null or absent means the first. Only the first choice is read.
- `message` or `delta`: an object, or absent.
- `content`: a text, or a list of parts, whose texts are read; other parts (thoughts, images) are ignored.
- `tool_calls`: a list of objects. In a message each is a call. In a delta its `index` says which call it continues,
  else its `id`. One with neither begins a call if it names a function; otherwise it continues the last call.
- a call's `arguments`: a text, or an object or a list, which is encoded as the JSON text that it should have been.
- `finish_reason`: a text. `usage`: an object. Anything else in their place is ignored.

A number in place of a text, or a text in place of a list, can't be read: to go on would lose a part of the answer
unseen. Then NoAnswer is raised with the code `malformed_answer`.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from deployments.errors import NoAnswer
from deployments.openai_api.json_types import JsonDict, JsonObject, JsonValue, whole_number

_TEXTS = (None, "text", "output_text")  # types of parts that are the answer's own text


@dataclass(slots=True)
class ForeignAnswer:
    """An answer that is put together from one completion or from chunks.

    Attributes:
        parts: its texts, in order.
        calls: its tool calls by index.
        finish: the `finish_reason`.
        begun: something of the first choice has come.
    """

    parts: list[str] = field(default_factory=list)
    calls: dict[int, JsonDict] = field(default_factory=dict)
    usage: JsonObject | None = None
    finish: str | None = None
    begun: bool = False

    def take(self, data: JsonObject) -> str:
        """Read one completion or chunk, and return its text. Raises NoAnswer."""
        if data.get("error"):
            raise malformed("'error' is not an object")
        if isinstance(usage := data.get("usage"), Mapping):
            self.usage = usage or self.usage
        text = "".join(map(self._take_choice, _list_of(data, "choices")))
        self.parts.append(text)
        return text

    @property
    def text(self) -> str:
        """Return the text so far. Raises NoAnswer if nothing of the first choice has come."""
        if not self.begun:
            raise malformed("it has no first choice")
        return "".join(self.parts)

    @property
    def tool_calls(self) -> list[JsonDict]:
        """Return the tool calls so far, in order."""
        return [self.calls[at] for at in sorted(self.calls)]

    def _take_choice(self, choice: JsonValue) -> str:
        if not isinstance(choice, Mapping) or not _is_first(choice):
            return ""
        self.begun = True
        whole = _object_of(choice, "message")
        message = whole or _object_of(choice, "delta")
        for call in _list_of(message, "tool_calls"):
            if isinstance(call, Mapping):
                self._take_call(call, whole=bool(whole))
        if isinstance(finish := choice.get("finish_reason"), str):
            self.finish = finish or self.finish
        return _content_of(message)

    def _take_call(self, part: JsonObject, *, whole: bool) -> None:
        function = _object_of(part, "function")
        at = self._next_index() if whole else self._index_of(part, function)
        call = self.calls.setdefault(at, {"function": {"name": "", "arguments": ""}})
        # Some servers repeat an id or a type as null, which must not overwrite the first.
        call |= {k: v for k, v in part.items() if k not in ("index", "function") and v not in (None, "")}
        call["function"]["name"] += _text_of(function, "name")
        call["function"]["arguments"] += _arguments_of(function)

    def _index_of(self, part: JsonObject, function: JsonObject) -> int:
        if (index := whole_number(part.get("index"))) is not None:
            return index
        if name := part.get("id"):
            return next((at for at, call in self.calls.items() if call.get("id") == name), self._next_index())
        return self._next_index() if function.get("name") or not self.calls else max(self.calls)

    def _next_index(self) -> int:
        return max(self.calls, default=-1) + 1


def malformed(reason: str) -> NoAnswer:
    """Return the error for an answer that can't be read."""
    error = NoAnswer(f"The provider's answer can't be read: {reason}.")
    error.code = "malformed_answer"
    return error


def _is_first(choice: JsonObject) -> bool:
    index = choice.get("index")
    return index is None or whole_number(index) == 0


def _object_of(data: JsonObject, key: str) -> JsonObject:
    if isinstance(value := data.get(key), Mapping):
        return value
    if value is None:
        return {}
    raise malformed(f"'{key}' is not an object")


def _list_of(data: JsonObject, key: str) -> list[JsonValue]:
    if isinstance(value := data.get(key), list):
        return value
    if value is None:
        return []
    raise malformed(f"'{key}' is not a list")


def _text_of(data: JsonObject, key: str) -> str:
    if isinstance(value := data.get(key), str):
        return value
    if value is None:
        return ""
    raise malformed(f"'{key}' is not a text")


def _content_of(message: JsonObject) -> str:
    if isinstance(parts := message.get("content"), list):
        return "".join(map(_text_of_part, parts))
    return _text_of(message, "content")


def _text_of_part(part: JsonValue) -> str:
    if isinstance(part, str):
        return part
    return _text_of(part, "text") if isinstance(part, Mapping) and part.get("type") in _TEXTS else ""


def _arguments_of(function: JsonObject) -> str:
    arguments = function.get("arguments")
    return json.dumps(arguments) if isinstance(arguments, dict | list) else _text_of(function, "arguments")
