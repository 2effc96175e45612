"""One place of a schema as a dialect writes it, once references, unions and parts are out of the way. Pure."""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from deployments.json_schema.dialects import OF_ANYTHING, OF_ARRAYS, OF_NUMBERS, OF_OBJECTS, OF_STRINGS, Dialect
from deployments.json_schema.flat import Flat, Raw, is_in, is_number, type_of, types_meant

Out = dict[str, Any]

_NOT_NESTED = frozenset({"string", "number", "integer", "boolean", "null"})
_MOST_NAMED = 32  # whole numbers between two bounds that are named one by one where bounds are not taken
_ASSERTIONS = re.compile(r"\(\?(?!:)|\\[bB1-9]|\\k|\{\d{3,}|,\d{3,}\}")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a schema stands.

    Attributes:
        path: the way from the top.
        trail: the references that led here.
        depth: how many schemas it stands in.
        began: the length of the path where the last of the references was followed.
    """

    path: str = ""
    trail: tuple[str, ...] = ()
    depth: int = 0
    began: int = 0

    def inside(self, *steps: object) -> "Place":
        return Place(join(self.path, *steps), self.trail, self.depth + 1, self.began)

    def behind(self, *pointers: str) -> "Place":
        if not pointers:
            return self
        return Place(self.path, (*self.trail, *pointers), self.depth + 1, len(self.path))


def join(path: str, *steps: object) -> str:
    """Return a path with more steps at its end."""
    return ".".join([*([path] if path else []), *map(str, steps)])


class Work(Protocol):
    """What writes the schemas inside a place, and keeps what is lost."""

    @property
    def dialect(self) -> Dialect: ...

    def schema(self, raw: Raw, place: Place) -> Out | None:
        """Return a schema as the dialect writes it, or None if it allows nothing."""

    def lose(self, place: Place, *steps: object) -> None: ...


def free(work: Work, place: Place) -> Out:
    """Return what allows anything, or as much of it as the dialect can say."""
    if work.dialect.free:
        return {}
    work.lose(place, "type")
    return {"type": ["string", "number", "boolean", "null"]}


def write(work: Work, flat: Flat, place: Place) -> Out | None:
    """Return what a place without unions says, or None if it allows nothing."""
    own = flat.own
    for keyword in flat.lost:
        work.lose(place, keyword)
    beside = _carried(work, own, OF_ANYTHING, place)
    types = types_meant(own)
    if "enum" in own:
        written = _values(work, flat, own.get("type", ()), place)
    elif not types:
        written = free(work, place)
    else:
        written = _typed(work, own, types, place)
    return None if written is None else {**written, **beside}


def _typed(work: Work, own: Mapping[str, Any], types: tuple[str, ...], place: Place) -> Out | None:
    choices: list[Out] = []
    for group in _groups(work.dialect, types):
        if group == ("object",):
            written = _object(work, own, place)
        elif group == ("array",):
            written = _array(work, own, place)
        else:
            written = _scalar(work, own, group, place)
        if written is not None:
            choices.append(written)
    return one_of(choices)


def one_of(choices: list[Out]) -> Out | None:
    """Return a union of these, or None if there is none."""
    if len(choices) > 1:
        return {"anyOf": choices}
    return choices[0] if choices else None


def _groups(dialect: Dialect, types: tuple[str, ...]) -> list[tuple[str, ...]]:
    """Return the types that are written together: objects and arrays stand alone."""
    plain = tuple(name for name in types if name in _NOT_NESTED)
    nested: list[tuple[str, ...]] = [(name,) for name in types if name not in _NOT_NESTED]
    valued = tuple(name for name in plain if name != "null")
    if not plain:
        return nested
    if dialect.mixed or len(valued) < 2:
        return [*nested, plain]
    return [*nested, *((name,) for name in plain)]


def _carried(work: Work, own: Mapping[str, Any], group: Iterable[str], place: Place) -> Out:
    """Return keywords that are kept as they are; name those that are not. A reference inside would lead nowhere."""
    kept: Out = {}
    for keyword in group:
        if keyword not in own:
            continue
        if keyword in work.dialect.keywords and "'$ref'" not in repr(own[keyword]):
            kept[keyword] = own[keyword]
        elif not _says_nothing(keyword, own[keyword]):
            work.lose(place, keyword)
    return kept


def _says_nothing(keyword: str, value: Any) -> bool:
    if keyword in ("minLength", "minItems", "minProperties"):
        return bool(value == 0)
    if keyword in ("propertyNames", "unevaluatedProperties", "unevaluatedItems"):
        return value is True or value in ({}, {"type": "string"})  # zod writes it for each record
    return keyword in ("minContains", "maxContains", "then", "else")  # they belong to a keyword that is named


def _scalar(work: Work, own: Mapping[str, Any], types: tuple[str, ...], place: Place) -> Out:
    written: Out = {"type": types[0] if len(types) == 1 else list(types)}
    groups: set[str] = set()
    if "string" in types:
        groups |= OF_STRINGS
    if not {"number", "integer"}.isdisjoint(types):
        if (named := _whole_numbers(work.dialect, own, types)) is not None:
            return {**written, "enum": named}
        groups |= OF_NUMBERS
    taken = _fit(work, {k: v for k, v in own.items() if k in groups}, types, place)
    return {**written, **_carried(work, taken, sorted(taken), place)}


def _whole_numbers(dialect: Dialect, own: Mapping[str, Any], types: tuple[str, ...]) -> list[int | None] | None:
    """Return the few whole numbers between two bounds, where the dialect takes no bounds."""
    low, high = _bounds(own)
    if "minimum" in dialect.keywords or not set(types) <= {"integer", "null"} or low is None or high is None:
        return None
    if not 0 < high - low + 1 <= _MOST_NAMED or "multipleOf" in own or "format" in own:
        return None
    return [*range(low, high + 1), *([None] if "null" in types else [])]


def _bounds(own: Mapping[str, Any]) -> tuple[int | None, int | None]:
    """Return the least and the highest whole number that is allowed."""
    lows = [math.ceil(own["minimum"])] if "minimum" in own else []
    lows += [math.floor(own["exclusiveMinimum"]) + 1] if "exclusiveMinimum" in own else []
    highs = [math.floor(own["maximum"])] if "maximum" in own else []
    highs += [math.ceil(own["exclusiveMaximum"]) - 1] if "exclusiveMaximum" in own else []
    return max(lows, default=None), min(highs, default=None)


def _fit(work: Work, own: Out, types: tuple[str, ...], place: Place) -> Out:
    """Return keywords of strings and numbers in the dialect's words; name those that it has no word for."""
    dialect, fit = work.dialect, dict(own)
    if "exclusiveMinimum" not in dialect.keywords and "minimum" in dialect.keywords:
        _include_bounds(work, fit, whole="number" not in types, place=place)
    if "format" in fit and dialect.formats is not None and fit["format"] not in dialect.formats:
        work.lose(place, "format")
        del fit["format"]
    if "pattern" in fit and dialect.plain_patterns and _ASSERTIONS.search(fit["pattern"]):
        work.lose(place, "pattern")
        del fit["pattern"]
    return fit


