"""The bare input of a custom tool, taken out of its function's arguments as they come. Pure.

The model writes `{"input": "..."}`, and the client wants what the string says. Its JSON comes in pieces that may end
in the middle of an escape, or between both halves of a surrogate pair: those wait for the rest. Arguments of any other
form are kept to their end, and read then as well as they can be.
"""

import json
import re
from dataclasses import dataclass, field

from deployments.doors.responses.request.tools import INPUT
from deployments.openai_api.json_types import JsonValue

_START = re.compile(rf'\s*\{{\s*"{INPUT}"\s*:\s*"')
_COMPACT = f'{{"{INPUT}":"'
_MOST_START = 256  # characters in which the string must have begun
# Texts and whole escapes; half a surrogate pair only together with its other half.
_WHOLE = re.compile(
    r'(?:[^"\\]+|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}'
    r'|\\u(?![dD][89a-fA-F])[0-9a-fA-F]{4}|\\["\\/bfnrt])*'
)
_BROKEN = re.compile(r"(\\u[0-9a-fA-F]{4})|\\.?", re.DOTALL)
_LONGEST_ESCAPE = 12  # characters of a pair


@dataclass(slots=True)
class CustomInput:
    """`text` is the input so far, in the pieces in which it was told."""

    text: list[str] = field(default_factory=list)
    _state: str = "before"  # before | inside | other | over
    _kept: list[str] = field(default_factory=list)  # what is not told yet

    @property
    def is_whole(self) -> bool:
        return self._state == "over"

    def feed(self, piece: str) -> str:
        """Return what a piece of the arguments adds to the input."""
        if self._state == "over":
            return ""
        self._kept.append(piece)
        if self._state == "before":
            self._begin("".join(self._kept))
        return self._inside("".join(self._kept)) if self._state == "inside" else ""

    def end(self) -> str:
        """Return what is still to be told when the arguments are over."""
        rest, state = "".join(self._kept), self._state
        self._kept, self._state = [], "over"
        if state == "inside":
            return self._told(_BROKEN.sub(_lenient, rest))
        return self._told(_input_of(rest)) if state in ("before", "other") else ""

    def _told(self, text: str) -> str:
        if text:
            self.text.append(text)
        return text

    def _begin(self, kept: str) -> None:
        if (start := _START.match(kept)) is not None:
            self._kept, self._state = [kept[start.end() :]], "inside"
        elif len(kept) > _MOST_START or not _COMPACT.startswith("".join(kept.split())):
            self._state = "other"

    def _inside(self, kept: str) -> str:
        texts, at = list[str](), 0
        while True:
            found = _WHOLE.match(kept, at)
            end = at if found is None else found.end()
            texts.append(_decoded(kept[at:end]))
            broken = _BROKEN.match(kept, end)
            # An escape that is not whole yet is none that is broken.
            if broken is None or len(kept) - end < _LONGEST_ESCAPE:
                break
            texts.append(_lenient(broken))
            at = broken.end()
        if kept.startswith('"', end):
            self._kept, self._state = [], "over"
        else:
            self._kept = [kept[end:]]
        return self._told("".join(texts))


def _decoded(escaped: str) -> str:
    return str(json.loads(f'"{escaped}"', strict=False)) if "\\" in escaped else escaped


def _lenient(broken: re.Match[str]) -> str:
    """Return what a broken escape says: half a surrogate pair is no character, anything else stands for itself."""
    return "\N{REPLACEMENT CHARACTER}" if broken.group(1) else broken.group()


def _input_of(arguments: str) -> str:
    """Return the input in arguments of another form."""
    try:
        value: JsonValue = json.loads(arguments)
    except (ValueError, RecursionError):
        return arguments
    given = value.get(INPUT) if isinstance(value, dict) else None
    return given if isinstance(given, str) else arguments
