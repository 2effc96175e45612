"""A text of JSON, of any length, in slices. Pure."""

import json
import re
from collections import deque
from collections.abc import Generator

import orjson

from deployments.long_text import bytes_a_character, highest_character, join_in_slices
from deployments.strict_json.scalars import may_have_surrogates
from deployments.strict_json.window import Window

SLICE = 128 * 1024  # bytes; more than two escapes
_INSIDE = re.compile(rb'(?:[^"\\\x00-\x1f]++|\\[^\x00-\x1f])*+')
_LONGEST_SIGN = 4  # bytes of one character


def text_in_slices(window: Window, room: int) -> Generator[None, None, str]:
    """Return the text that begins at the window's place, behind its quotation mark, and move behind its end.

    Raises ValueError, also for half of a surrogate pair, and for a text that takes more than `room` bytes of memory.
    """
    parts: deque[str] = deque()
    size, highest = 0, 127
    while True:
        window.fill()
        data, at = window.data, window.at
        text, end = _plain(data, at) or _decoded(data, at, _end_of_slice(data, at))
        parts.append(text)
        size, highest = size + len(text), max(highest, highest_character(text))
        if size * bytes_a_character(highest) > room:
            raise ValueError("its texts take too much memory: one sign beyond U+FFFF makes each of a text take 4 bytes")
        yield
        window.at = end
        if data[end : end + 1] == b'"':
            window.at += 1
            return (yield from join_in_slices(parts))
        if end == at:
            raise ValueError(f"a text does not end, or has a control character, at byte {window.place}")


def _plain(data: bytes, at: int) -> tuple[str, int] | None:
    """Return a slice's text and its end, several times as fast; None where only the others can tell what it is.

    They must look at an escaped quotation mark, at escapes by number, and at whatever is wrong.
    """
    limit = min(at + SLICE, len(data))
    end = data.find(b'"', at, limit)
    if end < 0:
        end = _end_of_character(data, limit)
        end -= _backslashes_before(data, at, end) % 2
    elif data[end - 1 : end] == b"\\" and end > at:
        return None
    part = data[at:end]
    if b"\\u" in part:
        return None
    try:
        return orjson.loads(b"".join((b'"', part, b'"'))), end
    except ValueError:
        return None


def _end_of_slice(data: bytes, at: int) -> int:
    """Return where a slice may end: behind a whole escape and a whole character, as far as they are there."""
    match = _INSIDE.match(data, at, at + SLICE)
    assert match is not None  # it matches nothing at all too
    end = _end_of_character(data, match.end())
    # The digits of an escape are no part of the pattern, so it may end among them.
    escape = data.rfind(b"\\u", max(at, end - 5), end)
    return escape if escape >= 0 and _is_escape(data, at, escape) else end


def _end_of_character(data: bytes, end: int) -> int:
    """Return the place, or one just before it, where no character is under way."""
    for _ in range(_LONGEST_SIGN):
        if end < len(data) and data[end] & 0xC0 == 0x80:
            end -= 1
    return end


def _is_escape(data: bytes, at: int, place: int) -> bool:
    """Return whether the backslash there begins an escape: an even number of them is before it."""
    return _backslashes_before(data, max(at, place - SLICE), place) % 2 == 0


def _backslashes_before(data: bytes, at: int, place: int) -> int:
    before = data[at:place]
    return len(before) - len(before.rstrip(b"\\"))


def _decoded(data: bytes, at: int, end: int) -> tuple[str, int]:
    part = data[at:end]
    text: str = json.loads(f'"{part.decode()}"')
    if not may_have_surrogates(part):
        return text, end
    if text and "\ud800" <= text[-1] <= "\udbff" and end - at > 6:  # its other half may be in the next slice
        text, end = text[:-1], end - 6
    text.encode()  # raises if half of a pair is among them
    return text, end
