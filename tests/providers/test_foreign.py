"""An OpenAI-compatible server that we did not write, for real: its bytes, its habits, its errors."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from deployments.providers.openai.adapter import OpenAIProvider
from deployments.providers.time_limits import TimeLimits
from tests.fakes.foreign import KEY, foreign_server
from tests.providers.conftest import Bench
from tests.providers.test_contract import chunks, text

SYSTEM = {"role": "system", "content": "You are a helpful assistant."}
ASKED = {"messages": [SYSTEM, {"role": "user", "content": "What is the capital of France?"}], "temperature": 0}


def bench_at(url: str, key: str = KEY) -> Bench:
    limits = TimeLimits(connect=2, first_token=20, idle=20, total=20)
    return Bench("openai", lambda: OpenAIProvider(api_key=key, base_url=url), limits=limits)


@pytest.fixture(scope="module")
def foreign_url() -> Iterator[str]:
    with foreign_server() as url:
        yield url


@pytest.fixture
def foreign(foreign_url: str) -> Bench:
    return bench_at(foreign_url)


def test_it_chats_under_the_rows_name_with_its_own_usage(foreign: Bench) -> None:
    done = foreign.complete(**ASKED)
    answer = ChatCompletion.model_validate_json(done.body)
    assert "Paris" in (answer.choices[0].message.content or "")
    assert (answer.model, answer.choices[0].finish_reason) == ("row", "stop")
    assert done.usage is not None
    assert (done.usage["prompt_tokens"], done.usage["completion_tokens"]) == (27, 8)


def test_it_streams_and_the_usage_goes_to_who_asked_for_it(foreign: Bench) -> None:
    end = foreign.stream(**ASKED)
    got = [ChatCompletionChunk.model_validate(chunk) for chunk in chunks(foreign)]
    assert "Paris" in text(foreign)
    assert got[0].choices[0].delta.role == "assistant"
    assert {chunk.model for chunk in got} == {"row"}
    assert got[-1].choices[0].finish_reason == "stop"
    assert all(chunk.usage is None for chunk in got)
    assert end.usage is not None
    assert end.usage["completion_tokens"] == 8

    foreign.stream(**ASKED, stream_options={"include_usage": True})
    [last] = [chunk for chunk in chunks(foreign) if chunk.get("usage")]
    assert last["usage"]["completion_tokens"] == 8


def test_length_logprobs_stop_and_schemas_are_its_own_to_know(foreign: Bench) -> None:
    answer = ChatCompletion.model_validate_json(foreign.complete(**ASKED, max_tokens=3, logprobs=True).body)
    assert answer.choices[0].finish_reason == "length"
    assert answer.choices[0].logprobs is not None
    assert len(answer.choices[0].logprobs.content or []) == 3
    answer = ChatCompletion.model_validate_json(foreign.complete(**ASKED, stop=[" is"]).body)
    assert "Paris" not in (answer.choices[0].message.content or "")
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"enum": ["Paris", "Rome"]}}}
    answer = ChatCompletion.model_validate_json(foreign.complete(**ASKED, response_format=wanted).body)
    assert json.loads(answer.choices[0].message.content or "") == "Paris"


@pytest.mark.parametrize("stream", [False, True])
def test_a_prompt_over_its_context_is_too_long(foreign: Bench, stream: bool) -> None:
    outcome = foreign.failure(stream=stream, messages=[{"role": "user", "content": "hello " * 1000}])
    assert (outcome.kind, outcome.status, outcome.code) == ("too_long", 400, "context_length_exceeded")
    assert "context size" in outcome.message


@pytest.mark.parametrize(
    "body",
    [
        {"response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "foo"}}}},
        {"grammar": "root ::= ("},
    ],
    ids=str,
)
def test_a_request_that_it_refuses_is_the_callers_fault(foreign: Bench, body: dict[str, Any]) -> None:
    outcome = foreign.failure(**ASKED, **body)
    assert (outcome.kind, outcome.status, outcome.code) == ("rejected", 400, "invalid_request_error")


def test_a_tool_that_it_never_calls_spoils_no_answer(foreign: Bench) -> None:
    function = {"name": "get_weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}
    body = {**ASKED, "tools": [{"type": "function", "function": function}], "tool_choice": "required"}
    [choice] = ChatCompletion.model_validate_json(foreign.complete(**body).body).choices
    # It has no template for tools, so it answers in text; the call would be passed through as it is.
    assert choice.message.content or choice.message.tool_calls


def test_a_wrong_key_and_a_wrong_path_are_our_own_mistakes(foreign_url: str) -> None:
    assert bench_at(foreign_url, "sk-wrong").failure(**ASKED).kind == "credential"
    outcome = bench_at(f"{foreign_url}/nowhere").failure(**ASKED)
    assert (outcome.kind, outcome.status, outcome.code) == ("model_missing", 404, "not_found_error")
