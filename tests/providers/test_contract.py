"""One contract for all four kinds: what a call is given, and what it gives back."""

import contextlib
import json

from deployments.providers.base import Provider, stream_within
from deployments.providers.http.timing import Timing, begin_timing
from tests.providers.conftest import Bench


def chunks(bench: Bench) -> list[dict]:
    events = b"".join(bench.frames).split(b"\n\n")
    return [json.loads(event.removeprefix(b"data: ")) for event in events if event]


def text(bench: Bench) -> str:
    return "".join(c["delta"].get("content") or "" for chunk in chunks(bench) for c in chunk["choices"])


def test_a_whole_answer_is_an_openai_completion_under_the_rows_name(bench: Bench) -> None:
    done = bench.complete()
    answer = json.loads(done.body)
    assert answer["object"] == "chat.completion"
    assert answer["model"] == "row"
    assert answer["id"].startswith("chatcmpl-")
    [choice] = answer["choices"]
    assert choice["message"]["role"] == "assistant"
    assert "Paris" in choice["message"]["content"]
    assert choice["finish_reason"] == "stop"
    assert answer["usage"]["total_tokens"] == answer["usage"]["prompt_tokens"] + answer["usage"]["completion_tokens"]
    assert done.usage == answer["usage"]


def test_a_stream_is_openai_chunks_that_add_up_to_the_answer(bench: Bench) -> None:
    end = bench.stream()
    got = chunks(bench)
    assert {c["object"] for c in got} == {"chat.completion.chunk"}
    assert {c["model"] for c in got} == {"row"}
    assert len({c["id"] for c in got}) == 1
    assert got[0]["choices"][0]["delta"]["role"] == "assistant"
    assert "Paris" in text(bench)
    assert [c["choices"][0]["finish_reason"] for c in got][-1] == "stop"
    assert end.usage is not None
    assert end.usage["completion_tokens"] > 0


def test_the_first_item_of_a_stream_already_holds_content(bench: Bench) -> None:
    bench.stream()
    bench.frames = bench.frames[:1]
    assert text(bench)


def test_usage_comes_in_the_stream_only_for_a_client_that_asked(bench: Bench) -> None:
    end = bench.stream()
    assert all(chunk["choices"] for chunk in chunks(bench))
    assert end.tail == b""

    end = bench.stream(stream_options={"include_usage": True})
    bench.frames.append(end.tail)
    [last] = [chunk for chunk in chunks(bench) if not chunk["choices"]]
    assert last["usage"] == end.usage


def test_max_tokens_ends_the_answer_with_finish_reason_length(local_bench: Bench) -> None:
    answer = json.loads(local_bench.complete(max_tokens=3).body)
    assert answer["choices"][0]["finish_reason"] == "length"
    assert answer["usage"]["completion_tokens"] == 3


def test_a_stop_sequence_ends_the_local_answer_before_it(local_bench: Bench) -> None:
    answer = json.loads(local_bench.complete(stop=[" is"]).body)
    assert "Paris" not in answer["choices"][0]["message"]["content"]
    assert answer["choices"][0]["finish_reason"] == "stop"