def _include_bounds(work: Work, fit: Out, *, whole: bool, place: Place) -> None:
    """Write exclusive bounds as inclusive ones: the same for whole numbers, nearly so for others."""
    low, high = _bounds(fit)
    for flag, bound, value in (("exclusiveMinimum", "minimum", low), ("exclusiveMaximum", "maximum", high)):
        if flag not in fit:
            continue
        edge = fit.pop(flag)
        if whole:
            fit[bound] = value
            continue
        work.lose(place, flag)
        known = fit.get(bound, edge)
        fit[bound] = max(known, edge) if bound == "minimum" else min(known, edge)


def _array(work: Work, own: Mapping[str, Any], place: Place) -> Out:
    dialect = work.dialect
    written: Out = {"type": "array"}
    shortest, longest = own.get("minItems"), own.get("maxItems")
    prefix, rest = list(own.get("prefixItems", ())), own.get("items")
    if prefix and "prefixItems" not in dialect.keywords:
        work.lose(place, "prefixItems")
        prefix, rest = [], _any_element(prefix, rest, longest)
    for at, raw in enumerate(prefix):
        inner = work.schema(raw, place.inside("prefixItems", at))
        if inner is None:  # no array is as long as this
            prefix, rest = prefix[:at], False
            break
        written.setdefault("prefixItems", []).append(inner)
    if rest is not None:
        items = work.schema(rest, place.inside("items"))
        if items is not None:
            written["items"] = items
        elif "maxItems" in dialect.keywords:
            longest = len(prefix) if longest is None else min(longest, len(prefix))
        else:
            work.lose(place, "items")
    if dialect.items and "items" not in written and "prefixItems" not in written:
        written["items"] = free(work, place.inside("items"))
    if shortest is not None and dialect.least_items is not None and shortest > dialect.least_items:
        work.lose(place, "minItems")
        shortest = dialect.least_items
    lengths = {"minItems": shortest, "maxItems": longest}
    said = {k: v for k, v in {**own, **lengths}.items() if v is not None}
    return {**written, **_carried(work, said, sorted(OF_ARRAYS - {"items", "prefixItems"}), place)}


