"""What a fake model calls when it is offered tools: each of them once, with arguments made from its schema.

A fake may have a `Mind` instead, which sees the conversation in one form, whatever the wire.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

VALUES: Mapping[str, Any] = {"string": "Paris, «île»", "integer": 7, "number": 0.5, "boolean": True, "array": []}


@dataclass(frozen=True)
class Called:
    key: str  # no two of a conversation have the same
    name: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True)
class Result:
    """A call of the conversation, and the text that came back."""

    name: str
    arguments: Mapping[str, Any]
    text: str


@dataclass(frozen=True)
class Talk:
    """How far a conversation is: the names of the tools that are offered, and each call that has its result."""

    tools: frozenset[str]
    results: Sequence[Result]


@dataclass(frozen=True)
class Turn:
    """What a model says in one answer: words first, then calls."""

    words: Sequence[str]
    calls: Sequence[Called] = ()


Mind = Callable[[Talk], Turn]


def calls_to(tools: Sequence[tuple[str, Mapping[str, Any]]], turn: int) -> list[Called]:
    """Tools are (name, JSON schema), `turn` is how many messages there are."""
    return [Called(f"{turn}-{at}", name, _arguments(schema)) for at, (name, schema) in enumerate(tools)]


def _arguments(schema: Mapping[str, Any]) -> dict[str, Any]:
    properties: Mapping[str, Any] = schema.get("properties") or {}
    return {name: VALUES.get(p.get("type", "string"), {}) for name, p in properties.items()}


def text_of(content: Any) -> str:
    """Return the text of a result, which is a string or a list of parts."""
    if isinstance(content, str):
        return content
    return "".join(part["text"] if "text" in part else json.dumps(part, ensure_ascii=False) for part in content)


def pieces(text: str, size: int = 5) -> list[str]:
    return [text[at : at + size] for at in range(0, len(text), size)]
