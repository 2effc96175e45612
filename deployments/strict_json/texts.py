"""A text of JSON, of any length, in slices. Pure."""

import json
import re
from collections.abc import Generator

from deployments.strict_json.scalars import may_have_surrogates

SLICE = 128 * 1024  # bytes; more than two escapes
_INSIDE = re.compile(rb'(?:[^"\\\x00-\x1f]++|\\[^\x00-\x1f])*+')
_LONGEST_SIGN = 4  # bytes of one character


def text_in_slices(data: bytes, at: int) -> Generator[None, None, tuple[str, int]]:
    """Return the text that begins at `at`, behind its quotation mark, and the place behind its end.

    Raises ValueError, also for half of a surrogate pair.
    """
    parts: list[str] = []
    while True:
        end = _end_of_slice(data, at)
        text, end = _decoded(data, at, end)
        parts.append(text)
        yield
        if data[end : end + 1] == b'"':
            return "".join(parts), end + 1
        if end == at:
            raise ValueError(f"a text does not end, or has a control character, at byte {end}")
        at = end


def _end_of_slice(data: bytes, at: int) -> int:
    """Return where a slice may end: behind a whole escape and a whole character, as far as they are there."""
    match = _INSIDE.match(data, at, at + SLICE)
    assert match is not None  # it matches nothing at all too
    end = match.end()
    for _ in range(_LONGEST_SIGN):
        if end < len(data) and data[end] & 0xC0 == 0x80:
            end -= 1
    # The digits of an escape are no part of the pattern, so it may end among them.
    escape = data.rfind(b"\\u", max(at, end - 5), end)
    return escape if escape >= 0 and _is_escape(data, at, escape) else end


def _is_escape(data: bytes, at: int, place: int) -> bool:
    """Return whether the backslash there begins an escape: an even number of them is before it."""
    before = data[max(at, place - SLICE) : place]
    return (len(before) - len(before.rstrip(b"\\"))) % 2 == 0


def _decoded(data: bytes, at: int, end: int) -> tuple[str, int]:
    part = data[at:end]
    text: str = json.loads(f'"{part.decode()}"')
    if not may_have_surrogates(part):
        return text, end
    if text and "\ud800" <= text[-1] <= "\udbff" and end - at > 6:  # its other half may be in the next slice
        text, end = text[:-1], end - 6
    text.encode()  # raises if half of a pair is among them
    return text, end
