"""The tool calls of one choice of a stream: which fragment belongs to which call. Pure.

OpenAI's SDKs put a call together by its `index`, and fail without one. Servers that leave it out tell the calls apart
by their ids, or by nothing but their order. Some give each call the index 0.
"""

from dataclasses import dataclass, field

from deployments.openai_api.json_types import JsonDict, JsonValue, whole_number
from deployments.providers.choice import new_id
from deployments.providers.openai.stream.content import arguments_as_text, is_json


@dataclass(slots=True)
class CallNumbers:
    """The calls so far, by their index. A fragment that is right is not touched."""

    _ids: dict[int, str | None] = field(default_factory=dict)
    _of_given: dict[int, int] = field(default_factory=dict)  # the server's index: the call that it means now
    _last: int = 0
    _said: dict[int, tuple[str, str]] = field(default_factory=dict)  # name and arguments of calls without an id

    def number(self, parts: JsonValue) -> bool:
        """Give each fragment the index of its call, and each new call an id; return whether anything was changed."""
        changed = False
        for part in parts if isinstance(parts, list) else ():
            if isinstance(part, dict):
                changed = self._number_one(part) or changed
        return changed

    def _number_one(self, part: JsonDict) -> bool:
        given, key = whole_number(part.get("index")), part.get("id")
        key = key if isinstance(key, str) and key else None
        function = part.get("function")
        name = function.get("name") or None if isinstance(function, dict) else None
        named = name is not None
        at = self._by_order(key, named=named) if given is None else self._by_index(given, key, name)
        begins = at not in self._ids
        changed = arguments_as_text(part)
        if key is None and isinstance(function, dict) and (begins or at in self._said):
            known, arguments = self._said.get(at, ("", ""))
            more = function.get("arguments")
            self._said[at] = name or known, arguments + (more if isinstance(more, str) else "")
        if type(part.get("index")) is not int or part["index"] != at:
            part["index"] = at
            changed = True
            if not begins and key is not None:
                del part["id"]  # an SDK adds up the texts of a call, its id too
        if begins and key is None and named:
            part["id"] = key = new_id()
            changed = True
        if begins and changed:
            part.setdefault("type", "function")
        if self._ids.get(at) is None:
            self._ids[at] = key
        self._last = at
        return changed

    def _by_index(self, given: int, key: str | None, name: JsonValue) -> int:
        at = self._of_given.get(given)
        if at is None:
            at = given if given not in self._ids else self._next()
        elif name is not None and key is not None and self._ids[at] not in (None, key):
            at = self._by_id(key)  # another call under the same index
        elif name is not None and key is None and self._is_over(at, name):
            at = self._next()
        self._of_given[given] = at
        return at

    def _is_over(self, at: int, name: JsonValue) -> bool:
        """Return whether a name without an id begins another call: the last has another name, or is whole."""
        known, arguments = self._said.get(at, ("", ""))
        return at in self._said and ((bool(known) and known != name) or is_json(arguments))

    def _by_order(self, key: str | None, *, named: bool) -> int:
        if key is not None:
            return self._by_id(key)
        return self._next() if named or not self._ids else self._last

    def _by_id(self, key: str) -> int:
        return next((at for at, known in self._ids.items() if known == key), self._next())

    def _next(self) -> int:
        return max(self._ids, default=-1) + 1
