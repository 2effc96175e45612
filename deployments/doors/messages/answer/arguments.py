"""The arguments of one call in a stream: pieces of text that join to one JSON object. Pure.

Whether the object is whole is looked at only where somebody waits for it, and each character is looked at once.
"""

import re
from dataclasses import dataclass, field

from deployments.doors.messages.answer.whole import input_of
from deployments.openai_api.chat import dump

_OUTSIDE, _IN_TEXT = re.compile(r'[{}"]'), re.compile(r'["\\]')


@dataclass(slots=True)
class Arguments:
    """What has come of one call's arguments.

    A text that is no object is held until its end, because this API has objects only: then it is put into one.
    """

    _unread: list[str] = field(default_factory=list)
    _held: list[str] = field(default_factory=list)
    _is_object: bool = False
    _depth: int = 0
    _in_text: bool = False
    _escapes: bool = False  # whether the last piece ended with a backslash
    _whole: bool = False

    def take(self, piece: str) -> str:
        """Take a piece, and return what of it can be sent."""
        if self._is_object:
            self._unread.append(piece)
            return piece
        begun = piece if self._held else piece.lstrip()
        if not self._held and begun.startswith("{"):
            self._is_object = True
            self._unread.append(begun)
            return begun
        if begun:
            self._held.append(begun)
        return ""

    @property
    def is_whole(self) -> bool:
        """Whether the object has come to its end."""
        for piece in self._unread:
            self._read(piece)
        self._unread.clear()
        return self._whole

    def rest(self) -> str:
        """Return what must still be sent, so that all that was sent is an object."""
        return "" if self._is_object else dump(input_of("".join(self._held))).decode()

    def _read(self, piece: str) -> None:
        at = 1 if self._escapes and piece else 0
        self._escapes = self._escapes and not piece
        while (found := (_IN_TEXT if self._in_text else _OUTSIDE).search(piece, at)) is not None:
            at = found.end()
            match found.group():
                case "\\":
                    self._escapes = at == len(piece)
                    at += 1
                case '"':
                    self._in_text = not self._in_text
                case brace:
                    self._depth += 1 if brace == "{" else -1
                    self._whole = self._whole or self._depth == 0
