"""Drawn schemas and values: a translation allows what the schema allows, and is what the vendor takes."""

import copy
from collections.abc import Callable, Mapping
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from deployments.json_schema import dialects
from deployments.json_schema.dialects import Dialect
from deployments.json_schema.memory import Memory
from deployments.json_schema.translate import translate
from tests.fakes import schema_rules
from tests.fakes.schema_rules import Checker
from tests.fakes.strict_schemas import OPENAI_STRICT

CHECKERS: Mapping[str, tuple[Dialect, Checker]] = {
    checked[0].name: checked
    for checked in (
        (dialects.CLAUDE_OUTPUT, schema_rules.claude_output),
        (dialects.CLAUDE_STRICT_TOOLS, schema_rules.claude_strict_tool),
        (dialects.BEDROCK_TOOLS, schema_rules.tool_top),
        (dialects.NOVA_TOOLS, schema_rules.nova_tool),
        (dialects.GEMINI, schema_rules.gemini),
        (dialects.GEMINI_TOOLS, schema_rules.gemini),
        (OPENAI_STRICT, schema_rules.openai_strict),
    )
}
# What is lost so leaves fewer values: a place without any type, a property that must be there, a $ref that was cut.
NARROWER = ("type", "required", "$ref", "items")

NAMES = st.sampled_from(["a", "b", "k"])
SCALARS = st.none() | st.booleans() | st.integers(-2, 4) | st.sampled_from([0.5, 2.5, "", "x", "yy", "12"])
ANYTHING = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(NAMES, inner, max_size=2), max_leaves=4
)
NOTES = st.fixed_dictionaries({}, optional={"title": st.just("T"), "description": st.just("d"), "default": SCALARS})


