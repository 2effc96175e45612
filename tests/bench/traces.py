"""What a trace costs: CPU time of a request in its ingress and of a call in its replica, and of the thread that writes.

uv run python -m tests.bench.traces
"""

import os
import statistics
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from actors.breaker.plan import Candidate, Plan
from deployments.openai_api.chat import Head, completion, dump, usage_of
from deployments.providers.http.timing import begin_timing
from deployments.telemetry.attempt_record import AttemptRecord
from deployments.telemetry.otlp import BatchProcessor, Exporter
from deployments.telemetry.request_record import RequestRecord
from deployments.telemetry.trace_context import Sampler
from deployments.telemetry.tracer import SpanFactory, Tracer
from deployments.usage.caller import Caller
from tests.fakes.otlp import Receiver

REQUESTS, ROUNDS = 4000, 5
USED = {"tokens_in": 812, "tokens_out": 233, "tokens_cached": 512, "tokens_reasoning": 0, "cost": 3_000_000}
SERVED = AttemptRecord(
    "openai/gpt", "ok", 0.4, 250.0, 90.0, {"first_ms": 88.0, "ms": 240.0}, None, None, "ok", epoch=3, used=USED
)
PLAN = Plan((Candidate("openai/gpt", 3), Candidate("local/smol", 1)), ())
USAGE = usage_of(812, 233, cached=512)
BODY = dump(completion(Head("chatcmpl-1", 1, "default"), "word " * 233, "stop", USAGE))
HEADERS = {"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}
CALL: dict[str, Any] = {
    "body": {"temperature": 0.3, "max_tokens": 500, "messages": []},
    "model": "gpt",
    "trace": HEADERS,
}
UNRECORDED = CALL | {"trace": {"traceparent": HEADERS["traceparent"][:-2] + "00"}}


def request(traces: Tracer | None) -> None:
    """As the door and the failover do it."""
    trace = None if traces is None else traces.begin(None, "chat")
    record = RequestRecord("default", Caller("http", "acme"), True, None, "an-id", traces, trace=trace)
    record.skip(PLAN.skipped)
    record.made += 1
    call: dict[str, Any] = {"body": {}}
    if record.trace is not None:
        call["trace"] = record.trace.context.child(record.made).headers()
    record.add_attempt(SERVED)
    record.mark_sent()
    record.finish("ok", SERVED.target)


def call(traces: Tracer | None, told: dict[str, Any] = CALL) -> None:
    """As the provider's replica does it."""
    timing = begin_timing()
    asked = None if traces is None else traces.begin_call(told, timing)
    timing.peer, timing.model = ("api.openai.com", 443), "gpt-2026"
    if asked is not None:
        asked.succeed(USAGE, BODY)
        asked.finish()
    timing.as_dict()


def unrecorded(traces: Tracer | None) -> None:
    call(traces, UNRECORDED)


def microseconds(work: Callable[[Tracer | None], None], traces: Tracer | None) -> float:
    rounds = []
    for _ in range(ROUNDS):
        began = time.process_time()
        for _ in range(REQUESTS):
            work(traces)
        rounds.append((time.process_time() - began) / REQUESTS * 1e6)
    return statistics.median(rounds)


def written(exporter: Exporter, work: Callable[[Tracer | None], None]) -> float:
    """CPU time of the writing thread for one request or call, sending included."""
    heap: list[SpanFactory] = []
    traces = Tracer(Sampler(), heap.append, name="openai", kind="openai")
    for _ in range(1024):
        work(traces)
    began = time.thread_time()
    for at in range(0, len(heap), 128):
        assert exporter.send([span for factory in heap[at : at + 128] for span in factory()]) is None
    return (time.thread_time() - began) / len(heap) * 1e6


def latest(processor: BatchProcessor | None) -> tuple[float, float]:
    """How late, in milliseconds, a thread that wants the interpreter each millisecond gets it: p99 and worst."""
    late, until = [], time.perf_counter() + 5
    stop = threading.Event()

    def busy() -> None:
        traces = None if processor is None else Tracer(Sampler(), processor.put)
        while not stop.wait(0.002):
            request(traces)

    worker = threading.Thread(target=busy)
    worker.start()
    while (now := time.perf_counter()) < until:
        time.sleep(0.001)
        late.append((time.perf_counter() - now - 0.001) * 1000)
    stop.set()
    worker.join()
    return statistics.quantiles(late, n=100)[98], max(late)


def main() -> None:
    heap: deque[SpanFactory] = deque(maxlen=16)
    on = Tracer(Sampler(), heap.append, name="openai", kind="openai")
    unsampled = Tracer(Sampler(0.0), heap.append)
    print("us of CPU           off  unsampled    sampled   written beside")
    receiver = Receiver()
    os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = receiver.url
    exporter = Exporter("openai")
    for name, work, other in (("request, ingress", request, request), ("call, replica", call, unrecorded)):
        costs = [microseconds(work, None), microseconds(other, unsampled), microseconds(work, on)]
        print(f"{name:<16} {costs[0]:7.2f} {costs[1]:10.2f} {costs[2]:10.2f} {written(exporter, work):16.1f}")
    for name, processor in (("off", None), ("on", BatchProcessor(exporter, "here"))):
        p99, worst = latest(processor)
        print(
            f"with traces {name}, another thread waits for the interpreter: p99 {p99:.2f} ms, at worst {worst:.2f} ms"
        )
        if processor is not None:
            processor.close()
    receiver.stop()


if __name__ == "__main__":
    main()