def _any_element(prefix: list[Raw], rest: Raw | None, longest: float | None) -> Raw:
    """Return what any element of a tuple may be."""
    if rest is False or (longest is not None and longest <= len(prefix)):
        return {"anyOf": prefix}
    return {"anyOf": [*prefix, True if rest is None else rest]}


def _object(work: Work, own: Mapping[str, Any], place: Place) -> Out | None:
    dialect = work.dialect
    required = own.get("required", [])
    named = _named(work, own, required, place)
    if named is None:
        return None
    written: Out = {"type": "object"}
    if named or "properties" in own or dialect.all_required:
        written["properties"] = named
    if dialect.all_required:
        if not set(named) <= set(required):
            work.lose(place, "required")
        required = list(named)
    if required or "required" in own or dialect.all_required:
        written["required"] = required
    if dialect.closed:
        _name_open(work, own, named, place)
        written["additionalProperties"] = False
    else:
        _add_others(work, own, written, place)
    others = {"properties", "required", "additionalProperties", "patternProperties"}
    said = {k: v for k, v in own.items() if not (k == "unevaluatedProperties" and v is False and dialect.closed)}
    return {**written, **_carried(work, said, sorted(OF_OBJECTS - others), place)}


def _named(work: Work, own: Mapping[str, Any], required: list[str], place: Place) -> Out | None:
    """Return the properties, or None if one of them is required and impossible."""
    others = own.get("additionalProperties", True)
    raws = dict(own.get("properties", {}))
    if "patternProperties" not in own or not _keeps_patterns(work.dialect, place):
        for name in required:
            raws.setdefault(name, True if "patternProperties" in own else others)
    named: Out = {}
    for name, raw in raws.items():
        at = place.inside("properties", name)
        inner = work.schema(raw, at)
        if inner is not None:
            named[name] = inner
        elif name in required:
            return None
        elif not work.dialect.closed and others is not False:
            work.lose(at)
            named[name] = {}
    return named


def _keeps_patterns(dialect: Dialect, place: Place) -> bool:
    taken = dialect.keywords if place.path or dialect.top_keywords is None else dialect.top_keywords
    return "patternProperties" in taken


def _name_open(work: Work, own: Mapping[str, Any], named: Out, place: Place) -> None:
    """Name what closing an object takes away, beyond properties that nobody described."""
    others = own.get("additionalProperties", True)
    if "patternProperties" in own:
        work.lose(place, "patternProperties")
    if others is not False and (others not in (True, {}) or not named):
        work.lose(place, "additionalProperties")


