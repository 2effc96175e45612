"""Any request of the Responses API becomes one that every wire takes, or a typed error; any frames become an answer."""

import collections.abc
import contextlib
import copy
import itertools
import typing
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai._types import SequenceNotStr
from openai.types.responses import ResponseInputItemParam, ToolParam
from openai.types.responses.response_create_params import ResponseCreateParamsNonStreaming

from deployments.errors import AttemptFailed, BadRequest
from deployments.openai_api.chat import DONE, check_chat, chunk, frame, usage_chunk
from deployments.openai_api.json_types import JsonDict, JsonObject
from deployments.providers.anthropic.request import to_messages
from deployments.providers.base import Call, TimeLimits
from deployments.providers.bedrock.request import to_converse
from deployments.providers.google.request import to_generate
from deployments.providers.local.codec import to_engine
from deployments.providers.openai.dialect import Dialect
from deployments.providers.openai.request import chat_body
from deployments.routing.request_fit import fit_request, unsupported_in_chat
from tests.doors.responses import DOOR, HEAD, SERVED, USAGE, check_response, completion, opened, read_events, result

# Requests as the SDK's types have them.


def _listed(kind: Any) -> st.SearchStrategy[Any]:
    (inner,) = typing.get_args(kind) or (str,)
    return st.lists(st.from_type(inner), max_size=2)


st.register_type_strategy(collections.abc.Iterable, _listed)
st.register_type_strategy(SequenceNotStr, st.lists(st.text(max_size=3), max_size=2))
st.register_type_strategy(object, st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=3))
ITEMS: st.SearchStrategy[Any] = st.from_type(ResponseInputItemParam)  # type: ignore[arg-type]
TOOLS: st.SearchStrategy[Any] = st.from_type(ToolParam)  # type: ignore[arg-type]
REQUESTS = st.from_type(ResponseCreateParamsNonStreaming)


def opens(body: JsonDict) -> Any:
    """The request as it was read, or None if it was refused by a name that the client can find."""
    before = copy.deepcopy(body)
    made, refusal = None, None
    try:
        made = DOOR.open(body)
    except BadRequest as error:
        refusal = error
    assert body == before
    if made is None:
        assert refusal is not None
        assert refusal.param is not None
        assert refusal.param.split(".")[0] in {*body, "input", "model"}
        return None
    assert check_chat(made.request.body)
    assert all(path.split(".")[0] in body for path in made.dropped)
    return made


@settings(max_examples=40)
@given(REQUESTS)
def test_any_request_of_the_sdks_types_is_read_or_refused_by_name(body: JsonDict) -> None:
    if opens({"model": "row", **body}) is None:
        return
    made = DOOR.open({"model": "row", **body})
    check_response(made.whole(completion({"content": "x"}), SERVED))


@settings(max_examples=40)
@given(st.lists(ITEMS, max_size=3), st.lists(TOOLS, max_size=3))
def test_any_items_and_tools_of_the_sdks_types_are_read_or_refused_by_name(items: Any, tools: Any) -> None:
    opens({"model": "row", "input": [{"role": "user", "content": "Hi"}, *items], "tools": tools})


# Requests as agents send them: nearly all of them are taken.

