"""The way out of the spans: a bounded heap, a thread, and OpenTelemetry's own exporter over OTLP/HTTP.

A receiver that is away, slow or refusing costs requests nothing: the oldest are dropped at a bound, and the log
says once that it is so and once that it is over. OpenTelemetry's packages are imported only if traces are on.
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
from deployments.telemetry.tracer import Telling, Traces

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope

log = logging.getLogger(f"ray.serve.{__name__}")

SERVICE = "breakwater"
MOST = 2048  # requests, or calls, that wait to be written
AT_ONCE = 128  # of them in one message
EVERY = 1.0  # seconds, unless OTEL_BSP_SCHEDULE_DELAY says otherwise
BREATH, STEPS = 0.0001, 4  # so many seconds after so many spans are for whoever waits for the interpreter
FLUSH_SECONDS = 2.0  # how long the end of a replica waits for its last spans


class Way(Protocol):
    def send(self, spans: list[Span]) -> str | None:
        """Why it failed, if it did."""
        ...

    def stop(self) -> None:
        """Give up whatever is being sent."""
        ...


def traces_of(environ: Mapping[str, str], deployment: str, kind: str = "") -> Traces | None:
    """None unless an endpoint is configured. What is configured wrongly is said in the log; traces stay off then."""
    try:
        endpoint = endpoint_of(environ)
        if endpoint is None:
            return None
        outbox = Outbox(Exporter(deployment), _shown(endpoint), every=_every(environ))
    except ConfigError as error:
        log.error("no traces: %s", error)  # noqa: TRY400  the sentence is all
        return None
    except Exception:
        log.exception("no traces: the exporter can't be made")
        return None
    log.info("traces go to %s", _shown(endpoint))
    return Traces(sampler_of(environ), outbox.put, outbox.close, name=deployment, kind=kind)


def endpoint_of(environ: Mapping[str, str]) -> str | None:
    """Where spans are to go; None if nowhere. Raises ConfigError."""
    endpoint = _either(environ, "ENDPOINT")
    exporters = environ.get("OTEL_TRACES_EXPORTER", "").lower().replace(" ", "") or "otlp"
    disabled = environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    if not endpoint or disabled or "otlp" not in exporters.split(","):
        return None
    protocol = _either(environ, "PROTOCOL") or "http/protobuf"
    if protocol != "http/protobuf":
        raise ConfigError(f"OTEL_EXPORTER_OTLP_PROTOCOL is {protocol}, and only http/protobuf is spoken here.")
    if not _is_web(endpoint):
        raise ConfigError("OTEL_EXPORTER_OTLP_ENDPOINT is no URL that begins with http:// or https://.")
    return endpoint


def _every(environ: Mapping[str, str]) -> float:
    text = environ.get("OTEL_BSP_SCHEDULE_DELAY", "")
    return int(text) / 1000 if text.isdecimal() and 0 < int(text) <= 86_400_000 else EVERY


def _is_web(endpoint: str) -> bool:
    try:
        parts = urlsplit(endpoint)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname)


def _either(environ: Mapping[str, str], name: str) -> str:
    """A variable for traces, or the one for all that goes out."""
    own = environ.get(f"OTEL_EXPORTER_OTLP_TRACES_{name}", "").strip()
    return own or environ.get(f"OTEL_EXPORTER_OTLP_{name}", "").strip()


def _shown(endpoint: str) -> str:
    """Without what may be a secret in it."""
    parts = urlsplit(endpoint)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


class Outbox:
    """What was put in goes out in a thread of its own."""

    def __init__(self, way: Way, receiver: str, most: int = MOST, every: float = EVERY):
        self._way = way
        self._receiver = receiver
        self._every = every
        self._heap: deque[Telling] = deque(maxlen=most)
        self._most = most
        self._lost = 0
        self._full = self._away = self._bad = self._wrong = False
        self._wake = threading.Event()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="traces", daemon=True)
        self._thread.start()

    def put(self, telling: Telling) -> None:
        """Never waits. If there is no room the oldest goes."""
        if len(self._heap) >= self._most:
            self._lost += 1
            self._full = True
        self._heap.append(telling)

    def close(self, seconds: float = FLUSH_SECONDS) -> None:
        """Wait so long for what is left to be sent; then it is lost."""
        self._closing = True
        self._wake.set()
        self._thread.join(seconds)
        self._way.stop()

    def _run(self) -> None:
        while not self._closing:
            self._wake.wait(self._every)
            while self._heap:
                self._deliver([self._heap.popleft() for _ in range(min(AT_ONCE, len(self._heap)))])
                if self._closing and self._away:
                    return

    def _deliver(self, tellings: list[Telling]) -> None:
        spans: list[Span] = []
        for telling in tellings:
            spans += self._made(telling)
            time.sleep(BREATH)
        try:
            why = self._way.send(spans)
        except Exception as error:
            why = f"{type(error).__name__}: {error}"
        self._say(why, len(tellings))

    def _made(self, telling: Telling) -> list[Span]:
        try:
            return telling()
        except Exception:
            if not self._wrong:
                log.exception("a span can't be made")
            self._wrong = True
            return []

    def _say(self, why: str | None, count: int) -> None:
        self._away = why is not None
        self._lost += count if self._away else 0
        why, self._full = why or ("too slow" if self._full else None), False
        bad, self._bad = self._bad, why is not None
        if bad == self._bad:
            return
        if why is not None:
            log.warning("not all traces arrive at %s, and what does not fit is dropped: %s", self._receiver, why)
        else:
            log.info(
                "all traces arrive at %s again; those of %d requests or calls are lost", self._receiver, self._lost
            )
            self._lost = 0
        flush_log()


class Exporter:
    """OpenTelemetry's exporter, which reads its own variables of the environment: headers, TLS, timeout, ..."""

    def __init__(self, deployment: str):
        from opentelemetry.exporter.otlp.proto.http import trace_exporter
        from opentelemetry.sdk.trace.export import SpanExportResult
        from opentelemetry.sdk.util.instrumentation import InstrumentationScope

        self._resource = resource_of(deployment)
        self._scope = InstrumentationScope(SERVICE)
        self._exporter = trace_exporter.OTLPSpanExporter()
        self._fine = SpanExportResult.SUCCESS
        self._said = _Said()
        self._log = logging.getLogger(trace_exporter.__name__)
        self._log.addFilter(self._said)

    def send(self, spans: list[Span]) -> str | None:
        self._said.last = ""
        done = self._exporter.export(_Paced(spans, self._resource, self._scope))
        return None if done is self._fine else self._said.last or "unknown"

    def stop(self) -> None:
        self._exporter.shutdown()  # type: ignore[no-untyped-call]
        self._log.removeFilter(self._said)


