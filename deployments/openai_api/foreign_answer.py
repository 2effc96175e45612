"""The one reader of answers that came through as a provider's server made them, whole or in chunks. Pure.

Servers that speak OpenAI's words speak them each in its own way. What is accepted:

- `choices`: a list of objects, or none at all, as in a frame of usage. What is no object in it is left out.
- a choice's `index`: a whole number; null or absent, it is the first. Only the first is read.
- `message` or `delta`: an object, or none.
- `content`: a text, or a list of parts, whose texts are taken; other parts (thoughts, pictures) are left out.
- `tool_calls`: a list of objects. In a message each is a call. In a delta its `index` says which call it goes on with,
  else its `id`; one with neither begins a call if it names a function, else it goes on with the last.
- a call's `arguments`: a text, or an object or a list, which is written as the JSON text that it should have been.
- `finish_reason`: a text. `usage`: an object. Anything else in their place is left out.

A number where a text should be, or a text where a list should be, can't be read: then NoAnswer is raised with the
code `malformed_answer`, because to go on would be to lose a part of the answer unseen.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from deployments.errors import NoAnswer

_TEXTS = (None, "text", "output_text")  # types of parts that are the answer's own text


@dataclass(slots=True)
class ForeignAnswer:
    """An answer as it is put together, from one completion or from chunks."""

    parts: list[str] = field(default_factory=list)
    calls: dict[int, dict[str, Any]] = field(default_factory=dict)
    usage: Mapping[str, Any] | None = None
    finish: str | None = None
    begun: bool = False  # has anything of the first choice come?

    def take(self, data: Mapping[str, Any]) -> str:
        """Read one completion or chunk and return the text that it brought. Raises NoAnswer."""
        if data.get("error"):
            raise unreadable("'error' is no object")
        if isinstance(usage := data.get("usage"), Mapping):
            self.usage = usage or self.usage
        text = "".join(map(self._take_choice, _list_of(data, "choices")))
        self.parts.append(text)
        return text

    @property
    def text(self) -> str:
        """Raises NoAnswer if nothing of the first choice has come."""
        if not self.begun:
            raise unreadable("it has no first choice")
        return "".join(self.parts)

    @property
    def tool_calls(self) -> list[dict[str, Any]]:
        return [self.calls[at] for at in sorted(self.calls)]

    def _take_choice(self, choice: Any) -> str:
        if not isinstance(choice, Mapping) or not _is_first(choice):
            return ""
        self.begun = True
        whole = _object_of(choice, "message")
        said = whole or _object_of(choice, "delta")
        for call in _list_of(said, "tool_calls"):
            if isinstance(call, Mapping):
                self._take_call(call, whole=bool(whole))
        if isinstance(finish := choice.get("finish_reason"), str):
            self.finish = finish or self.finish
        return _content_of(said)

    def _take_call(self, part: Mapping[str, Any], *, whole: bool) -> None:
        given = _object_of(part, "function")
        at = self._after_all() if whole else self._place_of(part, given)
        call = self.calls.setdefault(at, {"function": {"name": "", "arguments": ""}})
        # Some servers repeat an id or a type as null: that takes nothing back.
        call |= {k: v for k, v in part.items() if k not in ("index", "function") and v not in (None, "")}
        call["function"]["name"] += _text_of(given, "name")
        call["function"]["arguments"] += _arguments_of(given)

    def _place_of(self, part: Mapping[str, Any], given: Mapping[str, Any]) -> int:
        if (index := _whole_number(part.get("index"))) is not None:
            return index
        if name := part.get("id"):
            return next((at for at, call in self.calls.items() if call.get("id") == name), self._after_all())
        return self._after_all() if given.get("name") or not self.calls else max(self.calls)

    def _after_all(self) -> int:
        return max(self.calls, default=-1) + 1


def unreadable(why: str) -> NoAnswer:
    error = NoAnswer(f"The provider's answer can't be read: {why}.")
    error.code = "malformed_answer"
    return error


def _is_first(choice: Mapping[str, Any]) -> bool:
    index = choice.get("index")
    return index is None or _whole_number(index) == 0


def _whole_number(value: Any) -> int | None:
    """Some servers know no whole numbers, and write 0.0."""
    if isinstance(value, bool):
        return None
    return int(value) if isinstance(value, int) or (isinstance(value, float) and value.is_integer()) else None


def _object_of(data: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    if isinstance(value := data.get(key), Mapping):
        return value
    if value is None:
        return {}
    raise unreadable(f"'{key}' is no object")


def _list_of(data: Mapping[str, Any], key: str) -> list[Any]:
    if isinstance(value := data.get(key), list):
        return value
    if value is None:
        return []
    raise unreadable(f"'{key}' is no list")


def _text_of(data: Mapping[str, Any], key: str) -> str:
    if isinstance(value := data.get(key), str):
        return value
    if value is None:
        return ""
    raise unreadable(f"'{key}' is no text")


def _content_of(said: Mapping[str, Any]) -> str:
    if isinstance(parts := said.get("content"), list):
        return "".join(map(_text_of_part, parts))
    return _text_of(said, "content")


def _text_of_part(part: Any) -> str:
    if isinstance(part, str):
        return part
    return _text_of(part, "text") if isinstance(part, Mapping) and part.get("type") in _TEXTS else ""


def _arguments_of(given: Mapping[str, Any]) -> str:
    arguments = given.get("arguments")
    return json.dumps(arguments) if isinstance(arguments, dict | list) else _text_of(given, "arguments")
