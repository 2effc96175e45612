"""Which requests take alike long: by the prompt's length, whether a model is to think, and how it is asked. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

_SHORT, _LONG = 8 * 1024, 64 * 1024  # bytes of a request's JSON: some 2,000 and 16,000 tokens
_QUIET = (None, "none", "minimal")


def class_of(body: Mapping[str, Any], size: int) -> str:
    """Return the class of a request. `size` is that of its JSON in bytes, 0 where it never was JSON."""
    size = size_of(body, size)
    length = "0" if size <= _SHORT else "1" if size <= _LONG else "2"
    thinks = "" if body.get("reasoning_effort") in _QUIET else "t"
    # Some servers are asked for a stream unless a request has one of these.
    at_once = (body.get("n") or 1) > 1 or body.get("tools") or body.get("functions") or body.get("logprobs")
    return f"{length}{thinks}{'w' if at_once else ''}"


def size_of(body: Mapping[str, Any], size: int) -> int:
    """Return how long a request is, in bytes or in characters; `size` is 0 where it never was JSON."""
    return size or _texts(body.get("messages") or ())


def _texts(messages: Sequence[Any]) -> int:
    """Return the characters of the contents, roughly: who measures exactly takes longer than it is worth."""
    contents = [message.get("content") or "" for message in messages if isinstance(message, Mapping)]
    return sum(len(c) if isinstance(c, str) else 256 * len(c) for c in contents)
