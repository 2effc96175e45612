"""A JSON schema in the form that a vendor takes: lossless where it can be, and named where it can't. Pure.

How it goes. References, `allOf` and short forms at a place are met first (`flat.py`), a union beside other keywords is
spread over its choices, and what is left is written in the dialect's words (`typed.py`). References that the dialect
takes are collected in `$defs`; the others are written out, a few times where they lead back to themselves.

What holds. If nothing is lost, both schemas allow the same values; where a dialect closes its objects, the same of
those values whose objects have no properties but the described ones. If something is lost, each such value that the
schema allows is still allowed, except for what the dialect has no form: objects within an object that describes none,
and schemas that stand inside themselves too often. A schema that is too deep or too large is cut: that is named too.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from deployments.json_schema.dialects import EVERYTHING, NOVA_TOOLS, Dialect
from deployments.json_schema.flat import (
    NOTES,
    Flat,
    Raw,
    differ,
    is_in,
    is_same,
    types_meant,
    weight_of,
)
from deployments.json_schema.references import References, references
from deployments.json_schema.steps import Steps, TooManySteps
from deployments.json_schema.top import as_object
from deployments.json_schema.typed import Out, Place, Work, free, join, one_of, write

DEEPEST = 64  # places inside each other
MOST_VALUES = 10_000  # in a schema that is translated at all; vendors have compiled none as large
MOST_COMPARED = 32  # choices of a union
MOST_CHOICES = 64  # that several unions at one place make together
MOST_MET = 256  # parts of one place
MOST_TAGS = 8  # properties that may tell two choices apart
LARGEST = 2000  # places of the result, beyond the values of the schema
# Times that a schema stands inside itself where it may not refer to itself, and whether a union is spread over what
# stands beside it: the first with which the result is not too large.
_EXTENTS = ((3, True), (1, True), (0, True), (0, False))

_CONSTRAINING = EVERYTHING | {"type", "enum", "const", "anyOf", "oneOf", "allOf"}


@dataclass(frozen=True, slots=True)
class Translated:
    """A schema in a dialect's form.

    Attributes:
        schema: the very object that was given, if it needs no change.
        lost: the path of each keyword that constrains no more, or whose freedom is gone: `properties.n.minimum`.
    """

    schema: Mapping[str, Any]
    lost: tuple[str, ...] = ()


def translate(schema: Mapping[str, Any], dialect: Dialect) -> Translated:
    """Return the schema in a form that the dialect's server takes. Never raises, and never changes what it is given."""
    size, steps = _size(schema), Steps()
    if size is None:
        return _untranslated(dialect)
    try:
        written, lost = _unrolled(schema, dialect, size, steps)
        if dialect.recursion == "optional" and "$defs" in written and not is_same(written, schema):
            # Where parts were met, more may be required: a way back may have no optional property any more.
            written, more = _unrolled(written, dialect, size, steps)
            lost |= more
    except TooManySteps:
        return _untranslated(dialect)
    return Translated(schema if is_same(written, schema) else written, tuple(lost))


def _untranslated(dialect: Dialect) -> Translated:
    return Translated({"type": "object", **_EMPTY[dialect.closed]}, ("type",))


def _unrolled(schema: Mapping[str, Any], dialect: Dialect, size: int, steps: Steps) -> tuple[Out, dict[str, None]]:
    """Return the schema as written and what is lost, with recursions written out as often as there is room for."""
    for extent in _EXTENTS:
        work = _Translator(schema, dialect, LARGEST + size, extent, steps)
        written = work.whole()
        if not work.is_cut:
            break
    return written, work.lost


_EMPTY: Mapping[bool, Out] = {
    True: {"properties": {}, "required": [], "additionalProperties": False},
    False: {},
}


