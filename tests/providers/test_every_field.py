"""Nothing is dropped in silence: each field of OpenAI's request is carried, translated, or named."""

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from deployments.errors import AttemptFailed
from deployments.openai_api.capabilities import find_unsupported
from deployments.providers.anthropic.request import to_messages
from deployments.providers.base import Call
from deployments.providers.bedrock.codec import to_converse
from deployments.providers.google.codec import to_generate
from deployments.providers.kinds import KINDS
from deployments.providers.local.codec import to_engine
from deployments.providers.local.tools import choice_of
from deployments.providers.time_limits import TimeLimits
from tests.providers.openai_fields import WORD, Field, fields

FIELDS = list(fields())


def to_local(call: Call) -> list[Any]:
    """Everything that the engine may be asked for a request."""
    choice = choice_of(call.body)
    asked = [choice.request(call.body["messages"])] if choice.is_open else []
    return [to_engine(call), *asked, *(to_engine(call, tool) for tool in choice.tools)]


CODECS: Mapping[str, Callable[[Call], Any]] = {
    "bedrock": to_converse,
    "google": to_generate,
    "anthropic": to_messages,
    "local": to_local,
}

# What says nothing: OpenAI's own default, or the kind of a thing that the vendor tells apart by its shape.
SAYS_NOTHING: Mapping[str, tuple[Any, ...]] = {
    "messages.content.image_url.detail": ("auto",),
    "messages.content.type": ("text", "image_url", "refusal"),
    "messages.tool_calls.type": ("function",),
    "tools.type": ("function",),
    "tool_choice.type": ("function", "allowed_tools"),
    "function_call": ("none",),
    "modalities": ("text",),
    "parallel_tool_calls": (True,),
    "response_format.type": ("text",),
    "service_tier": ("auto", "default"),
    "tool_choice": ("auto",),
    "tool_choice.allowed_tools.mode": ("auto",),
    "verbosity": ("medium",),
}

# What we do ourselves, or what is always so there.
DONE_ELSEWHERE: Mapping[str, Mapping[str, str]] = {
    "stream": dict.fromkeys(CODECS, "the adapter calls another operation"),
    "stream_options.include_usage": dict.fromkeys(CODECS, "the adapter sends the usage, which each of them tells"),
    "response_format.json_schema.strict": dict.fromkeys(CODECS, "none of them answers beside a schema"),
    "response_format.json_schema.name": {"local": "a label, which no answer shows"},
    "tools.function.strict": {"local": "a grammar holds it to the schema of each tool"},
    "messages.tool_calls.id": {"local": "calls and results are told in words"},
    "messages.tool_call_id": {"local": "calls and results are told in words"},
}

# The words that stand for a value in what the vendor gets.
TRANSLATED: Mapping[str, Mapping[str, Mapping[Any, str]]] = {
    "messages.role": {
        "bedrock": {"developer": '"system": [', "assistant": '"role": "assistant"', "tool": '"toolResult"'},
        "google": {"developer": '"systemInstruction"', "assistant": '"role": "model"', "tool": '"functionResponse"'},
        "anthropic": {"developer": '"system": [', "assistant": '"role": "assistant"', "tool": '"tool_result"'},
        "local": {"developer": '"role": "system"', "tool": "The result of f is"},
    },
    "messages.content.image_url.url": {
        "bedrock": {None: "b'pixels'"},
        "google": {None: "cGl4ZWxz"},
        "anthropic": {None: "b'pixels'"},
    },
    "reasoning_effort": {
        "bedrock": {"minimal": '"effort": "low"'},
        "anthropic": {"minimal": '"effort": "low"', "none": '"thinking": {"type": "disabled"}'},
        "google": {"none": '"thinkingLevel": "MINIMAL"', **dict.fromkeys(("xhigh", "max"), '"thinkingLevel": "HIGH"')},
    },
    "service_tier": {"bedrock": {"fast": '"type": "priority"'}},
    "logprobs": {"google": {True: '"responseLogprobs": true'}, "local": {True: '"logprobs": true'}},
    "response_format.type": {
        "google": dict.fromkeys(("json_object", "json_schema"), '"responseMimeType": "application/json"'),
        "local": dict.fromkeys(("json_object", "json_schema"), '"grammar"'),
    },
    "tool_choice": {
        "bedrock": {"required": '"toolChoice": {"any": {}}', "none": '"messages"'},
        "anthropic": {"required": '"tool_choice": {"type": "any"', "none": '"tool_choice": {"type": "none"}'},
        "google": {"required": '"mode": "ANY"', "none": '"mode": "NONE"'},
        "local": {"required": f"You call the function {WORD}", "none": '"messages"'},
    },
    "tool_choice.allowed_tools.tools": {kind: {None: WORD} for kind in CODECS},
    "tool_choice.allowed_tools.mode": {
        "bedrock": {"required": '"toolChoice": {"any": {}}'},
        "anthropic": {"required": '"tool_choice": {"type": "any"'},
        "google": {"required": '"mode": "ANY"'},
        "local": {"required": f"You call the function {WORD}"},
    },
    "tools.function.strict": {
        **{kind: {True: '"strict": true'} for kind in ("bedrock", "anthropic")},
        "google": {True: '"mode": "VALIDATED"'},
    },
}


def leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield name
            yield from leaves(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from leaves(inner)
    else:
        yield value


def is_carried(value: Any, written: list[Any]) -> bool:
    """Return whether a value, or all that is in it, is found in what the vendor gets."""
    if isinstance(value, bool):
        return False  # it would be found anywhere
    if isinstance(value, str) and value.startswith("{"):
        value = json.loads(value)  # the arguments of a call, which are an object for others
    if isinstance(value, dict):
        return all(is_carried(inner, written) for inner in leaves(value))
    if isinstance(value, str):
        return any(isinstance(other, str) and value.casefold() in other.casefold() for other in written)
    return value in [other for other in written if not isinstance(other, bool)]


def judged(kind: str, field: Field) -> str:
    """Return what becomes of a field: named, nothing to say, done elsewhere, translated, carried or lost."""
    path = ".".join(field.path)
    found = find_unsupported(KINDS[kind].capabilities, field.body)
    if any(path == name or path.startswith(f"{name}.") for name in (*found.missing, *found.dropped)):
        return "named"
    if found.missing:
        return "refused"  # for another field, without which this one is none
    model = "claude-sonnet-5" if kind == "anthropic" else "gemini-3-flash"
    made = CODECS[kind](Call(field.body, model, "row", TimeLimits()))
    words = TRANSLATED.get(field.pattern, {}).get(kind, {})
    word = words.get(None) or (words.get(field.value) if not isinstance(field.value, dict) else None)
    if word is not None:
        return "translated" if word in json.dumps(made, default=repr, ensure_ascii=False) else "lost"
    if field.value in SAYS_NOTHING.get(field.pattern, ()):
        return "says nothing"
    if kind in DONE_ELSEWHERE.get(field.pattern, {}):
        return "done elsewhere"
    return "carried" if is_carried(field.value, list(leaves(made))) else "lost"


@pytest.mark.parametrize("kind", CODECS)
def test_each_field_of_openais_request_is_carried_translated_or_named(kind: str) -> None:
    found = [(".".join(f.path), f.value, judged(kind, f)) for f in FIELDS]
    assert [f for f in found if f[2] == "lost"] == []
    counted = {word: sum(f[2] == word for f in found) for word in ("named", "translated", "carried")}
    assert min(counted.values()) >= 5, "each way is really taken"


def test_the_walk_finds_the_fields_that_are_known_to_be_there() -> None:
    patterns = {field.pattern for field in FIELDS}
    assert len(patterns) > 90
    assert patterns >= {
        "messages.content.prompt_cache_breakpoint.ttl",
        "messages.tool_calls.function.arguments",
        "tools.function.strict",
        "tool_choice.allowed_tools.mode",
        "response_format.json_schema.description",
        "stream_options.include_obfuscation",
        "web_search_options.user_location.approximate.city",
    }


@pytest.mark.parametrize("table", [SAYS_NOTHING, DONE_ELSEWHERE, TRANSLATED])
def test_no_table_has_a_field_that_is_none(table: Mapping[str, Any]) -> None:
    assert table.keys() <= {field.pattern for field in FIELDS}


def with_unknown(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Return the value once for each object in it, with a field of tomorrow in that object, and the field's path."""
    if isinstance(value, dict):
        yield (*path, "field_of_tomorrow"), {**value, "field_of_tomorrow": WORD}
    for name, inner in value.items() if isinstance(value, dict) else enumerate(value):
        if isinstance(inner, dict | list) and name not in OPEN:
            for found, changed in with_unknown(inner, (*path, str(name))):
                whole = dict(value) if isinstance(value, dict) else list(value)
                whole[name] = changed  # type: ignore[index]
                yield found, whole


OPEN = frozenset({"parameters", "schema"})  # a schema is carried as it is
WHOLE: Mapping[str, Any] = {
    "model": "row",
    "messages": [
        {"role": "system", "content": [{"type": "text", "text": "Rules."}]},
        {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
        {
            "role": "assistant",
            "content": [{"type": "refusal", "refusal": "No."}],
            "tool_calls": [{"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
        },
        {"role": "tool", "tool_call_id": "a", "content": [{"type": "text", "text": "21"}]},
    ],
    "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}],
    "tool_choice": {
        "type": "allowed_tools",
        "allowed_tools": {"mode": "auto", "tools": [{"type": "function", "function": {"name": "f"}}]},
    },
    "response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": {"type": "object"}}},
    "stream_options": {"include_usage": True},
}
IMAGE = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,cGl4ZWxz"}}]}


@pytest.mark.parametrize("kind", CODECS)
def test_a_field_of_tomorrow_is_named_by_its_path_wherever_it_stands(kind: str) -> None:
    messages = [*WHOLE["messages"], *([IMAGE] if kind != "local" else [])]
    cases = list(with_unknown({**WHOLE, "messages": messages}))
    assert len(cases) > 15
    for path, body in cases:
        found = find_unsupported(KINDS[kind].capabilities, body)
        assert (*found.missing, *found.dropped) == (".".join(path),)


def test_a_field_that_says_nothing_is_not_named() -> None:
    echo = {"role": "assistant", "content": "Hi", "refusal": None, "annotations": [], "audio": None}
    echo |= {"function_call": None, "tool_calls": None, "reasoning_content": "hmm", "extra_content": {"google": {}}}
    body = {"model": "row", "messages": [{"role": "user", "content": "Hi", "name": None}, echo]}
    for kind in CODECS:
        found = find_unsupported(KINDS[kind].capabilities, body)
        assert (found.missing, found.dropped) == ((), ())


def test_what_is_refused_is_refused_by_the_codec_by_the_same_name() -> None:
    for kind in ("bedrock", "google", "anthropic"):
        for field in FIELDS:
            found = find_unsupported(KINDS[kind].capabilities, field.body)
            if found.missing:
                with pytest.raises(AttemptFailed) as caught:
                    CODECS[kind](Call(field.body, "gemini-3-flash", "row", TimeLimits()))
                assert caught.value.outcome.param == found.missing[0]
