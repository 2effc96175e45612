"""What the real adapters note of a call for its spans, and to whom they pass the trace on."""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Iterator
from functools import partial
from typing import Any

import pytest

from deployments.providers.base import Provider, call_dict
from deployments.providers.openai.adapter import OpenAIProvider
from deployments.replica import ProviderReplica
from deployments.telemetry.spans import Span
from deployments.telemetry.trace_context import Sampler
from deployments.telemetry.tracer import Tracer
from tests.fakes.openai_wire import OpenAIWire
from tests.fakes.server import FakeServer, status
from tests.providers.conftest import CLOUDS, LIMITS, Bench, cloud
from tests.providers.test_embeddings import MODELS, ON_EACH_KIND

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
HEADERS = {"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01", "tracestate": "congo=t61rcWkgMzE"}
# The others do not tell.
ANSWERED_BY = {"openai": "gpt-upstream-2026-01-01", "google": "gemini-upstream"}
ANSWERED_BY |= {"anthropic": "claude-upstream-20260101"}


def spans_of(
    bench: Bench, use: str, body: dict[str, Any] | None = None, *, model: str = "upstream-model", **more: Any
) -> list[Span]:
    heap: list[Callable[[], list[Span]]] = []

    async def work(provider: Provider) -> None:
        replica = ProviderReplica("x", {}, left_out="test")
        replica._provider = provider
        replica._traces = Tracer(Sampler(), heap.append, name="x", kind=bench.kind)
        given = body or {"messages": [{"role": "user", "content": "What is the capital of France?"}]}
        call = call_dict({"model": "row", **given}, model, "row", bench.limits) | {"trace": HEADERS} | more
        if use == "complete":
            await replica.complete(call)
            return
        stream: AsyncGenerator[Any, None] = replica.stream(call)
        async for _ in stream:
            pass

    bench.run(work)
    return [span for factory in heap for span in factory()]


@pytest.mark.parametrize("use", ["complete", "stream"])
def test_each_kind_tells_what_it_calls_its_model_without_traces_too(bench: Bench, use: str) -> None:
    async def work(provider: Provider) -> Any:
        replica = ProviderReplica("x", {}, left_out="test")
        replica._provider = provider
        given = {"model": "row", "messages": [{"role": "user", "content": "What is the capital of France?"}]}
        call = call_dict(given, "upstream-model", "row", bench.limits)
        if use == "complete":
            return await replica.complete(call)
        return [item async for item in replica.stream(call)][-1]

    assert bench.run(work)["upstream"].get("model") == ANSWERED_BY.get(bench.kind)


def check_peer(bench: Bench, span: Span) -> None:
    if bench.fake is None:
        assert "server.address" not in span.attributes
    else:
        assert (span.attributes["server.address"], span.attributes["server.port"]) == ("127.0.0.1", bench.fake.port)


@pytest.mark.parametrize("use", ["complete", "stream"])
def test_each_kind_says_whom_it_asked_who_answered_and_how(bench: Bench, use: str) -> None:
    own, upstream = spans_of(bench, use)
    assert upstream.context.parent_id == own.context.span_id
    check_peer(bench, upstream)
    assert upstream.attributes.get("gen_ai.response.model") == ANSWERED_BY.get(bench.kind)
    assert upstream.attributes["gen_ai.response.finish_reasons"] == ("stop",)
    assert str(upstream.attributes["gen_ai.response.id"]).startswith("chatcmpl-")
    assert isinstance(upstream.attributes["gen_ai.usage.output_tokens"], int)
    moments = [event.name for event in upstream.events]
    assert moments == ["connected"] * (bench.fake is not None) + ["first token"] * (use == "stream")


@ON_EACH_KIND
def test_each_kind_says_so_of_embeddings(bench: Bench) -> None:
    body = {"input": ["one", "two"], "dimensions": 576 if bench.kind == "local" else 512}
    _, upstream = spans_of(bench, "complete", body, model=MODELS[bench.kind], verb="embed")
    check_peer(bench, upstream)
    assert upstream.attributes["gen_ai.operation.name"] == "embeddings"
    assert upstream.attributes["gen_ai.embeddings.dimension.count"] == body["dimensions"]
    assert "gen_ai.response.finish_reasons" not in upstream.attributes


def test_a_server_that_refuses_and_one_that_is_not_there_were_asked_all_the_same(cloud_bench: Bench) -> None:
    assert cloud_bench.fake is not None
    cloud_bench.fake.behave = status(429)
    _, upstream = spans_of(cloud_bench, "complete")
    check_peer(cloud_bench, upstream)
    assert upstream.attributes["error.type"] == "throttled"
    cloud_bench.fake.refuse()
    _, upstream = spans_of(cloud_bench, "stream")
    check_peer(cloud_bench, upstream)
    assert upstream.attributes["error.type"] == "connect"
    assert "gen_ai.response.finish_reasons" not in upstream.attributes


def test_a_vendor_is_told_nothing_of_a_trace(cloud_bench: Bench) -> None:
    assert cloud_bench.fake is not None
    spans_of(cloud_bench, "complete")
    spans_of(cloud_bench, "stream")
    for received in cloud_bench.fake.received:
        assert TRACE not in json.dumps(received.headers)
        assert not received.headers.keys() & HEADERS.keys()


@pytest.fixture
def own_server() -> Iterator[Bench]:
    """A server of one's own, that speaks OpenAI's wire and goes on with a trace."""
    fake = FakeServer(OpenAIWire())
    yield Bench(
        "openai", lambda: OpenAIProvider(api_key="x", base_url=f"{fake.url}/v1", connect=10, traceparent=True), fake
    )
    fake.stop()


@pytest.mark.parametrize("use", ["complete", "stream"])
def test_a_server_of_ones_own_goes_on_from_the_upstream_span(own_server: Bench, use: str) -> None:
    assert own_server.fake is not None
    _, upstream = spans_of(own_server, use)
    [received] = own_server.fake.received
    assert received.headers["traceparent"] == f"00-{TRACE}-{upstream.context.span_id:016x}-01"
    assert received.headers["tracestate"] == HEADERS["tracestate"]


def test_a_server_of_ones_own_hears_that_a_trace_is_not_recorded(own_server: Bench) -> None:
    assert own_server.fake is not None
    unsampled = {"traceparent": HEADERS["traceparent"][:-2] + "00"}
    assert spans_of(own_server, "complete", trace=unsampled) == []
    assert own_server.fake.received[-1].headers["traceparent"] == unsampled["traceparent"]
    assert spans_of(own_server, "complete", trace=None) == []
    assert "traceparent" not in own_server.fake.received[-1].headers


def _same(provider: Provider) -> Provider:
    return provider


def test_a_connection_that_is_used_again_knows_its_peer_too() -> None:
    for kind in CLOUDS:
        bench = cloud(kind, LIMITS)
        made: list[Span] = []
        provider = bench.build()
        bench.build = partial(_same, provider)
        with asyncio.Runner() as runner:
            bench.runner = runner
            for _ in range(2):
                made.append(spans_of(bench, "complete")[1])
            runner.run(provider.close())
        for span in made:
            check_peer(bench, span)
        assert [len(span.events) for span in made] == [1, 0]
        assert bench.fake is not None
        bench.fake.stop()
