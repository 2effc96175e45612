"""One trace over ingress, provider's replica and upstream call: a real cluster, and a receiver that speaks OTLP.

`uv run pytest -m traces`. The cluster is its own, because traces are on or off for all of its life.
"""

import asyncio
import pathlib
import random
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from opentelemetry.sdk.trace import TracerProvider

from deployments.client import connect
from tests.cluster.conftest import CLOUDS, Cluster, config_of, eventually, healthy, started
from tests.fakes.otlp import Receiver, Seen
from tests.fakes.server import Behaviour, FakeServer, status

pytestmark = pytest.mark.traces

SECRET = "What is the capital of France?"
QUESTION = [{"role": "user", "content": SECRET}]
UPSTREAM = {
    "aws_bedrock": ("aws.bedrock", "chat", "global.anthropic.claude-haiku-4-5-20251001-v1:0"),
    "openai": ("openai", "chat", "gpt-5.4-mini"),
    "google_genai": ("gcp.gemini", "generate_content", "gemini-3.8-flash"),
    "anthropic": ("anthropic", "chat", "claude-haiku-4-5-20251001"),
    "local": ("llama_cpp", "chat", "smollm2-135m"),
}
Tree = list[tuple[str, Any]]


def traced_config(fakes: dict[str, FakeServer], port: int) -> dict[str, Any]:
    """As in all cluster tests, but the server behind `openai` is one of our own."""
    config = config_of(fakes, port)
    config["applications"][0]["args"]["providers"]["openai"] |= {"traceparent": True}
    return config


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def traced(receiver: Receiver, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url, "OTEL_RESOURCE_ATTRIBUTES": "service.namespace=tests"}
    with started(tmp_path_factory.mktemp("traces"), traced_config, **variables) as made:
        yield made


@pytest.fixture
def llm(traced: Cluster) -> Cluster:
    return healthy(traced)


def fresh() -> tuple[str, str]:
    return f"{random.getrandbits(128):032x}", f"{random.getrandbits(64):016x}"


def trace_of(receiver: Receiver, trace_id: str, count: int) -> list[Seen]:
    """The spans of a trace, when so many are there."""

    def found() -> list[Seen] | None:
        spans = [span for span in list(receiver.spans) if span.trace_id == trace_id]
        return spans if len(spans) >= count else None

    spans: list[Seen] = receiver.until(found)
    assert len(spans) == count, [span.name for span in spans]
    return spans


def tree(spans: list[Seen], parent: str) -> Tree:
    """What is under whom, in the order of time."""
    below = sorted((span for span in spans if span.parent_id == parent), key=lambda span: span.began)
    return [(span.name, tree(spans, span.span_id)) for span in below]


def provider(name: str, operation: str = "", model: str = "") -> tuple[str, Tree]:
    """An attempt and all beneath it."""
    _, usual, row = UPSTREAM[name]
    upstream = f"{operation or usual} {model or row}"
    return f"attempt {name}", [(f"provider {name}", [(upstream, [])])]


def asked(llm: Cluster, receiver: Receiver, count: int, **body: Any) -> tuple[httpx2.Response, list[Seen], str]:
    trace_id, parent = fresh()
    headers = {"traceparent": f"00-{trace_id}-{parent}-01", "x-tenant-id": "acme"}
    response = llm.post(headers=headers, **{"messages": QUESTION, **body})
    return response, trace_of(receiver, trace_id, count), parent


