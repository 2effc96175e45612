"""A server that is asked by OpenAI's Responses API: what it gets of a chat, and what its answer is."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest
from msgspec import structs
from openai.types.responses import Response

from actors.breaker.outcomes import Outcome
from deployments.config.providers import OpenAI, row_of
from deployments.errors import AttemptFailed
from deployments.providers.base import Provider
from deployments.providers.kinds import KINDS
from deployments.providers.openai.responses_api.adapter import ResponsesProvider
from deployments.providers.openai.responses_api.terms import KnownTerms, Terms
from tests.fakes.responses_wire import REASONING, ResponsesWire
from tests.fakes.server import Behaviour, status
from tests.providers.conftest import Bench, cloud

ASK = {"role": "user", "content": "Weather?"}
TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}]


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = cloud("openai_responses")
    yield made
    assert made.fake is not None
    assert made.fake.objections == []
    made.fake.stop()


def asked(bench: Bench, at: int = -1) -> dict[str, Any]:
    assert bench.fake is not None
    return bench.fake.received[at].body


def message_of(bench: Bench, **body: Any) -> dict[str, Any]:
    message: dict[str, Any] = json.loads(bench.complete(**body).body)["choices"][0]["message"]
    return message


def streamed(bench: Bench, **body: Any) -> dict[str, Any]:
    """Return the message as a client adds its deltas up."""
    bench.stream(**body)
    made: dict[str, Any] = {"content": "", "calls": {}, "items": [], "finish": None}
    for event in b"".join(bench.frames).split(b"\n\n"):
        for choice in json.loads(event[6:])["choices"] if event.startswith(b"data: {") else ():
            delta, made["finish"] = choice["delta"], choice["finish_reason"] or made["finish"]
            made["content"] += delta.get("content") or ""
            made["items"] += (delta.get("extra_content") or {"openai": {"items": []}})["openai"]["items"]
            for call in delta.get("tool_calls") or ():
                known = made["calls"].setdefault(call["index"], {"id": call.get("id"), "arguments": ""})
                known["arguments"] += call["function"].get("arguments") or ""
    return made


def test_a_conversation_has_a_cache_key_at_openai_alone_and_a_clients_own_wins(bench: Bench) -> None:
    def key_of(provider: ResponsesProvider, **body: Any) -> Any:
        call = structs.replace(bench.call(**body), cache_key="5e55")
        seen: dict[str, Any] = {}

        async def request(operation: str, made: Any, _: Any) -> Any:
            seen.update(made)
            raise AttemptFailed(Outcome("connect"))

        async def work() -> None:
            provider._request = request  # type: ignore[method-assign]
            try:
                with pytest.raises(AttemptFailed):
                    await provider.complete(call)
            finally:
                await provider.close()

        asyncio.run(work())
        return seen.get("prompt_cache_key")

    assert key_of(ResponsesProvider(api_key="x")) == "5e55"
    assert key_of(ResponsesProvider(api_key="x"), prompt_cache_key="mine") == "mine"
    assert key_of(ResponsesProvider(api_key="x", base_url="http://vllm.internal/v1")) is None


def test_the_fakes_answers_are_responses_as_the_sdk_knows_them() -> None:
    Response.model_validate_json(ResponsesWire().whole(["Paris"]))


def test_a_chat_arrives_in_the_words_of_the_responses_api(bench: Bench) -> None:
    picture = {"type": "image_url", "image_url": {"url": "https://x.example/a.png", "detail": "low"}}
    bench.complete(
        messages=[{"role": "developer", "content": "Be brief."}, {"role": "user", "content": [picture]}],
        max_tokens=5,
        temperature=0.3,
        reasoning_effort="low",
        verbosity="low",
        tools=TOOLS,
        tool_choice={"type": "function", "function": {"name": "weather"}},
        response_format={"type": "json_schema", "json_schema": {"name": "a", "schema": {}}},
    )
    got = asked(bench)
    assert got["input"] == [
        {"type": "message", "role": "developer", "content": "Be brief."},
        {
            "type": "message",
            "role": "user",
            "content": [{"type": "input_image", "image_url": "https://x.example/a.png", "detail": "low"}],
        },
    ]
    assert (got["store"], got["stream"], got["max_output_tokens"], got["temperature"]) == (False, False, 16, 0.3)
    assert got["reasoning"] == {"effort": "low"}
    assert got["text"] == {"verbosity": "low", "format": {"type": "json_schema", "name": "a", "schema": {}}}
    assert got["tools"] == [{**TOOLS[0]["function"], "type": "function", "strict": False}]  # type: ignore[dict-item]
    assert got["tool_choice"] == {"type": "function", "name": "weather"}
    assert "include" not in got


@pytest.mark.parametrize("stream", [False, True])
def test_encrypted_reasoning_comes_back_before_the_calls_that_it_led_to(bench: Bench, stream: bool) -> None:
    if stream:
        made = streamed(bench, tools=TOOLS, messages=[ASK])
        call, items = made["calls"][0], made["items"]
        calls = [
            {"id": call["id"], "type": "function", "function": {"name": "weather", "arguments": call["arguments"]}}
        ]
        answer = {
            "role": "assistant",
            "content": None,
            "tool_calls": calls,
            "extra_content": {"openai": {"items": items}},
        }
        assert made["finish"] == "tool_calls"
    else:
        answer = message_of(bench, tools=TOOLS, messages=[ASK])
        calls = answer["tool_calls"]
    result = {"role": "tool", "tool_call_id": calls[0]["id"], "content": "Rain"}
    bench.complete(tools=TOOLS, messages=[ASK, answer, result])
    kinds = [item["type"] for item in asked(bench)["input"]]
    assert kinds == ["message", "reasoning", "function_call", "function_call_output"]
    assert asked(bench)["input"][1] == REASONING


def test_reasoning_that_another_account_made_is_left_out_at_the_second_try(bench: Bench) -> None:
    assert bench.fake is not None
    answer = message_of(bench, messages=[ASK])
    bench.fake.script = [status(400, "invalid_encrypted_content")]
    assert "Paris" in message_of(bench, messages=[ASK, answer, ASK])["content"]
    assert [[item["type"] for item in asked(bench, at)["input"]] for at in (-2, -1)] == [
        ["message", "reasoning", "message", "message"],
        ["message", "message", "message"],
    ]


def test_a_model_that_refuses_to_tell_its_reasoning_is_not_asked_for_it_for_an_hour() -> None:
    now = [0.0]
    terms = KnownTerms(lambda: now[0])
    assert terms.of("gpt-5.5").encrypted
    terms.learn("gpt-5.5", Terms(encrypted=False))
    now[0] = 3599.0
    assert not terms.of("gpt-5.5").encrypted
    assert terms.of("gpt-5.6").encrypted
    now[0] = 3601.0
    assert terms.of("gpt-5.5").encrypted


def test_what_a_model_refuses_of_reasoning_is_remembered_once_it_has_taken_the_request_without(bench: Bench) -> None:
    fake = bench.fake
    assert fake is not None
    refusal = Behaviour("status", status=400, message="Encrypted content is not supported with this model.")

    async def work(provider: Provider) -> None:
        call = structs.replace(bench.call(), model="gpt-5.5")
        fake.script = [refusal, status(500)]
        with pytest.raises(AttemptFailed):
            await provider.complete(call)
        fake.script = [refusal]
        for _ in range(2):
            await provider.complete(call)

    bench.run(work)
    assert ["include" in request.body for request in fake.received] == [True, False, True, False, False]


def test_the_usage_is_told_in_the_words_of_a_chat(bench: Bench) -> None:
    expected = {
        "prompt_tokens": 7,
        "completion_tokens": 5,
        "total_tokens": 12,
        "prompt_tokens_details": {"cached_tokens": 2, "cache_write_tokens": 1},
        "completion_tokens_details": {"reasoning_tokens": 1},
    }
    assert bench.complete().usage == expected
    assert bench.stream().usage == expected


@pytest.mark.parametrize("api", ["", "responses"])
def test_the_tier_that_served_an_answer_is_told_to_who_counts_its_cost(bench: Bench, api: str) -> None:
    assert bench.fake is not None
    assert isinstance(bench.fake.vendor, ResponsesWire)
    bench.api, bench.fake.vendor.ends = api, {"status": "completed", "service_tier": "flex"}
    for usage in (bench.complete().usage, bench.stream().usage):
        assert usage is not None
        assert usage["service_tier"] == "flex"


def test_stop_sequences_hold_though_the_api_has_none(bench: Bench) -> None:
    assert message_of(bench, stop=[" is"])["content"] == "Paris"
    assert streamed(bench, stop=[" is"])["content"] == "Paris"
    assert "stop" not in asked(bench)


def test_a_stream_cut_before_its_first_text_has_had_no_content(bench: Bench) -> None:
    assert bench.fake is not None
    bench.fake.behave = Behaviour("cut", after=1)  # the response, its reasoning and an empty message have begun
    outcome = bench.failure(stream=True)
    assert (outcome.kind, outcome.content) == ("broken", False)


def test_the_setting_api_decides_and_chat_is_the_default() -> None:
    assert row_of(OpenAI(kind="openai")) == "openai"
    assert KINDS[row_of(OpenAI(kind="openai", api="responses"))].in_configuration == "openai"