def some(always: Mapping[str, Any], /, **optional: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    drawn = {name: it if isinstance(it, st.SearchStrategy) else st.just(it) for name, it in always.items()}
    return st.fixed_dictionaries(drawn, optional=optional)


STRINGS = some(
    {"type": "string"},
    minLength=st.integers(0, 2),
    maxLength=st.integers(0, 2),
    pattern=st.sampled_from(["^x", r"^\d+$", "^(?!x)"]),
    format=st.sampled_from(["date-time", "uri", "int32", "other"]),
)
NUMBERS = some(
    {"type": st.sampled_from(["integer", "number", ["integer", "null"]])},
    minimum=st.integers(-1, 2),
    maximum=st.integers(0, 3),
    exclusiveMinimum=st.sampled_from([-1, 0.5]),
    multipleOf=st.sampled_from([2, 0.5]),
)
PLAIN = (
    STRINGS
    | NUMBERS
    | some({"type": st.sampled_from(["null", "boolean", ["string", "integer"], ["string", "null"]])})
    | some({"const": SCALARS})
    | some({"enum": st.lists(SCALARS, min_size=1, max_size=4)})
    | some({"type": "string", "enum": st.lists(SCALARS, min_size=1, max_size=4)})
    | st.sampled_from([{}, True, False, {"not": {"type": "string"}}])
)
REF = st.sampled_from([{"$ref": "#/$defs/A"}, {"$ref": "#/$defs/B"}])


def objects(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return some(
        {"type": "object"},
        properties=st.dictionaries(NAMES, inner, max_size=3),
        required=st.lists(NAMES, max_size=2, unique=True),
        additionalProperties=st.booleans() | inner,
        minProperties=st.integers(0, 1),
        patternProperties=st.dictionaries(st.just("^a"), inner, max_size=1),
    )


def nested(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    choices = st.lists(inner, min_size=1, max_size=3)
    return (
        objects(inner)
        | some(
            {"type": "array"},
            items=inner,
            prefixItems=st.lists(inner, min_size=1, max_size=2),
            minItems=st.integers(0, 2),
            maxItems=st.integers(0, 3),
            uniqueItems=st.booleans(),
        )
        | some({"anyOf": choices})
        | some({"oneOf": choices})
        | some({"allOf": st.lists(objects(inner) | REF, min_size=1, max_size=2)})
        | some({"type": "object", "anyOf": choices}, properties=st.dictionaries(NAMES, inner, max_size=2))
        | st.builds(lambda ref, notes: {**ref, **notes}, REF, NOTES)
        | st.builds(lambda ref, own: {**own, **ref}, REF, objects(inner))
    )


PLACES = st.recursive(PLAIN | REF, nested, max_leaves=8)


def bounded(keyword: str) -> st.SearchStrategy[dict[str, Any]]:
    return some({"type": "integer", keyword: st.integers(0, 3)})


SMALL = st.one_of(
    some({"oneOf": st.lists(bounded("minimum") | st.just({"type": "string"}), min_size=2, max_size=2)}),
    some({"allOf": st.lists(bounded("minimum") | bounded("maximum"), min_size=2, max_size=2)}),
    some({"type": "array", "items": st.just({"type": "integer"}), "minItems": st.integers(0, 2)}),
    some({"type": "object", "properties": st.just({"b": {"type": "integer"}}), "required": st.just(["b"])}),
)


@st.composite
def schemas(draw: st.DrawFn) -> dict[str, Any]:
    """Schemas whose definitions are objects: each way of a reference back to itself goes through a property."""
    if draw(st.booleans()):
        return {"type": "object", "properties": {"a": draw(SMALL)}, "required": ["a"], "$defs": {}}
    top = draw(PLACES.filter(lambda place: isinstance(place, dict)) | objects(PLACES))
    defs = {name: draw(objects(PLACES)) for name in ("A", "B")}
    return {**top, **draw(NOTES), "$defs": defs}


def follow(schema: Any, defs: Mapping[str, Any]) -> Any:
    return defs[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema


def value_for(draw: st.DrawFn, schema: Any, defs: Mapping[str, Any], depth: int) -> Any:
    """Draw a value that the schema probably allows."""
    if depth == 0 or not isinstance(schema, dict) or draw(st.integers(0, 11)) == 0:
        return draw(ANYTHING)
    for keyword in ("anyOf", "oneOf"):
        if keyword in schema:
            return value_for(draw, draw(st.sampled_from(schema[keyword])), defs, depth - 1)
    parts = [follow(part, defs) for part in (schema, *schema.get("allOf", ()))]
    parts += [schema] if "$ref" in schema else []
    said = parts[-1]
    if "const" in said or "enum" in said:
        return draw(st.sampled_from(said.get("enum", [said.get("const")])))
    if said.get("type") == "array":
        items = [said.get("items", {})] * draw(st.integers(0, 2))
        return [value_for(draw, item, defs, depth - 1) for item in (*said.get("prefixItems", ()), *items)]
    if any(part.get("type") == "object" for part in parts):
        names = {name: inner for part in parts for name, inner in part.get("properties", {}).items()}
        needed = [name for part in parts for name in part.get("required", ())]
        kept = draw(st.lists(st.sampled_from(sorted(names)), max_size=3)) if names else []
        return {name: value_for(draw, names.get(name, {}), defs, depth - 1) for name in {*needed, *kept}}
    return draw(SCALARS)


@st.composite
def cases(draw: st.DrawFn) -> tuple[dict[str, Any], list[Any]]:
    schema = draw(schemas())
    values = [value_for(draw, schema, schema["$defs"], 4) for _ in range(4)]
    return schema, [*values, *draw(st.lists(ANYTHING, max_size=2))]


def closed(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return the schema for those of its values whose objects have no properties but the described ones.

    It may be stricter than that, where parts of a place have unions: then it says less of the translation.
    """
    defs = {name: _closed(place) for name, place in schema["$defs"].items()}
    opened = {f"{name}_open": _inside(place) for name, place in schema["$defs"].items()}
    return {**_closed({k: v for k, v in schema.items() if k != "$defs"}), "$defs": {**defs, **opened}}


def _closed(place: Any) -> Any:
    if place is True:
        return {"unevaluatedProperties": False}
    if place is False or place.keys() == {"$ref"}:
        return place
    made = _inside(place)
    if {"anyOf", "oneOf"} & place.keys() and "properties" not in place:
        return made
    return {**made, "unevaluatedProperties": False}


def _inside(place: Any) -> Any:
    """Close what is inside a place, and let the place itself be added to."""
    if not isinstance(place, dict):
        return place
    made = {k: v for k, v in place.items() if k not in ("additionalProperties", "patternProperties")}
    if "patternProperties" in place:  # it holds for a described property too
        made["propertyNames"] = {"not": {"pattern": "^a"}}
    if "$ref" in made:
        made["$ref"] += "_open"
    if "allOf" in made:
        made["allOf"] = [_inside(part) for part in made["allOf"]]
    for keyword in ("anyOf", "oneOf", "prefixItems"):
        if keyword in made:
            made[keyword] = [_closed(inner) for inner in made[keyword]]
    if "properties" in made:
        made["properties"] = {name: _closed(inner) for name, inner in made["properties"].items()}
    return {**made, "items": _closed(made["items"])} if "items" in made else made


def allows(schema: Any) -> Callable[[Any], bool]:
    return Draft202012Validator(schema).is_valid  # type: ignore[no-any-return]


def by_dialect(function: Callable[..., None]) -> Callable[..., None]:
    return pytest.mark.parametrize("name", CHECKERS)(function)


@by_dialect
@settings(max_examples=60, deadline=None)
@given(case=cases())
def test_a_translation_allows_what_the_schema_allows(name: str, case: tuple[dict[str, Any], list[Any]]) -> None:
    (schema, values), (dialect, _) = case, CHECKERS[name]
    made = translate(schema, dialect)
    before, after = allows(schema), allows(made.schema)
    joined = dialect.object_top and not {"anyOf", "oneOf"}.isdisjoint(made.lost)  # a union at the top of a tool's
    described = allows(closed(schema)) if dialect.closed or joined else before
    for value in values:
        if dialect.object_top and not isinstance(value, dict):
            continue
        if not made.lost:
            assert before(value) or not after(value), (value, made)
        if not any(path.endswith(NARROWER) for path in made.lost) and before(value) and described(value):
            assert after(value), (value, made)


@by_dialect
@settings(max_examples=40, deadline=None)
@given(schema=schemas())
def test_a_translation_is_what_the_vendor_takes_and_stays_as_it_is(name: str, schema: dict[str, Any]) -> None:
    dialect, refusal = CHECKERS[name]
    given_, size = copy.deepcopy(schema), len(orjson.dumps(schema))
    made = translate(schema, dialect)
    assert refusal(made.schema) is None
    assert schema == given_
    assert translate(made.schema, dialect).schema is made.schema
    assert len(orjson.dumps(made.schema)) < 400_000 + 400 * size


JUNK_NAMES = st.sampled_from(
    [
        *("type", "properties", "required", "items", "prefixItems", "anyOf", "oneOf", "allOf", "$ref", "enum", "const"),
        *("minimum", "exclusiveMinimum", "additionalProperties", "patternProperties", "not", "if", "$defs", "a"),
        *("format", "pattern", "nullable", "minLength", "multipleOf", "minItems", "default", "title", "contains"),
    ]
)
JUNK = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-2, 2)
    | st.floats(allow_nan=False)
    | st.sampled_from(["string", "object", "array", "#", "#/$defs/a", "#/properties/a", ""]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(JUNK_NAMES, inner, max_size=5),
    max_leaves=20,
)


@by_dialect
@settings(max_examples=40, deadline=None)
@given(schema=st.dictionaries(JUNK_NAMES, JUNK, max_size=6))
def test_what_is_no_schema_becomes_one(name: str, schema: dict[str, Any]) -> None:
    dialect, refusal = CHECKERS[name]
    made = translate(schema, dialect)
    assert dialect.top_alone or refusal(made.schema) is None
    assert translate(made.schema, dialect).schema is made.schema


@settings(max_examples=30, deadline=None)
@given(drawn=st.lists(schemas(), min_size=1, max_size=4), most=st.sampled_from([0, 2000, 100_000]))
def test_the_memory_answers_as_the_translator_and_stays_small(drawn: list[dict[str, Any]], most: int) -> None:
    memory = Memory(most)
    for schema in (*drawn, *map(copy.deepcopy, drawn)):
        for dialect, _ in CHECKERS.values():
            assert memory.translate(schema, dialect) == translate(schema, dialect)
            assert 0 <= memory.weight <= most