def named(spans: list[Seen], start: str) -> Seen:
    [found] = [span for span in spans if span.name.startswith(start)]
    return found


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("name", [*CLOUDS, "local"])
def test_one_trace_goes_over_ingress_replica_and_upstream_call(
    llm: Cluster, receiver: Receiver, name: str, stream: bool
) -> None:
    response, spans, parent = asked(llm, receiver, 4, model=f"first-{name}", stream=stream)
    assert response.status_code == 200
    assert tree(spans, parent) == [("POST /v1/chat/completions", [provider(name)])]
    root, upstream = named(spans, "POST"), named(spans, UPSTREAM[name][1])
    assert root.attributes["breakwater.request_id"] == response.headers["x-breakwater-request-id"]
    assert root.attributes["breakwater.target"] == f"{name}/{UPSTREAM[name][2]}"
    assert (root.attributes["breakwater.tenant"], root.attributes["http.response.status_code"]) == ("acme", 200)
    assert root.resource["breakwater.deployment"] == "Ingress"
    assert upstream.resource["breakwater.deployment"] == name
    assert {span.resource["service.namespace"] for span in spans} == {"tests"}
    assert upstream.kind == ("internal" if name == "local" else "client")
    assert upstream.attributes["gen_ai.provider.name"] == UPSTREAM[name][0]
    assert upstream.attributes["gen_ai.response.finish_reasons"] == ["stop"]
    assert upstream.attributes["gen_ai.usage.output_tokens"] > 0
    if name != "local":
        assert upstream.attributes["server.port"] == llm.fakes[name].port
    assert ("first token" in upstream.events) is ("first token" in root.events) is stream
    assert not any(span.failed for span in spans)


def test_an_embedding_is_one_trace_too(llm: Cluster, receiver: Receiver) -> None:
    trace_id, parent = fresh()
    headers = {"traceparent": f"00-{trace_id}-{parent}-01"}
    body = {"model": "vectors", "input": SECRET}
    assert httpx2.post(f"{llm.url}/v1/embeddings", json=body, headers=headers, timeout=30).status_code == 200
    spans = trace_of(receiver, trace_id, 4)
    below = provider("aws_bedrock", "embeddings", "amazon.titan-embed-text-v2:0")
    assert tree(spans, parent) == [("POST /v1/embeddings", [below])]
    assert named(spans, "embeddings").attributes["gen_ai.embeddings.dimension.count"] == 512


def test_a_failover_has_both_attempts_and_who_was_skipped(llm: Cluster, receiver: Receiver) -> None:
    llm.fakes["aws_bedrock"].behave = status(500)
    _, spans, parent = asked(llm, receiver, 7, model="first-aws_bedrock")
    assert tree(spans, parent) == [("POST /v1/chat/completions", [provider("aws_bedrock"), provider("openai")])]
    broken = named(spans, "attempt aws_bedrock")
    assert (broken.failed, broken.attributes["error.type"]) == (True, "server_error")
    assert not named(spans, "POST").failed
    for _ in range(2):
        llm.post(model="first-aws_bedrock")
    eventually(lambda: llm.state("aws_bedrock") == "open")
    _, spans, _ = asked(llm, receiver, 4, model="first-aws_bedrock")
    assert named(spans, "POST").events["skipped"]["breakwater.why"] == "open"


def test_a_stream_that_its_reader_leaves_is_cancelled_in_every_span(llm: Cluster, receiver: Receiver) -> None:
    llm.fakes["openai"].behave = Behaviour(pace=0.5)
    trace_id, parent = fresh()
    body = {"model": "first-openai", "messages": QUESTION, "stream": True}
    headers = {"traceparent": f"00-{trace_id}-{parent}-01"}
    url = f"{llm.url}/v1/chat/completions"
    with httpx2.stream("POST", url, json=body, headers=headers, timeout=30) as response:
        parts = response.iter_bytes()
        next(parts)
    spans = trace_of(receiver, trace_id, 4)
    assert tree(spans, parent) == [("POST /v1/chat/completions", [provider("openai")])]
    for span in spans:
        assert span.attributes.get("breakwater.outcome", "cancelled") == "cancelled"
        assert not span.failed
    assert named(spans, "chat").attributes["gen_ai.response.finish_reasons"] == ["error"]


def test_when_everybody_fails_the_trace_says_so(llm: Cluster, receiver: Receiver) -> None:
    for name in ("openai", "google_genai"):
        llm.fakes[name].behave = status(500)
    response, spans, parent = asked(llm, receiver, 7, model="first-openai")
    assert response.status_code == 503
    assert tree(spans, parent) == [("POST /v1/chat/completions", [provider("openai"), provider("google_genai")])]
    assert all(span.failed for span in spans)
    assert named(spans, "POST").attributes["http.response.status_code"] == 503


