"""The calls of one answer, made whole out of their pieces. Pure.

Items follow each other, so one call is open at a time. Some servers send the pieces of several calls in turn: the
pieces of a later call wait until the arguments of the open one are whole.
"""

from dataclasses import dataclass, field

import orjson

from deployments.doors.envelope import absorb
from deployments.openai_api.chat import dump
from deployments.openai_api.json_types import JsonDict, JsonObject, JsonValue, whole_number

_MOST_CHECKS = 64  # of one call: to read arguments again and again costs more than to let the next call wait


@dataclass(slots=True)
class Call:
    """A call so far. `arguments` are all pieces that have come, and `pieces` those that nobody has taken yet."""

    id: str
    index: int
    name: str = ""
    pieces: list[str] = field(default_factory=list)
    arguments: list[str] = field(default_factory=list)
    extra: JsonDict = field(default_factory=dict)
    begun: bool = False
    over: bool = False
    _checks: int = 0
    _checked: int = -1

    def take(self, piece: JsonObject) -> None:
        function = piece.get("function")
        function = function if isinstance(function, dict) else {}
        name, arguments = function.get("name"), function.get("arguments")
        if isinstance(name, str) and name != self.name and not self.begun:
            self.name += name  # an SDK adds pieces up
        if isinstance(extra := piece.get("extra_content"), dict):
            absorb(self.extra, extra)
        if arguments and not self.over:
            text = arguments if isinstance(arguments, str) else dump(arguments).decode()
            self.pieces.append(text)
            self.arguments.append(text)

    @property
    def is_whole(self) -> bool:
        """Whether its arguments are whole, as far as anybody can tell before the answer's end."""
        if self.over:
            return True
        if self._checked == len(self.arguments) or not self.arguments or self._checks >= _MOST_CHECKS:
            return False
        if not self.arguments[-1].rstrip().endswith("}"):
            return False
        self._checked, self._checks = len(self.arguments), self._checks + 1
        try:
            orjson.loads("".join(self.arguments))
        except orjson.JSONDecodeError:
            return False
        return True


@dataclass(slots=True)
class Calls:
    """All calls, in the order in which they began. `answer` makes the ids of calls that have none."""

    answer: str
    _calls: dict[int, Call] = field(default_factory=dict)

    def take(self, pieces: JsonValue) -> list[Call]:
        """Return the calls to which pieces were added."""
        taken: list[Call] = []
        for at, piece in enumerate(pieces if isinstance(pieces, list) else ()):
            if isinstance(piece, dict):
                index = whole_number(piece.get("index"))
                taken.append(self._take(at if index is None else index, piece))
        return taken

    def _take(self, index: int, piece: JsonObject) -> Call:
        if (call := self._calls.get(index)) is None:
            key = piece.get("id")
            call = Call(key if isinstance(key, str) and key else f"call_{self.answer}{len(self._calls)}", index)
            self._calls[index] = call
        call.take(piece)
        return call

    def waiting(self) -> list[Call]:
        """Return the calls that have not begun."""
        return [call for call in self._calls.values() if not call.begun]
