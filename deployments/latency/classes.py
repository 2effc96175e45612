"""Which requests take alike long: by what is measured, the prompt's length, and whether a model is to think. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

_BYTES = (8 * 1024, 64 * 1024)  # of a request's JSON: some 2,000 and 16,000 tokens
_QUIET = (None, "none", "minimal")


def class_of(body: Mapping[str, Any], size: int) -> str:
    """Return the class of a request. `size` is that of its JSON in bytes, 0 where it never was JSON."""
    size = size_of(body, size)
    length = sum(size > limit for limit in _BYTES)
    return f"{length}{'' if body.get('reasoning_effort') in _QUIET else 't'}"


def size_of(body: Mapping[str, Any], size: int) -> int:
    """Return how long a request is, in bytes or in characters; `size` is 0 where it never was JSON."""
    return size or _texts(body.get("messages") or ())


def _texts(messages: Sequence[Any]) -> int:
    """Return the characters of the contents, roughly: who measures exactly takes longer than it is worth."""
    contents = [message.get("content") or "" for message in messages if isinstance(message, Mapping)]
    return sum(len(c) if isinstance(c, str) else 256 * len(c) for c in contents)


def first(kind: str) -> str:
    """Return the class of times until the first content."""
    return f"first.{kind}"


def whole(kind: str) -> str:
    """Return the class of times until a whole answer that comes at once."""
    return f"whole.{kind}"