WORDS = st.text('ab \n"\\é😀{}', max_size=6)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | WORDS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["text", "url", "type", "x"]), inner),
    max_leaves=4,
)
NAMES = st.sampled_from(["f", "g", "team__f", "a.b", "x" * 70])
SPACES = st.none() | st.sampled_from(["team", "other"])
KEYS = st.sampled_from(["a", "b", "0"])
SCHEMA = {"type": "object", "properties": {"x": {"type": "string"}}}
IMAGES = st.just({"type": "input_image", "image_url": "data:image/png;base64,iVBORw0KGgo=", "detail": "low"})
PARTS = st.lists(st.builds(lambda text: {"type": "input_text", "text": text}, WORDS) | IMAGES, max_size=3)
SAID = st.builds(
    lambda role, content: {"role": role, "content": content},
    st.sampled_from(["user", "developer", "system"]),
    WORDS | PARTS,
)
ANSWERED = st.builds(
    lambda text, refusal: {
        "type": "message",
        "role": "assistant",
        "content": [{"type": "refusal", "refusal": text} if refusal else {"type": "output_text", "text": text}],
    },
    WORDS,
    st.booleans(),
)
THOUGHTS = st.builds(
    lambda text, sealed: {
        "type": "reasoning",
        "id": "rs_1",
        "summary": [{"type": "summary_text", "text": text}],
        "encrypted_content": sealed,
    },
    WORDS,
    st.sampled_from(["foreign", "bw1.damaged", None]),
)


@st.composite
def calls(draw: st.DrawFn) -> list[JsonDict]:
    """Some calls with their results, and what others say in between."""
    made, keys = list[JsonDict](), draw(st.lists(KEYS, min_size=1, max_size=3, unique=True))
    for key in keys:
        kind = draw(st.sampled_from(["function_call", "custom_tool_call"]))
        item = {"type": kind, "call_id": key, "name": draw(NAMES), "namespace": draw(SPACES)}
        made.append({**item, "arguments" if kind == "function_call" else "input": draw(WORDS)})
    made += draw(st.lists(SAID, max_size=1))
    return made + [result(key, draw(WORDS | PARTS)) for key in draw(st.permutations(keys))]


FUNCTIONS = st.builds(
    lambda name, strict: {"type": "function", "name": name, "parameters": SCHEMA, "strict": strict},
    NAMES,
    st.sampled_from([True, False, None]),
)
CUSTOMS = st.builds(lambda name: {"type": "custom", "name": name}, NAMES)
OFFERED = st.lists(
    FUNCTIONS
    | CUSTOMS
    | st.just({"type": "web_search"})
    | st.builds(
        lambda name, tools: {"type": "namespace", "name": name, "description": "d", "tools": tools},
        st.sampled_from(["team", "other"]),
        st.lists(FUNCTIONS | CUSTOMS, max_size=2),
    ),
    max_size=4,
)
STEPS = st.lists(
    SAID.map(lambda item: [item]) | ANSWERED.map(lambda item: [item]) | THOUGHTS.map(lambda i: [i]) | calls()
)
TALKS = STEPS.map(lambda steps: [item for step in steps for item in step] + [{"role": "user", "content": "Go on"}])
AGENTS = st.fixed_dictionaries(
    {"model": st.just("row"), "input": TALKS},
    optional={
        "tools": OFFERED,
        "tool_choice": st.sampled_from(["auto", "none"]),
        "instructions": WORDS,
        "parallel_tool_calls": st.booleans(),
        "max_output_tokens": st.integers(1, 99),
        "temperature": st.sampled_from([0, 0.5, 1]),
        "reasoning": st.just({"effort": "low", "summary": "auto"}),
        "text": st.just({"format": {"type": "json_schema", "name": "n", "schema": SCHEMA}}),
        "store": st.booleans(),
        "stream": st.booleans(),
    },
)


@st.composite
def spoiled(draw: st.DrawFn) -> JsonDict:
    """A request of an agent with an odd value somewhere in it."""
    body: JsonDict = copy.deepcopy(draw(AGENTS))
    place: Any = body
    while True:
        key = draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
        if not (isinstance(place[key], dict | list) and place[key] and draw(st.booleans())):
            break
        place = place[key]
    place[key] = draw(JSON | st.just("function") | st.just("message") | st.just("namespace") | st.just("custom"))
    return body


@settings(max_examples=150)
@given(spoiled())
def test_an_odd_value_anywhere_in_a_request_is_taken_or_refused_by_name(body: JsonDict) -> None:
    if (made := opens(body)) is not None:
        made.whole(completion({"content": "x"}), SERVED)


