"""Which trace a request belongs to, and who decides whether it is recorded: W3C trace context. Pure.

A trace goes on over a hop as a dict of the two headers, whatever carries it: HTTP, a handle, our own calls.
Ids are drawn once a request and once a call; the spans of attempts are numbered from there, so that nothing
but the first id has to be kept until the spans are written.
"""

import logging
import random
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

log = logging.getLogger(f"ray.serve.{__name__}")

PARENT, STATE = "traceparent", "tracestate"
LONGEST_STATE = 512  # characters; what is longer may be dropped, and is
_PARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.ASCII)
_STATE = re.compile(r"[\x20-\x7e\t]*")


@dataclass(frozen=True, slots=True)
class Place:
    """Where one span is in its trace. `remote`: its parent is not in this process."""

    trace_id: int
    span_id: int
    parent_id: int | None = None
    remote: bool = False
    sampled: bool = True
    state: str = ""

    def below(self, number: int) -> "Place":
        """The place of its child of this number, from 1."""
        return Place(self.trace_id, self.span_id + number, self.span_id, False, self.sampled, self.state)

    def headers(self) -> dict[str, str]:
        """As the next one is told of it."""
        told = {PARENT: f"00-{self.trace_id:032x}-{self.span_id:016x}-{self.sampled:02x}"}
        return {**told, STATE: self.state} if self.state else told


@dataclass(frozen=True, slots=True)
class Trace:
    """The trace of one request: the place of its own span, its begin, and what was asked for."""

    place: Place
    began: int  # wall clock, nanoseconds since the epoch
    verb: str


@dataclass(frozen=True, slots=True)
class Sampler:
    """Records `ratio` of the traces that begin here; one that goes on is recorded if whoever began it says so."""

    ratio: float = 1.0
    heeds_parent: bool = True

    def __call__(self, trace_id: int, parent: bool | None) -> bool:
        if self.heeds_parent and parent is not None:
            return parent
        # The same traces as every other OpenTelemetry SDK would choose.
        return trace_id & (2**64 - 1) < round(self.ratio * 2**64)


def going_on(headers: Any) -> Place | None:
    """The span that these headers tell of; None if they tell of none, or of one that can't be."""
    parent = headers.get(PARENT) if isinstance(headers, Mapping) else None
    found = _PARENT.fullmatch(parent) if isinstance(parent, str) else None
    if found is None:
        return None
    version, trace_id, span_id, flags, more = found.groups()
    if version == "ff" or (version == "00" and more):
        return None
    ids = int(trace_id, 16), int(span_id, 16)
    return Place(*ids, sampled=bool(int(flags, 16) & 1), state=_state_of(headers)) if all(ids) else None


def told_in(headers: Any) -> dict[str, str] | None:
    """What HTTP headers say of the trace; nothing else of them is kept."""
    parent = headers.get(PARENT)
    return None if parent is None else {PARENT: parent, STATE: ",".join(headers.getlist(STATE))}


def _state_of(headers: Mapping[str, Any]) -> str:
    state = headers.get(STATE)
    fine = isinstance(state, str) and len(state) <= LONGEST_STATE and _STATE.fullmatch(state)
    return str(state) if fine else ""


def entered(headers: Any, sampler: Sampler) -> Place:
    """The place of a span that goes on with these headers' trace, or that begins one."""
    parent = going_on(headers)
    if parent is None:
        trace_id = random.getrandbits(128) or 1
        return Place(trace_id, _fresh(), sampled=sampler(trace_id, None))
    sampled = sampler(parent.trace_id, parent.sampled)
    return Place(parent.trace_id, _fresh(), parent.span_id, True, sampled, parent.state)


def _fresh() -> int:
    """A span's id, with room above it for those of its children."""
    return random.getrandbits(63) + 1


def sampler_of(environ: Mapping[str, str]) -> Sampler:
    """As OTEL_TRACES_SAMPLER and its argument say."""
    name = environ.get("OTEL_TRACES_SAMPLER", "").strip().lower() or "parentbased_always_on"
    heeds_parent = name.startswith("parentbased_")
    match name.removeprefix("parentbased_"):
        case "always_on":
            return Sampler(1.0, heeds_parent)
        case "always_off":
            return Sampler(0.0, heeds_parent)
        case "traceidratio":
            return Sampler(_ratio_of(environ.get("OTEL_TRACES_SAMPLER_ARG", "")), heeds_parent)
    log.warning("OTEL_TRACES_SAMPLER=%s is not known here: every trace is recorded", name)
    return Sampler()


def _ratio_of(text: str) -> float:
    try:
        ratio = float(text)
    except ValueError:
        ratio = -1.0
    if 0 <= ratio <= 1:
        return ratio
    log.warning("OTEL_TRACES_SAMPLER_ARG=%s is no number from 0 to 1: every trace is recorded", text)
    return 1.0
