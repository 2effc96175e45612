"""A JSON schema without references, `allOf` and short forms at its top: what one place really says. Pure.

Whatever is written beside each other (siblings of a `$ref`, parts of an `allOf`) is met: the result allows what all of
them allow. What can't be met in one schema is named in `lost`, and only the first of it is kept.
"""

import math
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from deployments.json_schema.dialects import EVERYTHING, OF_ARRAYS, OF_NUMBERS, OF_OBJECTS, OF_STRINGS

Raw = Any  # an object of JSON, or true or false; anything else is read as true

TYPES = ("string", "number", "integer", "boolean", "array", "object", "null")
_LISTS_OF_SCHEMAS = ("anyOf", "oneOf", "allOf", "prefixItems")
_MAPS_OF_SCHEMAS = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
_SCHEMAS = (
    *("items", "additionalItems", "additionalProperties", "not", "if", "then", "else", "contains", "propertyNames"),
    *("unevaluatedItems", "unevaluatedProperties"),
)
NOTES = frozenset({"title", "description", "default", "examples", "propertyOrdering"})
_WHOLE = ("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties")
_LARGEST = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")
_SMALLEST = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")


def parts_of(schema: Raw) -> Iterator[tuple[str, str, Raw]]:
    """Yield each schema that is directly inside one: its keyword, its name or place there, and itself."""
    if not isinstance(schema, Mapping):
        return
    for keyword in _LISTS_OF_SCHEMAS:
        if isinstance(inner := schema.get(keyword), list):
            yield from ((keyword, str(at), one) for at, one in enumerate(inner))
    for keyword in _MAPS_OF_SCHEMAS:
        if isinstance(inner := schema.get(keyword), Mapping):
            yield from ((keyword, str(name), one) for name, one in inner.items())
    for keyword in _SCHEMAS:
        inner = schema.get(keyword)
        if isinstance(inner, Mapping):
            yield keyword, "", inner
        elif isinstance(inner, list):
            yield from ((keyword, str(at), one) for at, one in enumerate(inner))


@dataclass(slots=True)
class Flat:
    """What one place says.

    Attributes:
        own: the keywords that constrain, with `type` as a tuple and `enum` for `const` too.
        unions: each `anyOf` and `oneOf`, with its schemas.
        parts: what `own` was met from, as schemas.
        notes: keywords that constrain nothing.
        never: nothing is allowed here.
        const: there was a `const`.
        lost: keywords that could not be met.
        refs: the references that were followed.
        met: how many parts there were.
    """

    own: dict[str, Any] = field(default_factory=dict)
    unions: list[tuple[str, list[Raw]]] = field(default_factory=list)
    parts: list[Raw] = field(default_factory=list)
    notes: dict[str, Any] = field(default_factory=dict)
    never: bool = False
    const: bool = False
    lost: list[str] = field(default_factory=list)
    refs: list[str] = field(default_factory=list)
    met: int = 0

    def meet(self, schema: Raw) -> None:
        """Allow only what this schema's own keywords allow too."""
        own = own_of(schema)
        if not own:
            return
        self._keep_together(own)
        self.parts.append({k: v for k, v in schema.items() if k not in ("$ref", "allOf", "anyOf", "oneOf", *NOTES)})
        self.const = self.const or "const" in schema
        before, self.own = self.own, {**self.own, **own}
        for keyword in before.keys() & own.keys():
            self._meet(keyword, before[keyword], own[keyword])
        _meet_objects(before, own, self.own)
        _meet_arrays(before, own, self.own)

    def _keep_together(self, its: dict[str, Any]) -> None:
        """Two conditions don't mix, nor do patterns with the properties of another part: name what gets lost of it."""
        for head, *others in (("if", "then", "else"), ("contains", "minContains", "maxContains")):
            if head in self.own and head in its:
                self.lost.append(head)
                for keyword in (head, *others):
                    its.pop(keyword, None)
        for one, other in ((self.own, its), (its, self.own)):
            if (
                "patternProperties" in one
                and one.get("additionalProperties", True) is not True
                and "properties" in other
            ):
                self.lost.append("additionalProperties")

    def _meet(self, keyword: str, mine: Any, its: Any) -> None:
        if keyword == "type":
            met = meet_types(mine, its)
            self.never = self.never or not met
            self.own["type"] = met
        elif keyword == "enum":
            kept = {key_of(value) for value in its}
            self.own["enum"] = [value for value in mine if key_of(value) in kept]
            self.never = self.never or not self.own["enum"]
        elif keyword in _LARGEST or keyword in _SMALLEST:
            self.own[keyword] = max(mine, its) if keyword in _LARGEST else min(mine, its)
        elif keyword == "multipleOf":
            self._meet_multiples(mine, its)
        elif keyword == "required":
            self.own["required"] = list(dict.fromkeys([*mine, *its]))
        elif keyword == "uniqueItems":
            self.own["uniqueItems"] = True
        elif keyword not in _MET_TOGETHER and not is_same(mine, its):
            self.own[keyword] = mine
            self.lost.append(keyword)

    def _meet_multiples(self, mine: float, its: float) -> None:
        if isinstance(mine, int) and isinstance(its, int):
            self.own["multipleOf"] = math.lcm(mine, its)
        elif mine != its:
            self.own["multipleOf"] = mine
            self.lost.append("multipleOf")


