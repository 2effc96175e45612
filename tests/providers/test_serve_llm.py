"""The deployment before Ray Serve LLM, and kind `serve` before that: against a fake `LLMServer` of Ray's shape."""

import asyncio
import json
from typing import Any

import pytest
from msgspec import structs
from pydantic import TypeAdapter

from deployments.ops.serve_llm import ServeLLM, picklable
from deployments.providers.serve.adapter import ServeProvider
from tests.fakes import serve_llm
from tests.fakes.relay import RelayPort
from tests.fakes.serve_llm import WORDS, ChatCompletionRequest, Handle, LLMServer
from tests.providers.conftest import Bench


@pytest.fixture
def server() -> LLMServer:
    return LLMServer()


@pytest.fixture
def bench(server: LLMServer, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """The provider, the deployment and Serve LLM in a row."""
    serve_llm.installed(monkeypatch)
    made = RelayPort(ServeLLM(Handle(server)))
    bench = Bench("serve", lambda: ServeProvider(made, embeddings_method="embeddings"))
    asked = bench.call
    bench.call = lambda **body: structs.replace(asked(**body), model=LLMServer.model_id)  # type: ignore[method-assign]
    return bench


def test_a_whole_answer_and_a_stream_come_through(bench: Bench, server: LLMServer) -> None:
    done = bench.complete(temperature=0.5)
    answer = json.loads(done.body)
    assert answer["choices"][0]["message"]["content"] == "".join(WORDS)
    assert done.usage is not None
    assert done.usage["total_tokens"] == 10
    end = bench.stream()
    assert all(word.encode() in b"".join(bench.frames) for word in WORDS)
    assert end.usage is not None
    assert end.usage["total_tokens"] == 10
    assert [type(seen).__name__ for seen in server.seen] == ["ChatCompletionRequest"] * 2
    assert server.seen[0].temperature == 0.5


@pytest.mark.parametrize("stream", [False, True])
def test_an_error_response_is_an_error_before_anything_is_sent(bench: Bench, stream: bool) -> None:
    assert bench.failure(stream=stream, user="long").kind == "too_long"
    bench.call = Bench("serve", lambda: bench.build()).call  # type: ignore[method-assign]
    missing = bench.failure(stream=stream)
    assert (missing.kind, missing.status) == ("model_missing", 404)


def test_an_error_inside_a_stream_ends_it_as_a_failure(bench: Bench) -> None:
    broken = bench.failure(stream=True, user="breaks")
    assert (broken.kind, broken.content) == ("server_error", True)


@pytest.mark.parametrize("stream", [False, True])
def test_what_the_engines_model_does_not_take_is_refused_by_its_field(bench: Bench, stream: bool) -> None:
    refused = bench.failure(stream=stream, seed=2**70)
    assert (refused.kind, refused.status, refused.param) == ("rejected", 400, "seed")
    assert bench.failure(stream=stream, tool_choice="never").param == "tool_choice"


def test_embeddings_come_through_and_are_refused_too(bench: Bench) -> None:
    call = structs.replace(bench.call(), body={"input": ["one", "two"], "dimensions": 8})
    done = bench.run(lambda provider: provider.embed(call))
    assert len(json.loads(done.body)["data"]) == 2
    with pytest.raises(Exception, match="does not exist"):
        bench.run(lambda provider: provider.embed(structs.replace(call, model="other")))


PARTS = [{"type": "text", "text": "Hi"}]
CALLS = [{"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
HISTORY: list[dict[str, Any]] = [
    {"role": "system", "content": PARTS},
    {"role": "user", "content": PARTS},
    {"role": "assistant", "content": None, "tool_calls": CALLS},
    {"role": "tool", "tool_call_id": "call_1", "content": PARTS},
]


def test_a_history_of_parts_and_calls_can_be_pickled_and_reaches_the_engine_whole(
    bench: Bench, server: LLMServer
) -> None:
    lazily = TypeAdapter(ChatCompletionRequest).validate_python({"messages": HISTORY})
    assert not isinstance(lazily.messages[1]["content"], list), "pydantic reads it at once: this is not needed any more"
    assert isinstance(picklable(lazily).messages[1]["content"], list)
    bench.complete(messages=HISTORY)
    [seen] = server.seen
    assert [message["content"] for message in seen.messages] == [PARTS, PARTS, None, PARTS]
    assert seen.messages[2]["tool_calls"] == CALLS


def test_a_lora_adapter_is_named_to_serve_and_a_base_model_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    serve_llm.installed(monkeypatch)
    handle = Handle(LLMServer())
    adapter = ServeLLM(handle)
    for model in (LLMServer.model_id, f"{LLMServer.model_id}:mine"):
        asyncio.run(adapter.chat({"model": model, "messages": [{"role": "user", "content": "Hi"}]}))
    assert handle.calls == [{"stream": True}, {"stream": True, "multiplexed_model_id": f"{LLMServer.model_id}:mine"}]


def test_a_stream_that_is_left_is_cancelled_at_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    serve_llm.installed(monkeypatch)
    begun = []

    class Watched(Handle):
        def options(self, **options: Any) -> Handle:
            return self

        def _begin(self, method: str, arguments: tuple[Any, ...]) -> Any:
            begun.append(super()._begin(method, arguments))
            return begun[-1]

    async def leave() -> None:
        adapter = ServeLLM(Watched(LLMServer()))
        asked = {"model": LLMServer.model_id, "stream": True, "messages": [{"role": "user", "content": "Hi"}]}
        events = await adapter.chat(asked)
        await anext(events)
        await events.aclose()

    asyncio.run(leave())
    assert [items.cancelled for items in begun] == [True]
