"""Anthropic's own API: what it gets of a chat, what its answers are, and what its errors say. Its SDK is the oracle."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import anthropic
import pytest
from anthropic.types import Message
from msgspec import structs

from deployments.config.providers import Anthropic
from deployments.openai_api.chat import frames_to_chunks
from deployments.openai_api.usage import LIFETIMES
from deployments.providers.anthropic.adapter import build
from deployments.providers.anthropic.server import OwnServer
from tests.fakes import anthropic_wire
from tests.fakes.anthropic_wire import USAGE, AnthropicWire, event
from tests.fakes.server import Behaviour, FakeServer, status
from tests.fakes.tool_use import Called
from tests.fakes.vendors import anthropic as rules
from tests.providers.anthropic_params import misfit
from tests.providers.conftest import Bench, cloud

HAIKU, OPUS, SONNET_5, FABLE = (
    "claude-haiku-4-5-20251001",
    "claude-opus-4-1-20250805",
    "claude-sonnet-5",
    "claude-fable-5-1",
)
ASK = {"role": "user", "content": "Weather?"}
TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}]
WIRE = AnthropicWire()


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = cloud("anthropic")
    assert made.fake is not None
    made.fake.rules = rules.RULES
    yield made
    assert made.fake.objections == []
    assert all(misfit(received.body) is None for received in made.fake.received)
    made.fake.stop()


def fake_of(bench: Bench) -> FakeServer:
    assert bench.fake is not None
    return bench.fake


def asked(bench: Bench, at: int = -1) -> dict[str, Any]:
    return fake_of(bench).received[at].body


def for_model(bench: Bench, model: str) -> None:
    call = bench.call
    bench.call = lambda **body: structs.replace(call(**body), model=model)  # type: ignore[method-assign]


def message_of(bench: Bench, **body: Any) -> dict[str, Any]:
    message: dict[str, Any] = json.loads(bench.complete(**body).body)["choices"][0]["message"]
    return message


def streamed(bench: Bench, **body: Any) -> dict[str, Any]:
    """Return the message of a stream, with its extras where a client finds them."""
    bench.stream(**body)
    made: dict[str, Any] = {"role": "assistant", "content": "", "tool_calls": {}}
    for chunk in frames_to_chunks(b"".join(bench.frames)):
        delta = chunk["choices"][0]["delta"]
        made["content"] += delta.get("content") or ""
        if "extra_content" in delta:
            made["extra_content"] = delta["extra_content"]
        for piece in delta.get("tool_calls") or ():
            call = made["tool_calls"].setdefault(piece["index"], {**piece, "function": {**piece["function"]}})
            if call is not piece and "id" not in piece:
                call["function"]["arguments"] += piece["function"]["arguments"]
    return {**made, "tool_calls": [{k: v for k, v in c.items() if k != "index"} for c in made["tool_calls"].values()]}


def answer(bench: Bench, content: list[dict[str, Any]], reason: str = "end_turn", **usage: Any) -> None:
    """Let the fake answer so, whole and streamed, as its SDK would read it."""
    whole = WIRE.message(content, reason, {**USAGE, **usage})
    Message.model_validate(whole)
    fake_of(bench).behave = Behaviour("raw", raw=json.dumps(whole).encode())


def test_the_fakes_answers_are_what_the_sdks_own_client_reads() -> None:
    fake = FakeServer(WIRE)
    fake.rules = rules.RULES
    tool = {"name": "weather", "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}}}
    said_by_user = {"role": "user", "content": [{"type": "text", "text": "Hi"}]}
    asking: dict[str, Any] = {"model": HAIKU, "max_tokens": 9, "messages": [said_by_user]}

    async def main() -> None:
        async with anthropic.AsyncAnthropic(api_key="k", base_url=fake.url, max_retries=0) as client:
            assert (await client.messages.create(**asking)).content[0].text == "Paris is the capital."  # type: ignore[union-attr]
            async with client.messages.stream(**asking) as stream:
                assert await stream.get_final_text() == "Paris is the capital."
            whole = await client.messages.create(**asking, tools=[tool])
            async with client.messages.stream(**asking, tools=[tool]) as stream:
                final = await stream.get_final_message()
            said = [block.to_dict() for block in whole.content]
            assert [block.to_dict() for block in final.content] == said
            assert [block["type"] for block in said] == ["thinking", "tool_use"]
            fake.behave = Behaviour("in_band", after=1, code="overloaded_error")
            with pytest.raises(anthropic.APIStatusError, match="the engine fell over"):
                async with client.messages.stream(**asking) as stream:
                    await stream.get_final_text()
            fake.behave = status(429, retry_after="2")
            with pytest.raises(anthropic.RateLimitError) as caught:
                await client.messages.create(**asking)
            assert (caught.value.type, caught.value.request_id) == ("rate_limit_error", "req_011Fake")

    asyncio.run(main())
    fake.stop()


def test_a_chat_arrives_in_the_words_of_messages(bench: Bench) -> None:
    bench.complete(
        messages=[{"role": "developer", "content": "Be brief."}, ASK],
        max_tokens=5,
        temperature=0.3,
        top_k=7,
        stop="END",
        user="u-1",
        service_tier="standard_only",
        tools=TOOLS,
        tool_choice={"type": "function", "function": {"name": "weather"}},
        parallel_tool_calls=False,
        response_format={"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}}},
    )
    assert asked(bench) == {
        "model": "upstream-model",
        "max_tokens": 5,
        "messages": [{"role": "user", "content": [{"type": "text", "text": "Weather?"}]}],
        "system": [{"type": "text", "text": "Be brief."}],
        "temperature": 0.3,
        "top_k": 7,
        "stop_sequences": ["END"],
        "service_tier": "standard_only",
        "tools": [{"name": "weather", "input_schema": {"type": "object", "properties": {}}}],
        "tool_choice": {"type": "tool", "name": "weather", "disable_parallel_tool_use": True},
        "output_config": {
            "format": {
                "type": "json_schema",
                "schema": {"title": "a", "type": "object", "additionalProperties": False},
            }
        },
        "metadata": {"user_id": "u-1"},
    }


def test_the_headers_are_those_that_the_settings_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLAUDE_KEY", "sk-ant-secret")
    monkeypatch.setenv("ANTHROPIC_BASE_URL", "http://127.0.0.1:1")
    fake = FakeServer(WIRE)
    fake.rules = rules.RULES
    plain: dict[str, Any] = {"kind": "anthropic", "api_key_env": "CLAUDE_KEY", "base_url": f"{fake.url}/v1/"}
    more = {
        "auth": "bearer",
        "betas": ["effort-2025-11-24", "claude-code-20250219"],
        "workspace_id": "wrkspc_1",
        "anthropic_version": "2026-10-21",
    }
    for settings in (Anthropic(**plain), Anthropic(**plain, **more)):
        Bench("anthropic", lambda settings=settings: build(settings, 10.0), fake).complete()  # type: ignore[misc]
    first, second = (received.headers for received in fake.received)
    fake.stop()
    names = ("x-api-key", "authorization", "anthropic-version", "anthropic-beta", "anthropic-workspace-id")
    assert [first.get(name) for name in names] == ["sk-ant-secret", None, "2023-06-01", None, None]
    betas = "effort-2025-11-24,claude-code-20250219"
    assert [second.get(name) for name in names] == [None, "Bearer sk-ant-secret", "2026-10-21", betas, "wrkspc_1"]
    assert {received.path for received in fake.received} == {"/v1/messages"}


def test_without_a_base_url_it_is_anthropics_own_host() -> None:
    url, _ = asyncio.run(OwnServer(api_key="k").endpoint("m", stream=False))
    assert str(url) == "https://api.anthropic.com/v1/messages"


@pytest.mark.parametrize("stream", [False, True])
def test_thoughts_come_back_with_their_signature_before_the_call_that_they_led_to(bench: Bench, stream: bool) -> None:
    for_model(bench, HAIKU)
    message = (streamed if stream else message_of)(bench, tools=TOOLS, messages=[ASK], reasoning_effort="low")
    result = {"role": "tool", "tool_call_id": message["tool_calls"][0]["id"], "content": "Rain"}
    bench.complete(tools=TOOLS, messages=[ASK, message, result], reasoning_effort="low")
    [_, back, _] = asked(bench)["messages"]
    assert back["content"][0] == {"type": "thinking", **anthropic_wire.THOUGHT}
    assert [block["type"] for block in back["content"]] == ["thinking", "tool_use"]
    assert asked(bench)["thinking"] == {"type": "enabled", "budget_tokens": 2048}


@pytest.mark.parametrize("stream", [False, True])
def test_redacted_thoughts_come_back_as_they_were(bench: Bench, stream: bool) -> None:
    blocks = [
        {"type": "thinking", **anthropic_wire.THOUGHT},
        {"type": "redacted_thinking", "data": rules.REDACTED},
        {"type": "text", "text": "Rain."},
    ]
    if stream:
        events = [event("message_start", message=WIRE.message([], None))]
        for at, block in enumerate(blocks):
            begun = {**block, "text": ""} if block["type"] == "text" else block
            events.append(event("content_block_start", index=at, content_block=begun))
            if block["type"] == "text":
                events.append(event("content_block_delta", index=at, delta={"type": "text_delta", "text": "Rain."}))
            events.append(event("content_block_stop", index=at))
        events.append(event("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 5}))
        raw = b"".join([*events, event("message_stop")])
        fake_of(bench).behave = Behaviour("raw", raw=raw, content_type="text/event-stream")
        message = {**streamed(bench, messages=[ASK]), "tool_calls": None}
    else:
        answer(bench, blocks)
        message = message_of(bench, messages=[ASK])
    fake_of(bench).behave = Behaviour()
    bench.complete(messages=[ASK, message, ASK])
    assert asked(bench)["messages"][1]["content"] == blocks


def signed(kind: str, signer: str | None, *, redacted: bool = False) -> dict[str, Any]:
    known = rules.THOUGHT if kind == "anthropic" else rules.SIGNED_BY_BEDROCK
    blocks = [{"text": known["thinking"], "signature": known["signature"]}]
    blocks += [{"redacted": rules.REDACTED}] if redacted else []
    extra = {kind: {"reasoning": blocks, **({"signer": signer} if signer else {})}}
    return {"role": "assistant", "content": "Rain.", "extra_content": extra}


@pytest.mark.parametrize(
    ("model", "message", "goes"),
    [
        (HAIKU, signed("bedrock", "haiku-4.5"), True),
        (HAIKU, signed("bedrock", "sonnet-4.5"), False),
        (HAIKU, signed("bedrock", None), False),  # Nova's, for instance
        (HAIKU, signed("bedrock", "haiku-4.5", redacted=True), False),
        (HAIKU, signed("anthropic", "sonnet-4.5"), True),
        (FABLE, signed("bedrock", "fable-5.1"), False),  # bound to what stood before, and to an account
    ],
)
def test_a_signature_of_another_platform_goes_to_the_same_model_alone(
    bench: Bench, model: str, message: dict[str, Any], goes: bool
) -> None:
    for_model(bench, model)
    bench.complete(messages=[ASK, message, ASK])
    assert ("thinking" in [block["type"] for block in asked(bench)["messages"][1]["content"]]) is goes


def test_thoughts_that_are_refused_are_left_out_at_the_second_try(bench: Bench) -> None:
    for said in (
        "messages.1.content.0: Invalid `signature` in `thinking` block",
        "messages.1.content.0: The block is bound to a different conversation.",
    ):
        fake_of(bench).script = [Behaviour("status", status=400, message=said)]
        assert "Paris" in message_of(bench, messages=[ASK, signed("anthropic", None), ASK])["content"]
        before, after = (asked(bench, at)["messages"][1]["content"] for at in (-2, -1))
        assert [block["type"] for block in before] == ["thinking", "text"]
        assert [block["type"] for block in after] == ["text"]


@pytest.mark.parametrize(("model", "most"), [(HAIKU, 64_000), (OPUS, 32_000), ("claude-3-haiku", 4096), ("x", 32_000)])
def test_a_request_without_a_limit_gets_what_its_model_gives_at_most(bench: Bench, model: str, most: int) -> None:
    for_model(bench, model)
    bench.complete()
    assert asked(bench)["max_tokens"] == most


def test_a_limit_of_ours_that_is_too_high_is_lowered_to_what_the_server_says(bench: Bench) -> None:
    for_model(bench, OPUS)
    bench.complete(messages=[{"role": "user", "content": "x" * 720_000}])
    first, second = (asked(bench, at)["max_tokens"] for at in (-2, -1))
    assert (first, 10_000 < second < 32_000) == (32_000, True)
    said = "max_tokens: 32000 > 8192, which is the maximum allowed number of output tokens for x"
    fake_of(bench).script = [Behaviour("status", status=400, message=said)]
    bench.complete()
    assert asked(bench)["max_tokens"] == 8192


def test_the_clients_own_limit_is_never_changed(bench: Bench) -> None:
    for_model(bench, OPUS)
    outcome = bench.failure(messages=[{"role": "user", "content": "x" * 720_000}], max_tokens=32_000)
    assert (outcome.kind, outcome.param, len(fake_of(bench).received)) == ("rejected", "max_tokens", 1)


def test_an_effort_of_none_stops_a_model_that_thinks_by_itself(bench: Bench) -> None:
    for_model(bench, SONNET_5)
    bench.complete(reasoning_effort="none")
    assert asked(bench)["thinking"] == {"type": "disabled"}
    bench.complete(reasoning_effort="high")
    assert asked(bench)["thinking"] == {"type": "adaptive", "display": "summarized"}
    assert asked(bench)["output_config"] == {"effort": "high"}


def test_marks_of_a_cache_stay_where_they_were_and_their_lifetimes_never_rise(bench: Bench) -> None:
    hour, usual = {"type": "ephemeral", "ttl": "1h"}, {"type": "ephemeral"}
    marked = [{"type": "text", "text": "Rules.", "cache_control": usual}]
    late = [{"type": "text", "text": "Hi", "cache_control": hour}]
    messages = [{"role": "system", "content": marked}, {"role": "user", "content": late}]
    bench.complete(messages=messages, tools=[{**TOOLS[0], "cache_control": hour}])
    got = asked(bench)
    assert got["tools"][0]["cache_control"] == hour
    assert got["system"][0]["cache_control"] == usual
    assert got["messages"][0]["content"][0]["cache_control"] == usual


def test_what_a_cache_has_read_and_written_is_told_with_its_lifetimes(bench: Bench) -> None:
    lifetimes = {"ephemeral_5m_input_tokens": 20, "ephemeral_1h_input_tokens": 30}
    counts = {"cache_read_input_tokens": 100, "cache_creation_input_tokens": 50, "cache_creation": lifetimes}
    answer(bench, [{"type": "text", "text": "Hi"}], **counts, output_tokens_details={"thinking_tokens": 3})
    assert bench.complete().usage == {
        "prompt_tokens": 157,
        "completion_tokens": 5,
        "total_tokens": 162,
        "prompt_tokens_details": {"cached_tokens": 100, "cache_write_tokens": 50, LIFETIMES: lifetimes},
        "completion_tokens_details": {"reasoning_tokens": 3},
    }


def test_the_tier_that_has_served_is_told_for_who_counts_the_cost(bench: Bench) -> None:
    answer(bench, [{"type": "text", "text": "Hi"}], service_tier="priority")
    assert (bench.complete().usage or {})["service_tier"] == "priority"


def test_a_streams_usage_is_known_from_its_beginning_and_the_last_word_holds(bench: Bench) -> None:
    assert bench.stream().usage == {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}
    fake_of(bench).behave = Behaviour("cut", after=3)
    told: list[Any] = []

    async def work(provider: Any) -> None:
        async for item in provider.stream(bench.call(stream=True)):
            told.append(item.told)

    with pytest.raises(Exception, match=r"closed|reset|broke"):
        bench.run(work)
    assert told[-1]["prompt_tokens"] == 7


@pytest.mark.parametrize(
    ("reason", "finish"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("pause_turn", "length"),
        ("refusal", "content_filter"),
    ],
)
def test_each_stop_reason_of_the_sdk_has_a_finish_reason(bench: Bench, reason: str, finish: str) -> None:
    answer(bench, [{"type": "text", "text": "Hi"}], reason)
    assert json.loads(bench.complete().body)["choices"][0]["finish_reason"] == finish


def test_a_stop_reason_of_tomorrow_is_a_failure(bench: Bench) -> None:
    raw = json.dumps(WIRE.message([{"type": "text", "text": "Hi"}], "paused_for_lunch")).encode()
    fake_of(bench).behave = Behaviour("raw", raw=raw)
    outcome = bench.failure()
    assert (outcome.kind, outcome.code) == ("server_error", "paused_for_lunch")


def test_a_call_without_arguments_has_an_object_of_them(bench: Bench) -> None:
    assert streamed(bench, tools=TOOLS)["tool_calls"][0]["function"]["arguments"] == "{}"
    raw = b"".join(WIRE.frames_calls([Called("1", "weather", {})])).replace(
        b'"input": {}', b'"input": {"city": "Rome"}'
    )
    fake_of(bench).behave = Behaviour("raw", raw=raw, content_type="text/event-stream")
    assert streamed(bench, tools=TOOLS)["tool_calls"][0]["function"]["arguments"] == '{"city":"Rome"}'


def test_a_server_that_ends_its_stream_as_openai_does_is_read_all_the_same(bench: Bench) -> None:
    raw = b"".join(WIRE.frames(["Hi"])) + b"data: [DONE]\n\n"
    fake_of(bench).behave = Behaviour("raw", raw=raw, content_type="text/event-stream")
    assert bench.stream().usage is not None


CREDIT = "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing to upgrade."
SPENT = "You have reached your specified API usage limits. You will regain access on 2026-12-01 at 00:00 UTC."
WORKSPACE = "You have reached your specified workspace API usage limits. You will regain access on 2026-12-01."
SUM = "input length and `max_tokens` exceed context limit: {} + 64000 > 200000, decrease input length"
ERRORS: list[tuple[int, str | None, str, str, str | None]] = [
    (400, None, "prompt is too long: 208310 tokens > 200000 maximum", "too_long", None),
    (400, None, SUM.format(190_000), "rejected", "max_tokens"),
    (400, None, SUM.format(250_000), "too_long", None),
    (400, None, CREDIT, "quota", None),
    (400, None, SPENT, "quota", None),
    (400, None, WORKSPACE, "quota", None),
    (429, "enforced_spend_limit_reached", "x", "quota", None),
    (429, "ramp_limit_exceeded", "x", "throttled", None),
    (429, None, "This request would exceed your organization's rate limit", "throttled", None),
    (400, None, "Output blocked by content filtering policy", "content_filter", None),
    (400, None, "This organization has been disabled.", "credential", None),
    (403, "organization_on_hold", "x", "credential", None),
    (401, None, "invalid x-api-key", "credential", None),
    (402, None, "x", "quota", None),
    (403, None, "Your API key does not have permission to use the specified resource.", "credential", None),
    (404, None, "model: claude-nine", "model_missing", None),
    (413, None, "Request exceeds the maximum size", "rejected", None),
    (500, None, "Internal server error", "server_error", None),
    (504, None, "x", "server_error", None),
    (529, None, "Overloaded", "overloaded", None),
    (400, None, "messages.2: `tool_use` ids were found without `tool_result` blocks", "bad_request", None),
    (400, None, "`temperature` is deprecated for this model.", "rejected", "temperature"),
    (400, None, "This model does not support the effort parameter.", "rejected", "reasoning_effort"),
    (400, None, "stop_sequences: each stop sequence must contain non-whitespace", "rejected", "stop"),
]


@pytest.mark.parametrize(("code", "cause", "message", "kind", "param"), ERRORS)
def test_an_error_is_its_fault_whose_it_is(
    bench: Bench, code: int, cause: str | None, message: str, kind: str, param: str | None
) -> None:
    fake_of(bench).behave = Behaviour("status", status=code, code=cause, message=message)
    outcome = bench.failure(max_tokens=64_000)
    assert (outcome.kind, outcome.param, outcome.status, outcome.message) == (kind, param, code, message)


def test_a_client_cant_write_what_closes_the_vendor_to_everybody(bench: Bench) -> None:
    fake_of(bench).behave = Behaviour("status", status=400, message=f"messages.0: unexpected text: {CREDIT}")
    assert bench.failure(messages=[{"role": "user", "content": CREDIT}]).kind == "rejected"


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("overloaded_error", "overloaded"),
        ("rate_limit_error", "throttled"),
        ("api_error", "server_error"),
        ("timeout_error", "server_error"),
        ("invalid_request_error", "rejected"),
        ("authentication_error", "credential"),
        ("billing_error", "quota"),
        ("an_error_of_tomorrow", "server_error"),
    ],
)
def test_an_error_inside_a_stream_or_under_status_200_says_the_same(bench: Bench, kind: str, expected: str) -> None:
    fake_of(bench).behave = Behaviour("in_band", code=kind, after=2)
    outcome = bench.failure(stream=True)
    assert (outcome.kind, outcome.content, outcome.code) == (expected, True, kind)
    raw = json.dumps({"type": "error", "error": {"type": kind, "message": "x"}}).encode()
    fake_of(bench).behave = Behaviour("raw", raw=raw)
    assert bench.failure().kind == expected