def _size(schema: Mapping[str, Any]) -> int | None:
    """Return the number of values inside, and more for long texts, or None: it is no JSON, too deep or too large."""
    waiting: list[tuple[Any, int]] = [(schema, 0)]
    size = texts = 0
    while waiting:
        value, depth = waiting.pop()
        size += 1
        if depth > 2 * DEEPEST or size > MOST_VALUES:
            return None
        if isinstance(value, Mapping):
            if not all(isinstance(name, str) for name in value):
                return None
            waiting += [(inner, depth + 1) for inner in value.values()]
        elif isinstance(value, list):
            waiting += [(inner, depth + 1) for inner in value]
        elif isinstance(value, str):
            texts += len(value) // 64
        elif not (value is None or isinstance(value, int | float)):
            return None
    return size + texts


class _Translator(Work):
    def __init__(self, root: Mapping[str, Any], dialect: Dialect, most: int, extent: tuple[int, bool], steps: Steps):
        self._steps = steps
        self._root = root
        self._dialect = dialect
        self._left = most
        self._extent = extent
        self._unrolled, self._spreads = extent
        self._began: dict[str, Place] = {}
        self._names: dict[str, str] = {}
        self._pointers: dict[str, str] = {}
        self._references = References(root)
        self.lost: dict[str, None] = {}
        self._told: set[tuple[str, str]] = set()  # a schema that was referred to, and what is lost inside it
        self._cut: set[str] = set()  # schemas that stand inside themselves no more: what follows from that is named

    @property
    def dialect(self) -> Dialect:
        return self._dialect

    @property
    def is_cut(self) -> bool:
        """Has the result grown too large?"""
        return self._left < 0

    def lose(self, place: Place, *steps: object) -> None:
        """Keep what is lost: once, where a schema stands inside itself and loses the same each time."""
        path = join(place.path, *steps)
        same = (place.trail[-1] if place.trail else "", path[place.began :].removeprefix("."))
        repeated = len(set(place.trail)) < len(place.trail)
        if not (repeated and (same in self._told or not self._cut.isdisjoint(place.trail))):
            self._told.add(same)
            self.lost[path] = None

    def _lose_loop(self, pointer: str) -> None:
        self._cut.add(pointer)
        self.lost[join(self._began.get(pointer, Place()).path, "$ref")] = None

    def whole(self) -> Out:
        """Return the whole schema."""
        top: Mapping[str, Any] = self._root
        if self.dialect.object_top:
            top = as_object(top, lambda raw: self._flat(raw, Place()), lambda keyword: self.lose(Place(), keyword))
        if self.dialect.top_alone:
            return self._alone(top)
        place = Place(trail=("#",))
        flat = self._flat(top, place)
        written = self._noted(self._written(flat, place), flat.notes)
        written = self._impossible(place) if written is None else written
        if self.dialect.top_keywords is not None:
            for keyword in [name for name in written if name not in self.dialect.top_keywords]:
                if keyword not in NOTES:
                    self.lose(place, keyword)
                del written[keyword]
        defs = self._definitions(written)
        return {**written, "$defs": defs} if defs else written

    def _definitions(self, written: Out) -> Out:
        """Return what the references in what is written lead to, and no more."""
        defs: Out = {}
        waiting = [found for _, found, _ in references(written)]
        while waiting:
            name = waiting.pop().removeprefix("#/$defs/")
            if name in defs or name not in self._pointers:
                continue
            pointer = self._pointers[name]
            at = Place(join("$defs", name)).behind(pointer)
            body = self.schema(self._references.find(pointer), at)
            defs[name] = self._impossible(at) if body is None else body
            waiting += [found for _, found, _ in references(defs[name])]
        return defs

    def _alone(self, top: Mapping[str, Any]) -> Out:
        """Return the schema with nothing changed below its top, unless a reference would lead nowhere then."""
        if top is self._root or _leads_somewhere(top):
            return dict(top)
        whole = replace(NOVA_TOOLS, top_keywords=None)
        work = _Translator(self._root, whole, self._left, self._extent, self._steps)
        written = work.whole()
        self.lost |= work.lost
        return written

    def _impossible(self, place: Place) -> Out:
        """A schema that allows nothing has no form anywhere."""
        self.lose(place, "type")
        if place.path == "" and self.dialect.object_top:
            return {"type": "object", **_EMPTY[self.dialect.closed]}
        return free(self, place)

    def schema(self, raw: Raw, place: Place) -> Out | None:
        """Return one schema of it, or None if it allows nothing."""
        if raw is False:
            return None
        if not isinstance(raw, Mapping):
            return free(self, place)
        self._steps.take(raw)
        self._left -= weight_of(raw)
        if self._left < 0 or place.depth > DEEPEST:
            self.lose(place, "type")
            return free(self, place)
        if isinstance(raw.get("$ref"), str) and _CONSTRAINING.isdisjoint(raw):
            return self._ref(raw, place)
        flat = self._flat(raw, place)
        return self._noted(self._written(flat, place), flat.notes)

    def _noted(self, written: Out | None, notes: Mapping[str, Any]) -> Out | None:
        if written is None or "$ref" in written:
            return written
        return {**written, **{k: v for k, v in notes.items() if k in self.dialect.notes and _is_note(k, v)}}

    # References

    def _ref(self, raw: Mapping[str, Any], place: Place) -> Out | None:
        aim = self._references.end(raw["$ref"])
        if aim is None:
            self.lose(place, "$ref")
            return free(self, place)
        pointer, target = aim
        notes = {name: value for name, value in raw.items() if name in self.dialect.notes}
        if self._keeps(pointer) and (not notes or self._references.loops(pointer, hard=False)):
            return {"$ref": self._named(pointer)}
        if place.trail.count(pointer) > self._unrolled:
            self._lose_loop(pointer)
            return {} if self.dialect.free else None
        self._began.setdefault(pointer, place)
        return self._noted(self.schema(target, place.behind(pointer)), notes)

    def _keeps(self, pointer: str) -> bool:
        """May a reference to this stay a reference?"""
        dialect = self.dialect
        if not dialect.refs or dialect.recursion == "kept":
            return dialect.refs
        return not self._references.loops(pointer, hard=dialect.recursion == "optional")

    def _named(self, pointer: str) -> str:
        if pointer == "#" and self.dialect.recursion == "kept":
            return "#"
        if pointer not in self._names:
            wanted = pointer.rpartition("/")[2].strip("#") or "root"
            name, more = wanted, 1
            while name in self._pointers:
                more += 1
                name = f"{wanted}_{more}"
            self._names[pointer] = name
            self._pointers[name] = pointer
        return f"#/$defs/{self._names[pointer]}"

    # What one place says

    def _flat(self, raw: Raw, place: Place) -> Flat:
        flat = Flat()
        self._add(flat, raw, place, 0)
        return flat

    def _add(self, flat: Flat, raw: Raw, place: Place, depth: int) -> None:
        if raw is False:
            flat.never = True
        if not isinstance(raw, Mapping):
            return
        self._left -= depth > 0
        self._steps.take(raw)
        flat.met += 1
        if depth > DEEPEST or flat.met > MOST_MET:
            flat.lost.append("allOf")
            return
        for name in NOTES & raw.keys():
            flat.notes.setdefault(name, raw[name])
        flat.meet(raw)
        if isinstance(pointer := raw.get("$ref"), str):
            self._follow(flat, pointer, place, depth)
        if isinstance(inner := raw.get("allOf"), list):
            for one in inner:
                self._add(flat, one, place, depth + 1)
        for keyword in ("anyOf", "oneOf"):
            inner = raw.get(keyword)
            choices = [one for one in inner if one is not False] if isinstance(inner, list) else []
            if len(choices) == 1:
                self._add(flat, choices[0], place, depth + 1)
            elif choices:
                flat.unions.append((keyword, choices))
            elif inner:
                flat.never = True

    def _follow(self, flat: Flat, pointer: str, place: Place, depth: int) -> None:
        aim = self._references.end(pointer)
        if aim is None:
            flat.lost.append("$ref")
        elif aim[0] in flat.refs:
            return  # it has been met already
        elif place.trail.count(aim[0]) > self._unrolled:
            self._lose_loop(aim[0])
            flat.never = flat.never or not self.dialect.free
        else:
            self._began.setdefault(aim[0], place)
            flat.refs.append(aim[0])
            self._add(flat, aim[1], place, depth + 1)

    def _written(self, flat: Flat, place: Place) -> Out | None:
        if flat.never:
            for keyword in flat.lost:
                self.lose(place, keyword)
            return None
        place = place.behind(*flat.refs)
        if not flat.unions:
            return write(self, flat, place)
        for keyword in flat.lost:
            self.lose(place, keyword)
        while flat.unions and not self._may_spread(flat):
            self.lose(place, flat.unions.pop()[0])
        if not flat.unions:
            return write(self, flat, place)
        keyword, choices = flat.unions[0]
        base = [*flat.parts, *({name: others} for name, others in flat.unions[1:])]
        raws = [{"allOf": [*base, choice]} if base else choice for choice in choices]
        if keyword == "oneOf" and not self._are_apart(raws, place):
            self.lose(place, "oneOf")
        return self._union(raws, place, keyword)

    def _may_spread(self, flat: Flat) -> bool:
        """Is there room for each choice of a union, with all that stands beside it?"""
        if len(flat.unions) == 1:
            return self._spreads or not flat.parts
        return self._spreads and math.prod(len(choices) for _, choices in flat.unions) <= MOST_CHOICES

    def _union(self, raws: list[Raw], place: Place, keyword: str) -> Out | None:
        choices: list[Out] = []
        for at, raw in enumerate(raws):
            written = self.schema(raw, place.inside(keyword, at))
            if written == {}:
                return {}
            if written is not None:
                choices += written["anyOf"] if written.keys() == {"anyOf"} else [written]
        kept: list[Out] = []
        for choice in choices:
            if not is_in(choice, kept[-MOST_COMPARED:]):
                kept.append(choice)
        return one_of(kept)

    def _are_apart(self, raws: list[Raw], place: Place) -> bool:
        """Can no value be allowed by two of these? Only then `anyOf` says what `oneOf` says."""
        if len(raws) > MOST_COMPARED:
            return False
        flats = [self._flat(raw, place) for raw in raws]
        pairs = ((one, other) for at, one in enumerate(flats) for other in flats[:at])
        return all(self._is_apart(one, other, place, deep=True) for one, other in pairs)

    def _is_apart(self, one: Flat, other: Flat, place: Place, *, deep: bool) -> bool:
        if one.never or other.never or differ(one.own, other.own):
            return True
        if not deep or not (types_meant(one.own) == types_meant(other.own) == ("object",)):
            return False
        mine, its = one.own.get("properties", {}), other.own.get("properties", {})
        tags = set(one.own.get("required", ())) & set(other.own.get("required", ())) & mine.keys() & its.keys()
        named = sorted(tag for tag in tags if not _NAMING.isdisjoint([*_keys(mine[tag]), *_keys(its[tag])]))
        return any(
            self._is_apart(self._flat(mine[tag], place), self._flat(its[tag], place), place, deep=False)
            for tag in [*named, *sorted(tags)][:MOST_TAGS]
        )


_NAMING = frozenset({"const", "enum"})


def _keys(raw: Raw) -> Iterable[str]:
    return raw if isinstance(raw, Mapping) else ()


def _leads_somewhere(top: Mapping[str, Any]) -> bool:
    """Do all references inside a schema lead to something inside it?"""
    inside = References(top)
    return all(inside.find(pointer) is not None for _, pointer, _ in references(top))


def _is_note(name: str, value: Any) -> bool:
    """Has a note the form that the vendors read?"""
    wanted = {"title": str, "description": str, "propertyOrdering": list}.get(name)
    return wanted is None or isinstance(value, wanted)
