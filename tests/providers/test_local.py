"""The local model for real: tools, schemas, log probabilities, slots, embeddings."""

import asyncio
import json
import math
import re
from collections.abc import Iterator
from typing import Any

import pytest
from msgspec import structs
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from deployments.errors import AttemptFailed
from deployments.providers.base import Provider, complete_within, stream_within
from deployments.providers.local.adapter import LocalProvider
from deployments.providers.local.engine import Engine, bundled_gguf, settings
from deployments.providers.time_limits import TimeLimits
from tests.providers.conftest import Bench
from tests.providers.test_contract import chunks, text

CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
MAIL = {
    "type": "object",
    "properties": {"to": {"$ref": "#/$defs/address"}, "subject": {"type": "string", "maxLength": 40}},
    "required": ["to", "subject"],
    "$defs": {"address": {"type": "string", "pattern": "^[a-z]{1,12}@example\\.com$"}},
}


def tool(name: str, description: str, parameters: dict[str, Any]) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "description": description, "parameters": parameters}}


TOOLS = [
    tool("get_weather", "Get the current weather in a city", CITY),
    tool("send_email", "Send an email to a person", MAIL),
]
PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}, "city": {"enum": ["Rome", "Madrid"]}},
    "required": ["name", "age", "city"],
    "additionalProperties": False,
}


