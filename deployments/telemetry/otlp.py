"""The export of spans: a bounded queue, a thread, and OpenTelemetry's own exporter over OTLP/HTTP.

A receiver that is away, slow or refusing costs requests nothing: a full queue drops its oldest spans. The log says once
that spans are lost, and once that they arrive again. OpenTelemetry's packages are imported only if traces are on.
"""

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

from deployments.errors import ConfigError
from deployments.telemetry.request_log import flush_log
from deployments.telemetry.spans import Span
from deployments.telemetry.trace_context import sampler_of
from deployments.telemetry.tracer import SpanFactory, Tracer

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope

log = logging.getLogger(f"ray.serve.{__name__}")

SERVICE = "breakwater"
MOST_QUEUED = 2048  # requests, or calls, whose spans wait for export
MOST_EXPORTED = 128  # of them in one message
SCHEDULE_SECONDS = 1.0  # between exports, unless OTEL_BSP_SCHEDULE_DELAY sets another interval
# Making and encoding spans holds the interpreter, which the requests need too: so it pauses after every few spans.
PAUSE_SECONDS, SPANS_PER_PAUSE = 0.0001, 4
FLUSH_SECONDS = 2.0  # how long a replica that stops waits for its last spans


class SpanSender(Protocol):
    def send(self, spans: list[Span]) -> str | None:
        """Send the spans, and return why that failed; None if it did not."""
        ...

    def stop(self) -> None:
        """Give up what is being sent."""
        ...


def build_tracer(environ: Mapping[str, str], deployment: str, kind: str = "") -> Tracer | None:
    """Return the tracer of a deployment; None if no endpoint is configured.

    An error of the configuration is logged, and traces stay off.
    """
    try:
        endpoint = endpoint_of(environ)
        if endpoint is None:
            return None
        processor = BatchProcessor(Exporter(deployment), _without_secrets(endpoint), every=_interval(environ))
    except ConfigError as error:
        log.error("Traces are off: %s", error)  # noqa: TRY400  the message says all
        return None
    except Exception:
        log.exception("Traces are off: the exporter could not be created.")
        return None
    log.info("Traces are exported to %s", _without_secrets(endpoint))
    return Tracer(sampler_of(environ), processor.put, processor.close, name=deployment, kind=kind)


def endpoint_of(environ: Mapping[str, str]) -> str | None:
    """Return the endpoint for spans; None if traces are off. Raises ConfigError."""
    endpoint = _variable(environ, "ENDPOINT")
    exporters = environ.get("OTEL_TRACES_EXPORTER", "").lower().replace(" ", "") or "otlp"
    disabled = environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    if not endpoint or disabled or "otlp" not in exporters.split(","):
        return None
    protocol = _variable(environ, "PROTOCOL") or "http/protobuf"
    if protocol != "http/protobuf":
        raise ConfigError(f"OTEL_EXPORTER_OTLP_PROTOCOL is {protocol}, but only http/protobuf is supported.")
    if not _is_http_url(endpoint):
        raise ConfigError("OTEL_EXPORTER_OTLP_ENDPOINT is not a URL that begins with http:// or https://.")
    return endpoint


def _interval(environ: Mapping[str, str]) -> float:
    text = environ.get("OTEL_BSP_SCHEDULE_DELAY", "")
    return int(text) / 1000 if text.isdecimal() and 0 < int(text) <= 86_400_000 else SCHEDULE_SECONDS


def _is_http_url(endpoint: str) -> bool:
    try:
        parts = urlsplit(endpoint)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname)


def _variable(environ: Mapping[str, str], name: str) -> str:
    """Return the variable for traces, or the one for all signals."""
    own = environ.get(f"OTEL_EXPORTER_OTLP_TRACES_{name}", "").strip()
    return own or environ.get(f"OTEL_EXPORTER_OTLP_{name}", "").strip()


def _without_secrets(endpoint: str) -> str:
    # A user name, a password or a query may be in it.
    parts = urlsplit(endpoint)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


