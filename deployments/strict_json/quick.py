"""Parses JSON in one go, by the standard library's scanner: for what takes a few milliseconds at most. Pure."""

import json
from typing import Any

from deployments.strict_json.scalars import DEEPEST, fraction, integer, may_have_surrogates, no_constant, unique

QUICK_BYTES = 64 * 1024  # whatever is in them
LARGER_BYTES, LARGER_VALUES = 1024 * 1024, 10_000  # and these, with so many values at most

_DECODER = json.JSONDecoder(
    object_pairs_hook=unique, parse_float=fraction, parse_int=integer, parse_constant=no_constant
)


def is_quick(data: bytes) -> bool:
    """Return whether this can be parsed in one go. Signs inside of texts count too: it may err to the slow side."""
    size = len(data)
    return size <= QUICK_BYTES or (size <= LARGER_BYTES and sum(map(data.count, (b",", b"{", b"["))) <= LARGER_VALUES)


def parse_quickly(data: bytes) -> Any:
    """Return the one JSON value of these bytes, which can be encoded again. Raises ValueError."""
    try:
        # json.loads of bytes guesses UTF-16 and UTF-32, and takes half a surrogate pair in UTF-8, which is none.
        value = _DECODER.decode(data.decode("utf-8-sig"))
        if may_have_surrogates(data):
            json.dumps(value, ensure_ascii=False).encode()
    except RecursionError:
        raise too_deep() from None
    if data.count(b"{") + data.count(b"[") > DEEPEST:
        check_depth(value)
    return value


def too_deep() -> ValueError:
    return ValueError(f"it is nested more than {DEEPEST} levels deep")


def check_depth(value: Any) -> None:
    """Raise ValueError if nested deeper than `DEEPEST`."""
    level = [value]
    for _ in range(DEEPEST):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, (dict, list))
        ]
        if not level:
            return
    raise too_deep()
