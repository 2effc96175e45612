"""Joins the pieces of a long text in slices. Pure: it knows no request.

`"".join` makes the whole text in one step and holds the interpreter meanwhile: 20 ms for 32 MB, and 80 where one
character is an emoji, most of it for memory that the process has not touched yet. So the text is made empty and filled
piece by piece. Both steps are CPython's own, and documented ("Unicode Objects and Codecs": PyUnicode_New,
PyUnicode_CopyCharacters): a text that has one owner may still be written to.
"""

import ctypes
import sys
from collections import deque
from collections.abc import Generator
from typing import Any

JOINED_AT_ONCE = 256 * 1024  # characters
_SHORT = 1024  # characters
_EMPTY_WIDE = sys.getsizeof("\xff") - 1
_HIGHEST = {1: 0xFF, 2: 0xFFFF, 4: 0x10FFFF}  # character that fits, by bytes a character

_new, _fill, _release = (
    ctypes.pythonapi.PyUnicode_New,
    ctypes.pythonapi.PyUnicode_CopyCharacters,
    ctypes.pythonapi.Py_DecRef,
)
# Addresses and not objects: ctypes would hold the text a second time, and a text of two owners may not be written to.
_new.argtypes, _new.restype = [ctypes.c_ssize_t, ctypes.c_uint32], ctypes.c_void_p
_fill.argtypes = [ctypes.c_void_p, ctypes.c_ssize_t, ctypes.py_object, ctypes.c_ssize_t, ctypes.c_ssize_t]
_fill.restype = ctypes.c_ssize_t
_release.argtypes, _release.restype = [ctypes.c_void_p], None


def highest_character(text: str) -> int:
    """Return the highest code that the interpreter would store as this text is stored: 127, 255, 65,535 or 1,114,111.

    The text must be new: what others have encoded may hold its bytes too.
    """
    if text.isascii():
        return 127
    if len(text) < _SHORT:
        top = ord(max(text))
        return next(highest for highest in _HIGHEST.values() if top <= highest)
    return _HIGHEST[round((sys.getsizeof(text) - _EMPTY_WIDE) / len(text))]


def bytes_a_character(highest: int) -> int:
    """Return how many bytes each character takes in a text whose widest one is this."""
    return 1 if highest <= 0xFF else 2 if highest <= 0xFFFF else 4


def join_in_slices(pieces: deque[str]) -> Generator[None, None, str]:
    """Return one text of pieces that were just made, yielding after each. Each is taken out once it is copied."""
    size = sum(map(len, pieces))
    if size <= JOINED_AT_ONCE or len(pieces) == 1:
        return "".join(pieces)
    address = _new(size, max(map(highest_character, pieces)))
    try:
        at = 0
        while pieces:
            piece = pieces.popleft()
            at += _fill(address, at, piece, 0, len(piece))
            yield
        whole: Any = ctypes.cast(address, ctypes.py_object).value
        text: str = whole
        return text
    finally:
        _release(address)
