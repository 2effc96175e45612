"""Names of tools that a server streams in pieces, made whole before they are put back into the client's words. Pure.

Servers may send the pieces of a name as they send those of the arguments, and an SDK adds both up. Half of a name can't
be put back, so the first fragment of a call is kept until its name is whole, or can't become one that was changed.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from deployments.openai_api.chat import frame
from deployments.openai_api.json_types import JsonDict, JsonValue, parse_leniently, whole_number

_NAME = re.compile(rb'(?<!\\)"name"\s*:\s*"([^"\\]+)"')


_OF_ONE_FRAME = frozenset({"choices", "usage"})


@dataclass(frozen=True, slots=True)
class _Kept:
    """The beginning of a call, and the frame in which it came, without its choices."""

    chunk: JsonDict
    call: JsonDict


class NamesInStream:
    """`names` are those that were changed, as the vendor has them; `restore` puts the client's into frames."""

    def __init__(self, names: Mapping[str, str], restore: Callable[[bytes], bytes]):
        self._names, self._restore = names, restore
        self._kept: dict[tuple[int, JsonValue], _Kept] = {}  # by the indexes of the choice and of the call

    def restored(self, data: bytes, *, last: bool = False) -> bytes:
        """Return whole events as the client gets them. `last`: no piece of a name can follow."""
        if self._kept or any(self._is_piece(found.decode(errors="replace")) for found in _NAME.findall(data)):
            data = b"".join(map(self._event, data.split(b"\n\n")))
        return self._restore(data) + (self.rest() if last else b"")

    def rest(self) -> bytes:
        """Return the frames of the calls whose names have not become whole."""
        return b"".join(map(self._released, list(self._kept)))

    def _is_piece(self, name: JsonValue) -> bool:
        """Return whether it is the beginning of a name that was changed, and not all of it."""
        return isinstance(name, str) and any(new != name and new.startswith(name) for new in self._names)

    def _event(self, event: bytes) -> bytes:
        if not event.startswith(b"data: {"):
            return event + b"\n\n" if event else b""
        chunk: JsonDict = parse_leniently(event[6:])
        choices = [choice for choice in chunk.get("choices") or () if isinstance(choice, dict)]
        before, kept = b"", False
        for choice in choices:
            released, keeps = self._choice(chunk, choice)
            before, kept = before + released, kept or keeps
        if kept and not any(choice.get("delta") or choice.get("finish_reason") for choice in choices):
            return before
        return before + frame(chunk)

    def _choice(self, chunk: JsonDict, choice: JsonDict) -> tuple[bytes, bool]:
        """Keep what is a piece of a name. Return the frames of kept calls that are over, and whether it kept any."""
        at, said = whole_number(choice.get("index")) or 0, choice.get("delta")
        delta: JsonDict = said if isinstance(said, dict) else {}
        fragments = delta.get("tool_calls")
        calls = [call for call in fragments if isinstance(call, dict)] if isinstance(fragments, list) else []
        before = b""
        if delta or choice.get("finish_reason"):
            going_on = [call.get("index") for call in calls]
            over = [place for place in self._kept if place[0] == at and place[1] not in going_on]
            before = b"".join(map(self._released, over))
        if not calls:
            return before, False
        left = [call for call in calls if not self._keeps((at, call.get("index")), chunk, call)]
        choice["delta"] = {key: value for key, value in delta.items() if key != "tool_calls"}
        if left:
            choice["delta"]["tool_calls"] = left
        return before, len(left) < len(calls)

    def _keeps(self, place: tuple[int, JsonValue], chunk: JsonDict, call: JsonDict) -> bool:
        """Return whether a fragment is kept. One that goes out gets what was kept of its call."""
        before = self._kept.pop(place).call if place in self._kept else {}
        said = call.get("function")
        added = said if isinstance(said, dict) else {}
        function = _added_up(before.get("function", {}), added)
        if function:
            call |= {**before, "function": function}
        may_go_on = bool(added.get("name") or not before) and not function.get("arguments")
        if not (may_go_on and self._is_piece(function.get("name"))):
            return False
        self._kept[place] = _Kept({key: value for key, value in chunk.items() if key not in _OF_ONE_FRAME}, call)
        return True

    def _released(self, place: tuple[int, JsonValue]) -> bytes:
        kept = self._kept.pop(place)
        choice = {"index": place[0], "delta": {"tool_calls": [kept.call]}, "finish_reason": None}
        return self._restore(frame({**kept.chunk, "choices": [choice]}))


def _added_up(before: JsonDict, after: JsonDict) -> JsonDict:
    """Return a call's function after its next fragment, as an SDK puts it together."""
    texts = {
        key: f"{before.get(key) or ''}{after.get(key) or ''}"
        for key in ("name", "arguments")
        if isinstance(before.get(key), str) or isinstance(after.get(key), str)
    }
    return {**before, **after, **texts}