def dot(one: list[float], other: list[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


def asked(question: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": question}]


def whole(bench: Bench, **body: Any) -> ChatCompletion:
    return ChatCompletion.model_validate_json(bench.complete(**body).body, strict=True)


def streamed(bench: Bench, **body: Any) -> list[ChatCompletionChunk]:
    bench.stream(**body)
    return [ChatCompletionChunk.model_validate(chunk) for chunk in chunks(bench)]


def schema(value: dict[str, Any]) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": value}}


def test_a_question_for_a_tool_is_answered_with_a_call_of_it(local_bench: Bench) -> None:
    [choice] = whole(local_bench, messages=asked("What is the weather in Paris?"), tools=TOOLS).choices
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content is None
    [call] = choice.message.tool_calls or []
    assert call.type == "function"
    assert call.id.startswith("call_")
    assert call.function.name == "get_weather"
    assert json.loads(call.function.arguments) == {"city": "Paris"}


def test_a_question_for_no_tool_is_answered_in_text(local_bench: Bench) -> None:
    [choice] = whole(local_bench, tools=TOOLS, tool_choice="auto").choices
    assert choice.finish_reason == "stop"
    assert "Paris" in (choice.message.content or "")
    assert choice.message.tool_calls is None


@pytest.mark.parametrize(
    ("choice", "name"),
    [
        ("required", "send_email"),
        ({"type": "function", "function": {"name": "get_weather"}}, "get_weather"),
    ],
)
def test_a_call_that_is_demanded_is_made_and_matches_the_tools_schema(
    local_bench: Bench, choice: Any, name: str
) -> None:
    messages = asked("Send an email to anna@example.com: the report is ready.")
    [made] = whole(local_bench, messages=messages, tools=TOOLS, tool_choice=choice).choices
    [call] = made.message.tool_calls or []
    assert call.type == "function"
    assert (made.finish_reason, call.function.name) == ("tool_calls", name)
    arguments = json.loads(call.function.arguments)
    assert set(arguments) == ({"to", "subject"} if name == "send_email" else {"city"})
    if name == "send_email":
        assert arguments["to"].endswith("@example.com"), "a $ref and a pattern hold"


def test_a_streamed_call_is_a_role_a_head_and_fragments_that_add_up(local_bench: Bench) -> None:
    got = streamed(
        local_bench, messages=asked("What is the weather in Paris?"), tools=TOOLS[:1], tool_choice="required"
    )
    deltas = [chunk.choices[0].delta for chunk in got]
    assert deltas[0].role == "assistant"
    assert (deltas[0].content, deltas[0].tool_calls) == (None, None)
    calls = [delta.tool_calls[0] for delta in deltas if delta.tool_calls]
    head = calls[0]
    assert head.function is not None
    assert (head.index, head.type, head.function.name, head.function.arguments) == (0, "function", "get_weather", "")
    assert (head.id or "").startswith("call_")
    fragments = [call.function.arguments or "" for call in calls[1:] if call.function]
    assert all(call.id is None for call in calls[1:])
    assert len(fragments) > 2
    assert json.loads("".join(fragments)) == {"city": "Paris"}
    assert [chunk.choices[0].finish_reason for chunk in got][-1] == "tool_calls"


def test_half_of_the_arguments_never_ends_as_a_tool_call(local_bench: Bench) -> None:
    body = {"messages": asked("What is the weather in Paris?"), "tools": TOOLS[:1], "tool_choice": "required"}
    [choice] = whole(local_bench, **body, max_tokens=4).choices
    assert choice.finish_reason == "length"
    got = streamed(local_bench, **body, max_tokens=4)
    assert [chunk.choices[0].finish_reason for chunk in got][-1] == "length"


def test_a_tools_result_is_answered_in_text_that_uses_it(local_bench: Bench) -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city": "Paris"}'}}
    messages = [
        *asked("What is the weather in Paris?"),
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "22 degrees and sunny"},
    ]
    [choice] = whole(local_bench, messages=messages, tools=TOOLS).choices
    assert choice.finish_reason == "stop"
    assert "22" in (choice.message.content or "")


def test_an_answer_matches_its_json_schema(local_bench: Bench) -> None:
    messages = asked("Maria Lopez is 34 years old and lives in Madrid.")
    [choice] = whole(local_bench, messages=messages, response_format=schema(PERSON)).choices
    assert json.loads(choice.message.content or "") == {"name": "Maria Lopez", "age": 34, "city": "Madrid"}
    assert choice.finish_reason == "stop"
    streamed(local_bench, messages=messages, response_format=schema(PERSON))
    assert json.loads(text(local_bench)) == {"name": "Maria Lopez", "age": 34, "city": "Madrid"}


def test_a_json_object_is_one(local_bench: Bench) -> None:
    messages = asked("Maria Lopez is 34 years old and lives in Madrid.")
    [choice] = whole(local_bench, messages=messages, response_format={"type": "json_object"}).choices
    assert isinstance(json.loads(choice.message.content or ""), dict)


@pytest.mark.parametrize(
    "broken",
    [
        {"type": "foo"},
        {"type": "object", "properties": {"a": {"$ref": "#/nowhere"}}},
        {"$ref": "http://127.0.0.1:9/remote"},
        {"type": "string", "pattern": "(?=x)"},
        {"type": "integer", "minimum": 10, "maximum": 5},
        {"not": {"type": "string"}},
    ],
    ids=str,
)
def test_a_schema_that_no_grammar_can_hold_is_refused_by_name(local_bench: Bench, broken: dict[str, Any]) -> None:
    for _ in range(2):
        outcome = local_bench.failure(response_format=schema(broken))
        assert (outcome.kind, outcome.status, outcome.param) == ("bad_request", 400, "response_format")
    held = {"type": "object", "properties": {"a": broken}, "required": ["a"]}
    if "$ref" not in json.dumps(broken):
        strict = tool("f", "f", held)
        strict["function"]["strict"] = True
        outcome = local_bench.failure(stream=True, tools=[strict], tool_choice="required")
        assert (outcome.kind, outcome.param) == ("bad_request", "tools.0.function.parameters")


@pytest.mark.parametrize("name", ["pattern", "type"])
def test_a_tool_whose_schema_is_wrong_is_refused_though_it_is_not_strict(local_bench: Bench, name: str) -> None:
    held = {"type": "object", "properties": {"a": {"type": "string", name: "(?=x)"}}, "required": ["a"]}
    outcome = local_bench.failure(tools=[tool("f", "f", held)], tool_choice="required")
    assert (outcome.kind, outcome.param) == ("bad_request", "tools.0.function.parameters")


def test_a_tool_that_is_not_strict_is_called_without_the_keywords_that_no_grammar_holds(local_bench: Bench) -> None:
    """They stand in the tools of Claude Code, and in those that zod and pydantic make."""
    page = {
        "type": "object",
        "properties": {
            "url": {"type": "string", "format": "uri", "maxLength": 20},
            "tags": {"type": "array", "uniqueItems": True, "maxItems": 1, "items": {"enum": ["a", "b"]}},
            "more": {"type": "object", "propertyNames": {"type": "string"}, "maxProperties": 0},
        },
        "required": ["url", "tags", "more"],
    }
    [choice] = whole(
        local_bench, messages=asked("Read https://a.example"), tools=[tool("f", "f", page)], tool_choice="required"
    ).choices
    [call] = choice.message.tool_calls or []
    assert call.type == "function"
    assert set(json.loads(call.function.arguments)) == {"url", "tags", "more"}


@pytest.fixture
def counting_bench() -> Iterator[Bench]:
    """The local model with an engine that tells how many tokens of prompts it has read."""
    params = settings(bundled_gguf(), slots=1, context=1024, threads=1)
    params.endpoint_metrics = True
    provider = LocalProvider(context=256)
    provider._engine.close()
    provider._engine = Engine(params)
    with asyncio.Runner() as runner:
        yield Bench("local", lambda: provider, runner=runner)
        runner.run(provider.close())


def read_by(bench: Bench) -> int:
    provider = bench.build()
    assert isinstance(provider, LocalProvider)
    found = re.search(r"^llamacpp:prompt_tokens_total (\d+)$", str(provider._engine._server.handle_metrics()), re.M)
    assert found is not None
    return int(found[1])


@pytest.mark.parametrize("choice", ["auto", "required"])
def test_a_chat_that_is_too_long_is_refused_before_its_tools_are_read(counting_bench: Bench, choice: str) -> None:
    offered = [tool(f"tool_{index}", "Do something that takes long to read. " * 10, CITY) for index in range(24)]
    for messages in (asked("word " * 1100), [{"role": "system", "content": "门" * 700}, *asked("Hi")]):
        outcome = counting_bench.failure(messages=messages, tools=offered, tool_choice=choice)
        assert (outcome.kind, outcome.code, outcome.param) == ("too_long", "context_length_exceeded", "messages")
    assert read_by(counting_bench) == 0
    counting_bench.complete(messages=asked("word " * 50), tools=offered[:2], tool_choice=choice, max_tokens=1)
    assert read_by(counting_bench) > 150, "the tools are read for a chat that is not too long"


@pytest.mark.parametrize("context", [256, 300, 1000])
def test_the_engine_says_what_is_too_long_for_a_window_of_any_size(context: int) -> None:
    """It makes a window larger, to a multiple of 256 tokens."""
    engine = Engine(settings(bundled_gguf(), slots=1, context=context, threads=1))
    real = -(-context // 256) * 256

    async def ask() -> list[bool]:
        texts = ("", "Hi", "a " * (real // 2), "门" * real, " " * 60 * real)
        return [await engine.exceeds(text) for text in texts]

    assert asyncio.run(ask()) == [False, False, False, True, False]
    engine.close()


def test_a_chat_that_is_too_long_with_its_tool_alone_is_refused_too(counting_bench: Bench) -> None:
    wide = {"type": "object", "properties": {f"field_{index}": {"type": "string"} for index in range(120)}}
    outcome = counting_bench.failure(tools=[tool("f", "f", wide)], tool_choice="required")
    assert (outcome.kind, outcome.code) == ("too_long", "context_length_exceeded")


def test_logprobs_come_whole_and_streamed_in_openais_shape(local_bench: Bench) -> None:
    [choice] = whole(local_bench, logprobs=True, top_logprobs=2, max_tokens=6).choices
    assert choice.logprobs is not None
    tokens = choice.logprobs.content or []
    assert "".join(token.token for token in tokens) == choice.message.content
    for token in tokens:
        assert token.logprob <= 0
        assert bytes(token.bytes or []).decode() == token.token
        assert len(token.top_logprobs) == 2
        assert set(token.model_dump()) == {"token", "logprob", "bytes", "top_logprobs"}

    got = streamed(local_bench, logprobs=True, max_tokens=6)
    pieces = [p for c in got if c.choices[0].logprobs for p in c.choices[0].logprobs.content or []]
    assert [p.token for p in pieces] == [t.token for t in tokens]
    assert all(piece.top_logprobs == [] for piece in pieces)


def test_one_seed_gives_one_text(local_bench: Bench) -> None:
    def said(seed: int) -> str:
        body = {"messages": asked("Tell me a story."), "temperature": 1.5, "top_p": 0.95, "max_tokens": 8}
        return whole(local_bench, **body, seed=seed).choices[0].message.content or ""

    first = said(7)
    assert said(7) == first
    assert said(8) != first


def test_what_was_said_before_is_remembered(local_bench: Bench) -> None:
    messages = [
        *asked("What is the capital of France?"),
        {"role": "assistant", "content": "The capital of France is Paris."},
        *asked("And of Germany?"),
    ]
    assert "Berlin" in (whole(local_bench, messages=messages).choices[0].message.content or "")


def test_a_call_waits_for_a_slot_and_is_busy_when_none_comes_free(local_bench: Bench) -> None:
    long = {"messages": asked("Tell me a long story."), "max_tokens": 400}
    hasty = TimeLimits(first_token=1.0, total=1.0)  # half of it waits for a slot

    async def work(provider: Provider) -> None:
        held = [stream_within(provider, local_bench.call(stream=True, **long)) for _ in range(2)]
        for items in held:
            await anext(items)
        try:
            for ask in (
                anext(stream_within(provider, structs.replace(local_bench.call(stream=True), limits=hasty))),
                complete_within(provider, structs.replace(local_bench.call(), limits=hasty)),
            ):
                with pytest.raises(AttemptFailed) as caught:
                    await ask
                assert caught.value.outcome.kind == "busy"
            waiting = asyncio.create_task(complete_within(provider, local_bench.call(max_tokens=2)))
            await asyncio.sleep(0)
            await held[0].aclose()
            assert await waiting, "a slot that came free serves who waits"
        finally:
            for items in held:
                await items.aclose()

    local_bench.run(work)


def test_a_prompt_that_is_being_read_can_be_cancelled(local_bench: Bench) -> None:
    async def work(provider: Provider) -> None:
        clock = asyncio.get_running_loop().time
        call = local_bench.call(messages=asked("word " * 1500))
        with pytest.raises(AttemptFailed) as caught:
            await complete_within(provider, structs.replace(call, limits=TimeLimits(total=0.3)))
        assert caught.value.outcome.kind == "timeout"
        began = clock()
        await asyncio.gather(*(complete_within(provider, local_bench.call(max_tokens=1)) for _ in range(2)))
        assert clock() - began < 5, "the slot was kept by a prompt that nobody waits for"

    local_bench.run(work)


def test_texts_that_mean_the_same_are_near_each_other(local_bench: Bench) -> None:
    async def work(provider: Provider) -> None:
        assert isinstance(provider, LocalProvider)
        texts = ["How do I reset my password?", "I forgot my login credentials.", "The weather is nice."]
        done = await provider.embed_texts(texts)
        assert [len(vector) for vector in done.vectors] == [576] * 3
        assert done.prompt_tokens == 18
        for vector in done.vectors:
            assert math.isclose(dot(vector, vector), 1, rel_tol=1e-6)
        password, login, weather = done.vectors
        assert dot(password, login) > dot(password, weather)
        assert (await provider.embed_texts(texts[1:2])).vectors == [login]
        with pytest.raises(AttemptFailed) as caught:
            await provider.embed_texts(["fine", "word " * 600])
        assert (caught.value.outcome.kind, caught.value.outcome.param) == ("too_long", "input")

    local_bench.run(work)


def test_embeddings_wait_for_each_other_and_a_cancelled_one_frees_its_turn(local_bench: Bench) -> None:
    async def work(provider: Provider) -> None:
        assert isinstance(provider, LocalProvider)
        first = asyncio.create_task(provider.embed_texts(["one", "two"]))
        await asyncio.sleep(0)
        with pytest.raises(AttemptFailed) as caught:
            await provider.embed_texts(["three"], wait=0)
        assert caught.value.outcome.kind == "busy"
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        assert first.cancelled()
        assert (await provider.embed_texts(["four"], wait=0)).prompt_tokens == 1

    local_bench.run(work)


def test_what_others_asked_before_changes_no_answer(local_bench: Bench) -> None:
    def said(text: str, tokens: int = 30) -> str:
        body = local_bench.complete(messages=[{"role": "user", "content": text}], max_tokens=tokens).body
        return str(json.loads(body)["choices"][0]["message"]["content"])

    first = said("Hi")
    for other in ("Hi there, what is the weather in Paris?", "Tell me a story.", "Hi, who are you?"):
        said(other, tokens=1)
        assert said("Hi") == first


def test_an_integer_without_bounds_comes_to_an_end(local_bench: Bench) -> None:
    city = {"type": "object", "properties": {"city": {"type": "string"}, "population": {"type": "integer"}}}
    wanted = {
        "type": "json_schema",
        "json_schema": {"name": "c", "schema": {**city, "required": ["city", "population"]}},
    }
    made = json.loads(local_bench.complete(response_format=wanted).body)["choices"][0]
    assert made["finish_reason"] == "stop"
    assert isinstance(json.loads(made["message"]["content"])["population"], int)
