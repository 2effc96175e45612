"""What a fake model calls when it is offered tools: each of them once, with arguments made from its schema."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

VALUES: Mapping[str, Any] = {"string": "Paris, «île»", "integer": 7, "number": 0.5, "boolean": True, "array": []}


@dataclass(frozen=True)
class Called:
    key: str  # no two of a conversation have the same
    name: str
    arguments: Mapping[str, Any]


def calls_to(tools: Sequence[tuple[str, Mapping[str, Any]]], turn: int) -> list[Called]:
    """Tools are (name, JSON schema), `turn` is how many messages there are."""
    return [Called(f"{turn}-{at}", name, _arguments(schema)) for at, (name, schema) in enumerate(tools)]


def _arguments(schema: Mapping[str, Any]) -> dict[str, Any]:
    properties: Mapping[str, Any] = schema.get("properties") or {}
    return {name: VALUES.get(p.get("type", "string"), {}) for name, p in properties.items()}


def pieces(text: str, size: int = 5) -> list[str]:
    return [text[at : at + size] for at in range(0, len(text), size)]
