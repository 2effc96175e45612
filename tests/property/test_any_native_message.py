"""What Anthropic would take of a client of Messages it takes through us; what it answers comes back as its types say.

The rules of the fake are the judge of requests, and the types of the anthropic SDK that of answers.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from deployments.doors.door import Served
from deployments.doors.messages.door import MESSAGES
from deployments.openai_api.chat import DONE
from deployments.openai_api.json_types import JsonDict
from deployments.providers.anthropic.native import NativeReader, native_body
from deployments.providers.anthropic.request import Terms
from deployments.providers.base import Call, TimeLimits
from deployments.providers.sse import payloads
from deployments.routing.model_rules import adapt, rules_of
from deployments.routing.request_fit import fit_native
from tests.doors.anthropic_types import MESSAGE, events_in, folded, opened
from tests.fakes.messages_events import CITED, HIDDEN, HITS, SEARCH, THINKING, EachEvent
from tests.fakes.tool_use import Called
from tests.fakes.vendors.anthropic import BETAS, OF_BODIES

MODELS = st.sampled_from(
    [
        *("claude-3-7-sonnet-20250219", "claude-haiku-4-5", "claude-opus-4-5", "claude-sonnet-4-6", "claude-opus-4-8"),
        *("claude-sonnet-5", "claude-opus-5-5"),
    ]
)
HEADERS = {"anthropic-beta": ",".join(BETAS)}
MARK = st.sampled_from([{}, {"cache_control": {"type": "ephemeral"}}])
TEXT = st.builds(lambda mark: {"type": "text", "text": "Well.", **mark}, MARK)
ANSWER = st.lists(st.sampled_from([THINKING, HIDDEN, SEARCH, HITS]), max_size=2).map(
    lambda first: [*first, {"type": "text", "text": "Well.", "citations": [CITED]}]
)
LOOK = {"name": "look", "input_schema": {"type": "object", "properties": {}}}
TOOLS = st.lists(
    st.sampled_from([LOOK, {"type": "web_search_20250305", "name": "s"}, {"type": "bash_20250124", "name": "bash"}]),
    unique_by=lambda tool: str(tool["name"]),
    max_size=3,
)
OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "system": st.lists(TEXT, min_size=1, max_size=2),
        "thinking": st.sampled_from(
            [{"type": "adaptive"}, {"type": "disabled"}, {"type": "enabled", "budget_tokens": 2048}]
        ),
        "output_config": st.sampled_from([{"effort": "low"}, {"effort": "high"}]),
        "metadata": st.just({"user_id": "u"}),
        "service_tier": st.sampled_from(["auto", "standard_only"]),
        "context_management": st.just({"edits": []}),
        "stop_sequences": st.just(["END"]),
        "temperature": st.sampled_from([0.5, 1]),
        "top_k": st.just(5),
        "tools": TOOLS,
        "inference_geo": st.just("eu"),
    },
)


@dataclass(frozen=True)
class Asked:
    body: Mapping[str, Any]
    path: str = "/v1/messages"
    headers: Mapping[str, str] = field(default_factory=lambda: HEADERS)


def refusals(body: Mapping[str, Any]) -> set[str]:
    """The rules that refuse a request."""
    return {rule.__name__ for rule in OF_BODIES if rule(Asked(body)) is not None}


def upstream(body: JsonDict, model: str) -> JsonDict:
    """The request as Anthropic gets it from us."""
    request, rules = MESSAGES.open(body, HEADERS.items()).request, rules_of("anthropic", model)
    assert request.native is not None
    chat = request.body if rules is None else adapt(rules, request.body).body
    fit = fit_native(request.native, chat, (), "hints")
    assert fit.extras is not None
    own = Call(request.native.body(fit.body, fit.extras), model, "row", TimeLimits(), api="messages")
    made, betas = native_body(own, Terms(), stream=bool(body.get("stream")))
    assert betas == list(BETAS)
    return made


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(ANSWER, st.lists(TEXT, min_size=1, max_size=2)), max_size=2), OPTIONS, MODELS)
def test_what_anthropic_takes_it_takes_through_us(talk: Any, options: JsonDict, model: str) -> None:
    messages: list[Any] = [{"role": "user", "content": "Hi"}]
    for answer, said in talk:
        messages += [{"role": "assistant", "content": answer}, {"role": "user", "content": said}]
    body = {"model": "row", "max_tokens": 30_000, "messages": messages, **options}
    made = upstream(body, model)
    assert refusals(made) <= refusals({**body, "model": model})
    assert made["messages"] == messages
    same = ("system", "tools", "metadata", "service_tier", "context_management", "inference_geo", "stop_sequences")
    assert {name: made.get(name) for name in same} == {name: body.get(name) for name in same}


SERVED = Served("00ff", 1_800_000_000, native=True)
WIRES = st.builds(
    EachEvent,
    st.lists(st.sampled_from([THINKING, HIDDEN, SEARCH, HITS]), max_size=4),
    st.sampled_from([None, [CITED]]),
    st.sampled_from([{}, {"stop_reason": "pause_turn"}, {"stop_reason": "max_tokens"}]),
)
WORDS = st.lists(st.text('ab \n"\\é😀{}', min_size=1, max_size=6), max_size=3)
CALLS = st.sampled_from([[], [Called("1-0", "look", {"at": "x"})]])


@settings(max_examples=60, deadline=None)
@given(WIRES, WORDS)
def test_any_whole_answer_is_a_message_of_the_sdks_types(wire: EachEvent, words: Any) -> None:
    came = json.loads(wire.whole(words))
    answer = opened().whole(came, SERVED)
    MESSAGE.validate_json(json.dumps(answer), strict=True)
    assert answer == {**came, "id": "msg_00ff", "model": "row-a"}


@settings(max_examples=60, deadline=None)
@given(WIRES, WORDS, CALLS, st.data())
def test_any_stream_is_the_same_in_any_batches_and_the_whole_answer(
    wire: EachEvent, words: Any, calls: Any, data: st.DataObject
) -> None:
    reader, frames = NativeReader(), list[bytes]()
    for one in payloads(b"".join(wire.frames_calls(calls, words))):
        frames.append(reader.frames(json.loads(one), one)[0])
    assert reader.finished
    cut = data.draw(st.integers(0, len(frames)))
    encoder = opened(stream=True).encoder(SERVED)
    batches = (*frames[:cut], b"".join(frames[cut:]), DONE)
    answer = folded(events_in(b"".join(map(encoder.encode, batches))))
    whole = json.loads(wire.whole_calls(calls, words))
    assert [_said(block) for block in answer["content"]] == [_said(block) for block in whole["content"]]
    assert (answer["id"], answer["model"], answer["stop_reason"]) == ("msg_00ff", "row-a", whole["stop_reason"])


def _said(block: JsonDict) -> JsonDict:
    return {name: value for name, value in block.items() if value is not None}