class BatchProcessor:
    """Exports spans in a thread of its own.

    `receiver` is the endpoint's name in the log, `most` the length of the queue, `every` the seconds between exports.
    """

    def __init__(self, sender: SpanSender, receiver: str, most: int = MOST_QUEUED, every: float = SCHEDULE_SECONDS):
        self._sender = sender
        self._receiver = receiver
        self._every = every
        self._queue: deque[SpanFactory] = deque(maxlen=most)
        self._most = most
        self._lost = 0
        self._full = self._failing = self._warned = self._bug_logged = False
        self._wake = threading.Event()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="traces", daemon=True)
        self._thread.start()

    def put(self, factory: SpanFactory) -> None:
        """Add what makes spans, without waiting. A full queue drops its oldest."""
        if len(self._queue) >= self._most:
            self._lost += 1
            self._full = True
        self._queue.append(factory)

    def close(self, seconds: float = FLUSH_SECONDS) -> None:
        """Export what is left, for so long at most; the rest is lost."""
        self._closing = True
        self._wake.set()
        self._thread.join(seconds)
        self._sender.stop()

    def _run(self) -> None:
        while not self._closing:
            self._wake.wait(self._every)
            while self._queue:
                self._export([self._queue.popleft() for _ in range(min(MOST_EXPORTED, len(self._queue)))])
                if self._closing and self._failing:
                    return

    def _export(self, factories: list[SpanFactory]) -> None:
        spans: list[Span] = []
        for factory in factories:
            spans += self._make(factory)
            time.sleep(PAUSE_SECONDS)
        try:
            error_text = self._sender.send(spans)
        except Exception as error:
            error_text = f"{type(error).__name__}: {error}"
        self._log_change(error_text, len(factories))

    def _make(self, factory: SpanFactory) -> list[Span]:
        try:
            return factory()
        except Exception:
            if not self._bug_logged:
                log.exception("A span could not be made, and is lost. Further such errors are not logged.")
            self._bug_logged = True
            return []

    def _log_change(self, error_text: str | None, count: int) -> None:
        """Log that spans are being lost, or that they arrive again, once each."""
        self._failing = error_text is not None
        self._lost += count if self._failing else 0
        reason, self._full = error_text or ("too slow" if self._full else None), False
        warned, self._warned = self._warned, reason is not None
        if warned == self._warned:
            return
        if reason is not None:
            log.warning("Not all traces arrive at %s; those that don't are dropped: %s", self._receiver, reason)
        else:
            log.info(
                "All traces arrive at %s again; those of %d requests or calls are lost", self._receiver, self._lost
            )
            self._lost = 0
        flush_log()


class Exporter:
    """OpenTelemetry's exporter, which reads its own environment variables: headers, TLS, timeout, ..."""

    def __init__(self, deployment: str):
        from opentelemetry.exporter.otlp.proto.http import trace_exporter
        from opentelemetry.sdk.trace.export import SpanExportResult
        from opentelemetry.sdk.util.instrumentation import InstrumentationScope

        self._resource = resource_of(deployment)
        self._scope = InstrumentationScope(SERVICE)
        self._exporter = trace_exporter.OTLPSpanExporter()
        self._success = SpanExportResult.SUCCESS
        self._last_message = _LastMessage()
        self._log = logging.getLogger(trace_exporter.__name__)
        self._log.addFilter(self._last_message)

    def send(self, spans: list[Span]) -> str | None:
        self._last_message.text = ""
        result = self._exporter.export(_PacedSpans(spans, self._resource, self._scope))
        return None if result is self._success else self._last_message.text or "unknown"

    def stop(self) -> None:
        self._exporter.shutdown()  # type: ignore[no-untyped-call]
        self._log.removeFilter(self._last_message)


class _LastMessage(logging.Filter):
    """Keeps the exporter's last log message, and logs none: the exporter says why it failed nowhere else.

    The batch processor logs it, once.
    """

    text = ""

    def filter(self, record: logging.LogRecord) -> bool:
        self.text = record.getMessage()
        return False


def resource_of(deployment: str) -> "Resource":
    """Return this process's resource. OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES overrule our own names."""
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource

    named = OTELResourceDetector().detect().attributes
    ours = {"service.name": SERVICE, "breakwater.deployment": deployment}
    return Resource.create({name: value for name, value in ours.items() if name not in named})


class _PacedSpans(Sequence[Any]):
    """Spans as OpenTelemetry's, each made when the exporter encodes it, with pauses.

    Without them the encoding would hold the interpreter for milliseconds at a time.
    """

    def __init__(self, spans: list[Span], resource: "Resource", scope: "InstrumentationScope"):
        self._spans, self._resource, self._scope = spans, resource, scope

    def __len__(self) -> int:
        return len(self._spans)

    def __getitem__(self, index: Any) -> Any:
        return readable(self._spans[index], self._resource, self._scope)

    def __iter__(self) -> "Iterator[ReadableSpan]":
        for number, span in enumerate(self._spans):
            if number % SPANS_PER_PAUSE == 0:
                time.sleep(PAUSE_SECONDS)
            yield readable(span, self._resource, self._scope)


def readable(span: Span, resource: "Resource", scope: "InstrumentationScope") -> "ReadableSpan":
    """Return a span as OpenTelemetry's SDK has it."""
    from opentelemetry.sdk.trace import Event, ReadableSpan
    from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

    own = span.context
    flags, state = TraceFlags(int(own.sampled)), TraceState.from_header([own.state]) if own.state else None

    def context(span_id: int, remote: bool) -> SpanContext:
        return SpanContext(own.trace_id, span_id, remote, flags, state)

    return ReadableSpan(
        span.name,
        context(own.span_id, False),
        None if own.parent_id is None else context(own.parent_id, own.remote),
        resource,
        dict(span.attributes),
        [Event(event.name, dict(event.attributes), event.at) for event in span.events],
        kind=SpanKind[span.kind.upper()],
        instrumentation_scope=scope,
        status=Status(StatusCode.UNSET) if span.error is None else Status(StatusCode.ERROR, span.error),
        start_time=span.began,
        end_time=span.ended,
    )


def tracer_for(deployment: str, kind: str = "") -> Tracer | None:
    """Return the tracer that this process's environment configures; None if traces are off."""
    return build_tracer(os.environ, deployment, kind)
