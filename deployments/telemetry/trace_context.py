"""Which trace a request belongs to, and whether it is recorded: W3C trace context. Pure.

A trace context travels as a dict of the two headers, over HTTP, over a handle and in our own calls. Ids are drawn once
a request and once a call. The spans of attempts are numbered from there, so only the first id has to be kept until
the spans are made.
"""

import logging
import random
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from deployments.openai_api.json_types import JsonObject

log = logging.getLogger(f"ray.serve.{__name__}")

PARENT, STATE = "traceparent", "tracestate"
LONGEST_STATE = 512  # characters; W3C allows to drop a longer state, and we do
_PARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.ASCII)
_STATE = re.compile(r"[\x20-\x7e\t]*")


@dataclass(frozen=True, slots=True)
class SpanContext:
    """The ids of one span, and its trace's flags.

    Attributes:
        remote: its parent is not in this process.
        sampled: its trace is recorded.
        state: the `tracestate` header.
    """

    trace_id: int
    span_id: int
    parent_id: int | None = None
    remote: bool = False
    sampled: bool = True
    state: str = ""

    def child(self, number: int) -> "SpanContext":
        """Return the context of its child of this number, from 1."""
        return SpanContext(self.trace_id, self.span_id + number, self.span_id, False, self.sampled, self.state)

    def headers(self) -> dict[str, str]:
        """Return the headers with which the callee continues the trace below this span."""
        headers = {PARENT: f"00-{self.trace_id:032x}-{self.span_id:016x}-{self.sampled:02x}"}
        return {**headers, STATE: self.state} if self.state else headers


@dataclass(frozen=True, slots=True)
class Trace:
    """The trace of one request.

    Attributes:
        context: of the request's own span.
        began: wall clock, nanoseconds since the epoch.
        verb: "chat" or "embed".
    """

    context: SpanContext
    began: int
    verb: str


@dataclass(frozen=True, slots=True)
class Sampler:
    """Decides whether a trace is recorded: `ratio` of all traces, and for `parent_based` as the parent span was."""

    ratio: float = 1.0
    parent_based: bool = True

    def __call__(self, trace_id: int, parent: bool | None) -> bool:
        """Return whether a trace is recorded. `parent` says whether the parent span is; None without one."""
        if self.parent_based and parent is not None:
            return parent
        # Every OpenTelemetry SDK chooses the same traces.
        return trace_id & (2**64 - 1) < round(self.ratio * 2**64)


def parse_context(headers: object) -> SpanContext | None:
    """Return the span that trace headers name; None if there is none, or if the headers are invalid."""
    if not isinstance(headers, Mapping):
        return None
    parent = headers.get(PARENT)
    found = _PARENT.fullmatch(parent) if isinstance(parent, str) else None
    if found is None:
        return None
    version, trace_id, span_id, flags, more = found.groups()
    if version == "ff" or (version == "00" and more):
        return None
    ids = int(trace_id, 16), int(span_id, 16)
    return SpanContext(*ids, sampled=bool(int(flags, 16) & 1), state=_state_of(headers)) if all(ids) else None


class HttpHeaders(Protocol):
    """HTTP headers as Starlette has them, for instance."""

    def get(self, key: str, /) -> str | None: ...

    def getlist(self, key: str, /) -> list[str]: ...


def extract(headers: HttpHeaders) -> dict[str, str] | None:
    """Return the two trace headers of HTTP headers; None without `traceparent`."""
    parent = headers.get(PARENT)
    return None if parent is None else {PARENT: parent, STATE: ",".join(headers.getlist(STATE))}


def _state_of(headers: JsonObject) -> str:
    state = headers.get(STATE)
    valid = isinstance(state, str) and len(state) <= LONGEST_STATE and _STATE.fullmatch(state)
    return str(state) if valid else ""


def new_context(headers: object, sampler: Sampler) -> SpanContext:
    """Return the context of a new span. It continues the trace of the headers, or begins a trace."""
    parent = parse_context(headers)
    if parent is None:
        trace_id = random.getrandbits(128) or 1
        return SpanContext(trace_id, _new_span_id(), sampled=sampler(trace_id, None))
    sampled = sampler(parent.trace_id, parent.sampled)
    return SpanContext(parent.trace_id, _new_span_id(), parent.span_id, True, sampled, parent.state)


def _new_span_id() -> int:
    # The ids above it are those of its children: with 63 bits they don't overflow.
    return random.getrandbits(63) + 1


def sampler_of(environ: Mapping[str, str]) -> Sampler:
    """Return the sampler that OTEL_TRACES_SAMPLER and OTEL_TRACES_SAMPLER_ARG name."""
    name = environ.get("OTEL_TRACES_SAMPLER", "").strip().lower() or "parentbased_always_on"
    parent_based = name.startswith("parentbased_")
    match name.removeprefix("parentbased_"):
        case "always_on":
            return Sampler(1.0, parent_based)
        case "always_off":
            return Sampler(0.0, parent_based)
        case "traceidratio":
            return Sampler(_ratio_of(environ.get("OTEL_TRACES_SAMPLER_ARG", "")), parent_based)
    log.warning("OTEL_TRACES_SAMPLER=%s is not supported, so every trace is recorded", name)
    return Sampler()


def _ratio_of(text: str) -> float:
    try:
        ratio = float(text)
    except ValueError:
        ratio = -1.0
    if 0 <= ratio <= 1:
        return ratio
    log.warning("OTEL_TRACES_SAMPLER_ARG=%s is not a number from 0 to 1, so every trace is recorded", text)
    return 1.0
