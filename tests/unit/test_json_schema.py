"""Schemas as popular clients make them, and what becomes of them for each vendor."""

from collections.abc import Mapping
from typing import Any

import pytest

from deployments.json_schema.dialects import (
    BEDROCK_FORMS,
    BEDROCK_TOOLS,
    CLAUDE_OUTPUT,
    CLAUDE_STRICT_TOOLS,
    GEMINI,
    GEMINI_FORMS,
    GEMINI_TOOLS,
    NOVA_TOOLS,
    Dialect,
    Forms,
)
from deployments.json_schema.memory import Memory, translate_cached
from deployments.json_schema.request import lost_in
from deployments.json_schema.translate import translate
from tests.fakes.strict_schemas import OPENAI_STRICT

ALL = (CLAUDE_OUTPUT, CLAUDE_STRICT_TOOLS, BEDROCK_TOOLS, NOVA_TOOLS, GEMINI, GEMINI_TOOLS, OPENAI_STRICT)
CLOSED = {"additionalProperties": False}
BOUNDED = {"type": "object", "properties": {"n": {"type": "number", "minimum": 1}}, "required": ["n"]}
TREE: dict[str, Any] = {
    "$defs": {
        "Node": {
            "type": "object",
            "properties": {
                "name": {"type": "string"},
                "children": {"type": "array", "items": {"$ref": "#/$defs/Node"}},
            },
            "required": ["name"],
        }
    },
    "$ref": "#/$defs/Node",
}


def of(place: Any, dialect: Dialect = GEMINI) -> tuple[Any, tuple[str, ...]]:
    """Return what a property becomes, and what is lost of it."""
    schema = {"type": "object", "properties": {"p": place}, "required": ["p"]}
    made = translate(schema, dialect)
    return made.schema["properties"]["p"], made.lost


def test_an_object_is_closed_for_claude_and_a_bound_is_named() -> None:
    made = translate(BOUNDED, CLAUDE_OUTPUT)
    assert made.schema == {"type": "object", "properties": {"n": {"type": "number"}}, "required": ["n"], **CLOSED}
    assert made.lost == ("properties.n.minimum",)


def test_a_schema_that_needs_nothing_is_the_same_object() -> None:
    schema = {**BOUNDED, "properties": {"n": {"type": "string"}}, **CLOSED}
    assert all(translate(schema, dialect).schema is schema for dialect in ALL if dialect is not NOVA_TOOLS)


def test_few_whole_numbers_between_two_bounds_are_named_one_by_one() -> None:
    assert of({"type": "integer", "minimum": 1, "exclusiveMaximum": 4}, CLAUDE_OUTPUT) == (
        {"type": "integer", "enum": [1, 2, 3]},
        (),
    )


def test_pydantics_optional_field_stays() -> None:
    optional = {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None, "title": "P"}
    assert of(optional, CLAUDE_OUTPUT) == (optional, ())
    assert of(optional, GEMINI) == ({"anyOf": optional["anyOf"], "title": "P"}, ())


def test_a_description_beside_a_ref_is_kept_by_writing_the_ref_out() -> None:
    schema = {
        "$defs": {"P": {"type": "object", "properties": {"x": {"type": "number"}}}},
        "type": "object",
        "properties": {"p": {"$ref": "#/$defs/P", "description": "Where."}},
    }
    made = translate(schema, GEMINI)
    assert made.schema["properties"]["p"] == {
        "type": "object",
        "properties": {"x": {"type": "number"}},
        "description": "Where.",
    }
    assert made.lost == ()


def test_a_recursive_model_is_written_out_a_few_times_where_recursion_is_refused() -> None:
    made = translate(TREE, CLAUDE_OUTPUT)
    assert "$ref" not in repr(made.schema)
    assert repr(made.schema).count("'name'") > 4
    [lost] = made.lost
    assert lost.endswith("$ref")


def test_a_recursive_model_keeps_its_ref_for_gemini() -> None:
    made = translate(TREE, GEMINI)
    assert made.lost == ()
    assert made.schema["$defs"]["Node"]["properties"]["children"]["items"] == {"$ref": "#/$defs/Node"}


def test_a_map_has_no_form_where_objects_are_closed() -> None:
    scores = {"type": "object", "additionalProperties": {"type": "number"}}
    assert of(scores, CLAUDE_OUTPUT) == ({"type": "object", **CLOSED}, ("properties.p.additionalProperties",))
    assert of(scores, GEMINI) == (scores, ())