WIRES: dict[str, Callable[[Call], Any]] = {
    "openai": lambda call: chat_body(call, stream=bool(call.body.get("stream")), dialect=Dialect()),
    "bedrock": to_converse,
    "google": to_generate,
    "anthropic": to_messages,
    "local": to_engine,
}


@pytest.mark.parametrize("kind", WIRES)
@settings(max_examples=40)
@given(AGENTS)
def test_any_request_of_an_agent_is_one_that_each_wire_takes(kind: str, body: JsonDict) -> None:
    made = opens(body)
    assert made is not None
    fit = fit_request(unsupported_in_chat, kind, made.request.body, "hints")
    if fit.missing:
        return
    with contextlib.suppress(AttemptFailed):  # what it refuses, it refuses by a name
        WIRES[kind](Call(fit.body, "model", "row", TimeLimits()))


@settings(max_examples=40)
@given(AGENTS)
def test_each_result_of_an_agent_stands_right_behind_its_call(body: JsonDict) -> None:
    waiting: set[str] = set()
    for message in DOOR.open(body).request.body["messages"]:
        if message["role"] == "tool":
            waiting.remove(message["tool_call_id"])
            continue
        assert not waiting
        waiting = {call["id"] for call in message.get("tool_calls") or ()}
    assert not waiting


# Answers, in any pieces.

ON = opened(
    stream=True,
    tools=[
        {"type": "function", "name": "f"},
        {"type": "custom", "name": "c"},
        {"type": "namespace", "name": "n", "description": "d", "tools": [{"type": "function", "name": "f"}]},
    ],
)
JSONS = st.sampled_from(
    ["", "{}", '{"x": "é😀\\n"}', '{"input": "*** \\ud83d\\ude00 \\"q\\" \\\\"}', '{"input": "", "y": 1}']
)
SIGNED = st.sampled_from(
    [None, None, {"google": {"thought_signature": "t"}}, {"bedrock": {"reasoning": [{"signature": "s"}]}}]
)
SEGMENTS = st.lists(
    st.tuples(st.sampled_from(["content", "reasoning_content", "refusal"]), WORDS.filter(bool), st.none())
    | st.tuples(st.sampled_from(["f", "c", "n__f", "unknown"]), JSONS, SIGNED),
    max_size=5,
)


@st.composite
def cut(draw: st.DrawFn, text: str) -> list[str]:
    places = sorted(draw(st.sets(st.integers(0, len(text)), max_size=4)) | {0, len(text)})
    return [text[start:end] for start, end in itertools.pairwise(places)]


def deltas_of(segments: list[Any], pieces: Callable[[str], list[str]]) -> list[JsonDict]:
    made, index = list[JsonDict](), 0
    for kind, text, signed in segments:
        if kind in ("content", "reasoning_content", "refusal"):
            made += [{kind: piece} for piece in pieces(text)]
            continue
        first = {"index": index, "id": f"call_{index}", "type": "function", "function": {"name": kind, "arguments": ""}}
        made.append({"tool_calls": [first if signed is None else {**first, "extra_content": signed}]})
        told = [{"index": index, "function": {"arguments": piece}} for piece in pieces(text)]
        made += [{"tool_calls": [one]} for one in told]
        index += 1
    return made


def frames_of(deltas: list[JsonDict], finish: str = "stop") -> list[bytes]:
    ends = [chunk(HEAD, {}, finish), usage_chunk(HEAD, USAGE), DONE]
    return [*(chunk(HEAD, delta) for delta in deltas), *ends]


# 22, 25


