"""What a client may send, as the local model's engine gets it; nothing is loaded here."""

import itertools
import json
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from deployments.errors import AttemptFailed
from deployments.openai_api.chat import Head, frames_to_chunks
from deployments.providers.base import Call
from deployments.providers.local.codec import StreamCodec, to_engine
from deployments.providers.local.tools import choice_of
from deployments.providers.time_limits import TimeLimits

texts = st.text(st.characters(codec="utf-8"), min_size=1, max_size=30)
names = st.from_regex(r"[a-zA-Z0-9_-]{1,20}", fullmatch=True)
objects = st.dictionaries(texts, st.integers() | texts, max_size=3)
parts = st.fixed_dictionaries({"type": st.just("text"), "text": texts})
contents = texts | st.lists(parts, min_size=1, max_size=3)
calls = st.builds(
    lambda name, arguments: {
        "id": f"call_{name}",
        "type": "function",
        "function": {"name": name, "arguments": json.dumps(arguments, ensure_ascii=False)},
    },
    names,
    objects,
)
spoken = st.fixed_dictionaries(
    {"role": st.sampled_from(["system", "developer", "user", "assistant"]), "content": contents}
)
called = st.fixed_dictionaries(
    {
        "role": st.just("assistant"),
        "content": st.none() | texts,
        "tool_calls": st.lists(calls, min_size=1, max_size=2),
    }
)
returned = st.fixed_dictionaries({"role": st.just("tool"), "tool_call_id": texts, "content": contents})
tools = st.lists(
    st.builds(
        lambda name, description: {
            "type": "function",
            "function": {"name": name, "description": description, "parameters": {"type": "object"}},
        },
        names,
        texts,
    ),
    min_size=1,
    max_size=3,
)
requests = st.fixed_dictionaries(
    {"model": st.just("row"), "messages": st.lists(spoken | called | returned, min_size=1, max_size=6)},
    optional={
        "temperature": st.floats(0, 2),
        "top_p": st.floats(0, 1),
        "max_tokens": st.integers(1, 10_000),
        "stop": texts | st.lists(texts, min_size=1, max_size=4),
        "seed": st.integers(0, 2**31),
        "presence_penalty": st.floats(-2, 2),
        "frequency_penalty": st.floats(-2, 2),
        "n": st.just(1),
        "logprobs": st.just(True),
        "response_format": st.sampled_from(
            [{"type": "text"}, {"type": "json_object"}, {"type": "json_schema", "json_schema": {"name": "x"}}]
        ),
        "tools": tools,
        "tool_choice": st.sampled_from(["auto", "none"]),
        "user": texts,
        "metadata": objects,
        "reasoning_effort": st.just("low"),
        "parallel_tool_calls": st.booleans(),
    },
)
HINTS = {"user", "metadata", "reasoning_effort", "parallel_tool_calls", "tool_choice", "tools", "n", "model"}


def call(body: dict[str, Any]) -> Call:
    return Call(
        {"model": "row", "messages": [{"role": "user", "content": "Hi"}], **body}, "upstream", "row", TimeLimits()
    )


def refusal(body: dict[str, Any]) -> tuple[str, str | None]:
    with pytest.raises(AttemptFailed) as caught:
        _ = to_engine(call(body)), choice_of(call(body).body)
    return caught.value.outcome.kind, caught.value.outcome.param


@settings(max_examples=40, deadline=None)
@given(requests)
def test_every_request_is_one_that_any_chat_template_takes(body: dict[str, Any]) -> None:
    engine = to_engine(call(body))
    system, *turns = engine["messages"]
    assert system["role"] == "system"
    assert all(isinstance(m["content"], str) and set(m) == {"role", "content"} for m in engine["messages"])
    roles = [m["role"] for m in turns]
    assert set(roles) <= {"user", "assistant"}
    assert all(a != b for a, b in itertools.pairwise(roles)), "roles alternate"
    assert not HINTS & set(engine)
    for name in ("top_p", "seed", "presence_penalty", "frequency_penalty"):
        assert engine.get(name) == body.get(name)
    stop = body.get("stop")
    assert engine.get("stop") == ([stop] if isinstance(stop, str) else stop)


@settings(max_examples=40, deadline=None)
@given(requests)
def test_nothing_that_was_said_called_or_returned_is_lost(body: dict[str, Any]) -> None:
    written = "\0".join(m["content"] for m in to_engine(call(body))["messages"])
    for message in body["messages"]:
        content = message["content"] or ""
        assert (content if isinstance(content, str) else "".join(p["text"] for p in content)) in written
        for made in message.get("tool_calls", []):
            assert f"I call {made['function']['name']} with {made['function']['arguments']}." in written


@settings(max_examples=40, deadline=None)
@given(requests)
def test_the_choice_of_a_tool_is_one_line_an_example_whatever_the_tools_say(body: dict[str, Any]) -> None:
    choice = choice_of(body)
    if not choice.is_open:
        return
    request = choice.request(body["messages"])
    lines = request["prompt"].split("\n")
    # Two lines and an empty one for each example, two lines for the question.
    assert len(lines) == 3 * (2 + len(choice.tools)) + 2
    assert {line.split(":")[0] for line in lines if line} == {"Message", "Tool"}
    assert re.fullmatch(r'root ::= (" [\w-]+"( \| )?)+', request["grammar"])
    for tool in choice.tools:
        assert choice.find(f" {tool.name}") is not None
    assert choice.find(" none") is None or any(tool.name == "none" for tool in choice.tools)


