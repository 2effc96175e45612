"""A conversation with tools that changes its provider between the turns: real SDKs, real sockets."""

import itertools
import json
from collections.abc import Iterator
from typing import Any

import pytest
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from deployments.openai_api.chat import frames_to_chunks
from tests.providers.conftest import CLOUDS, Bench, cloud

Message = dict[str, Any]

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": name,
            "description": f"Looks up the {what}.",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}},
        },
    }
    for name, what in (("get_weather", "weather"), ("get-time_2", "time"))
]


@pytest.fixture(scope="module")
def benches() -> Iterator[dict[str, Bench]]:
    made = {kind: cloud(kind) for kind in CLOUDS}
    yield made
    for bench in made.values():
        assert bench.fake is not None
        bench.fake.stop()


def ask(bench: Bench, messages: list[Message], *, stream: bool, **more: Any) -> tuple[Message, str]:
    """The answer as openai's own client would send it back, and its finish reason."""
    if stream:
        state = ChatCompletionStreamState()
        bench.stream(messages=messages, **more)
        for chunk in frames_to_chunks(b"".join(bench.frames)):
            state.handle_chunk(ChatCompletionChunk.model_validate(chunk))
        choice = state.get_final_completion().choices[0]
        return choice.message.model_dump(exclude_none=True), choice.finish_reason
    whole = ChatCompletion.model_validate_json(bench.complete(messages=messages, **more).body).choices[0]
    return whole.message.model_dump(exclude_none=True), whole.finish_reason


def results(message: Message) -> list[Message]:
    return [
        {"role": "tool", "tool_call_id": c["id"], "content": f"{c['function']['name']} says 21"}
        for c in message["tool_calls"]
    ]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize(("first", "second"), [*itertools.product(CLOUDS, repeat=2)])
def test_a_tool_conversation_goes_on_with_another_provider(
    benches: dict[str, Bench], first: str, second: str, stream: bool
) -> None:
    messages: list[Message] = [{"role": "system", "content": "Be brief."}]
    for turn in range(3):
        messages.append({"role": "user", "content": f"Question {turn}"})
        # Whoever calls, the other gets the results; and in the next turn it is the other way round.
        caller, answerer = (first, second) if turn % 2 == 0 else (second, first)
        message, finish = ask(benches[caller], messages, stream=stream, tools=TOOLS)
        assert finish == "tool_calls"
        assert [c["function"]["name"] for c in message["tool_calls"]] == ["get_weather", "get-time_2"]
        for made in message["tool_calls"]:
            assert json.loads(made["function"]["arguments"]) == {"city": "Paris, «île»", "days": 7}
        messages += [message, *results(message)]
        message, finish = ask(benches[answerer], messages, stream=stream, tools=TOOLS)
        assert (message["content"], finish) == ("Paris is the capital.", "stop")
        messages.append(message)
    # Without tools the history is the same, and so it is for whoever may not call one.
    for more in ({}, {"tools": TOOLS, "tool_choice": "none"}):
        asked = [*messages, {"role": "user", "content": "In one word?"}]
        if second != "bedrock":  # which has no word for none: see below
            assert ask(benches[second], asked, stream=stream, **more)[1] == "stop"
    for bench in (benches[first], benches[second]):
        assert bench.fake is not None
        assert bench.fake.objections == []


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_a_call_that_was_forbidden_is_no_answer(benches: dict[str, Bench], stream: bool) -> None:
    bench = benches["bedrock"]
    message, _ = ask(bench, [{"role": "user", "content": "Go."}], stream=False, tools=TOOLS)
    messages = [{"role": "user", "content": "Go."}, message, *results(message), {"role": "user", "content": "And?"}]
    outcome = bench.failure(stream=stream, messages=messages, tools=TOOLS, tool_choice="none")
    assert (outcome.kind, outcome.param) == ("unsupported", "tool_choice")


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("kind", ["bedrock", "google", "anthropic"])
def test_one_call_at_most_is_one_call(benches: dict[str, Bench], kind: str, stream: bool) -> None:
    asked = [{"role": "user", "content": "Go."}]
    message, _ = ask(benches[kind], asked, stream=stream, tools=TOOLS, parallel_tool_calls=False)
    assert [c["function"]["name"] for c in message["tool_calls"]] == ["get_weather"]


@pytest.mark.parametrize("kind", ["bedrock", "google", "anthropic"])
def test_a_result_that_nobody_asked_for_names_itself(benches: dict[str, Bench], kind: str) -> None:
    messages = [{"role": "user", "content": "Go."}, {"role": "tool", "tool_call_id": "who", "content": "42"}]
    outcome = benches[kind].failure(messages=messages)
    assert (outcome.kind, outcome.status, outcome.param) == ("bad_request", 400, "messages.1.tool_call_id")