class _Said(logging.Filter):
    """The exporter tells only its log why it failed, each time: here it is heard, and said once elsewhere."""

    last = ""

    def filter(self, record: logging.LogRecord) -> bool:
        self.last = record.getMessage()
        return False


def resource_of(deployment: str) -> "Resource":
    """Of this process. OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES have the last word."""
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource

    named = OTELResourceDetector().detect().attributes
    ours = {"service.name": SERVICE, "breakwater.deployment": deployment}
    return Resource.create({name: value for name, value in ours.items() if name not in named})


class _Paced(Sequence[Any]):
    """Spans as OpenTelemetry's, made one by one as they are written, with a breath now and then.

    Writing takes the interpreter for milliseconds at a time, and it is the requests' too.
    """

    def __init__(self, spans: list[Span], resource: "Resource", scope: "InstrumentationScope"):
        self._spans, self._resource, self._scope = spans, resource, scope

    def __len__(self) -> int:
        return len(self._spans)

    def __getitem__(self, index: Any) -> Any:
        return readable(self._spans[index], self._resource, self._scope)

    def __iter__(self) -> "Iterator[ReadableSpan]":
        for number, span in enumerate(self._spans):
            if number % STEPS == 0:
                time.sleep(BREATH)
            yield readable(span, self._resource, self._scope)


def readable(span: Span, resource: "Resource", scope: "InstrumentationScope") -> "ReadableSpan":
    """A span as OpenTelemetry's SDK has it."""
    from opentelemetry.sdk.trace import Event, ReadableSpan
    from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

    place = span.place
    flags, state = TraceFlags(int(place.sampled)), TraceState.from_header([place.state]) if place.state else None

    def context(span_id: int, remote: bool) -> SpanContext:
        return SpanContext(place.trace_id, span_id, remote, flags, state)

    return ReadableSpan(
        span.name,
        context(place.span_id, False),
        None if place.parent_id is None else context(place.parent_id, place.remote),
        resource,
        dict(span.attributes),
        [Event(moment.name, dict(moment.attributes), moment.at) for moment in span.moments],
        kind=SpanKind[span.kind.upper()],
        instrumentation_scope=scope,
        status=Status(StatusCode.UNSET) if span.error is None else Status(StatusCode.ERROR, span.error),
        start_time=span.began,
        end_time=span.ended,
    )


def here(deployment: str, kind: str = "") -> Traces | None:
    """As this process' environment has it."""
    return traces_of(os.environ, deployment, kind)