def _add_others(work: Work, own: Mapping[str, Any], written: Out, place: Place) -> None:
    others, patterns = own.get("additionalProperties"), own.get("patternProperties")
    if patterns and "patternProperties" in work.dialect.keywords:
        inner = {name: work.schema(raw, place.inside("patternProperties", name)) for name, raw in patterns.items()}
        written["patternProperties"] = {name: False if one is None else one for name, one in inner.items()}
    elif patterns:
        work.lose(place, "patternProperties")
        if others not in (None, True):
            others = {"anyOf": [*patterns.values(), others]}
    if others is None:
        return
    rest = True if others is True else work.schema(others, place.inside("additionalProperties"))
    written["additionalProperties"] = False if rest is None else rest


def _values(work: Work, flat: Flat, types: tuple[str, ...], place: Place) -> Out | None:
    """Return the values that are allowed, or None if none is."""
    values = [value for value in flat.own["enum"] if _is_allowed(value, flat.own, types)]
    nested = [value for value in values if isinstance(value, Mapping | list)]
    plain = [value for value in values if not isinstance(value, Mapping | list)]
    for keyword in sorted((OF_ARRAYS | OF_OBJECTS | {"multipleOf"}) & flat.own.keys()):
        if nested or (keyword == "multipleOf" and any(map(is_number, plain))):
            work.lose(place, keyword)
    if nested and "not" in work.dialect.keywords:  # it takes all of JSON schema
        return {"enum": values}
    choices: list[Out] = []
    if nested:
        work.lose(place, "enum")
        kinds = dict.fromkeys(type_of(value) for value in nested)
        choices += [out for kind in kinds if (out := work.schema({"type": kind}, place)) is not None]
    if work.dialect.mixed and plain:
        choices.append(_mixed(work, flat, plain, types))
    elif plain:
        choices += _by_type(work, flat, plain, types, place)
    for keyword in ("pattern", "format"):
        if keyword in flat.own and any(isinstance(value, str) for value in plain):
            work.lose(place, keyword)
    return one_of(choices)


def _is_allowed(value: Any, own: Mapping[str, Any], types: tuple[str, ...]) -> bool:
    if types and not _is_of(value, types):
        return False
    if isinstance(value, str):
        return bool(own.get("minLength", 0) <= len(value) <= own.get("maxLength", math.inf))
    if is_number(value):
        return bool(
            own.get("minimum", -math.inf) <= value <= own.get("maximum", math.inf)
            and own.get("exclusiveMinimum", -math.inf) < value < own.get("exclusiveMaximum", math.inf)
        )
    return True


def _is_of(value: Any, types: Iterable[str]) -> bool:
    kind = type_of(value)
    return kind in types or (kind == "integer" and "number" in types)


def _mixed(work: Work, flat: Flat, values: list[Any], types: tuple[str, ...]) -> Out:
    given = [name for name in types if any(_is_of(value, (name,)) for value in values)]
    kinds = given or list(dict.fromkeys(map(type_of, values)))
    if "number" in kinds and "integer" in kinds:
        kinds.remove("integer")
    written: Out = {"type": kinds[0] if len(kinds) == 1 else kinds}
    if flat.const and work.dialect.const and len(values) == 1:
        return {**written, "const": values[0]}
    return {**written, "enum": values}


def _by_type(work: Work, flat: Flat, values: list[Any], types: tuple[str, ...], place: Place) -> list[Out]:
    """Return one schema a type. A type that has no `enum` stands as it is, and is named if that allows more."""
    choices: list[Out] = []
    strings = [value for value in values if isinstance(value, str)]
    numbers = [value for value in values if is_number(value)]
    if strings:
        choices.append({"type": "string", "enum": strings})
    if numbers:
        whole = all(type_of(value) == "integer" for value in numbers) and "number" not in types
        choices.append({"type": "integer" if whole else "number", "enum": numbers})
    if bools := [value for value in values if isinstance(value, bool)]:
        if not (is_in(True, bools) and is_in(False, bools)):
            work.lose(place, "const" if flat.const else "enum")
        choices.append({"type": "boolean"})
    if None in values:
        choices.append({"type": "null"})
    return choices
