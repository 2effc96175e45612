"""What OpenAI would take of a client of Responses it takes through us too; what it answers comes back as its types say.

The rules of the fake are the judge of requests, and the types of the openai SDK that of answers.
"""

import json
from collections.abc import Mapping
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from deployments.doors.door import Served
from deployments.errors import BadRequest
from deployments.openai_api.chat import DONE
from deployments.openai_api.json_types import JsonDict
from deployments.providers.base import Call, TimeLimits
from deployments.providers.openai.responses_api.native import NativeReader, native_body
from deployments.providers.openai.responses_api.request import responses_body
from deployments.providers.openai.responses_api.terms import KnownTerms
from deployments.providers.sse import payloads
from deployments.routing.model_rules import adapt, rules_of
from deployments.routing.request_fit import fit_native, fit_request, unsupported_in_chat
from tests.doors.responses import DOOR, check_response, opened, read_events
from tests.fakes.hosted_items import CITED, HOSTED, OF_FILE
from tests.fakes.responses_wire import Asked, ResponsesWire
from tests.fakes.vendors.openai_responses import RULES
from tests.property.test_any_response import AGENTS, ITEMS, REQUESTS, TOOLS

KIND, MODELS = "openai_responses", st.sampled_from(["gpt-5.5", "gpt-5", "o3", "gpt-4o", "of-others"])


def refusals(body: Mapping[str, Any]) -> set[str]:
    """The rules that refuse a request."""
    return {rule.__name__ for rule in RULES if rule(Asked("/v1/responses", body)) is not None}


def both_ways(body: JsonDict, model: str) -> tuple[JsonDict, JsonDict] | None:
    """The request as a server of the API gets it from us, natively and by chat; None if it is refused before."""
    try:
        request = DOOR.open(body).request
    except BadRequest:
        return None
    assert request.native is not None
    rules, limits, stream = rules_of(KIND, model), TimeLimits(), bool(body.get("stream"))
    chat = request.body if rules is None else adapt(rules, request.body).body
    fit = fit_native(request.native, chat, (), "hints")
    assert fit.extras is not None
    own = Call(request.native.body(fit.body, fit.extras), model, "row", limits, api="responses")
    translated = Call(fit_request(unsupported_in_chat, KIND, chat, "hints", model).body, model, "row", limits)
    terms = KnownTerms().of(model)
    return native_body(own, terms, stream=stream), responses_body(translated, terms, stream=stream)


def as_sent(body: JsonDict, model: str) -> JsonDict:
    """The request as its client would have sent it to OpenAI, without a store."""
    return {**body, "model": model, "store": False}


@settings(max_examples=60)
@given(AGENTS, MODELS)
def test_what_openai_takes_of_an_agent_it_takes_through_us_both_ways(body: JsonDict, model: str) -> None:
    ways = both_ways(body, model)
    assert ways is not None
    for way in ways:
        json.dumps(way)
        assert refusals(way) <= refusals(as_sent(body, model))


@settings(max_examples=60)
@given(REQUESTS, MODELS)
def test_what_openai_takes_of_any_request_of_the_sdks_types_it_takes_through_us(body: JsonDict, model: str) -> None:
    body = {"model": "row", "input": "Hi", **body}
    if (ways := both_ways(body, model)) is not None:
        assert refusals(ways[0]) <= refusals(as_sent(body, model))


@settings(max_examples=60)
@given(st.lists(ITEMS, max_size=3), st.lists(TOOLS, max_size=3))
def test_any_items_and_tools_go_upstream_as_they_are(items: Any, tools: Any) -> None:
    user = {"role": "user", "content": "Hi"}
    body = {"model": "row", "input": [user, *items, user], "tools": tools}
    if (ways := both_ways(body, "gpt-5.5")) is None:
        return
    sent, _ = ways
    assert sent["tools"] == tools
    others = [item for item in items if item.get("type") not in ("reasoning", "custom_tool_call")]
    kept = [item for item in sent["input"][1:-1] if item.get("type") not in ("reasoning", "custom_tool_call")]
    assert [without_id(item) for item in kept] == [without_id(item) for item in others]


def without_id(item: Mapping[str, Any]) -> JsonDict:
    """An item without its id, which goes where the reasoning goes that it names."""
    return {name: value for name, value in item.items() if name != "id"}


# Answers.

SERVED = Served("00ff", 1_800_000_000, native=True)
WIRES = st.builds(
    lambda hosted, annotations, reasons, ends: wire(hosted, annotations, reasons=reasons, ends=ends),
    st.lists(st.sampled_from(list(HOSTED.values())), max_size=4, unique_by=lambda item: str(item["type"])),
    st.lists(st.sampled_from([CITED, OF_FILE]), max_size=2),
    st.booleans(),
    st.sampled_from(
        [
            {"status": "completed"},
            {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}},
            {"status": "incomplete", "incomplete_details": {"reason": "content_filter"}},
        ]
    ),
)
WORDS = st.lists(st.text('ab \n"\\é😀{}', min_size=1, max_size=6), min_size=1, max_size=3)
# Of a response, what servers other than OpenAI's leave out.
OPTIONAL = st.sets(
    st.sampled_from(
        [
            *("error", "incomplete_details", "instructions", "metadata", "parallel_tool_calls", "temperature"),
            *("tool_choice", "tools", "top_p", "usage", "created_at", "object"),
        ]
    )
)


def wire(hosted: Any, annotations: Any, *, reasons: bool, ends: Any) -> ResponsesWire:
    made = ResponsesWire()
    made.hosted, made.annotations, made.reasons, made.ends = hosted, annotations, reasons, ends
    return made


@settings(max_examples=60)
@given(WIRES, WORDS, OPTIONAL)
def test_any_whole_answer_is_a_response_of_the_sdks_types(made: ResponsesWire, words: Any, gone: Any) -> None:
    came = json.loads(made.whole(words))
    told = {name: value for name, value in came.items() if name not in gone}
    answer = opened().whole(told, SERVED)
    check_response(answer)
    assert answer["output"] == came["output"]
    assert answer["status"] == came["status"]


@settings(max_examples=60)
@given(WIRES, WORDS, OPTIONAL, st.data())
def test_any_stream_is_one_of_the_sdks_events_in_any_batches(
    made: ResponsesWire, words: Any, gone: Any, data: st.DataObject
) -> None:
    events, reader = [json.loads(one) for one in payloads(b"".join(made.frames(words)))], NativeReader()
    for event in events:
        if "response" in event:
            event["response"] = {name: value for name, value in event["response"].items() if name not in gone}
    frames = [b"".join(told for told, _ in reader.read(event, json.dumps(event).encode())) for event in events]
    assert reader.finished
    cut = data.draw(st.integers(0, len(frames)))
    encoder = opened(stream=True).encoder(SERVED)
    batches = (b"".join(frames[:cut]), b"".join(frames[cut:]), DONE)
    answer = read_events(b"".join(map(encoder.encode, batches)))
    assert answer.kinds == [event["type"].removeprefix("response.") for event in events]
    assert answer.response["output"] == events[-1]["response"]["output"] == answer.done
    assert answer.text("output_text") == "".join(words)
