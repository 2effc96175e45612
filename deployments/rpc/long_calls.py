"""A long call, taken apart by the ingress and put together by the replica, in slices. Pure.

Pickled as a whole, 32 MB hold either process for 20 to 40 ms at each step: to write, to join, to read. So a long text
goes in pieces, and of a long list or object some values go at a time. Each message is short; the last one holds what is
left of the call, and where the texts belong. Where values were taken out there is None.

A replica that knows none of this gets the parts of one pickle, and one that is older still a call by handle.
"""

import pickle
from collections import deque
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from typing import Any

from deployments.long_text import join_in_slices
from deployments.openai_api.json_types import JsonObject

PART, TEXT, VALUES = BEFORE_THE_LAST = ("part", "text", "values")  # verbs of the frames before a call's last one
PART_BYTES = 256 * 1024  # of a pickle; one that has more comes in parts, and others do not wait for the whole of it
TEXT_PIECE = 128 * 1024  # characters; a text of more goes by itself
MOST_TOGETHER = 128 * 1024  # characters, or so, of the values that go in one message
_VALUE = 16  # what a value that is no text counts for
_SLICE = 1024  # values

Key = str | int
Path = tuple[Key, ...]
TextPiece = tuple[int, str]  # the number of the text, and the next piece of it
Values = tuple[Path, list[tuple[Key, Any]]]  # of the list or object that is at the path
# A call's number; its verb (chat, embed or stream), or one of those above; and its pickle, or what is left of that.
CallFrame = tuple[int, str, Any]


@dataclass(slots=True)
class Apart:
    """A call in parts. The values of inner lists and objects come before those that hold them."""

    texts: list[tuple[Path, str]] = field(default_factory=list)
    values: list[Values] = field(default_factory=list)
    rest: bytes = b""

    def pieces(self) -> Iterator[TextPiece]:
        for number, (_, text) in enumerate(self.texts):
            for at in range(0, len(text), TEXT_PIECE):
                yield number, text[at : at + TEXT_PIECE]


def frames_of(number: int, verb: str, call: bytes | Apart) -> Iterator[CallFrame]:
    """Yield the frames of a long call."""
    data = call if isinstance(call, bytes) else call.rest
    if not isinstance(call, bytes):
        yield from ((number, TEXT, piece) for piece in call.pieces())
        yield from ((number, VALUES, values) for values in call.values)
    *before, last = range(0, len(data), PART_BYTES)
    yield from ((number, PART, data[at : at + PART_BYTES]) for at in before)
    yield number, verb, data[last:]


def take_apart(call: JsonObject) -> Generator[None, None, Apart]:
    """Return a call in parts, yielding after each slice of the work. The call itself stays as it is."""
    apart = Apart()
    rest, _ = yield from _take(call, (), apart)
    left = (rest, [path for path, _ in apart.texts]) if apart.texts or apart.values else rest
    apart.rest = pickle.dumps(left, pickle.HIGHEST_PROTOCOL)
    return apart


def _take(value: Any, path: Path, apart: Apart) -> Generator[None, None, tuple[Any, int]]:
    """Return what is left of a list or an object, and its size."""
    left = value.copy()
    together, size = list[tuple[Key, Any]](), 0
    for count, (key, item) in enumerate(value.items() if isinstance(value, dict) else enumerate(value), 1):
        kept, its_size = item, _VALUE
        if isinstance(item, str):
            its_size += len(item)
            if len(item) > TEXT_PIECE:
                apart.texts.append(((*path, key), item))
                kept, its_size = None, _VALUE
        elif isinstance(item, dict | list) and item:
            kept, its_size = yield from _take(item, (*path, key), apart)
        left[key] = kept
        together.append((key, kept))
        size += its_size
        if size > MOST_TOGETHER and path:
            apart.values.append((path, together))
            for taken, _ in together:
                left[taken] = None
            together, size = [], 0
        if not count % _SLICE:
            yield
    yield
    return left, size + _VALUE


@dataclass(slots=True)
class Arriving:
    """What has come of a call so far: parts of its pickle, pieces of its texts, values of its lists and objects."""

    parts: list[bytes] = field(default_factory=list)
    texts: list[deque[str]] = field(default_factory=list)
    values: list[Values] = field(default_factory=list)

    def take(self, verb: str, data: Any) -> bool:
        """Take what a frame brings. Return whether it was the last one."""
        if verb == TEXT:
            number, text = data
            if number == len(self.texts):
                self.texts.append(deque())
            self.texts[number].append(text)
        elif verb == VALUES:
            self.values.append(data)
        else:
            self.parts.append(data)
        return verb not in BEFORE_THE_LAST

    def put_together(self) -> Generator[None, None, Any]:
        """Return the call, yielding after each slice of the work."""
        data = b"".join(self.parts)
        if not (self.texts or self.values):
            return pickle.loads(data)
        call, places = pickle.loads(data)
        while self.values:
            path, values = self.values.pop()  # the outer ones first
            holder = _at(call, path)
            for key, value in values:
                holder[key] = value
            yield
        for path, pieces in zip(places, self.texts, strict=True):
            _at(call, path[:-1])[path[-1]] = yield from join_in_slices(pieces)
        return call


def _at(value: Any, path: Path) -> Any:
    for key in path:
        value = value[key]
    return value