@pytest.mark.parametrize(
    ("body", "refused"),
    [
        ({"n": 2}, ("unsupported", "n")),
        ({"parameter_of_tomorrow": 1}, ("unsupported", "parameter_of_tomorrow")),
        ({"logit_bias": {"50256": -100}}, ("unsupported", "logit_bias")),
        ({"functions": [{"name": "f"}]}, ("unsupported", "functions")),
        ({"modalities": ["text", "audio"]}, ("unsupported", "modalities")),
        ({"tools": [{"type": "custom", "custom": {"name": "f"}}]}, ("unsupported", "tools.0.type")),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, ("bad_request", "tools.0.function.name")),
        ({"tools": [{"type": "function", "function": {}}]}, ("bad_request", "tools.0.function.name")),
        ({"tools": [{"type": "function", "function": {"name": 5}}]}, ("bad_request", "tools.0.function.name")),
        ({"tool_choice": "required"}, ("bad_request", "tool_choice")),
        ({"tool_choice": {"type": "function", "function": {"name": "f"}}}, ("bad_request", "tool_choice")),
        ({"tool_choice": "perhaps"}, ("bad_request", "tool_choice")),
        ({"top_logprobs": 3}, ("bad_request", "top_logprobs")),
        ({"logprobs": True, "top_logprobs": 21}, ("bad_request", "top_logprobs")),
        ({"response_format": {"type": "yaml"}}, ("bad_request", "response_format")),
        ({"response_format": "json"}, ("bad_request", "response_format")),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": 17}}},
            ("bad_request", "response_format"),
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:"}}]}]},
            ("unsupported", "messages.0.content"),
        ),
    ],
    ids=str,
)
def test_what_the_local_model_cannot_do_is_refused_by_name(body: dict[str, Any], refused: tuple[str, str]) -> None:
    assert refusal(body) == refused


def test_numbers_that_the_engine_cannot_hold_are_brought_within_its_bounds() -> None:
    engine = to_engine(call({"max_tokens": 10**12, "seed": -1, "stop": ""}))
    assert (engine["max_tokens"], engine["seed"], "stop" in engine) == (2**31 - 1, 2**32 - 2, False)


def test_more_tools_than_a_small_model_can_read_are_refused_unless_one_is_named() -> None:
    many = [function(f"tool_{i}") for i in range(33)]
    assert refusal({"tools": many}) == ("unsupported", "tools")
    assert choice_of(call({"tools": many, "tool_choice": function("tool_7")}).body).settled is not None


def function(name: str) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name}}


@pytest.mark.parametrize(
    ("choice", "offered", "may_decline"),
    [
        (None, ["a", "b"], True),
        ("auto", ["a", "b"], True),
        ("none", [], True),
        ("required", ["a", "b"], False),
        (function("b"), ["b"], False),
        ({"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [function("b")]}}, ["b"], False),
        ({"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [function("a")]}}, ["a"], True),
    ],
)
def test_what_tool_choice_leaves_to_the_model(choice: Any, offered: list[str], may_decline: bool) -> None:
    made = choice_of(call({"tools": [function("a"), function("b")], "tool_choice": choice}).body)
    assert ([tool.name for tool in made.tools], made.may_decline) == (offered, may_decline)


def test_a_tool_is_not_offered_again_before_the_user_speaks() -> None:
    history = [
        {"role": "user", "content": "Do it."},
        {"role": "assistant", "tool_calls": [{"id": "1", **function("a")}]},
        {"role": "tool", "tool_call_id": "1", "content": "done"},
    ]
    body = {"tools": [function("a"), function("b")], "messages": history}
    assert [tool.name for tool in choice_of(body).tools] == ["b"]
    body["messages"] = [*history, {"role": "user", "content": "Again."}]
    assert [tool.name for tool in choice_of(body).tools] == ["a", "b"]


def part(text: str | None = None, finish: str | None = None) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {"content": text} if text else {}, "finish_reason": finish}]}


@settings(max_examples=30, deadline=None)
@given(st.lists(texts), st.sampled_from(["stop", "length"]), st.booleans())
def test_a_stream_and_an_answer_say_the_same(pieces: list[str], finish: str, calling: bool) -> None:
    arguments = json.dumps({"said": "".join(pieces)})
    pieces = [arguments[i : i + 3] for i in range(0, len(arguments), 3)] if calling else pieces
    tool = choice_of(call({"tools": [function("f")], "tool_choice": "required"}).body).settled if calling else None
    codec = StreamCodec(call({}), Head.new("row"), tool)
    usage = {"usage": {"prompt_tokens": 3, "completion_tokens": 2}, "choices": []}
    data = b"".join(codec.frames(p) for p in [*map(part, pieces), part(finish=finish), usage])
    chunks = [ChatCompletionChunk.model_validate(chunk) for chunk in frames_to_chunks(data)]
    [choice] = ChatCompletion.model_validate(codec.answer(), strict=True).choices
    deltas = [chunk.choices[0].delta for chunk in chunks]
    said = "".join(delta.content or "" for delta in deltas)
    handed = "".join(c.function.arguments or "" for d in deltas for c in d.tool_calls or [] if c.function)
    assert (deltas[0].role, chunks[-1].choices[0].finish_reason) == ("assistant", choice.finish_reason)
    if calling:
        [made] = choice.message.tool_calls or []
        assert made.type == "function"
        assert (handed, said) == (made.function.arguments, "")
        assert choice.finish_reason == ("tool_calls" if finish == "stop" else "length")
    else:
        assert (said, handed, choice.finish_reason) == (choice.message.content, "", finish)


def test_an_engine_that_left_its_grammar_has_not_answered() -> None:
    codec = StreamCodec(call({"response_format": {"type": "json_object"}}), Head.new("row"))
    codec.frames(part("{not JSON", "stop"))
    with pytest.raises(AttemptFailed) as caught:
        codec.end()
    assert caught.value.outcome.kind == "malformed"
