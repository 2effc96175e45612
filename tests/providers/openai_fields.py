"""Every field of OpenAI's own type of a chat request, each in a request that has little else.

It walks the TypedDicts of the pinned SDK, so a field of a newer SDK is found by itself.
"""

import collections.abc
import json
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import typing_extensions
from openai.types.chat.completion_create_params import CompletionCreateParamsStreaming

from tests.providers.any_request import image_url

Path = tuple[str, ...]
WORD = "a-word-to-be-found"
NUMBER, FRACTION = 7, 0.375
_OBJECT = {"type": "object", "properties": {}}
_OBJECTS: Mapping[str, Any] = {
    "tools": {"type": "function", "function": {"name": WORD}},
    "logit_bias": {"50256": NUMBER},
    "metadata": {"key": WORD},
}
_LISTS = (list, collections.abc.Iterable, collections.abc.Sequence)
# Where only some texts are valid.
_TEXTS = {"url": image_url("png"), "arguments": json.dumps({"key": WORD}), "tool_call_id": "call_1", "id": "call_1"}


@dataclass(frozen=True)
class Field:
    """A field by its path, its value, and a request with it."""

    path: Path
    value: Any
    body: Mapping[str, Any]

    @property
    def pattern(self) -> str:
        """The path without the places in lists."""
        return ".".join(name for name in self.path if not name.isdigit())


def fields() -> Iterator[Field]:
    """Return every field of every kind of message, part, tool, choice and format."""
    for name, hint in typing.get_type_hints(CompletionCreateParamsStreaming, include_extras=True).items():
        if name != "model":  # a row of ours
            for path, value, whole in _samples(hint, name):
                yield _field((name, *path), value, whole)


def _field(path: Path, value: Any, whole: Any) -> Field:
    body: dict[str, Any] = {"model": "row", "messages": [{"role": "user", "content": "Hi"}]}
    name, *inner = path
    if name == "messages":
        [message] = whole
        before = {"role": "user", "content": "Hi"}
        if message["role"] == "tool":
            call = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
            before = {"role": "assistant", "content": None, "tool_calls": [call]}  # type: ignore[dict-item]
        if message["role"] == "assistant" and not {"content", "refusal", "tool_calls"} & message.keys():
            message = {**message, "content": "Well."}
        return Field((name, "1", *inner[1:]), value, {**body, name: [before, message]})
    if name in ("tool_choice", "parallel_tool_calls"):
        body["tools"] = [{"type": "function", "function": {"name": WORD}}]
    if name == "top_logprobs":
        body["logprobs"] = True
    if name == "response_format" and whole["type"] == "json_schema":
        whole = {**whole, "json_schema": {"schema": _OBJECT, **whole["json_schema"]}}
    return Field(path, value, {**body, name: whole})


def _samples(hint: Any, name: str) -> Iterator[tuple[Path, Any, Any]]:
    """Return the path, the value and a whole sample for each field inside of a type, or of a plain value."""
    hint, origin = _bare(hint), typing.get_origin(_bare(hint))
    if typing_extensions.is_typeddict(hint):
        yield from _object_samples(hint)
    elif origin in (typing.Union, types.UnionType):
        for member in typing.get_args(hint):
            if member is not type(None):
                yield from _samples(member, name)
    elif origin in _LISTS or "SequenceNotStr" in str(origin):
        for path, value, whole in _samples(typing.get_args(hint)[0], name):
            yield ("0", *path), value, [whole]
    elif origin in (typing.Literal, typing_extensions.Literal):
        yield from (((), value, value) for value in typing.get_args(hint))
    else:
        value = _plain(hint, name)
        yield (), value, value


def _object_samples(hint: Any) -> Iterator[tuple[Path, Any, Any]]:
    hints = typing.get_type_hints(hint, include_extras=True)
    least = {name: _least(inner, name) for name, inner in hints.items() if typing.get_origin(inner) in _REQUIRED}
    for name, inner in hints.items():
        for path, value, whole in _samples(inner, name):
            yield (name, *path), value, {**least, name: whole}


_REQUIRED = (typing.Required, typing_extensions.Required)


def _bare(hint: Any) -> Any:
    while typing.get_origin(hint) in (*_REQUIRED, typing.NotRequired, typing_extensions.NotRequired):
        [hint] = typing.get_args(hint)
    return hint


def _least(hint: Any, name: str) -> Any:
    """Return the smallest value of a type: of an object only what it must have."""
    _, _, whole = next(_samples(hint, name))
    return whole


def _plain(hint: Any, name: str) -> Any:
    if hint is str:
        return _TEXTS.get(name, WORD)
    if hint is bool:
        return True
    if hint in (int, float):
        return NUMBER if hint is int else FRACTION
    return _OBJECTS.get(name, {"type": "object", "properties": {WORD: {"type": "string"}}})
