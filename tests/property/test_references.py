"""References of drawn schemas, and what their translation costs when there are thousands of them."""

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.json_schema import dialects
from deployments.json_schema.dialects import Dialect
from deployments.json_schema.flat import is_same, key_of
from deployments.json_schema.references import Loops, References
from deployments.json_schema.translate import translate
from tests.fakes.strict_schemas import OPENAI_STRICT

NODES = "abcdef"
GRAPHS = st.dictionaries(st.sampled_from(NODES), st.lists(st.sampled_from(NODES), max_size=3))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(0, 2) | st.sampled_from([0.0, 1.0, 1.5, "", "1"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("xy"), inner, max_size=2),
    max_leaves=4,
)
ALL = [
    dialects.CLAUDE_OUTPUT,
    dialects.CLAUDE_STRICT_TOOLS,
    dialects.BEDROCK_TOOLS,
    dialects.NOVA_TOOLS,
    dialects.GEMINI,
    dialects.GEMINI_TOOLS,
    OPENAI_STRICT,
]


def reached(steps: dict[str, list[str]], start: str) -> set[str]:
    seen: set[str] = set()
    waiting = [start]
    while waiting:
        for to in steps.get(waiting.pop(), ()):
            if to not in seen:
                seen.add(to)
                waiting.append(to)
    return seen


@given(GRAPHS, st.permutations(NODES))
def test_a_node_loops_if_it_can_be_reached_from_itself(steps: dict[str, list[str]], order: list[str]) -> None:
    loops = Loops(steps)
    assert {name for name in order if loops.has(name)} == {name for name in NODES if name in reached(steps, name)}


@given(VALUES, VALUES)
def test_two_values_have_one_key_if_they_are_the_same(one: Any, other: Any) -> None:
    assert (key_of(one) == key_of(other)) == is_same(one, other)


def test_a_reference_ends_under_one_name_however_it_is_written() -> None:
    defs = {"A": {"$anchor": "a", "type": "object"}, "B": {"$ref": "#/%24defs/A"}, "C": {"$ref": "#/$defs/B"}}
    references = References({"$defs": defs})
    ends = [references.end(pointer) for pointer in ("#/$defs/C", "#/$defs/A", "#a", "#/$defs/B", "#/%24defs/A")]
    assert [end and end[1] for end in ends] == [defs["A"]] * 5
    assert len({end and end[0] for end in ends}) == 1
    assert [references.end(pointer) for pointer in ("#/$defs/D", "#b", "http://x/y", "")] == [None] * 4


def test_aliases_in_a_circle_lead_nowhere() -> None:
    references = References({"$defs": {"A": {"$ref": "#/$defs/B"}, "B": {"$ref": "#/$defs/A"}}})
    assert references.end("#/$defs/A") is references.end("#/$defs/B") is None


def test_what_stands_inside_a_schema_that_it_refers_to_loops() -> None:
    inner = {"type": "object", "properties": {"up": {"$ref": "#/$defs/T"}}}
    root = {"$ref": "#/$defs/T", "$defs": {"T": {"type": "object", "properties": {"in": inner}, "required": ["in"]}}}
    references = References({**root, "properties": {"x": {"$ref": "#/$defs/T/properties/in"}}})
    assert references.loops("#/$defs/T", hard=False)
    assert references.loops("#/$defs/T/properties/in", hard=False)
    assert not references.loops("#/$defs/T", hard=True)


def chain(count: int) -> dict[str, Any]:
    """Definitions in one large circle, and a property for each of them."""
    names = [f"D{at}" for at in range(count)]
    ahead = dict(zip(names, [*names[1:], names[0]], strict=True))
    defs = {name: {"type": "object", "properties": {"x": {"$ref": f"#/$defs/{to}"}}} for name, to in ahead.items()}
    return {"type": "object", "properties": {name: {"$ref": f"#/$defs/{name}"} for name in names}, "$defs": defs}


LARGE: dict[str, dict[str, Any]] = {
    "two long enums": {
        "type": "object",
        "properties": {"e": {"allOf": [{"enum": [[at, part] for at in range(1500)]} for part in range(2)]}},
    },
    "a circle of definitions": chain(900),
    "anchors that are not there": {
        "type": "object",
        "properties": {f"p{at}": {"$ref": f"#no{at}"} for at in range(1500)},
        "$defs": {f"d{at}": {"type": "string"} for at in range(1500)},
    },
    "a part for each property": {
        "type": "object",
        "properties": {"z": {"allOf": [{"properties": {f"n{at}": {"type": "string"}}} for at in range(1900)]}},
    },
    "unions at the top": {
        "anyOf": [{"type": "object", "properties": {"a": {"enum": [at]}}, "required": ["a"]} for at in range(900)]
    },
    "a union over many properties": {
        "type": "object",
        "properties": {
            "z": {
                "type": "object",
                "properties": {f"a{at}": {} for at in range(300)},
                "anyOf": [{"required": [f"a{at}"]} for at in range(900)],
            }
        },
    },
}


@pytest.mark.parametrize("dialect", ALL, ids=lambda dialect: dialect.name)
@pytest.mark.parametrize("what", LARGE)
def test_a_large_schema_holds_nobody_up(what: str, dialect: Dialect) -> None:
    """It is read on a replica's event loop. Where each part is compared with each other, it takes up to a minute."""
    began = time.process_time()
    translate(LARGE[what], dialect)
    assert time.process_time() - began < 6


def test_unions_that_multiply_are_lost_and_what_stands_beside_them_is_kept() -> None:
    unions = [{"anyOf": [{"properties": {f"x{n}{m}": {"type": "string"}}} for m in range(6)]} for n in range(8)]
    place = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"], "allOf": unions}
    made = translate({"type": "object", "properties": {"a": place}, "required": ["a"]}, dialects.GEMINI)
    assert "properties.a.anyOf" in made.lost
    inner = made.schema["properties"]["a"]
    choices = inner.get("anyOf", [inner])
    assert all(choice["properties"]["n"] == {"type": "integer"} and "n" in choice["required"] for choice in choices)
    assert 1 <= len(choices) <= 64


def test_long_descriptions_alone_cut_nothing() -> None:
    schema = {
        "type": "object",
        "properties": {f"p{at}": {"type": "string", "description": "word " * 800} for at in range(60)},
        "required": [f"p{at}" for at in range(60)],
        "additionalProperties": False,
    }
    for dialect in ALL:
        made = translate(schema, dialect)
        assert all(name in made.schema["properties"] for name in schema["properties"])
        assert made.lost == (("additionalProperties",) if dialect is dialects.NOVA_TOOLS else ())