def test_system_prompt_and_sampling_reach_the_wire(cloud_bench: Bench) -> None:
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "One"},
        {"role": "user", "content": [{"type": "text", "text": "Two"}]},
        {"role": "assistant", "content": "Three"},
        {"role": "user", "content": "Four"},
    ]
    cloud_bench.complete(messages=messages, temperature=0.3, top_p=0.9, max_tokens=500, stop=["END"])
    assert cloud_bench.fake is not None
    [got] = cloud_bench.fake.received
    match cloud_bench.kind:
        case "openai":
            assert got.path == "/v1/chat/completions"
            assert got.headers["authorization"] == "Bearer sk-fake"
            assert got.body["messages"] == messages
            assert got.body["model"] == "upstream-model"
            options = {k: got.body[k] for k in ("temperature", "top_p", "max_tokens", "stop")}
            assert options == {"temperature": 0.3, "top_p": 0.9, "max_tokens": 500, "stop": ["END"]}
        case "bedrock":
            assert got.path == "/model/upstream-model/converse"
            assert got.headers["authorization"].startswith("AWS4-HMAC-SHA256 Credential=AKIAFAKE/")
            assert got.body["system"] == [{"text": "Be brief."}]
            assert [m["role"] for m in got.body["messages"]] == ["user", "assistant", "user"]
            assert got.body["messages"][0]["content"] == [{"text": "One"}, {"text": "Two"}]
            options = {"maxTokens": 500, "temperature": 0.3, "topP": 0.9, "stopSequences": ["END"]}
            assert got.body["inferenceConfig"] == options
        case "google":
            assert got.path.endswith("/models/upstream-model:generateContent")
            assert got.headers["x-goog-api-key"] == "fake"
            assert got.body["systemInstruction"]["parts"] == [{"text": "Be brief."}]
            assert [m["role"] for m in got.body["contents"]] == ["user", "model", "user"]
            config = got.body["generationConfig"]
            assert (config["maxOutputTokens"], config["temperature"], config["topP"]) == (500, 0.3, 0.9)
            assert config["stopSequences"] == ["END"]


def test_what_a_codec_cannot_carry_is_refused_by_name_and_never_sent(bench: Bench) -> None:
    tools = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
    if bench.kind == "openai":
        bench.complete(tools=tools, parameter_of_tomorrow=1)
        assert bench.fake is not None
        assert bench.fake.received[0].body["tools"] == tools
        assert bench.fake.received[0].body["parameter_of_tomorrow"] == 1
        return
    for stream in (False, True):
        outcome = bench.failure(stream=stream, parameter_of_tomorrow=1)
        assert (outcome.kind, outcome.param) == ("unsupported", "parameter_of_tomorrow")
        outcome = bench.failure(stream=stream, messages=[{"role": "user", "content": [{"type": "image_url"}]}])
        assert (outcome.kind, outcome.param) == ("unsupported", "messages.0.content")
    if bench.fake is not None:
        assert bench.fake.received == []


def test_one_connection_serves_many_calls(cloud_bench: Bench) -> None:
    from deployments.providers.base import Frames, Provider, complete_within, stream_within

    async def work(provider: Provider) -> None:
        for _ in range(3):
            await complete_within(provider, cloud_bench.call())
            async for item in stream_within(provider, cloud_bench.call(stream=True)):
                assert isinstance(item, Frames) or item.usage

    cloud_bench.run(work)
    assert cloud_bench.fake is not None
    assert len(cloud_bench.fake.received) == 6
    assert cloud_bench.fake.connections == 1


def test_a_prompt_over_the_local_context_is_the_callers_fault(local_bench: Bench) -> None:
    outcome = local_bench.failure(messages=[{"role": "user", "content": "hello " * 3000}])
    assert (outcome.kind, outcome.status, outcome.code) == ("too_long", 400, "context_length_exceeded")


def test_a_field_at_its_default_is_no_demand(bench: Bench) -> None:
    assert bench.complete(n=1, presence_penalty=0, response_format={"type": "text"}, tool_choice="none", max_tokens=8)


def test_a_lone_system_prompt_goes_where_it_can_be_answered(cloud_bench: Bench) -> None:
    messages = [{"role": "system", "content": "Say hello."}]
    if cloud_bench.kind == "openai":
        assert cloud_bench.complete(messages=messages)
    else:
        outcome = cloud_bench.failure(messages=messages)
        assert (outcome.kind, outcome.param) == ("unsupported", "messages")


def test_a_call_tells_when_its_connection_and_its_first_content_came(bench: Bench) -> None:
    async def two_streams(provider: Provider) -> list[Timing]:
        timings = []
        for _ in range(2):
            timings.append(begin_timing())
            async with contextlib.aclosing(stream_within(provider, bench.call())) as items:
                async for _ in items:
                    timings[-1].note_content()
        return timings

    new, again = bench.run(two_streams)
    assert set(again.as_dict()) - {"model"} == {"ms", "first_ms"}
    assert 0 < again.as_dict()["first_ms"] <= again.as_dict()["ms"]
    if bench.fake is not None:
        assert 0 < new.as_dict()["connect_ms"] <= new.as_dict()["first_ms"]