_MET_TOGETHER = ("properties", "additionalProperties", "patternProperties", "items", "prefixItems")


def _meet_objects(mine: Mapping[str, Any], its: Mapping[str, Any], met: dict[str, Any]) -> None:
    ours, theirs = mine.get("properties", {}), its.get("properties", {})
    if ours or theirs:
        # A part that says nothing of other properties leaves ours as they are: there may be many of both.
        narrowed = theirs if _others(its) is True else {**ours, **theirs}
        met["properties"] = {
            **ours,
            **{name: both(_of_property(mine, name), _of_property(its, name)) for name in narrowed},
        }
    if "additionalProperties" in mine and "additionalProperties" in its:
        met["additionalProperties"] = both(mine["additionalProperties"], its["additionalProperties"])
    if "patternProperties" in mine and "patternProperties" in its:
        one, other = mine["patternProperties"], its["patternProperties"]
        met["patternProperties"] = {n: both(one.get(n, True), other.get(n, True)) for n in {**one, **other}}


def _of_property(own: Mapping[str, Any], name: str) -> Raw:
    """Return what these keywords say of a property. Beside patterns it is not certain, so it is more than that."""
    named: Raw = own.get("properties", {}).get(name)
    if named is not None:
        return named
    return _others(own)


def _others(own: Mapping[str, Any]) -> Raw:
    return True if "patternProperties" in own else own.get("additionalProperties", True)


def _meet_arrays(mine: Mapping[str, Any], its: Mapping[str, Any], met: dict[str, Any]) -> None:
    ours, theirs = mine.get("prefixItems", []), its.get("prefixItems", [])
    rest, other = mine.get("items", True), its.get("items", True)
    if ours or theirs:
        met["prefixItems"] = [
            both(ours[at] if at < len(ours) else rest, theirs[at] if at < len(theirs) else other)
            for at in range(max(len(ours), len(theirs)))
        ]
    if "items" in mine and "items" in its:
        met["items"] = both(rest, other)


def both(one: Raw, other: Raw) -> Raw:
    """Return a schema for what two schemas allow."""
    if one is True or one == {} or is_same(one, other):
        return other
    return one if other is True or other == {} else {"allOf": [one, other]}


def meet_types(mine: tuple[str, ...], its: tuple[str, ...]) -> tuple[str, ...]:
    """Return the types that both lists allow: an integer is a number."""
    met = [name for name in mine if name in its or (name == "integer" and "number" in its)]
    return (*met, *(name for name in its if name == "integer" and "number" in mine and name not in met))


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def is_same(one: Any, other: Any) -> bool:
    """Return whether two values are the same in JSON, where true is not 1 but 1.0 is."""
    if one is other:
        return True
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(is_same(value, other[name]) for name, value in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(is_same, one, other))
    return bool(isinstance(one, bool) == isinstance(other, bool) and one == other)


def key_of(value: Any) -> Hashable:
    """Return what two values have alike if, and only if, they are the same in JSON."""
    if isinstance(value, Mapping):
        return ("object", frozenset((name, key_of(inner)) for name, inner in value.items()))
    if isinstance(value, list):
        return ("array", tuple(map(key_of, value)))
    return (isinstance(value, bool), value)


def is_in(value: Any, values: list[Any]) -> bool:
    return any(is_same(value, other) for other in values)


