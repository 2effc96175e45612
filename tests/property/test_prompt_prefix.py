"""A turn's prompt begins with the bytes of the turn before, on each wire: only then does a provider's cache help."""

from collections.abc import Callable, Mapping
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deployments.providers.anthropic.request import to_messages
from deployments.providers.base import Call
from deployments.providers.bedrock.request import to_converse
from deployments.providers.caching.automatic import with_marks
from deployments.providers.google.request import to_generate
from deployments.providers.kinds import KINDS
from deployments.providers.openai.dialect import known_dialect
from deployments.providers.openai.request import chat_body
from deployments.providers.openai.responses_api.request import responses_body
from deployments.providers.openai.responses_api.terms import KnownTerms
from deployments.providers.time_limits import TimeLimits
from deployments.routing.model_rows import ModelRows

MODELS = {"bedrock": "anthropic.claude-sonnet-4-5-20250929-v1:0", "google": "gemini-2.5-pro"}
MODELS |= {"anthropic": "claude-sonnet-4-5-20250929"}


def to_openai(call: Call) -> dict[str, Any]:
    return chat_body(call, stream=False, dialect=known_dialect("api.openai.com", call.model))


WIRES: Mapping[str, tuple[Callable[[Call], Any], str]] = {
    "openai": (
        lambda call: chat_body(call, stream=False, dialect=known_dialect("api.openai.com", call.model)),
        "messages",
    ),
    "bedrock": (to_converse, "messages"),
    "google": (to_generate, "contents"),
    "anthropic": (to_messages, "messages"),
    "openai_responses": (lambda call: responses_body(call, KnownTerms().of(call.model), stream=False), "input"),
}
TEXT = st.text(alphabet="ab é\n", min_size=1, max_size=6).filter(str.strip)
SCHEMA = {"type": "object", "properties": {"b": {"type": "string"}, "a": {"type": "integer"}}}
TOOLS = [
    {"type": "function", "function": {"name": name, "description": "d", "parameters": SCHEMA}}
    for name in ("read", "edit", "run.it")
]


@st.composite
def turns(draw: st.DrawFn) -> list[list[dict[str, Any]]]:
    """What each turn of a conversation adds: what was answered, and what is asked or told next."""
    said = [[{"role": "system", "content": draw(TEXT)}, {"role": "user", "content": draw(TEXT)}]]
    for number in range(draw(st.integers(1, 4))):
        if draw(st.booleans()):
            said.append([{"role": "assistant", "content": draw(TEXT)}, {"role": "user", "content": draw(TEXT)}])
            continue
        calls = [
            {
                "id": f"call_{number}_{of}",
                "type": "function",
                "function": {"name": draw(st.sampled_from(["read", "run.it"])), "arguments": '{"b": "x", "a": 1}'},
            }
            for of in range(draw(st.integers(1, 2)))
        ]
        results = [{"role": "tool", "tool_call_id": call["id"], "content": draw(TEXT)} for call in calls]
        text = draw(st.none() | TEXT)
        said.append([{"role": "assistant", "content": text, "tool_calls": calls}, *results])
    return said


def unmarked(value: Any) -> Any:
    """Without marks: they say where a prompt may end that is kept, and are no part of it."""
    if isinstance(value, list):
        return [unmarked(one) for one in value if not (isinstance(one, dict) and one.keys() == {"cachePoint"})]
    if not isinstance(value, dict):
        return value
    return {key: unmarked(one) for key, one in value.items() if key != "cache_control"}


def marks_in(value: Any) -> int:
    inner = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []
    own = sum(key in MARKS for key in value) if isinstance(value, dict) else 0
    return own + sum(map(marks_in, inner))


MARKS = ("cachePoint", "cache_control", "prompt_cache_breakpoint")


@pytest.mark.parametrize("kind", WIRES)
@settings(max_examples=60)
@given(turns())
def test_each_turn_begins_with_the_bytes_of_the_turn_before(
    kind: str, conversation: list[list[dict[str, Any]]]
) -> None:
    check_turns(kind, MODELS.get(kind, "gpt-4.1"), conversation, marks=0)


@pytest.mark.parametrize("kind", [kind for kind in WIRES if kind != "google"])
@settings(max_examples=60)
@given(turns())
def test_it_does_with_the_marks_that_are_set_for_a_client_too(
    kind: str, conversation: list[list[dict[str, Any]]]
) -> None:
    """On OpenAI's wires their own bytes are the same in each turn."""
    model = MODELS.get(kind, "gpt-5.6")
    check_turns(kind, model, conversation, marks=KINDS[kind].marks(model))


def check_turns(kind: str, model: str, conversation: list[list[dict[str, Any]]], *, marks: int) -> None:
    make, listed = WIRES[kind]
    rows = ModelRows({"row": [f"p/{model}"]}, {"p": kind})
    before: dict[str, Any] | None = None
    for number in range(1, len(conversation) + 1):
        messages = [message for turn in conversation[:number] for message in turn]
        request = {"model": "row", "messages": messages, "tools": TOOLS, "tool_choice": "auto"}
        fit = rows._fit(f"p/{model}", request, "hints")
        assert not fit.missing
        made = make(Call(with_marks(fit.body, marks), model, "row", TimeLimits()))
        assert marks_in(made) == marks
        made = unmarked(made)
        if before is not None:
            assert made.keys() == before.keys()
            for key, value in before.items():
                sent, now = orjson.dumps(value), orjson.dumps(made[key])
                assert now.startswith(sent[:-1]) if key == listed else now == sent, key
        before = made