def test_a_server_of_ones_own_is_told_of_the_trace_and_a_vendor_is_not(llm: Cluster, receiver: Receiver) -> None:
    _, spans, _ = asked(llm, receiver, 4, model="first-openai")
    upstream = named(spans, "chat")
    told = llm.fakes["openai"].received[-1].headers["traceparent"]
    assert told == f"00-{upstream.trace_id}-{upstream.span_id}-01"
    for name in ("aws_bedrock", "google_genai"):
        _, [one, *_], _ = asked(llm, receiver, 4, model=f"first-{name}")
        assert one.trace_id not in str(llm.fakes[name].received[-1].headers)


def test_a_python_caller_is_the_parent_if_it_is_in_a_span(llm: Cluster, receiver: Receiver) -> None:
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("an agent")
    request = {"model": "first-openai", "messages": QUESTION}

    async def main() -> list[tuple[str, str]]:
        parents = []
        async with asyncio.timeout(60), connect() as client:
            for use in ("chat", "stream", "embed", "generate", "generate stream"):
                with tracer.start_as_current_span(use) as span:
                    match use:
                        case "chat":
                            await client.chat(request)
                        case "stream":
                            _ = [chunk async for chunk in client.stream_chat(request)]
                        case "embed":
                            await client.embed({"model": "vectors", "input": "Hi"})
                        case "generate":
                            await client.generate_completion(SECRET, model="first-openai")
                        case _:
                            _ = [item async for item in client.generate_streaming_completion(SECRET, model="gpt-4")]
                    here = span.get_span_context()
                    parents.append((f"{here.trace_id:032x}", f"{here.span_id:016x}"))
            await client.chat(request)
        return parents

    parents = asyncio.run(main())
    client = connect()
    with tracer.start_as_current_span("sync") as span:
        client.sync.chat(request)
        here = span.get_span_context()
    client.sync.close()
    for trace_id, parent in [*parents, (f"{here.trace_id:032x}", f"{here.span_id:016x}")]:
        [(name, below)] = tree(trace_of(receiver, trace_id, 4), parent)
        assert name in ("handle chat", "handle embed")
        assert len(below) == 1


def test_a_trace_whose_caller_does_not_record_it_is_not_exported(llm: Cluster, receiver: Receiver) -> None:
    trace_id, parent = fresh()
    for flags in ("00", "01"):
        response = llm.post(model="first-openai", headers={"traceparent": f"00-{trace_id}-{parent}-{flags}"})
        assert response.status_code == 200
        told = llm.fakes["openai"].received[-1].headers["traceparent"]
        assert (told[3:35], told[-2:]) == (trace_id, flags)
    # In each process the second came after the first.
    trace_of(receiver, trace_id, 4)


def test_no_content_and_no_secret_has_left(llm: Cluster, receiver: Receiver) -> None:
    asked(llm, receiver, 4, stop=["a word of mine"], user="me@example.com", model="first-openai")
    everything = b"".join(receiver.bodies)
    for word in (SECRET, "Paris", "sk-fake", "AKIAFAKE", "a word of mine", "me@example.com"):
        assert word.encode() not in everything


def test_a_receiver_that_is_away_costs_no_request_anything(llm: Cluster, receiver: Receiver) -> None:
    receiver.stop()
    try:
        for number in range(40):
            response = llm.post(model="first-openai", stream=number % 2 == 0)
            assert response.status_code == 200
        said = eventually(lambda: _of_ingress(_said("Not all traces arrive at")))  # the others may go on trying
    finally:
        receiver.listen()
    assert all(receiver.url in line for line in said)
    asked(llm, receiver, 4, model="first-openai")
    eventually(lambda: _of_ingress(_said("again; those of")))
    assert len(_of_ingress(_said("Not all traces arrive at"))) == 1


def _said(words: str) -> list[str]:
    """Lines of the replicas' logs, which Serve keeps."""
    import ray

    folder = pathlib.Path(ray._private.worker._global_node.get_session_dir_path()) / "logs" / "serve"
    return [line for log in folder.glob("replica_*") for line in log.read_text().splitlines() if words in line]


def _of_ingress(lines: list[str]) -> list[str]:
    return [line for line in lines if "Ingress" in line]
