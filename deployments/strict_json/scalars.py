"""What both parsers take for a number, a constant and an object. Pure."""

import math
import re
from typing import Any

DEEPEST = 128  # levels; pickle, by which a request reaches a replica, fails below 500
LONGEST_NUMBER = 400  # characters
_LEAST_INTEGER, _LARGEST_INTEGER = -(2**63), 2**64 - 1  # beyond, parsers differ, and some lose digits silently
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


def fraction(text: str | bytes) -> float:
    if math.isinf(number := float(text)):
        raise ValueError(f"{_shown(text)} is larger than any number")
    return number


def integer(text: str | bytes) -> int:
    if len(text) > LONGEST_NUMBER or not _LEAST_INTEGER <= (number := int(text)) <= _LARGEST_INTEGER:
        raise ValueError(f"{_shown(text)} does not fit into 64 bits")
    return number


def _shown(text: str | bytes) -> str:
    return (text if isinstance(text, str) else text.decode())[:20]


def no_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object. Of two values under one name each reader takes another, so neither is taken."""
    made = dict(pairs)
    if len(made) != len(pairs):
        seen: set[str] = set()
        raise ValueError(f"the name {_first_repeated(pairs, seen)!r} is there twice in one object")
    return made


def _first_repeated(pairs: list[tuple[str, Any]], seen: set[str]) -> str:
    for name, _ in pairs:
        if name in seen:
            return name[:64]
        seen.add(name)
    raise AssertionError


def may_have_surrogates(data: bytes) -> bool:
    """Return whether half of a surrogate pair may be in JSON that is UTF-8: only an escape can contain it."""
    return b"\\u" in data and _SURROGATE.search(data) is not None