@settings(max_examples=40)
@given(SEGMENTS, st.data(), st.sampled_from(["stop", "length"]))
def test_an_answer_is_the_same_in_any_pieces_and_any_batches(segments: Any, data: st.DataObject, finish: str) -> None:
    whole = ON.encoder(SERVED).encode(b"".join(frames_of(deltas_of(segments, lambda text: [text]), finish)))
    frames = frames_of(deltas_of(segments, lambda text: data.draw(cut(text))), finish)
    encoder = ON.encoder(SERVED)
    batches = [b"".join(frames[: len(frames) // 2]), *frames[len(frames) // 2 :]]
    answer, expected = read_events(b"".join(map(encoder.encode, batches))), read_events(whole)
    assert answer.response == expected.response
    assert answer.response["output"] == answer.done
    parts = [part for item in answer.done if item["type"] == "message" for part in item["content"]]
    assert answer.text("output_text") == "".join(part.get("text", "") for part in parts)
    assert answer.text("refusal") == "".join(part.get("refusal", "") for part in parts)
    assert answer.text("function_call_arguments") == "".join(item.get("arguments", "") for item in answer.done)
    done = [event["item_id"] for event in answer.of("custom_tool_call_input.done")]
    told = [event["delta"] for event in answer.of("custom_tool_call_input.delta") if event["item_id"] in done]
    assert "".join(told) == "".join(item.get("input", "") for item in answer.done)
    summaries = [part["text"] for item in answer.done for part in item.get("summary", ())]
    assert answer.text("reasoning_summary_text") == "".join(summaries)


# 18


@settings(max_examples=40)
@given(SEGMENTS)
def test_any_answer_is_taken_as_input_of_the_next_turn_with_all_that_it_holds(segments: Any) -> None:
    frames = frames_of(deltas_of(segments, lambda text: [text]))
    output = read_events(ON.encoder(SERVED).encode(b"".join(frames))).response["output"]
    results = [result(item["call_id"]) for item in output if "call_id" in item]
    body = {"model": "row", "input": [{"role": "user", "content": "Hi"}, *output, *results]}
    made = opens({**body, "tools": [{"type": "custom", "name": "c"}]})
    silent = all(item["type"] == "reasoning" for item in output)  # reasoning of an answer that says nothing
    assert made.dropped == (["input.1"] if silent else [])
    sent = [call for message in made.request.body["messages"] for call in message.get("tool_calls") or ()]
    signed = {f"call_{at}": s[2] for at, s in enumerate(s for s in segments if s[0] in ("f", "c", "n__f", "unknown"))}
    assert {call["id"]: call.get("extra_content") for call in sent} == signed


FIELDS = ("content", "reasoning_content", "refusal", "tool_calls", "extra_content", "images", "annotations", "x")
ODD_CALLS = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "index": st.integers(-1, 2) | JSON,
            "id": JSON,
            "extra_content": JSON,
            "function": st.fixed_dictionaries({}, optional={"name": JSON | NAMES, "arguments": JSON | JSONS}) | JSON,
        },
    ),
    max_size=2,
)
ODD = st.fixed_dictionaries({}, optional={**dict.fromkeys(FIELDS, JSON), "tool_calls": ODD_CALLS | JSON})
ODD_CHOICES = st.fixed_dictionaries({}, optional={"delta": ODD | JSON, "finish_reason": JSON, "logprobs": JSON})
ODD_CHUNKS = st.fixed_dictionaries(
    {}, optional={"choices": st.lists(ODD_CHOICES | JSON, max_size=2) | JSON, "usage": JSON, "model": JSON}
)


@settings(max_examples=40)
@given(st.lists(ODD_CHUNKS, max_size=5))
def test_frames_of_any_shape_become_a_valid_stream(chunks: list[JsonObject]) -> None:
    events = read_events(ON.encoder(SERVED).encode(b"".join([*map(frame, chunks), DONE])))
    assert events.kinds[-1] in ("completed", "incomplete")


@settings(max_examples=40)
@given(ODD, JSON)
def test_an_answer_of_any_shape_becomes_a_valid_response(message: JsonDict, finish: Any) -> None:
    check_response(ON.whole(completion(message, finish), SERVED))
