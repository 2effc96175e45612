"""Where the references of a schema lead, and which of them lead back to themselves. Pure.

Each answer is kept: a schema of many references costs what it is long, not the square of it.
"""

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote

from deployments.json_schema.flat import Raw, parts_of


class References:
    """The references of one schema."""

    def __init__(self, root: Mapping[str, Any]):
        self._root = root
        self._found: dict[str, Raw | None] = {"#": root}
        self._ends: dict[str, tuple[str, Raw] | None] = {}
        self._pointers: dict[int, str] = {id(root): "#"}
        self._anchors: dict[str, Raw] | None = None
        self._steps: dict[str, list[tuple[str, bool]]] | None = None
        self._loops: dict[bool, Loops] = {}

    def find(self, pointer: str) -> Raw | None:
        """Return what a `$ref` means inside the schema, or None: it means nothing, or is elsewhere."""
        if pointer not in self._found:
            self._found[pointer] = self._find(pointer)
        return self._found[pointer]

    def _find(self, pointer: str) -> Raw | None:
        if pointer.startswith("#/"):
            return _at(self._root, pointer)
        if self._anchors is None:
            self._anchors = {}
            for schema in _schemas(self._root):
                if isinstance(name := schema.get("$anchor"), str):
                    self._anchors.setdefault(f"#{name}", schema)
        return self._anchors.get(pointer)

    def end(self, pointer: str) -> tuple[str, Raw] | None:
        """Return where a reference leads in the end, always by the same name, or None if it leads nowhere."""
        passed: dict[str, None] = {}
        end: tuple[str, Raw] | None = None
        while pointer not in passed:
            if pointer in self._ends:
                end = self._ends[pointer]
                break
            passed[pointer] = None
            target = self.find(pointer)
            if not (isinstance(target, Mapping) and target.keys() == {"$ref"} and isinstance(target["$ref"], str)):
                end = None if target is None else (self._name(pointer, target), target)
                break
            pointer = target["$ref"]
        self._ends.update(dict.fromkeys(passed, end))
        return end

    def _name(self, pointer: str, target: Raw) -> str:
        return self._pointers.setdefault(id(target), pointer) if isinstance(target, Mapping) else pointer

    def loops(self, pointer: str, *, hard: bool) -> bool:
        """Return whether a schema leads back to itself. `hard`: on a way without any optional property."""
        if hard not in self._loops:
            self._loops[hard] = Loops(
                {name: [to for to, optional in steps if not (hard and optional)] for name, steps in self._all().items()}
            )
        return self._loops[hard].has(pointer)

    def _all(self) -> dict[str, list[tuple[str, bool]]]:
        """Return each schema that is referred to, with those that it refers to or holds."""
        if self._steps is None:
            for schema in _schemas(self._root):
                if isinstance(schema.get("$ref"), str):
                    self.end(schema["$ref"])
            names = dict(self._pointers)
            known = frozenset(names)
            self._steps = {name: self._steps_of(name, names, known) for name in names.values()}
        return self._steps

    def _steps_of(self, name: str, names: Mapping[int, str], known: frozenset[int]) -> list[tuple[str, bool]]:
        steps: list[tuple[str, bool]] = []
        for inner, pointer, optional in references(self.find(name), known):
            end = self.end(pointer) if inner is None else None
            to = names.get(id(inner)) if inner is not None else end[0] if end is not None else None
            if to is not None:
                steps.append((to, optional))
        return steps


class Loops:
    """Which nodes of a graph lead back to themselves: Tarjan's search, without recursion."""

    def __init__(self, steps: Mapping[str, list[str]]):
        self._steps = steps
        self._order: dict[str, int] = {}
        self._low: dict[str, int] = {}
        self._open: dict[str, None] = {}
        self._looping: set[str] = set()

    def has(self, start: str) -> bool:
        if start not in self._order:
            self._search(start)
        return start in self._looping

    def _search(self, start: str) -> None:
        way = [(start, self._enter(start))]
        while way:
            name, left = way[-1]
            to = next(left, None)
            if to is None:
                way.pop()
                self._leave(name)
                if way:
                    above = way[-1][0]
                    self._low[above] = min(self._low[above], self._low[name])
            elif to not in self._order:
                way.append((to, self._enter(to)))
            elif to in self._open:
                self._low[name] = min(self._low[name], self._order[to])

    def _enter(self, name: str) -> Iterator[str]:
        self._order[name] = self._low[name] = len(self._order)
        self._open[name] = None
        return iter(self._steps.get(name, ()))

    def _leave(self, name: str) -> None:
        """Close a group whose first node this is: all of it lead to each other."""
        if self._low[name] != self._order[name]:
            return
        group: list[str] = []
        while not group or group[-1] != name:
            group.append(self._open.popitem()[0])
        if len(group) > 1 or name in self._steps.get(name, ()):
            self._looping.update(group)


def references(schema: Raw, known: frozenset[int] = frozenset()) -> Iterator[tuple[Raw | None, str, bool]]:
    """Yield each reference inside a schema, and whether an optional property leads there.

    A schema inside that is `known` by its id is yielded itself, and not looked into.
    """
    waiting: list[tuple[Raw, bool]] = [(schema, False)]
    while waiting:
        raw, optional = waiting.pop()
        if not isinstance(raw, Mapping):
            continue
        if id(raw) in known and raw is not schema:
            yield raw, "", optional
            continue
        if isinstance(raw.get("$ref"), str):
            yield None, raw["$ref"], optional
        required = raw.get("required")
        needed = {name for name in required if isinstance(name, str)} if isinstance(required, list) else set()
        waiting += [
            (inner, optional or (keyword == "properties" and name not in needed))
            for keyword, name, inner in parts_of(raw)
            if keyword not in ("$defs", "definitions")
        ]


def _schemas(root: Raw) -> Iterator[Mapping[str, Any]]:
    """Yield each schema inside a schema, itself first."""
    waiting: list[Raw] = [root]
    while waiting:
        raw = waiting.pop()
        if isinstance(raw, Mapping):
            yield raw
            waiting += [inner for _, _, inner in parts_of(raw)]


def _at(root: Mapping[str, Any], pointer: str) -> Raw | None:
    place: Any = root
    for step in unquote(pointer[2:]).split("/"):
        key = step.replace("~1", "/").replace("~0", "~")
        if isinstance(place, Mapping) and key in place:
            place = place[key]
        elif isinstance(place, list) and key.isascii() and key.isdecimal() and len(key) < 6 and int(key) < len(place):
            place = place[int(key)]
        else:
            return None
    return place if isinstance(place, Mapping | bool) else None