def test_zods_record_and_schema_line_are_left_out_in_silence() -> None:
    schema = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "type": "object",
        "propertyNames": {"type": "string"},
        "additionalProperties": {"type": "string"},
    }
    made = translate(schema, GEMINI)
    assert made.schema == {"type": "object", "additionalProperties": {"type": "string"}}
    assert made.lost == ()


def test_openapis_nullable_is_the_type_null() -> None:
    assert of({"type": "string", "nullable": True}) == ({"type": ["string", "null"]}, ())


def test_a_const_is_an_enum_of_one_for_gemini() -> None:
    assert of({"const": "cat"}) == ({"type": "string", "enum": ["cat"]}, ())


def test_an_enum_of_mixed_types_is_a_union_for_gemini() -> None:
    written = [{"type": "string", "enum": ["a"]}, {"type": "integer", "enum": [1]}, {"type": "null"}]
    assert of({"enum": ["a", 1, None]}) == ({"anyOf": written}, ())


def test_a_tagged_union_is_any_of_and_one_that_may_overlap_is_named() -> None:
    def tagged(tag: str) -> dict[str, Any]:
        return {"type": "object", "properties": {"kind": {"const": tag}}, "required": ["kind"]}

    place, lost = of({"oneOf": [tagged("cat"), tagged("dog")]})
    assert (len(place["anyOf"]), lost) == (2, ())
    place, lost = of({"oneOf": [{"type": "string"}, {"type": "string", "format": "date"}]})
    assert (len(place["anyOf"]), lost) == (2, ("properties.p.oneOf",))


def test_parts_of_an_all_of_are_met() -> None:
    parts = [{"type": "object", "properties": {name: {"type": "string"}}, "required": [name]} for name in "ab"]
    place, lost = of({"allOf": parts}, CLAUDE_OUTPUT)
    assert (set(place["properties"]), set(place["required"]), lost) == ({"a", "b"}, {"a", "b"}, ())


def test_bounds_in_an_all_of_are_the_tightest() -> None:
    parts = [{"type": "integer", "minimum": 1, "maximum": 90}, {"minimum": 5, "maximum": 99}]
    assert of({"allOf": parts}) == ({"type": "integer", "minimum": 5, "maximum": 90}, ())


def test_a_recursion_that_no_value_can_end_is_cut() -> None:
    node = {"properties": {"b": {"$ref": "#/$defs/A"}}, "allOf": [{"required": ["b"]}]}
    schema = {"type": "object", "properties": {"a": {"$ref": "#/$defs/A"}}, "$defs": {"A": {"type": "object", **node}}}
    made = translate(schema, GEMINI)
    assert "$ref" not in repr(made.schema)
    assert any(path.endswith("$ref") for path in made.lost)


def test_what_is_lost_on_a_way_back_alone_is_named() -> None:
    """Within its own `a` an A must be of strings: there `a` is both an object and a string, and so impossible."""
    inner = {"type": "object", "additionalProperties": {"type": "string"}, "$ref": "#/$defs/A"}
    schema = {"$ref": "#/$defs/A", "$defs": {"A": {"type": "object", "properties": {"a": inner}}}}
    assert translate(schema, GEMINI).lost == ("properties.a.properties.a",)


def test_a_tuple_of_before_2020_is_read() -> None:
    place, lost = of({"type": "array", "items": [{"type": "string"}, {"type": "number"}]})
    assert (place["prefixItems"], lost) == ([{"type": "string"}, {"type": "number"}], ())


def test_conditions_are_named() -> None:
    _, lost = of({"type": "object", "properties": {"a": {"type": "string"}}, "if": {}, "then": {}, "not": {}}, GEMINI)
    assert set(lost) == {"properties.p.if", "properties.p.not"}


def test_a_tool_for_bedrock_changes_at_its_top_alone() -> None:
    assert translate(BOUNDED, BEDROCK_TOOLS).schema is BOUNDED
    assert translate({"properties": {}}, BEDROCK_TOOLS).schema == {"type": "object", "properties": {}}
    made = translate({"anyOf": [BOUNDED, {**BOUNDED, "properties": {"m": {"not": {}}}}]}, BEDROCK_TOOLS)
    assert made.schema == {
        "type": "object",
        "properties": {"n": {"type": "number", "minimum": 1}, "m": {"not": {}}},
        "required": ["n"],
    }
    assert made.lost == ("anyOf",)


