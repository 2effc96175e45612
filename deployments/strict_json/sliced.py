"""Parses JSON in slices of well under a millisecond: other requests get their turn between two of them. Pure.

The standard library's scanner holds the interpreter until it has done, in a thread too: 32 MB of small objects took
eight seconds. This one is some twenty times as slow for small values, and as fast for long texts.
"""

import re
import sys
from collections.abc import Generator
from typing import Any

from deployments.strict_json.quick import too_deep
from deployments.strict_json.scalars import DEEPEST, LONGEST_NUMBER, fraction, integer, unique
from deployments.strict_json.texts import text_in_slices
from deployments.strict_json.window import Window

MOST_VALUES, MOST_CONTAINERS = 262_144, 65_536  # lists and objects are the dear ones
MOST_TEXT = 80 * 1024 * 1024  # bytes of memory, all texts together; the longest body of plain ones takes 32 MiB
TOKENS = 64  # in one slice
_MARK = b"\xef\xbb\xbf"

# What comes next: white space, then a sign, a short text without escapes, a number, a constant, or the quotation mark
# of any other text. Each part is bounded, and so is the time of a match.
_TOKEN = re.compile(
    rb"[ \t\n\r]{0,4096}+(?:([{}\[\],:])"
    rb'|"([ !#-\[\]-~]{0,256})"'
    rb"|(-?(?:0|[1-9][0-9]{0,%d})(?:(\.[0-9]{1,%d})?([eE][+-]?[0-9]{1,%d})?))"
    rb'|(true|false|null)|(")|($)|(?=[ \t\n\r]))' % ((LONGEST_NUMBER,) * 3)
)
_SIGN, _SHORT, _NUMBER, _POINT, _EXPONENT, _CONSTANT, _LONG, _END = range(1, 9)
_CONSTANTS = {b"true": True, b"false": False, b"null": None}
_VALUE, _VALUE_OR_END, _NAME, _NAME_OR_END, _COLON, _COMMA, _NOTHING = range(7)  # what may come next

Slices = Generator[None, None, Any]


def parse_in_slices(data: bytes) -> Slices:
    """Return the one JSON value of these bytes, yielding after each slice. Raises ValueError."""
    return parse_window(Window([data]))


def parse_window(window: Window) -> Slices:
    """As `parse_in_slices`. What was read of the window is let go."""
    reader = _Reader(window)
    left = TOKENS
    while not reader.over:
        yield from reader.token()
        left -= 1
        if not left:
            left = TOKENS
            yield
    return reader.root


class _Reader:
    def __init__(self, window: Window):
        self._window = window
        window.fill()
        if window.data.startswith(_MARK):
            window.at = len(_MARK)
        self._next, self._count, self._containers, self._room = _VALUE, 0, 0, MOST_TEXT
        self._open: list[list[Any]] = []  # the values of each list, the pairs of each object that is not over yet
        self._names: list[str | None] = []  # of each of them: the name of the value that comes; None for a list
        self.root: Any = None
        self.over = False

    def token(self) -> Generator[None, None, None]:
        window = self._window
        window.fill()
        match = _TOKEN.match(window.data, window.at)
        if match is None:
            raise self._wrong()
        begin, window.at = window.at, match.end()
        kind = match.lastindex
        if kind is None:  # more white space than one match takes
            return
        if kind == _SIGN:
            self._sign(match[_SIGN])
        elif kind == _END:
            self._end()
        elif kind == _SHORT:
            self._text(match[_SHORT].decode("ascii"))
        elif kind == _LONG:
            text = yield from text_in_slices(window, self._room)
            self._room -= sys.getsizeof(text)
            self._text(text)
        elif kind == _CONSTANT:
            self._value(_CONSTANTS[match[_CONSTANT]])
        else:
            whole = match[_POINT] is None and match[_EXPONENT] is None
            self._value((integer if whole else fraction)(match[_NUMBER]))
        if match.end() == begin and not self.over:
            raise self._wrong()

    def _wrong(self) -> ValueError:
        return ValueError(f"something else than expected at byte {self._window.place}")

    def _text(self, text: str) -> None:
        if self._next in (_NAME, _NAME_OR_END):
            self._names[-1], self._next = text, _COLON
        else:
            self._value(text)

    def _value(self, value: Any) -> None:
        self._expect_value()
        self._count += 1
        if self._count > MOST_VALUES:
            raise ValueError(f"it has more than {MOST_VALUES} values")
        self._put(value)

    def _expect_value(self) -> None:
        if self._next not in (_VALUE, _VALUE_OR_END):
            raise self._wrong()

    def _put(self, value: Any) -> None:
        if not self._open:
            self.root, self._next = value, _NOTHING
            return
        name = self._names[-1]
        self._open[-1].append(value if name is None else (name, value))
        self._next = _COMMA

    def _sign(self, sign: bytes) -> None:
        if sign == b"," and self._next == _COMMA:
            self._next = _VALUE if self._names[-1] is None else _NAME
        elif sign == b":" and self._next == _COLON:
            self._next = _VALUE
        elif sign in (b"{", b"["):
            self._begin(sign)
        elif sign in (b"}", b"]"):
            self._close(sign)
        else:
            raise self._wrong()

    def _begin(self, sign: bytes) -> None:
        self._expect_value()
        self._containers += 1
        if self._containers > MOST_CONTAINERS:
            raise ValueError(f"it has more than {MOST_CONTAINERS} lists and objects")
        if len(self._open) >= DEEPEST:
            raise too_deep()
        self._open.append([])
        is_list = sign == b"["
        self._names.append(None if is_list else "")
        self._next = _VALUE_OR_END if is_list else _NAME_OR_END

    def _close(self, sign: bytes) -> None:
        is_list = sign == b"]"
        if not self._open or is_list != (self._names[-1] is None):
            raise self._wrong()
        if self._next not in (_COMMA, _VALUE_OR_END if is_list else _NAME_OR_END):
            raise self._wrong()
        self._names.pop()
        made = self._open.pop()
        self._put(made if is_list else unique(made))

    def _end(self) -> None:
        if self._next != _NOTHING:
            raise ValueError(f"it ends too early, at byte {self._window.place}")
        self.over = True
