"""The tool calls of one choice of a stream: which fragment belongs to which call. Pure.

OpenAI's SDKs put a call together by its `index`, and fail without one. Servers that leave it out tell the calls apart
by their ids, or by nothing but their order. Some give each call the index 0.
"""

from dataclasses import dataclass, field

from deployments.openai_api.json_types import JsonDict, JsonValue, whole_number
from deployments.providers.openai.stream.content import arguments_as_text, is_json
from deployments.providers.translation.choice import new_id

MOST_CALLS = 1024  # of one choice
_MOST_ARGUMENTS = 256 * 1024  # characters that are kept of a call without an id, to find its end


@dataclass(slots=True)
class CallNumbers:
    """The calls so far, by their index. A fragment that is right is not touched."""

    _ids: dict[int, str | None] = field(default_factory=dict)
    _of_given: dict[int, int] = field(default_factory=dict)  # the server's index: the call that it means now
    _last: int = 0
    _said: dict[int, tuple[str | None, str | None]] = field(default_factory=dict)  # names and arguments
    _begun: set[int] = field(default_factory=set)  # the calls that have arguments

    def __len__(self) -> int:
        return len(self._ids)

    def number(self, parts: JsonValue) -> bool:
        """Give each fragment the index of its call, and each new call an id; return whether anything was changed."""
        changed = False
        for part in parts if isinstance(parts, list) else ():
            if isinstance(part, dict):
                changed = self._number_one(part) or changed
        return changed

    def _number_one(self, part: JsonDict) -> bool:
        function = part.get("function")
        function = function if isinstance(function, dict) else {}
        key, name = _text(part.get("id")), _text(function.get("name"))
        given = whole_number(part.get("index"))
        at = self._by_order(key, name) if given is None else self._by_index(given, key, name)
        begins = at not in self._ids
        changed = arguments_as_text(part)
        self._keep_said(at, key, name, function.get("arguments"))
        changed = self._place(part, at, key, begins=begins) or changed
        if begins and key is None and name is not None:
            part["id"] = key = new_id()
            changed = True
        if begins and changed:
            part.setdefault("type", "function")
        if self._ids.get(at) is None:
            self._ids[at] = key
        self._last = at
        return changed

    def _keep_said(self, at: int, key: str | None, name: str | None, arguments: JsonValue) -> None:
        """Keep the call's name, and its arguments if it began without an id: only their end tells it from the next."""
        known, before = self._said.get(at, (None, "" if key is None else None))
        if isinstance(arguments, str) and arguments:
            self._begun.add(at)
            before = None if before is None or len(before) > _MOST_ARGUMENTS else before + arguments
        self._said[at] = known or name, before

    def _place(self, part: JsonDict, at: int, key: str | None, *, begins: bool) -> bool:
        """Give a fragment its call's index; return whether it was changed. An SDK adds up a call's texts, its id too.

        So an id goes with its first fragment. One that repeats it at the right index stays: clients know that.
        """
        moved = type(part.get("index")) is not int or part["index"] != at
        part["index"] = at
        if not begins and key is not None and (moved or self._ids[at] != key):
            del part["id"]
            moved = True
        return moved

    def _by_index(self, given: int, key: str | None, name: str | None) -> int:
        at = self._of_given.get(given)
        if at is None:
            at = given if given not in self._ids else self._next()
        elif name is not None and key is not None and self._ids[at] not in (None, key):
            # Another call under the same index. Without a name it is the same call, whatever the id: some servers
            # tell another id from the second fragment on (poolsideai/pool#9).
            at = self._by_id(key)
        elif name is not None and key is None and self._is_over(at, name):
            at = self._next()
        self._of_given[given] = at
        return at

    def _is_over(self, at: int, name: str) -> bool:
        """Return whether a fragment with a name and no id begins another call: with another name, or behind a whole.

        Before the first arguments it may be the next piece of the name, which an SDK adds up.
        """
        known, arguments = self._said[at]
        return at in self._begun and (known not in (None, name) or (arguments is not None and is_json(arguments)))

    def _by_order(self, key: str | None, name: str | None) -> int:
        if key is not None:
            return self._by_id(key)
        return self._next() if name is not None or not self._ids else self._last

    def _by_id(self, key: str) -> int:
        return next((at for at, known in self._ids.items() if known == key), self._next())

    def _next(self) -> int:
        return max(self._ids, default=-1) + 1


def _text(value: JsonValue) -> str | None:
    """Return a text that says something; None for anything else."""
    return value if isinstance(value, str) and value else None
