"""A receiver of OpenTelemetry's spans over OTLP/HTTP, on a real socket: what came, as plain values."""

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

KINDS = {1: "internal", 2: "server", 3: "client"}


@dataclass(frozen=True)
class Seen:
    """One span as it came over the wire; ids in hex, times in nanoseconds."""

    name: str
    kind: str
    trace_id: str
    span_id: str
    parent_id: str
    state: str
    began: int
    ended: int
    attributes: dict[str, Any]
    events: dict[str, dict[str, Any]]
    failed: bool
    why: str
    resource: dict[str, Any]


@dataclass
class Receiver:
    """`status` is what it answers; while `hold` is clear it does not answer at all."""

    status: int = 200
    bodies: list[bytes] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    spans: list[Seen] = field(default_factory=list)
    hold: threading.Event = field(default_factory=threading.Event)
    port: int = 0
    up: bool = False

    def __post_init__(self) -> None:
        self.hold.set()
        self.listen()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def listen(self) -> None:
        self.up = True
        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), _handler_of(self))
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Refuse connections; those that are open end without an answer."""
        self.up = False
        self.hold.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    def take(self, body: bytes, headers: dict[str, str]) -> None:
        self.headers.append(headers)
        self.bodies.append(body)
        self.spans += spans_in(body)

    def where(self, **attributes: Any) -> list[Seen]:
        wanted = {name.replace("__", "."): value for name, value in attributes.items()}
        return [span for span in list(self.spans) if span.attributes.items() >= wanted.items()]

    def until(self, found: Callable[[], Any], seconds: float = 30.0) -> Any:
        """The first true value of `found`, within a deadline."""
        deadline = time.monotonic() + seconds
        while not (value := found()):
            assert time.monotonic() < deadline, f"only these came: {[s.name for s in self.spans]}"
            time.sleep(0.02)
        return value


def spans_in(body: bytes) -> list[Seen]:
    request = ExportTraceServiceRequest.FromString(body)
    return [
        Seen(
            span.name,
            KINDS[span.kind],
            span.trace_id.hex(),
            span.span_id.hex(),
            span.parent_span_id.hex(),
            span.trace_state,
            span.start_time_unix_nano,
            span.end_time_unix_nano,
            _values(span.attributes),
            {event.name: {"at": event.time_unix_nano, **_values(event.attributes)} for event in span.events},
            span.status.code == 2,
            span.status.message,
            _values(resource.resource.attributes),
        )
        for resource in request.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]


def _values(attributes: Iterable[Any]) -> dict[str, Any]:
    return {pair.key: _value(pair.value) for pair in attributes}


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(one) for one in value.array_value.values]
    return getattr(value, kind)


def _handler_of(receiver: Receiver) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            receiver.hold.wait(30)
            if not receiver.up:
                self.close_connection = True
                return
            if receiver.status == 200:
                receiver.take(body, {"path": self.path, **{k.lower(): v for k, v in self.headers.items()}})
            self.send_response(receiver.status)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    return Handler
