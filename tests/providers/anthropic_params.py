"""Whether a request is what the types of Anthropic's SDK say, read from the types themselves.

pydantic can't tell: it keeps what a TypedDict does not know, and reads an `Iterable` lazily inside of a union.
"""

import collections.abc
import types
import typing
from collections.abc import Mapping
from typing import Any

import typing_extensions
from anthropic.types.message_create_params import MessageCreateParamsNonStreaming, MessageCreateParamsStreaming

NOT_IN_TYPES = ("temperature", "top_p", "top_k")  # of anthropic 2.14; the API takes them for models before Claude 4.7
_PLAIN: Mapping[Any, tuple[type, ...]] = {str: (str,), int: (int,), float: (int, float), bool: (bool,)}
_WRAPPED = (typing.Annotated, typing_extensions.Required, typing_extensions.NotRequired)


def misfit(body: dict[str, Any]) -> str | None:
    """Return the path of the first thing that the SDK's types do not know or miss; None if there is none."""
    known = {name: value for name, value in body.items() if name not in NOT_IN_TYPES}
    return _of(known, MessageCreateParamsStreaming if body.get("stream") else MessageCreateParamsNonStreaming, "body")


def _of(value: Any, kind: Any, path: str) -> str | None:
    origin, inner = typing_extensions.get_origin(kind), typing_extensions.get_args(kind)
    if kind in (object, Any):
        return None
    if origin in _WRAPPED:
        return _of(value, inner[0], path)
    if origin in (typing.Union, types.UnionType):
        found = [_of(value, each, path) for each in inner]
        return None if None in found else max((one for one in found if one), key=len)
    if origin is typing.Literal:
        return None if value in inner else path
    if typing_extensions.is_typeddict(kind):
        return _of_object(value, kind, path)
    if origin is dict:
        return None if isinstance(value, dict) else path
    if kind in (None, type(None)):
        return None if value is None else path
    if kind in _PLAIN:
        fits = isinstance(value, _PLAIN[kind]) and (kind is bool or not isinstance(value, bool))
        return None if fits else path
    if origin in (list, collections.abc.Iterable, collections.abc.Sequence) or "Sequence" in str(origin):
        if not isinstance(value, list):
            return path
        return next((why for at, one in enumerate(value) if (why := _of(one, inner[0], f"{path}.{at}"))), None)
    return path


def _of_object(value: Any, kind: Any, path: str) -> str | None:
    if not isinstance(value, dict):
        return path
    hints = typing_extensions.get_type_hints(kind)
    if unknown := value.keys() - hints.keys():
        return f"{path}.{min(unknown)} is not known"
    # Without the strings of annotations being read, a TypedDict does not know which of its keys are required.
    marked = typing_extensions.get_type_hints(kind, include_extras=True)
    required = {name for name, hint in marked.items() if _is_required(hint)}
    if missing := required - value.keys():
        return f"{path}.{min(missing)} is missing"
    return next((why for name in value if (why := _of(value[name], hints[name], f"{path}.{name}"))), None)


def _is_required(hint: Any) -> bool:
    while typing_extensions.get_origin(hint) is typing.Annotated:
        hint = typing_extensions.get_args(hint)[0]
    return typing_extensions.get_origin(hint) is typing_extensions.Required