@pytest.mark.parametrize("dialect", ALL, ids=lambda dialect: dialect.name)
def test_a_schema_that_doubles_with_each_definition_stays_small(dialect: Dialect) -> None:
    defs: dict[str, Any] = {"D0": {"type": "object", "properties": {"x": {"type": "string"}}}}
    for at in range(1, 40):
        twice = {name: {"$ref": f"#/$defs/D{at - 1}", "description": name} for name in ("left", "right")}
        defs[f"D{at}"] = {"type": "object", "properties": twice}
    made = translate({"$defs": defs, "$ref": "#/$defs/D39"}, dialect)
    assert len(repr(made.schema)) < 2_000_000
    deep: dict[str, Any] = {}
    for _ in range(5000):
        deep = {"type": "array", "items": deep}
    assert len(repr(translate(deep, dialect).schema)) < 1000


def test_what_a_request_loses_is_named_from_its_top() -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": BOUNDED}}
    strict = {"type": "function", "function": {"name": "g", "parameters": BOUNDED, "strict": True}}
    wanted = {"type": "json_schema", "json_schema": {"name": "n", "schema": BOUNDED}}
    body = {"messages": [], "tools": [tool, strict], "response_format": wanted}
    assert lost_in(body, BEDROCK_FORMS, "us.anthropic.claude-sonnet-4-5-20250929-v1:0") == (
        "tools.1.function.parameters.properties.n.minimum",
        "response_format.json_schema.schema.properties.n.minimum",
    )
    assert lost_in(body, GEMINI_FORMS, "gemini-2.5-pro") == ()
    assert lost_in(body, Forms(), "gpt-5.4-mini") == ()
    assert lost_in({"tools": "x", "response_format": 3}, BEDROCK_FORMS, "m") == ()


def test_a_tools_form_is_by_model_and_strictness() -> None:
    forms = BEDROCK_FORMS
    assert forms.of_tool("us.amazon.nova-pro-v1:0", strict=False) is NOVA_TOOLS
    assert forms.of_tool("anthropic.claude", strict=True) is CLAUDE_STRICT_TOOLS
    assert forms.of_tool("meta.llama", strict=False) is BEDROCK_TOOLS
    assert GEMINI_FORMS.of_tool("gemini", strict=True) is GEMINI_TOOLS
    assert Forms().of_tool("smol", strict=True) is None


def test_an_equal_schema_is_translated_once() -> None:
    first, second = (translate_cached({**BOUNDED}, CLAUDE_OUTPUT) for _ in range(2))
    assert first.schema is second.schema
    assert translate_cached(BOUNDED, GEMINI).schema is BOUNDED


def test_the_memory_forgets_what_was_not_asked_for_longest() -> None:
    def named(name: str) -> dict[str, Any]:
        return {"type": "object", "properties": {name: {"type": "string"}}}

    memory = Memory(700)
    kept = memory.translate(named("kept"), CLAUDE_OUTPUT).schema
    for at in range(50):
        memory.translate(named(f"n{at}"), CLAUDE_OUTPUT)
        assert memory.translate(named("kept"), CLAUDE_OUTPUT).schema is kept
    gone = memory.translate(named("n0"), CLAUDE_OUTPUT).schema
    assert memory.translate(named("n0"), CLAUDE_OUTPUT).schema is gone
    assert 0 < memory.weight <= 700


def chain(length: int) -> dict[str, Any]:
    """Return a schema of definitions that refer to each other in a circle."""
    aims = {f"q{i}": {"$ref": f"#/$defs/q{(i + 1) % length}"} for i in range(length)}
    defs = {name: {"type": "object", "properties": {"x": aim}} for name, aim in aims.items()}
    return {"type": "object", "properties": {name: {"$ref": f"#/$defs/{name}"} for name in defs}, "$defs": defs}


HOSTILE: Mapping[str, Any] = {
    "a circle of references": chain(900),
    "a union of many choices": {
        "type": "object",
        "properties": {"z": {"anyOf": [{"type": "object", "properties": {"a": {"enum": [i]}}} for i in range(900)]}},
    },
    "choices that require much, beside many properties": {
        "type": "object",
        "anyOf": [{"required": [f"a{i}"]} for i in range(1000)],
        "properties": {f"a{i}": {} for i in range(300)},
    },
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_schema_that_takes_too_many_steps_is_a_plain_object_and_named(name: str) -> None:
    made = translate(HOSTILE[name], CLAUDE_STRICT_TOOLS)
    assert made.lost == ("type",)
    assert made.schema == {"type": "object", "properties": {}, "required": [], "additionalProperties": False}


def test_a_schema_of_many_properties_is_within_the_steps() -> None:
    wide = {"type": "object", "properties": {f"p{i}": {"type": "string"} for i in range(500)}}
    made = translate(wide, GEMINI)
    assert made.lost == ()
    assert len(made.schema["properties"]) == 500