def own_of(schema: Raw) -> dict[str, Any]:
    """Return the keywords of a schema that constrain, checked and in one form. What makes no sense is left out."""
    if not isinstance(schema, Mapping):
        return {}
    own = {k: v for k, v in schema.items() if k in EVERYTHING and k in _CHECKS and _CHECKS[k](v)}
    own |= {k: v for k, v in schema.items() if k in EVERYTHING and k not in _CHECKS}
    if "if" not in own:
        own.pop("then", None)
        own.pop("else", None)
    if types := _types_of(schema.get("type")):
        own["type"] = types
    if "const" in schema:
        own["enum"] = [schema["const"]]
    if isinstance(values := schema.get("enum"), list) and values:
        own["enum"] = [v for v in values if is_in(v, own["enum"])] if "enum" in own else values
    if schema.get("nullable") is True:
        _allow_null(own)
    _read_old_forms(schema, own)
    if isinstance(own.get("required"), list):
        own["required"] = [name for name in own["required"] if isinstance(name, str)]
    return own


def _allow_null(own: dict[str, Any]) -> None:
    """OpenAPI 3.0 says so what JSON schema says by the type null."""
    if "type" in own and "null" not in own["type"]:
        own["type"] = (*own["type"], "null")
    if "enum" in own and not is_in(None, own["enum"]):
        own["enum"] = [*own["enum"], None]


def _read_old_forms(schema: Mapping[str, Any], own: dict[str, Any]) -> None:
    """Read tuples as before 2020, and exclusive bounds as before draft 6."""
    if isinstance(tuples := schema.get("items"), list):
        own["prefixItems"] = tuples
        own.pop("items", None)
        if isinstance(rest := schema.get("additionalItems"), Mapping | bool):
            own["items"] = rest
    for flag, bound in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        if schema.get(flag) is True and bound in own:
            own[flag] = own.pop(bound)


def _types_of(given: Any) -> tuple[str, ...]:
    names = given if isinstance(given, list) else [given]
    known = [name.lower() for name in names if isinstance(name, str) and name.lower() in TYPES]
    return tuple(dict.fromkeys(known)) if len(known) == len(names) else ()


def _is_schema(value: Any) -> bool:
    return isinstance(value, Mapping | bool)


def _is_map(value: Any) -> bool:
    return isinstance(value, Mapping) and all(map(_is_schema, value.values()))


_CHECKS: Mapping[str, Callable[[Any], bool]] = {
    **{name: is_number for name in OF_NUMBERS - {"format"}},
    **{name: lambda value: is_number(value) and value >= 0 and value == int(value) for name in _WHOLE},
    **{name: lambda value: isinstance(value, str) for name in ("pattern", "format")},
    "properties": _is_map,
    "patternProperties": lambda value: _is_map(value) and bool(value),
    **{name: _is_schema for name in ("additionalProperties", "items")},
    "multipleOf": lambda value: is_number(value) and value > 0,
    "prefixItems": lambda value: isinstance(value, list) and bool(value) and all(map(_is_schema, value)),
    "required": lambda value: isinstance(value, list),
    "uniqueItems": lambda value: value is True,
}


def types_meant(own: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the types that a schema allows, or () for all.

    Keywords of one type without a `type` are read as meant for that type: no server that constrains can read them
    otherwise, and that is what people mean by them.
    """
    if "type" in own:
        return tuple(own["type"])
    groups = ((OF_OBJECTS, "object"), (OF_ARRAYS, "array"), (OF_STRINGS, "string"), (OF_NUMBERS - {"format"}, "number"))
    return tuple(name for group, name in groups if not group.isdisjoint(own))


def type_of(value: Any) -> str:
    """Return the type of a value."""
    if isinstance(value, bool):
        return "boolean"
    if value is None:
        return "null"
    if isinstance(value, str):
        return "string"
    if isinstance(value, int | float):
        return "integer" if value == value // 1 else "number"
    return "array" if isinstance(value, list) else "object"


def differ(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Do two places allow different types, or different values?"""
    if "enum" in one and "enum" in other:
        return set(map(key_of, one["enum"])).isdisjoint(map(key_of, other["enum"]))
    mine, its = types_meant(one), types_meant(other)
    return bool(mine and its) and not meet_types(mine, its)


def weight_of(raw: Mapping[str, Any]) -> int:
    """Return what a schema costs: long texts and many values count too, for it may be written out many times."""
    text, values = raw.get("description"), raw.get("enum")
    weight = 1 + (len(text) // 64 if isinstance(text, str) else 0)
    if isinstance(values, list):
        weight += len(values) // 8 + sum(len(value) // 64 for value in values if isinstance(value, str))
    return weight + len(raw) // 16
