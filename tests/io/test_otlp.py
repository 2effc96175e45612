"""The way out of the spans: when there is one, what it does when nobody takes them, and the real exporter."""

import logging
import os
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from deployments.errors import ConfigError
from deployments.telemetry.otlp import BatchProcessor, build_tracer, endpoint_of
from deployments.telemetry.spans import Span, SpanEvent
from deployments.telemetry.trace_context import SpanContext
from tests.fakes.otlp import Receiver

BASE, OWN = "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
URL = "http://collector:4318"


def span(name: str = "a span") -> Span:
    context = SpanContext(1, 2, 3, remote=True, state="a=b")
    return Span(name, "server", context, 1, 2, {"x": 1, "y": ("z",)}, (SpanEvent("m", 1, {"n": "o"}),), "why")


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, None),
        ({BASE: ""}, None),
        ({BASE: " "}, None),
        ({BASE: URL}, URL),
        ({OWN: URL}, URL),
        ({BASE: "http://other:1", OWN: URL}, URL),
        ({BASE: URL, "OTEL_SDK_DISABLED": "true"}, None),
        ({BASE: URL, "OTEL_SDK_DISABLED": "false"}, URL),
        ({BASE: URL, "OTEL_TRACES_EXPORTER": "none"}, None),
        ({BASE: URL, "OTEL_TRACES_EXPORTER": "otlp, console"}, URL),
        ({BASE: URL, "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, URL),
        (
            {BASE: URL, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf"},
            URL,
        ),
    ],
)
def test_traces_are_on_only_where_opentelemetrys_variables_say_so(
    environ: dict[str, str], expected: str | None
) -> None:
    assert endpoint_of(environ) == expected


@pytest.mark.parametrize(
    "environ",
    [
        {BASE: "collector:4318"},
        {BASE: "grpc://collector"},
        {BASE: "http://"},
        {BASE: "http://[collector"},
        {BASE: URL, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
        {BASE: URL, "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/json"},
    ],
)
def test_what_is_configured_wrongly_is_said_in_one_sentence_and_leaves_traces_off(
    environ: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(ConfigError):
        endpoint_of(environ)
    assert build_tracer(environ, "Ingress") is None
    [said] = caplog.records
    assert said.levelname == "ERROR"
    assert said.exc_info is None
    assert "collector" not in said.getMessage()


class Way:
    """Takes what is sent; says no, or hangs, when it is told to."""

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.answers: list[str | None] = []
        self.called = threading.Semaphore(0)
        self.go = threading.Event()
        self.go.set()
        self.stopped = False

    def send(self, spans: list[Span]) -> str | None:
        self.called.release()
        self.go.wait(20)
        if self.stopped:
            return "stopped"
        self.sent += [span.name for span in spans]
        return self.answers.pop(0) if self.answers else None

    def stop(self) -> None:
        self.stopped = True
        self.go.set()


@pytest.fixture
def way() -> Way:
    return Way()


@pytest.fixture
def processors() -> Iterator[list[BatchProcessor]]:
    made: list[BatchProcessor] = []
    yield made
    for processor in made:
        processor.close(5)
        assert not processor._thread.is_alive()


def factory(name: str) -> Any:
    return lambda: [span(name)]


def test_what_is_put_goes_out_and_the_end_waits_for_the_rest(way: Way, processors: list[BatchProcessor]) -> None:
    processor = BatchProcessor(way, "receiver", every=3600)
    processors.append(processor)
    for number in range(500):
        processor.put(factory(str(number)))
    processor.close(10)
    assert way.sent == [str(n) for n in range(500)]


def test_a_receiver_that_hangs_costs_a_bound_of_memory_and_the_oldest_are_dropped(
    way: Way, processors: list[BatchProcessor], caplog: pytest.LogCaptureFixture
) -> None:
    way.go.clear()
    processor = BatchProcessor(way, "receiver", most=10, every=0.001)
    processors.append(processor)
    processor.put(factory("under way"))
    assert way.called.acquire(timeout=10)
    for number in range(1000):
        processor.put(factory(str(number)))
    assert len(processor._queue) == 10
    way.go.set()
    processor.close(10)
    assert way.sent == ["under way", *map(str, range(990, 1000))]
    assert [r.getMessage().rpartition(": ")[2] for r in caplog.records if r.levelname == "WARNING"] == ["too slow"]


def test_the_end_does_not_wait_for_a_receiver_that_hangs(way: Way, processors: list[BatchProcessor]) -> None:
    way.go.clear()
    processor = BatchProcessor(way, "receiver", every=0.001)
    processors.append(processor)
    processor.put(factory("lost"))
    assert way.called.acquire(timeout=10)
    processor.close(0.05)
    assert way.sent == []
    assert way.stopped


def test_a_receiver_that_is_away_is_said_once_and_so_is_its_return(
    way: Way, processors: list[BatchProcessor], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    way.answers = ["connection refused", "connection refused", "connection refused", None]
    processor = BatchProcessor(way, "http://receiver", every=0.001)
    processors.append(processor)
    for number in range(5):
        processor.put(factory(str(number)))
        assert way.called.acquire(timeout=10)
    processor.close(10)
    assert [(r.levelname, r.getMessage()) for r in caplog.records] == [
        ("WARNING", "Not all traces arrive at http://receiver; those that don't are dropped: connection refused"),
        ("INFO", "All traces arrive at http://receiver again; those of 3 requests or calls are lost"),
    ]


def test_a_bug_of_ours_in_a_span_ends_neither_the_thread_nor_a_request(
    way: Way, processors: list[BatchProcessor], caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> list[Span]:
        raise ZeroDivisionError("a bug")

    processor = BatchProcessor(way, "receiver", every=3600)
    processors.append(processor)
    processor.put(broken)
    processor.put(factory("fine"))
    processor.put(broken)
    processor.close(10)
    assert way.sent == ["fine"]
    [said] = caplog.records
    assert said.getMessage() == "A span could not be made, and is lost. Further such errors are not logged."


# The real exporter.


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    made = Receiver()
    monkeypatch.setenv(BASE, made.url)
    yield made
    made.stop()


def exported(*spans: Span, deployment: str = "Ingress") -> None:
    traces = build_tracer(os.environ, deployment)
    assert traces is not None
    traces._put(lambda: list(spans))
    traces.close()


def test_a_span_arrives_as_it_was_with_the_process_as_its_resource(receiver: Receiver) -> None:
    exported(span(), deployment="openai")
    [seen] = receiver.spans
    assert (seen.name, seen.kind, seen.attributes) == ("a span", "server", {"x": 1, "y": ["z"]})
    assert (seen.trace_id, seen.span_id, seen.parent_id) == (f"{1:032x}", f"{2:016x}", f"{3:016x}")
    assert (seen.state, seen.began, seen.ended, seen.failed, seen.why) == ("a=b", 1, 2, True, "why")
    assert seen.events == {"m": {"at": 1, "n": "o"}}
    assert (seen.resource["service.name"], seen.resource["breakwater.deployment"]) == ("breakwater", "openai")
    assert seen.resource["service.instance.id"]
    assert receiver.headers[0]["path"] == "/v1/traces"


def test_the_standard_variables_are_heard(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "my-gateway")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=staging,service.name=not-this")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20abc")
    exported(span())
    [seen] = receiver.spans
    assert seen.resource["service.name"] == "my-gateway"
    assert seen.resource["deployment.environment.name"] == "staging"
    assert receiver.headers[0]["authorization"] == "Bearer abc"


def test_a_receiver_that_refuses_is_said_once_with_its_answer_and_without_a_secret(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    receiver.status = 401
    monkeypatch.setenv(OWN, receiver.url.replace("http://", "http://me:secret@") + "/v1/traces?key=secret")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20secret")
    exported(span())
    assert [(r.name, r.levelname) for r in caplog.records] == [
        ("ray.serve.deployments.telemetry.otlp", "INFO"),
        ("ray.serve.deployments.telemetry.otlp", "WARNING"),
    ]
    assert "401" in caplog.text
    assert "secret" not in caplog.text


def test_a_receiver_that_is_not_there_is_given_up_in_time(receiver: Receiver) -> None:
    receiver.stop()
    before = threading.active_count()
    exported(*[span() for _ in range(10)])
    assert threading.active_count() <= before + 1
    receiver.listen()
