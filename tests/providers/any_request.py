"""Any valid OpenAI chat request: conversations with tools, parts and images, and every parameter."""

import base64
import json
from typing import Any

from hypothesis import strategies as st

HINT = "a-hint-that-no-other-wire-has"

texts = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)
names = st.sampled_from(["look_up", "Add-2", "f"])
keys = st.sampled_from(["call_abc", "functions.f:0", "tooluse_a-b", "ключ", "x" * 80])
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | texts,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(texts, inner, max_size=2),
    max_leaves=4,
)
objects = st.dictionaries(texts, json_values, max_size=3)
schemas = st.sampled_from(
    [
        {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        {"type": "object", "properties": {}, "additionalProperties": False},
    ]
)


def image_url(subtype: str) -> str:
    return f"data:image/{subtype};base64,{base64.b64encode(b'pixels').decode()}"


def sometimes(**fields: Any) -> Any:
    return st.fixed_dictionaries({}, optional=fields)


marks = st.fixed_dictionaries({"type": st.just("ephemeral")}, optional={"ttl": st.sampled_from(["5m", "1h", "24h"])})
text_parts = st.fixed_dictionaries({"type": st.just("text"), "text": texts}, optional={"cache_control": marks})
image_parts = st.fixed_dictionaries(
    {
        "type": st.just("image_url"),
        "image_url": st.fixed_dictionaries(
            {"url": st.sampled_from([*map(image_url, ("png", "jpeg", "gif", "webp", "heic")), "https://x/cat.png"])},
            optional={"detail": st.sampled_from(["auto", "low"])},
        ),
    }
)


def file_part(name: str | None, kind: str, data: bytes = b"%PDF-1.7 pages") -> dict[str, Any]:
    named = {} if name is None else {"filename": name}
    url = f"data:{kind};base64,{base64.b64encode(data).decode()}"
    return {"type": "file", "file": {**named, "file_data": url}}


file_names = st.sampled_from(
    [None, "", "a.pdf", "A.PDF", "b's  #1.txt", "ключ.md", "x" * 300, "r\u3000s.docx", "t.png"]
)
file_kinds = st.sampled_from(["application/pdf", "text/plain", "application/json", "application/octet-stream", ""])
file_parts = st.builds(file_part, file_names, file_kinds, st.sampled_from([b"%PDF-1.7", b"a,b\n1,2"]))
other_parts = st.just({"type": "input_audio", "input_audio": {"data": "", "format": "wav"}})

system = st.fixed_dictionaries(
    {"role": st.sampled_from(["system", "developer"]), "content": texts | st.lists(text_parts, min_size=1, max_size=2)}
)
user = st.fixed_dictionaries(
    {
        "role": st.just("user"),
        "content": st.one_of(
            texts,
            st.lists(text_parts | image_parts | file_parts, min_size=1, max_size=3),
            st.lists(text_parts, min_size=1, max_size=2),
            st.lists(other_parts, min_size=1, max_size=1),
        ),
    },
    optional={"name": st.just(HINT), "cache_control": marks},
)
assistant = st.fixed_dictionaries(
    {"role": st.just("assistant"), "content": texts},
    optional={"refusal": st.none(), "annotations": st.just([]), "tool_calls": st.none()},
)


result_contents = texts | st.just("") | st.lists(text_parts | image_parts | file_parts, max_size=3)


@st.composite
def rounds(draw: Any) -> list[dict[str, Any]]:
    """Calls of one step, and mostly a result for each: some come twice, some never."""
    ids = draw(st.lists(keys, min_size=1, max_size=3, unique=True))
    arguments = st.one_of(objects.map(json.dumps), st.just(""), st.just('{"broken": '))
    calls = [
        {"id": key, "type": "function", "function": {"name": draw(names), "arguments": draw(arguments)}} for key in ids
    ]
    given = draw(st.lists(st.sampled_from(ids), max_size=4)) if draw(st.integers(0, 3)) == 3 else ids
    failed = sometimes(is_error=st.booleans())
    results = [{"role": "tool", "tool_call_id": k, "content": draw(result_contents), **draw(failed)} for k in given]
    said = draw(sometimes(content=st.none() | texts))
    return [{"role": "assistant", "tool_calls": calls, **said}, *draw(st.permutations(results))]


def one(strategy: Any) -> Any:
    return strategy.map(lambda message: [message])


segments = st.one_of(one(system), one(user), one(assistant), rounds())
endings = st.sampled_from([[], [], [{"role": "assistant", "content": "It is "}]])
conversations = st.tuples(
    st.lists(segments, max_size=4), user | st.just({"role": "user", "content": "Go on."}), endings
).map(lambda parts: [message for segment in parts[0] for message in segment] + [parts[1], *parts[2]])


@st.composite
def tools(draw: Any) -> dict[str, Any]:
    """`tools`, and what may stand with them."""
    functions = [
        {"name": name, **draw(sometimes(description=texts | st.just(""), parameters=schemas, strict=st.booleans()))}
        for name in draw(st.lists(names, min_size=1, max_size=3, unique=True))
    ]
    named = {"type": "function", "function": {"name": functions[0]["name"]}}
    allowed = {
        "type": "allowed_tools",
        "allowed_tools": {"mode": draw(st.sampled_from(["auto", "required"])), "tools": [named]},
    }
    choice = st.sampled_from(["auto", "none", "required", named, allowed])
    more = draw(sometimes(tool_choice=choice, parallel_tool_calls=st.booleans()))
    marked = st.fixed_dictionaries({}, optional={"cache_control": marks})
    offered = [{"type": "function", "function": function, **draw(marked)} for function in functions]
    if draw(st.integers(0, 9)) == 7:
        offered.append({"type": "custom", "custom": {"name": "sh"}})
    return {"tools": offered, **more}


response_formats = st.sampled_from(
    [
        {"type": "text"},
        {"type": "json_object"},
        {
            "type": "json_schema",
            "json_schema": {"name": "s", "strict": True, "schema": {"type": "object", "properties": {}}},
        },
    ]
)
common = {
    "temperature": st.floats(0, 2),
    "top_p": st.floats(0, 1),
    "max_tokens": st.integers(1, 10_000),
    "max_completion_tokens": st.integers(1, 10_000),
    "stop": texts | st.lists(texts, min_size=1, max_size=4),
}
rare = {
    "seed": st.integers(0, 2**63),
    "n": st.integers(1, 9),
    "logprobs": st.booleans(),
    "top_logprobs": st.integers(0, 20),
    "presence_penalty": st.floats(-2, 2),
    "frequency_penalty": st.floats(-2, 2),
    "response_format": response_formats,
    "reasoning_effort": st.sampled_from(["none", "minimal", "low", "medium", "high", "xhigh", "max"]),
    "stream_options": st.just({"include_usage": True}),
    "user": st.just(HINT),
    "metadata": st.just({"key": HINT}),
    "store": st.booleans(),
    "service_tier": st.sampled_from(["auto", "flex"]),
    "safety_identifier": st.just(HINT),
    "prompt_cache_key": st.just(HINT),
    "verbosity": st.sampled_from(["low", "medium"]),
    "logit_bias": st.sampled_from([{}, {"50256": -100}]),
    "modalities": st.sampled_from([["text"], ["text", "audio"]]),
    "functions": st.just([{"name": "f"}]),
    "parameter_of_tomorrow": st.sampled_from([None, 1]),
}


@st.composite
def few(draw: Any, fields: dict[str, Any], most: int) -> dict[str, Any]:
    chosen = draw(st.lists(st.sampled_from(sorted(fields)), max_size=most, unique=True))
    return {name: draw(fields[name]) for name in chosen}


requests = st.tuples(
    st.fixed_dictionaries({"model": st.just("row"), "messages": conversations}),
    few(common, 5),
    few(rare, 3),
    tools() | st.just({}),
).map(lambda parts: {**parts[0], **parts[1], **parts[2], **parts[3]})
